//! Live clients: requests 34, 35, 38, 41, 42, 46, 203 and 204, and the notice of a changed group.

use super::super::clients::{ClientInfo, ConsumerBeat, Subscription};
use super::super::driver::{Core, Shared};
use super::super::filter::consumer_filters::Wish;
use super::super::queue_locks::LockedQueue;
use super::super::reply::{Answer, Refusal};
use super::super::topics::{RETRY_PREFIX, name_fault};
use super::topic::json;
use super::{Done, Request, later};
use crate::protocol::Command;
use crate::protocol::body;
use crate::protocol::body::client::{ConsumerData, HeartbeatData, SubscriptionData};
use crate::protocol::code::{request_code, response_code as code};
use crate::protocol::header::client::{ConsumerGroupHeader, ProducerGroupHeader};
use crate::remoting::Peer;
use serde_json::Value;
use std::sync::Arc;

/// Tells one member that its group changed. Source: Broker2Client#notifyConsumerIdsChanged.
pub(in super::super) fn notify_ids_changed(peer: &Peer, group: &str) {
    let notice = Command::request(request_code::NOTIFY_CONSUMER_IDS_CHANGED)
        .with_ext("consumerGroup", group);
    peer.send_oneway(notice);
}

fn bad(error: impl std::fmt::Display) -> Refusal {
    Refusal::system_error(error.to_string())
}

fn read<T: serde::de::DeserializeOwned>(request: &Request) -> Answer<T> {
    body::decode(request.body()).map_err(bad)
}

/// A client lives. The first member of a group is answered when the name servers that could be told
/// in time know its retry topic: a client looks for the route once at its start, and again only
/// 30 s later. Source: ClientManageProcessor#heartBeat (4.9.3).
pub(super) fn heartbeat(shared: &Arc<Shared>, core: &mut Core, request: &Request) -> Answer<Done> {
    let beat: HeartbeatData = read(request)?;
    let client = ClientInfo {
        id: beat.client_id.clone(),
        language: request.header.language.name().unwrap_or_default().to_owned(),
        version: request.header.version,
    };
    let before = core.topics.changes();
    let result = take_groups(shared, core, request, &client, beat);
    shared.run_client_effects(core);
    shared.deadline_moved.notify_one();
    result?;
    let changes = core.topics.changes();
    if changes == before {
        return Ok(Done::Empty);
    }
    let registered = shared.until_registered(changes);
    later(request, async move {
        registered.await;
        Ok(Done::Empty)
    })
}

fn take_groups(
    shared: &Arc<Shared>,
    core: &mut Core,
    request: &Request,
    client: &ClientInfo,
    beat: HeartbeatData,
) -> Answer<()> {
    let full = || Refusal::overload("the table of live clients is full");
    let (now, channel) = (shared.clock.mono(), request.peer.id());
    for consumer in beat.consumer_data_set {
        let notify = prepare_group(shared, core, &consumer)?;
        let group = consumer.group_name.clone();
        let beat = ConsumerBeat {
            group: consumer.group_name,
            consume_type: consumer.consume_type,
            model: consumer.message_model,
            consume_from: consumer.consume_from_where,
            subscriptions: consumer.subscription_data_set.into_iter().map(Into::into).collect(),
            notify,
        };
        let taken =
            core.clients.on_consumer_beat(now, channel, client, beat, &mut core.client_effects);
        if !taken {
            return Err(full());
        }
        register_filters(shared, core, &group);
    }
    for producer in beat.producer_data_set {
        if !core.clients.on_producer_beat(now, channel, client, &producer.group_name) {
            return Err(full());
        }
    }
    Ok(())
}

/// Source: DefaultConsumerIdsChangeListener#handle (4.9.3).
fn register_filters(shared: &Shared, core: &mut Core, group: &str) {
    let Some(live) = core.clients.consumer_group(group) else { return };
    let wishes: Vec<Wish> = live.subscriptions().map(|wanted| Wish::of(wanted)).collect();
    core.filters.on_heartbeat(shared.clock.wall(), group, &wishes, &mut core.compiled);
}

