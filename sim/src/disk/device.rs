//! The disk as a running process sees it, and the levers the world pulls.

use super::platter::{Inode, Platter, Removed, Snapshot, broken};
use super::views::View;
use super::{Habits, PowerCut, Rates};
use crate::trace;
use hotfire::disk::{BoxFuture, Disk, Entry, File, Fill, LockGuard, parent};
use hotfire::rt::fault::point;
use hotfire::rt::rng::Rng;
use hotfire::rt::sim::mark;
use hotfire::rt::sync::Mutex;
use hotfire::rt::time::{Clock, Duration};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) struct Shared {
    /// The machine's name, for the trace.
    machine: String,
    clock: Clock,
    pub platter: Mutex<Platter>,
}

/// One machine's disk. Cloning shares it.
#[derive(Clone)]
pub struct SimDisk(Arc<Shared>);

impl SimDisk {
    pub fn new(machine: &str, clock: Clock, rng: Rng, habits: Habits) -> Self {
        let platter = Mutex::new(Platter::new(rng, habits));
        SimDisk(Arc::new(Shared { machine: machine.into(), clock, platter }))
    }

    /// What a process that starts now sees; it goes dead with the next crash.
    pub fn process(&self) -> Arc<dyn Disk> {
        let epoch = self.0.platter.lock().epoch;
        Arc::new(Process { shared: self.0.clone(), epoch, changes: Arc::default() })
    }

    /// Like `process`, and counts what it changes: bytes, lengths and names, but not the making
    /// of directories that are there or the opening of files.
    pub fn watched_process(&self) -> (Arc<dyn Disk>, Arc<AtomicU64>) {
        let epoch = self.0.platter.lock().epoch;
        let changes = Arc::new(AtomicU64::new(0));
        let process = Process { shared: self.0.clone(), epoch, changes: changes.clone() };
        (Arc::new(process), changes)
    }

    pub fn process_crash(&self) {
        self.0.platter.lock().process_crash();
    }

    pub fn power_loss(&self) -> PowerCut {
        let cut = self.0.platter.lock().power_loss();
        let (dropped, names) = (cut.sectors_dropped, cut.names_lost);
        self.0.note(format_args!(
            "power lost: {dropped} sectors dropped, {} kept, {names} names lost {}",
            cut.sectors_kept,
            cut.examples.join(", ")
        ));
        cut
    }

    pub fn set_rates(&self, rates: Rates) {
        let mut platter = self.0.platter.lock();
        (platter.rates, platter.next_sync_fails) = (rates, false);
    }

    /// The next sync of a file fails.
    pub fn fail_next_sync(&self) {
        self.0.platter.lock().next_sync_fails = true;
    }

    /// Calls that need the device do not come back before that is over.
    pub fn stall(&self, time: Duration) {
        let until = trace::now_us() + time.as_micros() as u64;
        let mut platter = self.0.platter.lock();
        platter.stalled_until_us = platter.stalled_until_us.max(until);
    }

    /// Files that processes removed since the last call.
    pub fn take_removed(&self) -> Vec<Removed> {
        std::mem::take(&mut self.0.platter.lock().removed)
    }

    /// From now on only `spare` more bytes can be allocated.
    pub fn leave_space(&self, spare: u64) {
        let mut platter = self.0.platter.lock();
        platter.habits.capacity = platter.used() + spare;
    }

    pub fn give_space(&self) {
        self.0.platter.lock().habits.capacity = Habits::default().capacity;
    }

    /// Syncs take so many times as long as usual.
    pub fn set_slow(&self, times: u64) {
        self.0.platter.lock().slow = times;
    }

    /// From now on the bytes of one file cannot be read; `None` heals it.
    pub fn set_bad(&self, bad: Option<(String, std::ops::Range<usize>)>) {
        self.0.platter.lock().bad = bad;
    }

    /// Whether reading may fail: always when errors are drawn, else where the bad bytes are.
    pub fn may_fail_at(&self, path: &str, bytes: std::ops::Range<usize>) -> bool {
        let platter = self.0.platter.lock();
        let is_bad = platter.bad.as_ref().is_some_and(|(file, bad)| {
            file == path && bytes.start < bad.end && bad.start < bytes.end
        });
        platter.rates.read > 0.0 || is_bad
    }

    /// What went against the promise of a view, if anything did.
    pub fn broken_view(&self) -> Option<String> {
        self.0.platter.lock().views.broken()
    }

