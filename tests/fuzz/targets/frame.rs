//! Bytes from a socket: cut into frames, whatever the pieces.
#![no_main]

use bytes::BytesMut;
use hotfire::protocol::frame::{FRAME_SIZE_MAX, cut};

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotfire_fuzz::bounded(|| {
    let mut whole = BytesMut::from(data);
    let mut frames = Vec::new();
    while let Ok(Some(frame)) = cut(&mut whole, FRAME_SIZE_MAX) {
        frames.push(frame);
    }
    let (mut pieces, mut again) = (BytesMut::new(), 0);
    for piece in data.chunks(7) {
        pieces.extend_from_slice(piece);
        while let Ok(Some(frame)) = cut(&mut pieces, FRAME_SIZE_MAX) {
            assert_eq!(frames.get(again), Some(&frame), "pieces give other frames");
            again += 1;
        }
    }
    assert_eq!(again, frames.len(), "pieces give fewer frames");
}));
