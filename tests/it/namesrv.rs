//! A name server over loopback with its file on a real disk.

use hotfire::config::live::LiveConfig;
use hotfire::config::resolve::Machine;
use hotfire::config::{Program, RawConfig};
use hotfire::disk::Disk;
use hotfire::disk::faulty::{Call, Fault, FaultyDisk};
use hotfire::disk::real::RealDisk;
use hotfire::namesrv::{Namesrv, Options};
use hotfire::net::Net;
use hotfire::net::tcp::TcpNet;
use hotfire::protocol::Command;
use hotfire::protocol::body::register::RegisterBrokerBody;
use hotfire::protocol::body::topic::{TopicConfig, TopicConfigs};
use hotfire::protocol::body::{self, DataVersion, Dialect};
use hotfire::protocol::code::{request_code, response_code};
use hotfire::remoting::{Client, ClientOptions};
use hotfire::rt::block_on;
use hotfire::rt::task::TaskGroup;
use hotfire::rt::time::{Clock, Duration};
use std::future::Future;
use std::path::Path;
use std::sync::Arc;

const SECOND: Duration = Duration::from_secs(1);

struct Town {
    addr: String,
    client: Client,
    clock: Clock,
    net: Arc<dyn Net>,
    server: Namesrv,
    group: TaskGroup,
}

impl Town {
    async fn start(dir: &Path, change: impl FnOnce(&mut Options)) -> Town {
        let (disk, net): (Arc<dyn Disk>, Arc<dyn Net>) =
            (Arc::new(RealDisk::new()), Arc::new(TcpNet::default()));
        let (clock, group) = (Clock::new(), TaskGroup::new());
        let mut options = Options {
            listen: "127.0.0.1:0".parse().unwrap(),
            kv_config_path: dir.join("namesrv/kvConfig.json").to_str().unwrap().to_owned(),
            ..Options::default()
        };
        change(&mut options);
        let server = Namesrv::start(disk, &net, &clock, &group, options).await.unwrap();
        let addr = server.local_addr().unwrap().to_string();
        let client = Client::new(&net, &clock, &group, ClientOptions::default(), None);
        Town { addr, client, clock, net, server, group }
    }

    async fn ask(&self, request: Command) -> Command {
        self.client.invoke(&self.addr, request, 5 * SECOND).await.unwrap()
    }

    async fn route(&self, topic: &str) -> Command {
        self.ask(Command::request(request_code::GET_ROUTEINFO_BY_TOPIC).with_ext("topic", topic))
            .await
    }

    async fn end(self) {
        self.server.shutdown().await;
        self.group.shutdown(&self.clock, self.clock.mono() + SECOND).await;
    }
}

fn with_town<F: Future<Output = ()>>(test: impl FnOnce(Town) -> F) {
    let dir = tempfile::tempdir().unwrap();
    block_on(async { test(Town::start(dir.path(), |_| {}).await).await });
}

fn broker(id: i64, addr: &str, code: i32) -> Command {
    Command::request(code)
        .with_ext("brokerName", "broker-a")
        .with_ext("brokerAddr", addr)
        .with_ext("clusterName", "C")
        .with_ext("haServerAddr", "h:10912")
        .with_ext("brokerId", id)
}

fn registration(addr: &str, is_compressed: bool) -> Command {
    let topic = TopicConfig { topic_name: "T".into(), ..TopicConfig::default() };
    let body = RegisterBrokerBody {
        filter_server_list: Vec::new(),
        topics: TopicConfigs {
            data_version: DataVersion { counter: 1, timestamp: 7 },
            topic_config_table: [("T".to_owned(), topic)].into(),
        },
    };
    let body = body.encode(is_compressed);
    broker(0, addr, request_code::REGISTER_BROKER)
        .with_ext("compressed", is_compressed)
        .with_ext("bodyCrc32", crc32fast::hash(&body) & 0x7FFF_FFFF)
        .with_body(body)
}

