//! Scripted errors over any `Disk`, for tests that need exactly one thing to go wrong.
//!
//! A script is a list of rules; the first that matches a call decides. Calls are counted, so that
//! a test can say "the third sync of this segment".

use super::{BoxFuture, Disk, Entry, File, Fill, LockGuard};
use crate::rt::sync::{Mutex, watch};
use bytes::Bytes;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::thread::ThreadId;

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Create,
    List,
    Open,
    Read,
    Remove,
    Rename,
    Sync,
    SyncDir,
    /// Counted, but it cannot fail.
    Unlock,
    Write,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The device reports an error (EIO).
    Broken,
    /// Not a byte is left (ENOSPC).
    NoSpace,
    /// The file may not be touched (EACCES).
    NotAllowed,
}

impl Fault {
    fn error(self, path: &str) -> io::Error {
        match self {
            Fault::Broken => io::Error::other(format!("{path}: scripted I/O error")),
            Fault::NoSpace => {
                io::Error::new(io::ErrorKind::StorageFull, format!("{path}: scripted full disk"))
            }
            Fault::NotAllowed => {
                let what = format!("{path}: scripted refusal");
                io::Error::new(io::ErrorKind::PermissionDenied, what)
            }
        }
    }
}

/// Calls number `first` to `first + times - 1` (from 1) that match fail.
#[derive(Clone, Debug)]
pub struct Rule {
    pub call: Call,
    /// A part of the path; empty matches every path.
    pub path_part: String,
    pub first: u64,
    pub times: u64,
    pub fault: Fault,
}

#[derive(Default)]
struct Script {
    /// A rule and how many calls matched it so far.
    rules: Vec<(Rule, u64)>,
    no_space: bool,
    /// What `free_space` says.
    space: Option<(u64, u64)>,
    sync_is_noop: bool,
    unreadable: Vec<(String, Range<u64>)>,
    counts: Vec<(Call, String)>,
    /// Which thread closed which file.
    closes: Vec<(String, ThreadId)>,
}

impl Script {
    /// Then nothing is read at once: errors belong to reads that may wait.
    fn reads_may_fail(&self) -> bool {
        !self.unreadable.is_empty() || self.rules.iter().any(|(rule, _)| rule.call == Call::Read)
    }

    fn visit(&mut self, call: Call, path: &str) -> io::Result<()> {
        self.counts.push((call, path.to_owned()));
        if self.no_space && matches!(call, Call::Create | Call::Write) {
            return Err(Fault::NoSpace.error(path));
        }
        for (rule, seen) in &mut self.rules {
            if rule.call != call || !path.contains(&rule.path_part) {
                continue;
            }
            *seen += 1;
            if *seen >= rule.first && *seen - rule.first < rule.times {
                return Err(rule.fault.error(path));
            }
        }
        Ok(())
    }
}

/// Cloning shares the script: keep one clone to steer the other.
#[derive(Clone)]
pub struct FaultyDisk {
    inner: Arc<dyn Disk>,
    script: Arc<Mutex<Script>>,
    /// Calls that do not come back while they stand here.
    held: Arc<watch::Sender<Vec<Call>>>,
}

impl FaultyDisk {
    pub fn new(inner: Arc<dyn Disk>) -> Self {
        FaultyDisk { inner, script: Arc::default(), held: Arc::new(watch::channel(Vec::new()).0) }
    }

    pub fn add(&self, rule: Rule) {
        self.script.lock().rules.push((rule, 0));
    }

    /// Only call number `nth` (from 1) of this kind on matching paths fails.
    pub fn fail_nth(&self, call: Call, path_part: &str, nth: u64, fault: Fault) {
        self.add(Rule { call, path_part: path_part.into(), first: nth, times: 1, fault });
    }

    /// From now on every such call fails.
    pub fn fail_always(&self, call: Call, path_part: &str, fault: Fault) {
        let path_part = path_part.into();
        self.add(Rule { call, path_part, first: 1, times: u64::MAX, fault });
    }

    /// A device that stalls: `Create`, `Read` or `Sync` calls begin and do not come back until
    /// they are released.
    pub fn hold(&self, call: Call) {
        let mut held = self.held.get();
        held.push(call);
        self.held.send(held);
    }

