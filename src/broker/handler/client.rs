//! Live clients: requests 34, 35, 38, 41, 42, 46, 203 and 204, and the notice of a changed group.

use super::super::clients::{
    ClientInfo, ConsumeType, ConsumerBeat, MessageModel, Subscription,
};
use super::super::driver::{Core, Shared};
use super::super::queue_locks::LockedQueue;
use super::super::reply::{Answer, Refusal};
use super::super::topics::{RETRY_PREFIX, name_fault};
use super::pull::no_such_filter;
use super::topic::json;
use super::{Done, Request};
use crate::protocol::Command;
use crate::protocol::body::fastjson;
use crate::protocol::code::{request_code, response_code as code};
use crate::remoting::Peer;
use serde_json::Value;
use std::sync::Arc;

/// Levels of nesting in a heartbeat; it has five.
const JSON_DEPTH_MAX: usize = 16;
/// Source: ConsumeType, in order of declaration: C++ clients send ordinals.
const CONSUME_TYPES: [&str; 2] = ["CONSUME_ACTIVELY", "CONSUME_PASSIVELY"];
/// Source: MessageModel.
const MODELS: [&str; 2] = ["BROADCASTING", "CLUSTERING"];
/// Source: ConsumeFromWhere.
const CONSUME_FROM: [&str; 6] = [
    "CONSUME_FROM_LAST_OFFSET",
    "CONSUME_FROM_LAST_OFFSET_AND_FROM_MIN_WHEN_BOOT_FIRST",
    "CONSUME_FROM_MIN_OFFSET",
    "CONSUME_FROM_MAX_OFFSET",
    "CONSUME_FROM_FIRST_OFFSET",
    "CONSUME_FROM_TIMESTAMP",
];

/// Tells one member that its group changed. Source: Broker2Client#notifyConsumerIdsChanged.
pub(in super::super) fn notify_ids_changed(peer: &Peer, group: &str) {
    let notice = Command::request(request_code::NOTIFY_CONSUMER_IDS_CHANGED)
        .with_ext("consumerGroup", group);
    peer.send_oneway(notice);
}

