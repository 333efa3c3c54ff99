//! Key-value configuration by namespace: order topics, and whatever mqadmin puts there.
//!
//! The file is `{"configTable":{namespace:{key:value}}}`, compact, as 4.9.3 writes it.
//! Source: KVConfigManager, KVConfigSerializeWrapper (4.9.3).

use crate::protocol::body::{self, BodyError, Dialect, list};
use bytes::Bytes;
use std::collections::BTreeMap;

/// The namespace from which brokers learn which topics are ordered.
/// Source: NamesrvUtil#NAMESPACE_ORDER_TOPIC_CONFIG (4.9.3).
pub const ORDER_TOPICS: &str = "ORDER_TOPIC_CONFIG";

/// Namespace to key to value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvConfig(list::KvConfig);

impl KvConfig {
    /// Errors: the text is not such a table.
    pub fn decode(bytes: &[u8]) -> Result<KvConfig, BodyError> {
        body::decode(bytes).map(KvConfig)
    }

    /// The content of the file.
    pub fn encode(&self) -> Bytes {
        body::encode(&self.0, Dialect::Fastjson)
    }

    pub fn get(&self, namespace: &str, key: &str) -> Option<&str> {
        self.0.config_table.get(namespace)?.get(key).map(String::as_str)
    }

    /// `None` when the namespace was never written.
    pub fn namespace(&self, namespace: &str) -> Option<&BTreeMap<String, String>> {
        self.0.config_table.get(namespace)
    }

    pub fn put(&mut self, namespace: &str, key: &str, value: &str) {
        let keys = self.0.config_table.entry(namespace.to_owned()).or_default();
        keys.insert(key.to_owned(), value.to_owned());
    }

    /// An emptied namespace stays, as in 4.9.3.
    pub fn delete(&mut self, namespace: &str, key: &str) {
        if let Some(keys) = self.0.config_table.get_mut(namespace) {
            keys.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_as_java_writes_it() {
        // Observed on 4.9.3: storage.md 1.10.
        let golden = br#"{"configTable":{"ORDER_TOPIC_CONFIG":{"ordT":"broker-a:4"}}}"#;
        let mut config = KvConfig::default();
        config.put(ORDER_TOPICS, "ordT", "broker-a:4");
        assert_eq!(config.encode(), golden.as_slice());
        assert_eq!(KvConfig::decode(golden).expect("readable"), config);
        config.delete(ORDER_TOPICS, "ordT");
        assert_eq!(config.get(ORDER_TOPICS, "ordT"), None);
        assert!(config.namespace(ORDER_TOPICS).is_some_and(BTreeMap::is_empty));
    }

    #[test]
    fn a_torn_file_is_an_error_and_not_an_empty_table() {
        assert!(KvConfig::decode(b"").is_err());
        assert!(KvConfig::decode(br#"{"configTable":{"A":{"#).is_err());
        assert!(KvConfig::decode(b"{}").is_ok());
    }
}