    pub fn release(&self) {
        self.held.send(Vec::new());
    }

    /// Drops every rule and switch; counts are kept.
    pub fn heal(&self) {
        let mut script = self.script.lock();
        let counts = std::mem::take(&mut script.counts);
        let closes = std::mem::take(&mut script.closes);
        *script = Script { counts, closes, ..Script::default() };
    }

    /// While set, creating and writing find no space, also inside allocated files.
    pub fn set_no_space(&self, full: bool) {
        self.script.lock().no_space = full;
    }

    /// From now on the disk says that so much is free, and so much there in all. Units: bytes.
    pub fn set_space(&self, free: u64, all: u64) {
        self.script.lock().space = Some((free, all));
    }

    /// A lying disk: syncs succeed and do nothing.
    pub fn set_sync_is_noop(&self, noop: bool) {
        self.script.lock().sync_is_noop = noop;
    }

    /// Reads that touch `range` of matching files fail.
    pub fn set_unreadable(&self, path_part: &str, range: Range<u64>) {
        self.script.lock().unreadable.push((path_part.into(), range));
    }

    /// How many such calls were made on paths that contain `path_part`.
    pub fn count(&self, call: Call, path_part: &str) -> usize {
        let script = self.script.lock();
        script.counts.iter().filter(|(c, p)| *c == call && p.contains(path_part)).count()
    }

    /// The threads that closed files whose path contains `path_part`.
    pub fn closed_by(&self, path_part: &str) -> Vec<ThreadId> {
        let script = self.script.lock();
        let matching = script.closes.iter().filter(|(path, _)| path.contains(path_part));
        matching.map(|(_, thread)| *thread).collect()
    }

    /// All calls so far, in order.
    pub fn calls(&self) -> Vec<(Call, String)> {
        self.script.lock().counts.clone()
    }

    fn visit(&self, call: Call, path: &str) -> io::Result<()> {
        self.script.lock().visit(call, path)
    }

    fn wrap(&self, path: &str, inner: Arc<dyn File>) -> Arc<dyn File> {
        {
            let (script, held) = (self.script.clone(), self.held.clone());
            Arc::new(FaultyFile { inner, path: path.into(), script, held })
        }
    }
}

struct FaultyLock {
    _inner: Box<dyn LockGuard>,
    path: String,
    script: Arc<Mutex<Script>>,
}

impl LockGuard for FaultyLock {}
impl Drop for FaultyLock {
    fn drop(&mut self) {
        let _ = self.script.lock().visit(Call::Unlock, &self.path);
    }
}

impl Disk for FaultyDisk {
    fn open(&self, path: &str) -> io::Result<Arc<dyn File>> {
        self.visit(Call::Open, path)?;
        Ok(self.wrap(path, self.inner.open(path)?))
    }

    fn open_or_create(&self, path: &str) -> io::Result<Arc<dyn File>> {
        self.visit(Call::Open, path)?;
        Ok(self.wrap(path, self.inner.open_or_create(path)?))
    }

    fn create_whole(
        &self,
        path: &str,
        staging: &str,
        size: u64,
        fill: Fill,
    ) -> BoxFuture<'static, io::Result<Arc<dyn File>>> {
        let allowed = self.visit(Call::Create, path);
        let made = self.inner.create_whole(path, staging, size, fill);
        let (disk, path) = (self.clone(), path.to_owned());
        Box::pin(async move {
            allowed?;
            until_released(&disk.held, Call::Create).await;
            Ok(disk.wrap(&path, made.await?))
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.visit(Call::Rename, to)?;
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.visit(Call::Remove, path)?;
        self.inner.remove(path)
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        self.visit(Call::Remove, path)?;
        self.inner.remove_dir(path)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        self.visit(Call::List, dir)?;
        self.inner.list(dir)
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        self.visit(Call::Create, dir)?;
        self.inner.make_dir(dir)
    }

    fn sync_dir(&self, dir: &str) -> BoxFuture<'static, io::Result<()>> {
        if let Err(e) = self.visit(Call::SyncDir, dir) {
            return Box::pin(async move { Err(e) });
        }
        if self.script.lock().sync_is_noop {
            return Box::pin(async { Ok(()) });
        }
        self.inner.sync_dir(dir)
    }

