//! What tools ask of groups, queues and totals, and the configuration that they change.

use super::broker::{Caller, World};
use hotfire::broker::Broker;
use hotfire::config::live::LiveConfig;
use hotfire::config::resolve::Machine;
use hotfire::config::{Program, RawConfig};
use hotfire::disk;
use hotfire::disk::faulty::{Call, FaultyDisk};
use hotfire::disk::real::RealDisk;
use hotfire::protocol::Command;
use hotfire::protocol::code::{request_code as request, response_code as code};
use hotfire::rt::block_on;
use hotfire::rt::task::TaskGroup;
use hotfire::rt::time::Duration;
use serde_json::Value;
use std::sync::Arc;

fn text(answer: &Command) -> String {
    assert_eq!(answer.code, code::SUCCESS, "{answer:?}");
    String::from_utf8(answer.body.to_vec()).unwrap()
}

fn value(answer: &Command) -> Value {
    hotfire::protocol::body::decode(text(answer).as_bytes()).unwrap()
}

async fn commit(caller: &Caller, group: &str, topic: &str, queue: i32, offset: i64) {
    let commit = Command::request(request::UPDATE_CONSUMER_OFFSET)
        .with_ext("consumerGroup", group)
        .with_ext("topic", topic)
        .with_ext("queueId", queue)
        .with_ext("commitOffset", offset);
    assert_eq!(caller.call(commit).await.code, code::SUCCESS);
}

async fn offset(caller: &Caller, group: &str, topic: &str, queue: i32) -> Option<String> {
    let query = Command::request(request::QUERY_CONSUMER_OFFSET)
        .with_ext("consumerGroup", group)
        .with_ext("topic", topic)
        .with_ext("queueId", queue);
    caller.call(query).await.get("offset").map(str::to_owned)
}

async fn two_queues(world: &World) -> (Broker, Caller) {
    let mut parts = world.parts();
    parts.broker.topics.default_queues = 2;
    let broker = world.start(parts).await;
    let caller = world.caller(&broker);
    for n in 0..5 {
        caller.send("T", n % 2, "", "body").await;
    }
    (broker, caller)
}

#[test]
fn the_least_offset_of_all_groups_is_found_and_no_group_is_deleted() {
    block_on(async {
        let world = World::new();
        let (broker, caller) = two_queues(&world).await;
        for (group, first, second) in [("a", 3, 2), ("b", 1, 2), ("c", 0, 0)] {
            commit(&caller, group, "T", 0, first).await;
            commit(&caller, group, "T", 1, second).await;
        }
        let ask = |left_out: &str| {
            Command::request(request::QUERY_CORRECTION_OFFSET)
                .with_ext("topic", "T")
                .with_ext("compareGroup", "a")
                .with_ext("filterGroups", left_out)
        };
        let answer = caller.call(ask("c")).await;
        assert_eq!(text(&answer), "{\"correctionOffsets\":{0:1,1:2}}");
        let answer = caller.call(ask("a,b,c")).await;
        assert_eq!(text(&answer), "{\"correctionOffsets\":{}}");
        let answer = caller.call(ask("")).await;
        assert_eq!(text(&answer), "{\"correctionOffsets\":{0:0,1:0}}");
        let answer = caller.call(ask("a,c").with_ext("compareGroup", "c")).await;
        let max = i64::MAX;
        assert_eq!(text(&answer), format!("{{\"correctionOffsets\":{{0:{max},1:{max}}}}}"));
        assert_eq!(offset(&caller, "c", "T", 0).await.as_deref(), Some("0"));
        broker.shutdown().await;
    });
}

