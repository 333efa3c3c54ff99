//! The directory is taken, its own directories are made, and `abort` says so.

use crate::disk::{Disk, LockGuard, parent, read_small};
use crate::store::error::Error;
use crate::store::options::Options;
use std::io;
use std::sync::Arc;

/// Takes the directory's lock, and says in `hotfire/owner` who holds it.
/// Errors: `Locked`; nothing was touched then.
pub async fn lock(disk: &dyn Disk, options: &Options) -> Result<Box<dyn LockGuard>, Error> {
    let root = &options.root;
    disk.make_dir(root).map_err(Error::io(format!("make {root}")))?;
    let path = format!("{root}/lock");
    let owner_path = format!("{}/owner", options.own_dir());
    let guard = match disk.lock(&path) {
        Ok(guard) => guard,
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
            let owner = read_small(disk, &owner_path, 4096).unwrap_or_default();
            let owner = String::from_utf8_lossy(&owner).trim().to_owned();
            let owner = if owner.is_empty() { "another process".to_owned() } else { owner };
            return Err(Error::Locked { root: root.clone(), owner });
        }
        Err(e) => return Err(Error::io(format!("lock {path}"))(e)),
    };
    let written = async {
        disk.make_dir(&options.staging_dir())?;
        let file = disk.open_or_create(&path)?;
        if file.size()? == 0 {
            file.write_at(0, b"lock")?;
        }
        let owner = disk.open_or_create(&owner_path)?;
        owner.set_size(0)?;
        owner.write_at(0, options.owner.as_bytes())
    };
    written.await.map_err(Error::io(format!("write {owner_path}")))?;
    Ok(guard)
}

pub async fn make_dirs(disk: &dyn Disk, options: &Options) -> io::Result<()> {
    let staging = options.staging_dir();
    for dir in [&options.commit_log_dir, &options.consume_queue_dir(), &staging] {
        disk.make_dir(dir)?;
    }
    for entry in disk.list(&staging)? {
        disk.remove(&format!("{staging}/{}", entry.name))?;
    }
    // A name that a killed process made may not be durable yet: the next record may not be acked
    // in such a file.
    let log = &options.commit_log_dir;
    for dir in [parent(&options.root), &options.root, parent(log), log] {
        disk.sync_dir(dir).await?;
    }
    disk.sync_dir(&options.own_dir()).await
}

/// `abort` says that a process uses the directory, and `hotfire/running` that it was one of ours:
/// whoever loses `abort` does not make an unclean stop a clean one. Durable on return (W-13).
pub async fn mark_running(disk: &Arc<dyn Disk>, options: &Options) -> Result<(), Error> {
    let marked = async {
        disk.open_or_create(&options.running_path())?;
        disk.sync_dir(&options.own_dir()).await?;
        disk.open_or_create(&format!("{}/abort", options.root))?;
        disk.sync_dir(&options.root).await
    };
    marked.await.map_err(Error::io("make the abort file"))
}
