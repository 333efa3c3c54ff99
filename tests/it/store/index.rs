//! Queries by key, and what becomes of the index files.

use super::*;
use hotfire::store::{Queried, Query};

fn small(dir: &tempfile::TempDir) -> Options {
    Options {
        index_slots: 7,
        index_entries: 10,
        index_run_interval: Duration::from_millis(5),
        index_retry_interval: Duration::from_millis(5),
        checkpoint_interval: Duration::from_millis(20),
        ..options(dir)
    }
}

impl House {
    async fn keyed(&mut self, name: &str, unique: &str, keys: &str) -> Appended {
        let properties = format!("UNIQ_KEY\x01{unique}\x02KEYS\x01{keys}");
        self.next += 1;
        let name = topic(name);
        let append =
            Append { properties: properties.as_bytes(), ..append(&name, 0, b"body", self.next) };
        let appended = self.store.append(&append).unwrap();
        assert_eq!(self.outcome(self.next).await, Outcome::Durable);
        appended
    }

    async fn query(&self, name: &str, key: &str, count_max: usize) -> Queried {
        let (begin, end) = (WallMillis(0), WallMillis(i64::MAX));
        let query = Query { topic: name, key, count_max, begin, end };
        self.store.query(&query).await.unwrap()
    }

    /// Where the messages lie that a query finds.
    async fn places(&self, name: &str, key: &str) -> Vec<u64> {
        let found = self.query(name, key, 64).await;
        assert!(found.complete);
        found.records.iter().map(|record| view(record).physical_offset().0).collect()
    }
}

/// Sends 30 messages; every third carries `k3`, each its own key. Returns their places.
async fn fill(house: &mut House, from: usize) -> Vec<u64> {
    let mut places = Vec::new();
    for n in from..from + 30 {
        let keys = if n % 3 == 0 { format!("k3 own{n}") } else { format!(" own{n} ") };
        places.push(house.keyed("T", &format!("unique{n}"), &keys).await.physical.0);
    }
    places
}

async fn check(house: &House, places: &[u64]) {
    for (n, place) in places.iter().enumerate() {
        assert_eq!(house.places("T", &format!("own{n}")).await, [*place], "own{n}");
        assert_eq!(house.places("T", &format!("unique{n}")).await, [*place], "unique{n}");
    }
    let third: Vec<u64> = places.iter().copied().step_by(3).rev().collect();
    assert_eq!(house.places("T", "k3").await, third);
    assert_eq!(house.places("T", "none").await, [0; 0]);
    assert_eq!(house.places("U", "own1").await, [0; 0]);
}

/// Fills a store and ends it. Returns the places of its messages.
async fn filled(options: &Options, killed: bool) -> Vec<u64> {
    let mut house = open(options).await;
    let places = fill(&mut house, 0).await;
    check(&house, &places).await;
    if killed {
        house.kill().await
    } else {
        house.stop().await
    }
    places
}

/// Whatever came to harm, the next start finds the messages.
async fn is_whole_again(options: &Options, places: &[u64]) {
    let house = open(options).await;
    check(&house, places).await;
    house.stop().await;
}

fn index_files(options: &Options) -> Vec<String> {
    let entries = RealDisk::new().list(&format!("{}/index", options.root)).unwrap_or_default();
    entries.into_iter().map(|entry| entry.name).collect()
}

#[test]
fn keys_are_found_at_once_and_after_every_kind_of_end() {
    for killed in [false, true] {
        run(async {
            let dir = temp();
            let options = small(&dir);
            let mut places = filled(&options, killed).await;
            let mut house = open(&options).await;
            check(&house, &places).await;
            places.extend(fill(&mut house, 30).await);
            check(&house, &places).await;
            house.stop().await;
            let names = index_files(&options);
            assert!(names.len() > 5, "{names:?}");
            assert!(names.iter().all(|name| name.len() == 17));
        });
    }
}

#[test]
fn a_query_keeps_to_its_range_and_its_count_and_returns_the_newest_first() {
    run(async {
        let dir = temp();
        let mut house = open(&small(&dir)).await;
        let places = fill(&mut house, 0).await;
        let found = house.query("T", "k3", 4).await;
        let newest: Vec<u64> =
            found.records.iter().map(|record| view(record).physical_offset().0).collect();
        assert_eq!(newest, [places[27], places[24], places[21], places[18]]);
        assert_eq!(found.last_physical, PhysicalOffset(places[29]));
        let at = view(&found.records[0]).store_timestamp();
        assert!(found.last_timestamp >= at);
        assert_eq!(house.query("T", "k3", 0).await.records.len(), 0);
        for (begin, end, some) in
            [(at.0, at.0, true), (0, 1000, false), (at.0 + 5000, i64::MAX, false)]
        {
            let (begin, end) = (WallMillis(begin), WallMillis(end));
            let query = Query { topic: "T", key: "k3", count_max: 64, begin, end };
            let found = house.store.query(&query).await.unwrap();
            assert_eq!(!found.records.is_empty(), some, "{begin:?} to {end:?}");
            let stored = found.records.iter().map(|record| view(record).store_timestamp());
            assert!(stored.into_iter().all(|at| begin <= at && at <= end));
        }
        house.stop().await;
    });
}

