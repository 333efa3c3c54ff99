//! Derived files that came to harm while the process was down.

use super::*;
use hotfire::format::checkpoint::Checkpoint;
use std::os::unix::fs::FileExt;
use std::path::Path;

fn zero(path: &Path, at: u64, len: usize) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&vec![0; len], at).unwrap();
}

/// Sends `count` messages to T/0 and stops in order; gives their bodies.
async fn filled(options: &Options, count: usize) -> Vec<Vec<u8>> {
    let mut house = open(options).await;
    let mut bodies = Vec::new();
    for n in 0..count {
        bodies.push(format!("message {n}").into_bytes());
        house.sent("T", 0, &bodies[n]).await;
    }
    house.stop().await;
    bodies
}

#[test]
fn zeros_are_no_entry_for_the_record_at_offset_0() {
    run(async {
        let dir = temp();
        let bodies = filled(&options(&dir), 1).await;
        zero(&dir.path().join("store/consumequeue/T/0/00000000000000000000"), 0, 200);
        let house = open(&options(&dir)).await;
        assert_eq!(house.bodies("T", 0).await, bodies);
        house.stop().await;
    });
}

#[test]
fn entries_lost_in_the_middle_are_made_again_by_the_read_that_meets_them() {
    let (first, second) = ("00000000000000000000", "00000000000000000200");
    // The last begins behind place and size of an entry, which alone look right.
    for (file, at, len) in [(first, 0, 200), (second, 40, 100), (second, 32, 108)] {
        run(async {
            let dir = temp();
            let bodies = filled(&options(&dir), 35).await;
            let path = dir.path().join("store/consumequeue/T/0").join(file);
            let whole = std::fs::read(&path).unwrap();
            zero(&path, at, len);
            let house = open(&options(&dir)).await;
            assert_eq!(house.report.scanned_records, 0, "the start looks at ends only");
            assert_eq!(house.bodies("T", 0).await, bodies);
            assert_eq!(std::fs::read(&path).unwrap(), whole);
            house.stop().await;
        });
    }
}

/// Below the floor an entry stands for a record that cannot be read: half of one must not.
#[test]
fn half_an_entry_is_not_believed_while_its_record_cannot_be_read() {
    // Of the last entry of a file too: the next file says nothing about it.
    for (file, n) in [("00000000000000000200", 11), ("00000000000000000000", 9)] {
        run(async {
            let dir = temp();
            let mut house = open(&options(&dir)).await;
            let mut places = Vec::new();
            // Neither record is the last of its segment.
            house.sent("T", 1, &[0; 3000]).await;
            for n in 0..12_u8 {
                places.push(house.sent("T", 0, &vec![n; 3000]).await.0.physical.0);
            }
            // The record at the floor is readable.
            for _ in 0..2 {
                house.sent("T", 1, &[0; 3000]).await;
            }
            house.stop().await;
            let store = dir.path().join("store");
            let (snapshot, path) = (store.join("hotfire/queues"), store.join("consumequeue/T/0"));
            let (path, entry) = (path.join(file), n % 10 * 20);
            let whole = std::fs::read(&path).unwrap();
            let disk = FaultyDisk::new(Arc::new(RealDisk::new()));
            let (base, at) = (places[n] & !0x3fff, (places[n] & 0x3fff) + 1500);
            disk.set_unreadable(&format!("commitlog/{base:020}"), at..at + 1);
            // A whole one stands for its message, ...
            std::fs::remove_file(&snapshot).unwrap();
            let house = try_open(Arc::new(disk.clone()), &options(&dir)).await.unwrap();
            assert_eq!(house.report.unreadable.len(), 1, "{:?}", house.report);
            assert_eq!(house.store.max_offset(&key("T", 0)).0, 12);
            house.stop().await;
            // ... of a torn one it is not known that it is one.
            std::fs::remove_file(&snapshot).unwrap();
            zero(&path, entry as u64 + 16, 4);
            let refused = try_open(Arc::new(disk.clone()), &options(&dir)).await.err().unwrap();
            assert!(refused.to_string().contains("cannot read at offset"), "{refused}");
            disk.heal();
            let house = try_open(Arc::new(disk), &options(&dir)).await.unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), whole);
            assert_eq!(house.bodies("T", 0).await.len(), 12);
            house.stop().await;
        });
    }
}

#[test]
fn a_queue_whose_end_is_lost_after_an_orderly_stop_is_made_again() {
    let blank = [&[0; 8][..], &i32::MAX.to_be_bytes(), &[0; 8]].concat();
    for lost in [[0; 20].to_vec(), blank] {
        run(async {
            let dir = temp();
            let bodies = filled(&options(&dir), 35).await;
            let path = dir.path().join("store/consumequeue/T/0/00000000000000000600");
            let whole = std::fs::read(&path).unwrap();
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.write_all_at(&lost.repeat(5), 0).unwrap();
            let mut house = open(&options(&dir)).await;
            assert_eq!(std::fs::read(&path).unwrap(), whole);
            assert_eq!(house.bodies("T", 0).await, bodies);
            assert_eq!(house.sent("T", 0, b"more").await.0.queue_offset.0, 35);
            house.stop().await;
        });
    }
}