#[test]
fn a_registered_topic_has_a_route_in_both_dialects_and_none_after_unregistering() {
    with_town(|town| async move {
        let none = town.route("T").await;
        assert_eq!(none.code, response_code::TOPIC_NOT_EXIST);
        assert_eq!(
            none.remark.as_deref(),
            Some(
                "No topic route info in name server for the topic: T\nSee \
                 http://rocketmq.apache.org/docs/faq/ for further details."
            )
        );
        assert_eq!(town.ask(registration("a:1", true)).await.code, 0);
        let old = "{\"brokerDatas\":[{\"brokerAddrs\":{0:\"a:1\"},\"brokerName\":\"broker-a\",\
            \"cluster\":\"C\"}],\"filterServerTable\":{},\"queueDatas\":[{\"brokerName\":\
            \"broker-a\",\"perm\":6,\"readQueueNums\":16,\"topicSysFlag\":0,\"writeQueueNums\":16}]}";
        assert_eq!(town.route("T").await.body, old);
        let request = Command::request(request_code::GET_ROUTEINFO_BY_TOPIC).with_ext("topic", "T");
        let new = town.ask(Command { version: 401, ..request.clone() }).await;
        assert_eq!(new.body, old.replace("{0:", "{\"0\":"));
        let asked = town.ask(request.with_ext("acceptStandardJsonOnly", true)).await;
        assert_eq!(asked.body, new.body);
        let info = town.ask(Command::request(request_code::GET_BROKER_CLUSTER_INFO)).await;
        let expected = "{\"brokerAddrTable\":{\"broker-a\":{\"brokerAddrs\":{0:\"a:1\"},\
            \"brokerName\":\"broker-a\",\"cluster\":\"C\"}},\"clusterAddrTable\":{\"C\":\
            [\"broker-a\"]}}";
        assert_eq!(info.body, expected);
        assert_eq!(town.ask(broker(0, "a:1", request_code::UNREGISTER_BROKER)).await.code, 0);
        assert_eq!(town.route("T").await.code, response_code::TOPIC_NOT_EXIST);
        town.end().await;
    });
}

#[test]
fn a_slave_learns_its_master_and_an_unchanged_version_is_told() {
    with_town(|town| async move {
        town.ask(registration("a:1", false)).await;
        let slave = broker(1, "a:2", request_code::REGISTER_BROKER);
        let answer = town.ask(slave).await;
        assert_eq!(answer.get("masterAddr"), Some("a:1"));
        assert_eq!(answer.get("haServerAddr"), Some("h:10912"));
        let version = DataVersion { counter: 1, timestamp: 7 };
        let ask = |version: DataVersion| {
            let body = body::encode(&version, Dialect::Fastjson);
            broker(0, "a:1", request_code::QUERY_DATA_VERSION).with_body(body)
        };
        let same = town.ask(ask(version)).await;
        assert_eq!(
            (same.get("changed"), same.body.as_ref()),
            (Some("false"), b"{\"counter\":1,\"timestamp\":7}".as_slice())
        );
        let other = town.ask(ask(DataVersion { counter: 2, ..version })).await;
        assert_eq!(other.get("changed"), Some("true"));
        town.end().await;
    });
}

#[test]
fn a_broker_whose_connection_ends_is_forgotten_at_once() {
    with_town(|town| async move {
        let other =
            Client::new(&town.net, &town.clock, &town.group, ClientOptions::default(), None);
        other.invoke(&town.addr, registration("a:1", false), 5 * SECOND).await.unwrap();
        assert_eq!(town.route("T").await.code, 0);
        other.close(&town.addr);
        let deadline = town.clock.mono() + 5 * SECOND;
        while town.route("T").await.code == 0 {
            assert!(town.clock.mono() < deadline, "the route is still there");
        }
        town.end().await;
    });
}

