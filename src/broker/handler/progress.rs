//! How far groups are: requests 208, 303, 308, 314, 315, 317 and 321.

use super::super::clients::Subscription;
use super::super::driver::{Core, Shared};
use super::super::reply::{Answer, Refusal};
use super::super::stats::{Item, Window};
use super::admin::{Queues, push_queue_key, store_time_before};
use super::topic::json;
use super::{Done, Request, later};
use crate::format::consume_queue_unit::QueueUnit;
use crate::model::{QueueId, QueueKey, QueueOffset, TopicName};
use crate::protocol::code::response_code as code;
use crate::protocol::header::progress::{
    BrokerConsumeStatsHeader, CloneGroupOffsetHeader, ConsumeStatsHeader, ConsumeTimeSpanHeader,
    CorrectionOffsetHeader, QueryConsumeQueueHeader, ViewStatsHeader,
};
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

/// Entries that one look at a queue returns at most; 4.9.3 has no bound but the file.
const ENTRIES_MAX: usize = 32_768;

fn bad(error: impl std::fmt::Display) -> Refusal {
    Refusal::system_error(error.to_string())
}

/// Where a group stands in one topic.
struct Standing {
    /// Queue and committed offset.
    rows: Vec<(QueueKey, i64)>,
    tps: f64,
}

/// `None` when the topic is gone, or the live group does not subscribe to it.
fn standing(core: &Core, group: &str, topic: &str, queues: Side) -> Option<Standing> {
    let topic = core.topics.get(topic)?;
    let live = core.clients.consumer_group(group);
    if live.is_some_and(|live| live.subscription(&topic.name).is_none()) {
        return None;
    }
    let count = match queues {
        Side::Read => topic.config.read_queue_nums,
        Side::Write => topic.config.write_queue_nums,
    };
    let queues = Queues { topic: topic.name.clone(), count };
    let row = |key: QueueKey| {
        let consumed = core.offsets.get(group, &key.topic, key.queue).unwrap_or(0).max(0);
        (key, consumed)
    };
    let gets = core.stats.groups.find(&topic.name, group);
    let tps = gets.map_or(0.0, |gets| gets.nums.minute().tps);
    Some(Standing { rows: queues.keys().map(row).collect(), tps })
}

#[derive(Clone, Copy)]
enum Side {
    Read,
    Write,
}

/// Prints rows as `ConsumeStats` does; returns the messages not consumed yet.
async fn push_rows(shared: &Shared, text: &mut String, rows: &[(QueueKey, i64)]) -> i64 {
    let mut behind = 0;
    for (key, consumed) in rows {
        let end = shared.store.max_offset(key);
        let at = QueueOffset(consumed.unsigned_abs());
        let time = store_time_before(shared, key, at).await.unwrap_or(0);
        behind += i64::try_from(end.0).unwrap_or(i64::MAX) - consumed;
        push_queue_key(text, &shared.options.topics.broker_name, key);
        let _ = write!(
            text,
            "{{\"brokerOffset\":{end},\"consumerOffset\":{consumed},\"lastTimestamp\":{time}}}"
        );
    }
    behind
}

/// How far a group is in each queue of a topic, or of all its topics.
/// Source: AdminBrokerProcessor#getConsumeStats (4.9.3).
pub(super) fn of_group(shared: &Arc<Shared>, core: &Core, request: &Request) -> Answer<Done> {
    let header = ConsumeStatsHeader::decode(&request.header.ext).map_err(bad)?;
    let (group, topic) = (header.consumer_group, header.topic.unwrap_or_default());
    let topics = match topic.trim().is_empty() {
        true => core.offsets.topics_of_group(&group),
        false => vec![&*topic],
    };
    let all: Vec<Standing> =
        topics.iter().filter_map(|topic| standing(core, &group, topic, Side::Read)).collect();
    let tps: f64 = all.iter().map(|one| one.tps).sum();
    let shared = shared.clone();
    later(request, async move {
        let mut text = format!("{{\"consumeTps\":{tps:?},\"offsetTable\":{{");
        for one in all {
            push_rows(&shared, &mut text, &one.rows).await;
        }
        text.push_str("}}");
        Ok(Done::Body(Bytes::from(text)))
    })
}

