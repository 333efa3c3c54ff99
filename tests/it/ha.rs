//! A master and its slave over loopback: the log, the tables beside it, and what producers are told.

mod anew;
mod ended;
mod late;
mod peers;
mod replaced;
mod stream;
mod topics;
mod unadmitted;
mod wrapped;

use super::broker::{Caller, World};
use hotfire::broker::replication::{Role, Status};
use hotfire::broker::{Broker, Deps, Error, Parts};
use hotfire::format::message_unit;
use hotfire::namesrv::Namesrv;
use hotfire::net::{self, Stream};
use hotfire::protocol::Command;
use hotfire::protocol::code::{request_code as request, response_code as code};
use hotfire::rt::block_on;
use hotfire::rt::rng::Rng;
use hotfire::rt::time::Duration;
use hotfire::store::{FlushMode, Replicate};
use std::path::{Path, PathBuf};

const TIMEOUT: Duration = Duration::from_secs(10);

/// A name server, and directories for a master and a slave of one name.
struct Town {
    world: World,
    name_server: Namesrv,
}

impl Town {
    async fn new() -> Town {
        let world = World::new();
        Town { name_server: world.name_server().await, world }
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.world.dir.path().join(name)
    }

    fn parts(&self, name: &str, role: Role) -> Parts {
        let mut parts = self.world.parts_at(&self.name_server);
        let root = self.dir(name).to_str().unwrap().to_owned();
        parts.store = hotfire::store::Options {
            segment_size_bytes: 64 << 10,
            ..hotfire::store::Options::new(&root)
        };
        parts.broker.root = root;
        parts.broker.topics.broker_name = "broker-a".to_owned();
        // A master that starts again has another port.
        parts.broker.register_interval = Duration::from_millis(200);
        parts.broker.id = i64::from(role.is_slave());
        let replication = &mut parts.broker.replication;
        replication.role = role;
        replication.copy_first = Duration::from_millis(50);
        replication.copy_interval = Duration::from_millis(100);
        if role == Role::SyncMaster {
            let timeout = Duration::from_millis(300);
            parts.store.replicate = Some(Replicate { timeout, fall_behind_max: 256 << 20 });
        }
        parts
    }

    async fn start(&self, name: &str, role: Role) -> Broker {
        self.world.start(self.parts(name, role)).await
    }

    /// A broker with other dice than those of this town: it draws other numbers for its epochs.
    async fn start_anew(&self, parts: Parts) -> Result<Broker, Error> {
        let (disk, net) = (self.world.disk.clone(), self.world.net.clone());
        let deps = Deps { disk, net, clock: self.world.clock.clone(), rng: Rng::from_seed(9) };
        Broker::start(deps, parts).await
    }

    /// Why a broker does not start.
    async fn refused(&self, name: &str, role: Role) -> String {
        let started = self.start_anew(self.parts(name, role)).await;
        started.err().map(|error| error.to_string()).unwrap()
    }