    /// A directory that was there before the machine was switched on.
    pub fn furnish(&self, dir: &str) {
        self.0.platter.lock().furnish(dir);
    }

    /// A bit flips at rest. False when the file has no such byte.
    pub fn rot(&self, path: &str, at: usize, bit: u8) -> bool {
        self.0.platter.lock().rot(path, at, bit)
    }

    /// Bytes change behind the system's back.
    pub fn deface(&self, path: &str, at: usize, bytes: &[u8]) {
        self.0.platter.lock().deface(path, at, bytes);
    }

    /// A file is there that nobody made.
    pub fn plant(&self, path: &str, bytes: &[u8]) {
        self.0.platter.lock().plant(path, bytes);
    }

    /// A file, or every file below a directory, is gone for good.
    pub fn erase_tree(&self, path: &str) {
        let mut platter = self.0.platter.lock();
        let below = format!("{path}/");
        for file in platter.all_files() {
            if file == path || file.starts_with(&below) {
                platter.erase(&file);
            }
        }
    }

    /// A file as a process would read it now; for oracles.
    pub fn peek(&self, path: &str) -> Option<Vec<u8>> {
        self.0.platter.lock().peek(path)
    }

    /// A file as a power loss of everything unsynced would leave it; for oracles.
    pub fn peek_durable(&self, path: &str) -> Option<Vec<u8>> {
        self.0.platter.lock().peek_durable(path)
    }

    /// Every file of the machine, sorted; for oracles.
    pub fn files(&self) -> Vec<String> {
        self.0.platter.lock().files()
    }

    /// Removes a file or everything below a directory, as an operator would.
    pub fn delete_tree(&self, path: &str) {
        let mut platter = self.0.platter.lock();
        let below = format!("{path}/");
        for file in platter.files() {
            if file == path || file.starts_with(&below) {
                let _ = platter.remove(&file);
            }
        }
    }
}

impl Shared {
    fn note(&self, what: std::fmt::Arguments<'_>) {
        trace::event(&self.machine, what);
    }

    fn now_ms(&self) -> i64 {
        self.clock.wall().0
    }

    /// Runs one call of a process, unless the process is dead.
    fn call<T>(
        &self,
        epoch: u64,
        work: impl FnOnce(&mut Platter) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut platter = self.platter.lock();
        if platter.epoch != epoch {
            return Err(io::Error::other("this process is dead"));
        }
        work(&mut platter)
    }

    async fn device_time(&self) {
        let us = {
            let mut platter = self.platter.lock();
            let (from, to) = platter.habits.sync_us;
            let stalled = platter.stalled_until_us.saturating_sub(trace::now_us());
            (platter.rng.between(from, to) * platter.slow).max(stalled)
        };
        self.clock.sleep_until(self.clock.mono() + Duration::from_micros(us)).await;
    }
}

struct Process {
    shared: Arc<Shared>,
    epoch: u64,
    /// Counts what this process changes.
    changes: Arc<AtomicU64>,
}

impl Process {
    fn call<T>(&self, work: impl FnOnce(&mut Platter) -> io::Result<T>) -> io::Result<T> {
        self.shared.call(self.epoch, work)
    }

    fn change<T>(&self, work: impl FnOnce(&mut Platter) -> io::Result<T>) -> io::Result<T> {
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.call(work)
    }

    fn handle(&self, path: &str, node: Inode) -> Arc<dyn File> {
        let handle = Handle {
            shared: self.shared.clone(),
            epoch: self.epoch,
            changes: self.changes.clone(),
            path: path.into(),
            node,
        };
        Arc::new(SimFile(Arc::new(handle)))
    }
}

impl Disk for Process {
    fn open(&self, path: &str) -> io::Result<Arc<dyn File>> {
        let node = self.call(|p| {
            let node = p.lookup(path)?;
            p.hold(node);
            Ok(node)
        })?;
        Ok(self.handle(path, node))
    }

    fn open_or_create(&self, path: &str) -> io::Result<Arc<dyn File>> {
        let now_ms = self.shared.now_ms();
        let node = self.call(|p| {
            let node = if p.exists(path) { p.lookup(path)? } else { p.create(path, 0, now_ms)? };
            p.hold(node);
            Ok(node)
        })?;
        Ok(self.handle(path, node))
    }

