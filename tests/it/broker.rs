//! A real broker on a real disk and loopback, spoken to as a client speaks.

use bytes::Bytes;
use hotfire::broker::{Broker, Deps, Error, Options, Parts};
use hotfire::disk::Disk;
use hotfire::disk::real::RealDisk;
use hotfire::namesrv::{self, Namesrv};
use hotfire::net::Net;
use hotfire::net::tcp::TcpNet;
use hotfire::protocol::Command;
use hotfire::protocol::code::{request_code as request, response_code as code};
use hotfire::remoting::{Client, ClientOptions, ClientRequests, Peer, ServerOptions};
use hotfire::rt::block_on;
use hotfire::rt::rng::Rng;
use hotfire::rt::sync::{Mutex, Notify};
use hotfire::rt::task::TaskGroup;
use hotfire::rt::time::{Clock, Duration};
use hotfire::store;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct World {
    pub dir: tempfile::TempDir,
    pub disk: Arc<dyn Disk>,
    pub net: Arc<dyn Net>,
    pub clock: Clock,
    pub group: TaskGroup,
}

impl World {
    pub fn new() -> Self {
        World::on(Arc::new(RealDisk::new()))
    }

    pub fn on(disk: Arc<dyn Disk>) -> Self {
        World {
            dir: tempfile::tempdir().unwrap(),
            disk,
            net: Arc::new(TcpNet::default()),
            clock: Clock::new(),
            group: TaskGroup::new(),
        }
    }

    pub fn parts(&self) -> Parts {
        let root = self.dir.path().to_str().unwrap().to_owned();
        let mut store = store::Options::new(&root);
        store.segment_size_bytes = 4 << 20;
        let broker = Options {
            root,
            bind_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            listen_port: 0,
            ..Options::default()
        };
        let (server, client) = (ServerOptions::default(), ClientOptions::default());
        Parts { broker, store, server, client, configuration: None }
    }

    pub async fn name_server(&self) -> Namesrv {
        let path = self.dir.path().join("kvConfig.json");
        let options = namesrv::Options {
            listen: "127.0.0.1:0".parse().unwrap(),
            kv_config_path: path.to_str().unwrap().to_owned(),
            ..namesrv::Options::default()
        };
        let disk = self.disk.clone();
        Namesrv::start(disk, &self.net, &self.clock, &self.group, options).await.unwrap()
    }

    /// The parts of a broker that registers there.
    pub fn parts_at(&self, names: &Namesrv) -> Parts {
        let mut parts = self.parts();
        parts.broker.name_servers = vec![names.local_addr().unwrap().to_string()];
        parts
    }

    pub async fn start(&self, parts: Parts) -> Broker {
        self.try_start(parts).await.unwrap()
    }

    pub async fn try_start(&self, parts: Parts) -> Result<Broker, Error> {
        let (disk, net) = (self.disk.clone(), self.net.clone());
        let deps = Deps { disk, net, clock: self.clock.clone(), rng: Rng::from_seed(7) };
        Broker::start(deps, parts).await
    }

    pub fn caller(&self, broker: &Broker) -> Caller {
        let notices = Arc::new(Notices::default());
        let options = ClientOptions::default();
        let requests = Some(notices.clone() as Arc<dyn ClientRequests>);
        let client = Client::new(&self.net, &self.clock, &self.group, options, requests);
        Caller { client, addr: broker.local_addr().to_string(), notices }
    }
}

#[derive(Default)]
struct Notices {
    seen: Mutex<Vec<(i32, String)>>,
    came: Notify,
}

impl ClientRequests for Notices {
    fn on_request(&self, _peer: &Peer, request: Command) {
        let group = request.get("consumerGroup").unwrap_or_default().to_owned();
        self.seen.lock().push((request.code, group));
        self.came.notify_one();
    }
}

/// One client process.
pub(super) struct Caller {
    pub client: Client,
    pub addr: String,
    notices: Arc<Notices>,
}

impl Caller {
    pub async fn call(&self, request: Command) -> Command {
        self.client.invoke(&self.addr, request, TIMEOUT).await.unwrap()
    }

