//! A read that must wait for files.

use crate::store::read::ReadResult;
use std::io;

/// A planned read; run it off the hot path.
#[derive(Debug)]
pub struct ColdRead {}

impl ColdRead {
    /// Errors: the device's. Only this read fails; another range may be readable.
    pub async fn run(self, _filter: &(dyn Fn(i64) -> bool + Sync)) -> io::Result<ReadResult> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
