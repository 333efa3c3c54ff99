//! A master that lost its disk and begins anew while nobody who has its log can be asked.

use super::*;

#[test]
fn a_slave_keeps_its_log_beside_a_master_that_began_anew_and_can_take_its_place() {
    block_on(async {
        let town = Town::new().await;
        let (master, slave) = pair(&town, Role::SyncMaster).await;
        let caller = town.world.caller(&master);
        assert_eq!(caller.send("T", 0, "", "acked").await.code, code::SUCCESS);
        town.until_same(&master, &slave).await;
        let end = slave.store().stats().written;
        slave.shutdown().await;
        master.shutdown().await;
        let log = town.log("slave", end.0);
        std::fs::remove_dir_all(town.dir("master")).unwrap();
        let anew = town.start_anew(town.parts("master", Role::SyncMaster)).await.unwrap();
        let code = town.world.caller(&anew).send("T", 0, "", "other").await.code;
        assert_eq!(code, code::SLAVE_NOT_AVAILABLE);

        let slave = town.start("slave", Role::Slave).await;
        let why = "the master's log is a new one, in epoch 1, and shares none with this one";
        let says_it = || slave.ha().followed().fault.is_some_and(|fault| fault.contains(why));
        town.until("the slave says why it does not follow", says_it).await;
        assert_eq!(slave.store().stats().written, end);
        assert!(!town.dir("slave").join("hotfire/cut").exists());
        anew.shutdown().await;
        slave.shutdown().await;

        let next = town.start("slave", Role::SyncMaster).await;
        assert_eq!(town.log("slave", end.0), log);
        next.shutdown().await;
    });
}
