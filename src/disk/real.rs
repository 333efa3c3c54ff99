//! The machine's own files: positional system calls, and a pool of threads for what may wait.
//!
//! Every error names the path. Nothing here buffers: a write that returned is in the page cache.

#![expect(clippy::disallowed_methods, reason = "the one place where files are touched")]

mod mapping;

use super::{BoxFuture, Disk, Entry, File, Fill, LockGuard, parent};
use crate::rt::sync::Mutex;
use crate::rt::task::blocking;
use bytes::Bytes;
use mapping::Mapping;
pub use mapping::copy_view;
use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags, RenameFlags, SeekFrom};
use rustix::io::ReadWriteFlags;
use std::fs::{self, OpenOptions};
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How much of a new file is zero-filled per write, and is on its way to the disk before the next.
/// Units: bytes.
const ZERO_CHUNK_SIZE: usize = 256 * 1024;

pub struct RealDisk {
    /// Makes staging names unique within this process.
    staged: AtomicU64,
    read_only: bool,
    /// Views are of mappings; otherwise they are copies.
    maps: bool,
}

impl Default for RealDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl RealDisk {
    pub fn new() -> Self {
        let maps = mapping::is_supported();
        if !maps {
            tracing::info!("this kernel cannot populate mappings: cold messages are copied");
        }
        RealDisk { staged: AtomicU64::new(0), read_only: false, maps }
    }

    /// One whose views are copies, as on a kernel that cannot populate mappings.
    pub fn without_mappings() -> Self {
        RealDisk { staged: AtomicU64::new(0), read_only: false, maps: false }
    }

    /// Opens existing files for reading alone, so that a person who may not write can look. It is
    /// meant to lie under an `Overlay`, which writes nothing down.
    pub fn read_only() -> Self {
        RealDisk { read_only: true, ..Self::without_mappings() }
    }
}

/// Whether somebody holds the lock on byte 0 of `path`, asked without taking it.
/// Errors: the file cannot be opened for reading.
pub fn is_locked(path: &str) -> io::Result<bool> {
    let file = OpenOptions::new().read(true).open(path).map_err(at(path))?;
    first_byte_is_locked(&file).map_err(at(path))
}

impl Disk for RealDisk {
    fn open(&self, path: &str) -> io::Result<Arc<dyn File>> {
        let writes = !self.read_only;
        let file = OpenOptions::new().read(true).write(writes).open(path).map_err(at(path))?;
        Ok(RealFile::shared(file, path, self.maps))
    }

    fn open_or_create(&self, path: &str) -> io::Result<Arc<dyn File>> {
        Ok(RealFile::shared(open_or_make(path)?, path, self.maps))
    }

    fn create_whole(
        &self,
        path: &str,
        staging: &str,
        size: u64,
        fill: Fill,
    ) -> BoxFuture<'static, io::Result<Arc<dyn File>>> {
        let n = self.staged.fetch_add(1, Ordering::Relaxed);
        let name = path.rsplit('/').next().unwrap_or(path);
        let staged = format!("{staging}/{name}.{}.{n}.new", std::process::id());
        let (path, maps) = (path.to_owned(), self.maps);
        Box::pin(async move {
            blocking(move || {
                let made = create_whole(&path, &staged, size, fill);
                if made.is_err() {
                    // The staged file may be gone already; whatever is left is of no use.
                    let _ = fs::remove_file(&staged);
                }
                made.map(|file| RealFile::shared(file, &path, maps))
            })
            .await?
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(from, to).map_err(at(from))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(path).map_err(at(path))
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        fs::remove_dir(path).map_err(at(path))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir).map_err(at(dir))? {
            let entry = entry.map_err(at(dir))?;
            let name = entry.file_name().into_string().map_err(|name| {
                let what = format!("{dir}: the name {name:?} is not UTF-8");
                io::Error::new(io::ErrorKind::InvalidData, what)
            })?;
            let (is_dir, size) = match kind_of(&entry) {
                Ok(kind) => kind,
                // It went away between the listing and the question, or is a dangling link.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(at(dir)(e)),
            };
            entries.push(Entry { name, is_dir, size });
        }
        entries.sort();
        Ok(entries)
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        fs::create_dir_all(dir).map_err(at(dir))
    }

