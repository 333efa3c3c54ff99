//! The version of a table that one side copies from another.

use crate::model::WallMillis;
use serde::{Deserialize, Serialize};

/// Two tables are the same when time and counter are.
///
/// Source: DataVersion (4.9.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DataVersion {
    pub counter: i64,
    /// Of the last change. Units: ms since 1970.
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
