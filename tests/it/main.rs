//! One binary on real tokio, real files and loopback.

mod broker;
mod disk;
mod net;
mod remoting;
