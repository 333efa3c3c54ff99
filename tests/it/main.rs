//! One binary on real tokio, real files and loopback.

mod disk;
mod net;
