//! What the machines run, and who sends and reads.

pub mod callers;
pub mod client;
pub mod cluster;
pub mod filters;
pub mod impostor;
pub mod intruder;
pub mod makers;
pub mod nodes;
pub mod pairs;
pub mod ports;
pub mod prompt;
pub mod questions;
pub mod reigns;
pub mod stalls;
pub mod store;
pub mod timers;
pub mod transactions;
