//! What a query by key asks for, and its answer.

use crate::model::{PhysicalOffset, WallMillis};
use bytes::Bytes;

/// Messages of a topic that carry a key: their unique key, or one of their KEYS.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    pub topic: &'a str,
    pub key: &'a str,
    /// The newest so many.
    pub count_max: usize,
    /// Stored not before.
    pub begin: WallMillis,
    /// Stored not after.
    pub end: WallMillis,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queried {
    /// Whole message units, newest first.
    pub records: Vec<Bytes>,
    /// Store time of the newest message with a key; 0 without an index.
    pub last_timestamp: WallMillis,
    /// Where it lies.
    pub last_physical: PhysicalOffset,
    /// False: there may be more, a limit of work was reached or something could not be read.
    pub complete: bool,
}
