//! Connections that carry commands, match replies to requests, and push back.
//!
//! Owns: sockets once they are open, their buffers, bounds and time limits, and the table of our
//! own requests that wait for an answer. One task per connection reads what the socket has, cuts
//! all frames in it and hands them over in one call; whoever answers, now or later, appends to the
//! peer's outbox, which the same task writes in one go. Must never: know what a request means.
//!
//! Invariants: nothing here grows without a bound named in `options`; a frame's size is taken from
//! the server's budget when its length is read; a connection that breaks a bound ends alone.

mod budget;
mod client;
mod connection;
mod error;
mod limits;
mod options;
mod outbox;
mod peer;
mod pending;
mod server;

pub use client::{Client, ClientRequests};
pub use connection::Service;
pub use error::Error;
pub use options::{ClientOptions, ConnectionOptions, ServerOptions};
pub use outbox::Outbox;
pub use peer::Peer;
pub use server::Server;
