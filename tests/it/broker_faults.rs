//! A broker whose disk fails or fills up.

use super::broker::{Caller, TIMEOUT, World};
use hotfire::disk::faulty::{Call, Fault, FaultyDisk};
use hotfire::disk::real::RealDisk;
use hotfire::disk::{read_small, replace_small};
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
fn name_servers_hear_of_a_topic_when_it_is_durable() {
    block_on(async {
        let (disk, world) = faulty();
        let (names, clock) = (world.name_server().await, &world.clock);
        let mut parts = world.parts_at(&names);
        parts.broker.register_interval = Duration::from_millis(100);
        let broker = world.start(parts).await;
        let caller = world.caller(&broker);
        let pause = async || clock.sleep_until(clock.mono() + Duration::from_millis(300)).await;
        let route = async |topic: &str| {
            let request = Command::request(request::GET_ROUTEINFO_BY_TOPIC);
            let request = request.with_ext("topic", topic);
            let addr = names.local_addr().unwrap().to_string();
            caller.client.invoke(&addr, request, TIMEOUT).await.unwrap().code
        };
        assert_eq!(route("TBW102").await, code::SUCCESS);
        disk.fail_always(Call::Write, "topics.json", Fault::Broken);
        let answer = caller.send("new", 0, "", "x").await;
        assert_eq!(answer.code, code::SERVICE_NOT_AVAILABLE, "{answer:?}");
        pause().await;
        assert_eq!(route("new").await, code::TOPIC_NOT_EXIST, "a power loss would take it");
        disk.heal();
        assert_eq!(caller.send("new", 0, "", "x").await.code, code::SUCCESS);
        while route("new").await != code::SUCCESS {
            pause().await;
        }
        broker.shutdown().await;
        names.shutdown().await;
    });
}

/// Whoever starts in between reads what the other is about to replace.
#[test]
fn the_directory_is_locked_until_the_last_state_file_is_written() {
    block_on(async {
        let (disk, world) = faulty();
        let broker = world.start(world.parts()).await;
        let caller = world.caller(&broker);
        assert_eq!(caller.send("T", 0, "", "x").await.code, code::SUCCESS);
        let commit = Command::request(request::UPDATE_CONSUMER_OFFSET)
            .with_ext("consumerGroup", "g")
            .with_ext("topic", "T")
            .with_ext("queueId", 0)
            .with_ext("commitOffset", 1);
        assert_eq!(caller.call(commit).await.code, code::SUCCESS);
        broker.shutdown().await;
        let calls = disk.calls();
        let last = |call, part: &str| {
            calls.iter().rposition(|(c, path)| *c == call && path.contains(part)).unwrap()
        };
        let saved = last(Call::Rename, "consumerOffset.json");
        assert!(last(Call::Unlock, "lock") > saved, "{:?}", &calls[saved - 20..]);
    });
}

#[test]
fn a_disk_above_its_level_refuses_sends_with_the_cause_and_resumes_by_itself() {
    block_on(async {
        let (disk, world) = faulty();
        disk.set_space(50, 100);
        let mut parts = world.parts();
        parts.store.retention.probe_interval = Duration::from_millis(10);
        let broker = world.start(parts).await;
        let caller = world.caller(&broker);
        assert_eq!(caller.send("T", 0, "", "first").await.code, code::SUCCESS);
        disk.set_space(9, 100);
        let answer = send_while(&world, &caller, code::SUCCESS, "more").await;
        assert_eq!(answer.code, code::SERVICE_NOT_AVAILABLE, "{answer:?}");
        assert!(text(&answer).starts_with("service not available now."), "{answer:?}");
        assert!(text(&answer).contains("[CL: 91.00 CQ: 91.00 INDEX: 91.00]"), "{answer:?}");
        assert!(text(&answer).contains("disk full: 91 % of "), "{answer:?}");
        assert!(text(&answer).ends_with("used, limit 90 %"), "{answer:?}");
        assert_eq!(caller.pull("T", 0, 0, 0).await.code, code::SUCCESS, "reading goes on");
        disk.set_space(10, 100);
        let answer = send_while(&world, &caller, code::SERVICE_NOT_AVAILABLE, "more").await;
        assert_eq!(answer.code, code::SUCCESS, "{answer:?}");
        broker.shutdown().await;
    });
}

