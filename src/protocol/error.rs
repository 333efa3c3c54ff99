//! What can be wrong with a frame or a header.

/// Why a frame cannot be cut. The connection that sent it ends: nothing after it can be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("header of {header} bytes does not fit in a frame of {frame} bytes after the length")]
    HeaderBeyondFrame { header: usize, frame: usize },
    #[error("frame without a header")]
    HeaderMissing,
    #[error("frame of {size} bytes, the most allowed is {size_max}")]
    TooLong { size: usize, size_max: usize },
    #[error("frame length {length}, expected at least 4")]
    TooShort { length: usize },
    #[error("serialize type {0}, expected 0 (JSON) or 1 (ROCKETMQ)")]
    UnknownSerialize(u8),
}

/// Why a header, or one field of it, cannot be used.
///
/// Source: RemotingCommand#decodeCommandCustomHeader, FastCodesHeader (4.9.3) for the two texts
/// about null.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("the custom field <{field}> is {value:?}, expected {expected}")]
    Field { field: &'static str, value: String, expected: &'static str },
    #[error("the ext fields is null")]
    FieldsAbsent,
    #[error("the custom field <{field}> is null")]
    Missing { field: &'static str },
    #[error("unreadable header: {reason}")]
    Unreadable { reason: String },
}

impl HeaderError {
    pub(super) fn unreadable(reason: impl Into<String>) -> Self {
        HeaderError::Unreadable { reason: reason.into() }
    }

    /// Long values are cut: they come from outside and end in logs.
    pub(super) fn field(field: &'static str, value: &str, expected: &'static str) -> Self {
        HeaderError::Field { field, value: value.chars().take(64).collect(), expected }
    }
}
