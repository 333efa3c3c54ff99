//! Key-value configuration by namespace: order topics, and whatever mqadmin puts there.
//!
//! The file is `{"configTable":{namespace:{key:value}}}`, compact, as 4.9.3 writes it.
//! Source: KVConfigManager, KVConfigSerializeWrapper (4.9.3).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The namespace from which brokers learn which topics are ordered.
/// Source: NamesrvUtil#NAMESPACE_ORDER_TOPIC_CONFIG (4.9.3).
pub const ORDER_TOPICS: &str = "ORDER_TOPIC_CONFIG";

/// Namespace to key to value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvConfig {
    #[serde(rename = "configTable", default)]
    table: BTreeMap<String, BTreeMap<String, String>>,
}

impl KvConfig {
    /// Errors: the text is not such a table.
    pub fn decode(bytes: &[u8]) -> Result<KvConfig, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The content of the file.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub fn get(&self, namespace: &str, key: &str) -> Option<&str> {
        self.table.get(namespace)?.get(key).map(String::as_str)
    }

    /// `None` when the namespace was never written.
    pub fn namespace(&self, namespace: &str) -> Option<&BTreeMap<String, String>> {
        self.table.get(namespace)
    }

    pub fn put(&mut self, namespace: &str, key: &str, value: &str) {
        let keys = self.table.entry(namespace.to_owned()).or_default();
        keys.insert(key.to_owned(), value.to_owned());
    }

    /// An emptied namespace stays, as in 4.9.3.
    pub fn delete(&mut self, namespace: &str, key: &str) {
        if let Some(keys) = self.table.get_mut(namespace) {
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
        assert_eq!(config.encode(), golden);
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
