//! Queries by key: 12.

headers! {
    /// Of QUERY_MESSAGE (12); times in ms since 1970. Source: QueryMessageRequestHeader (4.9.3).
    QueryMessageHeader {
        topic: String = "topic",
        key: String = "key",
        max_num: i32 = "maxNum",
        begin_timestamp: i64 = "beginTimestamp",
        end_timestamp: i64 = "endTimestamp",
    }

    /// Of VIEW_MESSAGE_BY_ID (33): where in the log. Source: ViewMessageRequestHeader (4.9.3).
    ViewMessageHeader {
        offset: i64 = "offset",
    }

    /// The answer to 12. Source: QueryMessageResponseHeader (4.9.3).
    QueryMessageReplyHeader {
        index_last_update_timestamp: i64 = "indexLastUpdateTimestamp",
        index_last_update_physical: i64 = "indexLastUpdatePhyoffset",
    }
}
