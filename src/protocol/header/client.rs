//! Who is there, and what clients are asked: 35, 38, 40, 220 to 223, 307, 309.

headers! {
    /// Of UNREGISTER_CLIENT (35). Source: UnregisterClientRequestHeader (4.9.3).
    UnregisterClientHeader {
        client_id: String = "clientID",
        producer_group: Option<String> = "producerGroup",
        consumer_group: Option<String> = "consumerGroup",
    }

    /// Of GET_CONSUMER_LIST_BY_GROUP (38), NOTIFY_CONSUMER_IDS_CHANGED (40) and
    /// GET_CONSUMER_CONNECTION_LIST (203).
    /// Source: GetConsumerListByGroupRequestHeader, NotifyConsumerIdsChangedRequestHeader,
    /// GetConsumerConnectionListRequestHeader (4.9.3).
    ConsumerGroupHeader {
        consumer_group: String = "consumerGroup",
    }

    /// Of GET_PRODUCER_CONNECTION_LIST (204).
    /// Source: GetProducerConnectionListRequestHeader (4.9.3).
    ProducerGroupHeader {
        producer_group: String = "producerGroup",
    }

    /// Of GET_CONSUMER_RUNNING_INFO (307) and CONSUME_MESSAGE_DIRECTLY (309), as far as the broker
    /// reads them: every field goes on to the client.
    /// Source: GetConsumerRunningInfoRequestHeader, ConsumeMessageDirectlyResultRequestHeader
    /// (4.9.3).
    ConsumerCallHeader {
        consumer_group: String = "consumerGroup",
        client_id: Option<String> = "clientId",
        msg_id: Option<String> = "msgId",
    }

    /// Of RESET_CONSUMER_CLIENT_OFFSET (220) and INVOKE_BROKER_TO_RESET_OFFSET (222).
    /// Source: ResetOffsetRequestHeader (4.9.3).
    ResetOffsetHeader {
        topic: String = "topic",
        group: String = "group",
        timestamp: i64 = "timestamp",
        is_force: bool = "isForce",
    }

    /// Of GET_CONSUMER_STATUS_FROM_CLIENT (221) and INVOKE_BROKER_TO_GET_CONSUMER_STATUS (223).
    /// Source: GetConsumerStatusRequestHeader (4.9.3).
    ConsumerStatusHeader {
        topic: String = "topic",
        group: String = "group",
        client_addr: Option<String> = "clientAddr",
    }
}
