//! What the store can be told.

use super::log_paths::LogPaths;
use super::retention::Rules;
use crate::format::index_file::Shape;
use crate::rt::rng::Rng;
use crate::rt::time::Duration;

/// Source: FlushDiskType (4.9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushMode {
    Async,
    Sync,
}

/// When a record may be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// When its producer may be answered (ADR-0005).
    Ackable,
    /// When it is written, as in 4.9.
    Written,
}

/// SYNC_MASTER: when a slave is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replicate {
    /// `slaveTimeout`: how long a producer waits for a slave.
    pub timeout: Duration,
    /// `haSlaveFallbehindMax`: a slave that is further behind does not count. Units: bytes.
    pub fall_behind_max: u64,
}

/// How records that left the tail cache are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadMode {
    /// As views of the page cache, where the disk has them.
    Map,
    /// As copies.
    Pread,
}

/// Every bound of the store, with its unit.
#[derive(Clone, Debug)]
pub struct Options {
    /// `storePathRootDir`.
    pub root: String,
    /// `storePathCommitLog` and `readOnlyCommitLogStorePaths`; `<root>/commitlog` by default.
    pub commit_log: LogPaths,
    /// A directory whose disk is fuller than this gets no new log file while another is left.
    /// Source: DefaultMessageStore#diskSpaceCleanForciblyRatio. Units: percent.
    pub path_full_percent: u64,
    /// Says who holds the store, for the error that a second start prints.
    pub owner: String,
    pub flush: FlushMode,
    pub visibility: Visibility,
    /// Producers wait for a slave too.
    pub replicate: Option<Replicate>,
    /// `readMode`.
    pub read_mode: ReadMode,
    /// `mappedFileSizeCommitLog`. Units: bytes.
    pub segment_size_bytes: u64,
    /// `mappedFileSizeConsumeQueue`, in entries of 20 bytes. Units: entries of one file.
    pub queue_file_entries: u64,
    /// `maxMessageSize`, of the whole record as in 4.9.3. Units: bytes.
    pub record_size_max_bytes: usize,
    /// Appends are refused above this; about a second of a fast disk. Units: bytes.
    pub pending_size_max_bytes: usize,
    /// `syncFlushTimeout`: how long a producer waits for a sync.
    pub sync_flush_timeout: Duration,
    /// `flushIntervalCommitLog`: ASYNC_FLUSH syncs this often when enough pages are dirty.
    pub flush_interval: Duration,
    /// `flushCommitLogLeastPages`. Units: pages of 4096 bytes.
    pub flush_least_pages: u64,
    /// `flushCommitLogThoroughInterval`: ASYNC_FLUSH syncs at least this often.
    pub flush_thorough_interval: Duration,
    /// SYNC_FLUSH: a sync waits at most so long for producers who were just answered (`gather`).
    pub flush_gather_max: Duration,
    /// Write-back is asked for after so much was written. Units: bytes.
    pub writeback_size_bytes: u64,
    /// `osPageCacheBusyTimeOutMills`: appends are refused when one has waited so long for its write
    /// (SYNC_FLUSH: its sync).
    pub stall_max: Duration,
    /// `brokerFastFailureEnable`: what waits for the next file for so long is refused too.
    pub fast_failure: bool,
    /// How often allocation of a segment is tried again on a full disk.
    pub allocate_retry_interval: Duration,
    /// Units: bytes of recent records kept for readers.
    pub tail_cache_size_bytes: usize,
    /// The same while nobody reads messages. Appends then write to memory that the processor's
    /// cache still holds. Units: bytes; at most the other one counts.
    pub tail_cache_idle_size_bytes: usize,
    /// Pending records are encoded into blocks of this size. Units: bytes.
    pub block_size_bytes: usize,
    /// A queue's new entries are written when there are so many. Units: entries.
    pub queue_run_entries: usize,
    /// And otherwise this long after the first of them.
    pub queue_run_interval: Duration,
    /// Appends are refused when so many entries could not be written. Units: entries.
    pub queue_entries_unwritten_max: usize,
    /// Queue files are synced, snapshot and checkpoint written this often
    /// (`flushConsumeQueueThoroughInterval`).
    pub checkpoint_interval: Duration,
    /// The durable floor is written this often, or after so many bytes.
    pub floor_interval: Duration,
    pub floor_size_bytes: u64,
    /// Open files kept per kind: commit log, consume queues.
    pub open_files_max: usize,
    /// Units: queues. A queue id is below this too.
    pub queues_max: usize,
    /// Units: entries looked at by one read.
    pub read_scan_max: usize,
    /// `maxTransferCountOnMessageInMemory` and `maxTransferBytesOnMessageInMemory`.
    pub read_hot_count_max: usize,
    pub read_hot_size_max_bytes: usize,
    /// `maxTransferCountOnMessageInDisk` and `maxTransferBytesOnMessageInDisk`.
    pub read_cold_count_max: usize,
    pub read_cold_size_max_bytes: usize,
    /// Records further from the log's end than this are cold: `accessMessageInMemoryMaxRatio` of
    /// the machine's memory. Units: bytes.
    pub memory_size_bytes: u64,
    /// What is kept, and for how long.
    pub retention: Rules,
    /// `messageDelayLevel`, level 1 first. Units: milliseconds.
    pub delay_levels_ms: Vec<i64>,
    /// `messageIndexEnable`: keys are indexed.
    pub index_enabled: bool,
    /// `maxHashSlotNum` and `maxIndexNum`: the shape of an index file. Units: slots, entries.
    pub index_slots: u32,
    pub index_entries: u32,
    /// Records are indexed at most this long after they became visible.
    pub index_run_interval: Duration,
    /// After an error the index is tried again.
    pub index_retry_interval: Duration,
    /// A query waits so long for the index to reach the log's end.
    pub query_wait: Duration,
    /// Units: index entries that one query looks at; a key that every message carries has long
    /// chains.
    pub query_steps_max: u32,
    /// Units: bytes of one query's answer; clients take frames of 16 MiB.
    pub query_size_max_bytes: usize,
    /// `checkCRCOnRecover` cannot be switched off here; this bounds one read of the scan.
    /// Units: bytes.
    pub recovery_read_size_bytes: usize,
    /// Pause between two steps that fill the first segment of a new store with zeros: 25 MiB a
    /// second.
    pub zero_fill_pause: Duration,
    /// What recovery cuts off behind the log's end is kept in `hotfire/cut/`, so much of it; 0 is
    /// nothing. Units: bytes.
    pub cut_size_max_bytes: u64,
    /// `scrubRateBytesPerSecond`: how fast sealed segments are read again; 0 is never.
    pub scrub_rate_bytes: u64,
    /// `scrubInterval`: a sealed segment is compared with its checksums this often.
    pub scrub_interval: Duration,
    /// How often the scrub looks for new sealed segments.
    pub scrub_look_interval: Duration,
}

