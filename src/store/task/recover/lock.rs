//! The directory is taken, its own directories are made, and `abort` says so.

use crate::disk::{Disk, LockGuard, parent, read_small};
use crate::store::error::Error;
use crate::store::options::Options;
use std::collections::BTreeSet;
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
    let log_dirs = options.commit_log.writable();
    for dir in log_dirs.iter().chain([&options.consume_queue_dir(), &staging]) {
        disk.make_dir(dir)?;
    }
    for entry in disk.list(&staging)? {
        disk.remove(&format!("{staging}/{}", entry.name))?;
    }
    // A name that a killed process made may not be durable yet: the next record may not be acked
    // in such a file.
    let mut dirs = BTreeSet::from([parent(&options.root), &options.root]);
    dirs.extend(log_dirs.iter().flat_map(|dir| [parent(dir), dir.as_str()]));
    for dir in dirs {
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

/// `hotfire/rewrite` stands while entries of queues may be in memory that no sync has reached, or
/// one has failed to reach. It need not be durable: a power loss takes memory too.
pub fn rewrite_path(options: &Options) -> String {
    format!("{}/rewrite", options.own_dir())
}

/// True when it stands already: what the files seem to hold may not be on disk.
pub fn begin_rewrite(disk: &Arc<dyn Disk>, options: &Options) -> Result<bool, Error> {
    let path = rewrite_path(options);
    match disk.open(&path) {
        Ok(_) => return Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(Error::io(path)(e)),
    }
    disk.open_or_create(&path).map_err(Error::io(path))?;
    Ok(false)
}

pub fn end_rewrite(disk: &Arc<dyn Disk>, options: &Options) -> Result<(), Error> {
    let path = rewrite_path(options);
    match disk.remove(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io(path)(e)),
        _ => Ok(()),
    }
}
