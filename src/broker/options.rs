//! What the broker can be told, with every bound.

use super::filter::sql92;
use super::replication::Role;
use crate::ha;
use crate::model::BrokerId;
use crate::rt::rng::Rng;
use crate::rt::time::Duration;
use std::net::{IpAddr, Ipv4Addr};

/// Rules of the topic table.
#[derive(Clone, Debug)]
pub struct TopicOptions {
    pub cluster_name: String,
    pub broker_name: String,
    /// `autoCreateTopicEnable`
    pub auto_create: bool,
    /// `defaultTopicQueueNums`: queues of TBW102, the most an automatic topic gets.
    pub default_queues: u32,
    /// `clusterTopicEnable`
    pub cluster_topic: bool,
    /// `brokerTopicEnable`
    pub broker_topic: bool,
    /// `msgTraceTopicName` when `traceTopicEnable`.
    pub trace_topic: Option<String>,
    /// Each topic costs a row in every registration and a line in topics.json.
    pub topics_max: usize,
    /// Queues whose puts are counted, each for up to 2 KiB; zero without `enableDetailStat`.
    pub counted_queues_max: usize,
}

impl Default for TopicOptions {
    fn default() -> Self {
        TopicOptions {
            cluster_name: "DefaultCluster".to_owned(),
            broker_name: "broker-a".to_owned(),
            auto_create: true,
            default_queues: 8,
            cluster_topic: true,
            broker_topic: true,
            trace_topic: None,
            topics_max: 50_000,
            counted_queues_max: 20_000,
        }
    }
}

/// Rules of the group table.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    /// `autoCreateSubscriptionGroup`
    pub auto_create: bool,
    /// A heartbeat can name any group: the table must not grow with bad clients.
    pub groups_max: usize,
}

impl Default for GroupOptions {
    fn default() -> Self {
        GroupOptions { auto_create: true, groups_max: 50_000 }
    }
}

/// Rules of filters other than tags.
#[derive(Clone, Debug)]
pub struct FilterOptions {
    /// `enablePropertyFilter`: SQL92 is refused otherwise.
    pub by_property: bool,
    /// `filterSupportRetry`: a retried message is judged by the filter of the topic it came from.
    pub of_retries: bool,
    /// `filterDataCleanTimeSpan`: how long the filter of a group that left is kept.
    pub keep_dead: Duration,
    /// `maxErrorRateOfBloomFilter` and `expectConsumerNumUseFilter`: only for consumerFilter.json.
    pub bloom_error_percent: u32,
    pub bloom_entries: u32,
    pub sql: sql92::Limits,
    /// Expressions kept compiled besides those that groups registered; 4.9.3 keeps as many.
    pub compiled_max: usize,
    /// Rows of consumerFilter.json: topic and group. A heartbeat can name any.
    pub rows_max: usize,
    /// Messages that one pull looks at while none matches: they are decoded on the broker's thread,
    /// in well below 1 ms. The client is then told where to go on.
    pub scan_max: usize,
}

impl Default for FilterOptions {
    fn default() -> Self {
        FilterOptions {
            by_property: false,
            of_retries: false,
            keep_dead: Duration::from_secs(86_400),
            bloom_error_percent: 20,
            bloom_entries: 32,
            sql: sql92::Limits::default(),
            compiled_max: 100,
            rows_max: 50_000,
            scan_max: 64,
        }
    }
}

/// How delayed messages are delivered.
#[derive(Clone, Debug)]
pub struct ScheduleOptions {
    /// `flushDelayOffsetInterval`
    pub save_interval: Duration,
    /// Units: messages of one level that are handed to the store at a time.
    pub turn_count_max: usize,
    /// Units: bytes of them; one message is always taken.
    pub turn_bytes_max: usize,
    /// After a delivery was refused; 100 ms in 4.9.3. Doubles up to the longest.
    pub retry_pause: Duration,
    pub retry_pause_max: Duration,
}

