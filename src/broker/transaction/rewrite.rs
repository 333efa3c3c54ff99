//! A transactional message on its way: half message, copies of it, op message, final message.
//!
//! Source: TransactionalMessageBridge, EndTransactionProcessor#endMessageTransaction,
//! DefaultTransactionalMessageCheckListener, AdminBrokerProcessor#resumeCheckHalfMessage (4.9.3).
//! Differs: items keep the sender's order; copies keep flag and reconsume times (W-66); each copy
//! names its first one in TRAN_PREPARED_QUEUE_OFFSET; DELAY goes (W-62).

use super::{DISCARD_TOPIC, HALF_TOPIC};
use crate::format::message_unit::View;
use crate::format::properties;
use crate::model::{PhysicalOffset, QueueId, TopicName, WallMillis, property, sys_flag};
use crate::store::{Append, Ticket};
use std::net::SocketAddr;

/// The queue of half messages, and that of their op messages.
pub const QUEUE: QueueId = QueueId(0);

/// Bytes that the copies of a half message may need more than itself: two property items, and a
/// third when it is committed for a time of its own.
pub const COPY_ROOM: usize = 128;

/// The properties of every op message. Source: TransactionalMessageUtil.REMOVETAG (4.9.3).
const OP_PROPERTIES: &[u8] = b"WAIT\x01true\x02TAGS\x01d";

/// Makes the property string of a send that of a half message of `topic` and `queue`.
pub fn half(raw: &mut Vec<u8>, topic: &str, queue: u32) {
    let gone = [
        property::REAL_TOPIC,
        property::REAL_QUEUE_ID,
        property::DELAY,
        property::TRANSACTION_PREPARED_QUEUE_OFFSET,
    ];
    for name in gone {
        if properties::get(raw, name).is_some() {
            properties::remove(raw, name);
        }
    }
    properties::append(raw, property::REAL_TOPIC, topic.as_bytes());
    properties::append(raw, property::REAL_QUEUE_ID, queue.to_string().as_bytes());
}

/// Where a half message belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Real<'a> {
    pub topic: &'a str,
    pub queue: QueueId,
}

/// `None`: it does not say, and can never be committed.
pub fn real<'a>(half: &View<'a>) -> Option<Real<'a>> {
    let topic = properties::get_str(half.properties(), property::REAL_TOPIC)?;
    let queue = properties::get_str(half.properties(), property::REAL_QUEUE_ID)?;
    let queue = queue.parse::<i32>().ok().and_then(|queue| u32::try_from(queue).ok())?;
    Some(Real { topic, queue: QueueId(queue) })
}

/// The queue offset of the first copy of a half message: its own, unless it is a copy.
pub fn first_of(half: &View<'_>) -> u64 {
    let own = half.queue_offset().0;
    copied_from(half).filter(|first| *first < own).unwrap_or(own)
}

/// The queue offset that TRAN_PREPARED_QUEUE_OFFSET names.
pub fn copied_from(record: &View<'_>) -> Option<u64> {
    let name = property::TRANSACTION_PREPARED_QUEUE_OFFSET;
    properties::get_str(record.properties(), name)?.parse().ok()
}

/// A property string with one item set anew.
fn with(raw: &[u8], name: &str, value: &str) -> Vec<u8> {
    let mut raw = raw.to_vec();
    if properties::get(&raw, name).is_some() {
        properties::remove(&mut raw, name);
    }
    properties::append(&mut raw, name, value.as_bytes());
    raw
}

/// The property string of a copy; with the number of checks when it is made for one.
pub fn copy(half: &View<'_>, check_times: Option<i32>) -> Vec<u8> {
    let name = property::TRANSACTION_PREPARED_QUEUE_OFFSET;
    let raw = with(half.properties(), name, &first_of(half).to_string());
    match check_times {
        Some(times) => with(&raw, property::TRANSACTION_CHECK_TIMES, &times.to_string()),
        None => raw,
    }
}