    fn create_whole(
        &self,
        path: &str,
        staging: &str,
        size: u64,
        fill: Fill,
    ) -> BoxFuture<'static, io::Result<Arc<dyn File>>> {
        let process = Process {
            shared: self.shared.clone(),
            epoch: self.epoch,
            changes: self.changes.clone(),
        };
        let (path, staging) = (path.to_owned(), staging.to_owned());
        Box::pin(async move { process.create_whole_steps(&path, &staging, size, fill).await })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|p| p.rename(from, to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.change(|p| {
            p.note_removal(path, trace::now_us());
            p.remove(path)
        })
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        self.change(|p| p.remove_dir(path))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        self.call(|p| p.list(dir))
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        self.call(|p| p.make_dir(dir))
    }

    fn sync_dir(&self, dir: &str) -> BoxFuture<'static, io::Result<()>> {
        let (shared, epoch, dir) = (self.shared.clone(), self.epoch, dir.to_owned());
        Box::pin(async move { sync_dir(&shared, epoch, &dir).await })
    }

    fn lock(&self, path: &str) -> io::Result<Box<dyn LockGuard>> {
        let now_ms = self.shared.now_ms();
        let id = self.call(|p| {
            if !p.exists(path) {
                p.create(path, 0, now_ms)?;
            }
            let id = p.next_id();
            p.take_lock(path, id)?;
            Ok(id)
        })?;
        Ok(Box::new(SimLock { shared: self.shared.clone(), path: path.into(), id }))
    }

    fn free_space(&self, _dir: &str) -> io::Result<(u64, u64)> {
        self.call(|p| {
            let all = p.habits.capacity;
            Ok((all.saturating_sub(p.used()), all))
        })
    }
}

impl Process {
    /// The steps of `RealDisk`: a crash may fall between any two of them.
    async fn create_whole_steps(
        &self,
        path: &str,
        staging: &str,
        size: u64,
        fill: Fill,
    ) -> io::Result<Arc<dyn File>> {
        let taken = || io::Error::new(io::ErrorKind::AlreadyExists, format!("{path}: taken"));
        let now_ms = self.shared.now_ms();
        let size = usize::try_from(size).map_err(io::Error::other)?;
        let staged = self.change(|p| {
            if p.exists(path) {
                return Err(taken());
            }
            let name = path.rsplit('/').next().unwrap_or(path);
            let staged = format!("{staging}/{name}.{}.new", p.next_id());
            let node = p.create(&staged, size, now_ms)?;
            if fill != Fill::Sparse
                && let Err(e) = p.allocate(path, node, 0, size)
            {
                p.remove(&staged)?;
                return Err(e);
            }
            Ok(staged)
        })?;
        let file = self.open(&staged)?;
        point("disk: file staged").await;
        let done = async {
            file.sync_data().await?;
            point("disk: file synced").await;
            self.call(|p| if p.exists(path) { Err(taken()) } else { p.rename(&staged, path) })?;
            point("disk: file named").await;
            let mut synced = sync_dir(&self.shared, self.epoch, parent(path)).await;
            if synced.is_ok() {
                synced = sync_dir(&self.shared, self.epoch, staging).await;
            }
            if synced.is_err() {
                self.call(|p| p.remove(path))?;
            }
            synced
        };
        match done.await {
            Ok(()) => {
                point("disk: file's name synced").await;
                self.shared.note(format_args!("new file {path} of {size}"));
                self.open(path)
            }
            Err(e) => {
                let _ = self.call(|p| p.remove(&staged));
                Err(e)
            }
        }
    }
}

async fn sync_dir(shared: &Shared, epoch: u64, dir: &str) -> io::Result<()> {
    let until = shared.call(epoch, |p| {
        p.list(dir)?;
        Ok(p.names_until())
    })?;
    shared.device_time().await;
    shared.call(epoch, |p| {
        if p.rates.sync > 0.0 && p.rng.chance(p.rates.sync) {
            mark("disk: directory sync failed");
            return Err(broken(dir));
        }
        p.finish_sync_dir(dir, until);
        Ok(())
    })
}

struct SimLock {
    shared: Arc<Shared>,
    path: String,
    id: u64,
}

impl LockGuard for SimLock {}
impl Drop for SimLock {
    fn drop(&mut self) {
        self.shared.platter.lock().release_lock(&self.path, self.id);
    }
}

/// One open file description.
struct Handle {
    shared: Arc<Shared>,
    epoch: u64,
    changes: Arc<AtomicU64>,
    path: String,
    node: Inode,
}

impl Handle {
    fn call<T>(&self, work: impl FnOnce(&mut Platter) -> io::Result<T>) -> io::Result<T> {
        self.shared.call(self.epoch, work)
    }