/// How far every group is in every topic that it has an offset of.
/// Source: AdminBrokerProcessor#fetchAllConsumeStatsInBroker (4.9.3).
pub(super) fn of_broker(shared: &Arc<Shared>, core: &Core, request: &Request) -> Answer<Done> {
    let header = BrokerConsumeStatsHeader::decode(&request.header.ext).map_err(bad)?;
    let is_wanted = |topic: &&str| {
        !header.is_order || core.topics.get(topic).is_some_and(|topic| topic.config.order)
    };
    let mut by_group: Vec<(String, Vec<Standing>)> = Vec::new();
    let by_topic = core.offsets.topics_by_group();
    for group in core.groups.names() {
        let topics = by_topic.get(group).into_iter().flatten().copied().filter(is_wanted);
        let all = topics.filter_map(|topic| standing(core, group, topic, Side::Write));
        by_group.push((group.to_owned(), all.collect()));
    }
    let shared = shared.clone();
    later(request, async move {
        let mut text =
            format!("{{\"brokerAddr\":\"{}\",\"consumeStatsList\":[", shared.store_host());
        let mut behind = 0;
        for (at, (group, all)) in by_group.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            let _ = write!(text, "{comma}{{{}:[", Value::from(&**group));
            for (at, one) in all.iter().enumerate() {
                let comma = if at > 0 { "," } else { "" };
                let _ = write!(text, "{comma}{{\"consumeTps\":{:?},\"offsetTable\":{{", one.tps);
                behind += push_rows(&shared, &mut text, &one.rows).await;
                text.push_str("}}");
            }
            text.push_str("]}");
        }
        let _ = write!(text, "],\"totalDiff\":{behind}}}");
        Ok(Done::Body(Bytes::from(text)))
    })
}

/// Between which times the messages of each queue lie, and where the group is.
/// Source: AdminBrokerProcessor#queryConsumeTimeSpan (4.9.3).
pub(super) fn time_span(shared: &Arc<Shared>, core: &Core, request: &Request) -> Answer<Done> {
    let header = ConsumeTimeSpanHeader::decode(&request.header.ext).map_err(bad)?;
    let name = &header.topic;
    let Some(topic) = core.topics.get(name) else {
        return Err(Refusal::new(code::TOPIC_NOT_EXIST, format!("topic[{name}] not exist")));
    };
    let queues = Queues { topic: topic.name.clone(), count: topic.config.write_queue_nums };
    let row = |key: QueueKey| {
        let consumed = core.offsets.get(&header.group, name, key.queue).unwrap_or(-1);
        (key, consumed)
    };
    let rows: Vec<(QueueKey, i64)> = queues.keys().map(row).collect();
    let shared = shared.clone();
    later(request, async move {
        let mut spans = Vec::with_capacity(rows.len());
        for (key, consumed) in rows {
            spans.push(span(&shared, &key, consumed).await);
        }
        json(&json!({ "consumeTimeSpanSet": spans }))
    })
}

async fn span(shared: &Shared, key: &QueueKey, consumed: i64) -> Value {
    let time_of = async |offset: i64| {
        let offset = QueueOffset(u64::try_from(offset).ok()?);
        Some(shared.store.store_time_of(key, offset).await.ok()??.0)
    };
    let end = i64::try_from(shared.store.max_offset(key).0).unwrap_or(i64::MAX);
    let min = i64::try_from(shared.store.min_offset(key).0).unwrap_or(i64::MAX);
    let min_time = if end > 0 { time_of(min).await.unwrap_or(-1) } else { -1 };
    let consume_time =
        if consumed > 0 { time_of(consumed - 1).await.unwrap_or(-1) } else { min_time };
    // Differs: 4.9.3 takes the delay of a queue that has no such message from 1970.
    let waits_since = if consumed < end { time_of(consumed.max(min)).await } else { None };
    json!({
        "consumeTimeStamp": consume_time,
        "delayTime": waits_since.map_or(0, |since| shared.clock.wall().0 - since),
        "maxTimeStamp": time_of(end - 1).await.unwrap_or(-1),
        "messageQueue": {
            "brokerName": shared.options.topics.broker_name,
            "queueId": key.queue.0,
            "topic": &*key.topic,
        },
        "minTimeStamp": min_time,
    })
}

