//! One message as it lies in the commit log and in the body of a pull reply.
//!
//! Source: CommitLog.MessageExtEncoder, #checkMessageAndReturnSize, MessageDecoder (4.9.3).
//! Layout: docs/formats/message_unit.md.
//! Differs: decoding also checks the physical offset against the position, the sizes before
//! anything is taken from them, and that topic and properties hold no NUL (design 1.2).

use super::{bytes_at, message_id, properties};
use crate::model::{
    PhysicalOffset, QueueId, QueueOffset, WallMillis, is_directory_name, property, sys_flag,
};
use bytes::BytesMut;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Marks a record.
pub const MAGIC: u32 = 0xDAA3_20A7;
/// Marks the end of a segment that was finished early.
pub const BLANK_MAGIC: u32 = 0xCBD4_3194;
/// A blank record: size of the rest of the segment, magic.
pub const BLANK_SIZE: usize = 8;
/// A record with IPv4 hosts, without body, topic and properties.
pub const FIXED_SIZE: usize = 91;
/// The longest topic: the length is a signed byte.
pub const TOPIC_SIZE_MAX: usize = i8::MAX as usize;
/// The longest record: the length is a signed int.
pub const SIZE_MAX: usize = i32::MAX as usize;

/// What an IPv6 host takes more than an IPv4 one.
const V6_EXTRA: usize = 12;
/// From byte 0 to the end of bodyLength, with IPv6 hosts.
const HEAD_SIZE_MAX: usize = 88 + 2 * V6_EXTRA;
const _: () = assert!(FIXED_SIZE == 88 + 1 + 2);

const AT_SIZE: usize = 0;
const AT_MAGIC: usize = 4;
const AT_BODY_CRC: usize = 8;
const AT_QUEUE_ID: usize = 12;
const AT_FLAG: usize = 16;
const AT_QUEUE_OFFSET: usize = 20;
const AT_PHYSICAL_OFFSET: usize = 28;
const AT_SYS_FLAG: usize = 36;
const AT_BORN_TIMESTAMP: usize = 40;
const AT_BORN_HOST: usize = 48;

/// Everything a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub queue_id: QueueId,
    pub flag: i32,
    pub queue_offset: QueueOffset,
    pub physical_offset: PhysicalOffset,
    /// The two IPv6 bits are set by `encode` from the hosts, whatever they are here.
    pub sys_flag: i32,
    pub born_timestamp: WallMillis,
    pub born_host: SocketAddr,
    pub store_timestamp: WallMillis,
    pub store_host: SocketAddr,
    pub reconsume_times: i32,
    pub prepared_transaction_offset: i64,
    pub body: &'a [u8],
    pub topic: &'a str,
    pub properties: &'a [u8],
}

/// Why a record cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("the properties hold a NUL byte, which a stored message may not")]
    PropertiesNul,
    #[error("the properties have {0} bytes, at most 32767 are possible")]
    PropertiesSize(usize),
    #[error("the queue id is {0}, at most 2147483647 is possible")]
    QueueId(u32),
    #[error("the record has {0} bytes, at most 2147483647 are possible")]
    Size(usize),
    #[error("the topic holds a NUL byte, which a stored message may not")]
    TopicNul,
    #[error("the topic is a path, which that of a stored message may not be")]
    TopicPath,
    #[error("the topic has {0} bytes, 1 to 127 are possible")]
    TopicSize(usize),
}

/// Says whether `encode` may be called, and how many bytes it will write.
pub fn check(record: &Record<'_>) -> Result<usize, EncodeError> {
    if record.properties.len() > properties::SIZE_MAX {
        return Err(EncodeError::PropertiesSize(record.properties.len()));
    }
    if record.topic.is_empty() || record.topic.len() > TOPIC_SIZE_MAX {
        return Err(EncodeError::TopicSize(record.topic.len()));
    }
    if record.queue_id.0 > i32::MAX as u32 {
        return Err(EncodeError::QueueId(record.queue_id.0));
    }
    if record.topic.as_bytes().contains(&0) {
        return Err(EncodeError::TopicNul);
    }
    if !is_directory_name(record.topic) {
        return Err(EncodeError::TopicPath);
    }
    if record.properties.contains(&0) {
        return Err(EncodeError::PropertiesNul);
    }
    match encoded_size(record) {
        size if size > SIZE_MAX => Err(EncodeError::Size(size)),
        size => Ok(size),
    }
}