impl Default for ScheduleOptions {
    fn default() -> Self {
        ScheduleOptions {
            save_interval: Duration::from_secs(10),
            turn_count_max: 64,
            turn_bytes_max: 1 << 20,
            retry_pause: Duration::from_millis(100),
            retry_pause_max: Duration::from_secs(5),
        }
    }
}

/// Messages with a time of their own.
#[derive(Clone, Debug)]
pub struct TimerOptions {
    /// `timerWheelEnable`: without it they are delivered at once, as 4.9.3 does it.
    pub is_on: bool,
    /// `timerMaxDelaySec`: a longer delay is refused.
    pub delay_max: Duration,
    /// `timerWaitingMax`. Units: messages that wait. Each takes about 50 bytes; one more is
    /// refused.
    pub waiting_count_max: usize,
    /// Units: messages from the oldest waiting one to the newest. Each takes 1 byte, and its done
    /// message is read at a start. Beyond it the oldest are written anew; with twice as many one
    /// more is refused.
    pub span_max: u64,
    /// Units: messages that are handed to the store, or looked at, at a time.
    pub turn_count_max: usize,
    /// Units: bytes of them; one message is always taken.
    pub turn_bytes_max: usize,
    /// After the store refused a delivery. Doubles up to the longest.
    pub retry_pause: Duration,
    pub retry_pause_max: Duration,
}

impl Default for TimerOptions {
    fn default() -> Self {
        TimerOptions {
            is_on: true,
            delay_max: Duration::from_secs(3 * 24 * 3600),
            waiting_count_max: 1_000_000,
            span_max: 4_000_000,
            turn_count_max: 64,
            turn_bytes_max: 1 << 20,
            retry_pause: Duration::from_millis(100),
            retry_pause_max: Duration::from_secs(5),
        }
    }
}

/// How open transactions are asked for.
#[derive(Clone, Debug)]
pub struct TransactionOptions {
    /// `transactionTimeOut`: no producer is asked earlier.
    pub timeout: Duration,
    /// `transactionCheckMax`. Units: checks.
    pub check_max: i32,
    /// `transactionCheckInterval`
    pub check_interval: Duration,
    /// `fileReservedTime`: an older half message would be deleted with its file.
    pub keep_for: Duration,
    /// Units: half messages from the oldest open one to the newest. Each takes about 9 bytes; one
    /// more is refused.
    pub window_max: usize,
    /// Units: half messages of a check that are with the store at a time.
    pub turn_count_max: usize,
    /// A half message that could not be read in so many rounds is left behind when half of
    /// `window_max` lies behind it.
    pub read_tries_max: u32,
    /// Such half messages that are counted at a time.
    pub unreadable_max: usize,
    /// After the store refused something of a check.
    pub retry_pause: Duration,
}

impl Default for TransactionOptions {
    fn default() -> Self {
        TransactionOptions {
            timeout: Duration::from_secs(6),
            check_max: 15,
            check_interval: Duration::from_secs(60),
            keep_for: Duration::from_secs(72 * 3600),
            window_max: 4 << 20,
            turn_count_max: 64,
            read_tries_max: 3,
            unreadable_max: 1024,
            retry_pause: Duration::from_secs(1),
        }
    }
}

