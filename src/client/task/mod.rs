//! The client's background loop.

pub mod housekeeping;