    pub async fn send(&self, topic: &str, queue: i32, properties: &str, body: &str) -> Command {
        self.call(send_request(topic, queue, properties, body)).await
    }

    pub async fn pull(&self, topic: &str, queue: i32, offset: i64, suspend_ms: i64) -> Command {
        self.call(pull_request(topic, queue, offset, suspend_ms)).await
    }

    pub async fn number(&self, code: i32, topic: &str, queue: i32) -> String {
        let request = Command::request(code).with_ext("topic", topic).with_ext("queueId", queue);
        self.call(request).await.get("offset").unwrap().to_owned()
    }

    pub async fn heartbeat(&self, group: &str, topic: &str, version: i64) {
        let body = format!(
            "{{\"clientID\":\"{group}-client\",\"consumerDataSet\":[{{\"groupName\":\"{group}\",\
             \"consumeType\":\"CONSUME_PASSIVELY\",\"messageModel\":\"Clustering\",\
             \"consumeFromWhere\":0,\"subscriptionDataSet\":[{{\"topic\":\"{topic}\",\
             \"subString\":\"*\",\"tagsSet\":[],\"codeSet\":[],\"subVersion\":{version}}}]}}],\
             \"producerDataSet\":[{{\"groupName\":\"p\"}}]}}"
        );
        let answer = self.call(Command::request(request::HEART_BEAT).with_body(body)).await;
        assert_eq!((answer.code, answer.version), (code::SUCCESS, 399));
    }
}

pub(super) fn send_request(topic: &str, queue: i32, properties: &str, body: &str) -> Command {
    Command::request(request::SEND_MESSAGE_V2)
        .with_ext("a", "p")
        .with_ext("b", topic)
        .with_ext("c", "TBW102")
        .with_ext("d", 4)
        .with_ext("e", queue)
        .with_ext("f", 0)
        .with_ext("g", 1_700_000_000_000_i64)
        .with_ext("h", 5)
        .with_ext("i", properties)
        .with_ext("j", 0)
        .with_ext("k", false)
        .with_ext("m", false)
        .with_body(Bytes::copy_from_slice(body.as_bytes()))
}

pub(super) fn pull_request(topic: &str, queue: i32, offset: i64, suspend_ms: i64) -> Command {
    let flag = 4 | if suspend_ms > 0 { 2 } else { 0 };
    Command::request(request::PULL_MESSAGE)
        .with_ext("consumerGroup", "g")
        .with_ext("topic", topic)
        .with_ext("queueId", queue)
        .with_ext("queueOffset", offset)
        .with_ext("maxMsgNums", 32)
        .with_ext("sysFlag", flag)
        .with_ext("commitOffset", 0)
        .with_ext("suspendTimeoutMillis", suspend_ms)
        .with_ext("subscription", "*")
        .with_ext("subVersion", 0)
}

fn contains(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|window| window == part.as_bytes())
}

#[test]
fn a_sent_message_is_pulled_and_survives_a_restart() {
    block_on(async {
        let world = World::new();
        let broker = world.start(world.parts()).await;
        let caller = world.caller(&broker);
        for number in 0..3 {
            let body = format!("body {number}");
            let properties = "TAGS\u{1}TagA\u{2}WAIT\u{1}true\u{2}UNIQ_KEY\u{1}u1";
            let answer = caller.send("T", 1, properties, &body).await;
            assert_eq!((answer.code, answer.remark.as_deref()), (code::SUCCESS, None));
            assert_eq!(answer.get("queueId"), Some("1"));
            assert_eq!(answer.get("queueOffset"), Some(number.to_string().as_str()));
            assert_eq!(answer.get("msgId").map(str::len), Some(32));
            assert_eq!(answer.get("MSG_REGION"), Some("DefaultRegion"));
            assert_eq!(answer.get("TRACE_ON"), Some("true"));
        }
        let answer = caller.pull("T", 1, 0, 0).await;
        assert_eq!((answer.code, answer.remark.as_deref()), (code::SUCCESS, Some("FOUND")));
        assert_eq!(answer.get("nextBeginOffset"), Some("3"));
        assert_eq!(answer.get("maxOffset"), Some("3"));
        assert!(contains(&answer.body, "body 0") && contains(&answer.body, "body 2"));
        let stored = "TAGS\u{1}TagA\u{2}UNIQ_KEY\u{1}u1\u{2}CLUSTER\u{1}DefaultCluster";
        assert!(contains(&answer.body, stored) && !contains(&answer.body, "WAIT"));
        let commit = Command::request(request::UPDATE_CONSUMER_OFFSET)
            .with_ext("consumerGroup", "g")
            .with_ext("topic", "T")
            .with_ext("queueId", 1)
            .with_ext("commitOffset", 2);
        caller.call(commit).await;
        broker.shutdown().await;

        let broker = world.start(world.parts()).await;
        let caller = world.caller(&broker);
        assert_eq!(caller.number(request::GET_MAX_OFFSET, "T", 1).await, "3");
        assert_eq!(caller.pull("T", 1, 0, 0).await.body, answer.body);
        let query = Command::request(request::QUERY_CONSUMER_OFFSET)
            .with_ext("consumerGroup", "g")
            .with_ext("topic", "T")
            .with_ext("queueId", 1);
        assert_eq!(caller.call(query).await.get("offset"), Some("2"));
        broker.shutdown().await;
    });
}

