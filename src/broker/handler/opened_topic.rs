//! The topic that a send or an answer goes into: whether it may, and which queue it takes.

use super::super::driver::{Core, Shared};
use super::super::reply::{Answer, Refusal};
use super::super::topics::{self, CreateError, FilterType, FirstSend, Topic, perm};
use super::Request;
use super::send::Taken;
use crate::model::TopicName;
use crate::protocol::code::response_code as code;
use crate::protocol::header::send::SendMessageHeader;
use std::sync::Arc;

/// A topic that takes the message, and the queue for it.
pub(super) struct Entry {
    pub topic: TopicName,
    /// Where it is counted.
    pub slot: u32,
    pub queue: u32,
    /// topics.json has it on disk; otherwise the message must wait (`wait_for_topic`).
    pub is_durable: bool,
    /// `MULTI_TAG`: its messages carry a flag that says so.
    pub is_multi_tag: bool,
}

/// Opens the topic that a request names, and makes it when a send may.
/// Source: AbstractSendMessageProcessor#msgCheck (4.9.3); requests 10, 310, 320, 324 and 325.
pub(super) fn open(
    shared: &Arc<Shared>,
    core: &mut Core,
    request: &Request,
    header: &SendMessageHeader,
) -> Answer<Entry> {
    if core.live.accept_sends_from_ms > 0 {
        check_opening(shared, core)?;
    }
    let topic = match core.topics.get(&header.topic) {
        Some(topic) if !topics::is_closed_to_sends(&topic.name) => topic,
        _ => {
            check_name(&header.topic)?;
            create_topic(shared, core, header)?;
            core.topics.get(&header.topic).ok_or_else(|| Refusal::topic_not_exist(&header.topic))?
        }
    };
    if topic.config.order && core.live.permission & perm::WRITE == 0 {
        return Err(forbidden(shared, "sending message is forbidden"));
    }
    let queue = choose_queue(&mut core.rng, topic, header.queue_id, request)?;
    Ok(Entry {
        topic: topic.name.clone(),
        slot: topic.slot,
        queue,
        is_durable: core.topics.is_durable(topic),
        is_multi_tag: topic.config.topic_filter_type == FilterType::MultiTag,
    })
}

/// A message must not outlive its topic: topics.json is durable before the first message.
pub(super) fn wait_for_topic(shared: &Shared, core: &Core) -> Answer<Taken> {
    if core.waiting_for_topic.len() >= shared.options.limits.sends_waiting_for_topic_max {
        return Err(Refusal::overload("too many sends wait for their topics to be saved"));
    }
    shared.unsaved.notify_one();
    Ok(Taken::MustWait)
}

pub(super) fn forbidden(shared: &Shared, what: &str) -> Refusal {
    let remark = format!("the broker[{}] {what}", shared.options.advertised_ip);
    Refusal::new(code::NO_PERMISSION, remark)
}

fn check_opening(shared: &Shared, core: &Core) -> Answer<()> {
    let from = core.live.accept_sends_from_ms;
    if shared.clock.wall().0 < from {
        let remark = format!("broker unable to service, until {from}");
        return Err(Refusal::system_error(remark));
    }
    Ok(())
}

pub(super) fn check_name(topic: &str) -> Answer<()> {
    if let Some(fault) = topics::name_fault(topic) {
        return Err(Refusal::system_error(fault));
    }
    if topics::is_closed_to_sends(topic) {
        let remark = format!("Sending message to topic[{topic}] is forbidden.");
        return Err(Refusal::new(code::NO_PERMISSION, remark));
    }
    Ok(())
}

fn create_topic(shared: &Shared, core: &mut Core, header: &SendMessageHeader) -> Answer<()> {
    let first = FirstSend {
        topic: &header.topic,
        template: &header.default_topic,
        queues_wanted: header.default_topic_queue_nums,
        unit_mode: header.is_unit_mode,
    };
    match core.topics.create_on_send(shared.clock.wall(), first) {
        Ok(()) => {
            tracing::info!(topic = &*header.topic, "a first message made a topic");
            shared.topics_changed();
            Ok(())
        }
        Err(error @ CreateError::TooMany(_)) => Err(Refusal::system_error(error.to_string())),
        Err(_) => Err(Refusal::topic_not_exist(&header.topic)),
    }
}

/// A negative queue id means any queue.
fn choose_queue(
    rng: &mut crate::rt::rng::Rng,
    topic: &Topic,
    asked: i32,
    request: &Request,
) -> Answer<u32> {
    let config = &topic.config;
    let count = config.write_queue_nums.max(config.read_queue_nums);
    match u32::try_from(asked) {
        Ok(queue) if queue < count => Ok(queue),
        Err(_) if config.write_queue_nums > 0 => {
            Ok(rng.below(u64::from(config.write_queue_nums)) as u32)
        }
        _ => Err(Refusal::system_error(format!(
            "request queueId[{asked}] is illegal, {config} Producer: {}",
            request.peer.addr()
        ))),
    }
}
