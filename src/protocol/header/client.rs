//! Who is there: 35, 38, 40.

headers! {
    /// Of UNREGISTER_CLIENT (35). Source: UnregisterClientRequestHeader (4.9.3).
    UnregisterClientHeader {
        client_id: String = "clientID",
        producer_group: Option<String> = "producerGroup",
        consumer_group: Option<String> = "consumerGroup",
    }

    /// Of GET_CONSUMER_LIST_BY_GROUP (38) and NOTIFY_CONSUMER_IDS_CHANGED (40).
    /// Source: GetConsumerListByGroupRequestHeader, NotifyConsumerIdsChangedRequestHeader (4.9.3).
    ConsumerGroupHeader {
        consumer_group: String = "consumerGroup",
    }
}
