//! Topics of a master that change while its slave asks for them.

use super::wrapped::{Reading, Wiles, Wrapped};
use super::*;
use hotfire::model::{QueueId, QueueKey, QueueOffset, TopicName};
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the net of a slave shall do.
#[derive(Default)]
struct Gate {
    /// The answer to the next question for topics waits.
    is_armed: AtomicBool,
    is_shut: AtomicBool,
}

impl Wiles for Gate {
    fn writes(&self, bufs: &[IoSlice<'_>]) -> bool {
        let code = format!("\"code\":{},", request::GET_ALL_TOPIC_CONFIG);
        let has = |buf: &IoSlice<'_>| buf.windows(code.len()).any(|part| part == code.as_bytes());
        let asks_topics = bufs.iter().any(has);
        if asks_topics && self.is_armed.swap(false, Ordering::Relaxed) {
            self.is_shut.store(true, Ordering::Relaxed);
        }
        asks_topics
    }

    fn reads(&self, _to: &str, asks_topics: bool) -> Reading {
        match asks_topics && self.is_shut.load(Ordering::Relaxed) {
            true => Reading::Waits,
            false => Reading::Comes,
        }
    }
}

/// The answer that a slave waits for says what was so before records came that it has by now.
#[test]
fn records_of_a_topic_stay_that_was_made_anew_after_the_master_was_asked() {
    block_on(async {
        let town = Town::new().await;
        let master = town.start("master", Role::AsyncMaster).await;
        let caller = town.world.caller(&master);
        assert_eq!(caller.send("T", 0, "", "first").await.code, code::SUCCESS);
        let gate = Arc::<Gate>::default();
        let net = Arc::new(Wrapped(town.world.net.clone(), gate.clone()));
        let mut parts = town.parts("slave", Role::Slave);
        // It asks when it is told of a change, and not before.
        parts.broker.replication.copy_interval = Duration::from_secs(3_600);
        let (disk, clock) = (town.world.disk.clone(), town.world.clock.clone());
        let deps = Deps { disk, net, clock, rng: Rng::from_seed(8) };
        let slave = Broker::start(deps, parts).await.unwrap();
        town.until_same(&master, &slave).await;
        let key = QueueKey { topic: TopicName::new("T"), queue: QueueId(0) };
        let config = || std::fs::read_to_string(town.dir("slave").join("config/topics.json"));
        town.until("the topic is known", || config().is_ok_and(|text| text.contains("\"T\"")))
            .await;

        gate.is_armed.store(true, Ordering::Relaxed);
        let gone = Command::request(request::DELETE_TOPIC_IN_BROKER).with_ext("topic", "T");
        assert_eq!(caller.call(gone).await.code, code::SUCCESS);
        town.until("the slave asks", || gate.is_shut.load(Ordering::Relaxed)).await;
        // Its answer is under way before the topic is made again.
        town.world.clock.sleep_until(town.world.clock.mono() + Duration::from_millis(300)).await;
        assert_eq!(caller.send("T", 0, "", "anew").await.code, code::SUCCESS);
        town.until_same(&master, &slave).await;
        gate.is_shut.store(false, Ordering::Relaxed);
        assert_eq!(caller.send("U", 0, "", "other").await.code, code::SUCCESS);
        town.until("it is copied again", || config().is_ok_and(|text| text.contains("\"U\"")))
            .await;
        assert!(config().unwrap().contains("\"T\""));
        let found = town.world.caller(&slave).pull("T", 0, 0, 0).await;
        let ends = (slave.store().min_offset(&key), slave.store().max_offset(&key));
        assert_eq!((found.code, ends), (code::SUCCESS, (QueueOffset(0), QueueOffset(1))));
        slave.shutdown().await;
        master.shutdown().await;
    });
}

/// Its table lacks the topic, and it died before it could save one that has it.
#[test]
fn a_master_makes_the_topics_of_what_an_earlier_start_took_from_its_slave() {
    block_on(async {
        let town = Town::new().await;
        let (master, slave) = pair(&town, Role::AsyncMaster).await;
        killed(&town, "master", "failed");
        let caller = town.world.caller(&master);
        assert_eq!(caller.send("U", 0, "", "acked").await.code, code::SUCCESS);
        let end = master.store().stats().written;
        town.until_same(&master, &slave).await;
        master.shutdown().await;
        // It takes the records, and cannot save a table.
        let obstacle = |name: &str| town.dir(name).join("config/topics.json.tmp");
        std::fs::create_dir(obstacle("failed")).unwrap();
        let first = town.start("failed", Role::AsyncMaster).await;
        assert_eq!(first.store().stats().written, end);
        killed(&town, "failed", "again");
        first.shutdown().await;
        std::fs::remove_dir(obstacle("again")).unwrap();

        let again = town.start("again", Role::AsyncMaster).await;
        let found = town.world.caller(&again).pull("U", 0, 0, 0).await;
        assert_eq!(found.code, code::SUCCESS, "{:?}", found.remark);
        let mark = town.dir("again").join("hotfire/has_taken");
        town.until("its tables are saved", || !mark.exists()).await;
        again.shutdown().await;
        slave.shutdown().await;
    });
}
