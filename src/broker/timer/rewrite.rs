//! A message with a time of its own on its way in and out of the timer topic.
//!
//! Source: HookUtils#transformTimerMessage, TimerMessageStore#convertMessage (5.3).
//! Differs: items keep the sender's order; REAL_TOPIC and REAL_QID stay in what is delivered, as
//! with the delay levels of 4.9.3; TIMER_OUT_MS is the time itself, not the second before it.

use super::TIMER_TOPIC;
use crate::format::message_unit::View;
use crate::format::properties;
use crate::model::{QueueId, QueueOffset, TopicName, WallMillis, property};
use crate::store::{Append, Ticket};
use std::net::SocketAddr;

/// The queue of waiting messages, and that of done messages.
pub const WAITING: QueueId = QueueId(0);
pub const DONE: QueueId = QueueId(1);

/// Items that ask for a time, the one that counts first.
const ASKING: [&str; 3] =
    [property::TIMER_DELAY_SEC, property::TIMER_DELAY_MS, property::TIMER_DELIVER_MS];

/// The properties of every done message.
const DONE_PROPERTIES: &[u8] = b"TAGS\x01d";

/// As long as the body of a done message can be.
pub const DONE_BODY_MAX: &str = "18446744073709551615 18446744073709551615";

/// Why a message cannot have the time that it asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("a time that was asked for cannot be taken back here")]
    Cancel,
    #[error("{name} is no number")]
    NoNumber { name: &'static str },
    /// In the words of 5.3.
    #[error("the delay time should not be bigger than the max delay {max_ms}ms")]
    TooLong { max_ms: i64 },
}

/// When a message is due; `None` when it is not timed, or due already.
/// `max_ms`: the longest delay, in milliseconds.
/// Errors: see `Fault`.
pub fn due(raw: &[u8], now: WallMillis, max_ms: i64) -> Result<Option<WallMillis>, Fault> {
    if properties::get(raw, property::TIMER_OUT_MS).is_some() {
        // It has had its time.
        return Ok(None);
    }
    let asked = ASKING.iter().find_map(|name| properties::get(raw, name).map(|text| (*name, text)));
    let Some((name, text)) = asked else { return Ok(None) };
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok());
    let number = number.ok_or(Fault::NoNumber { name })?;
    let due = match name {
        property::TIMER_DELAY_SEC => now.0.saturating_add(number.saturating_mul(1000)),
        property::TIMER_DELAY_MS => now.0.saturating_add(number),
        _ => number,
    };
    if properties::get(raw, property::TIMER_DEL_UNIQUE_KEY).is_some() {
        return Err(Fault::Cancel);
    }
    if due.saturating_sub(now.0) > max_ms {
        return Err(Fault::TooLong { max_ms });
    }
    Ok((due > now.0).then_some(WallMillis(due)))
}

/// Makes a property string that of a message which waits for its time.
pub fn time(raw: &mut Vec<u8>, due: WallMillis, topic: &str, queue: u32) {
    for name in [property::REAL_TOPIC, property::REAL_QUEUE_ID] {
        if properties::get(raw, name).is_some() {
            properties::remove(raw, name);
        }
    }
    properties::append(raw, property::REAL_TOPIC, topic.as_bytes());
    properties::append(raw, property::REAL_QUEUE_ID, queue.to_string().as_bytes());
    set_due(raw, due);
}

/// Says when it is due, and by that, that it is timed.
pub fn set_due(raw: &mut Vec<u8>, due: WallMillis) {
    properties::append(raw, property::TIMER_OUT_MS, due.0.to_string().as_bytes());
}

/// A level counts more than a time: what asks for one goes. Source: HookUtils#checkIfTimerMessage.
pub fn forget_time(raw: &mut Vec<u8>) {
    for name in ASKING {
        if properties::get(raw, name).is_some() {
            properties::remove(raw, name);
        }
    }
}

/// When a record of the timer topic is due; `None` when it does not say.
pub fn due_of(record: &View<'_>) -> Option<WallMillis> {
    let text = properties::get_str(record.properties(), property::TIMER_OUT_MS)?;
    text.parse().ok().map(WallMillis)
}

