//! What the broker asks its clients for others: where they are, what they run, a message now, and
//! the reset of their offsets.

use super::broker::{Caller, World};
use bytes::Bytes;
use hotfire::broker::Broker;
use hotfire::format::message_unit;
use hotfire::protocol::code::{request_code as request, response_code as code};
use hotfire::protocol::frame::Serialize;
use hotfire::protocol::{Command, Language};
use hotfire::remoting::{Client, ClientOptions, ClientRequests, Peer};
use hotfire::rt::block_on;
use hotfire::rt::sync::{Mutex, Notify};
use hotfire::rt::time::Duration;
use std::sync::Arc;

/// How a consumer behaves when the broker asks it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    Answers,
    Dies,
    Silent,
}

/// One consumer process.
pub(super) struct Consumer {
    client: Client,
    addr: String,
    ear: Arc<Ear>,
}

struct Ear {
    manner: Manner,
    body: Mutex<Bytes>,
    asked: Mutex<Vec<Command>>,
    came: Notify,
}

impl ClientRequests for Ear {
    fn on_request(&self, peer: &Peer, request: Command) {
        let opaque = request.opaque;
        let is_oneway = request.is_oneway();
        if request.code == request::NOTIFY_CONSUMER_IDS_CHANGED {
            return;
        }
        self.asked.lock().push(request);
        self.came.notify_one();
        match self.manner {
            Manner::Answers if !is_oneway => {
                let answer = Command::reply(opaque, code::SUCCESS)
                    .with_remark("as asked")
                    .with_ext("own", "field")
                    .with_body(self.body.lock().clone());
                peer.with_outbox(|out| answer.encode(Serialize::Json, out));
            }
            Manner::Dies => peer.close("it dies"),
            Manner::Answers | Manner::Silent => {}
        }
    }
}

impl Consumer {
    fn new(world: &World, broker: &Broker, manner: Manner) -> Consumer {
        let (body, asked) = (Mutex::new(Bytes::new()), Mutex::new(Vec::new()));
        let ear = Arc::new(Ear { manner, body, asked, came: Notify::new() });
        let requests = Some(ear.clone() as Arc<dyn ClientRequests>);
        let client =
            Client::new(&world.net, &world.clock, &world.group, ClientOptions::default(), requests);
        Consumer { client, addr: broker.local_addr().to_string(), ear }
    }

    /// The same process once more.
    pub(super) fn handle(&self) -> Consumer {
        let (client, addr, ear) = (self.client.clone(), self.addr.clone(), self.ear.clone());
        Consumer { client, addr, ear }
    }

    /// A client that sends, and may wait for answers.
    pub(super) async fn producer(
        world: &World,
        broker: &Broker,
        manner: Manner,
        id: &str,
    ) -> Consumer {
        let producer = Consumer::new(world, broker, manner);
        let body =
            format!("{{\"clientID\":\"{id}\",\"producerDataSet\":[{{\"groupName\":\"p\"}}]}}");
        let beat = Command::request(request::HEART_BEAT).with_body(body);
        assert_eq!(producer.call(beat).await.code, code::SUCCESS);
        producer
    }

    pub(super) async fn join(
        world: &World,
        broker: &Broker,
        manner: Manner,
        id: &str,
        version: i32,
    ) -> Consumer {
        let consumer = Consumer::new(world, broker, manner);
        let body = format!(
            r#"{{"clientID":"{id}","consumerDataSet":[{{"groupName":"g","consumeType":
            "CONSUME_PASSIVELY","messageModel":"CLUSTERING","subscriptionDataSet":[{{"topic":"T",
            "subString":"*","subVersion":1}}]}}]}}"#
        );
        let mut beat = Command::request(request::HEART_BEAT).with_body(body);
        beat.version = version;
        assert_eq!(consumer.call(beat).await.code, code::SUCCESS);
        consumer
    }

    pub(super) async fn call(&self, request: Command) -> Command {
        self.client.invoke(&self.addr, request, super::broker::TIMEOUT).await.unwrap()
    }

    fn says(&self, body: &str) {
        *self.ear.body.lock() = Bytes::copy_from_slice(body.as_bytes());
    }

    /// What it was asked, once that is there.
    pub(super) async fn asked(&self) -> Command {
        loop {
            let came = self.ear.came.notified();
            if let Some(command) = self.ear.asked.lock().pop() {
                return command;
            }
            came.await;
        }
    }
}

