//! Operators who make topics, ask the name servers for them at once, and delete them again.

use super::callers::{Party, TIMEOUT};
use super::cluster::Phase;
use crate::oracle::calls::judge_route;
use hotfire::protocol::Command;
use hotfire::protocol::code::{request_code as request, response_code as code};
use hotfire::rt::rng::Rng;
use hotfire::rt::sim::mark;

impl Party {
    /// Makes one topic after another, looks for it, and deletes it.
    pub(super) async fn make(self, mut dice: Rng, who: usize) {
        let mut number = 0;
        loop {
            self.pause(dice.between(10, 400)).await;
            number += 1;
            let (machine, generation) = (self.machine, self.generation);
            let topic = format!("made-{}-{machine}-{generation}-{who}-{number}", self.broker);
            let is_calm = self.is_calm();
            if self.is_done(make(&topic)).await {
                self.look(&topic, is_calm).await;
                let delete = of_topic(request::DELETE_TOPIC_IN_BROKER, &topic);
                if self.is_done(delete).await {
                    self.forget(&topic).await;
                }
            }
        }
    }

    async fn is_done(&self, request: Command) -> bool {
        self.ask(request).await.is_ok_and(|answer| answer.code == code::SUCCESS)
    }

    /// Nothing disturbs, and every broker has registered since something did.
    fn is_calm(&self) -> bool {
        matches!(self.house.phase(), Phase::Settle | Phase::Prompt)
    }

    /// Takes the topic off every name server.
    async fn forget(&self, topic: &str) {
        for server in self.house.name_servers() {
            let request = of_topic(request::DELETE_TOPIC_IN_NAMESRV, topic);
            let _ = self.client.invoke(&server, request, TIMEOUT).await;
        }
    }

    /// Every name server that could be told must know a topic that was just made.
    async fn look(&self, topic: &str, was_calm: bool) {
        for server in self.house.name_servers() {
            let request = of_topic(request::GET_ROUTEINFO_BY_TOPIC, topic);
            let Ok(answer) = self.client.invoke(&server, request, TIMEOUT).await else { continue };
            if was_calm && self.is_calm() {
                mark("calls: a name server was asked for a topic that was just made");
                self.check(judge_route(topic, answer.code == code::SUCCESS));
            }
        }
    }
}

fn of_topic(code: i32, topic: &str) -> Command {
    Command::request(code).with_ext("topic", topic)
}

fn make(topic: &str) -> Command {
    of_topic(request::UPDATE_AND_CREATE_TOPIC, topic)
        .with_ext("defaultTopic", "TBW102")
        .with_ext("readQueueNums", 1)
        .with_ext("writeQueueNums", 1)
        .with_ext("perm", 6)
        .with_ext("topicFilterType", "SINGLE_TAG")
        .with_ext("order", "false")
}
