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

impl DelayOffsets {
    /// The last `count` deliveries from a queue of the schedule topic are gone.
    pub fn go_back(&mut self, queue: u32, count: u64) {
        let level = i32::try_from(queue).ok().and_then(|queue| queue.checked_add(1));
        if let Some(at) = level.and_then(|level| self.offset_table.get_mut(&level)) {
            *at = at.saturating_sub(i64::try_from(count).unwrap_or(i64::MAX)).max(0);
        }
    }
}
