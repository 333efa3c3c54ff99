//! One binary on real tokio, real files and loopback.

mod bad_input;
mod boot;
mod broker;
mod broker_faults;
mod client;
mod disk;
mod namesrv;
mod net;
mod remoting;
mod store;
mod under_load;