/// Units: bytes that `encode` writes for this record.
pub fn encoded_size(record: &Record<'_>) -> usize {
    let hosts = v6_extra(record.born_host.is_ipv6()) + v6_extra(record.store_host.is_ipv6());
    FIXED_SIZE + hosts + record.body.len() + record.topic.len() + record.properties.len()
}

fn v6_extra(is_v6: bool) -> usize {
    if is_v6 { V6_EXTRA } else { 0 }
}

/// Appends the record to `out` in one pass. It must have passed `check`; of that only the sizes
/// are asserted again.
pub fn encode(record: &Record<'_>, out: &mut BytesMut) {
    let size = encoded_size(record);
    assert!(size <= SIZE_MAX, "a record of {size} bytes was not checked");
    assert!(record.topic.len() <= TOPIC_SIZE_MAX, "a topic was not checked");
    assert!(record.properties.len() <= properties::SIZE_MAX, "properties were not checked");
    let mut flags = record.sys_flag & !(sys_flag::BORN_HOST_V6 | sys_flag::STORE_HOST_V6);
    if record.born_host.is_ipv6() {
        flags |= sys_flag::BORN_HOST_V6;
    }
    if record.store_host.is_ipv6() {
        flags |= sys_flag::STORE_HOST_V6;
    }
    let mut head = Head { bytes: [0; HEAD_SIZE_MAX], len: 0 };
    head.put((size as u32).to_be_bytes());
    head.put(MAGIC.to_be_bytes());
    head.put(body_crc(record.body).to_be_bytes());
    head.put(record.queue_id.0.to_be_bytes());
    head.put(record.flag.to_be_bytes());
    head.put(record.queue_offset.0.to_be_bytes());
    head.put(record.physical_offset.0.to_be_bytes());
    head.put(flags.to_be_bytes());
    head.put(record.born_timestamp.0.to_be_bytes());
    head.put_host(record.born_host);
    head.put(record.store_timestamp.0.to_be_bytes());
    head.put_host(record.store_host);
    head.put(record.reconsume_times.to_be_bytes());
    head.put(record.prepared_transaction_offset.to_be_bytes());
    head.put((record.body.len() as u32).to_be_bytes());
    out.reserve(size);
    out.extend_from_slice(&head.bytes[..head.len]);
    out.extend_from_slice(record.body);
    out.extend_from_slice(&[record.topic.len() as u8]);
    out.extend_from_slice(record.topic.as_bytes());
    out.extend_from_slice(&(record.properties.len() as u16).to_be_bytes());
    out.extend_from_slice(record.properties);
}

struct Head {
    bytes: [u8; HEAD_SIZE_MAX],
    len: usize,
}

impl Head {
    #[inline(always)]
    fn put<const N: usize>(&mut self, field: [u8; N]) {
        self.bytes[self.len..self.len + N].copy_from_slice(&field);
        self.len += N;
    }
    #[inline(always)]
    fn put_host(&mut self, host: SocketAddr) {
        match host.ip() {
            IpAddr::V4(ip) => self.put(ip.octets()),
            IpAddr::V6(ip) => self.put(ip.octets()),
        }
        self.put(u32::from(host.port()).to_be_bytes());
    }
}

/// CRC-32 (zlib) of the body as stored, without its top bit; 0 for an empty body.
/// Source: UtilAll#crc32 (4.9.3).
pub fn body_crc(body: &[u8]) -> u32 {
    crc32fast::hash(body) & 0x7FFF_FFFF
}

/// Appends a blank record: the rest of the segment from here on, `remaining` bytes, is unused.
pub fn encode_blank(remaining: u32, out: &mut BytesMut) {
    assert!(remaining as usize >= BLANK_SIZE, "a blank record takes 8 bytes, {remaining} are left");
    out.extend_from_slice(&remaining.to_be_bytes());
    out.extend_from_slice(&BLANK_MAGIC.to_be_bytes());
}

/// What lies at a position of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit<'a> {
    /// The segment ends here. Units: bytes from here to the segment's end, as written.
    Blank {
        size: u32,
    },
    /// Nothing was written here: size and magic are zero.
    End,
    Record(View<'a>),
}