#[test]
fn a_sync_that_comes_late_answers_flush_disk_timeout_and_the_message_is_kept() {
    block_on(async {
        let (disk, world) = faulty();
        let mut parts = world.parts();
        parts.store.flush = FlushMode::Sync;
        parts.store.sync_flush_timeout = Duration::from_millis(100);
        let broker = world.start(parts).await;
        let caller = world.caller(&broker);
        assert_eq!(caller.send("T", 0, "", "first").await.code, code::SUCCESS);
        disk.hold(Call::Sync);
        let answer = caller.send("T", 0, "", "late").await;
        assert_eq!((answer.code, answer.remark.as_deref()), (code::FLUSH_DISK_TIMEOUT, None));
        assert_eq!(answer.get("queueOffset"), Some("1"));
        assert!(answer.get("msgId").is_some());
        disk.release();
        assert_eq!(caller.send("T", 0, "", "third").await.code, code::SUCCESS);
        let answer = caller.pull("T", 0, 1, 0).await;
        assert_eq!((answer.code, answer.get("maxOffset")), (code::SUCCESS, Some("3")));
        assert!(answer.body.windows(4).any(|part| part == b"late"));
        broker.shutdown().await;
    });
}

#[test]
fn sends_are_refused_while_the_log_is_stalled_and_only_then() {
    block_on(async {
        let (disk, world) = faulty();
        let mut parts = world.parts();
        parts.store.flush = FlushMode::Sync;
        parts.store.stall_max = Duration::from_millis(150);
        let broker = world.start(parts).await;
        let (caller, other) = (world.caller(&broker), world.caller(&broker));
        assert_eq!(caller.send("T", 0, "", "first").await.code, code::SUCCESS);
        disk.hold(Call::Sync);
        let clock = world.clock.clone();
        let group = hotfire::rt::task::TaskGroup::new();
        let (told, mut first) = hotfire::rt::sync::mpsc::channel(1);
        group.spawn(async move {
            let answer = caller.send("T", 0, "", "waits").await;
            let _ = told.send(answer.code).await;
        });
        clock.sleep_until(clock.mono() + Duration::from_millis(300)).await;
        let began = clock.mono();
        let answer = other.send("T", 0, "", "refused").await;
        assert!(clock.mono().since(began) < Duration::from_millis(100), "it was refused late");
        assert_eq!(answer.code, code::SYSTEM_BUSY, "{answer:?}");
        let start = "[REJECTREQUEST]system busy, start flow control for a while; the log's sync \
                     has waited ";
        assert!(text(&answer).starts_with(start) && text(&answer).ends_with(" ms"), "{answer:?}");
        disk.release();
        assert_eq!(first.recv().await, Some(code::SUCCESS));
        let answer = send_while(&world, &other, code::SYSTEM_BUSY, "goes on").await;
        assert_eq!(answer.code, code::SUCCESS);
        broker.shutdown().await;
    });
}

#[test]
fn what_waits_for_a_log_file_that_does_not_come_is_refused_with_the_reason() {
    block_on(async {
        let (disk, world) = faulty();
        let mut parts = world.parts();
        parts.store.segment_size_bytes = 64 << 10;
        parts.store.stall_max = Duration::from_millis(150);
        let broker = world.start(parts).await;
        let caller = world.caller(&broker);
        assert_eq!(caller.send("T", 0, "", "first").await.code, code::SUCCESS);
        disk.hold(Call::Create);
        let body = "x".repeat(8 << 10);
        let answer = send_while(&world, &caller, code::SUCCESS, &body).await;
        assert_eq!(answer.code, code::SYSTEM_BUSY, "{answer:?}");
        let start = "[PCBUSY_CLEAN_QUEUE]broker busy, start flow control for a while, period in \
                     queue: ";
        assert!(text(&answer).starts_with(start), "{answer:?}");
        assert!(text(&answer).contains("size of queue: 1; the making of the next commit log file"));
        disk.release();
        let answer = send_while(&world, &caller, code::SYSTEM_BUSY, &body).await;
        assert_eq!(answer.code, code::SUCCESS, "{answer:?}");
        broker.shutdown().await;
    });
}

