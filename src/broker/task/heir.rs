//! Marks in `hotfire/`: that this store was a slave's, or took records from one. Both may have
//! records of topics that are in no table here. Once the tables of such a master are saved, it is a
//! master like any other.

use super::super::driver::Shared;
use super::super::error::Error;
use crate::disk::{Disk, replace_small};
use crate::rt::task::Stop;
use crate::rt::time::Duration;
use std::io;
use std::sync::Arc;

/// A save that failed is tried again by then.
const PAUSE: Duration = Duration::from_secs(1);

/// What a mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// This store was a slave's.
    WasSlave,
    /// It took records from one.
    HasTaken,
}

impl Mark {
    const ALL: [Mark; 2] = [Mark::WasSlave, Mark::HasTaken];

    fn path(self, root: &str) -> String {
        let name = match self {
            Mark::WasSlave => "was_slave",
            Mark::HasTaken => "has_taken",
        };
        format!("{root}/hotfire/{name}")
    }

    /// Durable on return.
    pub async fn set(self, disk: &dyn Disk, root: &str) -> Result<(), Error> {
        if self.is_set(disk, root) {
            return Ok(());
        }
        let path = self.path(root);
        let written = replace_small(disk, &path, b"").await;
        written.map_err(|source| Error::StateFileWrite { path, source })
    }

    /// One that cannot be opened is set.
    pub fn is_set(self, disk: &dyn Disk, root: &str) -> bool {
        let opened = disk.open(&self.path(root));
        !matches!(opened, Err(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// All that it knew is in its tables.
pub fn clear(disk: &dyn Disk, root: &str) -> io::Result<()> {
    for mark in Mark::ALL {
        match disk.remove(&mark.path(root)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Whether its tables may lack topics that it has records of.
pub fn may_lack_topics(disk: &dyn Disk, root: &str) -> bool {
    Mark::ALL.into_iter().any(|mark| mark.is_set(disk, root))
}

pub async fn run(shared: Arc<Shared>, mut stop: Stop) {
    let (disk, root) = (&*shared.disk, &shared.options.root);
    if !may_lack_topics(disk, root) {
        return;
    }
    loop {
        let changes = shared.core.lock().topics.changes();
        let is_saved = crate::rt::select! {
            _ = stop.wait() => return,
            saved = shared.until_saved(changes, 0) => saved.is_ok(),
        };
        if is_saved && clear(disk, root).is_ok() {
            return;
        }
        let next = shared.clock.mono() + PAUSE;
        crate::rt::select! {
            _ = stop.wait() => return,
            _ = shared.clock.sleep_until(next) => {}
        }
    }
}