/// Makes the group and its retry topic; says whether its members want to hear of changes.
fn prepare_group(shared: &Arc<Shared>, core: &mut Core, consumer: &ConsumerData) -> Answer<bool> {
    let name = consumer.group_name.as_str();
    let wall = shared.clock.wall();
    let is_new = core.groups.get(name).is_none();
    let Some(group) = core.groups.find_or_create(wall, name) else { return Ok(true) };
    let (notify, queues) = (group.notify_consumer_ids_changed_enable, group.retry_queue_nums);
    if is_new {
        shared.unsaved.notify_one();
    }
    let retry = format!("{RETRY_PREFIX}{name}");
    if core.topics.get(&retry).is_none() && name_fault(&retry).is_none() {
        let queues = u32::try_from(queues).unwrap_or(0);
        let made = core.topics.create(wall, &retry, queues, if consumer.unit_mode { 2 } else { 0 });
        made.map_err(|error| Refusal::system_error(error.to_string()))?;
        shared.topics_changed();
    }
    Ok(notify)
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
    let header = ConsumerGroupHeader::decode(&request.header.ext).map_err(bad)?;
    let name = header.consumer_group;
    let ids: Vec<&str> = match core.clients.consumer_group(&name) {
        Some(group) => group.members().map(|(_, client)| client.id.as_str()).collect(),
        None => {
            let remark = format!("no consumer for this group, {name}");
            return Err(Refusal::system_error(remark));
        }
    };
    json(&serde_json::json!({ "consumerIdList": ids }))
}

/// Source: CheckClientRequestBody (4.9.3).
#[derive(Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct CheckBody {
    subscription_data: Option<SubscriptionData>,
}

/// A consumer asks whether its filter will be understood.
/// Source: ClientManageProcessor#checkClientConfig (4.9.3).
pub(super) fn check(shared: &Shared, core: &mut Core, request: &Request) -> Answer<Done> {
    let body: CheckBody = read(request)?;
    let subscription = body.subscription_data.map(Subscription::from);
    let Some(wanted) = subscription.filter(|subscription| !subscription.is_tag_type()) else {
        return Ok(Done::Empty);
    };
    if !shared.options.filters.by_property {
        return Err(Refusal::no_such_filter(&wanted.expression_type));
    }
    let compiled = core.compiled.compile(&wanted.expression_type, &wanted.sub_string);
    compiled
        .map(|_| Done::Empty)
        .map_err(|error| Refusal::new(code::SUBSCRIPTION_PARSE_FAILED, error.to_string()))
}

/// Source: LockBatchRequestBody, MessageQueue (4.9.3).
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct LockBody {
    consumer_group: String,
    client_id: String,
    #[serde(default)]
    mq_set: Vec<LockedQueue>,
}

/// Source: AdminBrokerProcessor#lockBatchMQ (4.9.3).
pub(super) fn lock(shared: &Shared, core: &mut Core, request: &Request) -> Answer<Done> {
    let body: LockBody = read(request)?;
    let (group, client) = (&body.consumer_group, &body.client_id);
    let held = core.locks.lock(shared.clock.mono(), group, client, body.mq_set);
    json(&serde_json::json!({ "lockOKMQSet": held }))
}

/// Source: AdminBrokerProcessor#unlockBatchMQ (4.9.3).
pub(super) fn unlock(core: &mut Core, request: &Request) -> Answer<Done> {
    let body: LockBody = read(request)?;
    core.locks.unlock(&body.consumer_group, &body.client_id, &body.mq_set);
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
    let header = ConsumerGroupHeader::decode(&request.header.ext).map_err(bad)?;
    let name = header.consumer_group;
    let Some(group) = core.clients.consumer_group(&name) else {
        let remark = format!("the consumer group[{name}] not online");
        return Err(Refusal::new(code::CONSUMER_NOT_ONLINE, remark));
    };
    let connections: Vec<Value> =
        group.members().map(|(channel, client)| connection(core, channel, client)).collect();
    let subscriptions: std::collections::BTreeMap<&str, SubscriptionData> =
        group.subscriptions().map(|sub| (sub.topic.as_str(), sub.to_data())).collect();
    json(&serde_json::json!({
        "connectionSet": connections,
        "consumeFromWhere": group.consume_from,
        "consumeType": group.consume_type,
        "messageModel": group.model,
        "subscriptionTable": subscriptions,
    }))
}

/// Source: AdminBrokerProcessor#getProducerConnectionList (4.9.3).
pub(super) fn producers(core: &Core, request: &Request) -> Answer<Done> {
    let header = ProducerGroupHeader::decode(&request.header.ext).map_err(bad)?;
    let name = header.producer_group;
    let Some(members) = core.clients.producer_group(&name) else {
        let remark = format!("the producer group[{name}] not exist");
        return Err(Refusal::system_error(remark));
    };
    let connections: Vec<Value> =
        members.map(|(channel, client)| connection(core, channel, client)).collect();
    json(&serde_json::json!({ "connectionSet": connections }))
}
