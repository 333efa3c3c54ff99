//! One binary on real tokio, real files and loopback.

// These tests run on the host: its clock, threads and files. One that cannot go on may stop.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod bad_input;
mod bad_sector;
mod boot;
mod broker;
mod broker_faults;
mod call;
mod client;
mod delay;
mod disk;
mod doctor;
mod filter;
mod ha;
mod namesrv;
mod net;
mod odd_request;
mod progress;
mod register;
mod remoting;
mod reply;
mod retry;
mod scrub;
mod store;
mod timer;
mod transaction;
mod under_load;
