//! Offsets of groups and of queues: requests 14, 15, 29, 30, 31 and 32.

use super::super::driver::{Core, Shared};
use super::super::reply::{Answer, Refusal};
use super::{Done, Request, later};
use crate::model::{QueueId, QueueKey, QueueOffset, TopicName};
use crate::protocol::code::response_code as code;
use crate::protocol::header::offset::{
    QueryConsumerOffsetHeader, QueueHeader, SearchOffsetHeader, UpdateConsumerOffsetHeader,
};
use crate::rt::time::WallMillis;
use std::sync::Arc;

/// The queue a request names; `None` for one that cannot exist.
fn key(topic: &str, queue: i32) -> Option<QueueKey> {
    let queue = QueueId(u32::try_from(queue).ok()?);
    Some(QueueKey { topic: TopicName::new(topic), queue })
}

fn number(offset: QueueOffset) -> Done {
    Done::Number("offset", i64::try_from(offset.0).unwrap_or(i64::MAX))
}

fn bad(error: impl std::fmt::Display) -> Refusal {
    Refusal::system_error(error.to_string())
}

/// A group without an offset starts at 0 while the queue still has its first message in memory,
/// whatever its consume-from rule. Source: ConsumerManageProcessor#queryConsumerOffset (4.9.3).
pub(super) fn query(shared: &Arc<Shared>, core: &Core, request: &Request) -> Answer<Done> {
    let header = QueryConsumerOffsetHeader::decode(&request.header.ext).map_err(bad)?;
    let key = key(&header.topic, header.queue_id);
    let stored = key
        .as_ref()
        .and_then(|key| core.offsets.get(&header.consumer_group, &header.topic, key.queue));
    if let Some(offset) = stored.filter(|offset| *offset >= 0) {
        return Ok(Done::Number("offset", offset));
    }
    let not_found = || {
        let remark = "Not found, V3_0_6_SNAPSHOT maybe this group consumer boot first";
        Refusal::new(code::QUERY_NOT_FOUND, remark)
    };
    let Some(key) = key else { return Ok(Done::Number("offset", 0)) };
    if shared.store.min_offset(&key) > QueueOffset(0) {
        return Err(not_found());
    }
    if shared.store.max_offset(&key) == QueueOffset(0) {
        return Ok(Done::Number("offset", 0));
    }
    let store = shared.store.clone();
    later(request, async move {
        match store.is_cold(&key, QueueOffset(0)).await {
            Ok(false) => Ok(Done::Number("offset", 0)),
            Ok(true) => Err(not_found()),
            // Java clients take any answer but 0 for "no offset": better none than a wrong one.
            Err(error) => {
                tracing::error!("failed to look at the first message of {key:?}: {error}");
                Ok(Done::Later)
            }
        }
    })
}

/// Source: ConsumerManageProcessor#updateConsumerOffset (4.9.3): stored without any check.
pub(super) fn update(core: &mut Core, request: &Request) -> Answer<Done> {
    let header = UpdateConsumerOffsetHeader::decode(&request.header.ext).map_err(bad)?;
    let Ok(queue) = u32::try_from(header.queue_id) else { return Ok(Done::Empty) };
    let (group, topic) = (&header.consumer_group, &header.topic);
    let by = request.peer.id();
    match core.offsets.commit(by, group, topic, QueueId(queue), header.commit_offset) {
        true => Ok(Done::Empty),
        false => Err(Refusal::overload("the table of consumer offsets is full")),
    }
}

pub(super) fn max(shared: &Shared, request: &Request) -> Answer<Done> {
    let header = QueueHeader::decode(&request.header.ext).map_err(bad)?;
    let key = key(&header.topic, header.queue_id);
    Ok(number(key.map_or(QueueOffset(0), |key| shared.store.max_offset(&key))))
}

pub(super) fn min(shared: &Shared, request: &Request) -> Answer<Done> {
    let header = QueueHeader::decode(&request.header.ext).map_err(bad)?;
    let key = key(&header.topic, header.queue_id);
    Ok(number(key.map_or(QueueOffset(0), |key| shared.store.min_offset(&key))))
}

pub(super) fn search(shared: &Shared, request: &Request) -> Answer<Done> {
    let header = SearchOffsetHeader::decode(&request.header.ext).map_err(bad)?;
    let Some(key) = key(&header.topic, header.queue_id) else { return Ok(number(QueueOffset(0))) };
    let (store, at) = (shared.store.clone(), WallMillis(header.timestamp));
    later(request, async move {
        let found = store.search_by_time(&key, at).await;
        found.map(number).map_err(|error| bad(format!("failed to search by time: {error}")))
    })
}

pub(super) fn earliest_time(shared: &Shared, request: &Request) -> Answer<Done> {
    let header = QueueHeader::decode(&request.header.ext).map_err(bad)?;
    let none = Done::Number("timestamp", -1);
    let Some(key) = key(&header.topic, header.queue_id) else { return Ok(none) };
    if shared.store.max_offset(&key) == QueueOffset(0) {
        return Ok(none);
    }
    let store = shared.store.clone();
    later(request, async move {
        let time = store.store_time_of(&key, store.min_offset(&key)).await;
        let time =
            time.map_err(|error| bad(format!("failed to read the oldest message: {error}")))?;
        Ok(Done::Number("timestamp", time.map_or(-1, |time| time.0)))
    })
}
