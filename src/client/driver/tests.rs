//! The client against a name server and brokers that answer from a script, over loopback.

use super::*;
use crate::model::QueueId;
use crate::net::tcp::TcpNet;
use crate::protocol::body::client::HeartbeatData;
use crate::protocol::body::list::ConsumerList;
use crate::protocol::body::route::{BrokerData, QueueData, TopicRouteData};
use crate::protocol::body::{self, Dialect};
use crate::protocol::frame::{Frame, Serialize};
use crate::remoting::{Server, ServerOptions, Service};
use crate::rt;
use std::net::SocketAddr;

type Answer = dyn Fn(&Command) -> Option<Command> + Send + Sync;

/// Answers each request by a function; `None` leaves it unanswered.
struct Scripted {
    seen: Mutex<Vec<Command>>,
    answer: Mutex<Arc<Answer>>,
}

impl Service for Scripted {
    fn on_frames(&self, peer: &Peer, frames: &mut Vec<Frame>) {
        for frame in frames.drain(..) {
            let request = Command::decode(&frame).unwrap();
            self.seen.lock().push(request.clone());
            let answer = self.answer.lock().clone();
            if let Some(mut reply) = answer(&request) {
                reply.opaque = request.opaque;
                reply.flag = 1;
                peer.with_outbox(|out| reply.encode(Serialize::Json, out));
            }
        }
    }
}

struct World {
    net: Arc<dyn Net>,
    clock: Clock,
    group: TaskGroup,
}

struct Node {
    addr: SocketAddr,
    scripted: Arc<Scripted>,
    _server: Server,
}

impl Node {
    fn answers(&self, answer: impl Fn(&Command) -> Option<Command> + Send + Sync + 'static) {
        *self.scripted.answer.lock() = Arc::new(answer);
    }
    fn seen(&self, code: i32) -> Vec<Command> {
        let seen = self.scripted.seen.lock();
        seen.iter().filter(|request| request.code == code).cloned().collect()
    }
}

impl World {
    fn new() -> Self {
        let net: Arc<dyn Net> = Arc::new(TcpNet::default());
        World { net, clock: Clock::new(), group: TaskGroup::new() }
    }

    async fn node(&self) -> Node {
        let silent: Arc<Answer> = Arc::new(|_| None);
        let scripted = Arc::new(Scripted { seen: Mutex::default(), answer: Mutex::new(silent) });
        let addrs = ["127.0.0.1:0".parse().unwrap()];
        let options = ServerOptions::default();
        let service: Arc<dyn Service> = scripted.clone();
        let server = Server::start(&self.net, &self.clock, &self.group, &addrs, service, options);
        let server = server.await.unwrap();
        Node { addr: server.local_addrs()[0], scripted, _server: server }
    }

    fn client(&self, name_server: &Node, change: impl FnOnce(&mut Options)) -> Client {
        let mut options = Options::of_name_servers(&name_server.addr.to_string());
        change(&mut options);
        let mut rng = Rng::from_seed(7);
        let identity = Identity::new("127.0.0.1".parse().unwrap(), 1, &mut rng);
        Client::start(&self.net, &self.clock, &self.group, options, identity, rng)
    }
}

/// Serves the route of one topic; every other is unknown.
fn serve_route(name_server: &Node, topic: &'static str, brokers: &[(&str, SocketAddr, i32)]) {
    let mut data = TopicRouteData::default();
    for (name, addr, queues) in brokers {
        data.broker_datas.push(BrokerData {
            broker_addrs: BTreeMap::from([(0, addr.to_string())]),
            broker_name: (*name).to_owned(),
            cluster: "C".to_owned(),
        });
        data.queue_datas.push(QueueData {
            broker_name: (*name).to_owned(),
            perm: 7,
            read_queue_nums: *queues,
            topic_sys_flag: 0,
            write_queue_nums: *queues,
        });
    }
    let body = body::encode(&data, Dialect::Fastjson);
    name_server.answers(move |request| match request.get("topic") {
        Some(asked) if asked == topic => Some(Command::reply(0, 0).with_body(body.clone())),
        _ => Some(Command::reply(0, 17).with_remark("no route")),
    });
}

fn stored(request: &Command) -> Option<Command> {
    match request.code {
        request_code::SEND_MESSAGE_V2 => Some(
            Command::reply(0, 0)
                .with_ext("msgId", "OFFSET")
                .with_ext("queueId", request.get("e").unwrap())
                .with_ext("queueOffset", 5),
        ),
        _ => Some(Command::reply(0, 0)),
    }
}