    fn sync_dir(&self, dir: &str) -> BoxFuture<'static, io::Result<()>> {
        let dir = dir.to_owned();
        Box::pin(async move { blocking(move || sync_dir(&dir)).await? })
    }

    fn lock(&self, path: &str) -> io::Result<Box<dyn LockGuard>> {
        let file = open_or_make(path)?;
        lock_first_byte(&file).map_err(at(path))?;
        Ok(Box::new(RealLock { _file: file }))
    }

    fn free_space(&self, dir: &str) -> io::Result<(u64, u64)> {
        let stat = rustix::fs::statvfs(dir).map_err(io::Error::from).map_err(at(dir))?;
        // What is reserved for the superuser is neither free nor used.
        let used = stat.f_blocks.saturating_sub(stat.f_bfree);
        let (block, all) = (stat.f_frsize, used.saturating_add(stat.f_bavail));
        Ok((stat.f_bavail.saturating_mul(block), all.saturating_mul(block)))
    }
}

/// Closing the descriptor gives the lock back.
struct RealLock {
    _file: fs::File,
}
impl LockGuard for RealLock {}

#[derive(Clone)]
struct RealFile {
    file: Arc<fs::File>,
    path: Arc<str>,
    maps: bool,
    /// Made on the first view; it goes when this handle and all views are gone.
    mapping: Arc<Mutex<Option<Arc<Mapping>>>>,
}

impl RealFile {
    fn shared(file: fs::File, path: &str, maps: bool) -> Arc<dyn File> {
        let mapping = Arc::default();
        Arc::new(RealFile { file: Arc::new(file), path: path.into(), maps, mapping })
    }

    /// The mapping that holds the range, and the range in it.
    fn mapping(&self, offset: u64, len: usize) -> io::Result<(Arc<Mapping>, Range<usize>)> {
        let stat = rustix::fs::fstat(&self.file).map_err(|e| at(&self.path)(e.into()))?;
        let size = stat.st_size.unsigned_abs();
        let end = offset.saturating_add(len as u64);
        if end > size {
            return Err(past_the_end(&self.path, offset, len));
        }
        let mut slot = self.mapping.lock();
        let mapping = match &*slot {
            Some(mapping) if mapping.size() as u64 >= end => mapping.clone(),
            _ => {
                let mapping = Mapping::new(&self.file, size).map_err(at(&self.path))?;
                slot.insert(mapping).clone()
            }
        };
        Ok((mapping, offset as usize..end as usize))
    }

    fn view_populated(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let (mapping, range) = self.mapping(offset, len)?;
        mapping.view(range).map_err(unreadable(&self.path, offset, len))
    }
}

impl File for RealFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata().map_err(at(&self.path))?.len())
    }

    fn modified_ms(&self) -> io::Result<i64> {
        let when = self.file.metadata().and_then(|m| m.modified()).map_err(at(&self.path))?;
        let since = when.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Ok(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn set_modified_ms(&self, when: i64) -> io::Result<()> {
        let since = std::time::Duration::from_millis(u64::try_from(when).unwrap_or_default());
        let when = std::time::UNIX_EPOCH + since;
        self.file.set_modified(when).map_err(at(&self.path))
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset).map_err(at(&self.path))
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        read_exactly(&self.file, &self.path, offset, len)
    }

    fn read(&self, offset: u64, len: usize) -> BoxFuture<'static, io::Result<Bytes>> {
        let (file, path) = (self.file.clone(), self.path.clone());
        Box::pin(async move { blocking(move || read_exactly(&file, &path, offset, len)).await? })
    }

    fn read_now(&self, offset: u64, len: usize) -> Option<Bytes> {
        let mut bytes = vec![0; len];
        let mut slices = [IoSliceMut::new(&mut bytes)];
        // Fewer bytes come where the page cache ends.
        let read = rustix::io::preadv2(&self.file, &mut slices, offset, ReadWriteFlags::NOWAIT);
        (read == Ok(len)).then(|| bytes.into())
    }

    fn view(&self, offset: u64, len: usize) -> BoxFuture<'static, io::Result<Bytes>> {
        if !self.maps || len == 0 {
            return self.read(offset, len);
        }
        let file = self.clone();
        Box::pin(async move { blocking(move || file.view_populated(offset, len)).await? })
    }

    fn view_now(&self, offset: u64, len: usize) -> Option<Bytes> {
        if !self.maps || len == 0 {
            return self.read_now(offset, len);
        }
        let (mapping, range) = self.mapping(offset, len).ok()?;
        mapping.view_now(range)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        match rustix::fs::seek(&*self.file, SeekFrom::Data(offset)) {
            Ok(found) => Ok(Some(found)),
            Err(rustix::io::Errno::NXIO) => Ok(None),
            // A file system without holes.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP) => Ok(Some(offset)),
            Err(e) => Err(at(&self.path)(e.into())),
        }
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.file.set_len(size).map_err(at(&self.path))
    }

    fn sync_data(&self) -> BoxFuture<'static, io::Result<()>> {
        let (file, path) = (self.file.clone(), self.path.clone());
        Box::pin(async move { blocking(move || file.sync_data().map_err(at(&path))).await? })
    }

    fn start_writeback(&self, offset: u64, len: u64) {
        begin_writeback(&self.file, offset, len);
    }

    fn forget(&self, offset: u64, len: u64) {
        let len = NonZeroU64::new(len);
        let asked = rustix::fs::fadvise(&self.file, offset, len, rustix::fs::Advice::DontNeed);
        if let Err(e) = asked {
            tracing::debug!("{}: fadvise: {e}", self.path);
        }
    }
}

