//! What can go wrong in a name server.

use std::io;
use std::net::SocketAddr;

/// Errors of starting a name server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("listen on {addr}: {source}")]
    Listen { addr: SocketAddr, source: io::Error },
    /// Neither the file nor its `.bak` can be used; starting empty would forget what they hold.
    #[error("read {path}: {reason}")]
    KvConfig { path: String, reason: String },
}
