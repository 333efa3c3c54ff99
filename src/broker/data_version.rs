//! The version of a table, as name servers and slaves compare it.

use crate::rt::time::WallMillis;
use serde::{Deserialize, Serialize};

/// Two versions are the same table when both fields are equal. Source: DataVersion (4.9.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DataVersion {
    pub counter: i64,
    /// Units: epoch milliseconds of the last change.
    pub timestamp: i64,
}

impl DataVersion {
    pub fn new(now: WallMillis) -> Self {
        DataVersion { counter: 0, timestamp: now.0 }
    }

    /// The table changed.
    pub fn advance(&mut self, now: WallMillis) {
        self.timestamp = now.0;
        self.counter += 1;
    }
}