fn refused(code: i32) -> impl Fn(&Command) -> Option<Command> + Send + Sync + 'static {
    move |_| Some(Command::reply(0, code).with_remark("no"))
}

#[test]
fn a_refusal_that_may_be_elsewhere_is_tried_on_the_other_broker() {
    rt::block_on(async {
        let world = World::new();
        let (ns, bad, good) = (world.node().await, world.node().await, world.node().await);
        serve_route(&ns, "T", &[("bad", bad.addr, 3), ("good", good.addr, 1)]);
        bad.answers(refused(14));
        good.answers(stored);
        let client = world.client(&ns, |_| {});
        for _ in 0..4 {
            let sent = client.send(&Message::new("T", "x")).await.unwrap();
            assert_eq!((sent.status, &*sent.queue.broker), (SendStatus::Ok, "good"));
            assert!(sent.tries <= 2);
        }
        assert!(!bad.seen(request_code::SEND_MESSAGE_V2).is_empty());
        let ids: Vec<_> = good.seen(request_code::SEND_MESSAGE_V2);
        assert!(ids.iter().all(|request| request.get("i").unwrap().contains("UNIQ_KEY")));
    });
}

#[test]
fn a_refusal_for_good_is_not_tried_again_and_stored_nothing() {
    rt::block_on(async {
        let world = World::new();
        let (ns, broker) = (world.node().await, world.node().await);
        serve_route(&ns, "T", &[("a", broker.addr, 4)]);
        broker.answers(refused(13));
        let client = world.client(&ns, |_| {});
        let error = client.send(&Message::new("T", "x")).await.unwrap_err();
        assert_eq!((error.code(), error.may_be_stored()), (Some(13), false), "{error}");
        assert_eq!(broker.seen(request_code::SEND_MESSAGE_V2).len(), 1);
        broker.answers(refused(1));
        let error = client.send(&Message::new("T", "x")).await.unwrap_err();
        assert_eq!((error.code(), error.may_be_stored()), (Some(1), true), "{error}");
        assert_eq!(broker.seen(request_code::SEND_MESSAGE_V2).len(), 4, "three more tries");
    });
}

#[test]
fn a_silent_broker_uses_up_the_time_of_all_tries() {
    rt::block_on(async {
        let world = World::new();
        let (ns, silent) = (world.node().await, world.node().await);
        serve_route(&ns, "T", &[("a", silent.addr, 4)]);
        let budget = Duration::from_millis(200);
        let client = world.client(&ns, |options| options.send_timeout = budget);
        let begun = world.clock.mono();
        let error = client.send(&Message::new("T", "x")).await.unwrap_err();
        assert!(error.may_be_stored(), "{error}");
        let took = world.clock.mono().since(begun);
        assert!(took >= budget && took < Duration::from_secs(10), "{took:?}");
    });
}

#[test]
fn an_unknown_topic_takes_the_template_s_brokers_with_few_queues() {
    rt::block_on(async {
        let world = World::new();
        let (ns, broker) = (world.node().await, world.node().await);
        serve_route(&ns, "TBW102", &[("a", broker.addr, 8)]);
        broker.answers(stored);
        let client = world.client(&ns, |_| {});
        let topic = TopicName::new("New");
        assert_eq!(client.publish_queues(&topic).await.unwrap().len(), 4);
        let sent = client.send(&Message::new("New", "x").with_tag("A")).await.unwrap();
        assert_eq!((sent.queue_offset, sent.tries), (QueueOffset(5), 1));
        let request = &broker.seen(request_code::SEND_MESSAGE_V2)[0];
        assert_eq!((request.get("c"), request.get("d")), (Some("TBW102"), Some("4")));
        assert!(matches!(client.subscribe_queues(&topic).await, Err(Error::NoRoute(_))));
        serve_route(&ns, "Other", &[]);
        let error = client.send(&Message::new("Newer", "x")).await.unwrap_err();
        assert!(matches!(error, Error::NoRoute(_)) && !error.may_be_stored(), "{error}");
    });
}

