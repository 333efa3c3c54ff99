//! Turns requests into store operations and replies, and owns the consumer-facing state.
//!
//! Owns: topics, subscription groups, live clients, filters, consumer offsets, parked pulls, queue
//! locks, transactions, timers, the state files under `config/`, and the choice of every response
//! code.
//! Must never: know a byte of a file or a frame, dial a client, or depend on `client`.
//!
//! The tables and `hold` are pure. `driver` owns them behind one lock that is taken once per batch
//! of frames, `handler/` turns requests into calls on them, `task/` holds the background loops.

pub mod clients;
pub mod configuration;
pub mod driver;
pub mod error;
pub mod filter;
mod handler;
pub mod hold;
pub mod json_writer;
mod losses;
pub mod offsets;
pub mod options;
pub mod queue_locks;
mod real_topic;
pub mod replication;
pub mod reply;
pub mod schedule;
pub mod stats;
pub mod stuck;
pub mod subscription_groups;
mod task;
mod tickets;
pub mod timer;
pub mod topics;
pub mod transaction;

pub use driver::{Broker, Deps, Parts};
pub use error::Error;
pub use options::Options;
