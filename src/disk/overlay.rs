//! A disk over another one whose writes stay in memory: what would happen, without it happening.
//!
//! Nothing of the disk below changes, no lock of it is taken. Only pages that differ from what is
//! below take memory, and pages of zeros take next to none. When the bound is reached the write
//! fails with `OutOfMemory`.

use super::{BoxFuture, Disk, Entry, File, Fill, LockGuard, parent};
use crate::rt::sync::Mutex;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const PAGE: usize = 4096;

enum Page {
    Zero,
    Bytes(Box<[u8; PAGE]>),
}

/// One file.
struct Node {
    /// Where it lies below; `None` for a file that is only here.
    below: Option<String>,
    /// Units: bytes from below that are still seen.
    below_size: u64,
    size: u64,
    pages: BTreeMap<u64, Page>,
    /// Set by hand; the next write takes it away. Units: milliseconds.
    modified_ms: Option<i64>,
}

enum Name {
    Dir,
    File(Arc<Mutex<Node>>),
    /// It is there below, and removed here.
    Gone,
}

struct Shared {
    below: Arc<dyn Disk>,
    names: Mutex<BTreeMap<String, Name>>,
    locks: Mutex<BTreeSet<String>>,
    now_ms: i64,
    /// Units: bytes of pages, now and at most.
    used: AtomicU64,
    size_max: u64,
    /// Units: bytes read so far; for progress.
    read: AtomicU64,
}

/// The disk. Cloning shares it.
#[derive(Clone)]
pub struct Overlay(Arc<Shared>);

impl Overlay {
    /// `now_ms` is the time of change of what is written; `size_max` bounds the bytes of memory
    /// that changed pages take.
    pub fn new(below: Arc<dyn Disk>, now_ms: i64, size_max: u64) -> Self {
        Overlay(Arc::new(Shared {
            below,
            names: Mutex::default(),
            locks: Mutex::default(),
            now_ms,
            used: AtomicU64::new(0),
            size_max,
            read: AtomicU64::new(0),
        }))
    }

    /// Units: bytes read so far.
    pub fn bytes_read(&self) -> u64 {
        self.0.read.load(Ordering::Relaxed)
    }

    /// Units: bytes of memory that changed pages take.
    pub fn bytes_used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }
}

fn error(kind: ErrorKind, path: &str, what: &str) -> io::Error {
    io::Error::new(kind, format!("{path}: {what}"))
}

impl Shared {
    /// The file of this name, known here from now on.
    fn find(&self, path: &str) -> io::Result<Arc<Mutex<Node>>> {
        match self.names.lock().get(path) {
            Some(Name::File(node)) => return Ok(node.clone()),
            Some(Name::Dir) => return Err(error(ErrorKind::IsADirectory, path, "a directory")),
            Some(Name::Gone) => return Err(error(ErrorKind::NotFound, path, "no such file")),
            None => {}
        }
        let size = self.below.open(path)?.size()?;
        let below = Some(path.to_owned());
        let pages = BTreeMap::new();
        let node = Node { below, below_size: size, size, pages, modified_ms: None };
        let node = Arc::new(Mutex::new(node));
        self.names.lock().insert(path.to_owned(), Name::File(node.clone()));
        Ok(node)
    }

    fn is_dir(&self, dir: &str) -> bool {
        match self.names.lock().get(dir) {
            Some(Name::Dir) => true,
            Some(Name::File(_) | Name::Gone) => false,
            None => dir == "." || self.below.list(dir).is_ok(),
        }
    }

    fn make(&self, path: &str, size: u64) -> io::Result<Arc<Mutex<Node>>> {
        if !self.is_dir(parent(path)) {
            return Err(error(ErrorKind::NotFound, path, "no such directory"));
        }
        let pages = BTreeMap::new();
        let node = Node { below: None, below_size: 0, size, pages, modified_ms: None };
        let node = Arc::new(Mutex::new(node));
        self.names.lock().insert(path.to_owned(), Name::File(node.clone()));
        Ok(node)
    }

