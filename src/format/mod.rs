//! Bytes ↔ message units, queue units, index and checkpoint files, exactly as 4.9.3 writes them.
//!
//! Owns: the layout of every byte that a stored or a pulled message is made of, and of our own
//! small binary files. Must never: open a file, allocate from a length that it has read, or panic
//! on bytes from outside. Every layout has a page in docs/formats and a golden in tests/golden.
//!
//! Invariant: decoding checks what it hands out, so a `View` can be read without further checks.

pub mod checkpoint;
pub mod checksum;
pub mod consume_queue_unit;
pub mod epochs;
pub mod floor;
pub mod index_file;
pub mod message_batch;
pub mod message_id;
pub mod message_unit;
pub mod op_message;
pub mod properties;

mod bytes_at;
