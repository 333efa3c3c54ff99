//! Slaves whose logs begin later than their master's.

use super::*;

const SEGMENT: u64 = 64 << 10;

/// A master whose first file is gone.
async fn master_without_its_first_file(town: &Town) -> Broker {
    let body = "x".repeat(3000);
    for (count, is_first) in [(5, true), (60, false)] {
        let master = town.start("master", Role::AsyncMaster).await;
        let caller = town.world.caller(&master);
        for _ in 0..count {
            assert_eq!(caller.send("T", 0, "", &body).await.code, code::SUCCESS);
        }
        master.shutdown().await;
        if is_first {
            copy_dir(&town.dir("master"), &town.dir("backup"));
        }
    }
    std::fs::remove_file(town.dir("master").join("commitlog/00000000000000000000")).unwrap();
    town.start("master", Role::AsyncMaster).await
}

#[test]
fn a_slave_that_shares_nothing_with_its_master_keeps_a_copy_and_begins_anew() {
    block_on(async {
        let town = Town::new().await;
        let master = master_without_its_first_file(&town).await;
        let slave = town.start("slave", Role::Slave).await;
        town.until_same(&master, &slave).await;
        assert_eq!(slave.store().stats().min.0, SEGMENT);
        let end = slave.store().stats().written.0;
        let log = town.log("slave", end - SEGMENT);
        slave.shutdown().await;
        master.shutdown().await;

        // The master's disk is set back to where the slave's log had not begun.
        std::fs::remove_dir_all(town.dir("master")).unwrap();
        copy_dir(&town.dir("backup"), &town.dir("master"));
        let parts = town.parts("master", Role::AsyncMaster);
        let master = town.start_anew(parts).await.unwrap();
        let sent = town.world.caller(&master).send("T", 0, "", "other").await;
        assert_eq!(sent.code, code::SUCCESS);
        assert!(master.store().stats().written.0 < SEGMENT);

        let slave = town.start("slave", Role::Slave).await;
        let clock = &town.world.clock;
        let why = clock.before(clock.mono() + TIMEOUT, slave.restart_wanted()).await;
        let why = why.expect("the slave wants to start again");
        assert!(why.contains("kept in hotfire/cut"), "{why}");
        slave.shutdown().await;
        let slave = town.start("slave", Role::Slave).await;
        town.until_same(&master, &slave).await;
        assert_eq!(slave.store().stats().min.0, 0);
        assert_eq!(slave.store().queues(), master.store().queues());
        let mut kept: Vec<_> = std::fs::read_dir(town.dir("slave").join("hotfire/cut"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        kept.sort();
        // Each file of the log, without what was never written of it.
        let kept = kept.iter().map(|path| std::fs::read(path).unwrap());
        let mut at = 0;
        for bytes in kept {
            assert!(log[at..].starts_with(&bytes), "the copy of {at} is another");
            at += SEGMENT as usize;
        }
        assert!(at >= log.len(), "{at} of {}", log.len());
        slave.shutdown().await;
        master.shutdown().await;
    });
}

#[test]
fn a_queue_that_a_slave_knew_and_had_nothing_of_begins_with_its_first_record() {
    block_on(async {
        let town = Town::new().await;
        let master = master_without_its_first_file(&town).await;
        let slave = town.start("slave", Role::Slave).await;
        town.until_same(&master, &slave).await;
        slave.shutdown().await;
        // Its queue is known, and its log is empty.
        std::fs::remove_dir_all(town.dir("slave").join("commitlog")).unwrap();
        std::fs::remove_dir_all(town.dir("slave").join("hotfire")).unwrap();
        for _ in 0..2 {
            let slave = town.start("slave", Role::Slave).await;
            town.until_same(&master, &slave).await;
            assert_eq!(slave.store().stats().min.0, SEGMENT);
            assert_eq!(slave.store().queues(), master.store().queues());
            slave.shutdown().await;
        }
        master.shutdown().await;
    });
}