#[test]
fn a_parked_pull_is_woken_by_a_message_and_ends_at_its_deadline_without_one() {
    block_on(async {
        let world = World::new();
        let broker = world.start(world.parts()).await;
        let caller = world.caller(&broker);
        caller.send("T", 0, "", "first").await;
        let begin = world.clock.mono();
        let answer = caller.pull("T", 0, 1, 300).await;
        let took = world.clock.mono().since(begin);
        assert_eq!(answer.code, code::PULL_NOT_FOUND);
        assert_eq!(answer.get("nextBeginOffset"), Some("1"));
        assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(2), "{took:?}");

        let connection = caller.client.connect(&caller.addr, TIMEOUT).await.unwrap();
        let waiting = world.clock.before(world.clock.mono() + TIMEOUT, async {
            let pull = connection.invoke(pull_request("T", 0, 1, 9_000), TIMEOUT);
            let send = connection.invoke(send_request("T", 0, "", "second"), TIMEOUT);
            // Pushed in this order: the pull is parked when the send comes.
            let (pull, send) = (Box::pin(pull), Box::pin(send));
            both(pull, send).await
        });
        let (pull, send) = waiting.await.unwrap();
        assert_eq!((pull.code, send.code), (code::SUCCESS, code::SUCCESS));
        assert!(contains(&pull.body, "second"));
        broker.shutdown().await;
    });
}

#[test]
fn what_a_client_of_5x_asks_with_codes_of_its_own_is_answered() {
    block_on(async {
        let world = World::new();
        let broker = world.start(world.parts()).await;
        let caller = world.caller(&broker);
        caller.send("T", 0, "", "first").await;
        // The lite consumer pulls with another code.
        let mut pull = pull_request("T", 0, 0, 0).with_ext("maxMsgBytes", i32::MAX);
        pull.code = request::LITE_PULL_MESSAGE;
        let answer = caller.call(pull).await;
        assert_eq!((answer.code, answer.get("nextBeginOffset")), (code::SUCCESS, Some("1")));
        assert!(contains(&answer.body, "first"));
        assert_eq!(answer.body, caller.pull("T", 0, 0, 0).await.body);
        // mqadmin asks for one topic's configuration.
        let ask = |topic| {
            Command::request(request::GET_TOPIC_CONFIG)
                .with_ext("topic", topic)
                .with_ext("lo", true)
        };
        let answer = caller.call(ask("T")).await;
        let expected = "{\"order\":false,\"perm\":6,\"readQueueNums\":4,\"topicFilterType\":\"SINGLE_TAG\",\
                        \"topicName\":\"T\",\"topicSysFlag\":0,\"writeQueueNums\":4}";
        assert_eq!((answer.code, &*answer.body), (code::SUCCESS, expected.as_bytes()));
        let answer = caller.call(ask("none")).await;
        let remark = "No topic in this broker. topic: none";
        assert_eq!((answer.code, answer.remark.as_deref()), (code::TOPIC_NOT_EXIST, Some(remark)));
        let answer = caller.call(Command::request(request::GET_TOPIC_CONFIG)).await;
        assert_eq!(answer.code, code::SYSTEM_ERROR);
        broker.shutdown().await;
    });
}

