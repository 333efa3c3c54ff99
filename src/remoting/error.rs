//! What can go wrong between two ends of a connection.

use crate::rt::time::Duration;
use std::io;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is being left alone after failed dials, the last of which failed so.
    #[error("connect to {addr}: it failed a moment ago, the next try is in {wait_ms} ms ({last})")]
    BackingOff { addr: String, wait_ms: u128, last: String, kind: io::ErrorKind },
    /// The connection ended before the answer came; whether the request was carried out is not
    /// known.
    #[error("get an answer from {addr}: the connection ended ({reason})")]
    Closed { addr: String, reason: String },
    #[error("read an answer of {addr}: {reason}")]
    Decode { addr: String, reason: String },
    #[error("connect to {addr}: {source}")]
    Dial { addr: String, source: io::Error },
    #[error("send to {addr}: {count} requests already wait for its answer, the most allowed")]
    PendingFull { addr: String, count: usize },
    #[error("send to {addr}: the client was stopped")]
    Stopped { addr: String },
    /// Whether the request was carried out is not known.
    #[error("get an answer from {addr} within {} ms", .after.as_millis())]
    TimedOut { addr: String, after: Duration },
}

impl Error {
    /// True when the request certainly never left this machine, so that sending it again cannot
    /// carry it out twice.
    pub fn is_unsent(&self) -> bool {
        match self {
            Error::BackingOff { .. }
            | Error::Dial { .. }
            | Error::PendingFull { .. }
            | Error::Stopped { .. } => true,
            Error::Closed { .. } | Error::Decode { .. } | Error::TimedOut { .. } => false,
        }
    }
}