/// Whether an entry is a directory, and the size of a file. The listing says the first; only the
/// size, and what a link leads to, cost a system call.
fn kind_of(entry: &fs::DirEntry) -> io::Result<(bool, u64)> {
    let kind = entry.file_type()?;
    if kind.is_dir() {
        return Ok((true, 0));
    }
    let meta = if kind.is_symlink() { fs::metadata(entry.path())? } else { entry.metadata()? };
    Ok((meta.is_dir(), if meta.is_dir() { 0 } else { meta.len() }))
}

/// Adds the path to an error and keeps its kind.
fn at(path: &str) -> impl Fn(io::Error) -> io::Error + '_ {
    move |e| io::Error::new(e.kind(), format!("{path}: {e}"))
}

/// Says which bytes could not be read.
fn unreadable(path: &str, offset: u64, len: usize) -> impl Fn(io::Error) -> io::Error + '_ {
    move |e| io::Error::new(e.kind(), format!("{path}: {len} bytes at {offset}: {e}"))
}

fn open_or_make(path: &str) -> io::Result<fs::File> {
    let mut how = OpenOptions::new();
    how.read(true).write(true).create(true).truncate(false);
    how.open(path).map_err(at(path))
}

fn read_exactly(file: &fs::File, path: &str, offset: u64, len: usize) -> io::Result<Bytes> {
    // Asked before the buffer is made: a length taken from a broken file must not cost memory.
    if offset.saturating_add(len as u64) > file.metadata().map_err(at(path))?.len() {
        return Err(past_the_end(path, offset, len));
    }
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, offset).map_err(unreadable(path, offset, len))?;
    Ok(bytes.into())
}

fn past_the_end(path: &str, offset: u64, len: usize) -> io::Error {
    let what = format!("{path}: {len} bytes at {offset} reach past the end");
    io::Error::new(io::ErrorKind::UnexpectedEof, what)
}

fn create_whole(path: &str, staged: &str, size: u64, fill: Fill) -> io::Result<fs::File> {
    if fs::symlink_metadata(path).is_ok() {
        let what = format!("{path}: the name is taken");
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
    }
    let file = if is_one_file_system(parent(staged), parent(path))? {
        let mut how = OpenOptions::new();
        how.read(true).write(true).create_new(true);
        let file = how.open(staged).map_err(at(staged))?;
        fill_whole(&file, size, fill).map_err(at(path))?;
        file.sync_all().map_err(at(path))?;
        rename_to_free_name(staged, path).map_err(at(path))?;
        file
    } else {
        let file = open_unnamed(parent(path))?;
        fill_whole(&file, size, fill).map_err(at(path))?;
        file.sync_all().map_err(at(path))?;
        link_to_free_name(&file, path).map_err(at(path))?;
        file
    };
    let synced = sync_dir(parent(path)).and_then(|()| sync_dir(parent(staged)));
    if let Err(e) = synced {
        // The name may or may not survive; without it the caller can simply try again.
        let _ = fs::remove_file(path);
        return Err(e);
    }
    Ok(file)
}

fn is_one_file_system(a: &str, b: &str) -> io::Result<bool> {
    let device = |dir: &str| fs::metadata(dir).map(|meta| meta.dev()).map_err(at(dir));
    Ok(device(a)? == device(b)?)
}

/// A file without a name in the file system of `dir`, which is not that of the staging directory.
fn open_unnamed(dir: &str) -> io::Result<fs::File> {
    let how = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, dir, how, Mode::from_raw_mode(0o666)) {
        Ok(file) => Ok(file.into()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {
            let what = format!(
                "{dir}: its file system knows no unnamed files: put the commit log and \
                 storePathRootDir on one file system"
            );
            Err(io::Error::new(io::ErrorKind::Unsupported, what))
        }
        Err(e) => Err(at(dir)(e.into())),
    }
}

