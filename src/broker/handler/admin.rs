//! What tools and slaves ask: requests 28, 43, 45, 200 to 202, 207, 208 and 300.

use super::super::driver::{Core, Shared};
use super::super::reply::{Answer, Refusal};
use super::super::stats::Totals;
use super::super::subscription_groups::GroupConfig;
use super::topic::json;
use super::{Done, Request, later};
use crate::format::message_unit::{self, Unit};
use crate::model::{QueueId, QueueKey, QueueOffset, TopicName};
use crate::protocol::body;
use crate::protocol::code::response_code as code;
use crate::protocol::header::group::DeleteSubscriptionGroupHeader;
use crate::protocol::header::topic::TopicHeader;
use bytes::Bytes;
use serde_json::{Map, Value};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

fn bad(error: impl std::fmt::Display) -> Refusal {
    Refusal::system_error(error.to_string())
}

/// Source: AdminBrokerProcessor#prepareRuntimeInfo (4.9.3); every value is a text.
pub(super) fn runtime_info(shared: &Arc<Shared>, core: &Core, request: &Request) -> Answer<Done> {
    let mut table = runtime_table(shared, core);
    if let Ok((free, total)) = shared.disk.free_space(&shared.commit_log_dir) {
        let (free, total) = (readable_bytes(free), readable_bytes(total));
        let capacity = format!("Total : {total}, Free : {free}.");
        table.insert("commitLogDirCapacity".to_owned(), capacity.into());
    }
    let shared = shared.clone();
    later(request, async move {
        let earliest = earliest_time(&shared).await.unwrap_or(-1);
        table.insert("earliestMessageTimeStamp".to_owned(), earliest.to_string().into());
        json(&serde_json::json!({ "table": table }))
    })
}

/// When the oldest message was stored; nothing when there is none or it cannot be read.
async fn earliest_time(shared: &Shared) -> Option<i64> {
    let at = shared.store.stats().min;
    let record = shared.store.record_at(at).await.ok()??;
    match message_unit::decode(&record, at, false).ok()? {
        Unit::Record(view) => Some(view.store_timestamp().0),
        _ => None,
    }
}

fn runtime_table(shared: &Shared, core: &Core) -> Map<String, Value> {
    let stats = shared.store.stats();
    let used = shared.disk_used().map_or(-1.0, |percent| percent / 100.0);
    let up = shared.clock.mono().since(crate::rt::time::Mono::default()).as_secs();
    let runtime = format!(
        "[ {} days, {} hours, {} minutes, {} seconds ]",
        up / 86_400,
        up / 3600 % 24,
        up / 60 % 60,
        up % 60
    );
    let mut table = Map::new();
    let mut put = |name: &str, value: String| {
        table.insert(name.to_owned(), Value::String(value));
    };
    put("bootTimestamp", shared.started_ms.to_string());
    put("brokerVersion", "399".to_owned());
    put("brokerVersionDesc", "V4_9_3".to_owned());
    put("runtime", runtime);
    put("startAcceptSendRequestTimeStamp", core.live.accept_sends_from_ms.to_string());
    put("commitLogMinOffset", stats.min.to_string());
    put("commitLogMaxOffset", stats.end.to_string());
    put("commitLogDiskRatio", used.to_string());
    put("consumeQueueDiskRatio", used.to_string());
    let behind = stats.end.0.saturating_sub(stats.synced.0);
    put("remainHowManyDataToFlush", format!("{behind} B"));
    put("dispatchBehindBytes", stats.end.0.saturating_sub(stats.visible.0).to_string());
    put("deletedCommitLogFiles", stats.files_deleted.to_string());
    put("deletedUnconsumedMessages", shared.deleted_unconsumed.load(Ordering::Relaxed).to_string());
    put("pageCacheLockTimeMills", stats.stall.map_or(0, |stall| stall.waited_ms).to_string());
    for name in ["longestLogWriteMillis", "putMessageEntireTimeMax"] {
        put(name, stats.longest_write.as_millis().to_string());
    }
    for (level, next, end) in core.schedule.rows() {
        put(&format!("scheduleMessageOffset_{level}"), format!("{next},{end}"));
    }
    put_timers(shared, core, &mut put);
    let (mixed, idle) = core.clients.troubles();
    put("groupsWithMixedSubscriptions", mixed.to_string());
    put("consumersWithoutQueue", idle.to_string());
    put("stuckQueues", core.stuck.count().to_string());
    if core.stuck.count() > 0 {
        let first = core.stuck.first(STUCK_NAMED_MAX);
        let names = first.map(|key| format!("{}@{}@{}", key.group, key.topic, key.queue));
        put("stuckQueuesFirst", names.collect::<Vec<_>>().join(" "));
    }
    put_replication(shared, &mut put);
    put("clientCallsWaiting", shared.calls.running_count().to_string());
    put_totals(shared, core, &mut put);
    for name in COUNTERS_AT_ZERO {
        put(name, "0".to_owned());
    }
    table
}