fn info_of(client: &str) -> Command {
    Command::request(request::GET_CONSUMER_RUNNING_INFO)
        .with_ext("consumerGroup", "g")
        .with_ext("clientId", client)
        .with_ext("jstackEnable", "true")
}

#[test]
fn a_running_info_is_asked_of_the_client_and_its_whole_answer_passed_on() {
    block_on(async {
        let world = World::new();
        let broker = world.start(world.parts()).await;
        let caller = world.caller(&broker);
        let consumer = Consumer::join(&world, &broker, Manner::Answers, "one", 399).await;
        consumer.says("{\"jstack\":\"here\"}");
        let answer = caller.call(info_of("one")).await;
        assert_eq!((answer.code, answer.get("own")), (code::SUCCESS, Some("field")));
        assert_eq!(answer.remark.as_deref(), Some("as asked"));
        assert_eq!(answer.body, "{\"jstack\":\"here\"}");
        let asked = consumer.asked().await;
        assert_eq!(asked.code, request::GET_CONSUMER_RUNNING_INFO);
        let fields = ["consumerGroup", "clientId", "jstackEnable"].map(|name| asked.get(name));
        assert_eq!(fields, [Some("g"), Some("one"), Some("true")]);

        let answer = caller.call(info_of("nobody")).await;
        let remark = answer.remark.unwrap();
        assert_eq!((answer.code, &*remark), (1, "The Consumer <g> <nobody> not online"));
        Consumer::join(&world, &broker, Manner::Answers, "old", 61).await;
        let answer = caller.call(info_of("old")).await;
        assert!(answer.code == 1 && answer.remark.unwrap().contains("too low to finish"));
        broker.shutdown().await;
    });
}

/// The code is that of 4.9.3, which gives it when its 10 s are over.
#[test]
fn a_client_that_dies_while_it_is_asked_is_a_timeout_at_once() {
    block_on(async {
        let world = World::new();
        let broker = world.start(world.parts()).await;
        let caller = world.caller(&broker);
        let _consumer = Consumer::join(&world, &broker, Manner::Dies, "one", 399).await;
        let begun = world.clock.mono();
        let answer = caller.call(info_of("one")).await;
        assert_eq!(answer.code, code::CONSUME_MSG_TIMEOUT, "{answer:?}");
        assert!(answer.remark.unwrap().starts_with("consumer <g> <one> Timeout: "));
        assert!(world.clock.mono().since(begun) < Duration::from_secs(5));
        broker.shutdown().await;
    });
}

#[test]
fn calls_are_bounded_and_a_stop_answers_those_who_wait() {
    block_on(async {
        let world = World::new();
        let mut parts = world.parts();
        parts.broker.limits.client_calls_max = 1;
        let broker = world.start(parts).await;
        let caller = world.caller(&broker);
        let consumer = Consumer::join(&world, &broker, Manner::Silent, "one", 399).await;
        let stop = async {
            consumer.asked().await;
            let answer = caller.call(info_of("one")).await;
            assert_eq!(answer.code, code::SYSTEM_BUSY, "{answer:?}");
            broker.shutdown().await;
        };
        let calls = async { caller.call(info_of("one")).await };
        let (answer, ()) = both(calls, stop).await;
        assert_eq!(answer.code, code::SERVICE_NOT_AVAILABLE, "{answer:?}");
    });
}