impl Options {
    pub fn new(root: &str) -> Self {
        const SECOND: u64 = 1000;
        const MINUTE: u64 = 60 * SECOND;
        let levels = [1, 5, 10, 30].map(|s| (s * SECOND) as i64);
        let minutes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 30, 60, 120].map(|m| (m * MINUTE) as i64);
        Options {
            root: root.to_owned(),
            commit_log: LogPaths::one(&format!("{root}/commitlog")),
            path_full_percent: 85,
            owner: String::new(),
            flush: FlushMode::Async,
            visibility: Visibility::Ackable,
            replicate: None,
            read_mode: ReadMode::Map,
            segment_size_bytes: 1 << 30,
            queue_file_entries: 300_000,
            record_size_max_bytes: 4 << 20,
            pending_size_max_bytes: 64 << 20,
            sync_flush_timeout: Duration::from_secs(5),
            flush_interval: Duration::from_millis(500),
            flush_least_pages: 4,
            flush_thorough_interval: Duration::from_secs(10),
            flush_gather_max: Duration::from_millis(5),
            writeback_size_bytes: 8 << 20,
            stall_max: Duration::from_secs(1),
            fast_failure: true,
            allocate_retry_interval: Duration::from_secs(1),
            tail_cache_size_bytes: 32 << 20,
            tail_cache_idle_size_bytes: 1 << 20,
            block_size_bytes: 256 << 10,
            queue_run_entries: 64,
            queue_run_interval: Duration::from_millis(200),
            queue_entries_unwritten_max: 4 << 20,
            checkpoint_interval: Duration::from_secs(60),
            floor_interval: Duration::from_secs(1),
            floor_size_bytes: 64 << 20,
            open_files_max: 256,
            queues_max: 500_000,
            read_scan_max: 800,
            read_hot_count_max: 32,
            read_hot_size_max_bytes: 256 << 10,
            read_cold_count_max: 8,
            read_cold_size_max_bytes: 64 << 10,
            memory_size_bytes: 2 << 30,
            retention: Rules::default(),
            delay_levels_ms: levels.into_iter().chain(minutes).collect(),
            index_enabled: true,
            index_slots: 5_000_000,
            index_entries: 20_000_000,
            index_run_interval: Duration::from_millis(200),
            index_retry_interval: Duration::from_secs(1),
            query_wait: Duration::from_secs(1),
            query_steps_max: 64 << 10,
            query_size_max_bytes: 8 << 20,
            recovery_read_size_bytes: 1 << 20,
            zero_fill_pause: Duration::from_millis(10),
            cut_size_max_bytes: 64 << 20,
            scrub_rate_bytes: 4 << 20,
            scrub_interval: Duration::from_secs(14 * 86_400),
            scrub_look_interval: Duration::from_secs(10),
        }
    }

    /// Small and hurried, drawn from `rng`: what the simulator runs, so that every edge is near.
    pub fn swarm(root: &str, rng: &mut Rng) -> Self {
        let mut ms = |lo, hi| Duration::from_millis(rng.between(lo, hi));
        let mut options = Options {
            sync_flush_timeout: ms(50, 5000),
            flush_interval: ms(5, 500),
            flush_thorough_interval: ms(20, 2000),
            flush_gather_max: ms(0, 10),
            allocate_retry_interval: ms(100, 1000),
            queue_run_interval: ms(5, 300),
            checkpoint_interval: ms(50, 20_000),
            stall_max: ms(100, 3_000),
            floor_interval: ms(5, 1000),
            index_run_interval: ms(1, 300),
            index_retry_interval: ms(100, 1000),
            scrub_interval: ms(500, 10_000),
            scrub_look_interval: ms(100, 2000),
            ..Options::new(root)
        };
        options.flush = *rng.pick(&[FlushMode::Async, FlushMode::Sync]);
        options.read_mode = *rng.pick(&[ReadMode::Map, ReadMode::Map, ReadMode::Pread]);
        options.segment_size_bytes = 512 * rng.between(16, 256);
        options.queue_file_entries = rng.between(4, 400);
        options.record_size_max_bytes = (options.segment_size_bytes as usize - 8).min(64 << 10);
        options.pending_size_max_bytes = rng.between(64 << 10, 1 << 20) as usize;
        options.flush_least_pages = rng.between(0, 4);
        options.writeback_size_bytes = rng.between(4 << 10, 64 << 10);
        options.tail_cache_size_bytes = rng.between(0, 64 << 10) as usize;
        options.tail_cache_idle_size_bytes = options.tail_cache_size_bytes / 4;
        options.block_size_bytes = rng.between(256, 8192) as usize;
        options.queue_run_entries = rng.between(1, 70) as usize;
        options.floor_size_bytes = rng.between(1 << 10, 64 << 10);
        options.open_files_max = rng.between(2, 16) as usize;
        options.read_scan_max = rng.between(8, 800) as usize;
        options.memory_size_bytes = rng.between(8 << 10, 1 << 20);
        options.index_slots = rng.between(1, 60) as u32;
        options.index_entries = rng.between(2, 200) as u32;
        options.recovery_read_size_bytes = rng.between(512, 16 << 10) as usize;
        options.retention = Rules::never();
        options.scrub_rate_bytes = rng.between(64 << 10, 1 << 20);
        options.cut_size_max_bytes = rng.below(16 << 10);
        let dirs = [format!("{root}/commitlog-b"), format!("{root}/commitlog-a")];
        let more = &dirs[..*rng.pick(&[0, 0, 1, 2])];
        let paths = [&[format!("{root}/commitlog")], more].concat().join(",");
        options.commit_log = LogPaths::parse(&paths, "").expect("one is writable");
        options
    }

    /// Says what cannot be.
    pub fn check(&self) -> Result<(), String> {
        let (size, max) = (self.segment_size_bytes, i32::MAX as u64);
        if !(256..=max).contains(&size) {
            return Err(format!("a commit log file of {size} bytes: 256 to {max} are possible"));
        }
        if self.queue_file_entries == 0 || self.queue_file_entries > max / 20 {
            let entries = self.queue_file_entries;
            return Err(format!("a consume queue file of {entries} entries: 1 to {}", max / 20));
        }
        let shape = self.index_shape();
        if shape.slots == 0 || shape.entries < 2 || shape.file_size() > max {
            let Shape { slots, entries } = shape;
            return Err(format!(
                "an index file of {slots} slots and {entries} entries: at most {max} bytes"
            ));
        }
        if self.queue_run_entries == 0 || self.read_scan_max == 0 || self.block_size_bytes == 0 {
            return Err("a run, a scan and a block have at least one element".into());
        }
        Ok(())
    }

    /// What an index file looks like.
    pub fn index_shape(&self) -> Shape {
        Shape { slots: self.index_slots, entries: self.index_entries }
    }
    /// `<root>/consumequeue`, as `StorePathConfigHelper` makes it.
    pub fn consume_queue_dir(&self) -> String {
        format!("{}/consumequeue", self.root)
    }
    /// What is ours and not RocketMQ's.
    pub fn own_dir(&self) -> String {
        format!("{}/hotfire", self.root)
    }
    /// It is there while a process of ours uses the directory, and after one that did not stop in
    /// order.
    pub fn running_path(&self) -> String {
        format!("{}/hotfire/running", self.root)
    }
    /// Files are made here before their names appear.
    pub fn staging_dir(&self) -> String {
        format!("{}/hotfire/tmp", self.root)
    }
}