#[test]
fn offsets_are_copied_to_another_group_for_one_topic_or_for_all() {
    block_on(async {
        let world = World::new();
        let (broker, caller) = two_queues(&world).await;
        caller.send("U", 0, "", "body").await;
        commit(&caller, "a", "T", 0, 3).await;
        commit(&caller, "a", "T", 1, 1).await;
        commit(&caller, "a", "U", 0, 1).await;
        commit(&caller, "b", "T", 0, 9).await;
        let ask = |topic: &str, offline: bool| {
            Command::request(request::CLONE_GROUP_OFFSET)
                .with_ext("srcGroup", "a")
                .with_ext("destGroup", "b")
                .with_ext("topic", topic)
                .with_ext("offline", offline)
        };
        assert_eq!(caller.call(ask("T", false)).await.code, code::SUCCESS);
        assert_eq!(offset(&caller, "b", "T", 0).await.as_deref(), Some("3"));
        assert_eq!(offset(&caller, "b", "T", 1).await.as_deref(), Some("1"));
        let all = |answer: Command| text(&answer).contains("\"U@b\"");
        let ask_all = || Command::request(request::GET_ALL_CONSUMER_OFFSET);
        assert!(!all(caller.call(ask_all()).await), "one topic was asked for");
        assert_eq!(caller.call(ask("", false)).await.code, code::SUCCESS);
        assert!(all(caller.call(ask_all()).await));
        // A live group that does not want the topic has no say, unless it is said to be offline.
        caller.heartbeat("a", "Other", 1).await;
        commit(&caller, "a", "T", 0, 2).await;
        assert_eq!(caller.call(ask("T", false)).await.code, code::SUCCESS);
        assert_eq!(offset(&caller, "b", "T", 0).await.as_deref(), Some("3"));
        assert_eq!(caller.call(ask("T", true)).await.code, code::SUCCESS);
        assert_eq!(offset(&caller, "b", "T", 0).await.as_deref(), Some("2"));
        broker.shutdown().await;
    });
}

/// Later the queue is longer again, and nothing tells that the offset was of other messages.
#[test]
fn an_offset_past_the_end_of_its_queue_is_cut_on_disk_before_anything_is_stored() {
    block_on(async {
        let world = World::new();
        let (broker, caller) = two_queues(&world).await;
        let end = broker.store().stats().written;
        caller.send("T", 0, "", "to be cut").await;
        commit(&caller, "g", "T", 0, 4).await;
        broker.store().cut_back_at_next_start(end).await.unwrap();
        broker.shutdown().await;
        let mut parts = world.parts();
        parts.broker.offsets_save_interval = Duration::from_secs(600);
        let broker = world.start(parts).await;
        let file = std::fs::read(world.dir.path().join("config/consumerOffset.json")).unwrap();
        let saved: Value = hotfire::protocol::body::decode(&file).unwrap();
        assert_eq!(saved["offsetTable"]["T@g"]["0"], 3);
        broker.shutdown().await;
    });
}

#[test]
fn the_times_of_a_queue_and_of_a_group_in_it_are_told() {
    block_on(async {
        let world = World::new();
        let (broker, caller) = two_queues(&world).await;
        commit(&caller, "g", "T", 0, 1).await;
        commit(&caller, "g", "T", 1, 2).await;
        let ask = |topic: &str| {
            Command::request(request::QUERY_CONSUME_TIME_SPAN)
                .with_ext("topic", topic)
                .with_ext("group", "g")
        };
        assert_eq!(caller.call(ask("None")).await.code, code::TOPIC_NOT_EXIST);
        let spans = value(&caller.call(ask("T")).await);
        let spans = spans["consumeTimeSpanSet"].as_array().unwrap();
        assert_eq!(spans.len(), 2);
        let number = |queue: usize, name: &str| spans[queue][name].as_i64().unwrap();
        for (queue, span) in spans.iter().enumerate() {
            assert_eq!(span["messageQueue"]["queueId"], queue);
            let times = ["minTimeStamp", "consumeTimeStamp", "maxTimeStamp"];
            let times = times.map(|name| number(queue, name));
            assert!(times.is_sorted() && times[0] > 0, "{times:?}");
        }
        assert_eq!(number(0, "consumeTimeStamp"), number(0, "minTimeStamp"));
        assert_eq!(number(1, "delayTime"), 0, "all of it is consumed");
        assert!((0..60_000).contains(&number(0, "delayTime")));
        broker.shutdown().await;
    });
}

