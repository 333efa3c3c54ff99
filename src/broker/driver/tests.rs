//! A start that fails.

use super::*;
use crate::disk::faulty::{Call, FaultyDisk};
use crate::disk::real::RealDisk;
use crate::model::{QueueId, TopicName, WallMillis};
use crate::rt::block_on;
use crate::store::Append;

#[test]
fn a_start_that_fails_beside_a_slow_disk_has_an_end() {
    block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let (disk, clock) = (FaultyDisk::new(Arc::new(RealDisk::new())), Clock::new());
        let (disk, mut group) = (Arc::new(disk), TaskGroup::new());
        let mut options = crate::store::Options::new(dir.path().to_str().unwrap());
        (options.flush, options.segment_size_bytes) = (FlushMode::Sync, 64 << 10);
        let ear = Arc::new(Ear::default());
        let opened = Store::open(disk.clone(), clock.clone(), &group, options, ear).await;
        let (store, _) = opened.unwrap();
        disk.hold(Call::Sync);
        let (topic, host) = (TopicName::new("T"), SocketAddr::from(([10, 0, 0, 1], 1)));
        let append = Append {
            topic: &topic,
            queue: QueueId(0),
            flag: 0,
            sys_flag: 0,
            born_timestamp: WallMillis(1),
            born_host: host,
            store_host: host,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body: b"x",
            properties: b"",
            tags_code: None,
            wait: true,
            ticket: NOBODY,
        };
        store.append(&append).unwrap();
        store.until(|stats| stats.written.0 > 0).await.unwrap();
        // Longer than the end of a group takes.
        let (released, slow) = (TaskGroup::new(), (disk.clone(), clock.clone()));
        released.spawn(async move {
            let (disk, clock) = slow;
            clock.sleep_until(clock.mono() + Duration::from_millis(1_500)).await;
            disk.release();
        });
        let error = Error::Port { port: 1, reason: "it is taken".to_owned() };
        let gave_up = give_up(&clock, &store, Abort::Goes, &mut group, error);
        let limit = clock.mono() + Duration::from_secs(10);
        assert!(clock.before(limit, gave_up).await.is_some(), "it waits for ever");
    });
}
