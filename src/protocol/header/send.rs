//! Sending: 10, 310, 320, 324, 325.

use super::{Ext, Field};
use crate::protocol::HeaderError;
use crate::protocol::code::request_code;
use std::borrow::Cow;

/// Of SEND_MESSAGE (10) and SEND_REPLY_MESSAGE (324), and of SEND_MESSAGE_V2 (310),
/// SEND_BATCH_MESSAGE (320) and SEND_REPLY_MESSAGE_V2 (325), which name the same fields with one
/// letter each.
///
/// Source: SendMessageRequestHeader, SendMessageRequestHeaderV2 (4.9.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SendMessageHeader<'e> {
    pub producer_group: Cow<'e, str>,
    pub topic: Cow<'e, str>,
    /// The topic whose settings a new topic takes.
    pub default_topic: Cow<'e, str>,
    pub default_topic_queue_nums: i32,
    /// Negative: the broker picks.
    pub queue_id: i32,
    pub sys_flag: i32,
    /// Units: ms since 1970.
    pub born_timestamp: i64,
    pub flag: i32,
    pub properties: Option<Cow<'e, str>>,
    pub reconsume_times: Option<i32>,
    pub is_unit_mode: bool,
    pub max_reconsume_times: Option<i32>,
    pub is_batch: bool,
}

/// Each letter of the short form with the long form's name.
const NAMES: [(&str, &str); 13] = [
    ("a", "producerGroup"),
    ("b", "topic"),
    ("c", "defaultTopic"),
    ("d", "defaultTopicQueueNums"),
    ("e", "queueId"),
    ("f", "sysFlag"),
    ("g", "bornTimestamp"),
    ("h", "flag"),
    ("i", "properties"),
    ("j", "reconsumeTimes"),
    ("k", "unitMode"),
    ("l", "maxReconsumeTimes"),
    ("m", "batch"),
];

/// `a` to `h` must be there.
const REQUIRED_COUNT: u32 = 8;

/// `a`, `c` and `d`: Java reads the last two only to make a topic.
const SELDOM_READ: u32 = 0b1101;

/// The fields that may be missing although they are declared as required: the generic decoder of
/// 4.9.3 does not look, the one of 310 and 320 does.
fn may_miss(code: i32) -> u32 {
    match code {
        request_code::SEND_MESSAGE_V2 | request_code::SEND_BATCH_MESSAGE => 0,
        _ => SELDOM_READ,
    }
}

fn is_long(code: i32) -> bool {
    matches!(code, request_code::SEND_MESSAGE | request_code::SEND_REPLY_MESSAGE)
}

fn letter(key: &[u8], is_long: bool) -> u8 {
    match key {
        [letter] if !is_long => *letter,
        _ if is_long => {
            let found = NAMES.iter().position(|(_, name)| name.as_bytes() == key);
            found.map_or(0, |at| b'a' + at as u8)
        }
        _ => 0,
    }
}

fn name(at: usize, is_long: bool) -> &'static str {
    if is_long { NAMES[at].1 } else { NAMES[at].0 }
}

impl<'e> SendMessageHeader<'e> {
    /// Errors: a field `a` to `h` is missing (10, 324 and 325: one that every message needs), a
    /// number is none.
    pub fn decode(code: i32, ext: &'e Ext<'_>) -> Result<Self, HeaderError> {
        if ext.is_absent() && may_miss(code) == 0 {
            return Err(HeaderError::FieldsAbsent);
        }
        let is_long = is_long(code);
        let mut header = SendMessageHeader::default();
        let mut seen = 0_u32;
        ext.each(|field| {
            let letter = letter(field.key(), is_long);
            let at = letter.wrapping_sub(b'a');
            if usize::from(at) < NAMES.len() {
                seen |= 1 << at;
                header.set(letter, name(usize::from(at), is_long), field)?;
            }
            Ok(())
        })?;
        let missing = (!(seen | may_miss(code))).trailing_zeros();
        if missing < REQUIRED_COUNT {
            return Err(HeaderError::Missing { field: name(missing as usize, is_long) });
        }
        Ok(header)
    }

    #[inline]
    fn set(&mut self, letter: u8, name: &'static str, field: Field<'e>) -> Result<(), HeaderError> {
        match letter {
            b'a' => self.producer_group = field.text(),
            b'b' => self.topic = field.text(),
            b'c' => self.default_topic = field.text(),
            b'd' => self.default_topic_queue_nums = field.i32(name)?,
            b'e' => self.queue_id = field.i32(name)?,
            b'f' => self.sys_flag = field.i32(name)?,
            b'g' => self.born_timestamp = field.i64(name)?,
            b'h' => self.flag = field.i32(name)?,
            b'i' => self.properties = Some(field.text()),
            b'j' => self.reconsume_times = Some(field.i32(name)?),
            b'k' => self.is_unit_mode = field.bool(),
            b'l' => self.max_reconsume_times = Some(field.i32(name)?),
            _ => self.is_batch = field.bool(),
        }
        Ok(())
    }