    fn handle(self: &Arc<Self>, path: &str, node: Arc<Mutex<Node>>) -> io::Result<Arc<dyn File>> {
        let below = node.lock().below.clone();
        let below = below.map(|below| self.below.open(&below)).transpose()?;
        Ok(Arc::new(OverlayFile(Arc::new(Handle {
            shared: self.clone(),
            path: path.to_owned(),
            node,
            below,
        }))))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        let below = match self.names.lock().get(dir) {
            Some(Name::Gone) => Err(error(ErrorKind::NotFound, dir, "no such directory")),
            Some(Name::File(_)) => Err(error(ErrorKind::NotADirectory, dir, "a file")),
            Some(Name::Dir) => Ok(self.below.list(dir).unwrap_or_default()),
            None => self.below.list(dir),
        }?;
        let mut entries: BTreeMap<String, Entry> =
            below.into_iter().map(|entry| (entry.name.clone(), entry)).collect();
        let inside = format!("{}/", dir.trim_end_matches('/'));
        let names = self.names.lock();
        for (path, name) in names.range(inside.clone()..) {
            let Some(rest) = path.strip_prefix(&inside) else { break };
            if rest.contains('/') {
                continue;
            }
            let name_of = rest.to_owned();
            match name {
                Name::Gone => {
                    entries.remove(rest);
                }
                Name::Dir => {
                    entries.insert(name_of.clone(), Entry { name: name_of, is_dir: true, size: 0 });
                }
                Name::File(node) => {
                    let size = node.lock().size;
                    entries.insert(name_of.clone(), Entry { name: name_of, is_dir: false, size });
                }
            }
        }
        Ok(entries.into_values().collect())
    }

    fn forget(&self, path: &str) {
        let mut names = self.names.lock();
        names.insert(path.to_owned(), Name::Gone);
    }

    fn take_memory(&self, path: &str) -> io::Result<()> {
        let used = self.used.fetch_add(PAGE as u64, Ordering::Relaxed);
        if used < self.size_max {
            return Ok(());
        }
        let max = self.size_max >> 20;
        Err(error(ErrorKind::OutOfMemory, path, &format!("more than {max} MiB would change")))
    }

    fn give_memory(&self, page: Option<Page>) {
        if let Some(Page::Bytes(_)) = page {
            self.used.fetch_sub(PAGE as u64, Ordering::Relaxed);
        }
    }
}

impl Disk for Overlay {
    fn open(&self, path: &str) -> io::Result<Arc<dyn File>> {
        self.0.handle(path, self.0.find(path)?)
    }

    fn open_or_create(&self, path: &str) -> io::Result<Arc<dyn File>> {
        let node = match self.0.find(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => self.0.make(path, 0)?,
            found => found?,
        };
        self.0.handle(path, node)
    }

    fn create_whole(
        &self,
        path: &str,
        _staging: &str,
        size: u64,
        _fill: Fill,
    ) -> BoxFuture<'static, io::Result<Arc<dyn File>>> {
        let made = match self.0.find(path) {
            Ok(_) => Err(error(ErrorKind::AlreadyExists, path, "the name is taken")),
            Err(e) if e.kind() == ErrorKind::NotFound => self.0.make(path, size),
            Err(e) => Err(e),
        };
        let made = made.and_then(|node| self.0.handle(path, node));
        Box::pin(async move { made })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let node = self.0.find(from)?;
        if !self.0.is_dir(parent(to)) {
            return Err(error(ErrorKind::NotFound, to, "no such directory"));
        }
        if from != to {
            self.0.forget(from);
            self.0.names.lock().insert(to.to_owned(), Name::File(node));
        }
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.0.find(path)?;
        self.0.forget(path);
        Ok(())
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        if !self.0.list(path)?.is_empty() {
            return Err(error(ErrorKind::DirectoryNotEmpty, path, "not empty"));
        }
        self.0.forget(path);
        Ok(())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        self.0.list(dir)
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        if dir.is_empty() || dir == "/" || self.0.is_dir(dir) {
            return Ok(());
        }
        if self.0.find(dir).is_ok() {
            return Err(error(ErrorKind::AlreadyExists, dir, "a file"));
        }
        self.make_dir(parent(dir))?;
        self.0.names.lock().insert(dir.to_owned(), Name::Dir);
        Ok(())
    }

    fn sync_dir(&self, _dir: &str) -> BoxFuture<'static, io::Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn lock(&self, path: &str) -> io::Result<Box<dyn LockGuard>> {
        self.open_or_create(path)?;
        if !self.0.locks.lock().insert(path.to_owned()) {
            return Err(error(ErrorKind::WouldBlock, path, "locked by another owner"));
        }
        Ok(Box::new(OverlayLock { shared: self.0.clone(), path: path.to_owned() }))
    }

    fn free_space(&self, dir: &str) -> io::Result<(u64, u64)> {
        self.0.below.free_space(dir)
    }
}

struct OverlayLock {
    shared: Arc<Shared>,
    path: String,
}

impl LockGuard for OverlayLock {}
impl Drop for OverlayLock {
    fn drop(&mut self) {
        self.shared.locks.lock().remove(&self.path);
    }
}

struct Handle {
    shared: Arc<Shared>,
    path: String,
    node: Arc<Mutex<Node>>,
    /// The file below, when there is one.
    below: Option<Arc<dyn File>>,
}

struct OverlayFile(Arc<Handle>);