/// What a done message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    pub offset: QueueOffset,
    /// Everything below was done before.
    pub base: QueueOffset,
}

impl Done {
    pub fn body(&self) -> String {
        format!("{} {}", self.offset, self.base)
    }

    /// `None`: this is no done message.
    pub fn of(record: &View<'_>) -> Option<Done> {
        if record.topic() != TIMER_TOPIC || record.queue_id() != DONE {
            return None;
        }
        let (offset, base) = std::str::from_utf8(record.body()).ok()?.split_once(' ')?;
        let number = |text: &str| text.parse().ok().map(QueueOffset);
        Some(Done { offset: number(offset)?, base: number(base)? })
    }
}

/// A done message.
pub fn done<'a>(
    topic: &'a TopicName,
    body: &'a str,
    host: SocketAddr,
    now: WallMillis,
    ticket: Ticket,
) -> Append<'a> {
    Append {
        topic,
        queue: DONE,
        flag: 0,
        sys_flag: 0,
        born_timestamp: now,
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body: body.as_bytes(),
        properties: DONE_PROPERTIES,
        tags_code: None,
        wait: true,
        ticket,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallMillis = WallMillis(1_700_000_000_000);
    const MAX: i64 = 259_200_000;

    #[test]
    fn seconds_count_before_milliseconds_and_those_before_a_date() {
        let due = |raw: &[u8]| due(raw, NOW, MAX);
        let at = |more: i64| Ok(Some(WallMillis(NOW.0 + more)));
        assert_eq!(due(b"TIMER_DELAY_SEC\x012\x02TIMER_DELAY_MS\x017"), at(2000));
        assert_eq!(due(b"TIMER_DELIVER_MS\x011700000000009\x02TIMER_DELAY_MS\x017"), at(7));
        assert_eq!(due(b"TIMER_DELIVER_MS\x011700000000009"), at(9));
        assert_eq!(due(b"TAGS\x01a"), Ok(None));
    }

    #[test]
    fn what_is_past_or_was_timed_before_is_not_timed() {
        let due = |raw: &[u8]| due(raw, NOW, MAX);
        assert_eq!(due(b"TIMER_DELIVER_MS\x011700000000000"), Ok(None));
        assert_eq!(due(b"TIMER_DELAY_MS\x01-5"), Ok(None));
        assert_eq!(due(b"TIMER_DELAY_MS\x015\x02TIMER_OUT_MS\x011"), Ok(None));
    }

    #[test]
    fn a_time_that_is_too_far_or_no_number_or_taken_back_is_refused() {
        let due = |raw: &[u8]| due(raw, NOW, MAX);
        let too_long = Err(Fault::TooLong { max_ms: MAX });
        assert_eq!(due(b"TIMER_DELAY_MS\x01259200000"), Ok(Some(WallMillis(NOW.0 + MAX))));
        assert_eq!(due(b"TIMER_DELAY_MS\x01259200001"), too_long);
        assert_eq!(due(b"TIMER_DELAY_SEC\x019223372036854775807"), too_long);
        assert_eq!(due(b"TIMER_DELAY_MS\x01soon"), Err(Fault::NoNumber { name: "TIMER_DELAY_MS" }));
        assert_eq!(due(b"TIMER_DELAY_MS\x0150\x02TIMER_DEL_UNIQKEY\x01k"), Err(Fault::Cancel));
    }

    #[test]
    fn a_timed_message_names_its_topic_and_its_time_once() {
        let mut raw = b"REAL_TOPIC\x01evil\x02TIMER_DELAY_MS\x015".to_vec();
        time(&mut raw, WallMillis(9), "T", 3);
        let want = b"TIMER_DELAY_MS\x015\x02REAL_TOPIC\x01T\x02REAL_QID\x013\x02TIMER_OUT_MS\x019";
        assert_eq!(raw, want);
        forget_time(&mut raw);
        assert_eq!(raw, b"REAL_TOPIC\x01T\x02REAL_QID\x013\x02TIMER_OUT_MS\x019");
    }
}
