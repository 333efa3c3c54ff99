//! Bytes ↔ remoting commands, exactly as 4.9.3 writes them.
//!
//! Owns: frames, the two header encodings, the codes, the typed headers of each request family and
//! the JSON bodies. Must never: open a socket, wait, or trust a length that it has read.
//!
//! Two ways through. The hot one reads a `Header` in place (`header::scan`), a typed header from
//! its fields, and writes replies with `reply`. The plain one is `Command`, which owns everything.
//!
//! Invariants: no input makes it panic or allocate beyond a small multiple of the input; what one
//! encoder writes the decoder of the same type byte reads back equal.

pub mod body;
pub mod code;
pub mod frame;
pub mod header;
pub mod reply;

mod command;
mod error;
mod header_binary;
mod header_json;
mod language;

pub use command::{Command, FLAG_ONEWAY, FLAG_REPLY, VERSION_4_9_3};
pub use error::{FrameError, HeaderError};
pub use language::Language;