#[test]
fn a_missing_torn_short_or_foreign_index_file_is_made_again() {
    type Damage = fn(&str, &[String]);
    fn overwrite(path: String, at: u64, bytes: &[u8]) {
        RealDisk::new().open(&path).unwrap().write_at(at, bytes).unwrap();
    }
    let damages: [Damage; 6] = [
        |dir, names| {
            names.iter().for_each(|n| RealDisk::new().remove(&format!("{dir}/{n}")).unwrap())
        },
        |dir, names| overwrite(format!("{dir}/{}", names[1]), 28 + 40, &[0xFF; 40]),
        |dir, names| {
            RealDisk::new().open(&format!("{dir}/{}", names[2])).unwrap().set_size(100).unwrap()
        },
        |dir, names| overwrite(format!("{dir}/{}", names[3]), 0, &[0xFF; 40]),
        |dir, names| overwrite(format!("{dir}/{}", names.last().unwrap()), 40, &[0; 28]),
        |dir, _| {
            RealDisk::new().open_or_create(&format!("{dir}/lost+found")).unwrap();
        },
    ];
    for (n, damage) in damages.into_iter().enumerate() {
        run(async {
            let dir = temp();
            let options = small(&dir);
            let places = filled(&options, true).await;
            damage(&format!("{}/index", options.root), &index_files(&options));
            // Nobody vouches for the files.
            let _ = RealDisk::new().remove(&format!("{}/hotfire/index", options.root));
            let _ = RealDisk::new().remove(&format!("{}/checkpoint", options.root));
            is_whole_again(&options, &places).await;
            eprintln!("damage {n} is healed");
        });
    }
}

#[test]
fn a_header_that_was_overwritten_in_part_is_made_again_from_its_entries() {
    for (torn, killed) in [8, 16, 20, 24, 32, 36].into_iter().flat_map(|n| [(n, false), (n, true)])
    {
        run(async {
            let dir = temp();
            let options = small(&dir);
            let places = filled(&options, false).await;
            let before = index_bytes(&options);
            let end_of = |n: usize| (before[n].1[8..16].to_vec(), before[n].1[24..32].to_vec());
            // As a write that failed may leave it: the front of what a new file's header says.
            for n in [2, before.len() - 1] {
                let ((time, place), none) = (end_of(n - 1), vec![0, 0, 0, 0, 0, 0, 0, 1]);
                let old = [time.clone(), time, place.clone(), place, none].concat();
                let path = format!("{}/index/{}", options.root, before[n].0);
                RealDisk::new().open(&path).unwrap().write_at(0, &old[..torn]).unwrap();
            }
            std::fs::remove_file(format!("{}/index", options.own_dir())).unwrap();
            if killed {
                RealDisk::new().open_or_create(&format!("{}/abort", options.root)).unwrap();
            }
            is_whole_again(&options, &places).await;
            assert_eq!(index_bytes(&options), before, "{torn} bytes, killed {killed}");
        });
    }
}

/// A sync that failed may have left right bytes in memory alone, where they look right.
#[test]
fn slots_and_headers_that_are_not_known_to_be_on_disk_are_written_again() {
    for settling in [false, true] {
        run(async {
            let dir = temp();
            let options = small(&dir);
            let places = filled(&options, false).await;
            let mark = format!("{}/index", options.own_dir());
            if settling {
                // As a process that died while it wrote slots left it.
                let mut bytes = std::fs::read(&mark).unwrap();
                bytes.copy_within(32..72, 76);
                bytes[75] = 1;
                let sum = crc32fast::hash(&bytes[..116]).to_be_bytes();
                bytes[116..].copy_from_slice(&sum);
                std::fs::write(&mark, bytes).unwrap();
            } else {
                std::fs::remove_file(mark).unwrap();
                RealDisk::new().open_or_create(&format!("{}/abort", options.root)).unwrap();
            }
            let last = index_files(&options).pop().unwrap();
            let faulty = FaultyDisk::new(Arc::new(RealDisk::new()));
            faulty.fail_always(Call::Sync, &last, Fault::Broken);
            let house = try_open(Arc::new(faulty.clone()), &options).await.unwrap();
            let tries = || faulty.count(Call::Sync, &last);
            house.until(|| tries() >= 3, "a third try").await;
            assert!(faulty.count(Call::Write, &last) >= 2, "settling {settling}");
            faulty.heal();
            check(&house, &places).await;
            house.stop().await;
        });
    }
}

