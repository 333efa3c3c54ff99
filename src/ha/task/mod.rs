//! The loops of replication.

pub mod follow;
pub mod listen;
pub mod serve;
mod wire;
