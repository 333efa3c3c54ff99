//! The store's loops and jobs that wait.

pub mod cold_read;
