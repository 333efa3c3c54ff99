//! Configuration over the wire: 26.

headers! {
    /// The answer to GET_BROKER_CONFIG (26); the version is a DataVersion as JSON text.
    /// Source: GetBrokerConfigResponseHeader (4.9.3).
    GetBrokerConfigReplyHeader {
        version: String = "version",
    }
}
