//! The log as bytes, for a slave.

use crate::store::shared::Shared;
use bytes::Bytes;
use std::io;

/// What lies at a place of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawLog {
    /// Bytes in a row, of one file. They may end within a record.
    Bytes(Bytes),
    /// Nothing yet: the log ends here.
    End,
    /// The log begins behind this place, or ends before it.
    Outside,
}

/// At most `size_max` bytes of what is written, from `at` on: from memory, or from disk.
/// Source: DefaultMessageStore#getCommitLogData (4.9.3).
pub async fn read(shared: &Shared, at: u64, size_max: usize) -> io::Result<RawLog> {
    let (offset, size, file) = {
        let mut state = shared.state.lock();
        if let Some(reason) = &state.poison {
            return Err(io::Error::other(format!("the commit log is poisoned: {reason}")));
        }
        let written = state.flush.written();
        if at == written {
            return Ok(RawLog::End);
        }
        if at > written || !state.segments.holds(at) {
            return Ok(RawLog::Outside);
        }
        if let Some(bytes) = state.cache.from(at) {
            let size = bytes.len().min(size_max);
            return Ok(RawLog::Bytes(bytes.slice(..size)));
        }
        let base = state.segments.base_of(at);
        let end = written.min(base + state.segments.size());
        let size = usize::try_from(end - at).unwrap_or(usize::MAX).min(size_max);
        (at - base, size, state.segments.file(&*shared.disk, at)?)
    };
    file.read(offset, size).await.map(RawLog::Bytes)
}
