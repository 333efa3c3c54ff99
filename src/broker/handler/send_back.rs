//! Messages that a consumer could not consume come back: request 36.
//!
//! Source: SendMessageProcessor#asyncConsumerSendMsgBack (4.9.3).
//! Differs: it is answered when the message is as durable as the flush mode promises (4.9.3 waits
//! for no disk); an offset that gives another message than the consumer named is refused (W-68).

use super::super::driver::{Core, Shared, WaitingSend};
use super::super::reply::{Answer, Refusal};
use super::super::schedule::rewrite;
use super::super::topics::{DEAD_LETTER_PREFIX, RETRY_PREFIX, name_fault, perm};
use super::opened_topic::forbidden;
use super::send::{VERSION_WITH_RETRY_LIMIT, put_off, schedule_topic};
use super::{Done, ReplyTo, Request, later};
use crate::format::message_id;
use crate::format::message_unit::{self, Unit, View};
use crate::format::properties::Properties;
use crate::model::{PhysicalOffset, QueueId, TopicName, property};
use crate::protocol::code::response_code as code;
use crate::protocol::header::send_back::SendBackHeader;
use crate::store::{Append, AppendError, Outcome, Rejection, Ticket};
use bytes::Bytes;
use std::sync::Arc;

/// The level of the first retry: 10 s by default, and longer from try to try.
const FIRST_LEVEL: i32 = 3;

/// What the request and the group say; the message is not read yet.
struct Plan {
    header: SendBackHeader,
    /// Retries that a message gets.
    limit: i32,
    retry_topic: String,
    /// A queue of the retry topic.
    queue: u32,
}

/// Where the message goes.
struct Target {
    topic: TopicName,
    queue: u32,
    /// 0: at once.
    level: u32,
}

pub(super) fn on_send_back(
    shared: &Arc<Shared>,
    core: &mut Core,
    request: &Request,
) -> Answer<Done> {
    let header = SendBackHeader::decode(&request.header.ext)
        .map_err(|error| Refusal::system_error(error.to_string()))?;
    let now = shared.clock.wall();
    let is_new = core.groups.get(&header.group).is_none();
    let Some(group) = core.groups.find_or_create(now, &header.group) else {
        return Err(Refusal::retry_group_not_exist(&header.group));
    };
    let own_limit = header.max_reconsume_times;
    let own_limit = own_limit.filter(|_| request.header.version >= VERSION_WITH_RETRY_LIMIT);
    let limit = own_limit.unwrap_or(group.retry_max_times);
    let queues = u32::try_from(group.retry_queue_nums).unwrap_or(0);
    if is_new {
        shared.unsaved.notify_one();
    }
    if core.live.permission & perm::WRITE == 0 {
        return Err(forbidden(shared, "sending message is forbidden"));
    }
    if queues == 0 {
        tracing::info!(group = header.group, "a message was sent back to a group without retries");
        return Ok(Done::Empty);
    }
    let retry_topic = format!("{RETRY_PREFIX}{}", header.group);
    make_topic(shared, core, &retry_topic, queues, if header.is_unit_mode { 2 } else { 0 })?;
    if core.topics.get(&retry_topic).is_some_and(|topic| !topic.config.is_writable()) {
        let remark = format!("the topic[{retry_topic}] sending message is forbidden");
        return Err(Refusal::new(code::NO_PERMISSION, remark));
    }
    let queue = core.rng.below(u64::from(queues)) as u32;
    let plan = Plan { header, limit, retry_topic, queue };
    let (shared, to) = (shared.clone(), request.reply_to());
    later(request, async move { take_back(&shared, to, &plan).await.map(|()| Done::Later) })
}

/// Reads the message and sends it on; the store's outcome answers.
async fn take_back(shared: &Arc<Shared>, to: ReplyTo, plan: &Plan) -> Answer<()> {
    let offset = plan.header.offset;
    let not_found = |why: &str| {
        let remark = format!("look message by offset failed, {offset}{why}");
        Refusal::system_error(remark)
    };
    let at = PhysicalOffset(u64::try_from(offset).map_err(|_| not_found(""))?);
    let record = match shared.store.record_at(at).await {
        Ok(Some(record)) => record,
        Ok(None) => return Err(not_found("")),
        Err(error) => return Err(not_found(&format!(": {error}"))),
    };
    let view = match message_unit::decode(&record, at, true) {
        Ok(Unit::Record(view)) => view,
        Ok(_) => return Err(not_found("")),
        Err(error) => return Err(not_found(&format!(": {error}"))),
    };
    if !is_meant(&view, plan.header.origin_message_id.as_deref()) {
        crate::rt::probe!("broker: an offset sent back gave another message");
        return Err(not_found(": another message lies there"));
    }
    let (saved, target) = {
        let mut core = shared.core.lock();
        let target = target(shared, &mut core, plan, &view)?;
        let row = core.topics.get(&target.topic);
        let is_durable = row.is_some_and(|row| core.topics.is_durable(row));
        (shared.until_saved(if is_durable { 0 } else { core.topics.changes() }, 0), target)
    };
    saved.await?;
    append(shared, &mut shared.core.lock(), to, &plan.header.group, &target, &view)
}

/// A client names the message by its unique id, or by its offset id. An offset may belong to
/// another message after a power loss or on another broker. What is no id of either kind says
/// nothing.
pub(super) fn is_meant(view: &View, named: Option<&str>) -> bool {
    let Some(named) = named else { return true };
    let is_id = matches!(named.len(), 32 | 56) && named.bytes().all(|b| b.is_ascii_hexdigit());
    let Some(unique) = view.unique_key().filter(|_| is_id) else { return true };
    let same_place = message_id::parse_offset_id(named)
        .is_ok_and(|(_, physical)| physical == view.physical_offset());
    unique == named.as_bytes()
        || same_place
        || view.property(property::ORIGIN_MESSAGE_ID) == Some(named.as_bytes())
}