/// Why bytes are not a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the blank record has size {0}, at least 8 was expected")]
    BlankSize(u32),
    #[error("the body has crc {found:#010x}, the record says {expected:#010x}")]
    BodyCrc { expected: u32, found: u32 },
    #[error("the body length is {len}, but the record has {size} bytes")]
    BodyLength { len: i32, size: u32 },
    #[error("the magic is {0:#010x}, 0xdaa320a7 or 0xcbd43194 was expected")]
    Magic(u32),
    #[error("the {field} is {value}, which no record has")]
    Negative { field: &'static str, value: i64 },
    #[error("the record says it lies at {found}, but it lies at {expected}")]
    PhysicalOffset { expected: PhysicalOffset, found: i64 },
    #[error("the port of the {field} is {value}, at most 65535 was expected")]
    Port { field: &'static str, value: u32 },
    #[error("the properties hold a NUL byte")]
    PropertiesNul,
    #[error("the record has {size} bytes, but its parts have {parts}")]
    Size { size: u32, parts: u64 },
    #[error("the record size is {0}, which no record has")]
    SizeBounds(u32),
    #[error("the topic has {0} bytes, 1 to 127 was expected")]
    TopicLength(u8),
    #[error("the topic is not text without NUL")]
    TopicText,
    #[error("the unit has {need} bytes, only {have} are there")]
    Truncated { need: usize, have: usize },
}

/// Reads the unit at the start of `bytes`, which lies at `at` in the log. More bytes may follow.
/// `check_body` compares the body's CRC; everything else is always checked.
/// Errors: `Truncated` when the unit may go on after `bytes`; anything else is not a unit.
pub fn decode(bytes: &[u8], at: PhysicalOffset, check_body: bool) -> Result<Unit<'_>, DecodeError> {
    parse(bytes, Some(at), check_body)
}

/// Like `decode` where the position is not known, as in a pull reply: the record's own physical
/// offset is believed.
pub fn decode_delivered(bytes: &[u8], check_body: bool) -> Result<Unit<'_>, DecodeError> {
    parse(bytes, None, check_body)
}

/// The records of a pull reply. After an error the iterator ends.
pub fn delivered(mut bytes: &[u8]) -> impl Iterator<Item = Result<View<'_>, DecodeError>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let next = match decode_delivered(bytes, true) {
            Ok(Unit::Record(view)) => Ok(view),
            Ok(Unit::Blank { .. }) => Err(DecodeError::Magic(BLANK_MAGIC)),
            Ok(Unit::End) => Err(DecodeError::Magic(0)),
            Err(error) => Err(error),
        };
        bytes = next.map_or(&[], |view| &bytes[view.size()..]);
        Some(next)
    })
}

fn parse(
    bytes: &[u8],
    at: Option<PhysicalOffset>,
    check_body: bool,
) -> Result<Unit<'_>, DecodeError> {
    let have = bytes.len();
    let short = |need: usize| DecodeError::Truncated { need, have };
    let size = bytes_at::u32(bytes, AT_SIZE).ok_or(short(BLANK_SIZE))?;
    let magic = bytes_at::u32(bytes, AT_MAGIC).ok_or(short(BLANK_SIZE))?;
    match magic {
        MAGIC => {}
        BLANK_MAGIC if (size as usize) < BLANK_SIZE || size as usize > SIZE_MAX => {
            return Err(DecodeError::BlankSize(size));
        }
        BLANK_MAGIC => return Ok(Unit::Blank { size }),
        0 if size == 0 => return Ok(Unit::End),
        _ => return Err(DecodeError::Magic(magic)),
    }
    if (size as usize) <= FIXED_SIZE || size as usize > SIZE_MAX {
        return Err(DecodeError::SizeBounds(size));
    }
    let record = bytes.get(..size as usize).ok_or(short(size as usize))?;
    let view = View::cut(record)?;
    view.check_fields(at)?;
    if check_body {
        let (expected, found) = (view.u32(AT_BODY_CRC), body_crc(view.body));
        if expected != found {
            return Err(DecodeError::BodyCrc { expected, found });
        }
    }
    Ok(Unit::Record(view))
}

/// A record in place. All accessors are plain reads: the checks were made by `decode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View<'a> {
    bytes: &'a [u8],
    at_store_timestamp: usize,
    at_reconsume_times: usize,
    body: &'a [u8],
    topic: &'a str,
    properties: &'a [u8],
}