#[test]
fn a_record_whose_keys_fill_several_files_is_not_indexed_twice() {
    run(async {
        let dir = temp();
        let options = Options { index_entries: 2, ..small(&dir) };
        let mut house = open(&options).await;
        let at = house.keyed("T", "unique", "a b c d e").await.physical.0;
        assert_eq!(house.places("T", "e").await, [at]);
        house.kill().await;
        std::fs::remove_file(format!("{}/index", options.own_dir())).unwrap();
        let house = open(&options).await;
        for key in ["unique", "a", "b", "c", "d", "e"] {
            assert_eq!(house.places("T", key).await, [at], "{key}");
        }
        house.stop().await;
        let next = |bytes: &[u8]| u32::from_be_bytes(*bytes[36..].first_chunk().unwrap());
        let entries = index_bytes(&options).into_iter().map(|file| next(&file.1).max(1) - 1);
        assert_eq!(entries.sum::<u32>(), 6);
    });
}

#[test]
fn errors_on_index_files_stop_no_send_and_the_index_comes_back() {
    for call in [Call::Write, Call::Sync, Call::Create, Call::Read] {
        run(async {
            let dir = temp();
            let options = small(&dir);
            let faulty = FaultyDisk::new(Arc::new(RealDisk::new()));
            let mut house = try_open(Arc::new(faulty.clone()), &options).await.unwrap();
            let mut places = fill(&mut house, 0).await;
            faulty.fail_always(call, "/index/", Fault::Broken);
            places.extend(fill(&mut house, 30).await);
            house
                .until(|| house.store.stats().derived_errors > 0 || call == Call::Read, "an error")
                .await;
            faulty.heal();
            house.until(|| house.store.stats().indexed.0 >= places[59], "the index").await;
            check(&house, &places).await;
            house.stop().await;
        });
    }
}

#[test]
fn a_full_disk_for_the_index_alone_is_survived() {
    run(async {
        let dir = temp();
        let options = small(&dir);
        let faulty = FaultyDisk::new(Arc::new(RealDisk::new()));
        let mut house = try_open(Arc::new(faulty.clone()), &options).await.unwrap();
        faulty.fail_always(Call::Create, "/index/", Fault::NoSpace);
        let places = fill(&mut house, 0).await;
        assert!(index_files(&options).is_empty());
        house.kill().await;
        is_whole_again(&options, &places).await;
    });
}

#[test]
fn a_store_without_an_index_answers_nothing_and_makes_no_file() {
    run(async {
        let dir = temp();
        let options = Options { index_enabled: false, ..small(&dir) };
        let mut house = open(&options).await;
        let places = fill(&mut house, 0).await;
        assert_eq!(house.places("T", "own1").await, [0; 0]);
        house.stop().await;
        assert!(index_files(&options).is_empty());
        // Switched on, it indexes what is there.
        is_whole_again(&Options { index_enabled: true, ..options }, &places).await;
    });
}

/// Log and index files that the Java store of 4.9.3 made (tests/golden/GoldenIndex.java):
/// directory, name, bytes without the zeros at the end.
fn java_files() -> Vec<(String, String, Vec<u8>)> {
    let text = include_str!("../../golden/index.txt");
    let unhex = |hex: &str| -> Vec<u8> {
        let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    };
    let line = |line: &str| {
        let [dir, name, hex] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        (dir.to_owned(), name.to_owned(), unhex(hex))
    };
    text.lines().map(line).collect()
}

fn java_options(dir: &tempfile::TempDir) -> Options {
    Options { segment_size_bytes: 2048, index_slots: 7, index_entries: 12, ..small(dir) }
}

/// Puts Java's files of these directories into the store's.
fn put_java(options: &Options, dirs: &[&str]) {
    let disk = RealDisk::new();
    for (dir, name, bytes) in java_files().iter().filter(|f| dirs.contains(&f.0.as_str())) {
        let size = if dir == "index" { 40 + 7 * 4 + 12 * 20 } else { 2048 };
        disk.make_dir(&format!("{}/{dir}", options.root)).unwrap();
        let file = disk.open_or_create(&format!("{}/{dir}/{name}", options.root)).unwrap();
        file.set_size(size).unwrap();
        file.write_at(0, bytes).unwrap();
    }
}

