//! Writes the log: takes what was appended, writes it, syncs it, allocates the next segment, and
//! tells who may be answered. The only task that writes commit log files.

use super::StoreStop;
use crate::disk::{BoxFuture, Disk, File, Fill};
use crate::rt::fault;
use crate::rt::task::yield_now;
use crate::rt::time::{Alarm, Mono};
use crate::store::allocate::{Allocation, Need};
use crate::store::append::{Outcome, Rejection, Ticket};
use crate::store::commit_log::Piece;
use crate::store::events::Arrival;
use crate::store::options::FlushMode;
use crate::store::shared::Shared;
use crate::store::stall::{Resource, Watch};
use std::io;
use std::sync::Arc;

/// One turn writes at most so much before other tasks run. Units: bytes.
const TURN_SIZE_MAX: usize = 1 << 20;

type Pending<T> = Option<BoxFuture<'static, io::Result<T>>>;

pub struct LogWriter {
    shared: Arc<Shared>,
    /// Files written since the sync before the last, oldest first; the last one is being written.
    dirty: Vec<(u64, Arc<dyn File>)>,
    sync: Pending<()>,
    segment: Pending<Arc<dyn File>>,
    allocation: Allocation,
    watch: Watch,
    /// Write-back was asked for up to here.
    writeback: u64,
    outcomes: Vec<(Ticket, Outcome)>,
    arrivals: Vec<Arrival>,
}

enum Event {
    Stop,
    Clock,
    Synced(io::Result<()>),
    Allocated(io::Result<Arc<dyn File>>),
    Work,
}

impl LogWriter {
    pub fn new(shared: Arc<Shared>, end: u64) -> Self {
        let retry_interval = shared.options.allocate_retry_interval;
        let watch = Watch::new(shared.options.stall_max);
        LogWriter {
            shared,
            dirty: Vec::new(),
            sync: None,
            segment: None,
            allocation: Allocation::new(retry_interval),
            watch,
            writeback: end,
            outcomes: Vec::new(),
            arrivals: Vec::new(),
        }
    }

    /// Runs until the store stops or is poisoned. At the stop everything accepted is written,
    /// synced and answered first.
    pub async fn run(mut self, mut stop: StoreStop) {
        if let Err(reason) = self.serve(&mut stop).await {
            self.poison(&reason);
        }
    }

    async fn serve(&mut self, stop: &mut StoreStop) -> Result<(), String> {
        let mut alarm = Alarm::new(&self.shared.clock);
        let mut stopping = false;
        loop {
            let more = self.turn().await?;
            if stopping && self.is_idle() {
                return Ok(());
            }
            if more {
                yield_now().await;
            }
            alarm.set(self.next_deadline());
            let work = async {
                if !more {
                    self.shared.log_work.notified().await
                }
            };
            let event = crate::rt::select! {
                _ = stop.wait(), if !stopping => Event::Stop,
                _ = alarm.ring() => Event::Clock,
                done = finished(&mut self.sync) => Event::Synced(done),
                made = finished(&mut self.segment) => Event::Allocated(made),
                _ = work => Event::Work,
            };
            match event {
                Event::Stop => {
                    stopping = true;
                    self.shared.state.lock().stopping = true;
                }
                Event::Clock => self.on_clock().await,
                Event::Synced(done) => self.on_synced(done).await?,
                Event::Allocated(made) => self.on_allocated(made).await,
                Event::Work => {}
            }
        }
    }

    /// Writes what can be written, and starts what is due. True when there is more to write.
    async fn turn(&mut self) -> Result<bool, String> {
        let now = self.shared.clock.mono();
        self.begin_elsewhere().await?;
        let (pieces, more) = self.take();
        let reported = self.take_slave_report();
        if !pieces.is_empty() {
            fault::point("store: appended").await;
            self.write(pieces).await?;
            self.tell(now).await;
            self.shared.events.on_log_moved();
        } else if reported {
            self.tell(now).await;
        }
        self.start_sync(now).await;
        self.start_allocation(now);
        self.look_for_stall();
        Ok(more)
    }