impl<'a> View<'a> {
    /// Cuts a record of known total size into its parts. Whatever a length says, nothing outside
    /// `record` is looked at.
    fn cut(record: &'a [u8]) -> Result<Self, DecodeError> {
        let size = record.len() as u32;
        let outside = |parts: usize| DecodeError::Size { size, parts: parts as u64 };
        let flags = bytes_at::i32(record, AT_SYS_FLAG).ok_or(outside(FIXED_SIZE))?;
        let born_extra = v6_extra(flags & sys_flag::BORN_HOST_V6 != 0);
        let store_extra = v6_extra(flags & sys_flag::STORE_HOST_V6 != 0);
        let at_store_timestamp = AT_BORN_HOST + 8 + born_extra;
        let at_reconsume_times = at_store_timestamp + 8 + 8 + store_extra;
        let at_body_length = at_reconsume_times + 12;
        let at_body = at_body_length + 4;
        let len = bytes_at::i32(record, at_body_length).ok_or(outside(at_body))?;
        let body_size = usize::try_from(len).map_err(|_| DecodeError::BodyLength { len, size })?;
        let at_topic = at_body + body_size;
        let body = record.get(at_body..at_topic).ok_or(DecodeError::BodyLength { len, size })?;
        let topic_size = *record.get(at_topic).ok_or(outside(at_topic + 1))?;
        if topic_size == 0 || usize::from(topic_size) > TOPIC_SIZE_MAX {
            return Err(DecodeError::TopicLength(topic_size));
        }
        let at_properties_size = at_topic + 1 + usize::from(topic_size);
        let topic = record.get(at_topic + 1..at_properties_size);
        let topic = topic.ok_or(outside(at_properties_size))?;
        let properties_size =
            bytes_at::i16(record, at_properties_size).ok_or(outside(at_properties_size + 2))?;
        let properties_size = usize::try_from(properties_size).map_err(|_| {
            let value = i64::from(properties_size);
            DecodeError::Negative { field: "properties length", value }
        })?;
        let at_properties = at_properties_size + 2;
        if at_properties + properties_size != record.len() {
            return Err(outside(at_properties + properties_size));
        }
        let properties = &record[at_properties..];
        let topic = std::str::from_utf8(topic).map_err(|_| DecodeError::TopicText)?;
        Ok(View { bytes: record, at_store_timestamp, at_reconsume_times, body, topic, properties })
    }

    fn check_fields(&self, at: Option<PhysicalOffset>) -> Result<(), DecodeError> {
        let found = self.i64(AT_PHYSICAL_OFFSET);
        match at {
            Some(expected) if u64::try_from(found) != Ok(expected.0) => {
                return Err(DecodeError::PhysicalOffset { expected, found });
            }
            _ => not_negative("physical offset", found)?,
        }
        not_negative("queue id", i64::from(self.i32(AT_QUEUE_ID)))?;
        not_negative("queue offset", self.i64(AT_QUEUE_OFFSET))?;
        self.check_port("born host", self.at_store_timestamp)?;
        self.check_port("store host", self.at_reconsume_times)?;
        if self.topic.as_bytes().contains(&0) {
            return Err(DecodeError::TopicText);
        }
        if self.properties.contains(&0) {
            return Err(DecodeError::PropertiesNul);
        }
        Ok(())
    }

    fn check_port(&self, field: &'static str, host_end: usize) -> Result<(), DecodeError> {
        match self.u32(host_end - 4) {
            value if value > u32::from(u16::MAX) => Err(DecodeError::Port { field, value }),
            _ => Ok(()),
        }
    }

    // `cut` has read past every fixed field, so these are inside the record.
    fn u32(&self, at: usize) -> u32 {
        bytes_at::u32(self.bytes, at).unwrap_or_default()
    }
    fn i32(&self, at: usize) -> i32 {
        bytes_at::i32(self.bytes, at).unwrap_or_default()
    }
    fn i64(&self, at: usize) -> i64 {
        bytes_at::i64(self.bytes, at).unwrap_or_default()
    }