/// Messages with a time of their own, in the words of 5.3, and when the first one is due.
/// Source: AdminBrokerProcessor#prepareRuntimeInfo (5.3).
/// Differs: they are absent where nothing is delivered; what is behind is what is late, not how
/// far a wheel was read.
fn put_timers(shared: &Shared, core: &Core, put: &mut impl FnMut(&str, String)) {
    let Some(backlog) = core.timers.backlog() else { return };
    put("timerReadBehind", (backlog.late_ms(shared.clock.wall()) / 1_000).to_string());
    put("timerOffsetBehind", backlog.unread.to_string());
    put("timerCongestNum", backlog.waiting.to_string());
    if let Some(due) = backlog.earliest {
        put("timerEarliestDue", due.0.to_string());
    }
}

/// Our own rows.
fn put_replication(shared: &Shared, put: &mut impl FnMut(&str, String)) {
    let status = shared.replication_status();
    put("haRole", status.role.to_string());
    put("haEpoch", status.epoch.to_string());
    put("haSlavesConnected", status.slaves.len().to_string());
    for slave in &status.slaves {
        let row = format!("{} bytes, {} ms", slave.behind_bytes, slave.behind_ms);
        put(&format!("haSlaveBehind_{}", slave.addr), row);
    }
    if let Some(master) = status.master {
        put("haMaster", master);
        put("haMasterConnected", status.is_connected.to_string());
        put("haBehindBytes", status.behind_bytes.to_string());
    }
}

/// Rates, and counts since the start and at the last two midnights.
/// Source: StoreStatsService#getRuntimeInfo, BrokerStats (4.9.3).
fn put_totals(shared: &Shared, core: &Core, put: &mut impl FnMut(&str, String)) {
    let now = shared.clock.wall();
    let totals = core.stats.totals;
    let (yesterday, today) = core.stats.mornings();
    type Of = fn(&Totals) -> u64;
    let rates: [(&str, Of); 5] = [
        ("putTps", |totals| totals.put),
        ("getFoundTps", |totals| totals.found),
        ("getMissTps", |totals| totals.missed),
        ("getTotalTps", |totals| totals.found + totals.missed),
        ("getTransferedTps", |totals| totals.got),
    ];
    for (name, of) in rates {
        let [ten_seconds, minute, ten_minutes] = core.stats.rates(now, of);
        put(name, format!("{ten_seconds:?} {minute:?} {ten_minutes:?}"));
    }
    for (name, count) in [
        ("msgPutTotalYesterdayMorning", yesterday.put),
        ("msgPutTotalTodayMorning", today.put),
        ("msgPutTotalTodayNow", totals.put),
        ("msgGetTotalYesterdayMorning", yesterday.got),
        ("msgGetTotalTodayMorning", today.got),
        ("msgGetTotalTodayNow", totals.got),
        ("putMessageTimesTotal", totals.put.max(1)),
        ("putMessageSizeTotal", totals.put_bytes),
    ] {
        put(name, count.to_string());
    }
    let average = totals.put_bytes as f64 / totals.put.max(1) as f64;
    put("putMessageAverageSize", format!("{average:?}"));
}

/// Stuck queues that are named, as group, topic and queue.
const STUCK_NAMED_MAX: usize = 10;

/// Names that tools read as numbers and must find. They count thread pools and buffers that do not
/// exist here.
const COUNTERS_AT_ZERO: [&str; 14] = [
    "EndTransactionQueueSize",
    "EndTransactionThreadPoolQueueCapacity",
    "dispatchMaxBuffer",
    "getMessageEntireTimeMax",
    "pullThreadPoolQueueCapacity",
    "pullThreadPoolQueueHeadWaitTimeMills",
    "pullThreadPoolQueueSize",
    "queryThreadPoolQueueCapacity",
    "queryThreadPoolQueueHeadWaitTimeMills",
    "queryThreadPoolQueueSize",
    "remainTransientStoreBufferNumbs",
    "sendThreadPoolQueueCapacity",
    "sendThreadPoolQueueHeadWaitTimeMills",
    "sendThreadPoolQueueSize",
];

/// Units: as Java prints them, one decimal of the largest power of 1,024 that fits.
/// Source: MixAll#humanReadableByteCount (4.9.3).
fn readable_bytes(bytes: u64) -> String {
    let power = bytes.max(1).ilog2() / 10;
    match "KMGTPE".chars().nth((power as usize).wrapping_sub(1)) {
        Some(unit) => format!("{:.1} {unit}iB", bytes as f64 / (1_u64 << (10 * power)) as f64),
        None => format!("{bytes} B"),
    }
}

/// With `own=true`, which a master of ours says: those that clients committed at this slave alone.
pub(super) fn all_offsets(core: &mut Core, request: &Request) -> Answer<Done> {
    let is_own = request.header.ext.get("own").is_some_and(|own| own == "true");
    let text = if is_own { core.offsets.hand_over() } else { core.offsets.to_json() };
    Ok(Done::Body(Bytes::from(text)))
}

