//! What name servers know when a changed topic is answered.

use super::broker::{Caller, TIMEOUT, World};
use hotfire::namesrv::{self, Namesrv};
use hotfire::protocol::Command;
use hotfire::protocol::code::{request_code as request, response_code as code};
use hotfire::rt::block_on;
use hotfire::rt::time::Duration;

async fn name_server(world: &World) -> (Namesrv, String) {
    let path = world.dir.path().join("kvConfig.json");
    let options = namesrv::Options {
        listen: "127.0.0.1:0".parse().unwrap(),
        kv_config_path: path.to_str().unwrap().to_owned(),
        ..namesrv::Options::default()
    };
    let (disk, net) = (world.disk.clone(), &world.net);
    let names = Namesrv::start(disk, net, &world.clock, &world.group, options).await.unwrap();
    let addr = names.local_addr().unwrap().to_string();
    (names, addr)
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

async fn route(caller: &Caller, names: &str, topic: &str) -> String {
    let ask = Command::request(request::GET_ROUTEINFO_BY_TOPIC).with_ext("topic", topic);
    let answer = caller.client.invoke(names, ask, TIMEOUT).await.unwrap();
    String::from_utf8_lossy(&answer.body).into_owned()
}

#[test]
fn whoever_made_or_changed_a_topic_finds_it_at_the_name_server_at_once() {
    block_on(async {
        let world = World::new();
        let (names, addr) = name_server(&world).await;
        let mut parts = world.parts();
        parts.broker.name_servers = vec![addr.clone()];
        let broker = world.start(parts).await;
        let caller = world.caller(&broker);
        for n in 0..4 {
            let topic = format!("made-{n}");
            assert_eq!(caller.call(make(&topic, 6)).await.code, code::SUCCESS);
            let found = route(&caller, &addr, &topic).await;
            assert!(found.contains("\"perm\":6"), "{topic}: {found}");
            assert_eq!(caller.call(make(&topic, 4)).await.code, code::SUCCESS);
            let found = route(&caller, &addr, &topic).await;
            assert!(found.contains("\"perm\":4"), "{topic}: {found}");
        }
        broker.shutdown().await;
        names.shutdown().await;
    });
}

/// A client that looks for the route of its retry topic too early looks again 30 s later: its first
/// retries came 42 s late.
#[test]
fn the_first_member_of_a_group_finds_its_retry_topic_at_the_name_server_at_once() {
    block_on(async {
        let world = World::new();
        let (names, addr) = name_server(&world).await;
        let mut parts = world.parts();
        parts.broker.name_servers = vec![addr.clone()];
        let broker = world.start(parts).await;
        let caller = world.caller(&broker);
        for n in 0..4 {
            let body = format!(
                r#"{{"clientID":"c","consumerDataSet":[{{"groupName":"g{n}","messageModel":"CLUSTERING"}}]}}"#
            );
            let beat = Command::request(request::HEART_BEAT).with_body(body.into_bytes());
            assert_eq!(caller.call(beat).await.code, code::SUCCESS);
            let found = route(&caller, &addr, &format!("%RETRY%g{n}")).await;
            assert!(found.contains("\"perm\":6"), "g{n}: {found}");
        }
        broker.shutdown().await;
        names.shutdown().await;
    });
}

/// A registration that left before the deletion must not bring the topic back.
#[test]
fn a_deleted_topic_that_is_taken_off_the_name_server_stays_away() {
    block_on(async {
        let world = World::new();
        let (names, addr) = name_server(&world).await;
        let mut parts = world.parts();
        parts.broker.name_servers = vec![addr.clone()];
        let broker = world.start(parts).await;
        let caller = world.caller(&broker);
        let ask = |code: i32, topic: &str| Command::request(code).with_ext("topic", topic);
        for n in 0..4 {
            let topic = format!("gone-{n}");
            caller.send(&topic, 0, "", "x").await;
            let answer = caller.call(ask(request::DELETE_TOPIC_IN_BROKER, &topic)).await;
            assert_eq!(answer.code, code::SUCCESS);
            let forget = ask(request::DELETE_TOPIC_IN_NAMESRV, &topic);
            caller.client.invoke(&addr, forget, TIMEOUT).await.unwrap();
        }
        world.clock.sleep_until(world.clock.mono() + Duration::from_millis(300)).await;
        for n in 0..4 {
            assert_eq!(route(&caller, &addr, &format!("gone-{n}")).await, "");
        }
        broker.shutdown().await;
        names.shutdown().await;
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
