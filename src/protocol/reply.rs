//! Replies written straight into an outbox: the two of the hot path, and any other.

use super::command::{FLAG_REPLY, VERSION_4_9_3};
use super::frame::{self, PREFIX_SIZE, Serialize};
use super::header_json::{self, Parts, write_integer, write_string};
use super::{Language, header_binary};
use bytes::{BufMut, BytesMut};

/// Appends a reply up to its body; `body_size` bytes are to follow.
pub fn encode_reply(
    out: &mut BytesMut,
    serialize: Serialize,
    opaque: i32,
    code: i32,
    remark: Option<&str>,
    ext: &[(&str, &str)],
    body_size: usize,
) {
    let fields: usize = ext.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
    out.reserve(PREFIX_SIZE + 160 + fields + remark.map_or(0, str::len));
    let at = frame::begin(out);
    let parts = parts(opaque, code, remark);
    let ext = (!ext.is_empty()).then_some(ext.iter().copied());
    match serialize {
        Serialize::Json => header_json::write(out, &parts, ext),
        Serialize::Rocketmq => header_binary::write(out, &parts, ext),
    }
    frame::end(out, at, serialize, body_size);
}

fn parts(opaque: i32, code: i32, remark: Option<&str>) -> Parts<'_> {
    let (language, version, flag) = (Language::Java, VERSION_4_9_3, FLAG_REPLY);
    Parts { code, language, version, opaque, flag, remark }
}

/// What a producer learns. A refused send has no place: `stored` is none.
///
/// Source: SendMessageResponseHeader, SendMessageProcessor (4.9.3).
#[derive(Clone, Copy, Debug)]
pub struct SendReply<'a> {
    pub opaque: i32,
    pub code: i32,
    pub remark: Option<&'a str>,
    pub stored: Option<Stored<'a>>,
    pub region: &'a str,
    pub is_traced: bool,
}

/// Where a message was stored.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// The offset message id; for a batch all of them, joined with commas.
    pub message_id: &'a str,
    pub queue_id: i32,
    pub queue_offset: i64,
}

/// Appends the reply to a send. The fields stand in the order of Java's hash map.
pub fn encode_send_reply(out: &mut BytesMut, serialize: Serialize, reply: &SendReply<'_>) {
    if serialize == Serialize::Rocketmq {
        return encode_send_reply_binary(out, reply);
    }
    let variable = reply.stored.map_or(0, |stored| stored.message_id.len())
        + reply.remark.map_or(0, str::len)
        + reply.region.len();
    out.reserve(PREFIX_SIZE + 280 + variable);
    let at = frame::begin(out);
    out.put_slice(b"{\"code\":");
    write_integer(out, i64::from(reply.code));
    out.put_slice(b",\"extFields\":{");
    if let Some(stored) = reply.stored {
        out.put_slice(b"\"queueId\":\"");
        write_integer(out, i64::from(stored.queue_id));
        out.put_slice(b"\",");
    }
    out.put_slice(if reply.is_traced {
        b"\"TRACE_ON\":\"true\""
    } else {
        b"\"TRACE_ON\":\"false\""
    });
    out.put_slice(b",\"MSG_REGION\":");
    write_string(out, reply.region);
    if let Some(stored) = reply.stored {
        out.put_slice(b",\"msgId\":\"");
        out.put_slice(stored.message_id.as_bytes());
        out.put_slice(b"\",\"queueOffset\":\"");
        write_integer(out, stored.queue_offset);
        out.put_u8(b'"');
    }
    out.put_u8(b'}');
    header_json::write_rest(out, &parts(reply.opaque, reply.code, reply.remark));
    frame::end(out, at, serialize, 0);
}

fn encode_send_reply_binary(out: &mut BytesMut, reply: &SendReply<'_>) {
    let trace = if reply.is_traced { "true" } else { "false" };
    let common = [("TRACE_ON", trace), ("MSG_REGION", reply.region)];
    let Some(stored) = reply.stored else {
        let (opaque, code) = (reply.opaque, reply.code);
        return encode_reply(out, Serialize::Rocketmq, opaque, code, reply.remark, &common, 0);
    };
    let (queue_id, queue_offset) = (stored.queue_id.to_string(), stored.queue_offset.to_string());
    let ext = [
        ("queueId", queue_id.as_str()),
        common[0],
        common[1],
        ("msgId", stored.message_id),
        ("queueOffset", &queue_offset),
    ];
    encode_reply(out, Serialize::Rocketmq, reply.opaque, reply.code, reply.remark, &ext, 0);
}

/// What a consumer learns besides the messages.
///
/// Source: PullMessageResponseHeader, PullMessageProcessor (4.9.3).
#[derive(Clone, Copy, Debug)]
pub struct PullReply<'a> {
    pub opaque: i32,
    pub code: i32,
    /// The name of the store's status, such as FOUND.
    pub remark: Option<&'a str>,
    pub suggest_which_broker_id: i64,
    pub next_begin_offset: i64,
    pub min_offset: i64,
    pub max_offset: i64,
    pub body_size: usize,
}

/// Appends the reply to a pull up to its body. The fields stand in the order of Java's hash map.
pub fn encode_pull_reply(out: &mut BytesMut, serialize: Serialize, reply: &PullReply<'_>) {
    if serialize == Serialize::Rocketmq {
        return encode_pull_reply_binary(out, reply);
    }
    out.reserve(PREFIX_SIZE + 360 + reply.remark.map_or(0, str::len));
    let at = frame::begin(out);
    out.put_slice(b"{\"code\":");
    write_integer(out, i64::from(reply.code));
    for (name, value) in pull_fields(reply) {
        out.put_slice(name.as_bytes());
        write_integer(out, value);
    }
    out.put_slice(b"\"}");
    header_json::write_rest(out, &parts(reply.opaque, reply.code, reply.remark));
    frame::end(out, at, serialize, reply.body_size);
}

/// Each name with the punctuation before its value.
fn pull_fields(reply: &PullReply<'_>) -> [(&'static str, i64); 4] {
    [
        (",\"extFields\":{\"suggestWhichBrokerId\":\"", reply.suggest_which_broker_id),
        ("\",\"nextBeginOffset\":\"", reply.next_begin_offset),
        ("\",\"maxOffset\":\"", reply.max_offset),
        ("\",\"minOffset\":\"", reply.min_offset),
    ]
}

fn encode_pull_reply_binary(out: &mut BytesMut, reply: &PullReply<'_>) {
    let [suggest, next, max, min] = pull_fields(reply).map(|(_, value)| value.to_string());
    let ext = [
        ("suggestWhichBrokerId", suggest.as_str()),
        ("nextBeginOffset", next.as_str()),
        ("maxOffset", max.as_str()),
        ("minOffset", min.as_str()),
    ];
    let (opaque, code) = (reply.opaque, reply.code);
    encode_reply(out, Serialize::Rocketmq, opaque, code, reply.remark, &ext, reply.body_size);
}
