//! A master that was replaced, and answers still.

use super::wrapped::{Reading, Wiles, Wrapped};
use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is meant for the master goes to another broker while this is set.
struct Detour {
    master: String,
    other: String,
    is_set: AtomicBool,
}

impl Wiles for Detour {
    fn dials(&self, addr: &str) -> String {
        let is_diverted = addr == self.master && self.is_set.load(Ordering::Relaxed);
        if is_diverted { self.other.clone() } else { addr.to_owned() }
    }

    fn reads(&self, to: &str, _is_marked: bool) -> Reading {
        let wrong = if self.is_set.load(Ordering::Relaxed) { &self.master } else { &self.other };
        if to == wrong { Reading::Ended } else { Reading::Comes }
    }
}

/// A broker of the same name, whose tables have all topics and whose log has gone another way.
#[test]
fn a_slave_takes_no_offsets_from_a_master_whose_log_it_does_not_follow() {
    block_on(async {
        let (town, other_town) = (Town::new().await, Town::new().await);
        let master = town.start("master", Role::AsyncMaster).await;
        let old = other_town.start_anew(other_town.parts("old", Role::AsyncMaster)).await.unwrap();
        let (caller, old_caller) = (town.world.caller(&master), other_town.world.caller(&old));
        for caller in [&caller, &old_caller] {
            for _ in 0..3 {
                assert_eq!(caller.send("T", 0, "", "one").await.code, code::SUCCESS);
            }
            caller.heartbeat("g", "T", 1).await;
        }
        let addr = |broker: &Broker| broker.local_addr().to_string();
        let (master_addr, other, is_set) = (addr(&master), addr(&old), AtomicBool::new(false));
        let detour = Arc::new(Detour { master: master_addr, other, is_set });
        let net = Arc::new(Wrapped(town.world.net.clone(), detour.clone()));
        let (disk, clock) = (town.world.disk.clone(), town.world.clock.clone());
        let deps = Deps { disk, net, clock, rng: Rng::from_seed(8) };
        let slave = Broker::start(deps, town.parts("slave", Role::Slave)).await.unwrap();
        let reader = town.world.caller(&slave);
        town.until_same(&master, &slave).await;
        commit_at(&caller, 1).await;
        until_offset(&town, &reader, "1").await;

        commit_at(&old_caller, 3).await;
        detour.is_set.store(true, Ordering::Relaxed);
        town.world.clock.sleep_until(town.world.clock.mono() + Duration::from_millis(800)).await;
        assert_eq!(offset_at(&reader).await.as_deref(), Some("1"));
        assert!(slave.ha().followed().is_connected, "its log comes from the master");

        detour.is_set.store(false, Ordering::Relaxed);
        commit_at(&caller, 2).await;
        until_offset(&town, &reader, "2").await;
        slave.shutdown().await;
        master.shutdown().await;
        old.shutdown().await;
    });
}