    fn may_fail(&self) -> bool {
        self.call(|p| Ok(p.rates.read > 0.0 || p.bad.is_some())).unwrap_or(true)
    }

    async fn sync_from(&self, taken: Snapshot) -> io::Result<()> {
        self.shared.device_time().await;
        let done = self.call(|p| p.finish_sync(&self.path, self.node, taken));
        match &done {
            Ok(()) => self.shared.note(format_args!("synced {}", self.path)),
            Err(e) => self.shared.note(format_args!("sync of {} failed: {e}", self.path)),
        }
        done
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // A dead process's handles were closed by the crash.
        let _ = self.call(|p| {
            p.let_go(self.node);
            Ok(())
        });
    }
}

struct SimFile(Arc<Handle>);

impl SimFile {
    /// Makes bytes just read a view of where they were read.
    fn see(&self, offset: u64, bytes: bytes::Bytes) -> io::Result<bytes::Bytes> {
        let h = &*self.0;
        if !h.call(|p| Ok(p.habits.views))? {
            return Ok(bytes);
        }
        let view = View::new(&h.shared, h.node, offset as usize, bytes.to_vec());
        Ok(bytes::Bytes::from_owner(view))
    }
}

impl File for SimFile {
    fn size(&self) -> io::Result<u64> {
        self.0.call(|p| Ok(p.size(self.0.node) as u64))
    }

    fn modified_ms(&self) -> io::Result<i64> {
        self.0.call(|p| Ok(p.modified_ms(self.0.node)))
    }

    fn set_modified_ms(&self, at: i64) -> io::Result<()> {
        self.0.call(|p| {
            p.set_modified_ms(self.0.node, at);
            Ok(())
        })
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let h = &*self.0;
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        let now_ms = h.shared.now_ms();
        h.changes.fetch_add(1, Ordering::Relaxed);
        let done = h.call(|p| {
            p.stamp(h.node, trace::now_us());
            p.write(&h.path, h.node, at, data, now_ms)
        });
        match &done {
            Ok(()) => {
                h.shared.note(format_args!("wrote {} at {offset} of {}", data.len(), h.path));
            }
            Err(e) => h.shared.note(format_args!("write at {offset} of {} failed: {e}", h.path)),
        }
        done
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<bytes::Bytes> {
        let h = &*self.0;
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        Ok(h.call(|p| p.read(&h.path, h.node, at, len))?.into())
    }

    fn read(&self, offset: u64, len: usize) -> BoxFuture<'static, io::Result<bytes::Bytes>> {
        let file = SimFile(self.0.clone());
        Box::pin(async move {
            // Another thread of the pool does it: others run first.
            hotfire::rt::task::yield_now().await;
            file.read_at(offset, len)
        })
    }

    fn read_now(&self, offset: u64, len: usize) -> Option<bytes::Bytes> {
        let h = &*self.0;
        let is_cached = h.call(|p| Ok(p.rng.chance(0.5))).unwrap_or(false);
        if !is_cached || h.may_fail() {
            return None;
        }
        self.read_at(offset, len).ok()
    }

    fn view(&self, offset: u64, len: usize) -> BoxFuture<'static, io::Result<bytes::Bytes>> {
        let file = SimFile(self.0.clone());
        Box::pin(async move {
            hotfire::rt::task::yield_now().await;
            file.see(offset, file.read_at(offset, len)?)
        })
    }

    fn view_now(&self, offset: u64, len: usize) -> Option<bytes::Bytes> {
        self.see(offset, self.read_now(offset, len)?).ok()
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let h = &*self.0;
        let size = usize::try_from(size).map_err(io::Error::other)?;
        let now_ms = h.shared.now_ms();
        h.changes.fetch_add(1, Ordering::Relaxed);
        h.shared.note(format_args!("set size of {} to {size}", h.path));
        h.call(|p| {
            p.set_size(h.node, size, now_ms);
            Ok(())
        })
    }

    fn sync_data(&self) -> BoxFuture<'static, io::Result<()>> {
        let handle = self.0.clone();
        // The promise is about the writes before this call, and may cover no more than those.
        let taken = handle.call(|p| Ok(p.start_sync(handle.node)));
        Box::pin(async move { handle.sync_from(taken?).await })
    }

    fn start_writeback(&self, offset: u64, len: u64) {
        let h = &*self.0;
        let _ = h.call(|p| {
            p.hint_writeback(h.node, offset as usize, offset.saturating_add(len) as usize);
            Ok(())
        });
    }
}
