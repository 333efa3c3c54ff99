//! The handle of a store, and how one is opened.

use super::append::{Append, AppendError, Appended, BatchMember};
use super::error::{Error, RecoveryReport};
use super::events::{Stats, StoreEvents};
use super::index::Index;
use super::intake::{Intake, IntakeError};
use super::open_files::OpenFiles;
use super::options::Options;
use super::query::{Queried, Query};
use super::read::{ColdRead, QueueSlice, Read, ReadLimits};
use super::replicas::SlaveReport;
use super::scrub::FoundRot;
use super::select::select;
use super::shared::{Shared, bounds_of};
use super::tail_cache::Joined;
use super::task::index_writer::{IndexWriter, Recovered};
use super::task::log_writer::LogWriter;
use super::task::queue_writer::QueueWriter;
use super::task::raw::RawLog;
use super::task::recover::cut_progress::CutProgress;
use super::task::retention::Retainer;
use super::task::shutdown::Abort;
use super::task::{
    StoreStop, cold_read, delete, epochs, floor_writer, query, raw, recover, scrub, search,
    shutdown, zero_fill,
};
use crate::disk::{Disk, LockGuard};
use crate::format::consume_queue_unit::QueueUnit;
use crate::format::epochs::Epochs;
use crate::model::{PhysicalOffset, QueueKey, QueueOffset, WallMillis};
use crate::rt::sync::{Mutex, Notify, Semaphore, watch};
use crate::rt::task::{TaskGroup, yield_now};
use crate::rt::time::Clock;
use bytes::Bytes;
use std::io;
use std::sync::Arc;

/// One turn takes in no more of a master's log, so that others have theirs: what a slave reads at
/// once, and what it had of a record before. Units: bytes.
const INTAKE_SIZE_MAX: u64 = 320 << 10;

/// The message store of one broker. Cloning is cheap.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    /// Stops the store's tasks; dropping the last handle does too.
    own: TaskGroup,
}

impl Store {
    /// Locks the directory before looking into it, makes it right, and starts the store's tasks.
    /// Durable: on return everything up to the log's end is on disk, and the rest of its file is
    /// zero there.
    /// Errors: `Locked` names the holder and nothing was touched; `Foreign` names a file that
    /// should not be there or has the wrong length, and nothing was overwritten.
    pub async fn open(
        disk: Arc<dyn Disk>,
        clock: Clock,
        group: &TaskGroup,
        options: Options,
        events: Arc<dyn StoreEvents>,
    ) -> Result<(Store, RecoveryReport), Error> {
        options.check().map_err(Error::Options)?;
        let lock = recover::lock(&*disk, &options).await?;
        let (state, report) = recover::recover(&disk, &clock, &options).await?;
        let end = state.log.end();
        let open_files_max = options.open_files_max;
        let is_new = state.segments.end() == 0;
        let index = Mutex::new(Index::new(options.index_shape()));
        let recovered = Recovered { unclean: report.unclean, end };
        let epochs = Mutex::new(epochs::read(&*disk, &options));
        let shared = Arc::new(Shared {
            disk,
            clock,
            options,
            events,
            state: Mutex::new(state),
            queue_files: Mutex::new(OpenFiles::new(open_files_max)),
            log_work: Notify::new(),
            queue_work: Notify::new(),
            floor_work: Notify::new(),
            retention_work: Notify::new(),
            epochs,
            index,
            index_files: Mutex::new(OpenFiles::new(open_files_max)),
            index_work: Notify::new(),
            index_moved: Notify::new(),
            log_synced: Notify::new(),
            log_moved: Notify::new(),
            queue_dirs: Semaphore::new(1),
            ended: watch::channel(0).0,
            lock: Mutex::new(Some(lock)),
        });
        let store = Store { shared: shared.clone(), own: TaskGroup::new() };
        let stop = || StoreStop { own: store.own.stop_signal(), group: group.stop_signal() };
        let mut index_writer = IndexWriter::new(shared.clone(), recovered);
        index_writer.first_look().await;
        group.spawn(ending(shared.clone(), LogWriter::new(shared.clone(), end).run(stop())));
        group.spawn(ending(shared.clone(), QueueWriter::new(shared.clone()).run(stop())));
        group.spawn(ending(shared.clone(), index_writer.run(stop())));
        group.spawn(ending(shared.clone(), floor_writer::run(shared.clone(), stop())));
        group.spawn(ending(shared.clone(), Retainer::new(shared.clone()).run(stop())));
        group.spawn(ending(shared.clone(), scrub::run(shared.clone(), stop())));
        group.spawn(ending(shared.clone(), zero_fill::run(shared.clone(), stop(), is_new)));
        Ok((store, report))
    }

