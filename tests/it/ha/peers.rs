//! Slaves of one master that never met.

use super::unadmitted::start_among_strangers;
use super::*;
use hotfire::broker::replication::wire::{self, Answer, Question};
use hotfire::ha::Position;

/// A slave at `addr` greets its master. Returns what it is told.
async fn greet(master: &Broker, caller: &Caller, addr: &str) -> Answer {
    let question = Question {
        broker_name: "broker-a".to_owned(),
        addr: addr.to_owned(),
        follows: true,
        position: Position::without_record(master.store()),
    };
    let answer = caller.call(question.to_command()).await;
    assert_eq!(answer.code, code::SUCCESS, "{:?}", answer.remark);
    Answer::decode(&answer).unwrap()
}

async fn until_known(town: &Town, slave: &str, addr: &str) {
    let path = town.dir(slave).join("hotfire/peers");
    let is_known = || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        text.lines().any(|line| line == addr)
    };
    town.until("the slave was told", is_known).await;
}

#[test]
fn a_slave_is_told_who_follows_its_master_whether_that_came_before_it_or_later() {
    block_on(async {
        let town = Town::new().await;
        let master = town.start("master", Role::AsyncMaster).await;
        let caller = town.world.caller(&master);
        assert!(greet(&master, &caller, "10.0.0.7:10911").await.peers.len() == 1);
        let slave = town.start("slave", Role::Slave).await;
        until_known(&town, "slave", "10.0.0.7:10911").await;
        let told = greet(&master, &caller, "10.0.0.8:10911").await.peers;
        assert!(told.contains(&"10.0.0.7:10911".to_owned()), "{told:?}");
        until_known(&town, "slave", "10.0.0.8:10911").await;
        slave.shutdown().await;
        master.shutdown().await;
    });
}

/// It may be the next master, and lack what this one has. No name server knows it while it starts.
#[test]
fn a_slave_lets_another_read_its_log_that_follows_the_same_master() {
    block_on(async {
        let town = Town::new().await;
        let master = town.start("master", Role::AsyncMaster).await;
        let caller = town.world.caller(&master);
        assert_eq!(caller.send("T", 0, "", "kept").await.code, code::SUCCESS);
        let slave = start_among_strangers(&town, town.parts("slave", Role::Slave)).await;
        town.until_same(&master, &slave).await;
        let read = || async { town.world.caller(&slave).call(wire::read_log(0)).await };
        assert_eq!(read().await.code, code::SYSTEM_ERROR, "nobody has named it");
        greet(&master, &caller, "10.9.9.9:10911").await;
        until_known(&town, "slave", "10.9.9.9:10911").await;
        let answer = read().await;
        assert_eq!((answer.code, answer.body.is_empty()), (code::SUCCESS, false));

        // It is known after a restart too, without its master.
        master.shutdown().await;
        slave.shutdown().await;
        let slave = start_among_strangers(&town, town.parts("slave", Role::Slave)).await;
        let answer = town.world.caller(&slave).call(wire::read_log(0)).await;
        assert_eq!((answer.code, answer.body.is_empty()), (code::SUCCESS, false));
        slave.shutdown().await;
    });
}

/// It began without what a slave of its master has, and acknowledged messages were gone.
#[test]
fn a_slave_does_not_become_the_master_beside_one_with_more_that_does_not_let_it_read() {
    block_on(async {
        let town = Town::new().await;
        let (master, heir) = pair(&town, Role::SyncMaster).await;
        heir.shutdown().await;
        let mut parts = town.parts("other", Role::Slave);
        parts.broker.id = 2;
        let other = start_among_strangers(&town, parts).await;
        town.until_same(&master, &other).await;
        let caller = town.world.caller(&master);
        // Until its slave counts, it says that none is there.
        while caller.send("T", 0, "", "acked").await.code != code::SUCCESS {}
        town.until_same(&master, &other).await;
        let end = master.store().stats().written;
        master.shutdown().await;
        let epochs = || std::fs::read(town.dir("slave").join("hotfire/epochs")).unwrap();
        let before = epochs();

        let mut parts = town.parts("slave", Role::SyncMaster);
        parts.broker.replication.catch_up_wait = Duration::from_millis(2500);
        let refused = town.world.try_start(parts).await.err().unwrap().to_string();
        assert!(refused.contains("with more of the log, which could not be taken"), "{refused}");
        assert_eq!(epochs(), before, "it has begun no epoch");
        other.shutdown().await;
        let next = town.start("other", Role::SyncMaster).await;
        assert_eq!(next.store().stats().written, end);
        next.shutdown().await;
    });
}
