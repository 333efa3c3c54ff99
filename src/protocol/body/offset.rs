//! Offsets as slaves copy them and files keep them.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Source: ConsumerOffsetSerializeWrapper, consumerOffset.json (4.9.3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerOffsets {
    /// `topic@group` to queue to offset.
    pub offset_table: BTreeMap<String, BTreeMap<i32, i64>>,
}

/// Source: DelayOffsetSerializeWrapper, delayOffset.json (4.9.3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DelayOffsets {
    /// Delay level to offset.
    pub offset_table: BTreeMap<i32, i64>,
}
