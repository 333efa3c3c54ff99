//! From what was said to what is meant: each room's options.

use super::file::{Error, Program, RawConfig};
use crate::broker::replication::Role;
use crate::model::BrokerId;
use crate::rt::time::Duration;
use crate::{broker, ha, namesrv, remoting, store};
use std::net::{IpAddr, SocketAddr};

/// What the process found out about its machine and environment at boot.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// HOME; Java's `user.home`.
    pub home: String,
    pub host_name: String,
    /// The address that other machines most likely reach us at.
    pub local_address: String,
    /// NAMESRV_ADDR, when set.
    pub namesrv_addr: Option<String>,
    /// Units: bytes of memory; 0 when unknown.
    pub memory_size: u64,
}

/// The value of a key whose default is found at boot; `None` when it stays unset.
pub fn found(machine: &Machine, name: &str) -> Option<String> {
    let home = machine.home.trim_end_matches('/');
    match name {
        "namesrvAddr" => machine.namesrv_addr.clone(),
        "brokerIP1" | "brokerIP2" => Some(machine.local_address.clone()),
        "brokerName" => Some(machine.host_name.clone()),
        "storePathRootDir" => Some(format!("{home}/store")),
        "storePathCommitLog" => Some(format!("{home}/store/commitlog")),
        "kvConfigPath" => Some(format!("{home}/namesrv/kvConfig.json")),
        "configStorePath" => Some(format!("{home}/namesrv/namesrv.properties")),
        _ => None,
    }
}

/// The value said, the literal default, or the one found at boot.
pub fn text(raw: &RawConfig, machine: &Machine, name: &str) -> Option<String> {
    raw.text(name).map(str::to_owned).or_else(|| found(machine, name))
}

/// Directory of everything but the commit log, without a slash at its end.
pub fn store_root(raw: &RawConfig, machine: &Machine) -> String {
    directory(raw, machine, "storePathRootDir")
}

/// What a person should know of values that are right one by one.
pub fn warnings(raw: &RawConfig, machine: &Machine) -> Vec<String> {
    if raw.program() == Program::Namesrv {
        return raw.warnings("");
    }
    let mut lines = raw.warnings(&store_root(raw, machine));
    if raw.said("storePathRootDir").is_some() && raw.said("storePathCommitLog").is_none() {
        let log = directory(raw, machine, "storePathCommitLog");
        lines.push(format!(
            "storePathRootDir is set and storePathCommitLog is not: as in RocketMQ 4.9.3 the \
             commit log is in {log}"
        ));
    }
    if raw.said("brokerId").is_some_and(|id| id != "0") {
        lines.push("brokerId is 0 for a master, whatever the key says".to_owned());
    }
    lines
}

fn directory(raw: &RawConfig, machine: &Machine, name: &str) -> String {
    let path = text(raw, machine, name).unwrap_or_default();
    match path.trim_end_matches('/') {
        "" => "/".to_owned(),
        trimmed => trimmed.to_owned(),
    }
}

fn refuse<T>(name: &str, value: &str, why: &str) -> Result<T, Error> {
    Err(Error::Values(vec![format!("{name} = {value:?}: {why}")]))
}

fn ms(raw: &RawConfig, name: &str) -> Duration {
    Duration::from_millis(raw.number(name).unsigned_abs())
}

fn seconds(raw: &RawConfig, name: &str) -> Duration {
    Duration::from_secs(raw.number(name).unsigned_abs())
}

/// A number that its row bounds to what fits.
fn size(raw: &RawConfig, name: &str) -> usize {
    usize::try_from(raw.number(name)).unwrap_or(usize::MAX)
}

fn ip(raw: &RawConfig, machine: &Machine, name: &str) -> Result<IpAddr, Error> {
    let value = text(raw, machine, name).unwrap_or_default();
    value.parse().or_else(|_| refuse(name, &value, "expected an IP address"))
}

