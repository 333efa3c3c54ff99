//! The body of a batch send (request 320): messages one after the other.
//!
//! Source: MessageDecoder#encodeMessage, MessageExtBatchEncoder#encode (4.9.3).
//! Layout: docs/formats/message_unit.md.

use super::{bytes_at, properties};

/// Size, magic, crc, flag and body length before the body.
const HEAD_SIZE: usize = 20;
/// A member without body and properties.
const MEMBER_SIZE_MIN: usize = HEAD_SIZE + 2;

/// One message of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    pub flag: i32,
    pub body: &'a [u8],
    pub properties: &'a [u8],
}

/// Why a batch cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("the batch has more than {0} messages")]
    Count(usize),
    #[error("the batch is empty")]
    Empty,
    #[error("message {position} of the batch has a {field} of {value}, but {have} bytes are left")]
    Length { position: usize, field: &'static str, value: i64, have: usize },
    #[error("message {position} of the batch needs {need} bytes, but {have} are left")]
    Truncated { position: usize, need: usize, have: usize },
}

/// The members of `body`, at most `count_max` of them. After an error the iterator ends.
/// Differs from a record: size, magic and crc of a member are not looked at, as in 4.9.3.
pub fn members(body: &[u8], count_max: usize) -> Members<'_> {
    Members { rest: body, position: 0, count_max, empty: body.is_empty() }
}

pub struct Members<'a> {
    rest: &'a [u8],
    position: usize,
    count_max: usize,
    empty: bool,
}

impl<'a> Iterator for Members<'a> {
    type Item = Result<Member<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if std::mem::take(&mut self.empty) {
            return Some(Err(BatchError::Empty));
        }
        if self.rest.is_empty() {
            return None;
        }
        let member = self.cut();
        if member.is_err() {
            self.rest = &[];
        }
        Some(member)
    }
}

impl<'a> Members<'a> {
    fn cut(&mut self) -> Result<Member<'a>, BatchError> {
        let (position, have) = (self.position, self.rest.len());
        if position >= self.count_max {
            return Err(BatchError::Count(self.count_max));
        }
        let short = BatchError::Truncated { position, need: MEMBER_SIZE_MIN, have };
        let flag = bytes_at::i32(self.rest, 12).ok_or(short)?;
        let value = bytes_at::i32(self.rest, 16).ok_or(short)?;
        let (body, rest) = take(&self.rest[HEAD_SIZE..], i64::from(value)).ok_or(wrong(
            position,
            "body length",
            i64::from(value),
            have,
        ))?;
        let value = bytes_at::i16(rest, 0).ok_or(short)?;
        let (properties, rest) = take(&rest[2..], i64::from(value)).ok_or(wrong(
            position,
            "properties length",
            i64::from(value),
            have,
        ))?;
        self.rest = rest;
        self.position += 1;
        Ok(Member { flag, body, properties })
    }
}

fn wrong(position: usize, field: &'static str, value: i64, have: usize) -> BatchError {
    BatchError::Length { position, field, value, have }
}

fn take(bytes: &[u8], size: i64) -> Option<(&[u8], &[u8])> {
    bytes.split_at_checked(usize::try_from(size).ok()?)
}

/// Appends one member, as a client writes it: magic and crc are 0.
pub fn encode(member: &Member<'_>, out: &mut Vec<u8>) {
    assert!(member.properties.len() <= properties::SIZE_MAX, "properties were not checked");
    let size = MEMBER_SIZE_MIN + member.body.len() + member.properties.len();
    assert!(i32::try_from(size).is_ok(), "a batch member of {size} bytes was not checked");
    out.extend_from_slice(&(size as u32).to_be_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&member.flag.to_be_bytes());
    out.extend_from_slice(&(member.body.len() as u32).to_be_bytes());
    out.extend_from_slice(member.body);
    out.extend_from_slice(&(member.properties.len() as u16).to_be_bytes());
    out.extend_from_slice(member.properties);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn batches_round_trip(
            sent in vec((any::<i32>(), vec(any::<u8>(), 0..50), vec(any::<u8>(), 0..50)), 1..8),
        ) {
            let mut body = Vec::new();
            for (flag, text, properties) in &sent {
                encode(&Member { flag: *flag, body: text, properties }, &mut body);
            }
            let read: Result<Vec<_>, _> = members(&body, 8).collect();
            let read = read.unwrap();
            prop_assert_eq!(read.len(), sent.len());
            for (member, (flag, text, properties)) in read.iter().zip(&sent) {
                prop_assert_eq!(member, &Member { flag: *flag, body: text, properties });
            }
            // Every truncation inside a member is an error, and ends the batch.
            for end in 0..body.len() {
                let cut: Vec<_> = members(&body[..end], 8).collect();
                prop_assert!(cut.len() <= sent.len());
                prop_assert!(cut.iter().rev().skip(1).all(Result::is_ok));
            }
        }

        #[test]
        fn any_bytes_end(bytes in vec(any::<u8>(), 0..300)) {
            prop_assert!(members(&bytes, 10).count() <= 11);
        }
    }

    #[test]
    fn an_empty_batch_and_a_long_one_are_refused() {
        assert_eq!(members(&[], 8).next(), Some(Err(BatchError::Empty)));
        let mut body = Vec::new();
        for _ in 0..3 {
            encode(&Member { flag: 0, body: b"x", properties: b"" }, &mut body);
        }
        assert_eq!(members(&body, 2).last(), Some(Err(BatchError::Count(2))));
    }
}
