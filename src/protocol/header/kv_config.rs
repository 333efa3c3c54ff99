//! The name server's key-value configuration: 100, 101, 102, 219.

headers! {
    /// Of PUT_KV_CONFIG (100). Source: PutKVConfigRequestHeader (4.9.3).
    PutKvConfigHeader {
        namespace: String = "namespace",
        key: String = "key",
        value: String = "value",
    }

    /// Of GET_KV_CONFIG (101) and DELETE_KV_CONFIG (102).
    /// Source: GetKVConfigRequestHeader, DeleteKVConfigRequestHeader (4.9.3).
    KvConfigKeyHeader {
        namespace: String = "namespace",
        key: String = "key",
    }

    /// The answer to 101. Source: GetKVConfigResponseHeader (4.9.3).
    GetKvConfigReplyHeader {
        value: Option<String> = "value",
    }

    /// Of GET_KVLIST_BY_NAMESPACE (219). Source: GetKVListByNamespaceRequestHeader (4.9.3).
    KvNamespaceHeader {
        namespace: String = "namespace",
    }
}