#[test]
fn a_pull_that_waits_for_the_disk_too_long_is_refused_alone() {
    block_on(async {
        let (disk, world) = faulty();
        let mut parts = world.parts();
        parts.broker.pull_read_timeout = Duration::from_millis(100);
        parts.store.tail_cache_size_bytes = 0;
        let broker = world.start(parts).await;
        let caller = world.caller(&broker);
        for _ in 0..2 {
            assert_eq!(caller.send("T", 0, "", "first").await.code, code::SUCCESS);
        }
        disk.hold(Call::Read);
        let answer = caller.pull("T", 0, 0, 0).await;
        assert_eq!(answer.code, code::SYSTEM_BUSY, "{answer:?}");
        assert!(text(&answer).starts_with("[TIMEOUT_CLEAN_QUEUE]broker busy"), "{answer:?}");
        assert_eq!(caller.send("T", 0, "", "third").await.code, code::SUCCESS);
        disk.release();
        assert_eq!(caller.pull("T", 0, 0, 0).await.code, code::SUCCESS);
        broker.shutdown().await;
    });
}

#[test]
fn a_broker_told_so_goes_on_reading_what_is_on_disk_when_its_log_fails() {
    block_on(async {
        let (disk, world) = faulty();
        let mut parts = world.parts();
        parts.store.flush = FlushMode::Async;
        parts.store.flush_interval = Duration::from_millis(10);
        parts.store.flush_least_pages = 0;
        parts.broker.on_store_failure = hotfire::broker::options::OnStoreFailure::ReadOnly;
        let broker = world.start(parts).await;
        let caller = world.caller(&broker);
        assert_eq!(caller.send("T", 0, "", "first").await.code, code::SUCCESS);
        let until = world.clock.mono() + Duration::from_secs(10);
        while broker.store().stats().synced != broker.store().stats().end {
            assert!(world.clock.mono() < until, "no sync came");
            world.clock.sleep_until(world.clock.mono() + Duration::from_millis(5)).await;
        }
        disk.fail_always(Call::Sync, "commitlog", Fault::Broken);
        // It is in the page cache, and the sync that fails comes later.
        caller.send("T", 0, "", "second").await;
        let answer = send_while(&world, &caller, code::SUCCESS, "third").await;
        assert_eq!(answer.code, code::SERVICE_NOT_AVAILABLE, "{answer:?}");
        assert!(text(&answer).contains("poisoned: failed to sync"), "{answer:?}");
        let soon = world.clock.mono() + Duration::from_millis(50);
        assert_eq!(world.clock.before(soon, broker.poisoned()).await, None, "it does not end");
        assert!(broker.read_only().is_some());
        let answer = caller.pull("T", 0, 0, 0).await;
        assert_eq!(answer.code, code::SUCCESS, "{answer:?}");
        assert_eq!(answer.get("maxOffset"), Some("1"), "only what is known to be on disk");
        assert!(answer.body.ends_with(b"first") || answer.body.windows(5).any(|b| b == b"first"));
        assert_eq!(caller.pull("T", 0, 1, 0).await.code, code::PULL_NOT_FOUND);
        broker.shutdown().await;
    });
}

