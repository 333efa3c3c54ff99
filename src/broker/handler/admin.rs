//! What tools and slaves ask: requests 28, 33, 43, 200, 201 and 202.

use super::super::driver::{Core, Shared};
use super::super::reply::{Answer, Refusal};
use super::super::subscription_groups::GroupConfig;
use super::topic::json;
use super::{Done, Request, later};
use crate::model::{PhysicalOffset, QueueId, QueueKey};
use crate::protocol::body;
use crate::protocol::code::response_code as code;
use bytes::Bytes;
use serde_json::{Map, Value};
use std::fmt::Write;
use std::sync::Arc;

/// Source: AdminBrokerProcessor#prepareRuntimeInfo (4.9.3); every value is a text.
/// Differs: rates and daily totals are not counted yet and read 0.
pub(super) fn runtime_info(shared: &Shared) -> Answer<Done> {
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
    let mut put = |name: &str, value: String| table.insert(name.to_owned(), Value::String(value));
    put("bootTimestamp", shared.started_ms.to_string());
    put("brokerVersion", "399".to_owned());
    put("brokerVersionDesc", "V4_9_3".to_owned());
    put("runtime", runtime);
    put("startAcceptSendRequestTimeStamp", shared.options.accept_sends_from_ms.to_string());
    put("commitLogMinOffset", stats.min.to_string());
    put("commitLogMaxOffset", stats.end.to_string());
    put("commitLogDiskRatio", used.to_string());
    put("consumeQueueDiskRatio", used.to_string());
    let behind = stats.end.0.saturating_sub(stats.synced.0);
    put("remainHowManyDataToFlush", format!("{behind} B"));
    put("dispatchBehindBytes", stats.end.0.saturating_sub(stats.visible.0).to_string());
    for name in ["putTps", "getFoundTps", "getMissTps", "getTotalTps", "getTransferedTps"] {
        put(name, "0.0 0.0 0.0".to_owned());
    }
    for name in COUNTERS_AT_ZERO {
        put(name, "0".to_owned());
    }
    json(&serde_json::json!({ "table": table }))
}

/// Names that mqadmin reads and must find.
const COUNTERS_AT_ZERO: [&str; 14] = [
    "earliestMessageTimeStamp",
    "msgGetTotalTodayMorning",
    "msgGetTotalTodayNow",
    "msgGetTotalYesterdayMorning",
    "msgPutTotalTodayMorning",
    "msgPutTotalTodayNow",
    "msgPutTotalYesterdayMorning",
    "pageCacheLockTimeMills",
    "pullThreadPoolQueueHeadWaitTimeMills",
    "pullThreadPoolQueueSize",
    "putMessageAverageSize",
    "putMessageTimesTotal",
    "sendThreadPoolQueueHeadWaitTimeMills",
    "sendThreadPoolQueueSize",
];

/// Source: QueryMessageProcessor#viewMessageById (4.9.3).
pub(super) fn view_message(shared: &Arc<Shared>, request: &Request) -> Answer<Done> {
    let text = request.header.ext.get("offset").unwrap_or_default();
    let not_found = format!("can not find message by the offset, {text}");
    let Ok(offset) = text.parse::<u64>() else { return Err(Refusal::system_error(not_found)) };
    let store = shared.store.clone();
    later(request, async move {
        match store.record_at(PhysicalOffset(offset)).await {
            Ok(Some(record)) => Ok(Done::Body(record)),
            Ok(None) => Err(Refusal::system_error(not_found)),
            Err(error) => Err(Refusal::system_error(format!("{not_found}: {error}"))),
        }
    })
}

pub(super) fn all_offsets(core: &Core) -> Answer<Done> {
    Ok(Done::Body(Bytes::from(core.offsets.to_json())))
}

pub(super) fn all_groups(core: &Core) -> Answer<Done> {
    Ok(Done::Body(Bytes::from(core.groups.to_json())))
}

/// Source: AdminBrokerProcessor#updateAndCreateSubscriptionGroup (4.9.3).
pub(super) fn update_group(shared: &Shared, core: &mut Core, request: &Request) -> Answer<Done> {
    let config: GroupConfig = body::decode(request.body())
        .map_err(|error| Refusal::system_error(format!("the group cannot be read: {error}")))?;
    if !config.group_name.is_empty() {
        core.groups.update(shared.clock.wall(), config);
        shared.unsaved.notify_one();
    }
    Ok(Done::Empty)
}

/// Min, max and newest time of every queue of a topic, keyed by objects as fastjson prints them.
/// Source: AdminBrokerProcessor#getTopicStatsInfo (4.9.3).
pub(super) fn topic_stats(shared: &Arc<Shared>, core: &Core, request: &Request) -> Answer<Done> {
    let name = request.header.ext.get("topic").unwrap_or_default();
    let Some(topic) = core.topics.get(&name) else {
        let remark = format!("topic[{name}] not exist");
        return Err(Refusal::new(code::TOPIC_NOT_EXIST, remark));
    };
    let (topic, queues) = (topic.name.clone(), topic.config.write_queue_nums);
    let broker = Value::from(shared.options.topics.broker_name.as_str());
    let store = shared.store.clone();
    later(request, async move {
        let mut text = String::from("{\"offsetTable\":{");
        for queue in 0..queues {
            let key = QueueKey { topic: topic.clone(), queue: QueueId(queue) };
            let (min, max) = (store.min_offset(&key), store.max_offset(&key));
            let newest = crate::model::QueueOffset(max.0.saturating_sub(1));
            let time = match max.0 {
                0 => Ok(None),
                _ => store.store_time_of(&key, newest).await,
            };
            let time = time.ok().flatten().map_or(0, |time| time.0);
            let comma = if queue == 0 { "" } else { "," };
            let name = Value::from(&*topic);
            let _ = write!(
                text,
                "{comma}{{\"brokerName\":{broker},\"queueId\":{queue},\"topic\":{name}}}:\
                 {{\"lastUpdateTimestamp\":{time},\"maxOffset\":{max},\"minOffset\":{min}}}"
            );
        }
        text.push_str("}}");
        Ok(Done::Body(Bytes::from(text)))
    })
}
