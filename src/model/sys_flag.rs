//! Bits of a message's system flag. Source: MessageSysFlag (4.9.3).

pub const COMPRESSED: i32 = 0x1;
pub const MULTI_TAGS: i32 = 0x2;
pub const TRANSACTION_NONE: i32 = 0;
pub const TRANSACTION_PREPARED: i32 = 0x4;
pub const TRANSACTION_COMMIT: i32 = 0x8;
pub const TRANSACTION_ROLLBACK: i32 = 0xC;
pub const TRANSACTION_MASK: i32 = 0xC;
pub const BORN_HOST_V6: i32 = 0x10;
pub const STORE_HOST_V6: i32 = 0x20;

/// The transaction bits alone.
pub fn transaction_type(flag: i32) -> i32 {
    flag & TRANSACTION_MASK
}

/// Whether the record takes a half message back.
pub fn is_rollback(flag: i32) -> bool {
    transaction_type(flag) == TRANSACTION_ROLLBACK
}

/// Whether a record with this flag gets an entry in a consume queue: normal and committed ones do.
pub fn is_queued(flag: i32) -> bool {
    matches!(transaction_type(flag), TRANSACTION_NONE | TRANSACTION_COMMIT)
}
