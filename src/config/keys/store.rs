//! Keys of `MessageStoreConfig`. Source: MessageStoreConfig (4.9.3).

use super::*;

/// The 77 keys of `MessageStoreConfig`.
pub(super) const STORE: &[Key] = keys! {
    path storePathRootDir = "$HOME/store" [computed important used("store")]
        "Root of everything except the commit log.";
    path storePathCommitLog = "$HOME/store/commitlog" [computed important used("store")]
        "Directory of the commit log, or several divided by commas: files go to them in turn. \
            Unset and storePathRootDir set: see docs/CONFIG.md, as 4.9.3 it is not derived from \
            the root.";
    path readOnlyCommitLogStorePaths = "" [used("store")]
        "Directories of the commit log that get no new file, divided by commas; only honoured when \
            storePathCommitLog names several.";
    int mappedFileSizeCommitLog = "1073741824" [unit("B") range(1024, 2147483647) used("store")]
        "Size of one commit log file; every existing one must have exactly this length.";
    int mappedFileSizeConsumeQueue = "6000000" [unit("B") range(20, 2147483647) used("store")]
        "Rounded up to a multiple of 20 when read.";
    flag enableConsumeQueueExt = "false" [ignored(NO_BITMAP)]
        "Write consumequeue_ext and put addresses in the tag field.";
    int mappedFileSizeConsumeQueueExt = "50331648" [unit("B") ignored(NO_BITMAP)]
        "Size of one consumequeue_ext file.";
    int bitMapLengthConsumeQueueExt = "64" [ignored(NO_BITMAP)]
        "Overwritten at boot by the bloom filter size (112 with defaults).";
    int flushIntervalCommitLog = "500" [unit("ms") at_least(1) important used("store")]
        "Async flush tick.";
    int commitIntervalCommitLog = "200" [unit("ms") important ignored(NO_MAPPING)]
        "Transient pool to file tick.";
    flag useReentrantLockWhenPutMessage = "true" [ignored(ONE_THREAD)]
        "False = spin lock (default was false in 4.9.0).";
    flag flushCommitLogTimed = "true" [important ignored(BY_BYTES)]
        "True = sleep full tick; false = wake early on put (false in 4.9.0).";
    int flushIntervalConsumeQueue = "1000" [unit("ms") at_least(1) ignored(RUNS)]
        "How long entries of a consume queue may wait in memory before they are written.";
    int cleanResourceInterval = "10000" [unit("ms") at_least(100) used("store")]
        "Cleaner period (first run after 60 s).";
    int deleteCommitLogFilesInterval = "100" [unit("ms") used("store")]
        "Pause between two file deletions.";
    int deleteConsumeQueueFilesInterval = "100" [unit("ms") used("store")]
        "Pause between two consume queue file deletions.";
    int destroyMapedFileIntervalForcibly = "120000" [unit("ms") used("store")]
        "How long a deleted file is held open for its readers.";
    int redeleteHangedFileInterval = "120000" [unit("ms") used("store")]
        "When a file that could not be deleted is tried again.";
    text deleteWhen = "04" [important live used("store")]
        ";-separated local hours.";
    int diskMaxUsedSpaceRatio = "75" [unit("%") live used("store")]
        "Percent, getter clamps to 10..95.";
    int fileReservedTime = "72" [unit("h") important live used("store")]
        "Age from which files may go; also the age after which half messages are skipped.";
    int putMsgIndexHightWater = "600000" [ignored(NOT_READ)]
        "Kept for old files.";
    int maxMessageSize = "4194304" [unit("B") range(1024, 536870912) used("broker")]
        "Largest encoded record; 4.9.4 and later limit the body alone.";
    flag checkCRCOnRecover = "true" [ignored(CRC_ALWAYS)]
        "Verify body CRC in recovery scans.";
    int flushCommitLogLeastPages = "4" [used("store")]
        "4 KiB pages that must be dirty for a tick to flush.";
    int commitCommitLogLeastPages = "4" [ignored(NO_MAPPING)]
        "Same for the transient pool.";
    int flushLeastPagesWhenWarmMapedFile = "4096" [ignored(NO_MAPPING)]
        "Pages between msyncs while warming with SYNC_FLUSH.";
    int flushConsumeQueueLeastPages = "2" [ignored(BY_BYTES)]
        "Dirty pages of a consume queue before a tick flushes.";
    int flushCommitLogThoroughInterval = "10000" [unit("ms") used("store")]
        "After this a tick flushes regardless of page count.";
    int commitCommitLogThoroughInterval = "200" [unit("ms") ignored(NO_MAPPING)]
        "After this the transient pool commits regardless of pages.";
    int flushConsumeQueueThoroughInterval = "60000" [unit("ms") used("store")]
        "Full consume-queue flush plus checkpoint write.";
    int maxTransferBytesOnMessageInMemory = "262144"
        [unit("B") at_least(1) important used("broker")]
        "Bytes in one pull reply at most, when read from memory.";
    int maxTransferCountOnMessageInMemory = "32" [at_least(1) important used("broker")]
        "Messages in one pull reply at most, when read from memory.";
    int maxTransferBytesOnMessageInDisk = "65536"
        [unit("B") at_least(1) important used("broker")]
        "Bytes in one pull reply at most, when read from disk.";
    int maxTransferCountOnMessageInDisk = "8" [at_least(1) important used("broker")]
        "Messages in one pull reply at most, when read from disk.";
    int accessMessageInMemoryMaxRatio = "40" [important used("store")]
        "Percent of physical RAM; beyond that distance from the log end data counts as cold.";
    flag messageIndexEnable = "true" [important used("store")]
        "Build the key index.";
    int maxHashSlotNum = "5000000" [range(1, 500000000) used("store")]
        "Index slots; changes file geometry.";
    int maxIndexNum = "20000000" [range(2, 100000000) used("store")]
        "Index entries; changes file geometry.";
    int maxMsgsNumBatch = "64" [at_least(1) used("broker")]
        "Cap on key-query results.";
    flag messageIndexSafe = "false" [important ignored(OWN_INDEX)]
        "True = recovery also waits for the index timestamp.";
    int haListenPort = "10912" [range(0, 65535) ignored(HA_PORT)]
        "HA port: always listenPort+1.";
    int haSendHeartbeatInterval = "5000" [unit("ms") at_least(1) used("ha")]
        "Pause after which the master sends an empty HA frame.";
    int haHousekeepingInterval = "20000" [unit("ms") at_least(1) used("ha")]
        "HA connection idle limit.";
    int haTransferBatchSize = "32768" [unit("B") range(1, 4194000) used("ha")]
        "Max body per HA frame.";
    text haMasterAddress = "" [important used("broker")]
        "Fixed HA master (used when length >= 6); else learned from the name server.";
    int haSlaveFallbehindMax = "268435456" [unit("B") used("store")]
        "Slave counts as available only if it lags less.";
    choice brokerRole = "ASYNC_MASTER" [one_of(ROLES) important used("broker")]
        "ASYNC_MASTER, SYNC_MASTER or SLAVE.";
    choice flushDiskType = "ASYNC_FLUSH" [one_of(FLUSHES) important used("store")]
        "ASYNC_FLUSH answers from the page cache, SYNC_FLUSH after a sync.";
    int syncFlushTimeout = "5000" [unit("ms") used("store")]
        "How long a SYNC_FLUSH send waits for its sync before FLUSH_DISK_TIMEOUT.";
    int slaveTimeout = "3000" [unit("ms") used("store")]
        "Since 4.9.3; earlier the sync-flush timeout was used.";
    text messageDelayLevel = "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h"
        [used("store")]
        "Space separated, units s m h d.";
    long flushDelayOffsetInterval = "10000" [unit("ms") at_least(1) used("broker")]
        "Period of writing delayOffset.json.";
    flag cleanFileForciblyEnable = "true" [important live used("store")]
        "Files that are not expired may go above diskSpaceCleanForciblyRatio.";
    flag warmMapedFileEnable = "false" [ignored(NO_MAPPING)]
        "Pre-touch and mlock new commitlog files.";
    flag offsetCheckInSlave = "false" [later(HA)]
        "Slave corrects bad pull offsets itself.";
    flag debugLockEnable = "false" [ignored(ONE_THREAD)]
        "Dump stacks when the put lock is held > 1 s.";
    flag duplicationEnable = "false" [ignored(DUPLICATION)]
        "Dispatch only below the confirm offset.";
    flag diskFallRecorded = "true" [ignored(NOT_READ)]
        "Kept for old files.";
    long osPageCacheBusyTimeOutMills = "1000" [unit("ms") at_least(1) used("store")]
        "Sends are refused when one has waited so long for its write (SYNC_FLUSH: its sync).";
    int defaultQueryMaxNum = "32" [at_least(1) used("broker")]
        "Unique-key query limit.";
    flag transientStorePoolEnable = "false" [important ignored(NO_MAPPING)]
        "Effective only with ASYNC_FLUSH and a master role.";
    int transientStorePoolSize = "5" [ignored(NO_MAPPING)]
        "Buffers of one commitlog file each, mlocked.";
    flag fastFailIfNoBufferInStorePool = "false" [ignored(NO_MAPPING)]
        "Refuse sends when the pool has no buffer.";
    flag enableDLegerCommitLog = "false" [refused(DLEDGER)]
        "Raft log instead of CommitLog; different on-disk format, out of scope here.";
    text dLegerGroup = "" [ignored(DLEDGER)]
        "Name of the DLedger group.";
    text dLegerPeers = "" [ignored(DLEDGER)]
        "Peers of the DLedger group.";
    text dLegerSelfId = "" [ignored(DLEDGER)]
        "Own id in the DLedger group.";
    text preferredLeaderId = "" [ignored(DLEDGER)]
        "DLedger.";
    flag enableBatchPush = "false" [ignored(DLEDGER)]
        "DLedger: send entries in batches.";
    flag enableScheduleMessageStats = "true" [ignored(DELAYS_COUNTED)]
        "Count delayed deliveries.";
    flag enableLmq = "false" [later(LMQ)]
        "Light message queues (%LMQ% prefix).";
    flag enableMultiDispatch = "false" [later(LMQ)]
        "Honour INNER_MULTI_DISPATCH.";
    int maxLmqConsumeQueueNum = "20000" [later(LMQ)]
        "Light message queues at most.";
    flag enableScheduleAsyncDeliver = "false" [ignored(PIPELINED)]
        "Pipelined delayed delivery.";
    int scheduleAsyncDeliverMaxPendingLimit = "2000" [ignored(PIPELINED)]
        "Pipelined deliveries in flight at most.";
    int scheduleAsyncDeliverMaxResendNum2Blocked = "3" [ignored(PIPELINED)]
        "Resends before a level waits.";
};
