use super::{golden, golden_bytes, unhex};
use bytes::BytesMut;
use hotfire::format::message_unit::{self, Unit, View};
use hotfire::format::{checkpoint, consume_queue_unit, message_batch, message_id, properties};
use hotfire::model::{PhysicalOffset, QueueId, QueueOffset, WallMillis};

fn records(segment: &[u8]) -> (Vec<View<'_>>, usize) {
    let (mut found, mut at) = (Vec::new(), 0);
    loop {
        match message_unit::decode(&segment[at..], PhysicalOffset(at as u64), true) {
            Ok(Unit::Record(view)) => {
                found.push(view);
                at += view.size();
            }
            Ok(Unit::Blank { size }) => {
                assert_eq!(at + size as usize, segment.len());
                return (found, at);
            }
            other => panic!("at {at}: {other:?}"),
        }
    }
}

#[test]
fn a_java_segment_reads_as_what_was_put() {
    let segment = golden_bytes("commit_log_segment.hex");
    let (views, _) = records(&segment);
    assert_eq!(views.len(), 11);
    let first = &views[0];
    assert_eq!(
        (first.topic(), first.queue_id(), first.body()),
        ("TopicTest", QueueId(3), &b"hello"[..])
    );
    assert_eq!(first.body_crc(), 0x3610_a686);
    assert_eq!(first.born_timestamp(), WallMillis(1_700_000_000_000));
    assert_eq!(first.born_host(), "127.0.0.1:51644".parse().unwrap());
    assert_eq!(first.property("a"), Some(&b"5"[..]));
    assert_eq!(first.keys().collect::<Vec<_>>(), [b"k1", b"k2"]);
    assert_eq!(first.offset_id(), "7F00000100009FCF0000000000000000");
    let second = &views[1];
    assert_eq!((second.flag(), second.body(), second.tags_code()), (7, &b""[..], 0));
    assert_eq!(second.born_host(), "[2001:db8::1]:51644".parse().unwrap());
    assert_eq!(second.store_host(), "127.0.0.1:40911".parse().unwrap());
    let third = &views[2];
    assert_eq!(third.tags_code(), 1_996_593);
    assert_eq!(third.store_host(), "[2001:db8::2]:40911".parse().unwrap());
    let fourth = &views[3];
    assert_eq!((fourth.topic(), fourth.reconsume_times()), ("%RETRY%g", 2));
    assert_eq!((views[4].body(), views[5].flag()), (&b"batch0"[..], 1));
    assert_eq!(views[5].property("CLUSTER"), Some(&b"C"[..]));
    assert_eq!(views[5].queue_offset(), QueueOffset(3));
}

#[test]
fn writing_the_same_records_gives_java_s_bytes() {
    let segment = golden_bytes("commit_log_segment.hex");
    let (views, end) = records(&segment);
    let mut out = BytesMut::new();
    for view in views {
        assert_eq!(message_unit::check(&view.record()), Ok(view.size()));
        message_unit::encode(&view.record(), &mut out);
    }
    assert_eq!(out.len(), end);
    message_unit::encode_blank((segment.len() - end) as u32, &mut out);
    assert_eq!(out, segment[..out.len()]);
    assert!(segment[out.len()..].iter().all(|byte| *byte == 0));
}

#[test]
fn queue_units_are_what_dispatch_says() {
    let segment = golden_bytes("commit_log_segment.hex");
    let (views, _) = records(&segment);
    for (topic, queue, name) in [
        ("TopicTest", 3, "consume_queue_topictest_3.hex"),
        ("TopicTest", 0, "consume_queue_topictest_0.hex"),
    ] {
        let file = golden_bytes(name);
        let of_queue = views.iter().map(View::dispatch);
        let of_queue = of_queue.filter(|d| d.topic == topic && d.queue_id == QueueId(queue));
        for (at, told) in of_queue.enumerate() {
            assert_eq!(told.queue_offset, QueueOffset(at as u64));
            let unit = consume_queue_unit::QueueUnit {
                physical_offset: told.physical_offset,
                size: told.size,
                tags_code: told.tags_code,
            };
            let bytes = &file[at * consume_queue_unit::SIZE..][..consume_queue_unit::SIZE];
            assert_eq!(unit.encode(), bytes, "entry {at} of {name}");
            assert_eq!(consume_queue_unit::QueueUnit::decode(bytes), Some(unit));
        }
    }
}

#[test]
fn single_units_and_blank_records() {
    for line in golden("queue_units.txt").lines() {
        let (name, hex) = line.split_once(' ').unwrap();
        let bytes = unhex(hex);
        match name {
            "schedule" => {
                let unit = consume_queue_unit::QueueUnit::decode(&bytes).unwrap();
                assert_eq!((unit.physical_offset, unit.size), (PhysicalOffset(0x4fe), 0x111));
                assert_eq!(unit.tags_code, 0x1a2_03e4_ee94);
                assert_eq!(unit.encode(), bytes[..]);
            }
            "blank_record" => {
                let unit = message_unit::decode(&bytes, PhysicalOffset(0xfd00), true);
                assert_eq!(unit, Ok(Unit::Blank { size: 0x300 }));
            }
            other => panic!("unknown golden {other}"),
        }
    }
}

#[test]
fn a_java_checkpoint_is_written_the_same() {
    let file = golden_bytes("checkpoint.hex");
    let read = checkpoint::Checkpoint::decode(&file).unwrap();
    assert_eq!(read.physical, WallMillis(0x1a2_0ed6_7375));
    assert_eq!(read.logical, WallMillis(0x1a2_0ed6_7376));
    assert_eq!(read.min(), WallMillis(0x1a2_0ed6_7375 - 3000));
    assert_eq!(read.encode(), file);
}

#[test]
fn a_java_batch_is_read_and_written_the_same() {
    let body = golden_bytes("message_batch.hex");
    let members: Result<Vec<_>, _> = message_batch::members(&body, 10).collect();
    let members = members.unwrap();
    assert_eq!((members[0].body, members[1].body), (&b"batch0"[..], &b"batch1"[..]));
    assert_eq!((members[0].flag, members[1].flag), (0, 1));
    assert_eq!(properties::get(members[1].properties, "KEYS"), Some(&b"b1"[..]));
    let mut out = Vec::new();
    for member in &members {
        message_batch::encode(member, &mut out);
    }
    assert_eq!(out, body);
}

#[test]
fn message_ids_are_java_s() {
    for line in golden("message_ids.txt").lines() {
        let [id, host, at] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let (host, at) = (host.parse().unwrap(), PhysicalOffset(at.parse().unwrap()));
        assert_eq!(message_id::offset_id(host, at), id);
        assert_eq!(message_id::parse_offset_id(id), Ok((host, at)));
    }
}
