//! PULL_MESSAGE (11) and LITE_PULL_MESSAGE (361).

use super::{Ext, Field};
use crate::protocol::HeaderError;
use std::borrow::Cow;

/// Bits of a pull's `sysFlag`. Source: PullSysFlag (4.9.3).
pub mod flag {
    pub const COMMIT_OFFSET: i32 = 1;
    pub const SUSPEND: i32 = 2;
    pub const SUBSCRIPTION: i32 = 4;
    pub const CLASS_FILTER: i32 = 8;
    pub const LITE_PULL: i32 = 16;
}

/// Source: PullMessageRequestHeader (4.9.3).
/// Differs: what 4.9.3 reads only with a flag bit, or only compares, is 0 when it is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PullMessageHeader<'e> {
    pub consumer_group: Cow<'e, str>,
    pub topic: Cow<'e, str>,
    pub queue_id: i32,
    pub queue_offset: i64,
    pub max_msg_nums: i32,
    pub sys_flag: i32,
    pub commit_offset: i64,
    /// Units: ms.
    pub suspend_timeout_millis: i64,
    pub subscription: Option<Cow<'e, str>>,
    pub sub_version: i64,
    pub expression_type: Option<Cow<'e, str>>,
}

const REQUIRED: [&str; 6] =
    ["consumerGroup", "topic", "queueId", "queueOffset", "maxMsgNums", "sysFlag"];

impl<'e> PullMessageHeader<'e> {
    pub fn has_flag(&self, bit: i32) -> bool {
        self.sys_flag & bit != 0
    }

    /// Errors: a required field is missing, a number is none.
    pub fn decode(ext: &'e Ext<'_>) -> Result<Self, HeaderError> {
        let mut header = PullMessageHeader::default();
        let mut seen = 0_u32;
        ext.each(|field| {
            let at = REQUIRED.iter().position(|name| name.as_bytes() == field.key());
            match at {
                Some(0) => header.consumer_group = field.text(),
                Some(1) => header.topic = field.text(),
                Some(2) => header.queue_id = field.i32(REQUIRED[2])?,
                Some(3) => header.queue_offset = field.i64(REQUIRED[3])?,
                Some(4) => header.max_msg_nums = field.i32(REQUIRED[4])?,
                Some(_) => header.sys_flag = field.i32(REQUIRED[5])?,
                None => header.set_optional(field)?,
            }
            seen |= at.map_or(0, |at| 1 << at);
            Ok(())
        })?;
        match REQUIRED.get((!seen).trailing_zeros() as usize) {
            Some(field) => Err(HeaderError::Missing { field }),
            None => Ok(header),
        }
    }

    fn set_optional(&mut self, field: Field<'e>) -> Result<(), HeaderError> {
        match field.key() {
            b"commitOffset" => self.commit_offset = field.i64("commitOffset")?,
            b"suspendTimeoutMillis" => {
                self.suspend_timeout_millis = field.i64("suspendTimeoutMillis")?;
            }
            b"subscription" => self.subscription = Some(field.text()),
            b"subVersion" => self.sub_version = field.i64("subVersion")?,
            b"expressionType" => self.expression_type = Some(field.text()),
            _ => {}
        }
        Ok(())
    }

    /// The fields as the wire carries them.
    pub fn to_ext(&self) -> Vec<(String, String)> {
        let mut ext = vec![
            (REQUIRED[0].to_owned(), self.consumer_group.to_string()),
            (REQUIRED[1].to_owned(), self.topic.to_string()),
            (REQUIRED[2].to_owned(), self.queue_id.to_string()),
            (REQUIRED[3].to_owned(), self.queue_offset.to_string()),
            (REQUIRED[4].to_owned(), self.max_msg_nums.to_string()),
            (REQUIRED[5].to_owned(), self.sys_flag.to_string()),
            ("commitOffset".to_owned(), self.commit_offset.to_string()),
            ("suspendTimeoutMillis".to_owned(), self.suspend_timeout_millis.to_string()),
            ("subVersion".to_owned(), self.sub_version.to_string()),
        ];
        let optional =
            [("subscription", &self.subscription), ("expressionType", &self.expression_type)];
        for (name, value) in optional {
            ext.extend(value.as_ref().map(|value| (name.to_owned(), value.to_string())));
        }
        ext
    }
}

headers! {
    /// Source: PullMessageResponseHeader (4.9.3).
    PullMessageReplyHeader {
        suggest_which_broker_id: i64 = "suggestWhichBrokerId",
        next_begin_offset: i64 = "nextBeginOffset",
        min_offset: i64 = "minOffset",
        max_offset: i64 = "maxOffset",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> PullMessageHeader<'static> {
        PullMessageHeader {
            consumer_group: "CG".into(),
            topic: "T".into(),
            queue_id: 3,
            queue_offset: 1 << 40,
            max_msg_nums: 32,
            sys_flag: flag::COMMIT_OFFSET | flag::SUSPEND,
            commit_offset: 17,
            suspend_timeout_millis: 15_000,
            subscription: Some("a || b".into()),
            sub_version: 1_700_000_000_000,
            expression_type: Some("TAG".into()),
        }
    }

    #[test]
    fn it_round_trips() {
        let ext = Ext::owned(sample().to_ext());
        assert_eq!(PullMessageHeader::decode(&ext), Ok(sample()));
    }

    #[test]
    fn each_required_field_is_missed_by_name() {
        for name in REQUIRED {
            let mut ext = sample().to_ext();
            ext.retain(|(known, _)| known != name);
            let error = PullMessageHeader::decode(&Ext::owned(ext)).unwrap_err();
            assert_eq!(error.to_string(), format!("the custom field <{name}> is null"));
        }
    }
}