#[test]
fn a_silent_broker_is_forgotten_and_its_connection_closed() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let town =
            Town::start(dir.path(), |o| o.broker_silence_max = Duration::from_millis(200)).await;
        let other =
            Client::new(&town.net, &town.clock, &town.group, ClientOptions::default(), None);
        other.invoke(&town.addr, registration("a:1", false), 5 * SECOND).await.unwrap();
        let peer = other.connect(&town.addr, SECOND).await.unwrap();
        let deadline = town.clock.mono() + 5 * SECOND;
        while town.route("T").await.code == 0 || peer.is_open() {
            assert!(town.clock.mono() < deadline, "the broker is still known");
        }
        town.end().await;
    });
}

#[test]
fn wrong_requests_are_answered_with_what_is_wrong() {
    with_town(|town| async move {
        let unknown = town.ask(Command::request(9999)).await;
        assert_eq!(unknown.code, response_code::REQUEST_CODE_NOT_SUPPORTED);
        assert_eq!(unknown.remark.as_deref(), Some(" request type 9999 not supported"));
        let mut bad_crc = registration("a:1", false);
        bad_crc.set_ext("bodyCrc32", "12345".into());
        let answer = town.ask(bad_crc).await;
        assert_eq!((answer.code, answer.remark.as_deref()), (1, Some("crc32 not match")));
        let missing = town.ask(Command::request(request_code::GET_ROUTEINFO_BY_TOPIC)).await;
        assert_eq!(missing.code, response_code::SYSTEM_ERROR);
        assert!(missing.remark.unwrap().contains("topic"));
        let torn = registration("a:1", false).with_body("{\"a\":").with_ext("bodyCrc32", 0);
        assert_eq!(town.ask(torn).await.code, response_code::SYSTEM_ERROR);
        assert_eq!(town.route("T").await.code, response_code::TOPIC_NOT_EXIST);
        town.end().await;
    });
}

fn key(code: i32, key: &str) -> Command {
    Command::request(code).with_ext("namespace", "ORDER_TOPIC_CONFIG").with_ext("key", key)
}

#[test]
fn order_topics_survive_a_restart_and_reach_brokers_and_clients() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let town = Town::start(dir.path(), |_| {}).await;
        let put = key(request_code::PUT_KV_CONFIG, "T").with_ext("value", "broker-a:4");
        assert_eq!(town.ask(put).await.code, 0);
        let put = key(request_code::PUT_KV_CONFIG, "U").with_ext("value", "x");
        assert_eq!(town.ask(put).await.code, 0);
        assert_eq!(town.ask(key(request_code::DELETE_KV_CONFIG, "U")).await.code, 0);
        town.end().await;

        let town = Town::start(dir.path(), |options| options.order_message_enable = true).await;
        let found = town.ask(key(request_code::GET_KV_CONFIG, "T")).await;
        assert_eq!(found.get("value"), Some("broker-a:4"));
        let gone = town.ask(key(request_code::GET_KV_CONFIG, "U")).await;
        assert_eq!(gone.code, response_code::QUERY_NOT_FOUND);
        let list = Command::request(request_code::GET_KVLIST_BY_NAMESPACE)
            .with_ext("namespace", "ORDER_TOPIC_CONFIG");
        let table = "{\"table\":{\"T\":\"broker-a:4\"}}";
        assert_eq!(town.ask(list).await.body, table);
        assert_eq!(town.ask(registration("a:1", false)).await.body, table);
        let route = String::from_utf8(town.route("T").await.body.to_vec()).unwrap();
        assert!(route.contains("\"orderTopicConf\":\"broker-a:4\""), "{route}");
        town.end().await;
    });
}

#[test]
fn a_broken_file_stops_the_start_unless_there_is_a_backup() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kvConfig.json");
    std::fs::write(&path, "{\"configTable\":{\"N").unwrap();
    let start = || {
        let options = Options {
            listen: "127.0.0.1:0".parse().unwrap(),
            kv_config_path: path.to_str().unwrap().to_owned(),
            ..Options::default()
        };
        block_on(async {
            let group = TaskGroup::new();
            let net: Arc<dyn Net> = Arc::new(TcpNet::default());
            let disk = Arc::new(RealDisk::new());
            Namesrv::start(disk, &net, &Clock::new(), &group, options).await.map(|_| ())
        })
    };
    let error = start().unwrap_err().to_string();
    assert!(error.contains("kvConfig.json"), "{error}");
    std::fs::write(dir.path().join("kvConfig.json.bak"), "{\"configTable\":{}}").unwrap();
    start().unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"configTable\":{\"N");
}

