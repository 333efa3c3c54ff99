//! Headers read in place, and one table of typed headers per request family.
//!
//! The names of fields are Java's field names, because that is what goes over the wire. A required
//! field that is missing is an error here, where 4.9.3 mostly logs it and stumbles later.

#[macro_use]
mod table;

pub mod client;
pub mod config;
pub mod group;
pub mod kv_config;
pub mod offset;
pub mod progress;
pub mod pull;
pub mod query;
pub mod register;
pub mod route;
pub mod send;
pub mod send_back;
pub mod topic;
pub mod transaction;

mod ext;
mod scanned;

pub use ext::{Ext, Field};
pub use scanned::{Header, scan};
pub use table::FieldValue;

pub(super) use ext::{Span, SpanList};
