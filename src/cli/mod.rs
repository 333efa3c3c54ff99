//! Composition roots.
//!
//! Each command parses its arguments, reads the configuration, composes and runs.
//!
//! One file per command. `args` is what can be typed, `entry` picks the command, `settings` reads
//! a configuration file for `run_broker`, `run_namesrv` and `standalone`. No rule of a broker or a
//! name server stands here.

mod admin;
mod args;
mod bench;
mod consume;
mod doctor;
mod entry;
mod failure;
mod logging;
mod machine;
mod member;
mod moment;
mod produce;
mod run_broker;
mod run_namesrv;
mod say;
mod settings;
mod shutdown;
mod standalone;
mod world;

pub use entry::main;
pub use failure::Failure;
