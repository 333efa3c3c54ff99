//! Requests that a client answers, and the reset of its offsets: 220 to 223, 307 and 309.
//!
//! Source: AdminBrokerProcessor#callConsumer, Broker2Client (4.9.3).

use super::super::clients::ClientInfo;
use super::super::driver::{Core, Shared};
use super::super::reply::{Answer, Refusal};
use super::super::task::calls::Failure;
use super::admin::push_queue_key;
use super::{Done, ReplyTo, Request, give, later};
use crate::format::message_id;
use crate::model::{QueueId, QueueKey};
use crate::protocol::body;
use crate::protocol::code::{request_code, response_code as code};
use crate::protocol::header::client::{
    ConsumerCallHeader, ConsumerStatusHeader, ResetOffsetHeader,
};
use crate::protocol::{Command, Language};
use crate::remoting::Peer;
use crate::rt::time::{Duration, WallMillis};
use bytes::Bytes;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

/// Source: Broker2Client#callClient (4.9.3).
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Source: Broker2Client#getConsumeStatus (4.9.3).
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);

/// Clients before these do not know the requests.
/// Source: MQVersion V3_1_8_SNAPSHOT, V3_0_7_SNAPSHOT (4.9.3).
const VERSION_WITH_CALLS: i32 = 62;
const VERSION_WITH_RESET: i32 = 28;

fn bad(error: impl std::fmt::Display) -> Refusal {
    Refusal::system_error(error.to_string())
}

/// One member of a group, to be asked.
struct Callee {
    group: String,
    client: String,
    peer: Peer,
}

impl Callee {
    /// Errors: no such member is here, or it is too old.
    fn find(core: &Core, group: &str, client: Option<&str>) -> Answer<Callee> {
        // As Java prints what is absent.
        let client = client.unwrap_or("null");
        let members = core.clients.consumer_group(group);
        let mut members = members.into_iter().flat_map(|group| group.members());
        let found = members.find(|(_, info)| info.id == client);
        let found = found.and_then(|(channel, info)| Some((core.peers.get(&channel)?, info)));
        let Some((connected, info)) = found else {
            return Err(bad(format!("The Consumer <{group}> <{client}> not online")));
        };
        if info.version < VERSION_WITH_CALLS {
            return Err(bad(format!(
                "The Consumer <{group}> Version <{}> too low to finish, please upgrade it to \
                 V3_1_8_SNAPSHOT",
                info.version
            )));
        }
        let (group, client) = (group.to_owned(), client.to_owned());
        Ok(Callee { group, client, peer: connected.peer.clone() })
    }

    /// Passes the client's answer on, or says why there is none.
    async fn pass(&self, shared: &Shared, request: Command, to: &ReplyTo) {
        let (group, client) = (&self.group, &self.client);
        let failure = match shared.calls.ask(&self.peer, request, CALL_TIMEOUT).await {
            Ok(answer) => {
                let ext: Vec<_> =
                    answer.ext.iter().map(|(name, value)| (&**name, &**value)).collect();
                return to.answer(answer.code, answer.remark.as_deref(), &ext, answer.body);
            }
            Err(failure) => failure,
        };
        let timed_out = |why: String| {
            let remark = format!("consumer <{group}> <{client}> Timeout: {why}");
            Refusal::new(code::CONSUME_MSG_TIMEOUT, remark)
        };
        to.refuse(&match failure {
            Failure::Stopping => Refusal::stopping(),
            Failure::Gone(why) => {
                bad(format!("invoke consumer <{group}> <{client}> Exception: {why}"))
            }
            Failure::TimedOut { addr, after } => timed_out(format!(
                "wait response on the channel <{addr}> timeout, {}(ms)",
                after.as_millis()
            )),
            // Differs: 4.9.3 gives the same code when its 10 s are over.
            Failure::Died(why) => timed_out(why),
        });
    }
}

