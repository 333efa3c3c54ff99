//! Frames: a length, a header with its type, a body. Layout: docs/formats/frame.md.

use super::error::FrameError;
use bytes::{Buf, Bytes, BytesMut};

/// The largest frame that 4.9.3 accepts, its length field included.
///
/// Source: NettyDecoder#FRAME_MAX_LENGTH (4.9.3). Units: bytes.
pub const FRAME_SIZE_MAX: usize = 16 * 1024 * 1024;

/// Length, and type with header length.
pub const PREFIX_SIZE: usize = 8;

const LENGTH_SIZE: usize = 4;

/// How a header is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Serialize {
    #[default]
    Json,
    Rocketmq,
}

impl Serialize {
    /// The type byte.
    pub fn number(self) -> u8 {
        match self {
            Serialize::Json => 0,
            Serialize::Rocketmq => 1,
        }
    }
}

/// One frame, its header not yet read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub serialize: Serialize,
    pub header: Bytes,
    pub body: Bytes,
}

impl Frame {
    /// What the frame held on the wire. Units: bytes.
    pub fn size(&self) -> usize {
        PREFIX_SIZE + self.header.len() + self.body.len()
    }
}

/// Takes the first whole frame from `buf`; none when it is not all there yet. A length that
/// cannot be is refused as soon as its four bytes are there.
///
/// Source: NettyDecoder, RemotingCommand#decode (4.9.3).
pub fn cut(buf: &mut BytesMut, size_max: usize) -> Result<Option<Frame>, FrameError> {
    let Some(length) = buf.first_chunk::<LENGTH_SIZE>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if length < PREFIX_SIZE - LENGTH_SIZE {
        return Err(FrameError::TooShort { length });
    }
    let size = LENGTH_SIZE + length;
    if size > size_max {
        return Err(FrameError::TooLong { size, size_max });
    }
    let Some(prefix) = buf.first_chunk::<PREFIX_SIZE>() else { return Ok(None) };
    let (serialize, header) = read_header_mark(prefix, length)?;
    if buf.len() < size {
        return Ok(None);
    }
    let mut rest = buf.split_to(size).freeze();
    rest.advance(PREFIX_SIZE);
    let header = rest.split_to(header);
    Ok(Some(Frame { serialize, header, body: rest }))
}

fn read_header_mark(
    prefix: &[u8; PREFIX_SIZE],
    length: usize,
) -> Result<(Serialize, usize), FrameError> {
    let [_, _, _, _, serialize, a, b, c] = *prefix;
    let header = u32::from_be_bytes([0, a, b, c]) as usize;
    let serialize = match serialize {
        0 => Serialize::Json,
        1 => Serialize::Rocketmq,
        other => return Err(FrameError::UnknownSerialize(other)),
    };
    let frame = length - (PREFIX_SIZE - LENGTH_SIZE);
    if header > frame {
        return Err(FrameError::HeaderBeyondFrame { header, frame });
    }
    if header == 0 {
        return Err(FrameError::HeaderMissing);
    }
    Ok((serialize, header))
}

/// Writes a placeholder for the prefix; `end` fills it in when the header is written.
pub(super) fn begin(out: &mut BytesMut) -> usize {
    let at = out.len();
    out.extend_from_slice(&[0; PREFIX_SIZE]);
    at
}

/// Fills in the prefix of the frame that `begin` started at `at`; `body_size` bytes are to follow.
pub(super) fn end(out: &mut BytesMut, at: usize, serialize: Serialize, body_size: usize) {
    let header = (out.len() - at - PREFIX_SIZE) as u32;
    assert!(header < 1 << 24, "a header of {header} bytes passes the 3-byte length");
    let length = (header as usize + body_size + PREFIX_SIZE - LENGTH_SIZE) as u32;
    let mark = u32::from(serialize.number()) << 24 | header;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    out[at + 4..at + PREFIX_SIZE].copy_from_slice(&mark.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(serialize: u8, header: &[u8], body: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        out.extend_from_slice(&((4 + header.len() + body.len()) as u32).to_be_bytes());
        out.extend_from_slice(&(u32::from(serialize) << 24 | header.len() as u32).to_be_bytes());
        out.extend_from_slice(header);
        out.extend_from_slice(body);
        out
    }

    #[test]
    fn a_frame_in_pieces_is_cut_when_its_last_byte_came() {
        let whole = frame(0, b"{}", b"xyz");
        for size in 0..whole.len() {
            let mut part = BytesMut::from(&whole[..size]);
            assert_eq!(cut(&mut part, FRAME_SIZE_MAX), Ok(None));
            assert_eq!(part.len(), size, "nothing is taken before the frame is whole");
        }
        let mut twice = whole.clone();
        twice.extend_from_slice(&whole);
        for _ in 0..2 {
            let frame = cut(&mut twice, FRAME_SIZE_MAX).unwrap().unwrap();
            assert_eq!((&frame.header[..], &frame.body[..]), (&b"{}"[..], &b"xyz"[..]));
            assert_eq!(frame.size(), whole.len());
        }
        assert_eq!(cut(&mut twice, FRAME_SIZE_MAX), Ok(None));
    }

    #[test]
    fn a_header_longer_than_its_frame_names_both_numbers() {
        let mut bytes = frame(0, b"{}", b"");
        bytes[7] = 9;
        let error = cut(&mut bytes, FRAME_SIZE_MAX).unwrap_err();
        assert_eq!(error, FrameError::HeaderBeyondFrame { header: 9, frame: 2 });
        assert_eq!(
            error.to_string(),
            "header of 9 bytes does not fit in a frame of 2 bytes after the length"
        );
    }

    #[test]
    fn impossible_lengths_are_refused_at_their_first_four_bytes() {
        let cut = |bytes: &[u8]| cut(&mut BytesMut::from(bytes), FRAME_SIZE_MAX);
        assert_eq!(cut(&[0, 0, 0, 3]), Err(FrameError::TooShort { length: 3 }));
        let largest = FRAME_SIZE_MAX - LENGTH_SIZE;
        assert_eq!(cut(&(largest as u32).to_be_bytes()), Ok(None));
        assert!(matches!(
            cut(&(largest as u32 + 1).to_be_bytes()),
            Err(FrameError::TooLong { size_max: FRAME_SIZE_MAX, .. })
        ));
        assert!(matches!(cut(&(-1_i32).to_be_bytes()), Err(FrameError::TooLong { .. })));
        assert_eq!(cut(&frame(2, b"{}", b"")), Err(FrameError::UnknownSerialize(2)));
        assert_eq!(cut(&frame(0, b"", b"x")), Err(FrameError::HeaderMissing));
    }

    #[test]
    fn flipped_bits_never_panic() {
        let whole = frame(1, b"0123456789012345678901", b"body");
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                let _ = cut(&mut bytes, FRAME_SIZE_MAX);
            }
        }
    }
}