    /// The fields as the wire carries them under `code`.
    pub fn to_ext(&self, code: i32) -> Vec<(String, String)> {
        let is_long = is_long(code);
        let values = [
            Some(self.producer_group.to_string()),
            Some(self.topic.to_string()),
            Some(self.default_topic.to_string()),
            Some(self.default_topic_queue_nums.to_string()),
            Some(self.queue_id.to_string()),
            Some(self.sys_flag.to_string()),
            Some(self.born_timestamp.to_string()),
            Some(self.flag.to_string()),
            self.properties.as_ref().map(ToString::to_string),
            self.reconsume_times.map(|times| times.to_string()),
            Some(self.is_unit_mode.to_string()),
            self.max_reconsume_times.map(|times| times.to_string()),
            Some(self.is_batch.to_string()),
        ];
        let present = values.into_iter().enumerate();
        present.filter_map(|(at, value)| Some((name(at, is_long).to_owned(), value?))).collect()
    }
}

headers! {
    /// Source: SendMessageResponseHeader (4.9.3).
    SendMessageReplyHeader {
        message_id: String = "msgId",
        queue_id: i32 = "queueId",
        queue_offset: i64 = "queueOffset",
        transaction_id: Option<String> = "transactionId",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> SendMessageHeader<'static> {
        SendMessageHeader {
            producer_group: "PG".into(),
            topic: "T".into(),
            default_topic: "TBW102".into(),
            default_topic_queue_nums: 4,
            queue_id: -1,
            sys_flag: 1,
            born_timestamp: 1_700_000_000_000,
            flag: -7,
            properties: Some("TAGS\u{1}a\u{2}".into()),
            reconsume_times: Some(0),
            is_unit_mode: false,
            max_reconsume_times: Some(16),
            is_batch: true,
        }
    }

    #[test]
    fn both_forms_round_trip() {
        for code in [10, 310, 320] {
            let ext = sample().to_ext(code);
            let ext = Ext::borrowed(&ext);
            assert_eq!(SendMessageHeader::decode(code, &ext), Ok(sample()));
        }
    }

    #[test]
    fn the_first_missing_required_field_is_named_as_java_names_it() {
        for (code, missing, text) in [
            (310, "d", "the custom field <d> is null"),
            (10, "bornTimestamp", "the custom field <bornTimestamp> is null"),
            (325, "g", "the custom field <g> is null"),
        ] {
            let mut ext = sample().to_ext(code);
            ext.retain(|(name, _)| name != missing);
            let ext = Ext::owned(ext);
            let error = SendMessageHeader::decode(code, &ext).unwrap_err();
            assert_eq!(error.to_string(), text);
        }
        let absent = |code| SendMessageHeader::decode(code, &Ext::default()).unwrap_err();
        assert_eq!(absent(310).to_string(), "the ext fields is null");
        assert_eq!(absent(10).to_string(), "the custom field <topic> is null");
    }

    #[test]
    fn what_only_a_new_topic_needs_may_be_missing_where_java_does_not_look() {
        for (code, names) in [
            (10, ["producerGroup", "defaultTopic", "defaultTopicQueueNums"]),
            (324, ["producerGroup", "defaultTopic", "defaultTopicQueueNums"]),
            (325, ["a", "c", "d"]),
        ] {
            let mut ext = sample().to_ext(code);
            ext.retain(|(name, _)| !names.contains(&name.as_str()));
            let ext = Ext::owned(ext);
            let header = SendMessageHeader::decode(code, &ext).unwrap();
            assert_eq!((&*header.producer_group, &*header.default_topic), ("", ""));
            assert_eq!((&*header.topic, header.default_topic_queue_nums), ("T", 0));
        }
    }

    #[test]
    fn optional_fields_may_be_missing() {
        let mut ext = sample().to_ext(310);
        ext.truncate(8);
        let ext = Ext::owned(ext);
        let header = SendMessageHeader::decode(310, &ext).unwrap();
        assert_eq!((header.properties, header.reconsume_times), (None, None));
        assert!(!header.is_batch);
    }

    #[test]
    fn a_number_that_is_none_is_named_with_its_value() {
        let ext = Ext::owned(vec![("d".into(), "four".into())]);
        let error = SendMessageHeader::decode(310, &ext).unwrap_err();
        let text = "the custom field <d> is \"four\", expected a 32-bit integer";
        assert_eq!(error.to_string(), text);
    }
}
