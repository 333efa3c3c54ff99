use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

impl Record<'_> {
    /// What the tests of other modules make theirs from.
    pub fn plain() -> Record<'static> {
        Record {
            queue_id: QueueId(0),
            flag: 0,
            queue_offset: QueueOffset(0),
            physical_offset: PhysicalOffset(0),
            sys_flag: 0,
            born_timestamp: WallMillis(1),
            born_host: "127.0.0.1:1".parse().unwrap(),
            store_timestamp: WallMillis(2),
            store_host: "127.0.0.1:2".parse().unwrap(),
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body: b"",
            topic: "T",
            properties: b"",
        }
    }
}

#[derive(Clone, Debug)]
struct Owned {
    record: Record<'static>,
    body: Vec<u8>,
    topic: String,
    properties: Vec<u8>,
}

impl Owned {
    fn record(&self) -> Record<'_> {
        Record { body: &self.body, topic: &self.topic, properties: &self.properties, ..self.record }
    }
    fn encoded(&self) -> BytesMut {
        let mut out = BytesMut::new();
        encode(&self.record(), &mut out);
        out
    }
}

fn host() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

prop_compose! {
    fn any_record()(
        queue in 0..=i32::MAX as u32, flag: i32, queue_offset in 0..=i64::MAX as u64,
        physical in 0..=i64::MAX as u64, sys_flag: i32, born: i64, born_host in host(),
        store: i64, store_host in host(), reconsume_times: i32,
        body in vec(any::<u8>(), 0..60), topic in "[a-zA-Z%_-]{1,40}",
        properties in vec(1..=255u8, 0..60),
    ) -> Owned {
        let hosts = sys_flag::BORN_HOST_V6 | sys_flag::STORE_HOST_V6;
        let mut flags = sys_flag & !hosts;
        if born_host.is_ipv6() { flags |= sys_flag::BORN_HOST_V6 }
        if store_host.is_ipv6() { flags |= sys_flag::STORE_HOST_V6 }
        let record = Record {
            queue_id: QueueId(queue), flag, queue_offset: QueueOffset(queue_offset),
            physical_offset: PhysicalOffset(physical), sys_flag: flags,
            born_timestamp: WallMillis(born), born_host, store_timestamp: WallMillis(store),
            store_host, reconsume_times, prepared_transaction_offset: born ^ store,
            body: b"", topic: "", properties: b"",
        };
        Owned { record, body, topic, properties }
    }
}

proptest! {
    #[test]
    fn records_round_trip(owned in any_record(), tail in vec(any::<u8>(), 0..20)) {
        let record = owned.record();
        prop_assert_eq!(check(&record), Ok(encoded_size(&record)));
        let mut bytes = owned.encoded();
        prop_assert_eq!(bytes.len(), encoded_size(&record));
        bytes.extend_from_slice(&tail);
        let unit = decode(&bytes, record.physical_offset, true).unwrap();
        let Unit::Record(view) = unit else { panic!("not a record: {unit:?}") };
        prop_assert_eq!(view.record(), record);
        prop_assert_eq!(view.size(), encoded_size(&record));
    }

    #[test]
    fn every_truncation_is_an_error(owned in any_record()) {
        let bytes = owned.encoded();
        for end in 0..bytes.len() {
            let cut = decode(&bytes[..end], owned.record.physical_offset, true);
            let truncated = matches!(cut, Err(DecodeError::Truncated { have, .. }) if have == end);
            prop_assert!(truncated, "{:?} at {}", cut, end);
        }
    }

    /// Size, magic, physical offset, lengths and body are protected: no flip of theirs passes.
    #[test]
    fn every_flipped_byte_is_an_error_or_another_value(owned in any_record(), by in 1..=255u8) {
        let record = owned.record();
        let good = owned.encoded();
        let body_at = good.len() - 3 - record.topic.len() - record.properties.len()
            - record.body.len();
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= by;
            match decode(&bytes, record.physical_offset, true) {
                Err(_) => {}
                Ok(Unit::Record(view)) => {
                    let guarded = at < 12 || (28..36).contains(&at)
                        || (body_at - 4..=body_at + record.body.len()).contains(&at);
                    prop_assert!(!guarded, "a flip at {} passed", at);
                    prop_assert_ne!(view.record(), record);
                }
                Ok(other) => prop_assert!(false, "a flip at {} gave {:?}", at, other),
            }
        }
    }

    #[test]
    fn any_bytes_are_a_unit_or_an_error(mut bytes in vec(any::<u8>(), 0..300), magic: bool) {
        if magic && bytes.len() >= 8 {
            let size = bytes.len() as u32;
            bytes[..4].copy_from_slice(&size.to_be_bytes());
            bytes[4..8].copy_from_slice(&MAGIC.to_be_bytes());
        }
        if let Ok(Unit::Record(view)) = decode_delivered(&bytes, false) {
            let _ = (view.record(), view.dispatch(), view.keys().count(), view.offset_id());
        }
        prop_assert!(delivered(&bytes).count() <= bytes.len());
    }

    #[test]
    fn zeroed_sectors_are_always_caught(owned in any_record(), from in 0..40usize, len in 8..64usize) {
        let good = owned.encoded();
        let mut bytes = good.clone();
        let from = from * bytes.len() / 40;
        let end = (from + len).min(bytes.len());
        bytes[from..end].fill(0);
        // Only fields without any check may be lost: queue, flags, times, hosts, counters.
        if let Ok(Unit::Record(view)) = decode(&bytes, owned.record.physical_offset, true) {
            prop_assert_eq!(view.topic(), owned.topic.as_str());
            prop_assert_eq!(view.properties(), owned.properties.as_slice());
            prop_assert_eq!(view.body(), owned.body.as_slice());
        }
    }
}