    fn take(&mut self) -> (Vec<Piece>, bool) {
        let mut state = self.shared.state.lock();
        let now = self.shared.clock.mono();
        state.log.cut();
        let end = state.log.end();
        state.flush.on_turn(now, end);
        let (limit, mut size, mut pieces) = (state.segments.end(), 0, Vec::new());
        while size < TURN_SIZE_MAX
            && let Some(piece) = state.log.take_below(limit)
        {
            size += piece.bytes.len();
            pieces.push(piece);
        }
        let more = state.log.has_pieces() && !state.log.waits_for(limit);
        (pieces, more)
    }

    fn take_slave_report(&mut self) -> bool {
        let mut state = self.shared.state.lock();
        let report = state.slave_report.take();
        if let Some(report) = report {
            state.flush.on_slaves(report, &mut self.outcomes);
        }
        report.is_some()
    }

    /// An empty log shall begin where a master's does.
    async fn begin_elsewhere(&mut self) -> Result<(), String> {
        if self.segment.is_some() || self.sync.is_some() {
            return Ok(()); // their end wakes this task again
        }
        let asked = self.shared.state.lock().begin_asked.take();
        let Some(at) = asked else { return Ok(()) };
        let made = {
            let mut state = self.shared.state.lock();
            if state.log.end() != 0 {
                return Ok(());
            }
            state.begin_at(at)
        };
        self.writeback = at;
        self.dirty.clear();
        if let Some(made) = made {
            let (disk, path) = (&self.shared.disk, &made.path);
            let removed = disk.remove(path);
            removed.map_err(|e| format!("failed to remove {path}, which holds nothing: {e}"))?;
            let synced = disk.sync_dir(crate::disk::parent(path)).await;
            synced.map_err(|e| format!("failed to remove {path} for good: {e}"))?;
        }
        fault::point("store: the log begins elsewhere").await;
        crate::rt::probe!("store: an empty log begins where its master's does");
        self.shared.log_synced.notify_one();
        self.shared.log_moved.notify_waiters();
        Ok(())
    }

    async fn write(&mut self, pieces: Vec<Piece>) -> Result<(), String> {
        for piece in pieces {
            let (base, file) = self.file_of(piece.at)?;
            let offset = piece.at - base;
            let began = self.shared.clock.mono();
            file.write_at(offset, &piece.bytes).map_err(|e| format!("failed to write: {e}"))?;
            self.watch.on_write(began, self.shared.clock.mono());
            if self.shared.options.flush == FlushMode::Async {
                self.ask_for_writeback(&piece, base, &file);
            }
            self.shared.state.lock().on_piece_written(piece, &mut self.outcomes);
        }
        fault::point("store: written").await;
        Ok(())
    }

    /// The file is held until a sync has covered it: its errors must be seen.
    fn file_of(&mut self, at: u64) -> Result<(u64, Arc<dyn File>), String> {
        let mut state = self.shared.state.lock();
        let base = state.segments.base_of(at);
        if let Some((dirty, file)) = self.dirty.last()
            && *dirty == base
        {
            return Ok((base, file.clone()));
        }
        let file = state.segments.file(&*self.shared.disk, at);
        let file = file.map_err(|e| format!("failed to open: {e}"))?;
        self.dirty.push((base, file.clone()));
        Ok((base, file))
    }

    fn ask_for_writeback(&mut self, piece: &Piece, base: u64, file: &Arc<dyn File>) {
        let from = self.writeback.max(base);
        let end = piece.at + piece.bytes.len() as u64;
        if end.saturating_sub(from) >= self.shared.options.writeback_size_bytes {
            file.start_writeback(from - base, end - from);
            self.writeback = end;
        }
    }

    /// Dispatches what became visible and hands outcomes and arrivals to the listener.
    async fn tell(&mut self, now: Mono) {
        let shared = &self.shared;
        let (due, index_due) = {
            let mut state = shared.state.lock();
            (state.dispatch(now, &mut self.arrivals), state.index_due())
        };
        if due {
            shared.queue_work.notify_one();
        }
        if index_due {
            shared.index_work.notify_one();
        }
        if !self.outcomes.is_empty() {
            fault::point("store: before ack").await;
            shared.events.on_outcomes(&mut self.outcomes);
            self.outcomes.clear();
            fault::point("store: after ack").await;
        }
        if !self.arrivals.is_empty() {
            shared.events.on_arrivals(&self.arrivals);
            self.arrivals.clear();
        }
        shared.log_moved.notify_waiters();
    }

