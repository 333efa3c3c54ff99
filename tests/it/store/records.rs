//! Many records at once, by their queue entries.

use super::*;
use hotfire::format::consume_queue_unit::QueueUnit;
use hotfire::store::Abort;

#[test]
fn records_of_entries_come_in_their_order_with_those_left_out_that_are_not_there() {
    let dir = tempfile::tempdir().unwrap();
    hotfire::rt::block_on(async {
        let disk = Arc::new(FaultyDisk::new(Arc::new(RealDisk::new())));
        let mut house = try_open(disk.clone(), &options(&dir)).await.unwrap();
        for n in 0..30 {
            let other = "x".repeat(n * 100);
            assert_eq!(house.sent("effect", 0, other.as_bytes()).await.1, Outcome::Durable);
            let body = format!("op {n}");
            assert_eq!(house.sent("op", 0, body.as_bytes()).await.1, Outcome::Durable);
        }
        let mut units = Vec::new();
        while units.len() < 30 {
            let from = QueueOffset(units.len() as u64);
            let slice = house.store.slice(&key("op", 0), from, 30).await.unwrap();
            units.extend(slice.units);
        }
        let body = |record: &Option<Bytes>, at: PhysicalOffset| -> Option<String> {
            let view = match message_unit::decode(record.as_ref()?, at, true) {
                Ok(message_unit::Unit::Record(view)) => view,
                other => panic!("{other:?}"),
            };
            Some(String::from_utf8_lossy(view.body()).into_owned())
        };
        units[3].size += 1;
        units[7].physical_offset = PhysicalOffset(1 << 40);
        units[9] = QueueUnit::BLANK;
        let before = disk.count(Call::Read, "commitlog");
        let found = house.store.records_of(&units).await.unwrap();
        let reads = disk.count(Call::Read, "commitlog") - before;
        assert!(reads < 15, "neighbours are read together: {reads} reads of 28 records");
        assert_eq!(found.len(), units.len());
        for (n, (record, unit)) in found.iter().zip(&units).enumerate() {
            let want = (![3, 7, 9].contains(&n)).then(|| format!("op {n}"));
            assert_eq!(body(record, unit.physical_offset), want, "{n}");
        }
        disk.fail_always(Call::Read, "commitlog", Fault::Broken);
        assert!(house.store.records_of(&units).await.is_err());
        disk.heal();
        house.store.close(Abort::Goes).await.1.unwrap();
    });
}

/// Whoever says so unasked means all of it; who says it of a moment means what was there then.
#[test]
fn a_topic_goes_with_records_that_are_under_way_unless_only_older_ones_are_meant() {
    run(async {
        let dir = temp();
        let options = Options { flush: FlushMode::Sync, ..options(&dir) };
        let disk = FaultyDisk::new(Arc::new(RealDisk::new()));
        let mut house = try_open(Arc::new(disk.clone()), &options).await.unwrap();
        house.sent("T", 0, b"old").await;
        let seen = house.store.stats().end;
        disk.hold(Call::Sync);
        house.send("T", 0, b"under way").unwrap();
        assert!(!house.store.delete_topic_below("T", seen).await.unwrap());
        disk.release();
        house.outcome(2).await;
        assert!(!house.store.delete_topic_below("T", seen).await.unwrap());
        assert_eq!(house.store.max_offset(&key("T", 0)).0, 2);
        let now = house.store.stats().end;
        house.sent("U", 0, b"other").await;
        assert!(house.store.delete_topic_below("T", now).await.unwrap());
        assert_eq!(house.store.max_offset(&key("T", 0)).0, 0);

        house.sent("U", 0, b"old").await;
        let next = house.send("U", 0, b"next").unwrap();
        assert_eq!(next.queue_offset.0, 2);
        house.store.delete_topic("U").await.unwrap();
        house.outcome(house.next).await;
        assert_eq!(house.store.max_offset(&key("U", 0)).0, 0);
        house.stop().await;
    });
}
