//! What can go wrong in the broker.

/// Errors of starting and running a broker.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("be the master beside {addr}: {why}")]
    Fenced { addr: String, why: String },
    #[error("listen on {addr}: {source}")]
    Listen { addr: std::net::SocketAddr, source: std::io::Error },
    #[error("use the port pair {port} and {port} - 2: {reason}")]
    Port { port: u16, reason: String },
    #[error("read the commit log: {source}")]
    ReadLog { source: std::io::Error },
    #[error("read state file {path}: {reason}")]
    StateFile { path: String, reason: String },
    #[error("write state file {path}: {source}")]
    StateFileWrite { path: String, source: std::io::Error },
    #[error("open the store: {0}")]
    Store(#[source] crate::store::Error),
}
