//! Hotfire's own keys: RocketMQ ignores them, so one file may feed both.

use super::*;

/// What 4.9.3 has no key for.
pub(super) const HOTFIRE: &[Key] = keys! {
    flag strictConfig = "false" [used("cli")]
        "Every warning about the configuration ends the start with exit code -3.";
    text bindAddress = "0.0.0.0" [used("cli")]
        "Address to listen on.";
    choice serializeType = "JSON" [one_of(&["JSON", "ROCKETMQ"]) used("cli")]
        "What the boot line names, as ROCKETMQ_SERIALIZE_TYPE; our own requests are sent as JSON.";
    choice logLevel = "info" [one_of(&["error", "warn", "info", "debug", "trace"]) used("cli")]
        "Least severe line that is logged; HOTFIRE_LOG overrides it.";
    path logDir = "" [refused(LOG_FILES)]
        "Directory for broker.log or namesrv.log; unset, logs go to standard output.";
    choice visibility = "ackable" [one_of(&["ackable", "written"]) used("store")]
        "When consumers see a record: once its send may be answered, or as 4.9.3 once written.";
    int diskSpaceCleanForciblyRatio = "85" [range(1, 100) unit("%") used("store")]
        "Above it the oldest files go, expired or not; a JVM property in 4.9.3.";
    int diskSpaceWarningLevelRatio = "90" [range(1, 100) unit("%") used("store")]
        "Above it sends are refused with code 14; a JVM property in 4.9.3.";
    long diskFreeMinBytes = "0" [unit("B") used("store")]
        "Sends are refused with less free; the oldest files go with less than twice as much.";
    long commitLogMaxBytes = "0" [unit("B") used("store")]
        "The oldest files go, whatever their age, while the log's files have more; 0 is off.";
    int transactionWindowMax = "4194304" [at_least(1024) used("broker")]
        "Half messages from the oldest open one on; each costs 9 bytes, more are refused.";
    flag timerWheelEnable = "true" [used("broker")]
        "Of 5.x: properties TIMER_* give a message its own time; off, it comes at once as in 4.9.";
    int timerMaxDelaySec = "259200" [range(1, 31536000) unit("s") used("broker")]
        "Of 5.x: a message that asks for a longer delay is refused with code 13.";
    int timerWaitingMax = "1000000" [range(1, 100000000) used("broker")]
        "Messages that wait for a time of their own; each costs 50 bytes, more are refused.";
    long registerWaitMillis = "2000" [range(0, 60000) unit("ms") used("broker")]
        "A changed topic is answered when name servers know it, or after this; clients wait 3 s.";
    long stuckQueueWarnMillis = "600000" [range(0, 86400000) unit("ms") used("broker")]
        "A queue of a live group without progress for so long is logged as stuck; 0 is off.";
    choice onStoreFailure = "exit" [one_of(&["exit", "readonly"]) used("broker")]
        "What follows a failed write or sync of the log: the process ends, or serves reads only.";
    choice readMode = "map" [one_of(&["map", "pread"]) used("store")]
        "Messages that left memory are read as views of the page cache (Linux 5.14), or copied.";
    int coalesceMicros = "300" [range(0, 5000) unit("us") used("cli")]
        "Pause between many small turns of the event loop, while it slows nobody; 0 is off.";
    int ioThreads = "0" [range(0, 64) later(IO_THREADS)]
        "Threads that only frame, scan and write; 0 keeps all on the broker thread.";
    int httpPort = "0" [range(0, 65535) later(HTTP)]
        "Port of /metrics, /healthz and /readyz; 0 is off.";
    choice adminAccess = "open" [one_of(&["open", "authenticated", "loopback"]) refused(LIMITS)]
        "Who may send requests that change the broker.";
    int masterCatchUpMillis = "10000" [unit("ms") used("broker")]
        "A master that did not stop in order waits so long for slaves that may have more of its \
            log.";
    text haAllowedPeers = "" [used("broker")]
        "Addresses that may open an HA connection; unset: registered for this name, and loopback.";
    long scrubRateBytesPerSecond = "4194304" [unit("B") used("store")]
        "How fast finished commit log files are read again to find rot; 0 is never.";
    long cutBytesMax = "67108864" [unit("B") used("store")]
        "Of what recovery cuts off behind the log's end so much is kept in hotfire/cut/.";
    int scrubInterval = "14" [range(1, 3650) unit("d") used("store")]
        "Every finished commit log file is compared with its checksums this often.";
    long requestBytesMax = "268435456" [at_least(1048576) unit("B") used("remoting")]
        "Bytes of requests in flight over all connections.";
    int connectionsMax = "50000" [at_least(1) used("remoting")]
        "Connections at most.";
};
