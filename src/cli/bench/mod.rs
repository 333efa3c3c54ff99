//! `hotfire bench`: load against any RocketMQ broker, and the two servers that set the limit.
//!
//! The generator is one thread, one poll loop, and frames encoded once, of which only the numbers
//! change: on a small machine the server must be what is measured. `load` is the loop, `send`,
//! `pull`, `tail` and `echo` say what goes out and what a reply means. `server` answers as `echo`
//! (frames by their length alone) or as `floor` (the least that an honest broker does).

mod args;
mod clock;
mod cpu;
mod echo;
mod load;
mod pull;
mod report;
mod run;
mod send;
mod server;
mod tail;
mod template;

pub use args::Bench;
pub use run::run;
