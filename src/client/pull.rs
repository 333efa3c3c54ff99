//! Asking a broker for messages, and reading what it sends.

use super::route_cache::MessageQueue;
use super::subscription::Subscription;
use crate::format::message_unit::{self, DecodeError, View};
use crate::model::{GroupName, QueueOffset, sys_flag};
use bytes::Bytes;
use std::borrow::Cow;
use std::io::{self, Read};

/// Source: PullSysFlag (4.9.3).
const FLAG_COMMIT: i32 = 1;
const FLAG_SUSPEND: i32 = 2;
const FLAG_SUBSCRIPTION: i32 = 4;

#[derive(Clone, Debug)]
pub struct PullRequest<'a> {
    pub group: &'a GroupName,
    pub queue: &'a MessageQueue,
    pub from: QueueOffset,
    /// Units: messages.
    pub count_max: u32,
    pub subscription: &'a Subscription,
    /// The broker takes what the group's heartbeats say instead, when it is not older.
    pub as_registered: bool,
    /// The broker may hold the request until a message comes, for `Options::pull_suspend`.
    pub may_wait: bool,
    /// Commits this offset of the group on the way.
    pub commit: Option<QueueOffset>,
}

impl PullRequest<'_> {
    pub(super) fn flags(&self) -> i32 {
        let mut flags = if self.as_registered { 0 } else { FLAG_SUBSCRIPTION };
        if self.commit.is_some() {
            flags |= FLAG_COMMIT;
        }
        if self.may_wait {
            flags |= FLAG_SUSPEND;
        }
        flags
    }
}

/// Source: PullStatus (4.9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullStatus {
    Found,
    /// There are messages, but none that the subscription wants: go on at `next`.
    NoMatchedMessage,
    /// The reader is at the end.
    NoNewMessage,
    /// The queue does not reach to the offset: go on at `next`.
    OffsetIllegal,
}

impl PullStatus {
    /// Source: MQClientAPIImpl#processPullResponse (4.9.3).
    pub(super) fn of_code(code: i32) -> Option<Self> {
        match code {
            0 => Some(PullStatus::Found),
            19 => Some(PullStatus::NoNewMessage),
            20 => Some(PullStatus::NoMatchedMessage),
            21 => Some(PullStatus::OffsetIllegal),
            _ => None,
        }
    }
}

#[derive(Clone, Debug)]
pub struct PullResult {
    pub status: PullStatus,
    /// Where the next pull begins.
    pub next: QueueOffset,
    pub min: QueueOffset,
    /// One past the newest visible message.
    pub max: QueueOffset,
    /// Message units one after the other.
    pub body: Bytes,
}

impl PullResult {
    /// The messages that `subscription` wants. The broker compares hashes of tags only, so the
    /// tags are compared here again.
    pub fn messages<'a>(
        &'a self,
        subscription: &'a Subscription,
    ) -> impl Iterator<Item = Result<View<'a>, DecodeError>> {
        message_unit::delivered(&self.body).filter(move |unit| match unit {
            Ok(view) => subscription.matches(view.property(crate::model::property::TAGS)),
            Err(_) => true,
        })
    }
}

/// A message's body, inflated when its producer compressed it. Units of `size_max`: bytes.
/// Errors: `InvalidData` when it is no zlib stream or gives more than `size_max` bytes.
pub fn body_of<'a>(view: &View<'a>, size_max: usize) -> io::Result<Cow<'a, [u8]>> {
    if view.sys_flag() & sys_flag::COMPRESSED == 0 {
        return Ok(Cow::Borrowed(view.body()));
    }
    let mut out = Vec::new();
    let stream = flate2::read::ZlibDecoder::new(view.body());
    stream.take(size_max as u64 + 1).read_to_end(&mut out)?;
    if out.len() > size_max {
        let why = format!("the body inflates to more than {size_max} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(Cow::Owned(out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::message_unit::{Record, encode};
    use bytes::BytesMut;
    use std::io::Write;

    fn record(body: &'static [u8], properties: &'static [u8], sys_flag: i32) -> Record<'static> {
        Record { sys_flag, body, properties, ..Record::plain() }
    }

    #[test]
    fn messages_with_other_tags_are_left_out() {
        let mut body = BytesMut::new();
        encode(&record(b"1", b"TAGS\x01a", 0), &mut body);
        encode(&record(b"2", b"TAGS\x01b", 0), &mut body);
        encode(&record(b"3", b"", 0), &mut body);
        let result = PullResult {
            status: PullStatus::Found,
            next: QueueOffset(3),
            min: QueueOffset(0),
            max: QueueOffset(3),
            body: body.freeze(),
        };
        let bodies = |expression| -> Vec<Vec<u8>> {
            let wanted = Subscription::tags("T", expression, 0).unwrap();
            result.messages(&wanted).map(|view| view.unwrap().body().to_vec()).collect()
        };
        assert_eq!(bodies("a"), [b"1"]);
        assert_eq!(bodies("*"), [b"1", b"2", b"3"]);
    }

    #[test]
    fn compressed_bodies_are_inflated_within_a_bound() {
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(5));
        zlib.write_all(&[b'x'; 5000]).unwrap();
        let packed: &'static [u8] = zlib.finish().unwrap().leak();
        let mut bytes = BytesMut::new();
        encode(&record(packed, b"", sys_flag::COMPRESSED), &mut bytes);
        let view = message_unit::delivered(&bytes).next().unwrap().unwrap();
        assert_eq!(body_of(&view, 5000).unwrap().len(), 5000);
        assert!(body_of(&view, 4999).is_err());
    }
}