    async fn start_sync(&mut self, now: Mono) {
        let watermark = {
            let mut state = self.shared.state.lock();
            // At the stop everything is synced, whatever the interval.
            let all = (state.stopping || state.sync_asked) && self.sync.is_none();
            let (written, synced) = (state.flush.written(), state.flush.synced());
            let wanted = state.flush.wanted(now).or((all && written > synced).then_some(written));
            if let Some(watermark) = wanted {
                state.flush.on_sync_started(watermark, now);
                state.sync_asked = false;
            }
            wanted
        };
        if watermark.is_none() {
            return;
        }
        // A rolled segment is synced before the one after it: the watermark may pass it.
        let files: Vec<_> = self.dirty.iter().map(|(_, file)| file.clone()).collect();
        if let Some(current) = self.dirty.pop() {
            self.dirty = vec![current];
        }
        if files.len() > 1 {
            crate::rt::probe!("store: synced over a segment border");
        }
        fault::point("store: before sync").await;
        self.sync = Some(Box::pin(async move {
            for file in files {
                file.sync_data().await?;
            }
            Ok(())
        }));
    }

    async fn on_synced(&mut self, done: io::Result<()>) -> Result<(), String> {
        self.sync = None;
        done.map_err(|e| format!("failed to sync: {e}"))?;
        fault::point("store: synced").await;
        self.shared.state.lock().flush.on_synced(&mut self.outcomes);
        self.shared.log_synced.notify_one();
        let (now, answered) = (self.shared.clock.mono(), self.outcomes.len());
        self.tell(now).await;
        self.shared.events.on_log_moved();
        self.shared.state.lock().flush.on_answered(now, answered);
        Ok(())
    }

    fn start_allocation(&mut self, now: Mono) {
        let shared = &self.shared;
        let mut state = shared.state.lock();
        let (end, size) = (state.segments.end(), state.segments.size());
        let need = Need {
            waiting: state.log.waits_for(end),
            ahead: !state.stopping && end.saturating_sub(state.log.end()) < size / 2,
            asked: std::mem::take(&mut state.segment_asked),
        };
        if (state.stopping && !need.waiting) || !self.allocation.start(now, need) {
            return;
        }
        // The first file is wanted at once; the others have time to be filled.
        let fill = match shared.options.flush {
            FlushMode::Sync if end > state.segments.first() => Fill::Zeroed,
            _ => Fill::Allocated,
        };
        if state.segments.writable_dirs() > 1 {
            let percent = shared.options.path_full_percent;
            state.segments.choose_next(|dir| is_full(&*shared.disk, dir, percent));
        }
        let (path, staging) = (state.segments.path(end), shared.options.staging_dir());
        self.segment = Some(shared.disk.create_whole(&path, &staging, size, fill));
    }

