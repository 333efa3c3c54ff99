//! Topic administration: 17, 215, 216, 351.

headers! {
    /// Of UPDATE_AND_CREATE_TOPIC (17). Source: CreateTopicRequestHeader (4.9.3).
    CreateTopicHeader {
        topic: String = "topic",
        default_topic: Option<String> = "defaultTopic",
        read_queue_nums: i32 = "readQueueNums",
        write_queue_nums: i32 = "writeQueueNums",
        perm: i32 = "perm",
        topic_filter_type: String = "topicFilterType",
        topic_sys_flag: Option<i32> = "topicSysFlag",
        is_order: bool = "order",
    }

    /// Of DELETE_TOPIC_IN_BROKER (215) and DELETE_TOPIC_IN_NAMESRV (216).
    /// Source: DeleteTopicRequestHeader (4.9.3).
    DeleteTopicHeader {
        topic: String = "topic",
    }

    /// Of GET_TOPIC_STATS_INFO (202), QUERY_TOPIC_CONSUME_BY_WHO (300) and GET_TOPIC_CONFIG (351).
    /// Source: GetTopicStatsInfoRequestHeader, QueryTopicConsumeByWhoRequestHeader (4.9.3),
    /// GetTopicConfigRequestHeader (5.x).
    TopicHeader {
        topic: String = "topic",
    }
}