/// The property string of a discarded message that begins anew.
pub fn resumed(discarded: &View<'_>) -> Vec<u8> {
    let mut raw = with(discarded.properties(), property::TRANSACTION_CHECK_TIMES, "0");
    properties::remove(&mut raw, property::TRANSACTION_PREPARED_QUEUE_OFFSET);
    raw
}

/// The names of the topics, so that appends can borrow them.
#[derive(Clone, Debug)]
pub struct Names {
    pub half: TopicName,
    pub op: TopicName,
    pub discard: TopicName,
}

impl Default for Names {
    fn default() -> Self {
        Names {
            half: TopicName::new(HALF_TOPIC),
            op: TopicName::new(super::OP_TOPIC),
            discard: TopicName::new(DISCARD_TOPIC),
        }
    }
}

/// An op message: what it says of the half message is its body.
pub fn op<'a>(
    names: &'a Names,
    body: &'a str,
    host: SocketAddr,
    now: WallMillis,
    ticket: Ticket,
) -> Append<'a> {
    Append {
        topic: &names.op,
        queue: QUEUE,
        flag: 0,
        sys_flag: 0,
        born_timestamp: now,
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body: body.as_bytes(),
        properties: OP_PROPERTIES,
        tags_code: None,
        wait: true,
        ticket,
    }
}

/// A half message written again elsewhere, with these properties.
pub fn again<'a>(
    record: &View<'a>,
    topic: &'a TopicName,
    queue: QueueId,
    properties: &'a [u8],
    ticket: Ticket,
) -> Append<'a> {
    Append {
        prepared_transaction_offset: 0,
        properties,
        ..Append::again(record, topic, queue, ticket)
    }
}

/// The message that consumers see once its transaction is committed.
pub fn committed<'a>(
    half: &View<'a>,
    topic: &'a TopicName,
    queue: QueueId,
    ticket: Ticket,
) -> Append<'a> {
    let from = half.physical_offset();
    Append {
        sys_flag: (half.sys_flag() & !sys_flag::TRANSACTION_MASK) | sys_flag::TRANSACTION_COMMIT,
        prepared_transaction_offset: i64::try_from(from.0).unwrap_or(0),
        ..again(half, topic, queue, half.properties(), ticket)
    }
}

/// The half message that the effect of a resolution comes from, when `record` is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A final message: its half message lies there.
    At(PhysicalOffset),
    /// A copy, or a discarded message: the queue offset of its first copy, and one past the newest
    /// half message that it may come from.
    First(u64, u64),
}

pub fn origin(record: &View<'_>) -> Option<Origin> {
    let is_committed =
        sys_flag::transaction_type(record.sys_flag()) == sys_flag::TRANSACTION_COMMIT;
    match record.topic() {
        HALF_TOPIC if record.queue_id() == QUEUE => {
            let own = record.queue_offset().0;
            copied_from(record).filter(|first| *first < own).map(|first| Origin::First(first, own))
        }
        DISCARD_TOPIC => copied_from(record).map(|first| Origin::First(first, u64::MAX)),
        _ if is_committed => {
            let at = u64::try_from(record.prepared_transaction_offset()).ok()?;
            Some(Origin::At(PhysicalOffset(at)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_message_names_its_topic_once_and_is_neither_delayed_nor_a_copy() {
        let mut raw =
            b"TAGS\x01a\x02DELAY\x013\x02REAL_TOPIC\x01x\x02TRAN_PREPARED_QUEUE_OFFSET\x017"
                .to_vec();
        half(&mut raw, "T", 3);
        assert_eq!(raw, b"TAGS\x01a\x02REAL_TOPIC\x01T\x02REAL_QID\x013");
    }

    #[test]
    fn an_item_is_set_once() {
        assert_eq!(with(b"a\x011\x02b\x012", "a", "9"), b"b\x012\x02a\x019");
        assert_eq!(with(b"", "a", "9"), b"a\x019");
    }
}