fn body(request: &Request) -> Answer<Value> {
    fastjson::read(request.body(), JSON_DEPTH_MAX)
        .map_err(|error| Refusal::system_error(format!("the body cannot be read: {error}")))
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The members of a set; an absent one is empty.
fn set<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// An enum's position by name, in any letter case, or by ordinal.
fn choice(value: &Value, name: &str, names: &[&str]) -> Option<usize> {
    match value.get(name)? {
        Value::String(text) => names.iter().position(|known| known.eq_ignore_ascii_case(text)),
        other => usize::try_from(other.as_u64()?).ok().filter(|at| *at < names.len()),
    }
}

/// A client lives. Source: ClientManageProcessor#heartBeat (4.9.3).
pub(super) fn heartbeat(shared: &Arc<Shared>, core: &mut Core, request: &Request) -> Answer<Done> {
    let beat = body(request)?;
    if !beat.is_object() {
        return Err(Refusal::system_error("a heartbeat needs a body"));
    }
    let client = ClientInfo {
        id: text(&beat, "clientID").to_owned(),
        language: request.header.language.name().to_owned(),
        version: request.header.version,
    };
    let result = take_groups(shared, core, request, &client, &beat);
    shared.run_client_effects(core);
    shared.deadline_moved.notify_one();
    result.map(|()| Done::Empty)
}

fn take_groups(
    shared: &Arc<Shared>,
    core: &mut Core,
    request: &Request,
    client: &ClientInfo,
    beat: &Value,
) -> Answer<()> {
    let full = || Refusal::overload("the table of live clients is full");
    let (now, channel) = (shared.clock.mono(), request.peer.id());
    for consumer in set(beat, "consumerDataSet") {
        let name = text(consumer, "groupName");
        let notify = prepare_group(shared, core, name, consumer)?;
        let beat = consumer_beat(name, consumer, notify);
        let taken =
            core.clients.on_consumer_beat(now, channel, client, beat, &mut core.client_effects);
        if !taken {
            return Err(full());
        }
    }
    for producer in set(beat, "producerDataSet") {
        if !core.clients.on_producer_beat(now, channel, client, text(producer, "groupName")) {
            return Err(full());
        }
    }
    Ok(())
}

/// Makes the group and its retry topic; says whether its members want to hear of changes.
fn prepare_group(
    shared: &Arc<Shared>,
    core: &mut Core,
    name: &str,
    consumer: &Value,
) -> Answer<bool> {
    let wall = shared.clock.wall();
    let is_new = core.groups.get(name).is_none();
    let Some(group) = core.groups.find_or_create(wall, name) else { return Ok(true) };
    let (notify, queues) = (group.notify_consumer_ids_changed_enable, group.retry_queue_nums);
    if is_new {
        shared.unsaved.notify_one();
    }
    let retry = format!("{RETRY_PREFIX}{name}");
    if core.topics.get(&retry).is_none() && name_fault(&retry).is_none() {
        let unit = consumer.get("unitMode").and_then(Value::as_bool).unwrap_or(false);
        let queues = u32::try_from(queues).unwrap_or(0);
        let made = core.topics.create(wall, &retry, queues, if unit { 2 } else { 0 });
        made.map_err(|error| Refusal::system_error(error.to_string()))?;
        shared.topics_changed();
    }
    Ok(notify)
}

fn consumer_beat(name: &str, consumer: &Value, notify: bool) -> ConsumerBeat {
    let consume_type = match choice(consumer, "consumeType", &CONSUME_TYPES) {
        Some(0) => Some(ConsumeType::Actively),
        Some(_) => Some(ConsumeType::Passively),
        None => None,
    };
    let model = match choice(consumer, "messageModel", &MODELS) {
        Some(0) => Some(MessageModel::Broadcasting),
        Some(_) => Some(MessageModel::Clustering),
        None => None,
    };
    let from = choice(consumer, "consumeFromWhere", &CONSUME_FROM);
    ConsumerBeat {
        group: name.to_owned(),
        consume_type,
        model,
        consume_from: from.map_or("", |at| CONSUME_FROM[at]).to_owned(),
        subscriptions: set(consumer, "subscriptionDataSet").iter().map(subscription).collect(),
        notify,
    }
}

fn subscription(data: &Value) -> Subscription {
    let code = |value: &Value| value.as_i64().map(|code| code as i32);
    let mut codes: Vec<i32> = set(data, "codeSet").iter().filter_map(code).collect();
    codes.sort_unstable();
    Subscription {
        topic: text(data, "topic").to_owned(),
        sub_string: text(data, "subString").to_owned(),
        tags: set(data, "tagsSet").iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        codes,
        version: data.get("subVersion").and_then(Value::as_i64).unwrap_or(0),
        expression_type: text(data, "expressionType").to_owned(),
        class_filter: data.get("classFilterMode").and_then(Value::as_bool).unwrap_or(false),
    }
}

/// A client leaves some groups. Source: ClientManageProcessor#unregisterClient (4.9.3).
pub(super) fn unregister(shared: &Shared, core: &mut Core, request: &Request) -> Answer<Done> {
    let (ext, channel) = (&request.header.ext, request.peer.id());
    if let Some(group) = ext.get("producerGroup") {
        core.clients.on_unregister_producer(channel, &group);
    }
    if let Some(group) = ext.get("consumerGroup") {
        core.clients.on_unregister_consumer(channel, &group, &mut core.client_effects);
        shared.run_client_effects(core);
    }
    Ok(Done::Empty)
}

/// Source: ConsumerManageProcessor#getConsumerListByGroup (4.9.3).
pub(super) fn list(core: &Core, request: &Request) -> Answer<Done> {
    let name = request.header.ext.get("consumerGroup").unwrap_or_default();
    let ids: Vec<&str> = match core.clients.consumer_group(&name) {
        Some(group) => group.members().map(|(_, client)| client.id.as_str()).collect(),
        None => {
            let remark = format!("no consumer for this group, {name}");
            return Err(Refusal::system_error(remark));
        }
    };
    json(&serde_json::json!({ "consumerIdList": ids }))
}

/// A consumer asks whether its filter will be understood.
/// Source: ClientManageProcessor#checkClientConfig (4.9.3).
pub(super) fn check(request: &Request) -> Answer<Done> {
    let body = body(request)?;
    match body.get("subscriptionData").map(subscription) {
        Some(sub) if !sub.is_tag_type() => Err(no_such_filter(&sub.expression_type)),
        _ => Ok(Done::Empty),
    }
}

fn locked_queues(body: &Value) -> Vec<LockedQueue> {
    let queue = |value: &Value| LockedQueue {
        topic: text(value, "topic").to_owned(),
        broker_name: text(value, "brokerName").to_owned(),
        queue: value.get("queueId").and_then(Value::as_i64).unwrap_or(0) as i32,
    };
    set(body, "mqSet").iter().map(queue).collect()
}

/// Source: AdminBrokerProcessor#lockBatchMQ (4.9.3).
pub(super) fn lock(shared: &Shared, core: &mut Core, request: &Request) -> Answer<Done> {
    let body = body(request)?;
    let (group, client) = (text(&body, "consumerGroup"), text(&body, "clientId"));
    let held = core.locks.lock(shared.clock.mono(), group, client, locked_queues(&body));
    let held: Vec<Value> = held
        .iter()
        .map(|queue| {
            serde_json::json!({
                "brokerName": queue.broker_name,
                "queueId": queue.queue,
                "topic": queue.topic,
            })
        })
        .collect();
    json(&serde_json::json!({ "lockOKMQSet": held }))
}

/// Source: AdminBrokerProcessor#unlockBatchMQ (4.9.3).
pub(super) fn unlock(core: &mut Core, request: &Request) -> Answer<Done> {
    let body = body(request)?;
    let (group, client) = (text(&body, "consumerGroup"), text(&body, "clientId"));
    core.locks.unlock(group, client, &locked_queues(&body));
    Ok(Done::Empty)
}

fn connection(core: &Core, channel: u64, client: &ClientInfo) -> Value {
    let addr = core.peers.get(&channel).map(|connected| connected.peer.addr().to_string());
    serde_json::json!({
        "clientAddr": addr.unwrap_or_default(),
        "clientId": client.id,
        "language": client.language,
        "version": client.version,
    })
}

/// Source: AdminBrokerProcessor#getConsumerConnectionList (4.9.3).
pub(super) fn consumers(core: &Core, request: &Request) -> Answer<Done> {
    let name = request.header.ext.get("consumerGroup").unwrap_or_default();
    let Some(group) = core.clients.consumer_group(&name) else {
        let remark = format!("the consumer group[{name}] not online");
        return Err(Refusal::new(code::CONSUMER_NOT_ONLINE, remark));
    };
    let connections: Vec<Value> =
        group.members().map(|(channel, client)| connection(core, channel, client)).collect();
    let subscriptions: serde_json::Map<String, Value> = group
        .subscriptions()
        .map(|sub| {
            let data = serde_json::json!({
                "classFilterMode": sub.class_filter,
                "codeSet": sub.codes,
                "expressionType": if sub.is_tag_type() { "TAG" } else { &sub.expression_type },
                "subString": sub.sub_string,
                "subVersion": sub.version,
                "tagsSet": sub.tags,
                "topic": sub.topic,
            });
            (sub.topic.clone(), data)
        })
        .collect();
    let model = group.model.map(|model| MODELS[usize::from(model == MessageModel::Clustering)]);
    let kind = group.consume_type.map(|kind| CONSUME_TYPES[usize::from(kind == ConsumeType::Passively)]);
    json(&serde_json::json!({
        "connectionSet": connections,
        "consumeFromWhere": group.consume_from,
        "consumeType": kind,
        "messageModel": model,
        "subscriptionTable": subscriptions,
    }))
}

/// Source: AdminBrokerProcessor#getProducerConnectionList (4.9.3).
pub(super) fn producers(core: &Core, request: &Request) -> Answer<Done> {
    let name = request.header.ext.get("producerGroup").unwrap_or_default();
    let Some(members) = core.clients.producer_group(&name) else {
        let remark = format!("the producer group[{name}] not exist");
        return Err(Refusal::system_error(remark));
    };
    let connections: Vec<Value> =
        members.map(|(channel, client)| connection(core, channel, client)).collect();
    json(&serde_json::json!({ "connectionSet": connections }))
}