/// The least offset of all groups by queue, for a group that is ahead of it.
/// Source: AdminBrokerProcessor#queryCorrectionOffset (4.9.3).
/// Differs: the offsets of groups that are left out stay; 4.9.3 deletes them.
pub(super) fn correction(shared: &Shared, core: &Core, request: &Request) -> Answer<Done> {
    let header = CorrectionOffsetHeader::decode(&request.header.ext).map_err(bad)?;
    let left_out = header.filter_groups.unwrap_or_default();
    let topic = TopicName::new(&header.topic);
    let mut least: BTreeMap<u32, i64> = BTreeMap::new();
    let mut of_compared = None;
    for (group, queues) in core.offsets.of_topic(&header.topic) {
        if group == header.compare_group {
            of_compared = Some(queues);
        }
        if left_out.split(',').any(|name| name == group) {
            continue;
        }
        for (&queue, row) in queues {
            let offset = row.offset;
            let key = QueueKey { topic: topic.clone(), queue: QueueId(queue) };
            let min = i64::try_from(shared.store.min_offset(&key).0).unwrap_or(i64::MAX);
            if offset >= min {
                let least = least.entry(queue).or_insert(offset);
                *least = (*least).min(offset);
            }
        }
    }
    for (queue, row) in of_compared.into_iter().flatten() {
        if let Some(least) = least.get_mut(queue)
            && *least > row.offset
        {
            *least = i64::MAX;
        }
    }
    let mut text = String::from("{\"correctionOffsets\":{");
    for (at, (queue, offset)) in least.iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        let _ = write!(text, "{comma}{queue}:{offset}");
    }
    text.push_str("}}");
    Ok(Done::Body(Bytes::from(text)))
}

/// Copies a group's offsets to another, in place of those that it has.
/// Source: AdminBrokerProcessor#cloneGroupOffset (4.9.3).
/// Differs: without a topic those of every topic are copied; 4.9.3 copies nothing then.
pub(super) fn clone_offsets(core: &mut Core, request: &Request) -> Answer<Done> {
    let header = CloneGroupOffsetHeader::decode(&request.header.ext).map_err(bad)?;
    let (from, to) = (&header.src_group, &header.dest_group);
    let topics: Vec<String> = match header.topic.filter(|topic| !topic.trim().is_empty()) {
        Some(topic) => vec![topic],
        None => core.offsets.topics_of_group(from).into_iter().map(str::to_owned).collect(),
    };
    for topic in topics {
        let live = core.clients.consumer_group(from);
        let is_foreign = live.is_some_and(|live| live.subscription(&topic).is_none());
        if core.topics.get(&topic).is_none() || (is_foreign && !header.is_offline) {
            tracing::warn!("offsets of {topic} are not copied from {from}: it is not subscribed");
            continue;
        }
        if !core.offsets.copy(&topic, from, to) {
            return Err(Refusal::overload("the table of consumer offsets is full"));
        }
    }
    Ok(Done::Empty)
}

/// What was put or got within a minute, an hour and a day.
/// Source: AdminBrokerProcessor#ViewBrokerStatsData (4.9.3).
/// Differs: how far a group is behind is told too, as it is now.
pub(super) fn view_stats(shared: &Arc<Shared>, core: &Core, request: &Request) -> Answer<Done> {
    let header = ViewStatsHeader::decode(&request.header.ext).map_err(bad)?;
    let (name, key) = (&*header.stats_name, &*header.stats_key);
    let not_there = || bad(format!("The stats <{name}> <{key}> not exist"));
    if matches!(name, "GROUP_GET_FALL_SIZE" | "GROUP_GET_FALL_TIME") {
        let (at, offset) = fall_place(core, key).ok_or_else(not_there)?;
        return fall_behind(shared, request, at, offset, name == "GROUP_GET_FALL_TIME");
    }
    let item = item(shared, core, name, key).filter(|item| !item.is_unused());
    let item = item.ok_or_else(not_there)?;
    let shown =
        |window: Window| json!({ "avgpt": window.average, "sum": window.sum, "tps": window.tps });
    json(&json!({
        "statsDay": shown(item.day()),
        "statsHour": shown(item.hour()),
        "statsMinute": shown(item.minute()),
    }))
}