/// Nothing in a record protects its topic.
#[test]
fn a_topic_that_damage_made_a_path_leads_nowhere() {
    for path in ["../../x", "a/b/c/d", "../../.."] {
        run(async {
            let dir = temp();
            let mut house = open(&options(&dir)).await;
            let topic = &"abcdefgh"[..path.len()];
            for body in [b"first", b"other", b"third"] {
                house.sent(topic, 0, body).await;
            }
            house.kill().await;
            let root = dir.path().join("store");
            for gone in ["hotfire", "consumequeue"] {
                std::fs::remove_dir_all(root.join(gone)).unwrap();
            }
            let log = root.join("commitlog/00000000000000000000");
            let bytes = std::fs::read(&log).unwrap();
            let find = |what: &[u8]| bytes.windows(what.len()).position(|some| some == what);
            // The topic's length lies between.
            let at = find(b"other").unwrap() + 5 + 1;
            let file = std::fs::File::options().write(true).open(&log).unwrap();
            file.write_all_at(path.as_bytes(), at as u64).unwrap();
            for _ in 0..2 {
                let mut house = open(&options(&dir)).await;
                assert_eq!(house.store.queues().len(), 1);
                assert_eq!(house.store.max_offset(&key(topic, 0)).0, 3);
                assert!(house.send(path, 0, b"x").is_err());
                house.store.delete_topic("..").await.unwrap();
                house.kill().await;
            }
            let listed = std::fs::read_dir(root.join("consumequeue")).unwrap();
            let names: Vec<_> = listed.map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(names, [topic]);
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "only the store");
            assert_eq!(std::fs::read(&log).unwrap().len(), 16 << 10);
        });
    }
}

#[test]
fn without_abort_an_unclean_stop_is_still_one() {
    run(async {
        let dir = temp();
        let mut house = open(&options(&dir)).await;
        house.sent("T", 0, b"x").await;
        house.kill().await;
        std::fs::remove_file(dir.path().join("store/abort")).unwrap();
        let house = open(&options(&dir)).await;
        assert!(house.report.unclean);
        house.stop().await;
        assert!(!dir.path().join("store/hotfire/running").exists());
        assert!(!open(&options(&dir)).await.report.unclean);
    });
}

#[test]
fn a_topics_floor_past_the_logs_end_takes_nothing_that_is_written_later() {
    run(async {
        let dir = temp();
        let mut house = open(&options(&dir)).await;
        house.sent("U", 0, b"u").await;
        let (at, _) = house.sent("T", 0, b"old").await;
        house.store.delete_topic("T").await.unwrap();
        house.kill().await;
        // A power loss took the deleted record and left the topic's floor behind it.
        let store = dir.path().join("store");
        zero(&store.join("commitlog/00000000000000000000"), at.physical.0, 1000);
        for name in ["floor", "queues"] {
            let _ = std::fs::remove_file(store.join("hotfire").join(name));
        }
        let mut house = open(&options(&dir)).await;
        assert_eq!(house.report.end, at.physical);
        let (new, _) = house.sent("T", 0, b"new").await;
        assert_eq!((new.physical, new.queue_offset.0), (at.physical, 0));
        house.kill().await;
        std::fs::remove_dir_all(store.join("consumequeue")).unwrap();
        let house = open(&options(&dir)).await;
        assert_eq!(house.bodies("T", 0).await, [b"new".to_vec()]);
        house.stop().await;
    });
}

#[test]
fn a_topic_deleted_while_the_next_file_does_not_come_takes_nothing_that_is_written_later() {
    run(async {
        let dir = temp();
        let disk = FaultyDisk::new(Arc::new(RealDisk::new()));
        let options = Options { stall_max: Duration::from_millis(100), ..options(&dir) };
        let mut house = try_open(Arc::new(disk.clone()), &options).await.unwrap();
        house.sent("T", 0, b"old").await;
        house.sent("U", 0, b"first").await;
        let store = house.store.clone();
        house.until(|| store.stats().entries_unwritten == 0, "the queue files").await;
        disk.hold(Call::Create);
        for _ in 0..5 {
            assert_eq!(house.sent("U", 0, &[b'x'; 3000]).await.1, Outcome::Durable);
        }
        let ahead = house.send("U", 0, &[b'x'; 3000]).unwrap();
        assert_eq!(ahead.physical.0, options.segment_size_bytes);
        let refused = async {
            let outcome = house.outcome(house.next).await;
            disk.release();
            outcome
        };
        let (deleted, outcome) = tokio::join!(store.delete_topic("T"), refused);
        deleted.unwrap();
        assert!(matches!(outcome, Outcome::Rejected(Rejection::Stalled { .. })), "{outcome:?}");
        house.until(|| store.stats().stall.is_none(), "the next file").await;
        let (new, outcome) = house.sent("T", 0, b"new").await;
        assert_eq!((new.physical, outcome), (ahead.physical, Outcome::Durable));
        drop(store);
        house.kill().await;
        let store = dir.path().join("store");
        std::fs::remove_dir_all(store.join("consumequeue")).unwrap();
        std::fs::remove_file(store.join("hotfire/queues")).unwrap();
        let house = open(&options).await;
        assert_eq!(house.bodies("T", 0).await, [b"new".to_vec()]);
        house.stop().await;
    });
}

