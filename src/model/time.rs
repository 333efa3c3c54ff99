//! Moments as stored and compared with Java.

/// A moment of the wall clock. Units: epoch milliseconds.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct WallMillis(pub i64);
