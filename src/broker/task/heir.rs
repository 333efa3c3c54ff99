//! `hotfire/was_slave` says that this store was a slave's. Once the tables of a slave that became
//! master are saved, it is a master like any other.

use super::super::driver::Shared;
use crate::disk::{Disk, replace_small};
use crate::rt::task::Stop;
use crate::rt::time::Duration;
use std::io;
use std::sync::Arc;

/// A save that failed is tried again by then.
const PAUSE: Duration = Duration::from_secs(1);

fn path(root: &str) -> String {
    format!("{root}/hotfire/was_slave")
}

/// This broker is a slave. Durable on return.
pub async fn mark(disk: &dyn Disk, root: &str) -> io::Result<()> {
    if is_marked(disk, root) {
        return Ok(());
    }
    replace_small(disk, &path(root), b"").await
}

/// A mark that cannot be opened is one.
pub fn is_marked(disk: &dyn Disk, root: &str) -> bool {
    !matches!(disk.open(&path(root)), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

/// All that it knew is in its tables.
pub fn clear(disk: &dyn Disk, root: &str) -> io::Result<()> {
    match disk.remove(&path(root)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub async fn run(shared: Arc<Shared>, mut stop: Stop) {
    let (disk, root) = (&*shared.disk, &shared.options.root);
    if !is_marked(disk, root) {
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
