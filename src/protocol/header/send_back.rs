//! Sending back what could not be consumed: 36.

headers! {
    /// Of CONSUMER_SEND_MSG_BACK (36). Source: ConsumerSendMsgBackRequestHeader (4.9.3).
    SendBackHeader {
        offset: i64 = "offset",
        group: String = "group",
        delay_level: i32 = "delayLevel",
        origin_message_id: Option<String> = "originMsgId",
        origin_topic: Option<String> = "originTopic",
        is_unit_mode: bool = "unitMode",
        max_reconsume_times: Option<i32> = "maxReconsumeTimes",
    }
}
