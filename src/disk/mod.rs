//! Files as positional reads, writes and explicit syncs; nothing is durable until a sync returns.
//!
//! `Disk` is a value (`Arc<dyn Disk>`) passed in at the composition root: `real::RealDisk` in
//! production, `faulty::FaultyDisk` over it in tests, `SimDisk` in the simulator;
//! `overlay::Overlay` keeps the writes of a rehearsal in memory. One conformance
//! suite (`conformance`) runs on every implementation. Paths are absolute or relative to the
//! process, with `/` between names. We never write through a mapping.

pub mod conformance;
pub mod faulty;
pub mod overlay;
#[cfg(not(madsim))]
pub mod real;

use crate::rt::time::{Clock, Duration};
use bytes::Bytes;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How a new file gets its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Only the length is set; blocks are allocated on the first write, which may then run out of
    /// space. For consume queues and index files.
    Sparse,
    /// Blocks are allocated now, so that a later write cannot run out of space.
    Allocated,
    /// Blocks are allocated and written with zeros: a later sync need not convert extents.
    Zeroed,
}

/// What a directory entry is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub name: String,
    pub is_dir: bool,
    /// Units: bytes; 0 for a directory.
    pub size: u64,
}

/// The file system of one machine.
///
/// Calls that return a plain `io::Result` touch only the page cache and come back at once; calls
/// that return a future may wait for the device and are completed off the broker thread.
pub trait Disk: Send + Sync {
    /// Opens an existing file for reading and writing.
    /// Errors: `NotFound`, `PermissionDenied`.
    fn open(&self, path: &str) -> io::Result<Arc<dyn File>>;

    /// Opens a file, making an empty one when it is missing. For small state files, `lock`,
    /// `abort`; store files come from `create_whole`.
    /// Durable: the name only after `sync_dir` of its directory.
    fn open_or_create(&self, path: &str) -> io::Result<Arc<dyn File>>;

    /// Makes a file of exactly `size` bytes that read as zero. Its name appears only at full size:
    /// it is made under `staging` (a directory that exists) and renamed, or without a name where
    /// `path` is on another file system.
    /// Durable: content and length are synced before the rename, and the directory of `path` is
    /// synced after it, so on return the empty file survives a power loss.
    /// Errors: `StorageFull` (nothing is left behind), `AlreadyExists`.
    fn create_whole(
        &self,
        path: &str,
        staging: &str,
        size: u64,
        fill: Fill,
    ) -> BoxFuture<'static, io::Result<Arc<dyn File>>>;

    /// Renames a file, replacing `to`. Atomic for readers.
    /// Durable: only after `sync_dir` of both directories.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file's name; open handles keep working.
    /// Durable: only after `sync_dir`.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Removes an empty directory. Durable: only after `sync_dir` of its parent.
    fn remove_dir(&self, path: &str) -> io::Result<()>;

    /// The entries of a directory, sorted by name. Errors: `NotFound`.
    fn list(&self, dir: &str) -> io::Result<Vec<Entry>>;

    /// Makes a directory and its missing parents; no error when it exists.
    /// Durable: each new name only after `sync_dir` of its parent.
    fn make_dir(&self, dir: &str) -> io::Result<()>;

    /// Durable on return: every name made, renamed or removed in exactly this directory before
    /// the call.
    fn sync_dir(&self, dir: &str) -> BoxFuture<'static, io::Result<()>>;

    /// Takes the write lock on byte 0 of `path`, making the file when it is missing, and holds it
    /// until the guard is dropped. It is an open-file-description lock, which conflicts with
    /// Java's lock in both directions.
    /// Errors: `WouldBlock` when another process, or this one, holds it.
    fn lock(&self, path: &str) -> io::Result<Box<dyn LockGuard>>;

    /// Units: bytes that an unprivileged writer may still allocate, and those with what is used.
    fn free_space(&self, dir: &str) -> io::Result<(u64, u64)>;
}

/// Held while a lock is ours; dropping it gives the lock back.
pub trait LockGuard: Send + Sync {}

/// One open file. Writes go to the page cache; only `sync_data` makes them durable.
pub trait File: Send + Sync {
    /// Units: bytes.
    fn size(&self) -> io::Result<u64>;

    /// Last change of the content. Units: epoch milliseconds of the machine's clock.
    fn modified_ms(&self) -> io::Result<i64>;

    /// Sets that time; the next write sets it anew.
    /// Units: epoch milliseconds.
    fn set_modified_ms(&self, at: i64) -> io::Result<()>;