#[test]
fn every_group_of_the_broker_is_told_with_what_it_has_not_consumed() {
    block_on(async {
        let world = World::new();
        let (broker, caller) = two_queues(&world).await;
        caller.heartbeat("a", "T", 1).await;
        caller.heartbeat("b", "Other", 1).await;
        commit(&caller, "a", "T", 0, 1).await;
        commit(&caller, "b", "T", 0, 1).await;
        let ask = |is_order: bool| {
            Command::request(request::GET_BROKER_CONSUME_STATS).with_ext("isOrder", is_order)
        };
        let said = value(&caller.call(ask(false)).await);
        assert_eq!(said["totalDiff"], 4, "b does not want the topic any more");
        let groups = said["consumeStatsList"].as_array().unwrap();
        let of = |group: &str| groups.iter().find_map(|row| row.get(group)).unwrap().clone();
        assert_eq!(of("b"), serde_json::json!([]));
        let table = of("a")[0]["offsetTable"].as_object().unwrap().clone();
        assert_eq!(table.len(), 2);
        let key = "{\"brokerName\":\"broker-a\",\"queueId\":0,\"topic\":\"T\"}";
        let row = (&table[key]["brokerOffset"], &table[key]["consumerOffset"]);
        assert_eq!((row.0.as_i64(), row.1.as_i64()), (Some(3), Some(1)));
        assert!(table[key]["lastTimestamp"].as_i64().unwrap() > 0);
        let said = value(&caller.call(ask(true)).await);
        assert_eq!(said["totalDiff"], 0, "no topic is ordered");
        broker.shutdown().await;
    });
}

#[test]
fn entries_of_a_queue_are_shown_within_its_bounds() {
    block_on(async {
        let world = World::new();
        let (broker, caller) = two_queues(&world).await;
        let ask = |queue: i32, index: i64, count: i32| {
            Command::request(request::QUERY_CONSUME_QUEUE)
                .with_ext("topic", "T")
                .with_ext("queueId", queue)
                .with_ext("index", index)
                .with_ext("count", count)
        };
        let said = value(&caller.call(ask(0, 1, 10)).await);
        assert_eq!((&said["minQueueIndex"], &said["maxQueueIndex"]), (&0.into(), &3.into()));
        let rows = said["queueData"].as_array().unwrap();
        assert_eq!((rows.len(), said.get("filterData")), (2, None));
        assert!(rows[0]["physicSize"].as_i64() > Some(90) && rows[0]["tagsCode"] == 0);
        assert!(rows[0]["physicOffset"].as_i64() < rows[1]["physicOffset"].as_i64());
        assert_eq!(
            value(&caller.call(ask(0, 0, 2)).await)["queueData"].as_array().unwrap().len(),
            2
        );
        for index in [3, 99, -1] {
            let answer = caller.call(ask(0, index, 10)).await;
            assert_eq!((answer.code, answer.body.len()), (code::SUCCESS, 0));
            assert_eq!(answer.remark.unwrap(), format!("Index {index} of 0@T is not exist!"));
        }
        for queue in [2, -1] {
            let answer = caller.call(ask(queue, 0, 10)).await;
            assert_eq!(answer.code, code::SYSTEM_ERROR);
            assert_eq!(answer.remark.unwrap(), format!("{queue}@T is not exist!"));
        }
        let said = value(&caller.call(ask(0, 0, 1).with_ext("consumerGroup", "g")).await);
        assert_eq!(said["filterData"], "g@T is not online!");
        caller.heartbeat("g", "T", 7).await;
        let said = value(&caller.call(ask(0, 0, 1).with_ext("consumerGroup", "g")).await);
        assert_eq!(
            (&said["filterData"], &said["subscriptionData"]["subVersion"]),
            (&"null".into(), &7.into())
        );
        broker.shutdown().await;
    });
}