    async fn on_allocated(&mut self, made: io::Result<Arc<dyn File>>) {
        self.segment = None;
        let now = self.shared.clock.mono();
        match made {
            Ok(file) => {
                fault::point("store: segment created").await;
                self.allocation.on_made();
                let mut state = self.shared.state.lock();
                if std::mem::take(&mut state.no_space) {
                    tracing::info!("space is back: appends go on");
                    crate::rt::probe!("store: space came back");
                }
                state.segments.grow(file);
            }
            Err(error) => {
                let why = match error.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Rejection::NoSpace,
                    _ => Rejection::SegmentLate,
                };
                tracing::error!("failed to allocate the next commit log file: {error}");
                self.remove_leftover();
                self.allocation.on_failed(now);
                {
                    let mut state = self.shared.state.lock();
                    state.no_space = true;
                    self.shared.retention_work.notify_one();
                    let end = state.segments.end();
                    if state.log.waits_for(end) {
                        crate::rt::probe!("store: rejected suffix for no space");
                        state.reject_from(end, why, &mut self.outcomes);
                    }
                }
                self.tell(now).await;
            }
        }
    }

    /// The name may be there although making it failed, for its directory could not be synced.
    /// Nothing was written to it.
    fn remove_leftover(&self) {
        let state = self.shared.state.lock();
        let path = state.segments.path(state.segments.end());
        match self.shared.disk.remove(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => tracing::warn!("{e}"),
            _ => {}
        }
    }

    /// Appends are refused while the log cannot keep up.
    fn look_for_stall(&mut self) {
        let now = self.shared.clock.mono();
        let mut state = self.shared.state.lock();
        let resource = match () {
            () if state.log.waits_for(state.segments.end()) => Resource::NextFile,
            () if state.log.has_pieces() => Resource::Write,
            () => Resource::Sync,
        };
        let oldest = state.flush.waiting_since();
        let stall = self.watch.look(now, oldest, resource);
        match (stall, state.stall) {
            (Some(stall), None) => {
                crate::rt::probe!("store: appends are refused, the log is stalled");
                let (what, ms) = (stall.resource.name(), stall.waited_ms);
                tracing::warn!("appends are refused for a while: {what} has waited {ms} ms");
            }
            (None, Some(_)) => tracing::info!("appends go on: the log keeps up again"),
            _ => {}
        }
        (state.stall, state.longest_write) = (stall, self.watch.longest_write());
    }

    /// What waits for the next file cannot wait for ever: with fast failure it is refused.
    fn reject_stalled(&mut self) {
        self.look_for_stall();
        let mut state = self.shared.state.lock();
        let end = state.segments.end();
        if let Some(stall) = state.stall
            && self.shared.options.fast_failure
            && stall.resource == Resource::NextFile
            && state.log.waits_for(end)
        {
            crate::rt::probe!("store: rejected suffix for a stall");
            let count = state.flush.count_from(end);
            let why = Rejection::Stalled { stall, count };
            state.reject_from(end, why, &mut self.outcomes);
        }
    }

    async fn on_clock(&mut self) {
        self.reject_stalled();
        let now = self.shared.clock.mono();
        {
            let mut state = self.shared.state.lock();
            let late = state.flush.on_deadline(now, &mut self.outcomes);
            let end = state.segments.end();
            if late && state.log.waits_for(end) {
                crate::rt::probe!("store: rejected suffix for a late segment");
                state.reject_from(end, Rejection::SegmentLate, &mut self.outcomes);
            }
        }
        // Who waited too long for a slave is answered, and others see what it sent.
        self.tell(now).await;
    }

    fn next_deadline(&self) -> Option<Mono> {
        let state = self.shared.state.lock();
        let retry = self.allocation.next_deadline().filter(|_| !state.stopping);
        let now = self.shared.clock.mono();
        let stall = self.watch.next_deadline(now, state.flush.waiting_since());
        state.flush.next_deadline(now).into_iter().chain(retry).chain(stall).min()
    }

    fn is_idle(&self) -> bool {
        let state = self.shared.state.lock();
        let done = state.flush.written() == state.flush.synced();
        let done = done && !state.log.has_pieces() && !state.flush.waits_for_slave();
        done && self.sync.is_none() && self.segment.is_none()
    }

    fn poison(&mut self, reason: &str) {
        crate::rt::probe!("store: poisoned");
        tracing::error!("the commit log is poisoned: {reason}");
        self.shared.state.lock().on_poison(reason, &mut self.outcomes);
        self.shared.events.on_outcomes(&mut self.outcomes);
        self.shared.events.on_poison(reason);
        self.shared.log_moved.notify_waiters();
    }
}

/// Whether the disk that holds `dir` is fuller than `percent`; not, when it cannot be asked.
fn is_full(disk: &dyn Disk, dir: &str, percent: u64) -> bool {
    let space = disk.free_space(dir).ok().filter(|(_, all)| *all > 0);
    space.is_some_and(|(free, all)| (all - free.min(all)).saturating_mul(100) / all > percent)
}

/// The value of a call that is under way; never, when none is.
async fn finished<T>(pending: &mut Pending<T>) -> io::Result<T> {
    match pending {
        Some(call) => call.await,
        None => std::future::pending().await,
    }
}