/// How long an event loop may wait for more before it looks for news.
pub fn coalesce_wait(raw: &RawConfig) -> Duration {
    Duration::from_micros(raw.number("coalesceMicros").unsigned_abs())
}

/// What the store is told. `owner` says who holds it.
pub fn store_options(
    raw: &RawConfig,
    machine: &Machine,
    owner: &str,
) -> Result<store::Options, Error> {
    let dirs = directory(raw, machine, "storePathCommitLog");
    let read_only = raw.text("readOnlyCommitLogStorePaths").unwrap_or_default();
    let commit_log = match store::LogPaths::parse(&dirs, read_only) {
        Ok(paths) => paths,
        Err(why) => return refuse("storePathCommitLog", &dirs, &why),
    };
    let mut options = store::Options::new(&store_root(raw, machine));
    options.commit_log = commit_log;
    options.owner = owner.to_owned();
    options.flush = match raw.text("flushDiskType") {
        Some("SYNC_FLUSH") => store::FlushMode::Sync,
        _ => store::FlushMode::Async,
    };
    options.visibility = match raw.text("visibility") {
        Some("written") => store::Visibility::Written,
        _ => store::Visibility::Ackable,
    };
    options.read_mode = match raw.text("readMode") {
        Some("pread") => store::ReadMode::Pread,
        _ => store::ReadMode::Map,
    };
    options.segment_size_bytes = raw.number("mappedFileSizeCommitLog").unsigned_abs();
    // Source: MessageStoreConfig#getMappedFileSizeConsumeQueue rounds up to whole entries.
    options.queue_file_entries =
        raw.number("mappedFileSizeConsumeQueue").unsigned_abs().div_ceil(20);
    options.index_enabled = raw.flag("messageIndexEnable");
    options.index_slots = raw.number("maxHashSlotNum").unsigned_abs() as u32;
    options.index_entries = raw.number("maxIndexNum").unsigned_abs() as u32;
    options.record_size_max_bytes = size(raw, "maxMessageSize");
    options.sync_flush_timeout = ms(raw, "syncFlushTimeout");
    options.flush_interval = ms(raw, "flushIntervalCommitLog");
    options.flush_least_pages = raw.number("flushCommitLogLeastPages").unsigned_abs();
    options.flush_thorough_interval = ms(raw, "flushCommitLogThoroughInterval");
    options.checkpoint_interval = ms(raw, "flushConsumeQueueThoroughInterval");
    options.retention = retention(raw)?;
    options.path_full_percent = raw.number("diskSpaceCleanForciblyRatio").unsigned_abs();
    options.stall_max = ms(raw, "osPageCacheBusyTimeOutMills");
    options.fast_failure = raw.flag("brokerFastFailureEnable");
    options.read_hot_count_max = size(raw, "maxTransferCountOnMessageInMemory");
    options.read_hot_size_max_bytes = size(raw, "maxTransferBytesOnMessageInMemory");
    options.read_cold_count_max = size(raw, "maxTransferCountOnMessageInDisk");
    options.read_cold_size_max_bytes = size(raw, "maxTransferBytesOnMessageInDisk");
    options.cut_size_max_bytes = raw.number("cutBytesMax").unsigned_abs();
    options.scrub_rate_bytes = raw.number("scrubRateBytesPerSecond").unsigned_abs();
    options.scrub_interval =
        Duration::from_secs(raw.number("scrubInterval").unsigned_abs() * 86_400);
    if machine.memory_size > 0 {
        let percent = raw.number("accessMessageInMemoryMaxRatio").unsigned_abs();
        options.memory_size_bytes = machine.memory_size / 100 * percent;
    }
    options.replicate = replicate(raw);
    let levels = raw.text("messageDelayLevel").unwrap_or_default();
    options.delay_levels_ms = match delay_levels_ms(levels) {
        Some(levels) => levels,
        None => {
            let why = "expected times with a unit, s m h or d, such as \"1s 5s 1m 2h\"";
            return refuse("messageDelayLevel", levels, why);
        }
    };
    Ok(options)
}

