//! Routes and write permission at the name server: 105, 205, 224, 327.

headers! {
    /// Of GET_ROUTEINFO_BY_TOPIC (105). Source: GetRouteInfoRequestHeader (4.9.3; the second field
    /// since 4.9.4).
    GetRouteInfoHeader {
        topic: String = "topic",
        accepts_standard_json_only: bool = "acceptStandardJsonOnly",
    }

    /// Of GET_TOPICS_BY_CLUSTER (224). Source: GetTopicsByClusterRequestHeader (4.9.3).
    TopicsByClusterHeader {
        cluster: String = "cluster",
    }

    /// Of WIPE_WRITE_PERM_OF_BROKER (205) and ADD_WRITE_PERM_OF_BROKER (327).
    /// Source: WipeWritePermOfBrokerRequestHeader, AddWritePermOfBrokerRequestHeader (4.9.3).
    WritePermHeader {
        broker_name: String = "brokerName",
    }

    /// The answer to 205. Source: WipeWritePermOfBrokerResponseHeader (4.9.3).
    WipeWritePermReplyHeader {
        wipe_topic_count: i32 = "wipeTopicCount",
    }

    /// The answer to 327. Source: AddWritePermOfBrokerResponseHeader (4.9.3).
    AddWritePermReplyHeader {
        add_topic_count: i32 = "addTopicCount",
    }
}
