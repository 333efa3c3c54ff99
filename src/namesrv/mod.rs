//! Remembers which broker serves which topic, and forgets the silent ones.
//!
//! Owns: the routes (memory only, every broker says them again within 30 s) and the key-value
//! configuration, which is the only thing on disk. Must never: dial anyone, talk to another name
//! server, or decide anything for a client.
//!
//! `route_table` and `kv_config` are pure. `driver` owns them, answers frames as they come and
//! closes silent brokers at their deadline; `handler/` turns one request into one answer.

pub mod driver;
pub mod error;
pub mod kv_config;
pub mod options;
pub mod route_table;

mod handler;

pub use driver::Namesrv;
pub use error::Error;
pub use options::Options;