fn index_bytes(options: &Options) -> Vec<(String, Vec<u8>)> {
    let disk = RealDisk::new();
    let read = |name: String| {
        let file = disk.open(&format!("{}/index/{name}", options.root)).unwrap();
        let bytes = file.read_at(0, file.size().unwrap() as usize).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        (name, bytes[..used].to_vec())
    };
    index_files(options).into_iter().map(read).collect()
}

#[test]
fn java_s_log_gives_java_s_index_byte_by_byte() {
    run(async {
        let dir = temp();
        let options = java_options(&dir);
        put_java(&options, &["commitlog"]);
        let house = open(&options).await;
        assert_eq!(house.query("TopicTest", "k1", 64).await.records.len(), 4);
        house.stop().await;
        let ours: Vec<Vec<u8>> = index_bytes(&options).into_iter().map(|file| file.1).collect();
        let java = java_files().into_iter().filter(|file| file.0 == "index");
        assert_eq!(ours, java.map(|file| file.2).collect::<Vec<_>>());
    });
}

#[test]
fn java_s_index_is_used_and_goes_on() {
    for unclean in [false, true] {
        run(async {
            let dir = temp();
            let options = java_options(&dir);
            put_java(&options, &["commitlog", "index"]);
            if unclean {
                RealDisk::new().open_or_create(&format!("{}/abort", options.root)).unwrap();
            }
            let before = index_bytes(&options);
            let mut house = open(&options).await;
            for (topic, key, count) in [
                ("TopicTest", "k1", 4), // not the one that was rolled back
                ("TopicTest", "k2", 1),
                ("TopicTest", "u8", 1),
                ("TopicTest", "z", 1),
                ("%RETRY%g", "\u{e9}\u{1f525}", 1),
                ("TopicTest", "u2", 0),
            ] {
                assert_eq!(house.places(topic, key).await.len(), count, "{topic}#{key}");
            }
            house.store.shutdown().await.unwrap();
            assert_eq!(index_bytes(&options), before);
            house = open(&options).await;
            let place = house.keyed("TopicTest", "mine", "k1").await.physical.0;
            assert_eq!(house.places("TopicTest", "k1").await[0], place);
            assert_eq!(house.places("TopicTest", "k1").await.len(), 5);
            house.stop().await;
            let names: Vec<String> = before.into_iter().map(|file| file.0).collect();
            assert_eq!(index_files(&options)[..names.len()], names);
        });
    }
}

#[test]
fn a_stop_does_not_wait_for_all_keys() {
    run(async {
        let dir = temp();
        // A file per key, each with its syncs: all of them take much longer than a stop may.
        let later = Duration::from_secs(60);
        let options = Options { index_entries: 2, index_run_interval: later, ..small(&dir) };
        let mut house = open(&options).await;
        for n in 0..300 {
            let keys: Vec<String> = (0..20).map(|k| format!("{n}-{k}")).collect();
            house.keyed("T", &format!("unique{n}"), &keys.join(" ")).await;
        }
        let (clock, begun) = (Clock::new(), Clock::new().mono());
        house.stop().await;
        let took = Duration::from_nanos(clock.mono().0 - begun.0);
        assert!(took < Duration::from_secs(15), "{took:?}");
        let (house, files) = (open(&options).await, index_files(&options).len());
        assert!(house.report.scanned_records == 0 && files < 6300, "{files} files");
        house.kill().await;
    });
}

/// Else one comes back with a power loss, beside files of the records that replaced its own.
#[test]
fn an_index_file_behind_the_logs_end_is_removed_for_good_before_anything_is_appended() {
    run(async {
        let dir = temp();
        let options = small(&dir);
        let faulty = FaultyDisk::new(Arc::new(RealDisk::new()));
        let mut house = try_open(Arc::new(faulty.clone()), &options).await.unwrap();
        let places = fill(&mut house, 0).await;
        house.until(|| house.store.stats().indexed.0 > places[29], "the index").await;
        house.store.cut_back_at_next_start(PhysicalOffset(places[3])).await.unwrap();
        house.stop().await;
        let before = faulty.calls().len();
        let house = try_open(Arc::new(faulty.clone()), &options).await.unwrap();
        house.until(|| house.store.stats().indexed.0 >= places[3], "the index").await;
        let calls = faulty.calls().split_off(before);
        let last = |is_it: &dyn Fn(&(Call, String)) -> bool| calls.iter().rposition(is_it);
        let removed = last(&|(call, path)| *call == Call::Remove && path.contains("/index/"));
        let synced = last(&|(call, path)| *call == Call::SyncDir && path.ends_with("/index"));
        assert!(removed.is_some() && removed < synced, "{calls:?}");
        house.stop().await;
    });
}
