//! Brokers at the name server: 103, 104, 322.

headers! {
    /// Of REGISTER_BROKER (103). Source: RegisterBrokerRequestHeader (4.9.3).
    RegisterBrokerHeader {
        broker_name: String = "brokerName",
        broker_addr: String = "brokerAddr",
        cluster_name: String = "clusterName",
        ha_server_addr: String = "haServerAddr",
        broker_id: i64 = "brokerId",
        is_compressed: bool = "compressed",
        body_crc32: Option<i32> = "bodyCrc32",
    }

    /// The answer to 103, filled for slaves whose master is known.
    /// Source: RegisterBrokerResponseHeader (4.9.3).
    RegisterBrokerReplyHeader {
        ha_server_addr: Option<String> = "haServerAddr",
        master_addr: Option<String> = "masterAddr",
    }

    /// Of UNREGISTER_BROKER (104) and QUERY_DATA_VERSION (322).
    /// Source: UnRegisterBrokerRequestHeader, QueryDataVersionRequestHeader (4.9.3).
    BrokerHeader {
        broker_name: String = "brokerName",
        broker_addr: String = "brokerAddr",
        cluster_name: String = "clusterName",
        broker_id: i64 = "brokerId",
    }

    /// The answer to 322. Source: QueryDataVersionResponseHeader (4.9.3).
    QueryDataVersionReplyHeader {
        is_changed: bool = "changed",
    }
}