    /// Writes all of `data` at `offset`; past the end the file grows.
    /// Errors: `StorageFull`, device errors. After an error the bytes in the range are unknown.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Reads exactly `len` bytes on this thread: for recovery and for ranges known to be in the
    /// page cache. Errors: `UnexpectedEof` past the end, device errors.
    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes>;

    /// Like `read_at`, off the broker thread.
    fn read(&self, offset: u64, len: usize) -> BoxFuture<'static, io::Result<Bytes>>;

    /// Like `read_at` when no device has to be waited for; otherwise, and after an error, `None`.
    fn read_now(&self, offset: u64, len: usize) -> Option<Bytes> {
        let _ = (offset, len);
        None
    }

    /// Like `read`, without a copy where the disk can: the bytes are the page cache's own. Only for
    /// ranges that are never written again. A view keeps the blocks of a removed file, so whoever
    /// holds one for long must copy it (`own`).
    /// Errors: those of reading exactly this range.
    fn view(&self, offset: u64, len: usize) -> BoxFuture<'static, io::Result<Bytes>> {
        self.read(offset, len)
    }

    /// Like `view` when no device has to be waited for; otherwise, and after an error, `None`.
    fn view_now(&self, offset: u64, len: usize) -> Option<Bytes> {
        self.read_now(offset, len)
    }

    /// Where the next byte at or after `offset` may lie that is not zero; `None` when all up to
    /// the end read as zero. A disk that does not know where its holes are says `offset`.
    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        Ok(Some(offset))
    }

    /// Sets the length; new bytes read as zero.
    fn set_size(&self, size: u64) -> io::Result<()>;

    /// Durable on return: every write to this file that returned before this call, and the
    /// file's length. Not its name.
    /// Errors: after an error the page cache may show bytes that the disk will never hold: treat
    /// the file as poisoned (docs/adr, poison).
    fn sync_data(&self) -> BoxFuture<'static, io::Result<()>>;

    /// Asks the kernel to begin writing back this range; promises nothing.
    fn start_writeback(&self, offset: u64, len: u64);

    /// Asks the kernel to take what is clean and not mapped in this range out of the page cache;
    /// promises nothing.
    fn forget(&self, offset: u64, len: u64) {
        let _ = (offset, len);
    }
}

/// Reads a whole small file (state files, json). Errors: `NotFound`, `InvalidData` over
/// `size_max` bytes.
pub fn read_small(disk: &dyn Disk, path: &str, size_max: u64) -> io::Result<Bytes> {
    let file = disk.open(path)?;
    let size = file.size()?;
    if size > size_max {
        let what = format!("{path} has {size} bytes, at most {size_max} were expected");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    file.read_at(0, size as usize)
}

/// An error of the device is asked about so often in all, this long apart.
const READ_TRIES: u32 = 3;
const READ_PAUSE: Duration = Duration::from_millis(100);

/// As `read_small`, for what must not be given up because a device failed for a moment: an error
/// is tried again, twice within 200 ms. That the file is not there, or too large, is said at once.
pub async fn read_small_again(
    disk: &dyn Disk,
    clock: &Clock,
    path: &str,
    size_max: u64,
) -> io::Result<Bytes> {
    let mut tries = 1;
    loop {
        let error = match read_small(disk, path, size_max) {
            Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => {
                error
            }
            done => return done,
        };
        if tries == READ_TRIES {
            return Err(error);
        }
        tries += 1;
        crate::rt::probe!("disk: a small file is read again after an error");
        tracing::warn!("failed to read {path}: {error}; it is tried again");
        clock.sleep_until(clock.mono() + READ_PAUSE).await;
    }
}

/// Replaces a small file atomically: write `path` + `.tmp`, sync, rename, sync the directory.
/// Durable on return: the new content. After an error the old content is still whole.
pub async fn replace_small(disk: &dyn Disk, path: &str, content: &[u8]) -> io::Result<()> {
    let tmp = format!("{path}.tmp");
    let file = disk.open_or_create(&tmp)?;
    file.set_size(0)?;
    file.write_at(0, content)?;
    file.sync_data().await?;
    disk.rename(&tmp, path)?;
    disk.sync_dir(parent(path)).await
}

/// A process that was killed may have renamed a file in `dir` and not synced that. Durable on
/// return: the names there, so that what is read of them now is not another after a power loss.
/// Without the directory nothing is done.
pub async fn settle_names(disk: &dyn Disk, dir: &str) -> io::Result<()> {
    match disk.sync_dir(dir).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        synced => synced,
    }
}

/// The directory part of a path; `.` when it has none.
pub fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) => "/",
        Some(at) => &path[..at],
        None => ".",
    }
}
