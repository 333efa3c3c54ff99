//! Brokers of one name that do not let each other in.

use super::wrapped::{Wiles, Wrapped};
use super::*;
use hotfire::broker::replication::wire;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// Whoever connects seems to come from here, which no list has.
const STRANGER: &str = "10.9.9.9:5555";

/// Everybody is a stranger.
struct Strangers;

impl Wiles for Strangers {
    fn accepts(&self, _from: SocketAddr) -> SocketAddr {
        STRANGER.parse().unwrap()
    }
}

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn has(&self, part: &str) -> bool {
        self.0.lock().unwrap().iter().any(|line| line.contains(part))
    }
}

impl tracing::Subscriber for Lines {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, _: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0 = format!("{value:?}");
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

pub(super) async fn start_among_strangers(town: &Town, parts: Parts) -> Broker {
    let (disk, clock) = (town.world.disk.clone(), town.world.clock.clone());
    let net = Arc::new(Wrapped(town.world.net.clone(), Arc::new(Strangers)));
    Broker::start(Deps { disk, net, clock, rng: Rng::from_seed(8) }, parts).await.unwrap()
}

#[test]
fn a_master_that_may_not_read_the_log_of_its_slave_says_so_and_goes_on_without() {
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.clone());
    block_on(async {
        let town = Town::new().await;
        let master = town.start("master", Role::AsyncMaster).await;
        let slave = start_among_strangers(&town, town.parts("slave", Role::Slave)).await;
        let caller = town.world.caller(&master);
        assert_eq!(caller.send("T", 0, "", "kept").await.code, code::SUCCESS);
        town.until_same(&master, &slave).await;
        let had = master.store().stats().written;
        copy_dir(&town.dir("master"), &town.dir("earlier"));
        assert_eq!(caller.send("T", 0, "", "lost").await.code, code::SUCCESS);
        town.until_same(&master, &slave).await;
        let end = master.store().stats().written;
        master.shutdown().await;
        std::fs::remove_dir_all(town.dir("master")).unwrap();
        std::fs::rename(town.dir("earlier"), town.dir("master")).unwrap();

        let refused = town.world.caller(&slave).call(wire::read_log(had.0)).await;
        let why = "10.9.9.9 is not known as a broker of this name";
        assert_eq!((refused.code, refused.remark.as_deref()), (code::SYSTEM_ERROR, Some(why)));

        let mut parts = town.parts("master", Role::AsyncMaster);
        parts.broker.replication.catch_up_wait = Duration::from_millis(2500);
        let master = town.world.start(parts).await;
        assert_eq!(master.store().stats().written, had);
        let told = format!("has the log up to {end}, and from {had} on it is lost: {why}");
        assert!(lines.has(&told), "{told:?} was not said");
        assert_eq!(town.world.caller(&master).send("T", 0, "", "more").await.code, code::SUCCESS);
        slave.shutdown().await;
        master.shutdown().await;
    });
}

#[test]
fn a_master_does_not_give_its_log_to_a_stranger() {
    block_on(async {
        let town = Town::new().await;
        let parts = town.parts("master", Role::AsyncMaster);
        let master = start_among_strangers(&town, parts).await;
        let caller = town.world.caller(&master);
        assert_eq!(caller.send("T", 0, "", "mine").await.code, code::SUCCESS);
        let refused = caller.call(wire::read_log(0)).await;
        assert_eq!(refused.code, code::SYSTEM_ERROR);
        assert!(refused.body.is_empty());
        assert!(refused.remark.unwrap().contains("is not known as a broker of this name"));
        master.shutdown().await;
    });
}

/// It still runs, and does not know its successor: what groups commit there is about its own
/// records.
#[test]
fn offsets_are_not_taken_from_a_master_that_was_replaced() {
    block_on(async {
        let town = Town::new().await;
        let (master, slave) = pair(&town, Role::AsyncMaster).await;
        commit_at(&town.world.caller(&master), 5).await;
        until_offset(&town, &town.world.caller(&slave), "5").await;
        slave.shutdown().await;
        master.shutdown().await;
        let old = start_among_strangers(&town, town.parts("master", Role::AsyncMaster)).await;
        let mut parts = town.parts("slave", Role::AsyncMaster);
        parts.broker.name_servers.clear();
        std::fs::remove_file(town.dir("slave").join("hotfire/peers")).unwrap();
        let promoted = town.world.start(parts).await;
        let (at_old, at_new) = (town.world.caller(&old), town.world.caller(&promoted));
        for caller in [&at_old, &at_new] {
            for n in 0..10 {
                assert_eq!(caller.send("T", 0, "", &format!("{n}")).await.code, code::SUCCESS);
            }
        }
        commit_at(&at_old, 25).await;
        promoted.shutdown().await;
        // Now a name server says where the old one is.
        let promoted = town.start("slave", Role::AsyncMaster).await;
        let found = offset_at(&town.world.caller(&promoted)).await;
        assert_eq!(found.as_deref(), Some("5"));
        old.shutdown().await;
        promoted.shutdown().await;
    });
}
