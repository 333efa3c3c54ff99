//! Producer and consumers: routing, retry, rebalance, flow control.
//!
//! Owns: what a process knows of topics and brokers, which queue a message goes to, when a send is
//! tried again, and membership in groups. Must never: act as a broker, keep anything on disk, or
//! hide that a message may have been stored (`Error::may_be_stored`).
//!
//! `driver::Client` is the door; `route_cache`, `producer`, `allocate`, `subscription` and
//! `identity` are pure. Everything a client holds is bounded in `options`.

pub mod allocate;
mod driver;
mod error;
mod identity;
mod message;
mod options;
mod producer;
mod pull;
mod route_cache;
mod subscription;
mod task;
mod wire;

pub use driver::{Client, Interest};
pub use error::Error;
pub use identity::Identity;
pub use message::Message;
pub use options::Options;
pub use producer::{SendResult, SendStatus};
pub use pull::{PullRequest, PullResult, PullStatus, body_of};
pub use route_cache::{MessageQueue, Route};
pub use subscription::{ExpressionType, Subscription};
