//! A broker whose disk fails or fills up.

use super::broker::{Caller, TIMEOUT, World};
use hotfire::disk::faulty::{Call, Fault, FaultyDisk};
use hotfire::disk::read_small;
use hotfire::disk::real::RealDisk;
use hotfire::protocol::Command;
use hotfire::protocol::code::{request_code as request, response_code as code};
use hotfire::rt::block_on;
use hotfire::rt::time::Duration;
use hotfire::store::FlushMode;
use std::sync::Arc;

fn faulty() -> (Arc<FaultyDisk>, World) {
    let disk = Arc::new(FaultyDisk::new(Arc::new(RealDisk::new())));
    let world = World::on(disk.clone());
    (disk, world)
}

fn text(answer: &Command) -> &str {
    answer.remark.as_deref().unwrap_or_default()
}

/// Sends until the answer has another code than `code`.
async fn send_while(world: &World, caller: &Caller, code: i32, body: &str) -> Command {
    for _ in 0..2_000 {
        let answer = caller.send("T", 0, "", body).await;
        if answer.code != code {
            return answer;
        }
        if code != 0 {
            world.clock.sleep_until(world.clock.mono() + Duration::from_millis(20)).await;
        }
    }
    panic!("the code stayed {code}");
}

#[test]
fn a_full_disk_is_named_to_producers_and_sending_resumes_by_itself() {
    block_on(async {
        let (disk, world) = faulty();
        let mut parts = world.parts();
        parts.store.segment_size_bytes = 64 << 10;
        parts.store.allocate_retry_interval = Duration::from_millis(20);
        let broker = world.start(parts).await;
        let caller = world.caller(&broker);
        assert_eq!(caller.send("T", 0, "", "first").await.code, code::SUCCESS);
        disk.fail_always(Call::Create, "commitlog", Fault::NoSpace);
        let body = "x".repeat(8 << 10);
        let answer = send_while(&world, &caller, code::SUCCESS, &body).await;
        assert_eq!(answer.code, code::SERVICE_NOT_AVAILABLE, "{answer:?}");
        assert!(text(&answer).starts_with("service not available now."), "{answer:?}");
        assert!(text(&answer).contains("no space left"), "{answer:?}");
        assert_eq!(caller.pull("T", 0, 0, 0).await.code, code::SUCCESS, "reading goes on");
        disk.heal();
        let answer = send_while(&world, &caller, code::SERVICE_NOT_AVAILABLE, &body).await;
        assert_eq!(answer.code, code::SUCCESS, "{answer:?}");
        broker.shutdown().await;
    });
}

#[test]
fn a_failed_sync_ends_acknowledgements_and_the_broker_says_so() {
    block_on(async {
        let (disk, world) = faulty();
        let mut parts = world.parts();
        parts.store.flush = FlushMode::Sync;
        let broker = world.start(parts).await;
        let caller = world.caller(&broker);
        assert_eq!(caller.send("T", 0, "", "first").await.code, code::SUCCESS);
        disk.fail_always(Call::Sync, "commitlog", Fault::Broken);
        let answer = caller.send("T", 0, "", "second").await;
        assert_eq!(answer.code, code::SERVICE_NOT_AVAILABLE, "{answer:?}");
        assert!(text(&answer).contains("a write or sync of the commit log failed"), "{answer:?}");
        let deadline = world.clock.mono() + TIMEOUT;
        let reason = world.clock.before(deadline, broker.poisoned()).await.unwrap();
        assert!(!reason.is_empty());
        let answer = caller.send("T", 0, "", "third").await;
        assert_eq!(answer.code, code::SERVICE_NOT_AVAILABLE, "{answer:?}");
        assert!(text(&answer).contains("poisoned"), "{answer:?}");
        let answer = caller.pull("T", 0, 0, 0).await;
        assert_eq!(answer.get("maxOffset"), Some("1"), "what was not acked is not seen");
    });
}

#[test]
fn a_topic_that_cannot_be_saved_takes_no_message() {
    block_on(async {
        let (disk, world) = faulty();
        let broker = world.start(world.parts()).await;
        let caller = world.caller(&broker);
        assert_eq!(caller.send("old", 0, "", "x").await.code, code::SUCCESS);
        disk.fail_always(Call::Write, "topics.json", Fault::Broken);
        let answer = caller.send("new", 0, "", "x").await;
        assert_eq!(answer.code, code::SERVICE_NOT_AVAILABLE, "{answer:?}");
        assert!(text(&answer).contains("topics.json"), "{answer:?}");
        assert_eq!(caller.send("old", 0, "", "x").await.code, code::SUCCESS);
        disk.heal();
        assert_eq!(caller.send("new", 0, "", "x").await.code, code::SUCCESS);
        broker.shutdown().await;
    });
}

#[test]
fn a_topic_or_group_is_answered_when_its_file_is_durable_and_refused_when_it_cannot_be() {
    block_on(async {
        let (disk, world) = faulty();
        let broker = world.start(world.parts()).await;
        let caller = world.caller(&broker);
        let make = |topic: &str| {
            Command::request(request::UPDATE_AND_CREATE_TOPIC)
                .with_ext("topic", topic)
                .with_ext("defaultTopic", "TBW102")
                .with_ext("readQueueNums", 1)
                .with_ext("writeQueueNums", 1)
                .with_ext("perm", 6)
                .with_ext("topicFilterType", "SINGLE_TAG")
                .with_ext("order", "false")
        };
        let group = || {
            Command::request(request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP)
                .with_body("{\"groupName\":\"g\"}")
        };
        let holds = |file: &str, name: &str| {
            let path = format!("{}/config/{file}", world.parts().store.root);
            let text = read_small(&*disk, &path, 1 << 20).unwrap_or_default();
            String::from_utf8_lossy(&text).contains(&format!("\"{name}\""))
        };
        assert_eq!(caller.call(make("first")).await.code, code::SUCCESS);
        assert!(holds("topics.json", "first"));
        assert_eq!(caller.call(group()).await.code, code::SUCCESS);
        assert!(holds("subscriptionGroup.json", "g"));
        disk.fail_always(Call::Sync, "topics.json", Fault::Broken);
        let answer = caller.call(make("second")).await;
        assert_eq!(answer.code, code::SYSTEM_ERROR, "{answer:?}");
        assert!(text(&answer).contains("topics.json"), "{answer:?}");
        disk.heal();
        assert_eq!(caller.call(make("second")).await.code, code::SUCCESS);
        assert!(holds("topics.json", "second"));
        broker.shutdown().await;
    });
}
