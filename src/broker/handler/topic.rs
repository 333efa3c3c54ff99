//! Topics as administrators and slaves see them: requests 17, 21, 215, 305 and 351.

use super::super::driver::{Core, Shared};
use super::super::reply::{Answer, Refusal};
use super::super::timer::TIMER_TOPIC;
use super::super::topics::{FilterType, SCHEDULE_TOPIC, TopicConfig, TopicFile, name_fault};
use super::super::transaction::{HALF_TOPIC, OP_TOPIC};
use super::{Done, Request, later};
use crate::model::TopicName;
use crate::protocol::code::response_code as code;
use crate::protocol::header::topic::{CreateTopicHeader, DeleteTopicHeader, TopicHeader};
use bytes::Bytes;
use std::sync::Arc;

/// Makes or changes a topic. Durable on the answer: topics.json with it. The name servers that
/// could be told in time know it too: who asks them next finds it.
/// Source: AdminBrokerProcessor#updateAndCreateTopic (4.9.3). `order` is not looked at there
/// either: the name servers' key values say which topics are ordered.
pub(super) fn update(shared: &Arc<Shared>, core: &mut Core, request: &Request) -> Answer<Done> {
    let header = CreateTopicHeader::decode(&request.header.ext)
        .map_err(|error| Refusal::system_error(error.to_string()))?;
    let name = &*header.topic;
    if let Some(fault) = name_fault(name) {
        return Err(Refusal::system_error(fault));
    }
    if core.topics.is_reserved(name) {
        let remark = format!("The topic[{name}] is conflict with system topic.");
        return Err(Refusal::system_error(remark));
    }
    let Some(filter) = FilterType::parse(&header.topic_filter_type) else {
        let remark = format!("topicFilterType = [{}] value invalid", header.topic_filter_type);
        return Err(Refusal::system_error(remark));
    };
    let count = |value: i32| u32::try_from(value).unwrap_or(0);
    let mut config = TopicConfig::new(name, count(header.write_queue_nums), count(header.perm));
    config.read_queue_nums = count(header.read_queue_nums);
    config.topic_filter_type = filter;
    config.topic_sys_flag = header.topic_sys_flag.unwrap_or(0);
    let made = core.topics.update(shared.clock.wall(), config);
    made.map_err(|error| Refusal::system_error(error.to_string()))?;
    tracing::info!(topic = name, peer = %request.peer.addr(), "a topic was made or changed");
    shared.topics_changed();
    let changes = core.topics.changes();
    let saved = shared.until_saved(changes, 0);
    let registered = shared.until_registered(changes);
    later(request, async move {
        saved.await?;
        registered.await;
        Ok(Done::Empty)
    })
}

/// Forgets a topic and its queues. Source: AdminBrokerProcessor#deleteTopic (4.9.3).
/// Differs: only this topic's queues go, not those of every topic without a configuration; no
/// registration with the topic is under way on the answer, so whoever then takes it off the name
/// servers does not see it come back.
pub(super) fn delete(shared: &Arc<Shared>, core: &mut Core, request: &Request) -> Answer<Done> {
    let header = DeleteTopicHeader::decode(&request.header.ext)
        .map_err(|error| Refusal::system_error(error.to_string()))?;
    let name = header.topic;
    if let Some(fault) = name_fault(&name) {
        return Err(Refusal::system_error(fault));
    }
    if core.topics.is_reserved(&name) {
        let remark = format!("The topic[{name}] is conflict with system topic.");
        return Err(Refusal::system_error(remark));
    }
    if core.topics.remove(shared.clock.wall(), &name) {
        tracing::info!(topic = name, peer = %request.peer.addr(), "a topic was deleted");
        shared.topics_changed();
    }
    // A topic of this name that is made later begins at 0 (W-30).
    core.offsets.remove_topic(&name);
    core.stats.groups.on_topic_deleted(&name);
    let store = shared.store.clone();
    let changes = core.topics.changes();
    let (saved, registered) = (shared.until_saved(changes, 0), shared.until_registered(changes));
    later(request, async move {
        store
            .delete_topic(&name)
            .await
            .map_err(|error| Refusal::system_error(format!("failed to delete {name}: {error}")))?;
        saved.await?;
        registered.await;
        Ok(Done::Empty)
    })
}

/// Topics that keep their queues without standing in the table.
/// Source: DefaultMessageStore#cleanUnusedTopic (4.9.3).
const KEPT_TOPICS: [&str; 4] = [SCHEDULE_TOPIC, TIMER_TOPIC, HALF_TOPIC, OP_TOPIC];

/// Deletes the queues of every topic that has no configuration.
/// Source: AdminBrokerProcessor#cleanUnusedTopic (4.9.3).
pub(super) fn clean_unused(shared: &Arc<Shared>, core: &Core, request: &Request) -> Answer<Done> {
    let mut unused: Vec<TopicName> = Vec::new();
    for (key, ..) in shared.store.queues() {
        let is_kept = KEPT_TOPICS.contains(&&*key.topic) || key.topic.starts_with("%LMQ%");
        if !is_kept && core.topics.get(&key.topic).is_none() && unused.last() != Some(&key.topic) {
            unused.push(key.topic);
        }
    }
    let store = shared.store.clone();
    later(request, async move {
        for topic in unused {
            tracing::info!(topic = &*topic, "a topic without a configuration was cleaned away");
            let deleted = store.delete_topic(&topic).await;
            deleted.map_err(|error| {
                Refusal::system_error(format!("failed to delete {topic}: {error}"))
            })?;
        }
        Ok(Done::Empty)
    })
}

/// Source: AdminBrokerProcessor#getAllTopicConfig (4.9.3).
pub(super) fn all(core: &Core) -> Answer<Done> {
    let table = core.topics.iter();
    let file = TopicFile {
        data_version: core.topics.version(),
        topic_config_table: table
            .map(|topic| (topic.name.to_string(), topic.config.clone()))
            .collect(),
    };
    json(&file)
}

/// The configuration of one topic. mqadmin of 5.x asks for it before it shows how far a group is.
/// Source: AdminBrokerProcessor#getTopicConfig (5.x), of a topic whose queues are not mapped.
pub(super) fn one(core: &Core, request: &Request) -> Answer<Done> {
    let header = TopicHeader::decode(&request.header.ext)
        .map_err(|error| Refusal::system_error(error.to_string()))?;
    match core.topics.get(&header.topic) {
        Some(topic) => json(&topic.config),
        None => {
            let remark = format!("No topic in this broker. topic: {}", header.topic);
            Err(Refusal::new(code::TOPIC_NOT_EXIST, remark))
        }
    }
}

/// Source: AdminBrokerProcessor#getSystemTopicListFromBroker (4.9.3).
pub(super) fn system_list(core: &Core) -> Answer<Done> {
    let topics: Vec<&str> = core.topics.reserved().collect();
    json(&serde_json::json!({ "topicList": topics }))
}

pub(super) fn json(value: &impl serde::Serialize) -> Answer<Done> {
    match serde_json::to_vec(value) {
        Ok(text) => Ok(Done::Body(Bytes::from(text))),
        Err(error) => Err(Refusal::system_error(error.to_string())),
    }
}
