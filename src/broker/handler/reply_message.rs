//! Answers to messages: requests 324 and 325, pushed to the asker with 326.
//!
//! Source: ReplyMessageProcessor (4.9.3).

use super::super::driver::{Core, NOBODY, Shared};
use super::super::reply::{Answer, Refusal};
use super::super::task::calls::Failure;
use super::call::CALL_TIMEOUT;
use super::opened_topic::{self, Entry, wait_for_topic};
use super::send::{Taken, count, trace_text};
use super::{ReplyTo, Request};
use crate::format::{message_id, properties::Properties};
use crate::model::{QueueId, TopicName, property, sys_flag};
use crate::protocol::Command;
use crate::protocol::code::{request_code, response_code as code};
use crate::protocol::header::send::SendMessageHeader;
use crate::protocol::reply::{SendReply, Stored, encode_send_reply};
use crate::remoting::Peer;
use crate::rt::time::WallMillis;
use crate::store::Append;
use bytes::Bytes;
use std::sync::Arc;

/// Takes one answer: stores it, and pushes it to the client that asked. The sender is told what
/// became of the push.
pub(super) fn on_reply(shared: &Arc<Shared>, core: &mut Core, request: &Request) -> Taken {
    let header = SendMessageHeader::decode(request.header.code, &request.header.ext);
    let header = match header {
        Ok(header) => header,
        Err(error) => {
            request.reply_to().refuse(&Refusal::system_error(error.to_string()));
            return Taken::Done;
        }
    };
    match accept(shared, core, request, &header) {
        Ok(taken) => taken,
        Err(refusal) => {
            let trace = trace_text(core);
            let fields = [("MSG_REGION", shared.options.region_id.as_str()), ("TRACE_ON", trace)];
            let to = request.reply_to();
            to.answer(refusal.code, Some(&refusal.remark), &fields, Bytes::new());
            Taken::Done
        }
    }
}

/// Where an answer lies.
struct Place {
    queue: u32,
    /// Message id and queue offset, when it is stored.
    stored: Option<(String, u64)>,
}

fn accept(
    shared: &Arc<Shared>,
    core: &mut Core,
    request: &Request,
    header: &SendMessageHeader,
) -> Answer<Taken> {
    let entry = opened_topic::open(shared, core, request, header)?;
    if !entry.is_durable {
        return wait_for_topic(shared, core);
    }
    let Entry { topic: name, slot, queue, .. } = entry;
    let raw = header.properties.as_deref().unwrap_or_default().as_bytes();
    let mut sent = Properties::parse(raw);
    let asker = sent.get(property::REPLY_TO_CLIENT).map(ToString::to_string);
    let pushed = asker.as_deref().map(|asker| {
        sent.set(property::PUSH_REPLY_TIME, shared.clock.wall().0.to_string());
        let peer = core.clients.producer(asker).and_then(|channel| core.peers.get(&channel));
        (asker.to_owned(), peer.map(|connected| connected.peer.clone()))
    });
    let push = push_request(shared, request, header, &sent);
    let stored = match shared.options.store_replies {
        true => store(shared, core, request, header, (&name, slot, queue)),
        false => None,
    };
    let place = Place { queue, stored };
    let (own, to) = (shared.clone(), request.reply_to());
    match pushed {
        Some((asker, Some(peer))) => shared.call_later(async move {
            let failed = push_to(&own, &asker, &peer, push).await.err();
            answer(&own, &to, place, failed);
        })?,
        Some((asker, None)) => {
            let why = format!("push reply message fail, channel of <{asker}> not found.");
            answer_now(shared, core, &to, place, Some(why));
        }
        None => {
            let why = format!("reply message properties[{}] is null", property::REPLY_TO_CLIENT);
            answer_now(shared, core, &to, place, Some(why));
        }
    }
    Ok(Taken::Done)
}