    /// Waits until `holds`.
    async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let clock = &self.world.clock;
        let deadline = clock.mono() + TIMEOUT;
        while !holds() {
            assert!(clock.mono() < deadline, "not in time: {what}");
            clock.sleep_until(clock.mono() + Duration::from_millis(5)).await;
        }
    }

    /// Waits until the slave has what the master has.
    async fn until_same(&self, master: &Broker, slave: &Broker) {
        let same = || slave.store().stats().visible == master.store().stats().written;
        self.until("the slave has caught up", same).await;
    }

    /// The log's files as they lie on disk.
    fn log(&self, name: &str, end: u64) -> Vec<u8> {
        let mut files: Vec<_> = std::fs::read_dir(self.dir(name).join("commitlog"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        let mut bytes: Vec<u8> =
            files.iter().flat_map(|path| std::fs::read(path).unwrap()).collect();
        bytes.truncate(end as usize);
        bytes
    }
}

#[test]
fn a_slave_has_its_masters_log_byte_for_byte_and_serves_it() {
    block_on(async {
        let town = Town::new().await;
        let master = town.start("master", Role::AsyncMaster).await;
        let caller = town.world.caller(&master);
        let body = "x".repeat(3000);
        for n in 0..60 {
            assert_eq!(caller.send("T", n % 4, "", &body).await.code, code::SUCCESS);
        }
        let slave = town.start("slave", Role::Slave).await;
        town.until_same(&master, &slave).await;
        for n in 0..60 {
            assert_eq!(caller.send("T", n % 4, "", &body).await.code, code::SUCCESS);
        }
        town.until_same(&master, &slave).await;
        let end = master.store().stats().written.0;
        assert!(town.log("master", end) == town.log("slave", end), "the logs differ");
        let reader = town.world.caller(&slave);
        town.until("the topic is known", || !slave.store().queues().is_empty()).await;
        assert_eq!(reader.number(request::GET_MAX_OFFSET, "T", 0).await, "30");
        let refused = reader.send("T", 0, "", "mine").await;
        assert_eq!(refused.code, code::SERVICE_NOT_AVAILABLE);
        assert!(refused.remark.unwrap().contains("this broker is a slave"));
        assert_eq!(master.ha().slaves().len(), 1);
        slave.shutdown().await;
        master.shutdown().await;
    });
}

#[test]
fn a_slave_that_was_away_goes_on_where_it_was() {
    block_on(async {
        let town = Town::new().await;
        let master = town.start("master", Role::AsyncMaster).await;
        let caller = town.world.caller(&master);
        for round in 0..4 {
            let slave = town.start("slave", Role::Slave).await;
            for n in 0..20 {
                let body = format!("{round} {n} {}", "y".repeat(2000));
                assert_eq!(caller.send("T", 0, "", &body).await.code, code::SUCCESS);
            }
            town.until_same(&master, &slave).await;
            slave.shutdown().await;
            for n in 0..20 {
                assert_eq!(caller.send("T", 0, "", &format!("away {n}")).await.code, 0);
            }
        }
        let slave = town.start("slave", Role::Slave).await;
        town.until_same(&master, &slave).await;
        let end = master.store().stats().written.0;
        assert!(town.log("master", end) == town.log("slave", end), "the logs differ");
        slave.shutdown().await;
        master.shutdown().await;
    });
}

#[test]
fn a_sync_master_says_when_no_slave_has_the_message() {
    block_on(async {
        let town = Town::new().await;
        let master = town.start("master", Role::SyncMaster).await;
        let caller = town.world.caller(&master);
        let alone = caller.send("T", 0, "", "alone").await;
        assert_eq!(alone.code, code::SLAVE_NOT_AVAILABLE);
        assert_eq!(caller.number(request::GET_MAX_OFFSET, "T", 0).await, "1");
        let slave = town.start("slave", Role::Slave).await;
        town.until_same(&master, &slave).await;
        town.until("its word came", || {
            master.ha().slaves().iter().any(|slave| slave.acked.is_some_and(|acked| acked > 0))
        })
        .await;
        for _ in 0..10 {
            assert_eq!(caller.send("T", 0, "", "both").await.code, code::SUCCESS);
        }
        assert_eq!(slave.store().stats().written, master.store().stats().written);
        slave.shutdown().await;
        master.shutdown().await;
    });
}

/// A slave that listens and never says a word more.
async fn mute_slave(town: &Town, master: &Broker) -> Box<dyn Stream> {
    let addr = format!("127.0.0.1:{}", master.ha().port());
    let mut stream = town.world.net.dial(&addr, TIMEOUT).await.unwrap();
    let end = master.store().stats().written.0;
    net::write_all(&mut *stream, &end.to_be_bytes()).await.unwrap();
    town.until("the mute slave is taken", || !master.ha().slaves().is_empty()).await;
    town.until("its first word came", || master.ha().slaves()[0].acked.is_some()).await;
    stream
}

#[test]
fn a_slave_that_is_silent_costs_each_message_its_own_wait_and_delays_its_visibility() {
    block_on(async {
        let town = Town::new().await;
        let master = town.start("master", Role::SyncMaster).await;
        let caller = town.world.caller(&master);
        caller.send("T", 0, "", "first").await;
        let mute = mute_slave(&town, &master).await;
        let began = town.world.clock.mono();
        let waiting = caller.send("T", 0, "", "second");
        let visible = async {
            let clock = &town.world.clock;
            clock.sleep_until(clock.mono() + Duration::from_millis(100)).await;
            caller.number(request::GET_MAX_OFFSET, "T", 0).await
        };
        let (late, seen) = tokio::join!(waiting, visible);
        assert_eq!((late.code, seen.as_str()), (code::FLUSH_SLAVE_TIMEOUT, "1"));
        assert!(town.world.clock.mono().since(began) >= Duration::from_millis(300));
        assert_eq!(caller.number(request::GET_MAX_OFFSET, "T", 0).await, "2");
        drop(mute);
        master.shutdown().await;
    });
}

#[test]
fn the_word_of_an_impostor_changes_nothing() {
    block_on(async {
        let town = Town::new().await;
        let master = town.start("master", Role::SyncMaster).await;
        let caller = town.world.caller(&master);
        caller.send("T", 0, "", "first").await;
        let addr = format!("127.0.0.1:{}", master.ha().port());
        let mut stream = town.world.net.dial(&addr, TIMEOUT).await.unwrap();
        net::write_all(&mut *stream, &(1u64 << 40).to_be_bytes()).await.unwrap();
        let mut rest = bytes::BytesMut::new();
        assert_eq!(net::read(&mut *stream, &mut rest, 100).await.unwrap_or(0), 0);
        assert_eq!(caller.send("T", 0, "", "x").await.code, code::SLAVE_NOT_AVAILABLE);
        let mut mute = mute_slave(&town, &master).await;
        net::write_all(&mut *mute, &(1u64 << 40).to_be_bytes()).await.unwrap();
        town.until("it is sent away", || master.ha().slaves().is_empty()).await;
        assert_eq!(caller.send("T", 0, "", "y").await.code, code::SLAVE_NOT_AVAILABLE);
        master.shutdown().await;
    });
}

#[test]
fn topics_groups_and_offsets_follow_and_what_is_deleted_goes() {
    block_on(async {
        let town = Town::new().await;
        let mut parts = town.parts("slave", Role::Slave);
        parts.store.flush = FlushMode::Sync;
        let master = town.start("master", Role::AsyncMaster).await;
        let slave = town.world.start(parts).await;
        let (caller, reader) = (town.world.caller(&master), town.world.caller(&slave));
        for topic in ["T", "U"] {
            assert_eq!(caller.send(topic, 0, "", "one").await.code, code::SUCCESS);
        }
        caller.heartbeat("g", "T", 1).await;
        let commit = Command::request(request::UPDATE_CONSUMER_OFFSET)
            .with_ext("consumerGroup", "g")
            .with_ext("topic", "T")
            .with_ext("queueId", 0)
            .with_ext("commitOffset", 1);
        assert_eq!(caller.call(commit).await.code, code::SUCCESS);
        town.until_same(&master, &slave).await;
        let offset = || async {
            let ask = Command::request(request::QUERY_CONSUMER_OFFSET)
                .with_ext("consumerGroup", "g")
                .with_ext("topic", "T")
                .with_ext("queueId", 0);
            let answer = reader.call(ask).await;
            answer.get("offset").map(str::to_owned)
        };
        let clock = &town.world.clock;
        let deadline = clock.mono() + TIMEOUT;
        while offset().await.as_deref() != Some("1") {
            assert!(clock.mono() < deadline, "the offset did not come");
            clock.sleep_until(clock.mono() + Duration::from_millis(10)).await;
        }
        let delete = Command::request(request::DELETE_TOPIC_IN_BROKER).with_ext("topic", "U");
        assert_eq!(caller.call(delete).await.code, code::SUCCESS);
        town.until("U is gone", || {
            slave.store().queues().iter().all(|(key, ..)| &*key.topic != "U")
        })
        .await;
        assert_eq!(caller.send("U", 0, "", "anew").await.code, code::SUCCESS);
        town.until_same(&master, &slave).await;
        assert_eq!(reader.number(request::GET_MAX_OFFSET, "U", 0).await, "1");
        slave.shutdown().await;
        master.shutdown().await;
    });
}

#[test]
fn a_slave_without_a_log_begins_where_its_masters_begins() {
    block_on(async {
        let town = Town::new().await;
        let master = town.start("master", Role::AsyncMaster).await;
        let caller = town.world.caller(&master);
        let body = "x".repeat(3000);
        for _ in 0..60 {
            assert_eq!(caller.send("T", 0, "", &body).await.code, code::SUCCESS);
        }
        master.shutdown().await;
        std::fs::remove_file(town.dir("master").join("commitlog/00000000000000000000")).unwrap();
        let master = town.start("master", Role::AsyncMaster).await;
        let slave = town.start("slave", Role::Slave).await;
        town.until_same(&master, &slave).await;
        assert_eq!(slave.store().stats().min.0, 64 << 10);
        assert_eq!(slave.store().queues(), master.store().queues());
        let (queue, min, _) = slave.store().queues().remove(0);
        assert!(min.0 > 0, "{queue:?} begins at {min:?}");
        let reader = town.world.caller(&slave);
        let mut found = reader.pull("T", 0, min.0 as i64, 0).await;
        for _ in 0..100 {
            if found.code == code::SUCCESS {
                break;
            }
            let clock = &town.world.clock;
            clock.sleep_until(clock.mono() + Duration::from_millis(20)).await;
            found = reader.pull("T", 0, min.0 as i64, 0).await;
        }
        let first = message_unit::delivered(&found.body).next().unwrap().unwrap();
        assert_eq!(first.queue_offset(), min);
        slave.shutdown().await;
        master.shutdown().await;
        // And it goes on there after a restart.
        let slave = town.start("slave", Role::Slave).await;
        assert_eq!(slave.store().stats().min.0, 64 << 10);
        slave.shutdown().await;
    });
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A master and a slave that has all of its log, with 20 messages.
async fn pair(town: &Town, role: Role) -> (Broker, Broker) {
    let master = town.start("master", role).await;
    let slave = town.start("slave", Role::Slave).await;
    let caller = town.world.caller(&master);
    for n in 0..20 {
        let answer = caller.send("T", 0, "", &format!("{n} {}", "z".repeat(2000))).await;
        assert!(matches!(answer.code, 0 | code::SLAVE_NOT_AVAILABLE), "{answer:?}");
    }
    town.until_same(&master, &slave).await;
    (master, slave)
}

#[test]
fn an_old_master_gives_up_what_its_successor_never_had_and_keeps_a_copy() {
    block_on(async {
        let town = Town::new().await;
        let (master, slave) = pair(&town, Role::AsyncMaster).await;
        slave.shutdown().await;
        let caller = town.world.caller(&master);
        for n in 0..30 {
            let body = format!("lost {n} {}", "l".repeat(3000));
            assert_eq!(caller.send("T", 0, "", &body).await.code, code::SUCCESS);
        }
        master.shutdown().await;
        let promoted = town.start("slave", Role::AsyncMaster).await;
        let caller = town.world.caller(&promoted);
        for n in 0..10 {
            assert_eq!(caller.send("T", 0, "", &format!("new {n}")).await.code, code::SUCCESS);
        }
        let old = town.start("master", Role::Slave).await;
        let why = old.restart_wanted().await;
        assert!(why.contains("kept in hotfire/cut"), "{why}");
        old.shutdown().await;
        let old = town.start("master", Role::Slave).await;
        town.until_same(&promoted, &old).await;
        let end = promoted.store().stats().written.0;
        assert!(town.log("master", end) == town.log("slave", end), "the logs differ");
        assert_eq!(old.store().queues(), promoted.store().queues());
        assert_eq!(old.store().epochs(), promoted.store().epochs());
        let cut = std::fs::read_dir(town.dir("master").join("hotfire/cut")).unwrap();
        let kept: Vec<u8> = cut.flat_map(|e| std::fs::read(e.unwrap().path()).unwrap()).collect();
        let found = kept.windows(8).filter(|bytes| bytes.starts_with(b"lost ")).count();
        assert_eq!(found, 30, "the copy holds what was cut off");
        old.shutdown().await;
        promoted.shutdown().await;
    });
}

#[test]
fn a_master_that_lost_its_tail_takes_it_from_its_slave_before_it_writes() {
    block_on(async {
        let town = Town::new().await;
        let (master, slave) = pair(&town, Role::SyncMaster).await;
        copy_dir(&town.dir("master"), &town.dir("earlier"));
        let caller = town.world.caller(&master);
        for n in 0..40 {
            let body = format!("acked {n} {}", "a".repeat(3000));
            assert_eq!(caller.send("T", 0, "", &body).await.code, code::SUCCESS);
        }
        let end = master.store().stats().written;
        master.shutdown().await;
        std::fs::remove_dir_all(town.dir("master")).unwrap();
        std::fs::rename(town.dir("earlier"), town.dir("master")).unwrap();
        // The slave listens at a port that name servers know.
        assert_eq!(slave.store().stats().written, end);
        let master = town.start("master", Role::SyncMaster).await;
        assert_eq!(master.store().stats().written, end);
        assert_eq!(town.world.caller(&master).number(request::GET_MAX_OFFSET, "T", 0).await, "60");
        town.until_same(&master, &slave).await;
        slave.shutdown().await;
        master.shutdown().await;
    });
}

/// A name server has one address for a master, that of the last one to register.
#[test]
fn a_master_asks_who_followed_it_whether_it_was_replaced() {
    block_on(async {
        let town = Town::new().await;
        // A port that is said is one that others are told; a broker takes those beside it too.
        let bind = |port| std::net::TcpListener::bind(("127.0.0.1", port)).ok();
        let port = loop {
            let port = bind(0).unwrap().local_addr().unwrap().port();
            if port < 65_000 && bind(port + 1).is_some() && bind(port - 2).is_some() {
                break port;
            }
        };
        let at_port = |role| {
            let mut parts = town.parts("slave", role);
            parts.broker.listen_port = port;
            parts
        };
        let master = town.start("master", Role::AsyncMaster).await;
        let slave = town.world.start(at_port(Role::Slave)).await;
        town.until("the slave follows", || !master.ha().slaves().is_empty()).await;
        slave.shutdown().await;
        // Whoever promotes it cannot reach the master.
        std::fs::remove_file(town.dir("slave").join("hotfire/peers")).unwrap();
        let mut parts = at_port(Role::AsyncMaster);
        parts.broker.name_servers.clear();
        let promoted = town.world.start(parts).await;
        let why = master.fenced().await;
        let expected = format!("127.0.0.1:{port} is master of this name in epoch 1000001");
        assert!(why.contains(&expected), "{why}");
        master.shutdown().await;
        promoted.shutdown().await;
    });
}

#[test]
fn a_slave_that_becomes_master_has_the_topics_of_its_records() {
    block_on(async {
        let town = Town::new().await;
        let (master, slave) = pair(&town, Role::AsyncMaster).await;
        master.shutdown().await;
        slave.shutdown().await;
        // The records came, and their master was gone before it could say more.
        for name in ["topics.json", "topics.json.bak"] {
            let _ = std::fs::remove_file(town.dir("slave").join("config").join(name));
        }
        let marker = town.dir("slave").join("hotfire/was_slave");
        assert!(marker.exists());
        let promoted = town.start("slave", Role::AsyncMaster).await;
        let caller = town.world.caller(&promoted);
        let answer = caller.call(Command::request(request::GET_ALL_TOPIC_CONFIG)).await;
        assert!(String::from_utf8_lossy(&answer.body).contains("\"T\""));
        town.until("its tables are saved", || !marker.exists()).await;
        promoted.shutdown().await;
    });
}

#[test]
fn no_second_master_starts_beside_one_that_runs_or_over_a_slaves_log() {
    block_on(async {
        let town = Town::new().await;
        let (master, slave) = pair(&town, Role::AsyncMaster).await;
        let refused = town.refused("other", Role::AsyncMaster).await;
        assert!(refused.contains("it is master of this name, in epoch 1"), "{refused}");
        master.shutdown().await;
        std::fs::remove_dir_all(town.dir("master")).unwrap();
        let refused = town.refused("master", Role::AsyncMaster).await;
        assert!(refused.contains("it is a slave with a log of this name"), "{refused}");
        slave.shutdown().await;
    });
}

#[test]
fn logs_that_differ_where_epochs_agree_are_never_merged() {
    block_on(async {
        let town = Town::new().await;
        let (master, slave) = pair(&town, Role::AsyncMaster).await;
        slave.shutdown().await;
        // A bit of the slave's newest record flips, and its checksum with it.
        let caller = town.world.caller(&master);
        let path = town.dir("slave").join("commitlog/00000000000000000000");
        let mut bytes = std::fs::read(&path).unwrap();
        let (_, at) = bytes
            .windows(2)
            .enumerate()
            .filter(|(_, two)| *two == b"19")
            .map(|(at, _)| ((), at))
            .next_back()
            .unwrap();
        bytes[at] = b'7';
        let head = bytes[..at].windows(4).rposition(|four| four == 0xDAA3_20A7u32.to_be_bytes());
        let start = head.unwrap() - 4;
        let body = bytes[start + 84..start + 88].try_into().map(u32::from_be_bytes).unwrap();
        let sum = message_unit::body_crc(&bytes[start + 88..start + 88 + body as usize]);
        bytes[start + 8..start + 12].copy_from_slice(&sum.to_be_bytes());
        std::fs::write(&path, bytes).unwrap();
        std::fs::remove_file(town.dir("slave").join("hotfire/floor")).unwrap();
        std::fs::remove_file(town.dir("slave").join("hotfire/queues")).unwrap();
        let slave = town.start("slave", Role::Slave).await;
        town.until("it says why", || {
            let fault = slave.ha().followed().fault;
            fault.is_some_and(|why| why.contains("another one at the master"))
        })
        .await;
        assert_eq!(caller.send("T", 0, "", "more").await.code, code::SUCCESS);
        assert!(slave.store().stats().written < master.store().stats().written);
        slave.shutdown().await;
        master.shutdown().await;
    });
}

/// The stored offset of group g in queue 0 of T.
async fn offset_at(caller: &Caller) -> Option<String> {
    let ask = Command::request(request::QUERY_CONSUMER_OFFSET)
        .with_ext("consumerGroup", "g")
        .with_ext("topic", "T")
        .with_ext("queueId", 0);
    caller.call(ask).await.get("offset").map(str::to_owned)
}

async fn commit_at(caller: &Caller, offset: i64) {
    let commit = Command::request(request::UPDATE_CONSUMER_OFFSET)
        .with_ext("consumerGroup", "g")
        .with_ext("topic", "T")
        .with_ext("queueId", 0)
        .with_ext("commitOffset", offset);
    assert_eq!(caller.call(commit).await.code, code::SUCCESS);
}

async fn until_offset(town: &Town, caller: &Caller, wanted: &str) {
    let clock = &town.world.clock;
    let deadline = clock.mono() + TIMEOUT;
    loop {
        let found = offset_at(caller).await;
        if found.as_deref() == Some(wanted) {
            return;
        }
        assert!(clock.mono() < deadline, "the offset is {found:?}, not {wanted}");
        clock.sleep_until(clock.mono() + Duration::from_millis(10)).await;
    }
}

#[test]
fn offsets_committed_at_a_slave_are_not_taken_back_when_the_master_returns() {
    block_on(async {
        let town = Town::new().await;
        let (master, slave) = pair(&town, Role::AsyncMaster).await;
        let (caller, reader) = (town.world.caller(&master), town.world.caller(&slave));
        commit_at(&caller, 5).await;
        until_offset(&town, &reader, "5").await;
        master.shutdown().await;
        commit_at(&reader, 12).await;
        let master = town.start("master", Role::AsyncMaster).await;
        let caller = town.world.caller(&master);
        assert_eq!(offset_at(&caller).await.as_deref(), Some("12"));
        // And an operator who goes back is followed.
        commit_at(&caller, 3).await;
        until_offset(&town, &reader, "3").await;
        slave.shutdown().await;
        master.shutdown().await;
    });
}

#[test]
fn offsets_that_a_master_took_from_its_slave_are_kept_when_it_dies_at_once() {
    block_on(async {
        let town = Town::new().await;
        let (master, slave) = pair(&town, Role::AsyncMaster).await;
        let reader = town.world.caller(&slave);
        master.shutdown().await;
        commit_at(&reader, 12).await;
        let master = town.start("master", Role::AsyncMaster).await;
        killed(&town, "master", "killed");
        master.shutdown().await;
        slave.shutdown().await;
        let again = town.start("killed", Role::AsyncMaster).await;
        assert_eq!(offset_at(&town.world.caller(&again)).await.as_deref(), Some("12"));
        again.shutdown().await;
    });
}

#[test]
fn changed_tables_are_at_the_slave_at_once() {
    block_on(async {
        let town = Town::new().await;
        let master = town.start("master", Role::AsyncMaster).await;
        let mut parts = town.parts("slave", Role::Slave);
        parts.broker.replication.copy_interval = Duration::from_secs(600);
        let slave = town.world.start(parts).await;
        let (caller, reader) = (town.world.caller(&master), town.world.caller(&slave));
        assert_eq!(caller.send("T", 0, "", "one").await.code, code::SUCCESS);
        for offset in 1..4 {
            commit_at(&caller, offset).await;
            until_offset(&town, &reader, &offset.to_string()).await;
        }
        slave.shutdown().await;
        master.shutdown().await;
    });
}

#[test]
fn how_replication_stands_is_told_to_operators() {
    block_on(async {
        let town = Town::new().await;
        let (master, slave) = pair(&town, Role::AsyncMaster).await;
        let ask = || Command::request(request::HOTFIRE_HA_STATUS);
        let said = town.world.caller(&master).call(ask()).await;
        let status: Status = serde_json::from_slice(&said.body).unwrap();
        assert_eq!((&*status.role, status.epoch, status.slaves.len()), ("ASYNC_MASTER", 1, 1));
        assert_eq!((status.slaves[0].acked, status.slaves[0].behind_bytes), (status.written, 0));
        let said = town.world.caller(&slave).call(ask()).await;
        let status: Status = serde_json::from_slice(&said.body).unwrap();
        assert_eq!((&*status.role, status.is_connected, status.behind_bytes), ("SLAVE", true, 0));
        slave.shutdown().await;
        master.shutdown().await;
    });
}

/// What a process leaves that is killed now.
fn killed(town: &Town, name: &str, to: &str) {
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .args([town.dir(name), town.dir(to)])
        .status()
        .unwrap();
    assert!(copied.success());
}

#[test]
fn a_record_that_waits_for_a_slave_is_in_its_queue_after_a_crash() {
    block_on(async {
        let town = Town::new().await;
        let mut parts = town.parts("master", Role::SyncMaster);
        let timeout = Duration::from_secs(2);
        parts.store.replicate = Some(Replicate { timeout, fall_behind_max: 256 << 20 });
        parts.store.flush = FlushMode::Sync;
        parts.store.checkpoint_interval = Duration::from_millis(20);
        let master = town.world.start(parts).await;
        let caller = town.world.caller(&master);
        caller.send("T", 0, "", "first").await;
        let mute = mute_slave(&town, &master).await;
        let waits = async {
            caller.send("T", 0, "", "second").await;
        };
        let killed = async {
            let clock = &town.world.clock;
            clock.sleep_until(clock.mono() + Duration::from_millis(400)).await;
            assert_eq!(caller.number(request::GET_MAX_OFFSET, "T", 0).await, "1");
            killed(&town, "master", "killed");
        };
        tokio::select! {
            () = waits => panic!("no slave has it"),
            () = killed => {}
        }
        drop(mute);
        master.shutdown().await;
        let again = town.start("killed", Role::AsyncMaster).await;
        let caller = town.world.caller(&again);
        assert_eq!(caller.number(request::GET_MAX_OFFSET, "T", 0).await, "2");
        let third = caller.send("T", 0, "", "third").await;
        assert_eq!(third.get("queueOffset"), Some("2"));
        again.shutdown().await;
    });
}

/// The start that failed has not asked the slave for all that the stop before took.
#[test]
fn a_start_that_failed_after_an_unclean_stop_leaves_the_next_one_to_wait_for_its_slave() {
    block_on(async {
        let town = Town::new().await;
        let (master, slave) = pair(&town, Role::SyncMaster).await;
        killed(&town, "master", "failed");
        let caller = town.world.caller(&master);
        for n in 0..5 {
            assert_eq!(caller.send("T", 0, "", &format!("acked {n}")).await.code, code::SUCCESS);
        }
        let end = master.store().stats().written;
        town.until_same(&master, &slave).await;
        master.shutdown().await;
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut parts = town.parts("failed", Role::SyncMaster);
        parts.broker.listen_port = taken.local_addr().unwrap().port();
        // Nobody can be asked this time.
        parts.broker.name_servers.clear();
        parts.broker.replication.catch_up_wait = Duration::from_millis(50);
        let failed = town.start_anew(parts).await.err().unwrap().to_string();
        assert!(failed.contains("listen"), "{failed}");
        assert!(town.dir("failed").join("abort").exists());
        let again = town.start("failed", Role::SyncMaster).await;
        assert!(again.recovery_report().unclean);
        assert_eq!(again.store().stats().written, end);
        again.shutdown().await;
        slave.shutdown().await;
    });
}

/// The two masters need not know of each other.
#[test]
fn a_slave_that_heard_of_the_next_master_tells_the_one_that_it_replaced() {
    block_on(async {
        let town = Town::new().await;
        let (master, slave) = pair(&town, Role::AsyncMaster).await;
        let end = master.store().stats().written;
        let next = format!("{},1000001:{end}:beef", master.store().epochs().to_text().trim());
        slave.ha().hear_of(hotfire::format::epochs::Epochs::parse(&next).expect("a list"));
        let limit = town.world.clock.mono() + TIMEOUT;
        let why = town.world.clock.before(limit, master.fenced()).await.expect("it was told");
        assert!(why.contains("knows of epoch 1000001 of another master"), "{why}");
        slave.shutdown().await;
        master.shutdown().await;
    });
}