fn item<'a>(shared: &Shared, core: &'a Core, name: &str, key: &str) -> Option<&'a Item> {
    let of_group = || {
        let (topic, group) = key.split_once('@')?;
        core.stats.groups.find(topic, group)
    };
    let put_to_queue = || {
        let (topic, queue) = key.split_once('@')?;
        core.topics.queue_puts(topic, QueueId(queue.parse().ok()?))
    };
    let got_of_queue = || {
        let mut parts = key.splitn(3, '@');
        let (topic, queue, group) = (parts.next()?, parts.next()?, parts.next()?);
        core.stats.groups.find(topic, group)?.of_queue(QueueId(queue.parse().ok()?))
    };
    let is_cluster = key == shared.options.topics.cluster_name;
    match name {
        "TOPIC_PUT_NUMS" => core.topics.puts(key).map(|puts| &puts.nums),
        "TOPIC_PUT_SIZE" => core.topics.puts(key).map(|puts| &puts.size),
        "QUEUE_PUT_NUMS" => put_to_queue().map(|puts| &puts.nums),
        "QUEUE_PUT_SIZE" => put_to_queue().map(|puts| &puts.size),
        "GROUP_GET_NUMS" => of_group().map(|gets| &gets.nums),
        "GROUP_GET_SIZE" => of_group().map(|gets| &gets.size),
        "QUEUE_GET_NUMS" => got_of_queue().map(|gets| &gets.nums),
        "QUEUE_GET_SIZE" => got_of_queue().map(|gets| &gets.size),
        "SNDBCK_PUT_NUMS" => of_group().map(|gets| &gets.sent_back),
        "BROKER_PUT_NUMS" if is_cluster => Some(&core.stats.broker_put),
        "BROKER_GET_NUMS" if is_cluster => Some(&core.stats.broker_get),
        _ => None,
    }
}

/// The queue that `queueId@topic@group` names, and the group's offset there.
/// Source: BrokerStatsManager#recordDiskFallBehindSize (4.9.3).
fn fall_place(core: &Core, key: &str) -> Option<(QueueKey, QueueOffset)> {
    let mut parts = key.splitn(3, '@');
    let (queue, topic, group) = (parts.next()?, parts.next()?, parts.next()?);
    let queue = QueueId(queue.parse().ok()?);
    let offset = core.offsets.get(group, topic, queue)?;
    let name = core.topics.get(topic)?.name.clone();
    Some((QueueKey { topic: name, queue }, QueueOffset(u64::try_from(offset).ok()?)))
}

/// How many bytes of the log, or milliseconds, lie between the message that a group consumes next
/// and now; 0 when it has consumed everything. 4.9.3 writes the same of the last pull to a log.
fn fall_behind(
    shared: &Arc<Shared>,
    request: &Request,
    at: QueueKey,
    offset: QueueOffset,
    is_time: bool,
) -> Answer<Done> {
    let shared = shared.clone();
    later(request, async move {
        let offset = offset.max(shared.store.min_offset(&at));
        let failed = |error| bad(format!("failed to read {at:?}: {error}"));
        let behind = if offset >= shared.store.max_offset(&at) {
            0
        } else if is_time {
            let stored = shared.store.store_time_of(&at, offset).await.map_err(failed)?;
            stored.map_or(0, |stored| shared.clock.wall().0.saturating_sub(stored.0).max(0))
        } else {
            let slice = shared.store.slice(&at, offset, 1).await.map_err(failed)?;
            let from = slice.units.first().map(|unit| unit.physical_offset.0);
            let behind = from.map_or(0, |from| shared.store.stats().end.0.saturating_sub(from));
            i64::try_from(behind).unwrap_or(i64::MAX)
        };
        let shown = json!({ "avgpt": behind as f64, "sum": behind, "tps": 0.0 });
        json(&json!({ "statsDay": shown, "statsHour": shown, "statsMinute": shown }))
    })
}

