//! Hotfire: a message broker that speaks Apache RocketMQ 4.9.
//!
//! The rooms in reading order. A room may name only rooms above it; `tests/tidy.rs` holds the
//! table. Everything is pure unless its path says otherwise (docs/ARCHITECTURE.md).

pub mod broker;
#[cfg(feature = "cli")]
pub mod cli;
pub mod client;
pub mod config;
pub mod disk;
pub mod doctor;
pub mod format;
pub mod ha;
pub mod model;
pub mod namesrv;
pub mod net;
pub mod protocol;
pub mod remoting;
pub mod rt;
pub mod store;