    fn lock(&self, path: &str) -> io::Result<Box<dyn LockGuard>> {
        self.visit(Call::Open, path)?;
        let (inner, script) = (self.inner.lock(path)?, self.script.clone());
        Ok(Box::new(FaultyLock { _inner: inner, path: path.to_owned(), script }))
    }

    fn free_space(&self, dir: &str) -> io::Result<(u64, u64)> {
        let (no_space, scripted) = {
            let script = self.script.lock();
            (script.no_space, script.space)
        };
        let (free, all) = scripted.map_or_else(|| self.inner.free_space(dir), Ok)?;
        Ok((if no_space { 0 } else { free }, all))
    }
}

struct FaultyFile {
    inner: Arc<dyn File>,
    path: String,
    script: Arc<Mutex<Script>>,
    held: Arc<watch::Sender<Vec<Call>>>,
}

async fn until_released(held: &watch::Sender<Vec<Call>>, call: Call) {
    held.subscribe().until(|held| !held.contains(&call)).await;
}

impl Drop for FaultyFile {
    fn drop(&mut self) {
        let closed = (self.path.clone(), std::thread::current().id());
        self.script.lock().closes.push(closed);
    }
}

impl FaultyFile {
    fn may_read(&self, offset: u64, len: usize) -> io::Result<()> {
        let mut script = self.script.lock();
        script.visit(Call::Read, &self.path)?;
        let end = offset.saturating_add(len as u64);
        let hit = script.unreadable.iter().any(|(part, range)| {
            self.path.contains(part.as_str()) && offset < range.end && range.start < end
        });
        let place = || format!("{}: {len} bytes at {offset}", self.path);
        if hit { Err(Fault::Broken.error(&place())) } else { Ok(()) }
    }
}

impl File for FaultyFile {
    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }

    fn modified_ms(&self) -> io::Result<i64> {
        self.inner.modified_ms()
    }

    fn set_modified_ms(&self, at: i64) -> io::Result<()> {
        self.inner.set_modified_ms(at)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.script.lock().visit(Call::Write, &self.path)?;
        self.inner.write_at(offset, data)
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.may_read(offset, len)?;
        self.inner.read_at(offset, len)
    }

    fn read(&self, offset: u64, len: usize) -> BoxFuture<'static, io::Result<Bytes>> {
        if let Err(e) = self.may_read(offset, len) {
            return Box::pin(async move { Err(e) });
        }
        let (held, read) = (self.held.clone(), self.inner.read(offset, len));
        Box::pin(async move {
            until_released(&held, Call::Read).await;
            read.await
        })
    }

    fn read_now(&self, offset: u64, len: usize) -> Option<Bytes> {
        if self.script.lock().reads_may_fail() || self.held.get().contains(&Call::Read) {
            return None;
        }
        self.inner.read_now(offset, len)
    }

    fn view(&self, offset: u64, len: usize) -> BoxFuture<'static, io::Result<Bytes>> {
        if let Err(e) = self.may_read(offset, len) {
            return Box::pin(async move { Err(e) });
        }
        let (held, view) = (self.held.clone(), self.inner.view(offset, len));
        Box::pin(async move {
            until_released(&held, Call::Read).await;
            view.await
        })
    }

    fn view_now(&self, offset: u64, len: usize) -> Option<Bytes> {
        if self.script.lock().reads_may_fail() || self.held.get().contains(&Call::Read) {
            return None;
        }
        self.inner.view_now(offset, len)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        self.inner.next_data(offset)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.script.lock().visit(Call::Write, &self.path)?;
        self.inner.set_size(size)
    }

    fn sync_data(&self) -> BoxFuture<'static, io::Result<()>> {
        let mut script = self.script.lock();
        if let Err(e) = script.visit(Call::Sync, &self.path) {
            return Box::pin(async move { Err(e) });
        }
        if script.sync_is_noop {
            return Box::pin(async { Ok(()) });
        }
        let (held, sync) = (self.held.clone(), self.inner.sync_data());
        Box::pin(async move {
            until_released(&held, Call::Sync).await;
            sync.await
        })
    }

    fn start_writeback(&self, offset: u64, len: u64) {
        self.inner.start_writeback(offset, len);
    }

    fn forget(&self, offset: u64, len: u64) {
        self.inner.forget(offset, len);
    }
}
