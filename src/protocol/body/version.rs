//! The version of a table that one side copies from another.

use serde::{Deserialize, Serialize};

/// Two tables are the same when time and counter are.
///
/// Source: DataVersion (4.9.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DataVersion {
    pub counter: i64,
    /// Units: ms since 1970.
    pub timestamp: i64,
}