/// Entries of a queue as they lie on the disk.
/// Source: AdminBrokerProcessor#queryConsumeQueue (4.9.3).
pub(super) fn queue_entries(shared: &Arc<Shared>, core: &Core, request: &Request) -> Answer<Done> {
    let header = QueryConsumeQueueHeader::decode(&request.header.ext).map_err(bad)?;
    let (topic, queue) = (header.topic.clone(), header.queue_id.unwrap_or(0));
    let (index, count) = (header.index.unwrap_or(0), header.count.unwrap_or(0));
    let not_there = || bad(format!("{queue}@{topic} is not exist!"));
    let id = u32::try_from(queue).map_err(|_| not_there())?;
    let key = QueueKey { topic: TopicName::new(&topic), queue: QueueId(id) };
    if !shared.store.queues().iter().any(|(known, ..)| *known == key) {
        return Err(not_there());
    }
    let wanted = header.consumer_group.as_deref().map(|group| wanted(core, group, &topic));
    let store = shared.store.clone();
    later(request, async move {
        let count = usize::try_from(count).unwrap_or(0).min(ENTRIES_MAX);
        let mut entries = Vec::new();
        let mut at = u64::try_from(index).unwrap_or(u64::MAX);
        let is_inside = (store.min_offset(&key).0..store.max_offset(&key).0).contains(&at);
        while entries.len() < count {
            let from = QueueOffset(at);
            let slice = store.slice(&key, from, count - entries.len()).await;
            let slice = slice.map_err(|error| bad(format!("failed to read {key:?}: {error}")))?;
            if slice.units.is_empty() {
                break;
            }
            at += slice.units.len() as u64;
            entries.extend(slice.units.iter().map(entry));
        }
        if entries.is_empty() && !(is_inside && count == 0) {
            // The remark alone says so, with the code of success.
            let remark = format!("Index {index} of {queue}@{topic} is not exist!").into();
            let (ext, body) = (Vec::new(), Bytes::new());
            return Ok(Done::Full { code: code::SUCCESS, remark, ext, body });
        }
        let mut body = wanted.unwrap_or_default();
        body.insert("maxQueueIndex".to_owned(), store.max_offset(&key).0.into());
        body.insert("minQueueIndex".to_owned(), store.min_offset(&key).0.into());
        body.insert("queueData".to_owned(), entries.into());
        json(&body)
    })
}

fn entry(unit: &QueueUnit) -> Value {
    json!({
        "eval": false,
        "physicOffset": unit.physical_offset.0,
        "physicSize": unit.size,
        "tagsCode": unit.tags_code,
    })
}

/// What a live group wants of the topic.
fn wanted(core: &Core, group: &str, topic: &str) -> serde_json::Map<String, Value> {
    let mut body = serde_json::Map::new();
    let live = core.clients.consumer_group(group);
    let Some(subscription) = live.and_then(|live| live.subscription(topic)) else {
        body.insert("filterData".to_owned(), format!("{group}@{topic} is not online!").into());
        return body;
    };
    let filter = core.filters.get(group, topic).map(|filter| {
        json!({
            "clientVersion": filter.version,
            "consumerGroup": group,
            "dead": filter.is_dead(),
            "expression": filter.expression,
            "expressionType": filter.expression_type,
            "topic": topic,
        })
    });
    let text = filter.map_or_else(|| "null".to_owned(), |filter| filter.to_string());
    body.insert("filterData".to_owned(), text.into());
    let data = serde_json::to_value(Subscription::to_data(subscription)).unwrap_or_default();
    body.insert("subscriptionData".to_owned(), data);
    body
}