/// SYNC_MASTER waits for a slave.
fn replicate(raw: &RawConfig) -> Option<store::Replicate> {
    (raw.text("brokerRole") == Some("SYNC_MASTER")).then(|| store::Replicate {
        timeout: ms(raw, "slaveTimeout"),
        fall_behind_max: raw.number("haSlaveFallbehindMax").unsigned_abs(),
    })
}

/// What is kept, and for how long.
fn retention(raw: &RawConfig) -> Result<store::retention::Rules, Error> {
    let percent = |name: &str| raw.number(name).unsigned_abs();
    let hours = raw.text("deleteWhen").unwrap_or_default();
    let Some(delete_hours) = store::retention::delete_hours(hours) else {
        return refuse("deleteWhen", hours, "expected hours of local time such as 04 or 02;04");
    };
    Ok(store::retention::Rules {
        delete_hours,
        keep_for: Duration::from_secs(raw.number("fileReservedTime").unsigned_abs() * 3600),
        // Source: MessageStoreConfig#getDiskMaxUsedSpaceRatio clamps it.
        used_percent_clean: percent("diskMaxUsedSpaceRatio").clamp(10, 95),
        used_percent_force: percent("diskSpaceCleanForciblyRatio"),
        used_percent_full: percent("diskSpaceWarningLevelRatio"),
        may_force: raw.flag("cleanFileForciblyEnable"),
        free_bytes_min: raw.number("diskFreeMinBytes").unsigned_abs(),
        log_bytes_max: raw.number("commitLogMaxBytes").unsigned_abs(),
        check_interval: ms(raw, "cleanResourceInterval"),
        log_file_pause: ms(raw, "deleteCommitLogFilesInterval"),
        queue_pause: ms(raw, "deleteConsumeQueueFilesInterval"),
        release_timeout: ms(raw, "destroyMapedFileIntervalForcibly"),
        retry_interval: ms(raw, "redeleteHangedFileInterval"),
        ..store::retention::Rules::default()
    })
}