fn target(shared: &Shared, core: &mut Core, plan: &Plan, view: &View) -> Answer<Target> {
    let asked = plan.header.delay_level;
    let (name, queue, level) = if view.reconsume_times() >= plan.limit || asked < 0 {
        crate::rt::probe!("broker: a message went to the dead letters");
        (format!("{DEAD_LETTER_PREFIX}{}", plan.header.group), 0, 0)
    } else {
        let level = if asked == 0 { FIRST_LEVEL + view.reconsume_times() } else { asked };
        let level = core.schedule.level_of(level).unwrap_or(0);
        (plan.retry_topic.clone(), plan.queue, level)
    };
    make_topic(shared, core, &name, 1, 0)?;
    let topic = core.topics.get(&name).map(|topic| topic.name.clone());
    let topic = topic.ok_or_else(|| no_topic(&name))?;
    Ok(Target { topic, queue, level })
}

fn no_topic(name: &str) -> Refusal {
    Refusal::system_error(format!("topic[{name}] not exist"))
}

/// Source: TopicConfigManager#createTopicInSendMessageBackMethod (4.9.3).
fn make_topic(shared: &Shared, core: &mut Core, name: &str, queues: u32, flag: i32) -> Answer<()> {
    if core.topics.get(name).is_some() {
        return Ok(());
    }
    if name_fault(name).is_some() {
        return Err(no_topic(name));
    }
    let made = core.topics.create(shared.clock.wall(), name, queues, flag);
    made.map_err(|error| Refusal::system_error(error.to_string()))?;
    shared.topics_changed();
    Ok(())
}

/// The property string of the message that goes back.
fn properties(view: &View, target: &Target) -> Vec<u8> {
    let mut all = Properties::parse(view.properties());
    if all.get(property::RETRY_TOPIC).is_none() {
        all.set(property::RETRY_TOPIC, view.topic());
    }
    if all.get(property::ORIGIN_MESSAGE_ID).is_none_or(|id| id.trim().is_empty()) {
        all.set(property::ORIGIN_MESSAGE_ID, view.offset_id());
    }
    all.set(property::WAIT, "false");
    all.set(property::DELAY, target.level.to_string());
    let mut raw = all.encode();
    if target.level > 0 {
        rewrite::delay(&mut raw, target.level, &target.topic, target.queue);
    }
    raw
}

fn append(
    shared: &Shared,
    core: &mut Core,
    to: ReplyTo,
    group: &str,
    target: &Target,
    view: &View,
) -> Answer<()> {
    if core.stopping {
        return Err(Refusal::stopping());
    }
    let properties = properties(view, target);
    let schedule = schedule_topic(core);
    let mut append = Append {
        topic: &target.topic,
        queue: QueueId(target.queue),
        flag: view.flag(),
        sys_flag: view.sys_flag(),
        born_timestamp: view.born_timestamp(),
        born_host: view.born_host(),
        store_host: view.store_host(),
        reconsume_times: view.reconsume_times().saturating_add(1),
        prepared_transaction_offset: 0,
        body: view.body(),
        properties: &properties,
        tags_code: None,
        wait: true,
        ticket: Ticket(core.sends.next()),
    };
    if target.level > 0 {
        put_off(shared, &mut append, &schedule, target.level)?;
    }
    let appended = shared.store.append(&append).map_err(|error| {
        tracing::debug!("a message that was sent back is not stored: {error}");
        Refusal::system_error(match error {
            AppendError::Illegal(_) | AppendError::Size { .. } => "MESSAGE_ILLEGAL",
            AppendError::Busy { .. } | AppendError::Stalled(_) => "OS_PAGECACHE_BUSY",
            _ => "SERVICE_NOT_AVAILABLE",
        })
    })?;
    let (queue, size) = (append.queue, appended.size as u64);
    core.stats.on_put(1, size);
    if target.level > 0 {
        let slot = core.topics.get(&schedule).map(|topic| topic.slot);
        slot.iter().for_each(|slot| core.topics.count_puts(*slot, queue, 1, size));
    }
    count_back(core, group, view);
    core.sends.insert(WaitingSend {
        to,
        queue: target.queue,
        queue_offset: appended.queue_offset,
        physical: appended.physical,
        batch_ids: None,
        is_send_back: true,
    });
    Ok(())
}

/// By the topic it came from at first.
fn count_back(core: &mut Core, group: &str, view: &View) {
    let retried = view.property(property::RETRY_TOPIC);
    let topic = retried.and_then(|topic| std::str::from_utf8(topic).ok());
    let row = core.stats.groups.row(topic.unwrap_or(view.topic()), group);
    core.stats.groups.get_mut(row).into_iter().for_each(|gets| gets.sent_back.add(1));
}

/// The store says what became of it.
pub(super) fn answer(to: &ReplyTo, outcome: Outcome) {
    let status = match outcome {
        Outcome::Durable => return to.done(&[], Bytes::new()),
        Outcome::FlushTimeout => "FLUSH_DISK_TIMEOUT",
        Outcome::NoSlave => "SLAVE_NOT_AVAILABLE",
        Outcome::SlaveTimeout => "FLUSH_SLAVE_TIMEOUT",
        Outcome::Rejected(Rejection::SegmentLate) => "CREATE_MAPEDFILE_FAILED",
        Outcome::Rejected(Rejection::Stalled { .. }) => "OS_PAGECACHE_BUSY",
        Outcome::Rejected(_) => "SERVICE_NOT_AVAILABLE",
    };
    to.refuse(&Refusal::system_error(status));
}
