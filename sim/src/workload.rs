//! What the machines run, and who sends and reads.

pub mod store;
