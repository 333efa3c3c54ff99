//! What a start does with a directory that the last process left in any state.

use super::*;

const FIRST_FILE: &str = "store/commitlog/00000000000000000000";

/// Ten messages in one queue, then the process is killed and record 6 gets a wrong body.
async fn torn_at_record_6(dir: &tempfile::TempDir, options: &Options) -> u64 {
    let mut house = open(options).await;
    let mut places = Vec::new();
    for n in 0..10 {
        places.push(house.sent("T", 0, format!("message {n}").as_bytes()).await.0);
    }
    house.kill().await;
    let torn = places[6].physical.0;
    let file = dir.path().join(FIRST_FILE);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[torn as usize + 90] ^= 0x40;
    std::fs::write(&file, &bytes).unwrap();
    torn
}

#[test]
fn zeros_behind_the_end_are_written_again_until_they_are_known_durable() {
    run(async {
        let dir = temp();
        let options = Options { floor_interval: Duration::from_secs(100), ..options(&dir) };
        let torn = torn_at_record_6(&dir, &options).await;
        let disk = FaultyDisk::new(Arc::new(RealDisk::new()));
        // The first sync is that of the records above the floor, the second that of the zeros.
        disk.fail_nth(Call::Sync, "commitlog", 2, Fault::Broken);
        let refused = try_open(Arc::new(disk.clone()), &options).await.err().unwrap();
        assert!(refused.to_string().contains("sync"), "{refused}");
        let bytes = std::fs::read(dir.path().join(FIRST_FILE)).unwrap();
        assert!(bytes[torn as usize..].iter().all(|byte| *byte == 0), "memory has zeros");
        let marker = dir.path().join("store/hotfire/zeroing");
        assert!(marker.exists());
        // Whether the device has them is not known: they are written and synced again.
        let before = (disk.count(Call::Write, "commitlog"), disk.count(Call::Sync, "commitlog"));
        let house = try_open(Arc::new(disk.clone()), &options).await.unwrap();
        let after = (disk.count(Call::Write, "commitlog"), disk.count(Call::Sync, "commitlog"));
        assert_eq!((after.0 - before.0, after.1 - before.1), (2, 2), "records, then zeros");
        assert!(!marker.exists());
        assert_eq!(house.bodies("T", 0).await.len(), 6);
    });
}

fn with_paths(dir: &tempfile::TempDir, paths: &[&str]) -> Options {
    let paths: Vec<String> =
        paths.iter().map(|path| dir.path().join(path).to_string_lossy().into_owned()).collect();
    Options { commit_log: LogPaths::parse(&paths.join(","), "").unwrap(), ..options(dir) }
}