#[test]
fn totals_count_every_record_and_a_delayed_message_twice() {
    block_on(async {
        let world = World::new();
        let mut parts = world.parts();
        parts.store.delay_levels_ms = vec![50];
        parts.broker.topics.default_queues = 1;
        let broker = world.start(parts).await;
        let caller = world.caller(&broker);
        caller.heartbeat("g", "T", 1).await;
        for _ in 0..3 {
            caller.send("T", 0, "", "body").await;
        }
        caller.send("T", 0, "DELAY\u{1}1\u{2}", "late").await;
        for _ in 0..200 {
            if caller.number(request::GET_MAX_OFFSET, "T", 0).await == "4" {
                break;
            }
            let pause = world.clock.mono() + Duration::from_millis(10);
            world.clock.sleep_until(pause).await;
        }
        let pulled = caller.pull("T", 0, 0, 0).await;
        assert_eq!(pulled.code, code::SUCCESS);
        let missed = caller.pull("T", 0, 4, 0).await;
        assert_eq!(missed.code, code::PULL_NOT_FOUND);
        let said = value(&caller.call(Command::request(request::GET_BROKER_RUNTIME_INFO)).await);
        let said = |name: &str| said["table"][name].as_str().unwrap().to_owned();
        assert_eq!(
            (said("msgPutTotalTodayNow"), said("putMessageTimesTotal")),
            ("5".into(), "5".into())
        );
        assert_eq!(
            (said("msgGetTotalTodayNow"), said("msgPutTotalTodayMorning")),
            ("4".into(), "0".into())
        );
        for name in ["putTps", "getTransferedTps", "getFoundTps", "getMissTps"] {
            let rates: Vec<f64> =
                said(name).split(' ').map(|number| number.parse().unwrap()).collect();
            assert!(rates.len() == 3 && rates.iter().all(|rate| *rate > 0.0), "{name} {rates:?}");
        }
        assert!(said("putMessageAverageSize").parse::<f64>().unwrap() > 90.0);
        assert!(said("earliestMessageTimeStamp").parse::<i64>().unwrap() > 1_700_000_000_000);

        let view = |name: &str, key: &str| {
            Command::request(request::VIEW_BROKER_STATS_DATA)
                .with_ext("statsName", name)
                .with_ext("statsKey", key)
        };
        for (name, key) in [
            ("TOPIC_PUT_NUMS", "T"),
            ("TOPIC_PUT_SIZE", "SCHEDULE_TOPIC_XXXX"),
            ("QUEUE_PUT_NUMS", "T@0"),
            ("QUEUE_PUT_SIZE", "SCHEDULE_TOPIC_XXXX@0"),
            ("QUEUE_GET_NUMS", "SCHEDULE_TOPIC_XXXX@0@SCHEDULE_CONSUMER"),
            ("GROUP_GET_NUMS", "T@g"),
            ("GROUP_GET_SIZE", "SCHEDULE_TOPIC_XXXX@SCHEDULE_CONSUMER"),
            ("BROKER_PUT_NUMS", "DefaultCluster"),
            ("BROKER_GET_NUMS", "DefaultCluster"),
        ] {
            let said = value(&caller.call(view(name, key)).await);
            assert_eq!(said["statsMinute"]["sum"], 0, "{name} {key}: not sampled yet");
        }
        for (name, key) in [
            ("TOPIC_PUT_NUMS", "U"),
            ("QUEUE_PUT_NUMS", "T@1"),
            ("QUEUE_GET_NUMS", "T@0@g"),
            ("GROUP_GET_FALL_SIZE", "0@T@g"),
            ("SNDBCK_PUT_NUMS", "T@g"),
            ("X", "T"),
        ] {
            let answer = caller.call(view(name, key)).await;
            assert_eq!(answer.remark.unwrap(), format!("The stats <{name}> <{key}> not exist"));
        }
        broker.shutdown().await;
    });
}

#[test]
fn how_far_a_group_is_behind_is_told_in_bytes_and_time() {
    block_on(async {
        let world = World::new();
        let (broker, caller) = two_queues(&world).await;
        let behind = async |name: &str, queue: i32| {
            let view = Command::request(request::VIEW_BROKER_STATS_DATA)
                .with_ext("statsName", name)
                .with_ext("statsKey", format!("{queue}@T@g"));
            let said = value(&caller.call(view).await);
            assert_eq!(said["statsMinute"], said["statsDay"]);
            said["statsMinute"]["sum"].as_i64().unwrap()
        };
        commit(&caller, "g", "T", 0, 1).await;
        commit(&caller, "g", "T", 1, 2).await;
        let pause = world.clock.mono() + Duration::from_millis(20);
        world.clock.sleep_until(pause).await;
        let said = value(&caller.call(Command::request(request::GET_BROKER_RUNTIME_INFO)).await);
        let end: i64 = said["table"]["commitLogMaxOffset"].as_str().unwrap().parse().unwrap();
        // Five records of one size; the third is the next one of queue 0.
        assert_eq!(behind("GROUP_GET_FALL_SIZE", 0).await, end / 5 * 3);
        assert!(behind("GROUP_GET_FALL_TIME", 0).await >= 20);
        assert_eq!(behind("GROUP_GET_FALL_SIZE", 1).await, 0);
        assert_eq!(behind("GROUP_GET_FALL_TIME", 1).await, 0);
        broker.shutdown().await;
    });
}