#[test]
fn a_queue_of_a_deleted_topic_that_is_still_there_begins_anew() {
    for stops in [true, false] {
        run(async {
            let dir = temp();
            let mut house = open(&options(&dir)).await;
            for n in 0..26 {
                house.sent("T", 0, &[n]).await;
            }
            house.sent("T", 1, b"old").await;
            house.stop().await;
            let queue = dir.path().join("store/consumequeue/T/0");
            let names = ["00000000000000000000", "00000000000000000200", "00000000000000000400"];
            let old = names.map(|name| std::fs::read(queue.join(name)).unwrap());
            let mut house = open(&options(&dir)).await;
            house.store.delete_topic("T").await.unwrap();
            house.sent("T", 1, b"new").await;
            house.stop().await;
            let mut house = open(&options(&dir)).await;
            house.sent("T", 1, b"newer").await;
            if stops {
                house.stop().await
            } else {
                house.kill().await
            }
            // A power loss undid that the files were removed; the topic's others stay removed.
            std::fs::create_dir_all(&queue).unwrap();
            for (name, bytes) in names.iter().zip(&old) {
                std::fs::write(queue.join(name), bytes).unwrap();
            }
            let mut house = open(&options(&dir)).await;
            assert_eq!(house.store.max_offset(&key("T", 0)).0, 0);
            assert_eq!(house.sent("T", 0, b"first").await.0.queue_offset.0, 0);
            assert_eq!(house.bodies("T", 0).await, [b"first".to_vec()]);
            assert_eq!(house.bodies("T", 1).await, [b"new".to_vec(), b"newer".to_vec()]);
            house.stop().await;
            let first = std::fs::read(queue.join(names[0])).unwrap();
            assert!(first[20..].iter().all(|byte| *byte == 0), "what was deleted is gone");
            assert!(!queue.join(names[1]).exists() && !queue.join(names[2]).exists());
        });
    }
}

#[test]
fn a_snapshot_that_fits_no_queue_still_says_how_far_the_log_was_synced() {
    run(async {
        let dir = temp();
        filled(&options(&dir), 35).await;
        let store = dir.path().join("store");
        std::fs::remove_file(store.join("hotfire/floor")).unwrap();
        std::fs::remove_dir_all(store.join("consumequeue")).unwrap();
        let house = open(&options(&dir)).await;
        assert_eq!(house.report.floor, house.report.end);
        assert!(store.join("hotfire/floor").exists());
        house.stop().await;
    });
}

#[test]
fn what_a_stepped_clock_makes_look_synced_is_written_again() {
    run(async {
        let dir = temp();
        let quick = Duration::from_millis(5);
        let options =
            Options { checkpoint_interval: quick, flush_interval: quick, ..options(&dir) };
        let skew = Arc::new(std::sync::atomic::AtomicI64::new(0));
        let (clock, group) = (Clock::with_skew(skew.clone()), TaskGroup::new());
        let heard = Arc::new(Listener::default());
        let disk = Arc::new(RealDisk::new());
        let opened = Store::open(disk, clock.clone(), &group, options.clone(), heard.clone()).await;
        let (store, report) = opened.unwrap();
        let mut house = House { store, heard, report, clock, group, next: 0 };
        for n in 0..40 {
            if n == 20 {
                skew.store(-3_600_000, std::sync::atomic::Ordering::Relaxed);
            }
            house.sent("T", 0, &[7; 1000]).await;
        }
        house.kill().await;
        // The checkpoint is that of the moment before the step.
        let margin = 3000;
        let at = WallMillis(Clock::new().wall().0 + margin);
        let checkpoint = Checkpoint { physical: at, logical: at, index: at };
        std::fs::write(dir.path().join("store/checkpoint"), checkpoint.encode()).unwrap();
        std::fs::remove_dir_all(dir.path().join("store/hotfire")).unwrap();
        let house = open(&options).await;
        let (floor, end) = (house.report.floor.0, house.report.end.0);
        assert_eq!(floor, 32 << 10, "by its times the last file is older than the checkpoint");
        assert!(house.report.rewritten_bytes > end - floor, "{:?}", house.report);
    });
}

#[test]
fn an_empty_log_that_does_not_begin_at_0_goes_on_where_it_was() {
    run(async {
        let dir = temp();
        let options = options(&dir);
        filled(&options, 5).await;
        let (store, size) = (dir.path().join("store"), options.segment_size_bytes);
        for gone in ["hotfire", "consumequeue", "commitlog"] {
            std::fs::remove_dir_all(store.join(gone)).unwrap();
        }
        std::fs::create_dir(store.join("commitlog")).unwrap();
        let path = store.join(format!("commitlog/{:020}", 3 * size));
        std::fs::File::create(path).unwrap().set_len(size).unwrap();
        for _ in 0..3 {
            let house = open(&options).await;
            assert_eq!(house.report.end.0, 3 * size);
            house.stop().await;
        }
    });
}
