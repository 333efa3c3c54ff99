//! What a slave keeps of its master's transactions.

use super::super::transaction::{COMMIT, end, prepare, progress};
use super::*;

#[test]
fn what_a_slave_says_of_ended_transactions_is_on_its_disk() {
    block_on(async {
        let town = Town::new().await;
        let mut parts = town.parts("master", Role::AsyncMaster);
        parts.broker.offsets_save_interval = Duration::from_millis(20);
        parts.store.flush = FlushMode::Sync;
        let master = town.world.start(parts).await;
        let mut parts = town.parts("slave", Role::Slave);
        parts.store.flush_interval = Duration::from_secs(600);
        let slave = town.world.start(parts).await;
        let (caller, reader) = (town.world.caller(&master), town.world.caller(&slave));
        let half = prepare(&caller, "money", "").await;
        assert_eq!(end(&caller, half, COMMIT).await, code::SUCCESS);
        let clock = &town.world.clock;
        while progress(&caller).await != (1, 1) {
            clock.sleep_until(clock.mono() + Duration::from_millis(10)).await;
        }
        commit_at(&caller, 5).await;
        until_offset(&town, &reader, "5").await;
        // It looks every 200 ms whether something may be taken over.
        clock.sleep_until(clock.mono() + Duration::from_millis(500)).await;
        let log = slave.store().stats();
        assert!(log.synced < log.written, "{log:?}");
        let ended = || async {
            let ask = Command::request(request::QUERY_CONSUMER_OFFSET)
                .with_ext("consumerGroup", "CID_RMQ_SYS_TRANS")
                .with_ext("topic", "RMQ_SYS_TRANS_HALF_TOPIC")
                .with_ext("queueId", 0);
            reader.call(ask).await.get("offset").map(str::to_owned)
        };
        assert_ne!(ended().await.as_deref(), Some("1"), "a power loss takes its op message");
        slave.shutdown().await;

        let slave = town.start("slave", Role::Slave).await;
        let reader = town.world.caller(&slave);
        let deadline = clock.mono() + TIMEOUT;
        while progress(&reader).await != (1, 1) {
            assert!(clock.mono() < deadline, "the slave never says that it has ended");
            clock.sleep_until(clock.mono() + Duration::from_millis(10)).await;
        }
        slave.shutdown().await;
        master.shutdown().await;
    });
}
