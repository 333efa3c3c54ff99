//! A message is answered: the answer is pushed to who asked, and stored.

use super::broker::{World, send_request};
use super::call::{Consumer, Manner};
use hotfire::format::message_unit;
use hotfire::format::properties::Properties;
use hotfire::protocol::Command;
use hotfire::protocol::code::{request_code as request, response_code as code};
use hotfire::remoting::ConnectionOptions;
use hotfire::rt::block_on;
use hotfire::rt::task::all;
use std::pin::Pin;

const TOPIC: &str = "DefaultCluster_REPLY_TOPIC";

fn reply(to: &str, body: &str) -> Command {
    let properties =
        format!("MSG_TYPE\u{1}reply\u{2}CORRELATION_ID\u{1}c7\u{2}REPLY_TO_CLIENT\u{1}{to}\u{2}");
    let mut request = send_request(TOPIC, 0, &properties, body);
    request.code = request::SEND_REPLY_MESSAGE_V2;
    request
}

#[test]
fn a_reply_reaches_the_client_that_asked_as_it_was_sent_and_is_stored() {
    block_on(async {
        let world = World::new();
        let broker = world.start(world.parts()).await;
        let asker = Consumer::producer(&world, &broker, Manner::Answers, "asker").await;
        let caller = world.caller(&broker);
        // Bit 0: the body is compressed. It goes through as it is.
        let answer = caller.call(reply("asker", "zipped").with_ext("f", 1)).await;
        assert_eq!((answer.code, answer.get("queueId")), (code::SUCCESS, Some("0")));
        assert_eq!((answer.get("queueOffset"), answer.get("TRACE_ON")), (Some("0"), Some("true")));
        assert_eq!(answer.get("msgId").map(str::len), Some(32));
        let push = asker.asked().await;
        assert_eq!(push.code, request::PUSH_REPLY_MESSAGE_TO_CLIENT);
        assert_eq!(&*push.body, b"zipped");
        let fields = ["topic", "sysFlag", "queueId", "flag", "bornTimestamp"];
        let fields = fields.map(|name| push.get(name).unwrap());
        assert_eq!(fields, [TOPIC, "1", "0", "5", "1700000000000"]);
        assert!(push.get("bornHost").unwrap().starts_with("/127.0.0.1:"));
        assert_eq!(push.get("storeHost").unwrap(), format!("/{}", broker.local_addr()));
        let properties = Properties::parse(push.get("properties").unwrap().as_bytes());
        assert_eq!(properties.get("CORRELATION_ID"), Some("c7"));
        assert!(properties.get("PUSH_REPLY_TIME").unwrap().parse::<i64>().unwrap() > 0);
        // The answer does not wait until it is stored.
        let stored = caller.pull(TOPIC, 0, 0, 10_000).await;
        let stored = message_unit::delivered(&stored.body).next().unwrap().unwrap();
        assert_eq!((stored.body(), stored.sys_flag()), (b"zipped".as_slice(), 1));
        let kept = Properties::parse(stored.properties());
        assert_eq!((kept.get("CORRELATION_ID"), kept.get("PUSH_REPLY_TIME")), (Some("c7"), None));

        let mut long = send_request(TOPIC, 0, "", "x");
        long.code = request::SEND_REPLY_MESSAGE;
        let names = [
            "producerGroup",
            "topic",
            "defaultTopic",
            "defaultTopicQueueNums",
            "queueId",
            "sysFlag",
            "bornTimestamp",
            "flag",
            "properties",
            "reconsumeTimes",
        ];
        long.ext = names
            .into_iter()
            .zip("abcdefghij".chars())
            .map(|(name, letter)| {
                let value = reply("asker", "").get(&letter.to_string()).unwrap().to_owned();
                (name.to_owned(), value)
            })
            .collect();
        assert_eq!(caller.call(long).await.code, code::SUCCESS);
        assert_eq!(&*asker.asked().await.body, b"x");
        broker.shutdown().await;
    });
}