#[test]
fn messages_deleted_before_they_were_consumed_are_counted() {
    block_on(async {
        let world = World::new();
        let mut parts = world.parts();
        parts.store.segment_size_bytes = 64 << 10;
        parts.store.flush_interval = Duration::from_millis(10);
        parts.store.retention.log_bytes_max = 64 << 10;
        parts.store.retention.first_check_after = Duration::from_millis(10);
        parts.store.retention.check_interval = Duration::from_millis(10);
        let broker = world.start(parts).await;
        let caller = world.caller(&broker);
        let body = "x".repeat(8 << 10);
        assert_eq!(caller.send("T", 0, "", &body).await.code, code::SUCCESS);
        let commit = Command::request(request::UPDATE_CONSUMER_OFFSET)
            .with_ext("consumerGroup", "slow")
            .with_ext("topic", "T")
            .with_ext("queueId", 0)
            .with_ext("commitOffset", 1);
        assert_eq!(caller.call(commit).await.code, code::SUCCESS);
        for _ in 0..14 {
            assert_eq!(caller.send("T", 0, "", &body).await.code, code::SUCCESS);
        }
        let until = world.clock.mono() + Duration::from_secs(60);
        loop {
            let info = caller.call(Command::request(request::GET_BROKER_RUNTIME_INFO)).await;
            let info: serde_json::Value = serde_json::from_slice(&info.body).unwrap();
            let lost: u64 =
                info["table"]["deletedUnconsumedMessages"].as_str().unwrap().parse().unwrap();
            // Seven fit one file, two files go: the first message was consumed.
            if lost == 13 {
                break;
            }
            assert!(lost < 13 && world.clock.mono() < until, "{info}");
            world.clock.sleep_until(world.clock.mono() + Duration::from_millis(10)).await;
        }
        let min = caller.number(request::GET_MIN_OFFSET, "T", 0).await;
        assert_eq!(min, "14");
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

#[test]
fn a_state_file_that_cannot_be_read_is_tried_again_and_never_taken_for_empty() {
    block_on(async {
        let (disk, world) = faulty();
        let root = world.parts().broker.root;
        for topic in ["older", "newest"] {
            let broker = world.start(world.parts()).await;
            assert_eq!(world.caller(&broker).send(topic, 0, "", "x").await.code, code::SUCCESS);
            broker.shutdown().await;
        }
        let states = ["topics", "subscriptionGroup", "consumerOffset", "consumerFilter"];
        for name in states.into_iter().chain(["delayOffset"]) {
            let part = format!("config/{name}.json");
            let path = format!("{root}/{part}");
            if read_small(&*disk, &path, 1 << 20).is_err() {
                replace_small(&*disk, &path, b"{}").await.unwrap();
            }
            let before = read_small(&*disk, &path, 1 << 20).unwrap();
            // For good, and the generation before it too.
            disk.fail_always(Call::Read, &part, Fault::Broken);
            let error = world.try_start(world.parts()).await.err().expect("no start").to_string();
            assert!(error.contains(&path) && error.contains("scripted I/O"), "{error}");
            disk.heal();
            assert_eq!(read_small(&*disk, &path, 1 << 20).unwrap(), before, "{name}");
            // For a moment.
            for nth in 1..=2 {
                disk.fail_nth(Call::Open, &part, nth, Fault::Broken);
            }
            let broker = world.start(world.parts()).await;
            disk.heal();
            let answer = world.caller(&broker).pull("newest", 0, 0, 0).await;
            assert_eq!(answer.code, code::SUCCESS, "{name}: {answer:?}");
            broker.shutdown().await;
        }
        // For good, but not the generation before it.
        for nth in 1..=3 {
            disk.fail_nth(Call::Open, "config/topics.json", nth, Fault::Broken);
        }
        let broker = world.start(world.parts()).await;
        assert_eq!(world.caller(&broker).pull("older", 0, 0, 0).await.code, code::SUCCESS);
        broker.shutdown().await;
    });
}

/// Else a power loss later takes back a table that a killed process had only renamed, and with it a
/// topic whose messages are acknowledged meanwhile.
#[test]
fn what_a_start_reads_of_its_tables_is_durable() {
    block_on(async {
        let (disk, world) = faulty();
        let name_server = world.name_server().await;
        let broker = world.start(world.parts_at(&name_server)).await;
        assert_eq!(world.caller(&broker).send("T", 0, "", "x").await.code, code::SUCCESS);
        broker.shutdown().await;
        let before = disk.calls().len();
        let broker = world.start(world.parts_at(&name_server)).await;
        let calls = disk.calls().split_off(before);
        let at = |call: Call, end: &str| {
            let is_it = |(c, path): &(Call, String)| *c == call && path.ends_with(end);
            calls.iter().position(is_it).unwrap_or_else(|| panic!("no {call:?} of {end}"))
        };
        assert!(at(Call::SyncDir, "/config") < at(Call::Open, "/config/topics.json"));
        broker.shutdown().await;

        disk.fail_nth(Call::SyncDir, "/config", 1, Fault::Broken);
        let refused = world.try_start(world.parts_at(&name_server)).await.err().unwrap();
        assert!(refused.to_string().contains("/config"), "{refused}");
    });
}
