//! The JSON bodies by family, read as fastjson reads and written as it writes.
//!
//! Fields stand in alphabetical order because fastjson prints them so. Members that a reader does
//! not know are ignored, absent or null ones take Java's defaults.

pub mod client;
pub mod cluster;
pub mod fastjson;
pub mod group;
pub mod list;
pub mod offset;
pub mod register;
pub mod route;
pub mod topic;

mod json;
mod lenient;
mod version;

pub use json::{BodyError, Dialect, decode, encode};
pub use version::DataVersion;
