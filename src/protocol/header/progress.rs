//! How far groups are, and what was counted: 303, 308, 314, 315, 317, 321.

headers! {
    /// Of GET_CONSUME_STATS (208). Source: GetConsumeStatsRequestHeader (4.9.3).
    ConsumeStatsHeader {
        consumer_group: String = "consumerGroup",
        topic: Option<String> = "topic",
    }

    /// Of QUERY_CONSUME_TIME_SPAN (303). Source: QueryConsumeTimeSpanRequestHeader (4.9.3).
    ConsumeTimeSpanHeader {
        topic: String = "topic",
        group: String = "group",
    }

    /// Of QUERY_CORRECTION_OFFSET (308). Source: QueryCorrectionOffsetHeader (4.9.3).
    CorrectionOffsetHeader {
        filter_groups: Option<String> = "filterGroups",
        compare_group: String = "compareGroup",
        topic: String = "topic",
    }

    /// Of CLONE_GROUP_OFFSET (314). Source: CloneGroupOffsetRequestHeader (4.9.3).
    CloneGroupOffsetHeader {
        src_group: String = "srcGroup",
        dest_group: String = "destGroup",
        topic: Option<String> = "topic",
        is_offline: bool = "offline",
    }

    /// Of VIEW_BROKER_STATS_DATA (315). Source: ViewBrokerStatsDataRequestHeader (4.9.3).
    ViewStatsHeader {
        stats_name: String = "statsName",
        stats_key: String = "statsKey",
    }

    /// Of GET_BROKER_CONSUME_STATS (317). Source: GetConsumeStatsInBrokerHeader (4.9.3).
    BrokerConsumeStatsHeader {
        is_order: bool = "isOrder",
    }

    /// Of QUERY_CONSUME_QUEUE (321): an absent number is 0.
    /// Source: QueryConsumeQueueRequestHeader (4.9.3).
    QueryConsumeQueueHeader {
        topic: String = "topic",
        queue_id: Option<i32> = "queueId",
        index: Option<i64> = "index",
        count: Option<i32> = "count",
        consumer_group: Option<String> = "consumerGroup",
    }
}