/// Both to their end, side by side.
pub(super) async fn both<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (Box::pin(a), Box::pin(b));
    let (mut left, mut right) = (None, None);
    std::future::poll_fn(move |context| {
        use std::task::Poll;
        if left.is_none()
            && let Poll::Ready(value) = a.as_mut().poll(context)
        {
            left = Some(value);
        }
        if right.is_none()
            && let Poll::Ready(value) = b.as_mut().poll(context)
        {
            right = Some(value);
        }
        match left.is_some() && right.is_some() {
            true => Poll::Ready((left.take().unwrap(), right.take().unwrap())),
            false => Poll::Pending,
        }
    })
    .await
}

#[test]
fn a_message_is_given_to_one_consumer_at_once() {
    block_on(async {
        let world = World::new();
        let broker = world.start(world.parts()).await;
        let caller = world.caller(&broker);
        let sent = caller.send("T", 1, "", "here you are").await;
        let id = sent.get("msgId").unwrap().to_owned();
        let consumer = Consumer::join(&world, &broker, Manner::Answers, "one", 399).await;
        consumer.says("{\"consumeResult\":\"CR_SUCCESS\"}");
        let ask = |id: &str| {
            Command::request(request::CONSUME_MESSAGE_DIRECTLY)
                .with_ext("consumerGroup", "g")
                .with_ext("clientId", "one")
                .with_ext("msgId", id)
        };
        let answer = caller.call(ask(&id)).await;
        assert_eq!(
            (answer.code, &*answer.body),
            (0, b"{\"consumeResult\":\"CR_SUCCESS\"}".as_slice())
        );
        let asked = consumer.asked().await;
        let fields = ["msgId", "brokerName"].map(|name| asked.get(name));
        assert_eq!(fields, [Some(&*id), Some("broker-a")]);
        let message = message_unit::delivered(&asked.body).next().unwrap().unwrap();
        assert_eq!((message.topic(), message.body()), ("T", b"here you are".as_slice()));

        let beyond = format!("{}{:016X}", &id[..16], 7);
        for wrong in [&*beyond, "", "no id"] {
            let answer = caller.call(ask(wrong)).await;
            assert_eq!(answer.code, code::SYSTEM_ERROR, "{wrong}: {answer:?}");
        }
        assert!(consumer.ear.asked.lock().is_empty(), "only what is there is given");
        broker.shutdown().await;
    });
}

fn reset(timestamp: i64, is_force: bool) -> Command {
    Command::request(request::INVOKE_BROKER_TO_RESET_OFFSET)
        .with_ext("topic", "T")
        .with_ext("group", "g")
        .with_ext("timestamp", timestamp)
        .with_ext("isForce", is_force)
}

async fn commit(caller: &Caller, queue: i32, offset: i64) {
    let commit = Command::request(request::UPDATE_CONSUMER_OFFSET)
        .with_ext("consumerGroup", "g")
        .with_ext("topic", "T")
        .with_ext("queueId", queue)
        .with_ext("commitOffset", offset);
    assert_eq!(caller.call(commit).await.code, code::SUCCESS);
}

fn table(offsets: [i64; 2]) -> String {
    let row = |queue: usize| {
        format!(
            "{{\"brokerName\":\"broker-a\",\"queueId\":{queue},\"topic\":\"T\"}}:{}",
            offsets[queue]
        )
    };
    format!("{{\"offsetTable\":{{{},{}}}}}", row(0), row(1))
}