/// Gives an unnamed file its name, which never replaces another.
fn link_to_free_name(file: &fs::File, to: &str) -> io::Result<()> {
    let from = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::linkat(CWD, from, CWD, to, AtFlags::SYMLINK_FOLLOW)?)
}

fn fill_whole(file: &fs::File, size: u64, fill: Fill) -> io::Result<()> {
    let write_zeros = match fill {
        Fill::Sparse => return file.set_len(size),
        Fill::Allocated | Fill::Zeroed if size == 0 => return Ok(()),
        Fill::Allocated | Fill::Zeroed => {
            let reserved = rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size);
            match reserved {
                Ok(()) => fill == Fill::Zeroed,
                // A file system that cannot reserve is filled by writing.
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => true,
                Err(e) => return Err(e.into()),
            }
        }
    };
    if write_zeros {
        let zeros = vec![0; ZERO_CHUNK_SIZE.min(size as usize)];
        let mut at = 0;
        while at < size {
            let n = (size - at).min(zeros.len() as u64);
            file.write_all_at(&zeros[..n as usize], at)?;
            write_back(file, at, n)?;
            at += n;
        }
    }
    Ok(())
}

/// Renames without ever replacing. Where the file system cannot, a second name is made and the
/// first one removed, which cannot replace either.
fn rename_to_free_name(from: &str, to: &str) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        Err(e) => Err(e.into()),
    }
}

fn sync_dir(dir: &str) -> io::Result<()> {
    OpenOptions::new().read(true).open(dir).and_then(|d| d.sync_all()).map_err(at(dir))
}

/// `F_OFD_SETLK` on byte 0: conflicts with Java's POSIX lock both ways, survives the closing of
/// other descriptors of the file, and stops a second open in the same process.
/// Errors: `WouldBlock` when the byte is locked.
#[expect(unsafe_code, reason = "no safe crate in the tree offers open-file-description locks")]
fn lock_first_byte(file: &fs::File) -> io::Result<()> {
    // SAFETY: `flock` is plain integers, for which all zero bits are a value.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = libc::F_WRLCK as _;
    range.l_whence = libc::SEEK_SET as _;
    range.l_start = 0;
    range.l_len = 1;
    // SAFETY: the descriptor is open for the whole call and `range` outlives it.
    let rc = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &range) };
    if rc == 0 {
        return Ok(());
    }
    let e = io::Error::last_os_error();
    match e.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => {
            Err(io::Error::new(io::ErrorKind::WouldBlock, "locked by another owner"))
        }
        _ => Err(e),
    }
}

/// `F_OFD_GETLK`: sees Java's lock and ours.
#[expect(unsafe_code, reason = "no safe crate in the tree offers open-file-description locks")]
fn first_byte_is_locked(file: &fs::File) -> io::Result<bool> {
    // SAFETY: `flock` is plain integers, for which all zero bits are a value.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = libc::F_WRLCK as _;
    range.l_whence = libc::SEEK_SET as _;
    range.l_start = 0;
    range.l_len = 1;
    // SAFETY: the descriptor is open for the whole call and `range` outlives it.
    let rc = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &mut range) };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(range.l_type != libc::F_UNLCK as libc::c_short)
}

/// Gives a range to the disk and waits until it has it, so that a sync of another file finds no
/// long queue there. Not durable on return. Errors: the disk's, which a later sync may not repeat.
#[expect(unsafe_code, reason = "no safe crate in the tree offers sync_file_range")]
fn write_back(file: &fs::File, offset: u64, len: u64) -> io::Result<()> {
    let what = libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    let end = |n: u64| i64::try_from(n).map_err(io::Error::other);
    let (offset, len) = (end(offset)?, end(len)?);
    // SAFETY: the descriptor is open for the whole call; no memory is passed.
    match unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, what) } {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            e if matches!(
                e.raw_os_error(),
                Some(libc::ENOSYS | libc::EOPNOTSUPP | libc::ESPIPE)
            ) =>
            {
                Ok(())
            }
            e => Err(e),
        },
    }
}

/// Only a hint, so its outcome is not looked at.
#[expect(unsafe_code, reason = "no safe crate in the tree offers sync_file_range")]
fn begin_writeback(file: &fs::File, offset: u64, len: u64) {
    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else { return };
    // SAFETY: the descriptor is open for the whole call; no memory is passed.
    unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE);
    }
}