/// Source: ScheduleMessageService#parseDelayLevel (4.9.3).
fn delay_levels_ms(text: &str) -> Option<Vec<i64>> {
    let level = |word: &str| -> Option<i64> {
        let (number, unit) = word.split_at_checked(word.len().checked_sub(1)?)?;
        let unit = match unit {
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        number.parse::<i64>().ok().filter(|n| *n >= 0)?.checked_mul(unit)
    };
    let levels: Option<Vec<i64>> =
        text.split(' ').filter(|word| !word.is_empty()).map(level).collect();
    levels.filter(|levels| !levels.is_empty())
}

/// What the broker is told.
pub fn broker_options(raw: &RawConfig, machine: &Machine) -> Result<broker::Options, Error> {
    let (role, id) = role(raw)?;
    let text = |name: &str| text(raw, machine, name).unwrap_or_default();
    let name_servers = name_servers(&text("namesrvAddr"))?;
    let mut options = broker::Options {
        root: store_root(raw, machine),
        id,
        advertised_ip: ip(raw, machine, "brokerIP1")?,
        ha_ip: ip(raw, machine, "brokerIP2")?,
        bind_ip: ip(raw, machine, "bindAddress")?,
        listen_port: u16::try_from(raw.number("listenPort")).unwrap_or_default(),
        name_servers,
        // Source: BrokerController#start clamps it.
        register_interval: ms(raw, "registerNameServerPeriod")
            .clamp(Duration::from_secs(10), Duration::from_secs(60)),
        register_timeout: ms(raw, "registerBrokerTimeoutMills"),
        register_wait: ms(raw, "registerWaitMillis"),
        offsets_save_interval: ms(raw, "flushConsumerOffsetInterval"),
        schedule: broker::options::ScheduleOptions {
            save_interval: ms(raw, "flushDelayOffsetInterval"),
            ..Default::default()
        },
        timers: timer_options(raw),
        transactions: transaction_options(raw),
        stuck_queue_after: ms(raw, "stuckQueueWarnMillis"),
        region_id: text("regionId"),
        trace_on: raw.flag("traceOn"),
        permission: raw.number("brokerPermission").unsigned_abs() as u32,
        long_polling: raw.flag("longPollingEnable"),
        short_polling: ms(raw, "shortPollingTimeMills"),
        on_store_failure: match raw.text("onStoreFailure") {
            Some("readonly") => broker::options::OnStoreFailure::ReadOnly,
            _ => broker::options::OnStoreFailure::Exit,
        },
        pull_read_timeout: ms(raw, "waitTimeMillsInPullQueue"),
        reject_transactions: raw.flag("rejectTransactionMessage"),
        store_replies: raw.flag("storeReplyMessageEnable"),
        accept_sends_from_ms: raw.number("startAcceptSendRequestTimeStamp"),
        query_count_max: size(raw, "maxMsgsNumBatch"),
        unique_query_count_max: size(raw, "defaultQueryMaxNum"),
        slave_read: raw.flag("slaveReadEnable"),
        ..broker::Options::default()
    };
    options.replication = replication(raw, role)?;
    options.topics = broker::options::TopicOptions {
        cluster_name: text("brokerClusterName"),
        broker_name: text("brokerName"),
        auto_create: raw.flag("autoCreateTopicEnable"),
        default_queues: raw.number("defaultTopicQueueNums").unsigned_abs() as u32,
        cluster_topic: raw.flag("clusterTopicEnable"),
        broker_topic: raw.flag("brokerTopicEnable"),
        trace_topic: raw.flag("traceTopicEnable").then(|| text("msgTraceTopicName")),
        ..options.topics
    };
    options.groups.auto_create = raw.flag("autoCreateSubscriptionGroup");
    options.filters = broker::options::FilterOptions {
        by_property: raw.flag("enablePropertyFilter"),
        of_retries: raw.flag("filterSupportRetry"),
        keep_dead: ms(raw, "filterDataCleanTimeSpan"),
        bloom_error_percent: raw.number("maxErrorRateOfBloomFilter").unsigned_abs() as u32,
        bloom_entries: raw.number("expectConsumerNumUseFilter").unsigned_abs() as u32,
        ..options.filters
    };
    options.limits.message_bytes_max = size(raw, "maxMessageSize");
    if !raw.flag("enableDetailStat") {
        options.limits.counted_levels_max = 0;
        options.topics.counted_queues_max = 0;
    }
    Ok(options)
}

/// Source: BrokerStartup#createBrokerController (4.9.3): a master has id 0 whatever is said.
fn role(raw: &RawConfig) -> Result<(Role, BrokerId), Error> {
    let role = match raw.text("brokerRole") {
        Some("SYNC_MASTER") => Role::SyncMaster,
        Some("SLAVE") => Role::Slave,
        _ => Role::AsyncMaster,
    };
    if !role.is_slave() {
        return Ok((role, 0));
    }
    match raw.number("brokerId") {
        id if id > 0 => Ok((role, id)),
        id => refuse("brokerId", &id.to_string(), "Slave's brokerId must be > 0"),
    }
}

/// `haMasterAddress` counts when it is long enough to be one. Source: HAService.HAClient (4.9.3).
fn replication(raw: &RawConfig, role: Role) -> Result<broker::options::ReplicationOptions, Error> {
    let master = raw.text("haMasterAddress").map(str::trim).filter(|addr| addr.len() >= 6);
    let peers = raw.text("haAllowedPeers").unwrap_or_default();
    let allowed: Result<Vec<IpAddr>, _> =
        peers.split([',', ';', ' ']).filter(|ip| !ip.is_empty()).map(str::parse).collect();
    let Ok(allowed) = allowed else {
        return refuse("haAllowedPeers", peers, "expected addresses divided by commas");
    };
    Ok(broker::options::ReplicationOptions {
        role,
        catch_up_wait: ms(raw, "masterCatchUpMillis"),
        allowed,
        master: master.map(str::to_owned),
        stream: ha::Options {
            heartbeat_interval: ms(raw, "haSendHeartbeatInterval"),
            silence_max: ms(raw, "haHousekeepingInterval"),
            batch_size: size(raw, "haTransferBatchSize"),
            ..ha::Options::default()
        },
        ..Default::default()
    })
}

fn timer_options(raw: &RawConfig) -> broker::options::TimerOptions {
    let waiting_count_max = size(raw, "timerWaitingMax");
    broker::options::TimerOptions {
        is_on: raw.flag("timerWheelEnable"),
        delay_max: seconds(raw, "timerMaxDelaySec"),
        waiting_count_max,
        span_max: waiting_count_max as u64 * 4,
        ..Default::default()
    }
}

fn transaction_options(raw: &RawConfig) -> broker::options::TransactionOptions {
    broker::options::TransactionOptions {
        timeout: ms(raw, "transactionTimeOut"),
        check_max: i32::try_from(raw.number("transactionCheckMax")).unwrap_or(i32::MAX),
        check_interval: ms(raw, "transactionCheckInterval").max(Duration::from_millis(100)),
        keep_for: Duration::from_secs(raw.number("fileReservedTime").unsigned_abs() * 3600),
        window_max: size(raw, "transactionWindowMax"),
        ..Default::default()
    }
}

/// What the listening side of connections is told.
pub fn server_options(raw: &RawConfig) -> remoting::ServerOptions {
    let mut options = remoting::ServerOptions::default();
    options.connection.idle_max = seconds(raw, "serverChannelMaxIdleTimeSeconds");
    options.connection_count_max = size(raw, "connectionsMax");
    options.inflight_size_max = size(raw, "requestBytesMax");
    options
}

/// What the dialling side of a broker is told.
pub fn client_options(raw: &RawConfig) -> remoting::ClientOptions {
    let mut options = remoting::ClientOptions::default();
    options.connection.idle_max = seconds(raw, "clientChannelMaxIdleTimeSeconds");
    options.dial_timeout = ms(raw, "connectTimeoutMillis");
    options
}

/// What a name server is told.
pub fn namesrv_options(raw: &RawConfig, machine: &Machine) -> Result<namesrv::Options, Error> {
    let port = u16::try_from(raw.number("listenPort")).unwrap_or_default();
    Ok(namesrv::Options {
        listen: SocketAddr::new(ip(raw, machine, "bindAddress")?, port),
        kv_config_path: directory(raw, machine, "kvConfigPath"),
        order_message_enable: raw.flag("orderMessageEnable"),
        server: server_options(raw),
        ..namesrv::Options::default()
    })
}

/// Splits `host:port;host:port`. The text of the error is the one of 4.9.3.
/// Source: BrokerStartup (4.9.3).
fn name_servers(text: &str) -> Result<Vec<String>, Error> {
    let addrs: Vec<String> =
        text.split(';').map(str::trim).filter(|a| !a.is_empty()).map(str::to_owned).collect();
    let is_legal = |addr: &String| {
        let port = addr.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        port.is_some_and(|(_, port)| port.parse::<u16>().is_ok())
    };
    if addrs.iter().all(is_legal) {
        return Ok(addrs);
    }
    Err(Error::Values(vec![format!(
        "The Name Server Address[{text}] illegal, please set it as follows, \
         \"127.0.0.1:9876;192.168.0.1:9876\""
    )]))
}

#[cfg(test)]
mod tests {
    use super::super::keys::{self, Effect};
    use super::*;

    fn machine() -> Machine {
        Machine {
            home: "/home/mq/".into(),
            host_name: "host7".into(),
            local_address: "10.0.0.7".into(),
            namesrv_addr: None,
            memory_size: 8 << 30,
        }
    }
    fn broker(text: &str) -> RawConfig {
        RawConfig::parse(Program::Broker, "broker.conf", text.as_bytes()).expect("accepted")
    }

    #[test]
    fn nothing_said_gives_the_defaults_of_4_9_3() {
        let raw = broker("");
        let options = broker_options(&raw, &machine()).expect("accepted");
        assert_eq!(options.topics.broker_name, "host7");
        assert_eq!(options.advertised_ip.to_string(), "10.0.0.7");
        assert_eq!((options.listen_port, options.root.as_str()), (10911, "/home/mq/store"));
        let store = store_options(&raw, &machine(), "test").expect("accepted");
        let defaults = store::Options::new("/home/mq/store");
        assert_eq!(store.commit_log, defaults.commit_log);
        assert_eq!(store.segment_size_bytes, defaults.segment_size_bytes);
        assert_eq!(store.queue_file_entries, defaults.queue_file_entries);
        assert_eq!(store.delay_levels_ms, defaults.delay_levels_ms);
        assert_eq!(store.memory_size_bytes, (8 << 30) / 100 * 40);
        assert_eq!(store.retention, defaults.retention);
    }

    #[test]
    fn a_name_server_has_its_own_port_and_warnings() {
        let raw = RawConfig::parse(Program::Namesrv, "n.conf", b"storePathIndex=/x").expect("ok");
        let options = namesrv_options(&raw, &machine()).expect("accepted");
        assert_eq!(options.listen.port(), 9876);
        assert_eq!(options.kv_config_path, "/home/mq/namesrv/kvConfig.json");
        assert_eq!(warnings(&raw, &machine()).len(), 1);
    }

    #[test]
    fn the_commit_log_is_not_derived_from_the_root_and_a_warning_says_so() {
        let raw = broker("storePathRootDir=/data/");
        let store = store_options(&raw, &machine(), "test").expect("accepted");
        assert_eq!(
            (store.root.as_str(), store.commit_log.all()[0].as_str()),
            ("/data", "/home/mq/store/commitlog")
        );
        assert_eq!(warnings(&raw, &machine()).len(), 1);
    }

    #[test]
    fn values_that_only_make_sense_together_are_refused_with_their_key() {
        for (text, part) in [
            ("brokerRole=SLAVE", "Slave's brokerId must be > 0"),
            ("brokerIP1=nowhere", "brokerIP1"),
            ("namesrvAddr=10.0.0.1", "The Name Server Address[10.0.0.1] illegal, please"),
        ] {
            let error = broker_options(&broker(text), &machine()).expect_err(text);
            assert!(error.to_string().contains(part), "{error}");
        }
        for text in [
            "messageDelayLevel=1s 5x",
            "deleteWhen=25",
            "deleteWhen=4 am",
            "storePathCommitLog=/a,/b\nreadOnlyCommitLogStorePaths=/b,/a",
        ] {
            assert!(store_options(&broker(text), &machine(), "").is_err(), "{text}");
        }
        let raw = broker("storePathCommitLog=/b/,/a\nreadOnlyCommitLogStorePaths=/old");
        let paths = store_options(&raw, &machine(), "").expect("accepted").commit_log;
        assert_eq!((paths.writable().len(), paths.all().join(" ")), (2, "/a /b /old".into()));
    }

    #[test]
    fn every_key_marked_as_used_is_read_here_or_in_cli() {
        let sources = [
            include_str!("resolve.rs"),
            include_str!("file.rs"),
            include_str!("../cli/settings.rs"),
            include_str!("../cli/logging.rs"),
        ];
        let code = sources.map(|s| s.split("#[cfg(test)]").next().unwrap_or_default()).concat();
        for (class, key) in keys::all() {
            let is_read = code.contains(&format!("\"{}\"", key.name));
            if key.effect == Effect::Used {
                assert!(is_read, "{class:?} {} is marked as used and never read", key.name);
            }
        }
    }
}
