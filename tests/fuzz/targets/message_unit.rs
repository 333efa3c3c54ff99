//! Records, batches, properties, ids, and the walk over a segment.
#![no_main]

use bytes::BytesMut;
use hotfire::format::message_unit::{self, Unit};
use hotfire::format::{message_batch, message_id, properties};
use hotfire::model::PhysicalOffset;
use hotfire::store::walk::Walk;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotfire_fuzz::bounded(|| {
    if let Ok(Unit::Record(view)) = message_unit::decode_delivered(data, true) {
        assert!(view.size() <= data.len());
        let record = view.record();
        let _ = (view.keys().count(), view.tags_code(), view.unique_key(), view.offset_id());
        let _ = view.dispatch();
        if message_unit::check(&record) == Ok(view.size()) {
            let mut out = BytesMut::new();
            message_unit::encode(&record, &mut out);
            assert_eq!(&out[..], &data[..view.size()], "what was read is written the same");
        }
    }
    let _ = message_unit::delivered(data).count();
    let _ = message_batch::members(data, 1000).count();
    let _ = properties::iter(data).count();
    let parsed = properties::Properties::parse(data);
    let _ = properties::Properties::parse(&parsed.encode());
    let mut stored = Vec::new();
    let _ = properties::store_form(data, "C", &mut stored);
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok((host, at)) = message_id::parse_offset_id(text) {
            assert_eq!(message_id::offset_id(host, at), text.to_ascii_uppercase());
        }
        let _ = message_id::UniqueId::parse(text);
    }
    let (mut bad, mut records) = (Vec::new(), 0);
    let mut walk = Walk::new(0, data.len() as u64);
    for block in data.chunks(100) {
        walk.feed(block, &mut bad, &mut |view, _| records += view.size());
    }
    walk.finish(&mut bad);
    let covered: u64 = bad.iter().map(|place| place.range.end - place.range.start).sum();
    assert!(records as u64 + covered <= data.len() as u64 * 2, "places overlap");
    let _ = message_unit::decode(data, PhysicalOffset(0), true);
}));