#[test]
fn a_configuration_change_takes_effect_and_stands_in_the_file() {
    block_on(async {
        let world = World::new();
        let path = world.dir.path().join("broker.conf").to_str().unwrap().to_owned();
        let before = "# mine\nbrokerName=broker-a\ntraceOn=true\n";
        disk::replace_small(&*world.disk, &path, before.as_bytes()).await.unwrap();
        let raw = RawConfig::parse(Program::Broker, "broker.conf", before.as_bytes()).unwrap();
        let machine = Machine { local_address: "127.0.0.1".to_owned(), ..Machine::default() };
        let config = LiveConfig::new(raw, machine, Some(path.clone()));
        let mut parts = world.parts();
        parts.configuration = Some(Arc::new(config));
        let broker = world.start(parts).await;
        let caller = world.caller(&broker);
        let sent = caller.send("T", 0, "", "one").await;
        assert_eq!(sent.get("TRACE_ON"), Some("true"));
        let change =
            |text: &str| Command::request(request::UPDATE_BROKER_CONFIG).with_body(text.to_owned());
        let answer = caller.call(change("traceOn=false\nautoCreateTopicEnable=false")).await;
        assert_eq!((answer.code, answer.remark), (code::SUCCESS, None));
        let file = || {
            let bytes = disk::read_small(&*world.disk, &path, 1 << 20).unwrap();
            String::from_utf8(bytes.to_vec()).unwrap()
        };
        let after = "# mine\nbrokerName=broker-a\ntraceOn=false\nautoCreateTopicEnable=false\n";
        assert_eq!(file(), after);
        let sent = caller.send("T", 0, "", "two").await;
        assert_eq!(sent.get("TRACE_ON"), Some("false"));
        assert_eq!(caller.send("New", 0, "", "three").await.code, code::TOPIC_NOT_EXIST);

        let answer = caller.call(change("traceOn=true\nbrokerPermission=12")).await;
        let remark = answer.remark.unwrap();
        assert!(answer.code == 1 && remark.contains("brokerPermission"), "{remark}");
        assert_eq!(file(), after, "nothing was changed");
        let answer = caller.call(Command::request(request::GET_BROKER_CONFIG)).await;
        assert!(text(&answer).contains("\ntraceOn=false\n"));
        assert!(answer.get("version").unwrap().starts_with("{\"counter\":1,\"timestamp\":"));

        // Without write permission nothing can be sent back, without read nothing pulled.
        assert_eq!(caller.call(change("brokerPermission=2")).await.code, code::SUCCESS);
        caller.heartbeat("g", "T", 1).await;
        assert_eq!(caller.pull("T", 0, 0, 0).await.code, code::NO_PERMISSION);
        world.disk.remove(&path).unwrap();
        let answer = caller.call(change("brokerPermission=6")).await;
        assert!(answer.code == 1 && answer.remark.unwrap().contains("nothing was changed: write"));
        broker.shutdown().await;
    });
}

#[test]
fn a_broker_without_a_configuration_says_so() {
    block_on(async {
        let world = World::new();
        let broker = world.start(world.parts()).await;
        let caller = world.caller(&broker);
        let answer = caller.call(Command::request(request::GET_BROKER_CONFIG)).await;
        assert_eq!(answer.code, code::SYSTEM_ERROR);
        broker.shutdown().await;
    });
}

#[test]
fn groups_whose_members_disagree_and_members_without_a_queue_are_counted() {
    block_on(async {
        let world = World::new();
        let (broker, caller) = two_queues(&world).await;
        let members = [(); 3].map(|()| world.caller(&broker));
        for member in &members {
            member.heartbeat("g", "T", 1).await;
        }
        let count = async |name: &str| {
            let said = caller.call(Command::request(request::GET_BROKER_RUNTIME_INFO)).await;
            value(&said)["table"][name].as_str().unwrap().to_owned()
        };
        assert_eq!(count("consumersWithoutQueue").await, "1", "two queues, three members");
        assert_eq!(count("groupsWithMixedSubscriptions").await, "0");
        members[0].heartbeat("g", "U", 2).await;
        assert_eq!(count("groupsWithMixedSubscriptions").await, "1");
        members[0].heartbeat("g", "T", 3).await;
        assert_eq!(count("groupsWithMixedSubscriptions").await, "0");
        broker.shutdown().await;
    });
}

