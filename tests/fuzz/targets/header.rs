//! Headers, JSON and binary: scanned, read as every typed header, and written back.
#![no_main]

use bytes::{Bytes, BytesMut};
use hotfire::protocol::frame::{FRAME_SIZE_MAX, Frame, Serialize, cut};
use hotfire::protocol::header::offset::UpdateConsumerOffsetHeader;
use hotfire::protocol::header::{pull, scan, send};
use hotfire::protocol::{Command, Language};

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotfire_fuzz::bounded(|| {
    let Some((kind, rest)) = data.split_first() else { return };
    let serialize = if kind % 2 == 0 { Serialize::Json } else { Serialize::Rocketmq };
    let frame = Frame { serialize, header: Bytes::copy_from_slice(rest), body: Bytes::new() };
    let Ok(header) = scan(&frame) else { return };
    // A value that is no string is written anew: a control character then takes six bytes.
    for (name, value) in header.ext.iter() {
        assert!(name.len() + value.len() <= rest.len() * 6 + 16, "a field grew");
    }
    let _ = UpdateConsumerOffsetHeader::decode(&header.ext);
    typed(&header.ext);
    let Ok(command) = Command::decode(&frame) else { return };
    for serialize in [Serialize::Json, Serialize::Rocketmq] {
        // The binary form has 16 bits for a name's and 32 for a value's length; JSON may grow by
        // escapes up to the frame's bound.
        if command.ext.iter().any(|(name, _)| name.len() > i16::MAX as usize) {
            continue;
        }
        let mut out = BytesMut::new();
        command.encode(serialize, &mut out);
        let Ok(Some(frame)) = cut(&mut out, FRAME_SIZE_MAX) else { continue };
        let mut again = Command::decode(&frame).expect("what was written is read");
        let mut expected = command.clone();
        // Fields have no order: a header off the fast path gives them by name.
        again.ext.sort();
        expected.ext.sort();
        if serialize == Serialize::Rocketmq {
            // There is no number for an unknown language, an empty remark is none, a version has 16
            // bits, and so has a code: one that does not fit is a system error (1).
            if i16::try_from(expected.code).is_err() {
                expected.code = 1;
            }
            if expected.language == Language::Unknown {
                expected.language = Language::Other;
            }
            expected.remark = expected.remark.filter(|remark| !remark.is_empty());
            expected.version = expected.version.clamp(i16::MIN.into(), i16::MAX.into());
        }
        assert_eq!(again, expected, "{serialize:?}");
    }
}));

fn typed(ext: &hotfire::protocol::header::Ext<'_>) {
    for code in [10, 310, 320] {
        let _ = send::SendMessageHeader::decode(code, ext);
    }
    let _ = pull::PullMessageHeader::decode(ext);
}