#[test]
fn a_reply_that_nobody_takes_is_refused_and_stored_all_the_same() {
    block_on(async {
        let world = World::new();
        let broker = world.start(world.parts()).await;
        let caller = world.caller(&broker);
        let _dying = Consumer::producer(&world, &broker, Manner::Dies, "dying").await;
        for (to, remark, stored) in [
            ("nobody", "push reply message fail, channel of <nobody> not found.", "0"),
            ("dying", "push reply message to dyingfail.", "1"),
        ] {
            let answer = caller.call(reply(to, "body")).await;
            assert_eq!((answer.code, answer.remark.as_deref()), (1, Some(remark)));
            assert_eq!(answer.get("queueOffset"), Some(stored));
        }
        let mut nowhere = reply("", "body");
        nowhere.set_ext("i", String::new());
        let answer = caller.call(nowhere).await;
        assert!(answer.code == 1 && answer.remark.unwrap().ends_with("[REPLY_TO_CLIENT] is null"));
        // A topic of its own is made as by any send.
        let mut other = reply("nobody", "body");
        other.set_ext("b", "Elsewhere".to_owned());
        assert_eq!(caller.call(other).await.get("queueOffset"), Some("0"));
        broker.shutdown().await;

        let mut parts = world.parts();
        parts.broker.store_replies = false;
        let broker = world.start(parts).await;
        let _asker = Consumer::producer(&world, &broker, Manner::Answers, "asker").await;
        let answer = world.caller(&broker).call(reply("asker", "body")).await;
        assert_eq!((answer.code, answer.get("msgId")), (code::SUCCESS, Some("0")));
        assert_eq!(world.caller(&broker).number(request::GET_MAX_OFFSET, TOPIC, 0).await, "3");
        broker.shutdown().await;
    });
}

/// A process that asks and answers has one connection: its answers to the pushes must be read
/// while its own requests wait for them.
#[test]
fn a_client_may_answer_itself_more_often_than_it_may_have_rare_requests() {
    block_on(async {
        let world = World::new();
        let mut parts = world.parts();
        let connection = ConnectionOptions { running_count_max: 1, ..ConnectionOptions::default() };
        parts.server.connection = connection;
        let broker = world.start(parts).await;
        let own = Consumer::producer(&world, &broker, Manner::Answers, "own").await;
        let calls = (0..20).map(|n| {
            let caller = own.handle();
            let call: Pin<Box<dyn Future<Output = i32> + Send>> =
                Box::pin(async move { caller.call(reply("own", &format!("{n}"))).await.code });
            call
        });
        let codes = all(calls.collect()).await;
        assert_eq!(codes, vec![code::SUCCESS; 20]);
        broker.shutdown().await;
    });
}

#[test]
fn a_reply_enters_no_topic_that_is_closed_to_sends() {
    block_on(async {
        let world = World::new();
        let broker = world.start(world.parts()).await;
        let _asker = Consumer::producer(&world, &broker, Manner::Answers, "asker").await;
        let caller = world.caller(&broker);
        for topic in
            ["SCHEDULE_TOPIC_XXXX", "RMQ_SYS_TRANS_HALF_TOPIC", "RMQ_SYS_TRANS_OP_HALF_TOPIC"]
        {
            let mut request = reply("asker", "0");
            request.ext.retain(|(name, _)| name != "b");
            let answer = caller.call(request.with_ext("b", topic)).await;
            assert_ne!(answer.code, code::SUCCESS, "{topic}");
            assert_eq!(caller.number(request::GET_MAX_OFFSET, topic, 0).await, "0", "{topic}");
        }
        broker.shutdown().await;
    });
}

#[test]
fn a_stored_reply_keeps_no_bit_of_its_flag_but_the_compression() {
    block_on(async {
        let world = World::new();
        let broker = world.start(world.parts()).await;
        let caller = world.caller(&broker);
        // All bits: as a half message that is rolled back it would enter no queue.
        for stored in ["0", "1"] {
            let answer = caller.call(reply("nobody", "x").with_ext("f", i32::MAX)).await;
            assert_eq!(answer.get("queueOffset"), Some(stored));
        }
        let stored = caller.pull(TOPIC, 0, 0, 10_000).await;
        let flags: Vec<i32> =
            message_unit::delivered(&stored.body).map(|view| view.unwrap().sys_flag()).collect();
        assert_eq!(flags, [1, 1]);
        broker.shutdown().await;
    });
}
