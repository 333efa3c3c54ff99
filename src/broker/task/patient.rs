//! What a start reads from a store whose disk may fail for a while.

use super::super::driver::Shared;
use crate::model::{PhysicalOffset, QueueKey, QueueOffset};
use crate::rt::time::Duration;
use crate::store::QueueSlice;
use bytes::Bytes;
use std::io;
use std::sync::Arc;

/// A disk that does not read is asked so often in a row, with this pause. Then a place is given up,
/// and each one behind it after one try, until one can be read.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(100);

pub struct Patient<'a> {
    pub shared: &'a Arc<Shared>,
    /// What is read, for the log.
    what: &'static str,
    tries_left: u32,
}

impl<'a> Patient<'a> {
    pub fn new(shared: &'a Arc<Shared>, what: &'static str) -> Self {
        Patient { shared, what, tries_left: TRIES }
    }

    /// `None`: the disk does not read.
    pub async fn slice(
        &mut self,
        key: &QueueKey,
        from: QueueOffset,
        count: usize,
    ) -> Option<QueueSlice> {
        let store = &self.shared.store;
        self.ask(|| store.slice(key, from, count)).await
    }

    /// `None`: the disk does not read. `None` inside: there is no such record.
    pub async fn record(&mut self, at: PhysicalOffset) -> Option<Option<Bytes>> {
        let store = &self.shared.store;
        self.ask(|| store.record_at(at)).await
    }

    async fn ask<T, F: Future<Output = io::Result<T>>>(
        &mut self,
        read: impl Fn() -> F,
    ) -> Option<T> {
        loop {
            match read().await {
                Ok(value) => {
                    self.tries_left = TRIES;
                    return Some(value);
                }
                Err(error) => {
                    crate::rt::probe!("broker: a start reads again what the disk did not give");
                    tracing::warn!("{} cannot be read: {error}", self.what);
                }
            }
            if self.tries_left == 0 {
                return None;
            }
            self.tries_left -= 1;
            self.shared.clock.sleep_until(self.shared.clock.mono() + PAUSE).await;
        }
    }
}