impl Handle {
    /// Adds what the file below holds of a range to zeros.
    fn read_below(&self, node: &Node, at: u64, out: &mut [u8]) -> io::Result<()> {
        let Some(below) = &self.below else { return Ok(()) };
        let end = node.below_size.min(at + out.len() as u64);
        if at < end {
            let len = (end - at) as usize;
            out[..len].copy_from_slice(&below.read_at(at, len)?);
        }
        Ok(())
    }

    fn read(&self, at: u64, len: usize) -> io::Result<Bytes> {
        let node = self.node.lock();
        let end = at.checked_add(len as u64).filter(|end| *end <= node.size);
        let Some(end) = end else {
            let what = format!("{len} bytes at {at} reach past the end");
            return Err(error(ErrorKind::UnexpectedEof, &self.path, &what));
        };
        self.shared.read.fetch_add(len as u64, Ordering::Relaxed);
        if node.pages.is_empty()
            && end <= node.below_size
            && let Some(below) = &self.below
        {
            return below.read_at(at, len);
        }
        let mut out = vec![0; len];
        self.read_below(&node, at, &mut out)?;
        for (nth, page) in node.pages.range(at / PAGE as u64..end.div_ceil(PAGE as u64)) {
            let page_at = nth * PAGE as u64;
            let (from, to) = (page_at.max(at), (page_at + PAGE as u64).min(end));
            let target = &mut out[(from - at) as usize..(to - at) as usize];
            match page {
                Page::Zero => target.fill(0),
                Page::Bytes(bytes) => {
                    let from = (from - page_at) as usize;
                    target.copy_from_slice(&bytes[from..from + target.len()]);
                }
            }
        }
        Ok(out.into())
    }

    fn write(&self, at: u64, data: &[u8]) -> io::Result<()> {
        let mut node = self.node.lock();
        let end = at.checked_add(data.len() as u64).ok_or(ErrorKind::FileTooLarge)?;
        let mut done = 0;
        while done < data.len() {
            let position = at + done as u64;
            let (nth, skip) = (position / PAGE as u64, (position % PAGE as u64) as usize);
            let part = &data[done..data.len().min(done + PAGE - skip)];
            self.write_page(&mut node, nth, skip, part)?;
            done += part.len();
        }
        if !data.is_empty() {
            node.size = node.size.max(end);
            node.modified_ms = None;
        }
        Ok(())
    }

    fn write_page(&self, node: &mut Node, nth: u64, skip: usize, part: &[u8]) -> io::Result<()> {
        let mut below = [0; PAGE];
        self.read_below(node, nth * PAGE as u64, &mut below)?;
        let mut page = match node.pages.get(&nth) {
            Some(Page::Zero) => [0; PAGE],
            Some(Page::Bytes(bytes)) => **bytes,
            None => below,
        };
        page[skip..skip + part.len()].copy_from_slice(part);
        let old = node.pages.remove(&nth);
        self.shared.give_memory(old);
        if page == below {
            return Ok(());
        }
        let kept = if page.iter().all(|byte| *byte == 0) {
            Page::Zero
        } else {
            self.shared.take_memory(&self.path)?;
            Page::Bytes(Box::new(page))
        };
        node.pages.insert(nth, kept);
        Ok(())
    }

    /// Bytes from `size` on are gone: what is written there later stands on zeros.
    fn set_size(&self, size: u64) -> io::Result<()> {
        let mut node = self.node.lock();
        if size < node.size {
            let (nth, skip) = (size / PAGE as u64, (size % PAGE as u64) as usize);
            for (_, page) in node.pages.split_off(&size.div_ceil(PAGE as u64)) {
                self.shared.give_memory(Some(page));
            }
            if skip > 0 {
                self.write_page(&mut node, nth, skip, &[0; PAGE][skip..])?;
            }
            node.below_size = node.below_size.min(size);
        }
        node.size = size;
        Ok(())
    }
}

impl File for OverlayFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.node.lock().size)
    }

    fn modified_ms(&self) -> io::Result<i64> {
        let node = self.0.node.lock();
        match (node.modified_ms, &self.0.below) {
            (Some(at), _) => Ok(at),
            (None, Some(below)) if node.pages.is_empty() => below.modified_ms(),
            (None, _) => Ok(self.0.shared.now_ms),
        }
    }

    fn set_modified_ms(&self, at: i64) -> io::Result<()> {
        self.0.node.lock().modified_ms = Some(at);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.0.read(offset, len)
    }

    fn read(&self, offset: u64, len: usize) -> BoxFuture<'static, io::Result<Bytes>> {
        let handle = self.0.clone();
        Box::pin(async move {
            // Whoever tells of progress gets a turn.
            crate::rt::task::yield_now().await;
            handle.read(offset, len)
        })
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.0.set_size(size)
    }

    fn sync_data(&self) -> BoxFuture<'static, io::Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn start_writeback(&self, _offset: u64, _len: u64) {}
}