#[test]
fn every_number_that_tools_read_of_the_runtime_info_is_there() {
    block_on(async {
        let world = World::new();
        let broker = world.start(world.parts()).await;
        let caller = world.caller(&broker);
        let said = value(&caller.call(Command::request(request::GET_BROKER_RUNTIME_INFO)).await);
        for name in [
            "dispatchMaxBuffer",
            "getMessageEntireTimeMax",
            "pullThreadPoolQueueCapacity",
            "putMessageEntireTimeMax",
            "queryThreadPoolQueueCapacity",
            "queryThreadPoolQueueHeadWaitTimeMills",
            "queryThreadPoolQueueSize",
            "remainTransientStoreBufferNumbs",
            "sendThreadPoolQueueCapacity",
        ] {
            let number = said["table"][name].as_str().unwrap_or(name);
            assert!(number.parse::<u64>().is_ok(), "{name}: {number}");
        }
        let capacity = said["table"]["commitLogDirCapacity"].as_str().unwrap();
        let words: Vec<&str> = capacity.split(' ').collect();
        assert_eq!([words[0], words[1], words[4], words[5]], ["Total", ":", "Free", ":"]);
        assert!(words[2].parse::<f64>().unwrap() > 0.0 && words[3].ends_with("B,"), "{capacity}");
        broker.shutdown().await;
    });
}

#[test]
fn a_queue_that_stands_still_is_counted_and_named_until_it_moves() {
    block_on(async {
        let world = World::new();
        let mut parts = world.parts();
        parts.broker.topics.default_queues = 2;
        parts.broker.stuck_queue_after = Duration::from_millis(300);
        let broker = world.start(parts).await;
        let caller = world.caller(&broker);
        for n in 0..6 {
            caller.send("T", n % 2, "", "body").await;
        }
        let member = world.caller(&broker);
        member.heartbeat("g", "T", 1).await;
        commit(&member, "g", "T", 0, 1).await;
        commit(&member, "g", "T", 1, 3).await;
        commit(&member, "nobody", "T", 0, 1).await;
        let pause = async || {
            world.clock.sleep_until(world.clock.mono() + Duration::from_millis(100)).await;
        };
        let row = async |name: &str| {
            let said = caller.call(Command::request(request::GET_BROKER_RUNTIME_INFO)).await;
            value(&said)["table"][name].as_str().map(str::to_owned)
        };
        while row("stuckQueues").await.as_deref() != Some("1") {
            pause().await;
        }
        assert_eq!(row("stuckQueuesFirst").await.as_deref(), Some("g@T@0"));
        commit(&member, "g", "T", 0, 3).await;
        while row("stuckQueues").await.as_deref() != Some("0") {
            pause().await;
        }
        assert_eq!(row("stuckQueuesFirst").await, None);
        broker.shutdown().await;
    });
}

/// On a slow disk a stop takes long, and commits are taken until the connections close.
#[test]
fn a_queue_that_moves_while_the_broker_stops_is_not_called_stuck() {
    block_on(async {
        let disk = Arc::new(FaultyDisk::new(Arc::new(RealDisk::new())));
        let world = World::on(disk.clone());
        let mut parts = world.parts();
        parts.store.flush_interval = Duration::from_secs(60);
        parts.broker.stuck_queue_after = Duration::from_millis(300);
        let broker = world.start(parts).await;
        let caller = world.caller(&broker);
        caller.send("T", 0, "", "body").await;
        caller.heartbeat("g", "T", 1).await;
        commit(&caller, "g", "T", 0, 0).await;
        let until = world.clock.mono() + Duration::from_secs(10);
        let count_is = async |wanted: &str| loop {
            let said = caller.call(Command::request(request::GET_BROKER_RUNTIME_INFO)).await;
            if value(&said)["table"]["stuckQueues"] == wanted {
                break;
            }
            assert!(world.clock.mono() < until, "{said:?}");
            world.clock.sleep_until(world.clock.mono() + Duration::from_millis(20)).await;
        };
        count_is("1").await;
        disk.hold(Call::Sync);
        let group = TaskGroup::new();
        group.spawn(broker.shutdown());
        while caller.send("T", 0, "", "late").await.code == code::SUCCESS {}
        // The loops that end first have ended.
        world.clock.sleep_until(world.clock.mono() + Duration::from_millis(300)).await;
        commit(&caller, "g", "T", 0, 1).await;
        count_is("0").await;
        disk.release();
        assert_eq!(group.shutdown(&world.clock, until).await, 0);
    });
}