/// Source: AdminBrokerProcessor#getAllDelayOffset (4.9.3).
pub(super) fn all_delay_offsets(core: &Core) -> Answer<Done> {
    Ok(Done::Body(Bytes::from(core.schedule.to_json())))
}

pub(super) fn all_groups(core: &Core) -> Answer<Done> {
    Ok(Done::Body(Bytes::from(core.groups.to_json())))
}

/// Durable on the answer: subscriptionGroup.json with it.
/// Source: AdminBrokerProcessor#updateAndCreateSubscriptionGroup (4.9.3).
/// Differs: a group without a name is refused.
pub(super) fn update_group(shared: &Shared, core: &mut Core, request: &Request) -> Answer<Done> {
    let config: GroupConfig = body::decode(request.body())
        .map_err(|error| Refusal::system_error(format!("the group cannot be read: {error}")))?;
    if config.group_name.is_empty() {
        return Err(bad("the group has no name"));
    }
    core.groups.update(shared.clock.wall(), config);
    shared.unsaved.notify_one();
    let saved = shared.until_saved(0, core.groups.changes());
    later(request, async move { saved.await.map(|()| Done::Empty) })
}

/// Source: AdminBrokerProcessor#deleteSubscriptionGroup (4.9.3).
pub(super) fn delete_group(shared: &Shared, core: &mut Core, request: &Request) -> Answer<Done> {
    let header = DeleteSubscriptionGroupHeader::decode(&request.header.ext).map_err(bad)?;
    core.groups.remove(shared.clock.wall(), &header.group_name);
    core.stats.groups.on_group_deleted(&header.group_name);
    if header.removes_offset {
        core.offsets.remove_group(&header.group_name);
    }
    shared.unsaved.notify_one();
    let saved = shared.until_saved(0, core.groups.changes());
    later(request, async move { saved.await.map(|()| Done::Empty) })
}

/// Groups that consume a topic, live or not.
/// Source: AdminBrokerProcessor#queryTopicConsumeByWho (4.9.3).
pub(super) fn groups_of_topic(core: &Core, request: &Request) -> Answer<Done> {
    let TopicHeader { topic } = TopicHeader::decode(&request.header.ext).map_err(bad)?;
    let mut groups = core.clients.groups_of_topic(&topic);
    groups.extend(core.offsets.groups_of_topic(&topic));
    groups.sort_unstable();
    groups.dedup();
    json(&serde_json::json!({ "groupList": groups }))
}

/// The queues of a topic, as a task may look at them.
pub(super) struct Queues {
    pub topic: TopicName,
    pub count: u32,
}

impl Queues {
    pub fn keys(&self) -> impl Iterator<Item = QueueKey> {
        let key = |queue| QueueKey { topic: self.topic.clone(), queue: QueueId(queue) };
        (0..self.count).map(key)
    }
}

/// A queue in key position, as fastjson prints it: an object, which no standard allows.
pub(super) fn push_queue_key(out: &mut String, broker: &str, key: &QueueKey) {
    if !out.ends_with('{') {
        out.push(',');
    }
    let (broker, topic) = (Value::from(broker), Value::from(&*key.topic));
    let queue = key.queue;
    let _ = write!(out, "{{\"brokerName\":{broker},\"queueId\":{queue},\"topic\":{topic}}}:");
}

/// Min, max and newest time of every queue of a topic.
/// Source: AdminBrokerProcessor#getTopicStatsInfo (4.9.3).
pub(super) fn topic_stats(shared: &Arc<Shared>, core: &Core, request: &Request) -> Answer<Done> {
    let TopicHeader { topic: name } = TopicHeader::decode(&request.header.ext).map_err(bad)?;
    let Some(topic) = core.topics.get(&name) else {
        let remark = format!("topic[{name}] not exist");
        return Err(Refusal::new(code::TOPIC_NOT_EXIST, remark));
    };
    let queues = Queues { topic: topic.name.clone(), count: topic.config.write_queue_nums };
    let shared = shared.clone();
    later(request, async move {
        let mut text = String::from("{\"offsetTable\":{");
        for key in queues.keys() {
            let (min, max) = (shared.store.min_offset(&key), shared.store.max_offset(&key));
            let time = store_time_before(&shared, &key, max).await.unwrap_or(0);
            push_queue_key(&mut text, &shared.options.topics.broker_name, &key);
            let _ = write!(
                text,
                "{{\"lastUpdateTimestamp\":{time},\"maxOffset\":{max},\"minOffset\":{min}}}"
            );
        }
        text.push_str("}}");
        Ok(Done::Body(Bytes::from(text)))
    })
}

/// When the message before `offset` was stored.
pub(super) async fn store_time_before(
    shared: &Shared,
    key: &QueueKey,
    offset: QueueOffset,
) -> Option<i64> {
    let before = QueueOffset(offset.0.checked_sub(1)?);
    Some(shared.store.store_time_of(key, before).await.ok()??.0)
}