    /// Takes a message into the log. Its place is assigned at once; nothing waits here.
    /// Durable: nothing yet. The outcome comes through `StoreEvents::on_outcomes`, exactly once.
    pub fn append(&self, append: &Append<'_>) -> Result<Appended, AppendError> {
        let now = self.shared.clock.wall();
        let taken = self.shared.state.lock().append(&self.shared.options, append, now);
        self.wake(taken)
    }

    /// Takes the members of a batch, contiguous in one segment, with one outcome for all. Body,
    /// properties, flag and tags code of `shared` are not looked at. `places` gets the physical
    /// offset of each.
    pub fn append_batch(
        &self,
        shared: &Append<'_>,
        members: &[BatchMember<'_>],
        places: &mut Vec<PhysicalOffset>,
    ) -> Result<Appended, AppendError> {
        let (now, options) = (self.shared.clock.wall(), &self.shared.options);
        let mut state = self.shared.state.lock();
        let taken = state.append_batch(options, shared, members, now, places);
        drop(state);
        self.wake(taken)
    }

    /// Takes several messages, of whatever queues, in this order: they lie in a row in one segment,
    /// and none is taken unless all are. The outcome is one, as wait and ticket of the last say; a
    /// crash keeps a prefix of them.
    pub fn append_all(&self, appends: &[Append<'_>]) -> Result<Vec<Appended>, AppendError> {
        let now = self.shared.clock.wall();
        let taken = self.shared.state.lock().append_all(&self.shared.options, appends, now);
        self.wake(taken)
    }

    fn wake<T>(&self, taken: Result<T, AppendError>) -> Result<T, AppendError> {
        if let Err(AppendError::NoSpace { .. }) = taken {
            self.shared.state.lock().segment_asked = true;
        }
        self.shared.log_work.notify_one();
        taken
    }

    /// What the slaves have, under SYNC_MASTER; without it nothing comes of it.
    pub fn on_slaves(&self, report: SlaveReport) {
        self.shared.state.lock().slave_report = Some(report);
        self.shared.log_work.notify_one();
    }

    /// At most `size_max` bytes of what is written, from `at` on, whether it is visible or not.
    pub async fn raw_log(&self, at: PhysicalOffset, size_max: usize) -> io::Result<RawLog> {
        raw::read(&self.shared, at.0, size_max).await
    }

    /// Takes all whole units of a master's log that were fed to `intake`.
    /// Durable: nothing yet; `stats` says up to where the log is written and synced.
    /// Errors: what was fed and not taken is kept.
    pub async fn take_in(&self, intake: &mut Intake) -> Result<(), IntakeError> {
        loop {
            let before = intake.at();
            match self.take_in_some(intake) {
                Ok(()) if intake.at() == before => return Ok(()),
                Ok(()) => yield_now().await,
                Err(IntakeError::BeganAnew(key)) => {
                    crate::rt::probe!("store: a queue of the master began anew");
                    delete::queue(&self.shared, &key).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn take_in_some(&self, intake: &mut Intake) -> Result<(), IntakeError> {
        let taken = {
            let mut state = self.shared.state.lock();
            state.take_in(&self.shared.options, intake, INTAKE_SIZE_MAX)
        };
        if matches!(taken, Err(IntakeError::Append(AppendError::NoSpace { .. }))) {
            self.shared.state.lock().segment_asked = true;
        }
        self.shared.log_work.notify_one();
        taken
    }

    /// Takes in what a master sends from the log's end on.
    pub fn intake(&self) -> Intake {
        let end = self.shared.state.lock().log.end();
        Intake::new(self.shared.options.segment_size_bytes, PhysicalOffset(end))
    }

    /// An empty log begins at `at`, the start of a file, instead of at 0. Waits for ever when it is
    /// not empty. Errors: `Poisoned`.
    pub async fn begin_at(&self, at: PhysicalOffset) -> Result<(), Error> {
        self.shared.state.lock().begin_asked = Some(at.0);
        self.shared.log_work.notify_one();
        self.until(|stats| stats.end == at).await.map(|_| ())
    }

    /// Waits until `wanted` holds of the log: looked at whenever something was written, synced or
    /// rejected, and when the log begins elsewhere.
    /// Errors: `Poisoned`, for then nothing moves any more.
    pub async fn until(&self, wanted: impl Fn(&Stats) -> bool) -> Result<Stats, Error> {
        loop {
            let moved = self.shared.log_moved.notified();
            let mut moved = std::pin::pin!(moved);
            moved.as_mut().enable();
            let stats = self.stats();
            if wanted(&stats) {
                return Ok(stats);
            }
            if let Some(reason) = &self.shared.state.lock().poison {
                return Err(Error::Poisoned(reason.to_string()));
            }
            moved.await;
        }
    }

    /// Syncs what is written now, whatever the flush mode. Durable on return. Errors: `Poisoned`.
    pub async fn sync(&self) -> Result<(), Error> {
        let to = self.shared.state.lock().flush.demand_sync();
        self.shared.log_work.notify_one();
        self.until(|stats| stats.synced.0 >= to).await.map(|_| ())
    }

    /// Who wrote which part of the log.
    pub fn epochs(&self) -> Epochs {
        self.shared.epochs.lock().clone()
    }

    /// A master begins to write at the log's end. `id` is drawn anew for each; `is_heir`: it was a
    /// slave before. Durable on return.
    pub async fn begin_epoch(&self, id: u64, is_heir: bool) -> Result<(), Error> {
        let end = self.shared.state.lock().log.end();
        let mut next = self.epochs();
        next.begin(end, id, is_heir);
        epochs::write(&self.shared, next).await
    }

    /// A slave goes by its master's list. Durable on return.
    pub async fn adopt_epochs(&self, list: Epochs) -> Result<(), Error> {
        if *self.shared.epochs.lock() == list {
            return Ok(());
        }
        epochs::write(&self.shared, list).await
    }

    /// The next start cuts the log back to `at`, the end of a record. Durable on return: that it
    /// will.
    pub async fn cut_back_at_next_start(&self, at: PhysicalOffset) -> Result<(), Error> {
        let (disk, options) = (&*self.shared.disk, &self.shared.options);
        recover::cut_back::ask(disk, options, at).await.map_err(Error::io("write hotfire/cut_to"))
    }

    /// The newest record that is written, and the CRC-32 of its bytes. None when there is none.
    pub async fn last_checksum(&self) -> io::Result<Option<(PhysicalOffset, u32)>> {
        let (last, end) = {
            let state = self.shared.state.lock();
            (state.last_record(), state.flush.written())
        };
        let Some(at) = last else { return Ok(None) };
        let found = self.checksum_at(PhysicalOffset(at)).await?;
        Ok(found.filter(|_| at < end).map(|sum| (PhysicalOffset(at), sum)))
    }

    /// The CRC-32 of the record that begins at `at`; `None` when none does that is written.
    pub async fn checksum_at(&self, at: PhysicalOffset) -> io::Result<Option<u32>> {
        let written = self.shared.state.lock().flush.written();
        let bytes = search::record_below(&self.shared, at.0, written).await?;
        Ok(bytes.map(|bytes| crc32fast::hash(&bytes)))
    }

    /// Of what is cut off so much is kept. Units: bytes.
    pub fn cut_size_max(&self) -> u64 {
        self.shared.options.cut_size_max_bytes
    }

    /// Whether a file of the log can begin there.
    pub fn is_file_start(&self, at: PhysicalOffset) -> bool {
        at.0.is_multiple_of(self.shared.options.segment_size_bytes)
    }

    /// Where the file begins that is being written.
    pub fn last_file(&self) -> PhysicalOffset {
        let state = self.shared.state.lock();
        PhysicalOffset(state.segments.base_of(state.flush.written()).max(state.segments.first()))
    }

    /// Messages of a queue from `from` on whose tags code passes `filter`.
    pub fn read(
        &self,
        key: &QueueKey,
        from: QueueOffset,
        limits: &ReadLimits,
        filter: &dyn Fn(i64) -> bool,
    ) -> Read {
        let mut guard = self.shared.state.lock();
        let state = &mut *guard;
        let (slot, bounds) = bounds_of(state, key);
        if let Some(answer) = bounds.outside(from.0) {
            return Read::Ready(answer);
        }
        let queue = slot.and_then(|slot| state.queues.get(slot).map(|queue| (slot, queue)));
        let Some((slot, queue)) = queue else {
            return Read::Ready(bounds.empty(super::ReadStatus::NoMessageInQueue, 0));
        };
        state.cache.on_read();
        if from.0 >= queue.base() {
            let entries = queue.entries(from.0);
            let selected = select(&bounds, &self.shared.options, limits, from.0, entries, filter);
            let mut joined = Joined::default();
            let is_held = |unit: &QueueUnit| {
                joined.add(&state.cache, unit.physical_offset.0, unit.size as usize)
            };
            if selected.picked.iter().all(is_held) {
                return Read::Ready(cold_read::answer(&bounds, selected, joined.finish()));
            }
        }
        drop(guard);
        let cold = ColdRead::new(self.shared.clone(), key.clone(), slot, from.0, *limits);
        match cold.now(filter) {
            Some(answer) => Read::Ready(answer),
            None => Read::Cold(cold),
        }
    }

    /// The oldest offset that can be read; 0 for an unknown queue.
    pub fn min_offset(&self, key: &QueueKey) -> QueueOffset {
        QueueOffset(bounds_of(&self.shared.state.lock(), key).1.min)
    }
    /// One past the newest visible message; 0 for an unknown queue.
    pub fn max_offset(&self, key: &QueueKey) -> QueueOffset {
        QueueOffset(bounds_of(&self.shared.state.lock(), key).1.end)
    }
    /// Whether the message can be read only from disk: it is there and further from the log's end
    /// than memory holds. Source: #checkInDiskByConsumeOffset (4.9.3).
    pub async fn is_cold(&self, key: &QueueKey, offset: QueueOffset) -> io::Result<bool> {
        search::is_cold(&self.shared, key, offset.0).await
    }
    /// The queue offset whose store time is nearest to `at`; 0 for an unknown queue.
    /// Source: ConsumeQueue#getOffsetInQueueByTime (4.9.3).
    pub async fn search_by_time(&self, key: &QueueKey, at: WallMillis) -> io::Result<QueueOffset> {
        search::by_time(&self.shared, key, at).await.map(QueueOffset)
    }
    /// When the message was stored; `None` when it is not there.
    pub async fn store_time_of(
        &self,
        key: &QueueKey,
        offset: QueueOffset,
    ) -> io::Result<Option<WallMillis>> {
        search::store_time_of(&self.shared, key, offset.0).await
    }
    /// Visible entries of a queue from `from` on, at most `count`: those in memory, or those of
    /// one file. None when `from` lies outside of the queue.
    pub async fn slice(
        &self,
        key: &QueueKey,
        from: QueueOffset,
        count: usize,
    ) -> io::Result<QueueSlice> {
        search::slice(&self.shared, key, from.0, count).await
    }
    /// Whether a record of this append could be taken when there is room.
    pub fn fits(&self, append: &Append<'_>) -> Result<(), AppendError> {
        self.fit(std::slice::from_ref(append))
    }
    /// Whether `append_all` could take these when there is room.
    pub fn fit(&self, appends: &[Append<'_>]) -> Result<(), AppendError> {
        self.shared.state.lock().fit(&self.shared.options, appends).map(|_| ())
    }
    /// The record at a physical offset; `None` when no visible record begins there.
    pub async fn record_at(&self, at: PhysicalOffset) -> io::Result<Option<Bytes>> {
        search::record_at(&self.shared, at.0).await
    }
    /// The visible records of some entries of a queue, in their order; those that lie together are
    /// read together. `None` for one that is not where its entry says, and for a blank one.
    /// Errors: the device's; then each must be asked for by itself.
    pub async fn records_of(&self, units: &[QueueUnit]) -> io::Result<Vec<Option<Bytes>>> {
        let real = |unit: &&QueueUnit| !unit.is_blank() && !unit.is_empty();
        let wanted: Vec<QueueUnit> = units.iter().filter(real).copied().collect();
        let mut found = cold_read::each_record(&self.shared, &wanted).await?.into_iter();
        let record = |unit| real(&unit).then(|| found.next().flatten()).flatten();
        Ok(units.iter().map(record).collect())
    }
    /// The same from memory alone; `None` also when it must be read from disk.
    pub fn record_in_memory(&self, at: PhysicalOffset) -> Option<Bytes> {
        search::record_in_memory(&self.shared, at.0)
    }
    /// Where the newest record lies that was written or found by recovery.
    pub fn last_record(&self) -> Option<PhysicalOffset> {
        self.shared.state.lock().last_record().map(PhysicalOffset)
    }
    /// The newest messages that carry a key. What is visible now is indexed first, if that does not
    /// take long.
    pub async fn query(&self, query: &Query<'_>) -> io::Result<Queried> {
        query::by_key(&self.shared, query).await
    }
    /// Every queue with its min and max offset, in order of topic and queue.
    pub fn queues(&self) -> Vec<(QueueKey, QueueOffset, QueueOffset)> {
        self.shared.state.lock().queue_rows()
    }
    /// Forgets the queues of a topic, for good: recovery will not bring them back. Durable on
    /// return. Errors: `TimedOut` when the log is not written up to it within `syncFlushTimeout`.
    pub async fn delete_topic(&self, topic: &str) -> Result<(), Error> {
        delete::topic(&self.shared, topic, None).await.map(drop)
    }
    /// The same, unless a record of it lies at `at` or behind, or is under way. Returns whether it
    /// was done.
    pub async fn delete_topic_below(&self, topic: &str, at: PhysicalOffset) -> Result<bool, Error> {
        delete::topic(&self.shared, topic, Some(at)).await
    }
    /// What cuts took off the log since `forget_cut_progress` that was taken for done.
    pub fn cut_progress(&self) -> CutProgress {
        recover::cut_progress::load(&*self.shared.disk, &self.shared.options)
    }
    /// Whoever keeps progress has gone back by that, durably.
    pub fn forget_cut_progress(&self) -> io::Result<()> {
        recover::cut_progress::forget(&*self.shared.disk, &self.shared.options)
    }
    /// Messages of a topic that lie below were deleted with it; 0 when it never was.
    pub fn topic_floor(&self, topic: &str) -> PhysicalOffset {
        PhysicalOffset(self.shared.state.lock().topic_floors.of(topic))
    }
    /// Deletes expired files now, whatever the hour. Returns at once.
    /// Source: DefaultMessageStore#executeDeleteFilesManually (4.9.3).
    pub fn delete_expired(&self) {
        self.shared.state.lock().deletion_asked = true;
        self.shared.retention_work.notify_one();
    }
    /// From now on expiry, hours and levels of retention are these; its intervals stay as they
    /// were. Returns at once.
    pub fn set_retention(&self, rules: super::retention::Rules) {
        self.shared.state.lock().new_rules = Some(rules);
        self.shared.retention_work.notify_one();
    }
    /// Deletes queue files that are not needed any more, now. Returns at once.
    pub fn clean_queues(&self) {
        self.shared.state.lock().cleaning_asked = true;
        self.shared.retention_work.notify_one();
    }
    /// Rot in sealed commit log files, as far as the scrub has found it.
    pub fn rot(&self) -> Vec<FoundRot> {
        self.shared.state.lock().rot.clone()
    }
    pub fn stats(&self) -> Stats {
        let indexed = PhysicalOffset(self.shared.index.lock().cursor.at);
        Stats { indexed, ..self.shared.state.lock().stats() }
    }
    /// Stops in order: what was accepted is written and synced, queues and checkpoint too, then
    /// `abort` is removed. Durable on return: everything.
    pub async fn shutdown(&self) -> Result<(), Error> {
        self.close(Abort::Goes).await.1
    }
    /// The same for an owner with files of its own below the root: the directory is locked until
    /// what is returned is dropped.
    pub async fn close(&self, abort: Abort) -> (Option<Box<dyn LockGuard>>, Result<(), Error>) {
        self.own.stop();
        shutdown::run(&self.shared, TASK_COUNT, abort).await
    }
}

/// What a start found and did, on a disk that may keep its writes in memory.
#[derive(Debug)]
pub struct Rehearsal {
    pub report: RecoveryReport,
    /// Every queue with its min and max offset, in order of topic and queue.
    pub queues: Vec<(QueueKey, QueueOffset, QueueOffset)>,
}

/// Makes the directory right as `Store::open` does, and stops there: no lock is taken and nothing
/// runs. On a disk that writes through, the owner must hold the lock.
pub async fn rehearse(
    disk: &Arc<dyn Disk>,
    clock: &Clock,
    options: &Options,
) -> Result<Rehearsal, Error> {
    options.check().map_err(Error::Options)?;
    let (state, report) = recover::recover(disk, clock, options).await?;
    let queues = state.queue_rows();
    Ok(Rehearsal { report, queues })
}

/// Log writer, queue writer, index writer, floor writer, retainer, scrub, zero fill.
const TASK_COUNT: usize = 7;

async fn ending(shared: Arc<Shared>, work: impl Future<Output = ()> + Send) {
    work.await;
    shared.ended.send(shared.ended.get() + 1);
}