/// Bounds of what the broker holds for its peers.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Pulls waiting in the whole broker; one more is answered at once, as if it may not wait.
    pub parked_pulls_max: usize,
    /// Pulls waiting on one connection.
    pub parked_pulls_per_peer_max: usize,
    /// Rare requests (admin, cold reads) running at a time for one connection.
    pub rare_requests_per_peer_max: usize,
    /// Sends waiting until their topic is durable in topics.json.
    pub sends_waiting_for_topic_max: usize,
    /// Rows of consumerOffset.json: topic, group, queue.
    pub offset_rows_max: usize,
    /// Client memberships: one client in one group.
    pub memberships_max: usize,
    /// Locks of orderly consumers.
    pub queue_locks_max: usize,
    /// Requests to clients that wait for an answer, over all clients; 4.9.3 has as many replies.
    pub client_calls_max: usize,
    /// Statistics of what groups got: topic and group. More are not counted.
    pub stats_rows_max: usize,
    /// Delay levels of which is counted what was delivered; zero without `enableDetailStat`.
    pub counted_levels_max: usize,
    /// Queues watched for a stall at a time: group, topic, queue. Each takes about 150 bytes.
    pub stuck_rows_max: usize,
    /// Queues that one turn looks at for a stall: well below 1 ms.
    pub stuck_turn_max: usize,
    /// Units: bytes of one whole stored record. `maxMessageSize`
    pub message_bytes_max: usize,
    /// A longer wait is cut to this. Units: time a pull may stay parked.
    pub pull_suspend_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            parked_pulls_max: 100_000,
            parked_pulls_per_peer_max: 1_000,
            rare_requests_per_peer_max: 64,
            sends_waiting_for_topic_max: 10_000,
            offset_rows_max: 5_000_000,
            memberships_max: 200_000,
            queue_locks_max: 500_000,
            client_calls_max: 10_000,
            stats_rows_max: 200_000,
            counted_levels_max: 64,
            stuck_rows_max: 100_000,
            stuck_turn_max: 64,
            message_bytes_max: 4 * 1024 * 1024,
            pull_suspend_max: Duration::from_secs(600),
        }
    }
}

/// `onStoreFailure`: what follows a failed write or sync of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStoreFailure {
    /// The process ends with an exit code of its own.
    Exit,
    /// What is known to be on disk is served; sends are refused, and the name servers are told.
    ReadOnly,
}

/// How a broker copies to, or from, others of its name.
#[derive(Clone, Debug)]
pub struct ReplicationOptions {
    /// `brokerRole`
    pub role: Role,
    /// `haMasterAddress`: where a slave dials, whatever the name servers say.
    pub master: Option<String>,
    /// `haAllowedPeers`: who may be a slave; empty: whoever name servers know by this name.
    pub allowed: Vec<IpAddr>,
    pub stream: ha::Options,
    /// A master whose last process did not stop in order waits so long for slaves that may have
    /// more of its log.
    pub catch_up_wait: Duration,
    /// A slave copies what its master keeps beside the log first after this, and then so often.
    /// Source: BrokerController#handleSlaveSynchronize (4.9.3).
    pub copy_first: Duration,
    pub copy_interval: Duration,
}

impl Default for ReplicationOptions {
    fn default() -> Self {
        ReplicationOptions {
            role: Role::AsyncMaster,
            master: None,
            allowed: Vec::new(),
            stream: ha::Options::default(),
            catch_up_wait: Duration::from_secs(10),
            copy_first: Duration::from_secs(3),
            copy_interval: Duration::from_secs(10),
        }
    }
}