type Call<'a> =
    std::pin::Pin<Box<dyn Future<Output = Result<Command, hotfire::remoting::Error>> + Send + 'a>>;

/// Runs both calls at once.
async fn both(mut a: Call<'_>, mut b: Call<'_>) -> (Command, Command) {
    let (mut first, mut second) = (None, None);
    std::future::poll_fn(|cx| {
        use std::task::Poll;
        if first.is_none()
            && let Poll::Ready(answer) = a.as_mut().poll(cx)
        {
            first = Some(answer.unwrap());
        }
        if second.is_none()
            && let Poll::Ready(answer) = b.as_mut().poll(cx)
        {
            second = Some(answer.unwrap());
        }
        if first.is_some() && second.is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    (first.unwrap(), second.unwrap())
}

#[test]
fn pulls_of_empty_and_unknown_places_answer_as_4_9_3() {
    block_on(async {
        let world = World::new();
        let broker = world.start(world.parts()).await;
        let caller = world.caller(&broker);
        caller.send("T", 0, "", "only").await;
        let codes = [
            (caller.pull("unknown", 0, 0, 0).await, code::TOPIC_NOT_EXIST, None),
            (caller.pull("T", 4, 0, 0).await, code::SYSTEM_ERROR, None),
            (caller.pull("T", 3, 0, 0).await, code::PULL_NOT_FOUND, Some("0")),
            (caller.pull("T", 3, 5, 9_000).await, code::PULL_OFFSET_MOVED, Some("0")),
            (caller.pull("T", 0, 1, 0).await, code::PULL_NOT_FOUND, Some("1")),
            (caller.pull("T", 0, 9, 0).await, code::PULL_OFFSET_MOVED, Some("0")),
            (caller.pull("T", 0, -1, 0).await, code::PULL_OFFSET_MOVED, Some("0")),
        ];
        for (answer, code, next) in codes {
            assert_eq!((answer.code, answer.get("nextBeginOffset")), (code, next), "{answer:?}");
        }
        let tagged = pull_request("T", 0, 0, 0).with_ext("subscription", "other");
        let answer = caller.call(tagged).await;
        assert_eq!(answer.code, code::PULL_RETRY_IMMEDIATELY);
        assert_eq!(answer.remark.as_deref(), Some("NO_MATCHED_MESSAGE"));
        assert_eq!(answer.get("nextBeginOffset"), Some("1"));
        assert_eq!(caller.number(request::GET_MAX_OFFSET, "OFFSET_MOVED_EVENT", 0).await, "3");
        broker.shutdown().await;
    });
}

#[test]
fn bad_sends_are_refused_in_javas_words() {
    block_on(async {
        let world = World::new();
        let broker = world.start(world.parts()).await;
        let caller = world.caller(&broker);
        let refused = |answer: Command| (answer.code, answer.remark.unwrap_or_default());
        let (code, remark) = refused(caller.send("a b", 0, "", "x").await);
        assert!(code == code::SYSTEM_ERROR && remark.contains("illegal characters"), "{remark}");
        let (code, _) = refused(caller.send("SCHEDULE_TOPIC_XXXX", 0, "", "x").await);
        assert_eq!(code, code::NO_PERMISSION);
        let (code, remark) = refused(caller.send("T", 8, "", "x").await);
        assert!(code == code::SYSTEM_ERROR && remark.contains("request queueId[8] is illegal"));
        let nowhere = send_request("T2", 0, "", "x").with_ext("c", "nowhere");
        let (code, remark) = refused(caller.call(nowhere).await);
        assert!(code == code::TOPIC_NOT_EXIST && remark.starts_with("topic[T2] not exist, apply"));
        let big = "x".repeat(5 << 20);
        let (code, _) = refused(caller.send("T", 0, "", &big).await);
        assert_eq!(code, code::MESSAGE_ILLEGAL);
        let (code, remark) = refused(caller.call(Command::request(9999)).await);
        assert_eq!((code, remark.as_str()), (3, " request type 9999 not supported"));
        assert_eq!(caller.send("T", -1, "", "x").await.code, code::SUCCESS);
        broker.shutdown().await;
    });
}

#[test]
fn a_group_is_told_of_its_members_and_its_retry_topic_exists() {
    block_on(async {
        let world = World::new();
        let broker = world.start(world.parts()).await;
        let (one, two) = (world.caller(&broker), world.caller(&broker));
        one.heartbeat("g1", "T", 1).await;
        two.heartbeat("g1", "T", 1).await;
        while one.notices.seen.lock().len() < 2 {
            one.notices.came.notified().await;
        }
        let notice = (request::NOTIFY_CONSUMER_IDS_CHANGED, "g1".to_owned());
        assert!(one.notices.seen.lock().iter().all(|seen| *seen == notice));
        let list =
            Command::request(request::GET_CONSUMER_LIST_BY_GROUP).with_ext("consumerGroup", "g1");
        let answer = one.call(list.clone()).await;
        assert!(contains(&answer.body, "[\"g1-client\",\"g1-client\"]"), "{answer:?}");
        let answer = one.pull("%RETRY%g1", 0, 0, 0).await;
        assert_eq!(answer.code, code::PULL_NOT_FOUND);
        two.client.close(&two.addr);
        while one.notices.seen.lock().len() < 3 {
            one.notices.came.notified().await;
        }
        let leave = Command::request(request::UNREGISTER_CLIENT)
            .with_ext("clientID", "g1-client")
            .with_ext("consumerGroup", "g1");
        assert_eq!(one.call(leave).await.code, code::SUCCESS);
        let answer = one.call(list).await;
        assert_eq!(answer.remark.as_deref(), Some("no consumer for this group, g1"));
        broker.shutdown().await;
    });
}

#[test]
fn a_batch_is_stored_as_its_members() {
    block_on(async {
        let world = World::new();
        let broker = world.start(world.parts()).await;
        let caller = world.caller(&broker);
        let mut body = Vec::new();
        for text in ["one", "two"] {
            let member = hotfire::format::message_batch::Member {
                flag: 0,
                body: text.as_bytes(),
                properties: b"WAIT\x01true",
            };
            hotfire::format::message_batch::encode(&member, &mut body);
        }
        let mut batch = send_request("T", 2, "WAIT\u{1}true", "").with_ext("m", true);
        batch.code = request::SEND_BATCH_MESSAGE;
        let answer = caller.call(batch.with_body(body)).await;
        assert_eq!((answer.code, answer.get("queueOffset")), (code::SUCCESS, Some("0")));
        assert_eq!(answer.get("msgId").map(str::len), Some(65));
        let answer = caller.pull("T", 2, 0, 0).await;
        assert_eq!(answer.get("nextBeginOffset"), Some("2"));
        let stored = "WAIT\u{1}true\u{2}WAIT\u{1}true\u{2}CLUSTER\u{1}DefaultCluster";
        assert!(contains(&answer.body, "two") && contains(&answer.body, stored));
        broker.shutdown().await;
    });
}

#[test]
fn a_stopping_broker_answers_a_parked_pull() {
    block_on(async {
        let world = World::new();
        let broker = world.start(world.parts()).await;
        let caller = world.caller(&broker);
        caller.send("T", 0, "", "first").await;
        let connection = caller.client.connect(&caller.addr, TIMEOUT).await.unwrap();
        let begin = world.clock.mono();
        // The second answer shows that the pull was taken before.
        let pull = Box::pin(connection.invoke(pull_request("T", 0, 1, 9_000), TIMEOUT));
        let stop = Box::pin(async {
            let answer = connection.invoke(send_request("U", 0, "", "x"), TIMEOUT).await;
            broker.shutdown().await;
            answer
        });
        let (pull, send) = both(pull, stop).await;
        assert_eq!((pull.code, send.code), (code::PULL_NOT_FOUND, code::SUCCESS));
        assert!(world.clock.mono().since(begin) < Duration::from_secs(3));
    });
}