#[test]
fn a_name_server_that_is_down_is_skipped() {
    rt::block_on(async {
        let world = World::new();
        let (ns, broker) = (world.node().await, world.node().await);
        serve_route(&ns, "T", &[("a", broker.addr, 1)]);
        broker.answers(stored);
        let client = world.client(&ns, |options| {
            options.name_servers.insert(0, "127.0.0.1:1".to_owned());
            options.name_servers.push("127.0.0.1:2".to_owned());
        });
        assert!(client.send(&Message::new("T", "x")).await.is_ok());
        let nobody = world.client(&ns, |options| options.name_servers.clear());
        let error = nobody.send(&Message::new("T", "x")).await.unwrap_err();
        assert!(!error.may_be_stored(), "{error}");
    });
}

#[test]
fn offsets_and_pulls_are_read_from_the_answers() {
    rt::block_on(async {
        let world = World::new();
        let (ns, broker) = (world.node().await, world.node().await);
        serve_route(&ns, "T", &[("a", broker.addr, 1)]);
        broker.answers(|request| match request.code {
            request_code::QUERY_CONSUMER_OFFSET => Some(Command::reply(0, 22)),
            request_code::GET_MAX_OFFSET => Some(Command::reply(0, 0).with_ext("offset", 41)),
            request_code::PULL_MESSAGE => Some(
                Command::reply(0, 21)
                    .with_ext("nextBeginOffset", 7)
                    .with_ext("minOffset", 7)
                    .with_ext("maxOffset", 9)
                    .with_ext("suggestWhichBrokerId", 0),
            ),
            _ => Some(Command::reply(0, 0)),
        });
        let client = world.client(&ns, |_| {});
        let (topic, group) = (TopicName::new("T"), GroupName::new("g"));
        let queue = client.subscribe_queues(&topic).await.unwrap().remove(0);
        assert_eq!((queue.queue, &*queue.broker), (QueueId(0), "a"));
        assert_eq!(client.committed_offset(&group, &queue).await.unwrap(), None);
        assert_eq!(client.max_offset(&queue).await.unwrap(), QueueOffset(41));
        client.commit_offset(&group, &queue, QueueOffset(3)).await.unwrap();
        let commit = &broker.seen(request_code::UPDATE_CONSUMER_OFFSET)[0];
        assert_eq!(commit.get("commitOffset"), Some("3"));
        let subscription = Subscription::tags("T", "*", 0).unwrap();
        let request = PullRequest {
            group: &group,
            queue: &queue,
            from: QueueOffset(0),
            count_max: 1,
            subscription: &subscription,
            as_registered: false,
            may_wait: false,
            commit: None,
        };
        let pulled = client.pull(&request).await.unwrap();
        assert_eq!((pulled.status, pulled.next), (PullStatus::OffsetIllegal, QueueOffset(7)));
        broker.answers(refused(16));
        assert_eq!(client.pull(&request).await.unwrap_err().code(), Some(16));
    });
}

#[test]
fn a_member_heartbeats_and_is_told_of_others() {
    rt::block_on(async {
        let world = World::new();
        let (ns, broker) = (world.node().await, world.node().await);
        serve_route(&ns, "T", &[("a", broker.addr, 1)]);
        broker.answers(|request| match request.code {
            request_code::GET_CONSUMER_LIST_BY_GROUP => {
                let list = ConsumerList { consumer_id_list: vec!["one".into(), "two".into()] };
                Some(Command::reply(0, 0).with_body(body::encode(&list, Dialect::Fastjson)))
            }
            _ => Some(Command::reply(0, 0)),
        });
        let every = Duration::from_millis(20);
        let client = world.client(&ns, |options| options.heartbeat_interval = every);
        let (topic, group) = (TopicName::new("T"), GroupName::new("g"));
        let subscriptions = vec![Subscription::tags("T", "A || B", 1).unwrap()];
        let interest = Interest { subscriptions, from_first: true };
        client.join(&group, interest).await.unwrap();
        let heartbeats = || broker.seen(request_code::HEART_BEAT);
        let first: HeartbeatData = body::decode(&heartbeats()[0].body).unwrap();
        assert_eq!(first.client_id, client.client_id());
        assert_eq!(first.consumer_data_set[0].group_name, "g");
        assert_eq!(first.consumer_data_set[0].subscription_data_set[0].sub_string, "A || B");
        while heartbeats().len() < 3 {
            let soon = world.clock.mono() + every;
            world.clock.sleep_until(soon).await;
        }
        assert_eq!(client.members(&group, &topic).await.unwrap(), ["one", "two"]);
        client.leave(&group).await;
        let left = &broker.seen(request_code::UNREGISTER_CLIENT)[0];
        assert_eq!(left.get("consumerGroup"), Some("g"));
    });
}