#[test]
fn a_reset_by_time_is_told_to_every_member_and_goes_forward_only_when_forced() {
    block_on(async {
        let world = World::new();
        let mut parts = world.parts();
        parts.broker.topics.default_queues = 2;
        let broker = world.start(parts).await;
        let caller = world.caller(&broker);
        for n in 0..6 {
            caller.send("T", n % 2, "", "before").await;
        }
        let pause = world.clock.mono() + Duration::from_millis(20);
        world.clock.sleep_until(pause).await;
        let between = world.clock.wall().0;
        for n in 0..4 {
            caller.send("T", n % 2, "", "after").await;
        }
        let one = Consumer::join(&world, &broker, Manner::Silent, "one", 399).await;
        let two = Consumer::join(&world, &broker, Manner::Silent, "two", 399).await;
        let answer = caller.call(reset(between, false)).await;
        assert_eq!(
            (answer.code, &*answer.remark.unwrap()),
            (1, "THe consumer group <g> not exist")
        );
        commit(&caller, 0, 5).await;
        commit(&caller, 1, 1).await;
        for (at, is_force, want) in [
            (between, false, [3, 1]),
            (between, true, [3, 3]),
            (-1, false, [5, 1]),
            (-1, true, [5, 5]),
            (0, true, [0, 0]),
        ] {
            let answer = caller.call(reset(at, is_force)).await;
            assert_eq!(
                (answer.code, &*answer.body),
                (0, table(want).as_bytes()),
                "{at} {is_force}"
            );
            for consumer in [&one, &two] {
                let asked = consumer.asked().await;
                assert!(asked.is_oneway() && asked.code == request::RESET_CONSUMER_CLIENT_OFFSET);
                let fields = ["topic", "group", "timestamp", "isForce"].map(|n| asked.get(n));
                let at = at.to_string();
                assert_eq!(fields, [Some("T"), Some("g"), Some(&*at), Some("false")]);
                assert_eq!(&*asked.body, table(want).as_bytes());
            }
        }
        let mut from_cpp = reset(0, true);
        from_cpp.language = Language::Cpp;
        let answer = caller.call(from_cpp).await;
        assert_eq!(&*answer.body, table([0, 0]).as_bytes(), "the answer is no list");
        let list = String::from_utf8(one.asked().await.body.to_vec()).unwrap();
        assert!(list.starts_with("{\"offsetTable\":[{\"brokerName\":\"broker-a\",\"offset\":0,"));
        broker.shutdown().await;
    });
}

#[test]
fn a_reset_without_a_member_a_topic_or_an_offset_says_so_and_changes_nothing() {
    block_on(async {
        let world = World::new();
        let mut parts = world.parts();
        parts.broker.topics.default_queues = 1;
        let broker = world.start(parts).await;
        let caller = world.caller(&broker);
        let answer = caller.call(reset(-1, true)).await;
        assert!(answer.code == 1 && answer.remark.unwrap().contains("no topic in this broker"));
        caller.send("T", 0, "", "one").await;
        commit(&caller, 0, 1).await;
        let answer = caller.call(reset(0, true)).await;
        assert_eq!(answer.code, code::CONSUMER_NOT_ONLINE);
        let query = Command::request(request::QUERY_CONSUMER_OFFSET)
            .with_ext("consumerGroup", "g")
            .with_ext("topic", "T")
            .with_ext("queueId", 0);
        assert_eq!(caller.call(query).await.get("offset"), Some("1"));
        let new = Consumer::join(&world, &broker, Manner::Silent, "new", 399).await;
        let _old = Consumer::join(&world, &broker, Manner::Silent, "old", 27).await;
        let answer = caller.call(reset(0, true)).await;
        assert!(answer.code == 1 && answer.remark.unwrap().contains("does not support"));
        assert!(new.ear.asked.lock().is_empty());
        broker.shutdown().await;
    });
}

