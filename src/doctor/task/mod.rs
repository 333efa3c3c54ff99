//! The parts of an examination, in the order in which they run.

pub mod layout;
pub mod log;
pub mod queues;
pub mod start;
pub mod states;