/// The request as it goes on to the client: the same fields, the same body.
fn forwarded(request: &Request) -> Command {
    let ext = request.header.ext.iter();
    let mut command = Command::request(request.header.code).with_body(request.body().clone());
    command.ext = ext.map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    command
}

/// What a consumer is doing. Source: AdminBrokerProcessor#getConsumerRunningInfo (4.9.3).
pub(super) fn running_info(shared: &Arc<Shared>, core: &Core, request: &Request) -> Answer<Done> {
    let header = ConsumerCallHeader::decode(&request.header.ext).map_err(bad)?;
    let callee = Callee::find(core, &header.consumer_group, header.client_id.as_deref())?;
    let (own, to, forwarded) = (shared.clone(), request.reply_to(), forwarded(request));
    shared.call_later(async move { callee.pass(&own, forwarded, &to).await })?;
    Ok(Done::Later)
}

/// Has a consumer consume one message now.
/// Source: AdminBrokerProcessor#consumeMessageDirectly (4.9.3).
/// Differs: an offset at which no record begins is refused.
pub(super) fn consume_directly(
    shared: &Arc<Shared>,
    core: &Core,
    request: &Request,
) -> Answer<Done> {
    let header = ConsumerCallHeader::decode(&request.header.ext).map_err(bad)?;
    let id = header.msg_id.unwrap_or_default();
    let (_, physical) = message_id::parse_offset_id(&id).map_err(bad)?;
    let callee = Callee::find(core, &header.consumer_group, header.client_id.as_deref())?;
    let forwarded = forwarded(request).with_ext("brokerName", &shared.options.topics.broker_name);
    let (own, to) = (shared.clone(), request.reply_to());
    shared.call_later(async move {
        let refusal = match own.store.record_at(physical).await {
            Ok(Some(record)) => {
                return callee.pass(&own, forwarded.with_body(record), &to).await;
            }
            Ok(None) => format!("can not find message by the id, {id}"),
            Err(error) => format!("can not find message by the id, {id}: {error}"),
        };
        to.refuse(&bad(refusal));
    })?;
    Ok(Done::Later)
}

/// How far a group shall be in one queue.
type Targets = Vec<(QueueKey, i64)>;

/// Sends every member of a group back, or forward when it is forced, to the messages of a time;
/// -1 is the end of each queue. The members commit the new offsets, this broker stores nothing.
/// Source: Broker2Client#resetOffset (4.9.3).
pub(super) fn reset_offsets(shared: &Arc<Shared>, core: &Core, request: &Request) -> Answer<Done> {
    let header = ResetOffsetHeader::decode(&request.header.ext).map_err(bad)?;
    let (name, group) = (&header.topic, &header.group);
    let Some(topic) = core.topics.get(name) else {
        let remark =
            format!("[reset-offset] reset offset failed, no topic in this broker. topic={name}");
        return Err(bad(remark));
    };
    let mut rows = Vec::new();
    for queue in (0..topic.config.write_queue_nums).map(QueueId) {
        let consumed = core.offsets.get(group, name, queue).filter(|offset| *offset != -1);
        let Some(consumed) = consumed else {
            return Err(bad(format!("THe consumer group <{group}> not exist")));
        };
        rows.push((QueueKey { topic: topic.name.clone(), queue }, consumed));
    }
    let is_list = request.header.language == Language::Cpp;
    let shared = shared.clone();
    later(request, async move {
        let targets = targets(&shared, &header, rows).await?;
        let (broker, table) = (&shared.options.topics.broker_name, offset_table(&shared, &targets));
        let body = if is_list { offset_list(broker, &targets) } else { table.clone() };
        let told = tell_reset(&shared, &header, body)?;
        let ResetOffsetHeader { topic, group, timestamp, is_force } = &header;
        tracing::info!(
            "{told} members of {group} were told to reset their offsets of {topic} to \
             {timestamp}, force {is_force}"
        );
        Ok(Done::Body(table))
    })
}