#[test]
fn every_member_is_asked_where_it_is_and_one_that_dies_is_left_out() {
    block_on(async {
        let world = World::new();
        let broker = world.start(world.parts()).await;
        let caller = world.caller(&broker);
        let ask = |client: &str| {
            Command::request(request::INVOKE_BROKER_TO_GET_CONSUMER_STATUS)
                .with_ext("topic", "T")
                .with_ext("group", "g")
                .with_ext("clientAddr", client)
        };
        assert_eq!(caller.call(ask("")).await.code, code::SYSTEM_ERROR, "nobody is there");
        let one = Consumer::join(&world, &broker, Manner::Answers, "one", 399).await;
        let two = Consumer::join(&world, &broker, Manner::Answers, "two", 399).await;
        let _three = Consumer::join(&world, &broker, Manner::Dies, "three", 399).await;
        let key = "{\"brokerName\":\"broker-a\",\"queueId\":0,\"topic\":\"T\"}";
        for (consumer, offset) in [(&one, 3), (&two, 4)] {
            let said =
                format!("{{\"consumerTable\":{{}},\"messageQueueTable\":{{{key}:{offset}}}}}");
            consumer.says(&said);
        }
        let answer = caller.call(ask("two")).await;
        let want =
            |rows: &str| format!("{{\"consumerTable\":{{{rows}}},\"messageQueueTable\":{{}}}}");
        assert_eq!(&*answer.body, want(&format!("\"two\":{{{key}:4}}")).as_bytes());
        let asked = two.asked().await;
        assert_eq!(asked.code, request::GET_CONSUMER_STATUS_FROM_CLIENT);
        assert_eq!((asked.get("topic"), asked.get("group")), (Some("T"), Some("g")));
        let answer = caller.call(ask(" ")).await;
        let rows = format!("\"one\":{{{key}:3}},\"two\":{{{key}:4}}");
        assert_eq!(&*answer.body, want(&rows).as_bytes());
        broker.shutdown().await;
    });
}

#[test]
fn a_queue_is_locked_by_client_id_for_its_lease_and_free_again_after_it() {
    block_on(async {
        let world = World::new();
        let mut parts = world.parts();
        parts.broker.queue_lock_lifetime = Duration::from_millis(400);
        let broker = world.start(parts).await;
        let (one, other) = (world.caller(&broker), world.caller(&broker));
        let ask = |code: i32, client: &str, queues: &str| {
            let body = format!(
                "{{\"consumerGroup\":\"g\",\"clientId\":\"{client}\",\"mqSet\":[{queues}]}}"
            );
            Command::request(code).with_body(body)
        };
        let queue =
            |id: u32| format!("{{\"brokerName\":\"broker-a\",\"queueId\":{id},\"topic\":\"T\"}}");
        let both = format!("{},{}", queue(0), queue(1));
        let (lock, unlock) = (request::LOCK_BATCH_MQ, request::UNLOCK_BATCH_MQ);
        let held = |queues: &str| format!("{{\"lockOKMQSet\":[{queues}]}}");
        assert_eq!(&*one.call(ask(lock, "a", &both)).await.body, held(&both).as_bytes());
        // The same client on another connection has them, another client has none.
        assert_eq!(&*other.call(ask(lock, "a", &both)).await.body, held(&both).as_bytes());
        assert_eq!(&*other.call(ask(lock, "b", &both)).await.body, held("").as_bytes());
        assert_eq!(other.call(ask(unlock, "b", &both)).await.code, code::SUCCESS);
        assert_eq!(&*other.call(ask(lock, "b", &both)).await.body, held("").as_bytes());
        assert_eq!(one.call(ask(unlock, "a", &queue(1))).await.code, code::SUCCESS);
        assert_eq!(&*other.call(ask(lock, "b", &both)).await.body, held(&queue(1)).as_bytes());
        let begun = world.clock.mono();
        while world.clock.mono().since(begun) < Duration::from_millis(600) {
            // Whoever renews keeps it past its lease.
            let renewed = one.call(ask(lock, "a", &queue(0))).await;
            assert_eq!(&*renewed.body, held(&queue(0)).as_bytes());
            let pause = world.clock.mono() + Duration::from_millis(50);
            world.clock.sleep_until(pause).await;
        }
        assert_eq!(&*one.call(ask(lock, "a", &both)).await.body, held(&both).as_bytes());
        broker.shutdown().await;
    });
}