fn names(dir: &tempfile::TempDir, path: &str) -> Vec<u64> {
    let listed = std::fs::read_dir(dir.path().join(path)).unwrap();
    let mut names: Vec<u64> = listed
        .map(|entry| entry.unwrap().file_name().to_string_lossy().parse().unwrap())
        .map(|base: u64| base / (16 << 10))
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn a_log_on_several_paths_is_laid_out_as_in_4_9_3_and_found_again_wherever_a_file_lies() {
    run(async {
        let dir = temp();
        let options = with_paths(&dir, &["b/log", "a/log"]);
        let mut house = open(&options).await;
        let body = vec![b'x'; 3000];
        for _ in 0..23 {
            house.sent("T", 0, &body).await;
        }
        house.stop().await;
        assert_eq!(names(&dir, "a/log"), [0, 2, 4]);
        assert_eq!(names(&dir, "b/log"), [1, 3]);
        // An operator may move a file, or Java may have passed over a full disk.
        let name = format!("{:020}", 3 * (16 << 10));
        std::fs::rename(dir.path().join("b/log").join(&name), dir.path().join("a/log").join(&name))
            .unwrap();
        for killed in [true, false] {
            let mut house = open(&options).await;
            let bodies = house.bodies("T", 0).await;
            assert!(bodies.len() >= 23 && bodies[..23].iter().all(|found| *found == body));
            if killed {
                house.send("T", 0, b"torn").unwrap();
                house.kill().await;
                std::fs::remove_dir_all(dir.path().join("store/hotfire")).unwrap();
                let mut house = open(&options).await;
                assert!(house.bodies("T", 0).await.len() >= 23);
                let last = house.report.end;
                assert!(house.sent("T", 0, b"more").await.0.physical >= last);
                house.kill().await;
            } else {
                house.stop().await;
            }
        }
    });
}

#[test]
fn a_path_that_is_not_mounted_is_not_taken_for_an_empty_log() {
    for paths in [&["a", "b"][..], &["a"]] {
        run(async {
            let dir = temp();
            let options = with_paths(&dir, paths);
            let mut house = open(&options).await;
            for _ in 0..8 {
                house.sent("T", 0, &vec![b'x'; 3000]).await;
            }
            house.stop().await;
            let (there, gone) = (dir.path().join(paths[paths.len() - 1]), dir.path().join("away"));
            std::fs::rename(&there, &gone).unwrap();
            let error = try_open(Arc::new(RealDisk::new()), &options).await.err().unwrap();
            let text = error.to_string();
            assert!(text.contains("hotfire/floor") && text.contains("mounted"), "{text}");
            std::fs::remove_dir(&there).unwrap();
            std::fs::rename(&gone, &there).unwrap();
            assert_eq!(open(&options).await.bodies("T", 0).await.len(), 8);
        });
    }
}

#[test]
fn a_file_in_two_paths_is_named() {
    run(async {
        let dir = temp();
        let options = with_paths(&dir, &["a", "b"]);
        let mut house = open(&options).await;
        house.sent("T", 0, b"x").await;
        house.stop().await;
        let name = format!("{:020}", 0);
        std::fs::copy(dir.path().join("a").join(&name), dir.path().join("b").join(&name)).unwrap();
        let error = try_open(Arc::new(RealDisk::new()), &options).await.err().unwrap();
        assert!(error.to_string().contains("another directory"), "{error}");
    });
}

#[test]
fn a_last_file_without_a_byte_is_what_a_killed_java_leaves_and_goes_away() {
    run(async {
        let dir = temp();
        let mut house = open(&options(&dir)).await;
        for _ in 0..10 {
            house.sent("T", 0, b"x").await;
        }
        house.stop().await;
        let files = [
            "commitlog/00000000000000016384",
            "consumequeue/T/0/00000000000000000200",
            "consumequeue/T/7/00000000000000000000",
        ];
        std::fs::create_dir(dir.path().join("store/consumequeue/T/7")).unwrap();
        for file in files {
            std::fs::write(dir.path().join("store").join(file), b"").unwrap();
        }
        let mut house = open(&options(&dir)).await;
        assert_eq!(house.report.removed.len(), 3, "{:?}", house.report.removed);
        assert!(!dir.path().join("store").join(files[1]).exists());
        assert_eq!(house.bodies("T", 0).await.len(), 10);
        assert_eq!(house.sent("T", 7, b"y").await.0.queue_offset.0, 0);
        house.stop().await;
        // In the middle it is damage, and nobody touches it.
        std::fs::write(dir.path().join("store/commitlog/00000000000000016384"), b"").unwrap();
        std::fs::write(dir.path().join("store/commitlog/00000000000000032768"), b"x").unwrap();
        let error = try_open(Arc::new(RealDisk::new()), &options(&dir)).await.err().unwrap();
        assert!(error.to_string().contains("mappedFileSizeCommitLog"), "{error}");
    });
}

#[test]
fn a_bad_sector_below_the_floor_does_not_block_the_start_and_heals_by_itself() {
    run(async {
        let dir = temp();
        let disk = FaultyDisk::new(Arc::new(RealDisk::new()));
        let mut house = try_open(Arc::new(disk.clone()), &options(&dir)).await.unwrap();
        let mut places = Vec::new();
        for n in 0..9_u8 {
            // The last message of queue 1 lies in the bad sector, and is the end of its queue.
            let queue = u32::from(n == 1);
            places.push(house.sent("T", queue, &vec![n; 3000]).await.0.physical.0);
        }
        house.stop().await;
        // Nothing of ours is known but the floor: the whole log is read.
        std::fs::remove_file(dir.path().join("store/hotfire/queues")).unwrap();
        let bad = places[2] + 1000;
        disk.set_unreadable(FIRST_FILE, bad..bad + 1);
        let mut house = try_open(Arc::new(disk.clone()), &options(&dir)).await.unwrap();
        let report = &house.report;
        // Record 1 ends in the sector where the bad byte of record 2 lies.
        assert_eq!(report.unreadable, [PhysicalOffset(places[1])], "{report:?}");
        assert!(report.cut_reason.is_none() && report.cut_bytes == 0, "{report:?}");
        let end = |queue| house.store.max_offset(&key("T", queue)).0;
        assert_eq!((end(0), end(1)), (8, 1));
        for n in [0, 2, 7] {
            let found = house.read("T", 0, n).await;
            assert!(!found.messages.is_empty());
        }
        assert_eq!(house.sent("T", 0, b"more").await.0.queue_offset.0, 8);
        assert_eq!(house.sent("T", 1, b"more").await.0.queue_offset.0, 1);
        disk.heal();
        assert_eq!(house.bodies("T", 0).await.len(), 9);
        assert_eq!(house.bodies("T", 1).await, [vec![1; 3000], b"more".to_vec()]);
        house.stop().await;
    });
}

#[test]
fn a_queue_that_begins_in_a_bad_sector_still_begins_there() {
    run(async {
        let dir = temp();
        let disk = FaultyDisk::new(Arc::new(RealDisk::new()));
        let mut house = try_open(Arc::new(disk.clone()), &options(&dir)).await.unwrap();
        for n in 0..4_u8 {
            house.sent("T", 0, &vec![n; 3000]).await;
        }
        house.stop().await;
        std::fs::remove_file(dir.path().join("store/hotfire/queues")).unwrap();
        disk.set_unreadable(FIRST_FILE, 1000..1001);
        let house = try_open(Arc::new(disk.clone()), &options(&dir)).await.unwrap();
        assert!(!house.report.unreadable.is_empty());
        assert_eq!(house.store.min_offset(&key("T", 0)).0, 0, "nobody is led past it");
        disk.heal();
        assert_eq!(house.bodies("T", 0).await.len(), 4);
        house.stop().await;
    });
}

#[test]
fn a_cut_of_queues_that_was_not_synced_is_made_again() {
    run(async {
        let dir = temp();
        let options = Options { floor_interval: Duration::from_secs(100), ..options(&dir) };
        torn_at_record_6(&dir, &options).await;
        let disk = FaultyDisk::new(Arc::new(RealDisk::new()));
        disk.fail_nth(Call::Sync, "consumequeue/T", 1, Fault::Broken);
        assert!(try_open(Arc::new(disk.clone()), &options).await.is_err());
        let queue = dir.path().join("store/consumequeue/T/0/00000000000000000000");
        let bytes = std::fs::read(queue).unwrap();
        assert!(bytes[120..].iter().all(|byte| *byte == 0), "memory has zeros");
        let before = disk.count(Call::Write, "consumequeue/T");
        let house = try_open(Arc::new(disk.clone()), &options).await.unwrap();
        let after = disk.count(Call::Write, "consumequeue/T");
        assert_eq!(after - before, 2, "entries, then zeros behind them");
        house.stop().await;
    });
}

#[test]
fn a_second_unclean_start_knows_what_the_first_knew() {
    run(async {
        let dir = temp();
        let options = Options { floor_interval: Duration::from_secs(100), ..options(&dir) };
        let mut house = open(&options).await;
        for n in 0..10 {
            house.sent("T", 0, &[n; 100]).await;
        }
        house.stop().await;
        // It looks like Java's orderly stop: the queues say what was synced. The first record rots.
        let store = dir.path().join("store");
        for name in ["hotfire/floor", "hotfire/queues", "checkpoint"] {
            std::fs::remove_file(store.join(name)).unwrap();
        }
        let mut bytes = std::fs::read(dir.path().join(FIRST_FILE)).unwrap();
        bytes[100] ^= 1;
        std::fs::write(dir.path().join(FIRST_FILE), &bytes).unwrap();
        let house = open(&options).await;
        let end = house.report.end;
        assert!(end.0 > 1000, "{:?}", house.report);
        house.kill().await;
        // Without the floor of the first start the second, which is unclean, cut the log to 0.
        std::fs::remove_dir_all(store.join("consumequeue")).unwrap();
        std::fs::remove_file(store.join("hotfire/queues")).unwrap();
        let house = open(&options).await;
        assert!(house.report.unclean);
        assert_eq!((house.report.end, house.report.floor), (end, end));
        house.stop().await;
    });
}

#[test]
fn a_bad_sector_with_messages_that_no_queue_knows_is_named_with_what_to_do() {
    run(async {
        let dir = temp();
        let disk = FaultyDisk::new(Arc::new(RealDisk::new()));
        let mut house = try_open(Arc::new(disk.clone()), &options(&dir)).await.unwrap();
        for n in 0..9_u8 {
            house.sent("T", 0, &vec![n; 3000]).await;
        }
        house.stop().await;
        std::fs::remove_dir_all(dir.path().join("store/consumequeue")).unwrap();
        disk.set_unreadable(FIRST_FILE, 5000..5001);
        let opened = try_open(Arc::new(disk.clone()), &options(&dir)).await;
        let error = match opened {
            Ok(house) => panic!("{:?}", house.report),
            Err(error) => error.to_string(),
        };
        assert!(error.contains("no queue knows"), "{error}");
        disk.heal();
        let house = try_open(Arc::new(disk), &options(&dir)).await.unwrap();
        assert_eq!(house.bodies("T", 0).await.len(), 9);
    });
}

#[test]
fn a_bad_sector_above_the_floor_is_named_with_what_to_do() {
    run(async {
        let dir = temp();
        let options = Options { floor_interval: Duration::from_secs(100), ..options(&dir) };
        let disk = FaultyDisk::new(Arc::new(RealDisk::new()));
        let mut house = try_open(Arc::new(disk.clone()), &options).await.unwrap();
        for n in 0..4_u8 {
            house.sent("T", 0, &vec![n; 3000]).await;
        }
        house.kill().await;
        disk.set_unreadable(FIRST_FILE, 5000..5001);
        let error = try_open(Arc::new(disk.clone()), &options).await.err().unwrap().to_string();
        assert!(error.contains(FIRST_FILE) && error.contains("offset"), "{error}");
        assert!(error.contains("zeros there"), "{error}");
    });
}

#[test]
fn what_is_cut_off_is_kept_for_a_while() {
    run(async {
        let dir = temp();
        let options = Options {
            floor_interval: Duration::from_secs(100),
            cut_size_max_bytes: 1000,
            ..options(&dir)
        };
        let torn = torn_at_record_6(&dir, &options).await;
        let before = std::fs::read(dir.path().join(FIRST_FILE)).unwrap();
        let cut = dir.path().join("store/hotfire/cut");
        std::fs::create_dir(&cut).unwrap();
        std::fs::write(cut.join("000007-00000000000000000000"), vec![1; 900]).unwrap();
        let house = open(&options).await;
        assert_eq!(house.report.end.0, torn);
        let kept: Vec<_> = std::fs::read_dir(&cut).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(kept, [cut.join(format!("000008-{torn:020}"))], "the older one made room");
        let kept = std::fs::read(&kept[0]).unwrap();
        assert_eq!(kept, before[torn as usize..][..kept.len()]);
        assert!(kept.len() >= 400);
    });
}

/// Every file of the store with its content; not what counts the starts.
fn content(dir: &tempfile::TempDir) -> Vec<(String, u64)> {
    let mut all = tree(&dir.path().join("store"));
    all.retain(|(path, _)| !path.contains("hotfire/owner"));
    all
}

#[test]
fn recovery_twice_gives_the_same_bytes() {
    for gone in [None, Some("hotfire"), Some("consumequeue")] {
        run(async {
            let dir = temp();
            let options = Options { floor_interval: Duration::from_secs(100), ..options(&dir) };
            torn_at_record_6(&dir, &options).await;
            if let Some(gone) = gone {
                std::fs::remove_dir_all(dir.path().join("store").join(gone)).unwrap();
            }
            open(&options).await.kill().await;
            let once = content(&dir);
            open(&options).await.kill().await;
            assert_eq!(content(&dir), once, "{gone:?}");
        });
    }
}

/// A queue file that begins with blank entries.
fn blanks(count: usize) -> Vec<u8> {
    let mut bytes = [&[0; 8][..], &i32::MAX.to_be_bytes(), &[0; 8]].concat().repeat(count);
    bytes.resize(200, 0);
    bytes
}

#[test]
fn blank_entries_stand_for_nothing_while_the_log_has_every_message_there_was() {
    run(async {
        let dir = temp();
        let mut house = open(&options(&dir)).await;
        house.sent("U", 0, b"u").await;
        house.kill().await;
        let queue = dir.path().join("store/consumequeue/T/0");
        std::fs::create_dir_all(&queue).unwrap();
        std::fs::write(queue.join(format!("{:020}", 0)), blanks(5)).unwrap();
        let mut house = open(&options(&dir)).await;
        assert_eq!(house.sent("T", 0, b"first").await.0.queue_offset.0, 0);
        assert_eq!(house.bodies("T", 0).await, [b"first".to_vec()]);
        house.stop().await;
    });
}

#[test]
fn a_queue_of_blank_entries_alone_goes_on_behind_them() {
    run(async {
        let dir = temp();
        let mut house = open(&options(&dir)).await;
        for _ in 0..8 {
            house.sent("U", 0, &[0; 3000]).await;
        }
        house.kill().await;
        // As a slave that began late, or a broker whose older files went, before its first own.
        std::fs::remove_file(dir.path().join(FIRST_FILE)).unwrap();
        let queue = dir.path().join("store/consumequeue/T/0");
        std::fs::create_dir_all(&queue).unwrap();
        std::fs::write(queue.join(format!("{:020}", 0)), blanks(5)).unwrap();
        // A file that was made and whose first page was lost.
        let zeros = dir.path().join("store/consumequeue/Z/0");
        std::fs::create_dir_all(&zeros).unwrap();
        std::fs::write(zeros.join(format!("{:020}", 0)), [0; 200]).unwrap();
        let mut house = open(&options(&dir)).await;
        assert!(house.store.max_offset(&key("U", 0)).0 == 8, "the others are dispatched");
        assert_eq!(house.store.max_offset(&key("T", 0)).0, 5);
        assert_eq!(house.store.min_offset(&key("T", 0)).0, 5);
        assert_eq!(house.sent("T", 0, b"first").await.0.queue_offset.0, 5);
        assert_eq!(house.bodies("T", 0).await, [b"first".to_vec()]);
        assert_eq!(house.sent("Z", 0, b"zero").await.0.queue_offset.0, 0);
        assert_eq!(house.bodies("Z", 0).await, [b"zero".to_vec()]);
        house.kill().await;
        std::fs::remove_dir_all(dir.path().join("store/hotfire")).unwrap();
        let house = open(&options(&dir)).await;
        assert_eq!(house.bodies("T", 0).await, [b"first".to_vec()]);
        assert_eq!(house.store.min_offset(&key("T", 0)).0, 5);
    });
}

#[test]
fn a_floor_that_was_not_believed_does_not_refuse_a_later_start() {
    run(async {
        let dir = temp();
        let options = options(&dir);
        let mut house = open(&options).await;
        for n in 0..30 {
            house.sent("T", 0, &[n; 1000]).await;
        }
        house.stop().await;
        // Every record is gone, and with them those that floor and queues name.
        let root = dir.path().join("store");
        for entry in std::fs::read_dir(root.join("commitlog")).unwrap() {
            std::fs::write(entry.unwrap().path(), [0; 16 << 10]).unwrap();
        }
        std::fs::remove_dir_all(root.join("consumequeue")).unwrap();
        let house = open(&options).await;
        assert_eq!(house.report.end.0, 0);
        house.stop().await;
        assert!(names(&dir, "store/commitlog").is_empty());
        open(&options).await.stop().await;
    });
}

/// One damaged queue offset makes a queue of a thousand files: a listing for each is a million names.
#[test]
fn many_queue_files_are_made_without_a_listing_for_each() {
    run(async {
        let dir = temp();
        let options = Options { queue_file_entries: 2, ..options(&dir) };
        let mut house = open(&options).await;
        for n in 0..40_u8 {
            house.sent("T", 0, &[n; 100]).await;
        }
        house.stop().await;
        let root = dir.path().join("store");
        for gone in ["hotfire", "consumequeue"] {
            std::fs::remove_dir_all(root.join(gone)).unwrap();
        }
        let disk = FaultyDisk::new(Arc::new(RealDisk::new()));
        let house = try_open(Arc::new(disk.clone()), &options).await.unwrap();
        assert_eq!(disk.count(Call::Create, "consumequeue/T/0/"), 20);
        assert_eq!(disk.count(Call::List, "consumequeue/T/0"), 1);
        // The names of the new directories are durable before the first file.
        assert_eq!(disk.count(Call::SyncDir, "consumequeue"), 2);
        assert_eq!(house.bodies("T", 0).await.len(), 40);
    });
}