async fn targets(
    shared: &Shared,
    header: &ResetOffsetHeader,
    rows: Vec<(QueueKey, i64)>,
) -> Answer<Targets> {
    let mut targets = Vec::with_capacity(rows.len());
    for (key, consumed) in rows {
        let found = match header.timestamp {
            -1 => shared.store.max_offset(&key),
            at => shared
                .store
                .search_by_time(&key, WallMillis(at))
                .await
                .map_err(|error| bad(format!("failed to search by time: {error}")))?,
        };
        let found = i64::try_from(found.0).unwrap_or(i64::MAX);
        let target = if header.is_force { found } else { found.min(consumed) };
        targets.push((key, target));
    }
    Ok(targets)
}

/// Tells every member. Returns how many. Errors: there is none, or one is too old.
fn tell_reset(shared: &Shared, header: &ResetOffsetHeader, body: Bytes) -> Answer<usize> {
    let core = shared.core.lock();
    let members = core.clients.consumer_group(&header.group);
    let members: Vec<(Peer, &ClientInfo)> = members
        .into_iter()
        .flat_map(|group| group.members())
        .filter_map(|(channel, info)| Some((core.peers.get(&channel)?.peer.clone(), info)))
        .collect();
    if members.is_empty() {
        let (group, topic, timestamp) = (&header.group, &header.topic, header.timestamp);
        let remark = format!(
            "Consumer not online, so can not reset offset, Group: {group} Topic: {topic} \
             Timestamp: {timestamp}"
        );
        return Err(Refusal::new(code::CONSUMER_NOT_ONLINE, remark));
    }
    // Differs: 4.9.3 has told some members already when it comes to one that is too old.
    check_versions(members.iter().map(|(_, info)| *info))?;
    let told = ResetOffsetHeader { is_force: false, ..header.clone() };
    let request = Command::request(request_code::RESET_CONSUMER_CLIENT_OFFSET)
        .with_fields(told.to_ext())
        .with_body(body);
    for (peer, _) in &members {
        peer.send_oneway(request.clone());
    }
    Ok(members.len())
}

fn check_versions<'a>(mut members: impl Iterator<Item = &'a ClientInfo>) -> Answer<()> {
    match members.find(|info| info.version < VERSION_WITH_RESET) {
        None => Ok(()),
        Some(old) => {
            let version = old.version;
            Err(bad(format!("the client does not support this feature. version={version}")))
        }
    }
}

/// Source: ResetOffsetBody (4.9.3).
fn offset_table(shared: &Shared, targets: &Targets) -> Bytes {
    let mut text = String::from("{\"offsetTable\":{");
    for (key, offset) in targets {
        push_queue_key(&mut text, &shared.options.topics.broker_name, key);
        let _ = write!(text, "{offset}");
    }
    text.push_str("}}");
    Bytes::from(text)
}

/// What C++ clients understand. Source: ResetOffsetBodyForC (4.9.3).
fn offset_list(broker: &str, targets: &Targets) -> Bytes {
    let row = |(key, offset): &(QueueKey, i64)| {
        let (topic, queue) = (&*key.topic, key.queue.0);
        serde_json::json!({
            "brokerName": broker, "offset": offset, "queueId": queue, "topic": topic,
        })
    };
    let rows: Vec<Value> = targets.iter().map(row).collect();
    Bytes::from(serde_json::json!({ "offsetTable": rows }).to_string())
}

