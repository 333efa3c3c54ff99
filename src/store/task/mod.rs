//! The store's loops and jobs that wait.

pub mod cold_read;
pub mod delete;
pub mod epochs;
pub mod floor_writer;
pub mod index_files;
pub mod index_writer;
pub mod log_writer;
pub mod mend;
pub mod query;
pub mod queue_file;
pub mod queue_writer;
pub mod raw;
pub mod recover;
pub mod recover_index;
pub mod retention;
pub mod scrub;
pub mod search;
pub mod shutdown;
pub mod zero_fill;

use crate::rt::task::Stop;

/// The store ends with the group it was opened in, or by its own shutdown.
pub struct StoreStop {
    pub own: Stop,
    pub group: Stop,
}

impl StoreStop {
    pub fn is_set(&self) -> bool {
        self.own.is_set() || self.group.is_set()
    }

    pub async fn wait(&mut self) {
        crate::rt::select! {
            _ = self.own.wait() => {}
            _ = self.group.wait() => {}
        }
    }
}
