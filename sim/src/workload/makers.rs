//! Operators who make and delete topics, and ask the name servers right afterwards.

use super::callers::Party;
use super::cluster::Phase;
use crate::oracle::calls::{Step, judge_route};
use hotfire::protocol::Command;
use hotfire::protocol::code::{request_code as request, response_code as code};
use hotfire::rt::rng::Rng;
use hotfire::rt::sim::mark;

/// A registration that is under way has arrived within this.
const UNDER_WAY_MS: u64 = 1_500;

impl Party {
    /// Makes one topic after another, looks for it, deletes it, and looks again.
    pub(super) async fn make(self, mut dice: Rng, who: usize) {
        let mut number = 0;
        loop {
            self.pause(dice.between(10, 400)).await;
            number += 1;
            let (machine, generation) = (self.machine, self.generation);
            let topic = format!("made-{}-{machine}-{generation}-{who}-{number}", self.broker);
            let is_calm = self.is_calm();
            if !self.is_done(make(&topic)).await {
                continue;
            }
            self.look(&topic, is_calm, Step::Made).await;
            let is_calm = self.is_calm();
            if !self.is_done(of_topic(request::DELETE_TOPIC_IN_BROKER, &topic)).await {
                continue;
            }
            let is_calm = is_calm && self.forget(&topic).await;
            if dice.chance(0.3) {
                self.pause(dice.below(UNDER_WAY_MS)).await;
                self.look(&topic, is_calm, Step::Deleted).await;
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
    async fn forget(&self, topic: &str) -> bool {
        for server in self.house.name_servers() {
            let request = of_topic(request::DELETE_TOPIC_IN_NAMESRV, topic);
            let answer = self.client.invoke(&server, request, super::callers::TIMEOUT).await;
            if answer.is_err() {
                return false;
            }
        }
        true
    }

    async fn look(&self, topic: &str, was_calm: bool, step: Step) {
        for server in self.house.name_servers() {
            let request = of_topic(request::GET_ROUTEINFO_BY_TOPIC, topic);
            let answer = self.client.invoke(&server, request, super::callers::TIMEOUT).await;
            let Ok(answer) = answer else { continue };
            if was_calm && self.is_calm() {
                mark("calls: a name server was asked for a topic that was just changed");
                let is_there = answer.code == code::SUCCESS;
                self.check(judge_route(topic, is_there, step));
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
