//! What name servers know when a changed topic is answered.

use super::broker::{Caller, TIMEOUT, World};
use hotfire::broker::Broker;
use hotfire::namesrv::Namesrv;
use hotfire::protocol::Command;
use hotfire::protocol::code::{request_code as request, response_code as code};
use hotfire::rt::block_on;
use hotfire::rt::time::Duration;

/// A broker that registers at a name server, and a client of both.
struct Town {
    world: World,
    names: Namesrv,
    broker: Broker,
    caller: Caller,
}

impl Town {
    async fn new() -> Town {
        let world = World::new();
        let names = world.name_server().await;
        let broker = world.start(world.parts_at(&names)).await;
        let caller = world.caller(&broker);
        Town { world, names, broker, caller }
    }

    /// What the name server says.
    async fn ask(&self, request: Command) -> Command {
        let addr = self.names.local_addr().unwrap().to_string();
        self.caller.client.invoke(&addr, request, TIMEOUT).await.unwrap()
    }

    async fn route(&self, topic: &str) -> String {
        let ask = Command::request(request::GET_ROUTEINFO_BY_TOPIC).with_ext("topic", topic);
        String::from_utf8_lossy(&self.ask(ask).await.body).into_owned()
    }

    async fn end(self) {
        self.broker.shutdown().await;
        self.names.shutdown().await;
    }
}

fn make(topic: &str, perm: i32) -> Command {
    Command::request(request::UPDATE_AND_CREATE_TOPIC)
        .with_ext("topic", topic)
        .with_ext("defaultTopic", "TBW102")
        .with_ext("readQueueNums", 1)
        .with_ext("writeQueueNums", 1)
        .with_ext("perm", perm)
        .with_ext("topicFilterType", "SINGLE_TAG")
        .with_ext("order", "false")
}

#[test]
fn whoever_made_or_changed_a_topic_finds_it_at_the_name_server_at_once() {
    block_on(async {
        let town = Town::new().await;
        for n in 0..4 {
            let topic = format!("made-{n}");
            assert_eq!(town.caller.call(make(&topic, 6)).await.code, code::SUCCESS);
            let found = town.route(&topic).await;
            assert!(found.contains("\"perm\":6"), "{topic}: {found}");
            assert_eq!(town.caller.call(make(&topic, 4)).await.code, code::SUCCESS);
            let found = town.route(&topic).await;
            assert!(found.contains("\"perm\":4"), "{topic}: {found}");
        }
        town.end().await;
    });
}

/// A client that looks for the route of its retry topic too early looks again 30 s later: its first
/// retries came 42 s late.
#[test]
fn the_first_member_of_a_group_finds_its_retry_topic_at_the_name_server_at_once() {
    block_on(async {
        let town = Town::new().await;
        for n in 0..4 {
            let body = format!(
                r#"{{"clientID":"c","consumerDataSet":[{{"groupName":"g{n}","messageModel":"CLUSTERING"}}]}}"#
            );
            let beat = Command::request(request::HEART_BEAT).with_body(body.into_bytes());
            assert_eq!(town.caller.call(beat).await.code, code::SUCCESS);
            let found = town.route(&format!("%RETRY%g{n}")).await;
            assert!(found.contains("\"perm\":6"), "g{n}: {found}");
        }
        town.end().await;
    });
}

/// A registration that left before the deletion must not bring the topic back.
#[test]
fn a_deleted_topic_that_is_taken_off_the_name_server_stays_away() {
    block_on(async {
        let town = Town::new().await;
        let ask = |code: i32, topic: &str| Command::request(code).with_ext("topic", topic);
        for n in 0..4 {
            let topic = format!("gone-{n}");
            town.caller.send(&topic, 0, "", "x").await;
            let answer = town.caller.call(ask(request::DELETE_TOPIC_IN_BROKER, &topic)).await;
            assert_eq!(answer.code, code::SUCCESS);
            let forget = ask(request::DELETE_TOPIC_IN_NAMESRV, &topic);
            town.ask(forget).await;
        }
        town.world.clock.sleep_until(town.world.clock.mono() + Duration::from_millis(300)).await;
        for n in 0..4 {
            assert_eq!(town.route(&format!("gone-{n}")).await, "");
        }
        town.end().await;
    });
}

#[test]
fn a_name_server_that_says_nothing_holds_the_answer_for_the_limit_only() {
    block_on(async {
        let world = World::new();
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut parts = world.parts();
        parts.broker.name_servers = vec![silent.local_addr().unwrap().to_string()];
        parts.broker.register_timeout = Duration::from_secs(2);
        parts.broker.register_wait = Duration::from_millis(200);
        let broker = world.start(parts).await;
        let caller = world.caller(&broker);
        let delete = Command::request(request::DELETE_TOPIC_IN_BROKER).with_ext("topic", "made");
        for ask in [make("made", 6), delete] {
            let began = world.clock.mono();
            assert_eq!(caller.call(ask).await.code, code::SUCCESS);
            let took = world.clock.mono().since(began);
            let limits = Duration::from_millis(190)..Duration::from_millis(1_800);
            assert!(limits.contains(&took), "{took:?}");
        }
        broker.shutdown().await;
    });
}