/// Where each member of a group says that it is.
/// Source: Broker2Client#getConsumeStatus (4.9.3); all members are asked at the same time.
pub(super) fn consumer_status(
    shared: &Arc<Shared>,
    core: &Core,
    request: &Request,
) -> Answer<Done> {
    let header = ConsumerStatusHeader::decode(&request.header.ext).map_err(bad)?;
    let Some(group) = core.clients.consumer_group(&header.group) else {
        let group = &header.group;
        return Err(bad(format!("No Any Consumer online in the consumer group: [{group}]")));
    };
    check_versions(group.members().map(|(_, info)| info))?;
    let wanted = header.client_addr.filter(|id| !id.trim().is_empty());
    let is_wanted = |id: &str| wanted.as_deref().is_none_or(|wanted| wanted == id);
    let callees: Vec<(String, Peer)> = group
        .members()
        .filter(|(_, info)| is_wanted(&info.id))
        .filter_map(|(channel, info)| {
            Some((info.id.clone(), core.peers.get(&channel)?.peer.clone()))
        })
        .collect();
    let (topic, group) = (header.topic, header.group);
    let (own, to) = (shared.clone(), request.reply_to());
    shared.call_later(async move {
        let ask = Command::request(request_code::GET_CONSUMER_STATUS_FROM_CLIENT)
            .with_ext("topic", topic)
            .with_ext("group", group);
        let asked = callees.into_iter().map(|(client, peer)| {
            let (own, ask) = (own.clone(), ask.clone());
            let asked: std::pin::Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(async move {
                let answer = own.calls.ask(&peer, ask, STATUS_TIMEOUT).await;
                (client, status_of(answer))
            });
            asked
        });
        let answers = crate::rt::task::all(asked.collect()).await;
        give(&to, Ok(Done::Body(status_body(answers))));
    })?;
    Ok(Done::Later)
}

/// Offsets by queue, as the client names its queues.
type Status = BTreeMap<String, i64>;

/// Source: GetConsumerStatusBody (4.9.3).
#[derive(Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct StatusBody {
    message_queue_table: Status,
}

fn status_of(answer: Result<Command, Failure>) -> Option<Status> {
    let read = match answer {
        Ok(answer) if answer.code != code::SUCCESS || answer.body.is_empty() => return None,
        Ok(answer) => body::decode(&answer.body).map_err(|error| error.to_string()),
        Err(failure) => Err(format!("{failure:?}")),
    };
    match read {
        Ok(StatusBody { message_queue_table }) => Some(message_queue_table),
        Err(why) => {
            tracing::warn!("a consumer did not say where it is: {why}");
            None
        }
    }
}

fn status_body(answers: Vec<(String, Option<Status>)>) -> Bytes {
    let mut text = String::from("{\"consumerTable\":{");
    let answers = answers.into_iter().filter_map(|(client, status)| Some((client, status?)));
    for (at, (client, status)) in answers.enumerate() {
        let comma = if at > 0 { "," } else { "" };
        let _ = write!(text, "{comma}{}:{{", Value::from(client));
        for (at, (queue, offset)) in status.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            let queue = match queue.starts_with('{') {
                true => queue.clone(),
                false => Value::from(&**queue).to_string(),
            };
            let _ = write!(text, "{comma}{queue}:{offset}");
        }
        text.push('}');
    }
    text.push_str("},\"messageQueueTable\":{}}");
    Bytes::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TopicName;

    #[test]
    fn a_list_for_cpp_and_the_status_of_members_are_as_fastjson_prints_them() {
        let key = QueueKey { topic: TopicName::new("T"), queue: QueueId(1) };
        let list = offset_list("b", &vec![(key, 7)]);
        let want = r#"{"offsetTable":[{"brokerName":"b","offset":7,"queueId":1,"topic":"T"}]}"#;
        assert_eq!(list, want);
        let said = r#"{"consumerTable":{},"messageQueueTable":{{"brokerName":"b","queueId":1,
                       "topic":"T"}:7}}"#;
        let answer = Command::reply(0, code::SUCCESS).with_body(said);
        let none = Err(Failure::Stopping);
        let answers =
            vec![("one".to_owned(), status_of(Ok(answer))), ("two".to_owned(), status_of(none))];
        let want = r#"{"consumerTable":{"one":{{"brokerName":"b","queueId":1,"topic":"T"}:7}},"messageQueueTable":{}}"#;
        assert_eq!(status_body(answers), want);
    }
}