/// Everything a broker can be told besides its store.
#[derive(Clone, Debug)]
pub struct Options {
    /// `storePathRootDir`: the state files are in its `config/`.
    pub root: String,
    /// `brokerId`
    pub id: BrokerId,
    /// `brokerIP1`: what clients dial; stored in every message.
    pub advertised_ip: IpAddr,
    /// `brokerIP2`: what slaves dial.
    pub ha_ip: IpAddr,
    pub bind_ip: IpAddr,
    /// `listenPort`; the fast port is 2 below, HA 1 above. 0 takes any free port and no fast port.
    pub listen_port: u16,
    /// `namesrvAddr`, split.
    pub name_servers: Vec<String>,
    /// `registerNameServerPeriod`, 10 to 60 s in 4.9.3.
    pub register_interval: Duration,
    /// `registerBrokerTimeoutMills`
    pub register_timeout: Duration,
    /// `registerWaitMillis`: how long the answer to a changed topic waits for the name servers.
    /// Shorter than the 5 s that mqadmin waits for it.
    pub register_wait: Duration,
    /// `flushConsumerOffsetInterval`
    pub offsets_save_interval: Duration,
    /// A client silent for this long is dropped (120 s in 4.9.3).
    pub client_silence_max: Duration,
    /// `rocketmq.broker.rebalance.lockMaxLiveTime`
    pub queue_lock_lifetime: Duration,
    /// `stuckQueueWarnMillis`: a group with members whose offset has not moved for so long, with
    /// messages behind it, is stuck there. Zero: nobody looks.
    pub stuck_queue_after: Duration,
    /// `regionId`
    pub region_id: String,
    /// `traceOn`
    pub trace_on: bool,
    /// `brokerPermission`
    pub permission: u32,
    /// `longPollingEnable`
    pub long_polling: bool,
    /// `shortPollingTimeMills`: how long a pull waits without long polling.
    pub short_polling: Duration,
    /// `waitTimeMillsInPullQueue`: how long a pull may wait for the disk.
    pub pull_read_timeout: Duration,
    /// `rejectTransactionMessage`
    pub reject_transactions: bool,
    /// `storeReplyMessageEnable`: answers to messages are stored, besides being pushed.
    pub store_replies: bool,
    /// `slaveReadEnable`: who is far behind is sent to a slave, and a slave does not send back.
    pub slave_read: bool,
    /// `startAcceptSendRequestTimeStamp`. Units: epoch milliseconds.
    pub accept_sends_from_ms: i64,
    /// `maxMsgsNumBatch`. Units: messages that one query by key returns.
    pub query_count_max: usize,
    /// `defaultQueryMaxNum`. Units: messages looked at for a unique key.
    pub unique_query_count_max: usize,
    /// How long a clean stop may take before what still runs is dropped.
    pub stop_timeout: Duration,
    pub on_store_failure: OnStoreFailure,
    pub topics: TopicOptions,
    pub groups: GroupOptions,
    pub filters: FilterOptions,
    pub replication: ReplicationOptions,
    pub schedule: ScheduleOptions,
    pub timers: TimerOptions,
    pub transactions: TransactionOptions,
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            root: "store".to_owned(),
            id: 0,
            advertised_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            ha_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            bind_ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            listen_port: 10911,
            name_servers: Vec::new(),
            register_interval: Duration::from_secs(30),
            register_timeout: Duration::from_secs(6),
            register_wait: Duration::from_secs(2),
            offsets_save_interval: Duration::from_secs(5),
            client_silence_max: Duration::from_secs(120),
            queue_lock_lifetime: Duration::from_secs(60),
            stuck_queue_after: Duration::from_secs(600),
            region_id: "DefaultRegion".to_owned(),
            trace_on: true,
            permission: 6,
            long_polling: true,
            short_polling: Duration::from_secs(1),
            pull_read_timeout: Duration::from_secs(5),
            reject_transactions: false,
            store_replies: true,
            slave_read: false,
            accept_sends_from_ms: 0,
            query_count_max: 64,
            unique_query_count_max: 32,
            stop_timeout: Duration::from_secs(4),
            on_store_failure: OnStoreFailure::Exit,
            topics: TopicOptions::default(),
            groups: GroupOptions::default(),
            filters: FilterOptions::default(),
            replication: ReplicationOptions::default(),
            schedule: ScheduleOptions::default(),
            timers: TimerOptions::default(),
            transactions: TransactionOptions::default(),
            limits: Limits::default(),
        }
    }
}

impl Options {
    /// Small bounds and short intervals for one run of the simulation.
    pub fn swarm(rng: &mut Rng) -> Self {
        let ms = |rng: &mut Rng, lo, hi| Duration::from_millis(rng.between(lo, hi));
        let mut options = Options {
            register_interval: ms(rng, 500, 10_000),
            offsets_save_interval: ms(rng, 100, 5_000),
            client_silence_max: ms(rng, 5_000, 120_000),
            ..Options::default()
        };
        options.topics.default_queues = rng.between(1, 8) as u32;
        options.schedule.save_interval = options.offsets_save_interval;
        options.schedule.turn_count_max = 1 << (options.topics.default_queues % 5);
        options.timers.turn_count_max = options.schedule.turn_count_max;
        if rng.chance(0.2) {
            options.limits.parked_pulls_max = rng.between(1, 4) as usize;
        }
        if rng.chance(0.2) {
            options.limits.sends_waiting_for_topic_max = rng.between(1, 8) as usize;
        }
        options
    }
}