/// Source: ReplyMessageRequestHeader (4.9.3).
fn push_request(
    shared: &Shared,
    request: &Request,
    header: &SendMessageHeader,
    properties: &Properties,
) -> Command {
    let properties = String::from_utf8_lossy(&properties.encode()).into_owned();
    let mut push = Command::request(request_code::PUSH_REPLY_MESSAGE_TO_CLIENT)
        .with_ext("producerGroup", &header.producer_group)
        .with_ext("topic", &header.topic)
        .with_ext("defaultTopic", &header.default_topic)
        .with_ext("defaultTopicQueueNums", header.default_topic_queue_nums)
        .with_ext("queueId", header.queue_id)
        .with_ext("sysFlag", header.sys_flag)
        .with_ext("bornTimestamp", header.born_timestamp)
        .with_ext("flag", header.flag)
        .with_ext("properties", properties)
        .with_ext("unitMode", header.is_unit_mode)
        .with_ext("bornHost", format!("/{}", request.peer.addr()))
        .with_ext("storeHost", format!("/{}", shared.store_host()))
        .with_ext("storeTimestamp", shared.clock.wall().0)
        .with_body(request.body().clone());
    if let Some(times) = header.reconsume_times {
        push.set_ext("reconsumeTimes", times.to_string());
    }
    push
}

/// Errors: why the asker did not take it, in the words of 4.9.3.
async fn push_to(shared: &Shared, asker: &str, peer: &Peer, push: Command) -> Result<(), Refusal> {
    let why = match shared.calls.ask(peer, push, CALL_TIMEOUT).await {
        Ok(answer) if answer.code == code::SUCCESS => return Ok(()),
        Err(Failure::Stopping) => return Err(Refusal::stopping()),
        Ok(answer) => format!("code {}: {}", answer.code, answer.remark.unwrap_or_default()),
        Err(failure) => format!("{failure:?}"),
    };
    tracing::warn!("push reply message to <{asker}> failed: {why}");
    Err(Refusal::system_error(format!("push reply message to {asker}fail.")))
}

/// Puts the answer into its topic; what the log refuses is told by no code, as in 4.9.3.
/// Differs: the record keeps the compression flag of its body, which 4.9.3 drops.
fn store(
    shared: &Shared,
    core: &mut Core,
    request: &Request,
    header: &SendMessageHeader,
    (topic, slot, queue): (&TopicName, u32, u32),
) -> Option<(String, u64)> {
    let properties = header.properties.as_deref().unwrap_or_default().as_bytes();
    let append = Append {
        topic,
        queue: QueueId(queue),
        flag: header.flag,
        // Bits of a transaction would keep the record out of its queue.
        sys_flag: header.sys_flag & sys_flag::COMPRESSED,
        born_timestamp: WallMillis(header.born_timestamp),
        born_host: request.peer.addr(),
        store_host: shared.store_host(),
        reconsume_times: header.reconsume_times.unwrap_or(0),
        prepared_transaction_offset: 0,
        body: request.body(),
        properties,
        tags_code: None,
        wait: true,
        ticket: NOBODY,
    };
    match shared.store.append(&append) {
        Ok(appended) => {
            count(core, slot, QueueId(queue), 1, appended.size);
            let id = message_id::offset_id(shared.store_host(), appended.physical);
            Some((id, appended.queue_offset.0))
        }
        Err(error) => {
            tracing::warn!("a reply was not stored: {error}");
            None
        }
    }
}

fn answer(shared: &Shared, to: &ReplyTo, place: Place, failed: Option<Refusal>) {
    let is_traced = shared.core.lock().live.trace_on;
    write_answer(shared, to, is_traced, &place, failed.as_ref());
}

fn answer_now(shared: &Shared, core: &Core, to: &ReplyTo, place: Place, why: Option<String>) {
    let failed = why.map(Refusal::system_error);
    write_answer(shared, to, core.live.trace_on, &place, failed.as_ref());
}

fn write_answer(
    shared: &Shared,
    to: &ReplyTo,
    is_traced: bool,
    place: &Place,
    failed: Option<&Refusal>,
) {
    if to.oneway {
        return;
    }
    let stored = match &place.stored {
        Some((id, offset)) => Some((id.as_str(), *offset)),
        // A client would stumble over no id.
        None => failed.is_none().then_some(("0", 0)),
    };
    let reply = SendReply {
        opaque: to.opaque,
        code: failed.map_or(code::SUCCESS, |failed| failed.code),
        remark: failed.map(|failed| &*failed.remark),
        stored: stored.map(|(message_id, offset)| Stored {
            message_id,
            queue_id: place.queue as i32,
            queue_offset: offset as i64,
        }),
        region: &shared.options.region_id,
        is_traced,
    };
    to.peer.with_outbox(|out| encode_send_reply(out, to.serialize, &reply));
}