/// A killed process may have only renamed it.
#[test]
fn what_a_start_reads_of_its_file_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        listen: "127.0.0.1:0".parse().unwrap(),
        kv_config_path: dir.path().join("kvConfig.json").to_str().unwrap().to_owned(),
        ..Options::default()
    };
    block_on(async {
        let group = TaskGroup::new();
        let net: Arc<dyn Net> = Arc::new(TcpNet::default());
        let disk = Arc::new(FaultyDisk::new(Arc::new(RealDisk::new())));
        disk.fail_nth(Call::SyncDir, dir.path().to_str().unwrap(), 1, Fault::Broken);
        let clock = Clock::new();
        let start = || Namesrv::start(disk.clone(), &net, &clock, &group, options.clone());
        let refused = start().await.err().unwrap().to_string();
        assert!(refused.contains("kvConfig.json"), "{refused}");
        let calls = disk.calls();
        assert!(!calls.iter().any(|(call, _)| *call == Call::Open), "{calls:?}");
        start().await.unwrap();
    });
}

#[test]
fn name_servers_know_nothing_of_each_other() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let one = Town::start(&dir.path().join("1"), |_| {}).await;
        let two = Town::start(&dir.path().join("2"), |_| {}).await;
        one.ask(registration("a:1", false)).await;
        assert_eq!(one.route("T").await.code, 0);
        assert_eq!(two.route("T").await.code, response_code::TOPIC_NOT_EXIST);
        one.end().await;
        two.ask(registration("a:1", false)).await;
        assert_eq!(two.route("T").await.code, 0);
        two.end().await;
    });
}

#[test]
fn order_topics_are_told_from_the_moment_that_the_configuration_says_so() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let path = dir.path().join("namesrv.conf").to_str().unwrap().to_owned();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::new());
        hotfire::disk::replace_small(&*disk, &path, b"orderMessageEnable=false\n").await.unwrap();
        let raw = RawConfig::parse(Program::Namesrv, "namesrv.conf", b"orderMessageEnable=false");
        let config = LiveConfig::new(raw.unwrap(), Machine::default(), Some(path.clone()));
        let config = Arc::new(config);
        let town = Town::start(dir.path(), |options| options.configuration = Some(config)).await;
        let put = key(request_code::PUT_KV_CONFIG, "T").with_ext("value", "broker-a:4");
        assert_eq!(town.ask(put).await.code, response_code::SUCCESS);
        assert_eq!(town.ask(registration("10.0.0.1:1", false)).await.code, response_code::SUCCESS);
        let route = async || String::from_utf8(town.route("T").await.body.to_vec()).unwrap();
        assert!(!route().await.contains("orderTopicConf"));
        let change = |text: &str| {
            Command::request(request_code::UPDATE_NAMESRV_CONFIG).with_body(text.to_owned())
        };
        let answer = town.ask(change("orderMessageEnable=true\nlistenPort=1")).await;
        let remark = answer.remark.unwrap();
        assert!(answer.code == 1 && remark.contains("listenPort needs a restart"), "{remark}");
        assert!(!route().await.contains("orderTopicConf"));
        let answer = town.ask(change("orderMessageEnable=true")).await;
        assert_eq!(answer.code, response_code::SUCCESS, "{answer:?}");
        assert!(route().await.contains("\"orderTopicConf\":\"broker-a:4\""));
        let file = hotfire::disk::read_small(&*disk, &path, 1000).unwrap();
        assert_eq!(&*file, b"orderMessageEnable=true\n");
        let text = town.ask(Command::request(request_code::GET_NAMESRV_CONFIG)).await.body;
        assert!(String::from_utf8_lossy(&text).contains("\norderMessageEnable=true\n"));
        town.end().await;
    });
}