    /// The whole record.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
    /// Units: bytes of the whole record.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }
    pub fn body_crc(&self) -> u32 {
        self.u32(AT_BODY_CRC)
    }
    pub fn queue_id(&self) -> QueueId {
        QueueId(self.u32(AT_QUEUE_ID))
    }
    pub fn flag(&self) -> i32 {
        self.i32(AT_FLAG)
    }
    pub fn queue_offset(&self) -> QueueOffset {
        QueueOffset(self.i64(AT_QUEUE_OFFSET) as u64)
    }
    pub fn physical_offset(&self) -> PhysicalOffset {
        PhysicalOffset(self.i64(AT_PHYSICAL_OFFSET) as u64)
    }
    pub fn sys_flag(&self) -> i32 {
        self.i32(AT_SYS_FLAG)
    }
    pub fn born_timestamp(&self) -> WallMillis {
        WallMillis(self.i64(AT_BORN_TIMESTAMP))
    }
    pub fn born_host(&self) -> SocketAddr {
        read_host(&self.bytes[AT_BORN_HOST..self.at_store_timestamp])
    }
    pub fn store_timestamp(&self) -> WallMillis {
        WallMillis(self.i64(self.at_store_timestamp))
    }
    pub fn store_host(&self) -> SocketAddr {
        read_host(&self.bytes[self.at_store_timestamp + 8..self.at_reconsume_times])
    }
    pub fn reconsume_times(&self) -> i32 {
        self.i32(self.at_reconsume_times)
    }
    pub fn prepared_transaction_offset(&self) -> i64 {
        self.i64(self.at_reconsume_times + 4)
    }
    pub fn body(&self) -> &'a [u8] {
        self.body
    }
    pub fn topic(&self) -> &'a str {
        self.topic
    }
    /// The property string, see `format::properties`.
    pub fn properties(&self) -> &'a [u8] {
        self.properties
    }
    pub fn property(&self, name: &str) -> Option<&'a [u8]> {
        properties::get(self.properties, name)
    }
    /// The hash of TAGS, 0 without tags: the third field of a queue unit of a normal topic.
    pub fn tags_code(&self) -> i64 {
        properties::tags_code(self.properties)
    }
    pub fn unique_key(&self) -> Option<&'a [u8]> {
        self.property(property::UNIQUE_KEY)
    }
    /// The non-empty tokens of KEYS. Source: IndexService#buildIndex (4.9.3).
    pub fn keys(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let keys = self.property(property::KEYS).unwrap_or_default();
        keys.split(|byte| *byte == b' ').filter(|key| !key.is_empty())
    }
    /// The id that a broker answers a send with.
    pub fn offset_id(&self) -> String {
        message_id::offset_id(self.store_host(), self.physical_offset())
    }
    /// Everything, to be written again.
    pub fn record(&self) -> Record<'a> {
        Record {
            queue_id: self.queue_id(),
            flag: self.flag(),
            queue_offset: self.queue_offset(),
            physical_offset: self.physical_offset(),
            sys_flag: self.sys_flag(),
            born_timestamp: self.born_timestamp(),
            born_host: self.born_host(),
            store_timestamp: self.store_timestamp(),
            store_host: self.store_host(),
            reconsume_times: self.reconsume_times(),
            prepared_transaction_offset: self.prepared_transaction_offset(),
            body: self.body,
            topic: self.topic,
            properties: self.properties,
        }
    }
    /// What the queues and the index are derived from.
    pub fn dispatch(&self) -> Dispatch<'a> {
        let seen = properties::look_at(self.properties);
        Dispatch {
            topic: self.topic,
            queue_id: self.queue_id(),
            queue_offset: self.queue_offset(),
            physical_offset: self.physical_offset(),
            size: self.bytes.len() as u32,
            sys_flag: self.sys_flag(),
            store_timestamp: self.store_timestamp(),
            tags_code: seen.tags.map_or(0, |tags| i64::from(properties::java_hash(tags))),
            delay_level: seen.delay_level().unwrap_or(0),
            keys: seen.keys.unwrap_or_default(),
            unique_key: seen.unique_key,
        }
    }
}

/// What a record gives to its consume queue and to the index.
/// Source: DispatchRequest (4.9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dispatch<'a> {
    pub topic: &'a str,
    pub queue_id: QueueId,
    pub queue_offset: QueueOffset,
    pub physical_offset: PhysicalOffset,
    /// Units: bytes of the record.
    pub size: u32,
    pub sys_flag: i32,
    pub store_timestamp: WallMillis,
    /// The hash of TAGS. Records of the schedule topic carry their deliver time in its place; what
    /// that is depends on the broker's levels.
    pub tags_code: i64,
    /// DELAY, 0 when there is none or it is not a number.
    pub delay_level: i32,
    /// Tokens separated by single spaces.
    pub keys: &'a [u8],
    pub unique_key: Option<&'a [u8]>,
}

/// `bytes` is an address (4 or 16 bytes) and a port (4 bytes) that was checked.
fn read_host(bytes: &[u8]) -> SocketAddr {
    let port = bytes.last_chunk::<4>().map_or(0, |port| u32::from_be_bytes(*port)) as u16;
    let ip = match (bytes.len(), bytes.first_chunk::<16>(), bytes.first_chunk::<4>()) {
        (20, Some(ip), _) => IpAddr::V6(Ipv6Addr::from(*ip)),
        (_, _, Some(ip)) => IpAddr::V4(Ipv4Addr::from(*ip)),
        _ => unreachable!("a host has at least 8 bytes"),
    };
    SocketAddr::new(ip, port)
}

fn not_negative(field: &'static str, value: i64) -> Result<(), DecodeError> {
    if value < 0 { Err(DecodeError::Negative { field, value }) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
