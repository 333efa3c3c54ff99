use super::*;
use crate::format::message_unit::Record;
use bytes::BytesMut;
use proptest::prelude::*;

/// A log of records with the given keys, and where each begins.
fn log(records: &[(i32, Vec<&str>)]) -> (Vec<u8>, Vec<u64>) {
    let (mut out, mut places) = (BytesMut::new(), Vec::new());
    for (n, (sys_flag, keys)) in records.iter().enumerate() {
        let mut properties = Vec::new();
        properties::append(&mut properties, "UNIQ_KEY", format!("u{n}").as_bytes());
        if !keys.is_empty() {
            properties::append(&mut properties, "KEYS", keys.join(" ").as_bytes());
        }
        places.push(out.len() as u64);
        let record = Record {
            physical_offset: PhysicalOffset(out.len() as u64),
            sys_flag: *sys_flag,
            store_timestamp: WallMillis(10_000 + 700 * n as i64),
            body: b"b",
            properties: &properties,
            ..Record::plain()
        };
        message_unit::encode(&record, &mut out);
    }
    (out.to_vec(), places)
}

/// Feeds everything, doing what is asked for. Returns the full files' entries too.
fn fill(index: &mut Index, bytes: &[u8], limit: u64) -> Vec<(u32, IndexEntry)> {
    let mut all = Vec::new();
    loop {
        let fed = index.feed(&bytes[index.cursor.at as usize..], limit);
        let take = |active: &mut Active, all: &mut Vec<(u32, IndexEntry)>| {
            let (first, run) = active.run();
            let entries = run.chunks(20).map(|entry| IndexEntry::decode(entry).unwrap());
            all.extend((first..).zip(entries));
            active.on_run_written(run.len() / 20);
        };
        if let Some(active) = &mut index.active {
            take(active, &mut all);
        }
        match fed {
            Fed::All => return all,
            Fed::File => {
                let last = index.files().next();
                let header = last.map_or(Header::FIRST, |file| file.header.next_file());
                index.sealed.extend(index.active.take().map(|active| active.file));
                let (name, slots) = (index.last_name() + 1, Slots::empty(&index.shape));
                index.active = Some(Active::new(name, header, slots));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_unique_key_comes_first_and_rollback_records_have_no_keys() {
    let (bytes, places) = log(&[
        (0, vec!["a", "b"]),
        (sys_flag::TRANSACTION_ROLLBACK, vec!["a"]),
        (sys_flag::TRANSACTION_PREPARED, vec![]),
        (sys_flag::TRANSACTION_COMMIT, vec!["a"]),
    ]);
    let mut index = Index::new(Shape { slots: 1, entries: 100 });
    let entries = fill(&mut index, &bytes, bytes.len() as u64);
    let topic = TopicHash::new("T");
    let expected = [("u0", 0), ("a", 0), ("b", 0), ("u2", 2), ("u3", 3), ("a", 3)];
    let expected = expected.map(|(key, n)| (topic.key(key.as_bytes()), places[n]));
    let found: Vec<_> = entries.iter().map(|(_, e)| (e.hash, e.physical.0)).collect();
    assert_eq!(found, expected);
    let chain: Vec<_> = entries.iter().map(|(n, e)| (*n, e.previous, e.seconds)).collect();
    assert_eq!(chain, [(1, 0, 0), (2, 1, 0), (3, 2, 0), (4, 3, 1), (5, 4, 2), (6, 5, 2)]);
    let header = index.files().next().unwrap().header;
    assert_eq!((header.count, header.slots_used), (7, 1));
    assert_eq!((header.begin_timestamp.0, header.end_timestamp.0), (10_000, 12_100));
}

#[test]
fn nothing_past_the_limit_is_taken_and_what_is_no_record_is_named() {
    let (bytes, places) = log(&[(0, vec!["a"]), (0, vec!["b"])]);
    let mut index = Index::new(Shape { slots: 5, entries: 100 });
    fill(&mut index, &bytes, places[1]);
    assert_eq!((index.cursor.at, index.files().next().unwrap().header.count), (places[1], 3));
    let rest = &bytes[places[1] as usize..];
    assert_eq!(index.feed(&rest[..50], u64::MAX), Fed::More(rest.len()));
    assert_eq!(index.feed(&[0; 50], u64::MAX), Fed::Bad);
    assert_eq!(index.feed(&rest[1..], u64::MAX), Fed::Bad);
    assert_eq!(next_record(&bytes, 0), places[1]);
    assert_eq!(next_record(&bytes[..50], 0), 36);
    assert_eq!(next_record(&[1; 3], 7), 10);
    assert_eq!(next_record(&[], 7), 8);
}

#[test]
fn leading_files_are_dropped_but_never_the_last() {
    let file = |name, end| {
        let header = Header { end_physical: PhysicalOffset(end), count: 2, ..Header::FIRST };
        IndexFile { name, header }
    };
    let shape = Shape { slots: 1, entries: 9 };
    let with = |active: bool| {
        let mut index = Index::new(shape);
        index.sealed = vec![file(1, 10), file(2, 20), file(3, 30)];
        let slots = Slots::empty(&shape);
        index.active = active.then(|| Active::new(4, file(4, 40).header, slots));
        index
    };
    let names = |files: Vec<IndexFile>| files.iter().map(|file| file.name).collect::<Vec<_>>();
    assert_eq!(names(with(true).drop_below(20)), [1]);
    assert_eq!(names(with(true).drop_below(u64::MAX)), [1, 2, 3]);
    assert_eq!(names(with(false).drop_below(u64::MAX)), [1, 2]);
    assert_eq!(names(Index::new(shape).drop_below(u64::MAX)), [0; 0]);
}

#[test]
fn an_entry_s_time_excludes_only_what_it_can() {
    let mut header = Header { begin_timestamp: WallMillis(10_000), ..Header::FIRST };
    let is = |seconds, begin, end| {
        let entry = IndexEntry { seconds, ..IndexEntry::default() };
        is_in_time(&header, &entry, WallMillis(begin), WallMillis(end))
    };
    assert_eq!(is(5, 15_999, 20_000), Time::Within); // stored between 15,000 and 15,999
    assert_eq!(is(5, 16_000, 20_000), Time::Before);
    assert_eq!(is(5, 0, 15_000), Time::Within);
    assert_eq!(is(5, 0, 14_999), Time::After);
    assert_eq!(is(0, 0, 5), Time::Within); // older than the file's first: the clock went back
    assert_eq!(is(0, 11_000, 20_000), Time::Before);
    header.begin_timestamp = WallMillis(0);
    let entry = IndexEntry { seconds: 9, ..IndexEntry::default() };
    assert_eq!(is_in_time(&header, &entry, WallMillis(5), WallMillis(6)), Time::Within);
}

proptest! {
    /// Whatever the shape: every key's chains lead to exactly its records, newest first.
    #[test]
    fn chains_lead_to_every_record_of_a_key(
        records in prop::collection::vec(
            prop::collection::vec(prop::sample::select(vec!["a", "b", "Aa", "BB", "é"]), 0..4), 1..40),
        slots in 1..9_u32, entries in 2..30_u32, cut in 0..40_usize,
    ) {
        let records: Vec<_> = records.into_iter().map(|keys| (0, keys)).collect();
        let (bytes, places) = log(&records);
        let mut index = Index::new(Shape { slots, entries });
        let first = places.get(cut).copied().unwrap_or(bytes.len() as u64);
        let mut all = fill(&mut index, &bytes, first);
        all.extend(fill(&mut index, &bytes, bytes.len() as u64));
        // Files in the order of their filling: entry numbers begin again.
        let mut files: Vec<Vec<IndexEntry>> = Vec::new();
        for (number, entry) in all {
            if number == 1 {
                files.push(Vec::new());
            }
            prop_assert!(number < entries);
            files.last_mut().unwrap().push(entry);
        }
        let topic = TopicHash::new("T");
        for key in ["a", "b", "Aa", "BB", "é", "u0", "none"] {
            let hash = topic.key(key.as_bytes());
            let mut found = Vec::new();
            for file in files.iter().rev() {
                let slot = hash % slots;
                let newest = file.iter().rposition(|e| e.hash % slots == slot);
                let mut number = newest.map_or(0, |at| at as u32 + 1);
                while number > 0 {
                    let entry = file[number as usize - 1];
                    if entry.hash == hash {
                        found.push(entry.physical.0);
                    }
                    prop_assert!(entry.previous < number);
                    number = entry.previous;
                }
            }
            let mut expected = Vec::new();
            for ((n, (_, keys)), place) in records.iter().enumerate().zip(&places).rev() {
                // "Aa" and "BB" have one hash.
                let same = keys.iter().filter(|k| topic.key(k.as_bytes()) == hash).count();
                let unique = usize::from(key == format!("u{n}"));
                expected.extend(std::iter::repeat_n(*place, same + unique));
            }
            prop_assert_eq!(found, expected, "{}", key);
        }
    }
}
