//! Offsets: 14, 15, 29, 30, 31, 32.

use super::Ext;
use crate::protocol::HeaderError;
use std::borrow::Cow;

/// Of UPDATE_CONSUMER_OFFSET (15).
///
/// Source: UpdateConsumerOffsetRequestHeader (4.9.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdateConsumerOffsetHeader<'e> {
    pub consumer_group: Cow<'e, str>,
    pub topic: Cow<'e, str>,
    pub queue_id: i32,
    pub commit_offset: i64,
}

const REQUIRED: [&str; 4] = ["consumerGroup", "topic", "queueId", "commitOffset"];

impl<'e> UpdateConsumerOffsetHeader<'e> {
    /// Errors: a field is missing, a number is none.
    pub fn decode(ext: &'e Ext<'_>) -> Result<Self, HeaderError> {
        let mut header = UpdateConsumerOffsetHeader::default();
        let mut seen = 0_u32;
        ext.each(|field| {
            let at = REQUIRED.iter().position(|name| name.as_bytes() == field.key());
            match at {
                Some(0) => header.consumer_group = field.text(),
                Some(1) => header.topic = field.text(),
                Some(2) => header.queue_id = field.i32(REQUIRED[2])?,
                Some(_) => header.commit_offset = field.i64(REQUIRED[3])?,
                None => {}
            }
            seen |= at.map_or(0, |at| 1 << at);
            Ok(())
        })?;
        match REQUIRED.get((!seen).trailing_zeros() as usize) {
            Some(field) => Err(HeaderError::Missing { field }),
            None => Ok(header),
        }
    }

    /// The fields as the wire carries them.
    pub fn to_ext(&self) -> Vec<(String, String)> {
        let values = [
            self.consumer_group.to_string(),
            self.topic.to_string(),
            self.queue_id.to_string(),
            self.commit_offset.to_string(),
        ];
        REQUIRED.iter().map(ToString::to_string).zip(values).collect()
    }
}

headers! {
    /// Of QUERY_CONSUMER_OFFSET (14). Source: QueryConsumerOffsetRequestHeader (4.9.3).
    QueryConsumerOffsetHeader {
        consumer_group: String = "consumerGroup",
        topic: String = "topic",
        queue_id: i32 = "queueId",
    }

    /// Of SEARCH_OFFSET_BY_TIMESTAMP (29); the time in ms since 1970.
    /// Source: SearchOffsetRequestHeader (4.9.3).
    SearchOffsetHeader {
        topic: String = "topic",
        queue_id: i32 = "queueId",
        timestamp: i64 = "timestamp",
    }

    /// Of GET_MAX_OFFSET (30), GET_MIN_OFFSET (31) and GET_EARLIEST_MSG_STORETIME (32).
    /// Source: GetMaxOffsetRequestHeader, GetMinOffsetRequestHeader,
    /// GetEarliestMsgStoretimeRequestHeader (4.9.3).
    QueueHeader {
        topic: String = "topic",
        queue_id: i32 = "queueId",
    }

    /// The answer to 14, 29, 30 and 31. Source: GetMaxOffsetResponseHeader and kin (4.9.3).
    OffsetReplyHeader {
        offset: i64 = "offset",
    }

    /// The answer to 32, in ms since 1970. Source: GetEarliestMsgStoretimeResponseHeader (4.9.3).
    TimestampReplyHeader {
        timestamp: i64 = "timestamp",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_round_trips_and_misses_fields_by_name() {
        let header = UpdateConsumerOffsetHeader {
            consumer_group: "CG".into(),
            topic: "T".into(),
            queue_id: 1,
            commit_offset: i64::MIN,
        };
        let ext = Ext::owned(header.to_ext());
        assert_eq!(UpdateConsumerOffsetHeader::decode(&ext), Ok(header.clone()));
        let ext = Ext::owned(header.to_ext()[..3].to_vec());
        let error = UpdateConsumerOffsetHeader::decode(&ext).unwrap_err();
        assert_eq!(error.to_string(), "the custom field <commitOffset> is null");
    }

    #[test]
    fn a_table_header_round_trips_and_refuses_what_is_no_number() {
        let header = QueueHeader { topic: "T".into(), queue_id: 5 };
        assert_eq!(QueueHeader::decode(&Ext::owned(header.to_ext())), Ok(header));
        for (value, field) in [("9999999999", "queueId"), ("", "queueId"), ("1x", "queueId")] {
            let fields = vec![("topic".into(), "T".into()), (field.into(), value.into())];
            let error = QueueHeader::decode(&Ext::owned(fields)).unwrap_err();
            let expected = "a 32-bit integer";
            assert_eq!(error, HeaderError::Field { field, value: value.into(), expected });
        }
    }
}