fn plain() -> Record<'static> {
    let properties = b"KEYS\x01a  b\x02TAGS\x01TagA";
    Record { queue_id: QueueId(3), body: b"hello", properties, ..Record::plain() }
}

#[test]
fn records_that_cannot_be_stored_are_refused() {
    let long = "x".repeat(128);
    let big = vec![b'x'; 32768];
    let cases = [
        (Record { topic: "", ..plain() }, EncodeError::TopicSize(0)),
        (Record { topic: &long, ..plain() }, EncodeError::TopicSize(128)),
        (Record { topic: "a\0", ..plain() }, EncodeError::TopicNul),
        (Record { topic: "a/b", ..plain() }, EncodeError::TopicPath),
        (Record { topic: "..", ..plain() }, EncodeError::TopicPath),
        (Record { properties: &big, ..plain() }, EncodeError::PropertiesSize(32768)),
        (Record { properties: b"a\0", ..plain() }, EncodeError::PropertiesNul),
        (Record { queue_id: QueueId(u32::MAX), ..plain() }, EncodeError::QueueId(u32::MAX)),
    ];
    for (record, error) in cases {
        assert_eq!(check(&record), Err(error));
    }
}

#[test]
fn the_rest_of_a_segment_is_blank_or_zero() {
    let mut out = BytesMut::new();
    encode_blank(0x300, &mut out);
    assert_eq!(decode(&out, PhysicalOffset(5), true), Ok(Unit::Blank { size: 0x300 }));
    assert_eq!(decode(&[0; 8], PhysicalOffset(5), true), Ok(Unit::End));
    assert!(decode(&[0; 7], PhysicalOffset(5), true).is_err());
}

#[test]
fn a_record_at_another_position_is_refused() {
    let mut out = BytesMut::new();
    encode(&plain(), &mut out);
    let error = DecodeError::PhysicalOffset { expected: PhysicalOffset(8), found: 0 };
    assert_eq!(decode(&out, PhysicalOffset(8), true), Err(error));
}

#[test]
fn a_huge_size_is_refused_without_reading_on() {
    let mut bytes = vec![0x7F, 0xFF, 0xFF, 0xFF];
    bytes.extend_from_slice(&MAGIC.to_be_bytes());
    let need = i32::MAX as usize;
    let error = DecodeError::Truncated { need, have: 8 };
    assert_eq!(decode(&bytes, PhysicalOffset(0), true), Err(error));
}

#[test]
fn dispatch_tells_tags_and_keys() {
    let mut out = BytesMut::new();
    encode(&plain(), &mut out);
    let Ok(Unit::Record(view)) = decode(&out, PhysicalOffset(0), true) else { panic!() };
    assert_eq!(view.tags_code(), 0x27A807);
    assert_eq!(view.dispatch().tags_code, 0x27A807);
    assert_eq!(view.keys().collect::<Vec<_>>(), [b"a", b"b"]);
}
