//! Sending: requests 10, 310 and 320.

use super::super::driver::{Core, DELIVERY, NOBODY, Shared, TIMER, TRANSACTION, WaitingSend};
use super::super::reply::{self, Answer, Refusal};
use super::super::schedule::rewrite;
use super::super::timer::{TIMER_TOPIC, rewrite as timer};
use super::super::topics::{DEAD_LETTER_PREFIX, RETRY_PREFIX, SCHEDULE_TOPIC};
use super::super::transaction::{HALF_TOPIC, rewrite as transaction};
use super::opened_topic::{self, Entry, check_name, forbidden, wait_for_topic};
use super::{ReplyTo, Request, send_back};
use crate::format::{message_batch, message_id, properties};
use crate::model::{PhysicalOffset, QueueId, TopicName, sys_flag};
use crate::protocol::code::response_code as code;
use crate::protocol::header::send::SendMessageHeader;
use crate::protocol::reply::{SendReply, Stored, encode_send_reply};
use crate::rt::time::WallMillis;
use crate::store::{Append, BatchMember, Outcome, Ticket};
use bytes::BytesMut;
use std::sync::Arc;

/// From this client version on a retry names its own limit. Source: MQVersion V3_4_9.
pub(super) const VERSION_WITH_RETRY_LIMIT: i32 = 121;
/// Members of one batch: each needs 22 bytes, and a batch at most `message_bytes_max`.
const BATCH_COUNT_MAX: usize = 200_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Taken {
    /// Accepted or refused: an answer is or will be under way.
    Done,
    /// Its topic must be durable first.
    MustWait,
}

/// Takes one send. Its answer comes with the store's outcome.
/// Source: SendMessageProcessor, AbstractSendMessageProcessor#msgCheck (4.9.3).
pub(in super::super) fn on_send(shared: &Arc<Shared>, core: &mut Core, request: &Request) -> Taken {
    match accept(shared, core, request) {
        Ok(taken) => taken,
        Err((refusal, with_fields)) => {
            let to = request.reply_to();
            let trace = trace_text(core);
            let fields = [("MSG_REGION", shared.options.region_id.as_str()), ("TRACE_ON", trace)];
            let fields = if with_fields { &fields[..] } else { &[] };
            to.answer(refusal.code, Some(&refusal.remark), fields, bytes::Bytes::new());
            Taken::Done
        }
    }
}

pub(super) fn trace_text(core: &Core) -> &'static str {
    if core.live.trace_on { "true" } else { "false" }
}

/// The flag says whether the header was understood: only then 4.9.3 adds region and trace fields.
type Refused = (Refusal, bool);

fn accept(shared: &Arc<Shared>, core: &mut Core, request: &Request) -> Result<Taken, Refused> {
    let header = SendMessageHeader::decode(request.header.code, &request.header.ext)
        .map_err(|error| (Refusal::system_error(error.to_string()), false))?;
    accept_header(shared, core, request, &header).map_err(|refusal| (refusal, true))
}

fn accept_header(
    shared: &Arc<Shared>,
    core: &mut Core,
    request: &Request,
    header: &SendMessageHeader,
) -> Answer<Taken> {
    let entry = opened_topic::open(shared, core, request, header)?;
    let Entry { topic: mut name, mut slot, queue, mut is_durable, .. } = entry;
    let mut flag = header.sys_flag;
    if entry.is_multi_tag {
        flag |= sys_flag::MULTI_TAGS;
    }
    let mut target = queue;
    let mut is_dead = false;
    if header.topic.starts_with(RETRY_PREFIX)
        && !header.is_batch
        && let Some(dead) = dead_letter_topic(shared, core, request, header)?
    {
        let row = core.topics.get(&dead);
        is_durable = row.is_some_and(|row| core.topics.is_durable(row));
        slot = row.map_or(slot, |row| row.slot);
        name = dead;
        target = 0;
        is_dead = true;
    }
    if !is_durable {
        return wait_for_topic(shared, core);
    }
    let place = Place { topic: &name, slot, target, asked: queue, sys_flag: flag, is_dead };
    if header.is_batch {
        append_batch(shared, core, request, header, &place)
    } else {
        append_one(shared, core, request, header, &place)
    }
}

/// Where a message goes.
struct Place<'a> {
    topic: &'a TopicName,
    /// Where it is counted.
    slot: u32,
    target: u32,
    /// The queue named in the answer.
    asked: u32,
    sys_flag: i32,
    /// It has had its chances: it goes to the dead letters at once.
    is_dead: bool,
}

fn append_one(
    shared: &Shared,
    core: &mut Core,
    request: &Request,
    header: &SendMessageHeader,
    place: &Place,
) -> Answer<Taken> {
    let raw = header.properties.as_deref().unwrap_or_default().as_bytes();
    core.scratch.clear();
    let cluster = &shared.options.topics.cluster_name;
    let sent = properties::store_form(raw, cluster, &mut core.scratch);
    let delay = check_kind(&sent)?;
    let tags_code = sent.tags.map_or(0, |tags| i64::from(properties::java_hash(tags)));
    let waits = sent.waits();
    let is_half = sent.is_half() && !is_old_retry(header, delay);
    let is_timed = sent.has_timer;
    let delayed = if is_half { None } else { delayed_form(core, raw, cluster, place, delay) };
    let due = match is_timed && !place.is_dead {
        true if delayed.is_none() => timed_form(shared, core, raw, cluster, place, is_half)?,
        _ => None,
    };
    if is_half {
        half_form(shared, core, raw, cluster, place)?;
    }
    let to = request.reply_to();
    let ticket = if to.oneway { NOBODY } else { Ticket(core.sends.next()) };
    let mut append = Append {
        body: request.body(),
        properties: &core.scratch,
        tags_code: Some(tags_code),
        wait: waits,
        ticket,
        ..append_of(shared, request, header, place)
    };
    if let Some((topic, level)) = &delayed {
        put_off(shared, &mut append, topic, *level)?;
    }
    if is_half {
        hold_back(shared, &core.transaction_names, &mut append)?;
    }
    let timer_topic = due.map(|_| TopicName::new(TIMER_TOPIC));
    if let Some(topic) = &timer_topic {
        put_off_until(shared, &mut append, topic)?;
    }
    let appended = shared
        .store
        .append(&append)
        .map_err(|error| reply::of_append_error(&error, shared.disk_used()))?;
    if is_half {
        core.transactions.on_half(appended.queue_offset);
    }
    if due.is_some() {
        core.timers.on_put(appended.queue_offset);
    }
    let queue = append.queue;
    let held_in = if is_half { Some(HALF_TOPIC) } else { delayed.map(|_| SCHEDULE_TOPIC) };
    let held_in = held_in.and_then(|topic| core.topics.get(topic));
    count(core, held_in.map_or(place.slot, |topic| topic.slot), queue, 1, appended.size);
    if ticket != NOBODY {
        core.sends.insert(WaitingSend {
            to,
            queue: place.asked,
            queue_offset: appended.queue_offset,
            physical: appended.physical,
            batch_ids: None,
            is_send_back: false,
        });
    }
    Ok(Taken::Done)
}

/// A consumer older than 4.6.1 sends what it could not consume with all its properties.
/// Source: SendMessageProcessor#sendMessage (4.9.3); its other path forgets them (W-62).
fn is_old_retry(header: &SendMessageHeader, delay: i32) -> bool {
    header.reconsume_times.unwrap_or(0) > 0 && delay > 0
}

/// Makes the property string in `core.scratch` that of a half message.
/// Source: TransactionalMessageBridge#parseHalfMessageInner (4.9.3).
/// Differs: DELAY goes, as Java's own client has it (W-62).
fn half_form(
    shared: &Shared,
    core: &mut Core,
    raw: &[u8],
    cluster: &str,
    place: &Place,
) -> Answer<()> {
    if shared.options.reject_transactions {
        return Err(forbidden(shared, "sending transaction message is forbidden"));
    }
    if !core.transactions.has_room() {
        return Err(Refusal::overload("too many half messages since the oldest open transaction"));
    }
    core.scratch.clear();
    properties::store_form_with_wait(raw, cluster, &mut core.scratch);
    transaction::half(&mut core.scratch, place.topic, place.target);
    Ok(())
}

/// Turns an append that may be delivered at once into a half message.
/// Errors: it fits there, but neither its copies nor what it becomes would.
fn hold_back<'a>(
    shared: &Shared,
    names: &'a transaction::Names,
    append: &mut Append<'a>,
) -> Answer<()> {
    let op = transaction::op(names, OP_BODY_MAX, append.store_host, append.born_timestamp, NOBODY);
    let fits = shared.store.fit(&[*append, op]);
    fits.map_err(|error| reply::of_append_error(&error, shared.disk_used()))?;
    if append.properties.len() + transaction::COPY_ROOM > properties::SIZE_MAX {
        return Err(Refusal::message_illegal("the properties leave no room for checks"));
    }
    append.topic = &names.half;
    append.queue = transaction::QUEUE;
    append.sys_flag &= !sys_flag::TRANSACTION_MASK;
    Ok(())
}

/// As long as the body of an op message can be, and what a time of its own adds to a message.
const OP_BODY_MAX: &str = "18446744073709551615 TIMER_OUT_MS 9223372036854775807";

/// Source: SendMessageProcessor#handlePutMessageResult (4.9.3).
/// Differs: counted when the log takes it, also when it is refused later: the disk is full then.
pub(super) fn count(core: &mut Core, slot: u32, queue: QueueId, count: u64, size: usize) {
    core.stats.on_put(count, size as u64);
    core.stats.broker_put.add(count);
    core.topics.count_puts(slot, queue, count, size as u64);
}

/// Makes the property string in `core.scratch` that of a delayed message, if this is one; gives the
/// schedule topic and the level.
fn delayed_form(
    core: &mut Core,
    raw: &[u8],
    cluster: &str,
    place: &Place,
    delay: i32,
) -> Option<(TopicName, u32)> {
    let level = core.schedule.level_of(delay).filter(|_| sys_flag::is_queued(place.sys_flag))?;
    if place.is_dead {
        rewrite::set_level(&mut core.scratch, 0);
        return None;
    }
    core.scratch.clear();
    let sent = properties::store_form_with_wait(raw, cluster, &mut core.scratch);
    if sent.has_timer {
        timer::forget_time(&mut core.scratch);
    }
    rewrite::delay(&mut core.scratch, level, place.topic, place.target);
    Some((schedule_topic(core), level))
}

/// When a message is due that asks for a time of its own; makes the property string in
/// `core.scratch` that of one which waits. A half message only must not ask for too much.
/// Source: HookUtils#handleScheduleMessage, SendMessageProcessor#handlePutMessageResult (5.3).
fn timed_form(
    shared: &Shared,
    core: &mut Core,
    raw: &[u8],
    cluster: &str,
    place: &Place,
    is_half: bool,
) -> Answer<Option<WallMillis>> {
    let Some(due) = due_of(shared, core, raw)? else { return Ok(None) };
    if is_half || !sys_flag::is_queued(place.sys_flag) {
        return Ok(None);
    }
    core.scratch.clear();
    properties::store_form_with_wait(raw, cluster, &mut core.scratch);
    timer::time(&mut core.scratch, due, place.topic, place.target);
    Ok(Some(due))
}

/// When a message with this property string is due; `None`: at once.
pub(super) fn due_of(shared: &Shared, core: &Core, raw: &[u8]) -> Answer<Option<WallMillis>> {
    let options = &shared.options.timers;
    if !options.is_on {
        return Ok(None);
    }
    let max_ms = i64::try_from(options.delay_max.as_millis()).unwrap_or(i64::MAX);
    let due = timer::due(raw, shared.clock.wall(), max_ms).map_err(|fault| {
        Refusal::new(code::MESSAGE_ILLEGAL, format!("timer message illegal, {fault}"))
    })?;
    if due.is_some() && !core.timers.has_room() {
        return Err(Refusal::overload("too many messages wait for their time (timerWaitingMax)"));
    }
    Ok(due)
}

/// Turns an append that may be delivered at once into one that waits.
/// Errors: it fits there, but not together with its done message where it is delivered.
fn put_off_until<'a>(shared: &Shared, append: &mut Append<'a>, topic: &'a TopicName) -> Answer<()> {
    let waiting = Append { topic, queue: timer::WAITING, ..*append };
    let done =
        timer::done(topic, timer::DONE_BODY_MAX, append.store_host, append.born_timestamp, NOBODY);
    for one in [*append, waiting] {
        let fits = shared.store.fit(&[one, done]);
        fits.map_err(|error| reply::of_append_error(&error, shared.disk_used()))?;
    }
    *append = waiting;
    Ok(())
}

pub(super) fn schedule_topic(core: &Core) -> TopicName {
    let topic = core.topics.get(SCHEDULE_TOPIC).map(|topic| topic.name.clone());
    topic.unwrap_or_else(|| TopicName::new(SCHEDULE_TOPIC))
}

/// Turns an append that may be delivered at once into one of the schedule topic.
/// Errors: it fits there, but would not fit where it is delivered.
pub(super) fn put_off<'a>(
    shared: &Shared,
    append: &mut Append<'a>,
    topic: &'a TopicName,
    level: u32,
) -> Answer<()> {
    let fits = shared.store.fits(append);
    fits.map_err(|error| reply::of_append_error(&error, shared.disk_used()))?;
    append.topic = topic;
    append.queue = rewrite::queue_of(level);
    append.tags_code = None;
    Ok(())
}

/// Source: SendMessageProcessor#asyncSendBatchMessage, DefaultMessageStore#checkMessages (4.9.3).
fn append_batch(
    shared: &Shared,
    core: &mut Core,
    request: &Request,
    header: &SendMessageHeader,
    place: &Place,
) -> Answer<Taken> {
    let batch_raw = header.properties.as_deref().unwrap_or_default().as_bytes();
    let sent = check_batch(shared, request, batch_raw, place)?;
    let mut stored = std::mem::take(&mut core.scratch);
    stored.clear();
    let mut parts = Vec::new();
    for member in message_batch::members(request.body(), BATCH_COUNT_MAX) {
        let member = member.map_err(|error| Refusal::system_error(error.to_string()))?;
        if member.properties.contains(&0) {
            return Err(Refusal::message_illegal("a property holds a NUL"));
        }
        let start = stored.len();
        let cluster = &shared.options.topics.cluster_name;
        properties::batch_member_form(member.properties, batch_raw, cluster, &mut stored);
        parts.push((member, start..stored.len()));
    }
    let members: Vec<BatchMember> = parts
        .iter()
        .map(|(member, range)| BatchMember {
            flag: member.flag,
            body: member.body,
            properties: &stored[range.clone()],
            tags_code: None,
        })
        .collect();
    let to = request.reply_to();
    let ticket = if to.oneway { NOBODY } else { Ticket(core.sends.next()) };
    let append = Append { wait: sent.waits(), ticket, ..append_of(shared, request, header, place) };
    let mut places = Vec::with_capacity(members.len());
    let appended = shared.store.append_batch(&append, &members, &mut places);
    let appended = appended.map_err(|error| reply::of_append_error(&error, shared.disk_used()));
    core.scratch = stored;
    let appended = appended?;
    let (queue, messages) = (QueueId(place.target), places.len() as u64);
    count(core, place.slot, queue, messages, appended.size);
    if ticket != NOBODY {
        core.sends.insert(WaitingSend {
            to,
            queue: place.asked,
            queue_offset: appended.queue_offset,
            physical: appended.physical,
            batch_ids: Some(joined_ids(shared, &places)),
            is_send_back: false,
        });
    }
    Ok(Taken::Done)
}

fn check_batch<'a>(
    shared: &Shared,
    request: &Request,
    batch_raw: &'a [u8],
    place: &Place,
) -> Answer<properties::Sent<'a>> {
    let size = request.body().len();
    if size > shared.options.limits.message_bytes_max {
        return Err(Refusal::message_illegal(format!("the batch has {size} bytes")));
    }
    let sent = properties::look_at(batch_raw);
    if sent.has_nul {
        return Err(Refusal::message_illegal("a property holds a NUL"));
    }
    let is_delayed = sent.delay_level().is_none_or(|level| level > 0);
    let now = shared.clock.wall();
    let is_timed = sent.has_timer
        && shared.options.timers.is_on
        && timer::due(batch_raw, now, i64::MAX) != Ok(None);
    if is_delayed
        || is_timed
        || sys_flag::transaction_type(place.sys_flag) != sys_flag::TRANSACTION_NONE
    {
        return Err(Refusal::message_illegal("a batch may be neither delayed nor transactional"));
    }
    Ok(sent)
}

/// The offset ids of a batch, as its answer carries them.
fn joined_ids(shared: &Shared, places: &[PhysicalOffset]) -> Box<str> {
    let mut ids = String::with_capacity(places.len() * 33);
    for physical in places {
        if !ids.is_empty() {
            ids.push(',');
        }
        message_id::push_offset_id(shared.store_host(), *physical, &mut ids);
    }
    ids.into_boxed_str()
}

/// What every append takes from its request; body and properties are still empty.
fn append_of<'a>(
    shared: &Shared,
    request: &Request,
    header: &SendMessageHeader,
    place: &Place<'a>,
) -> Append<'a> {
    Append {
        topic: place.topic,
        queue: QueueId(place.target),
        flag: header.flag,
        sys_flag: place.sys_flag,
        born_timestamp: WallMillis(header.born_timestamp),
        born_host: request.peer.addr(),
        store_host: shared.store_host(),
        reconsume_times: header.reconsume_times.unwrap_or(0),
        prepared_transaction_offset: 0,
        body: &[],
        properties: &[],
        tags_code: None,
        wait: true,
        ticket: NOBODY,
    }
}

/// Returns the delay level, 0 or less for none.
fn check_kind(sent: &properties::Sent) -> Answer<i32> {
    if sent.has_nul {
        return Err(Refusal::message_illegal("a property holds a NUL"));
    }
    let not_a_number = || Refusal::system_error("the property DELAY is not a number");
    sent.delay_level().ok_or_else(not_a_number)
}

/// A retry that has had its chances goes to the group's dead letters.
/// Source: SendMessageProcessor#handleRetryAndDLQ (4.9.3).
fn dead_letter_topic(
    shared: &Shared,
    core: &mut Core,
    request: &Request,
    header: &SendMessageHeader,
) -> Answer<Option<TopicName>> {
    let now = shared.clock.wall();
    let group = &header.topic[RETRY_PREFIX.len()..];
    let Some(config) = core.groups.find_or_create(now, group) else {
        return Err(Refusal::retry_group_not_exist(group));
    };
    let own_limit = header.max_reconsume_times;
    let limit = match own_limit.filter(|_| request.header.version >= VERSION_WITH_RETRY_LIMIT) {
        Some(limit) => limit,
        None => config.retry_max_times,
    };
    if header.reconsume_times.unwrap_or(0) < limit {
        return Ok(None);
    }
    let name = format!("{DEAD_LETTER_PREFIX}{group}");
    if core.topics.get(&name).is_none() {
        check_name(&name)?;
        let made = core.topics.create(now, &name, 1, 0);
        made.map_err(|error| Refusal::system_error(error.to_string()))?;
        shared.topics_changed();
    }
    Ok(core.topics.get(&name).map(|topic| topic.name.clone()))
}

/// The store says what became of sends: each is answered, connection by connection.
pub(in super::super) fn on_outcomes(shared: &Shared, outcomes: &mut Vec<(Ticket, Outcome)>) {
    let mut core = shared.core.lock();
    let mut ready: Vec<(WaitingSend, Outcome)> = Vec::with_capacity(outcomes.len());
    let (mut is_moved, mut is_checked, mut is_timed) = (false, false, false);
    for (ticket, outcome) in outcomes.drain(..) {
        if ticket.0 & (DELIVERY | TRANSACTION | TIMER) == 0 {
            let waiting = core.sends.take(ticket.0);
            ready.extend(waiting.map(|waiting| (waiting, outcome)));
        } else if ticket == NOBODY {
        } else if ticket.0 & DELIVERY != 0 {
            // What no sync covered in time is in the log all the same.
            let (is_kept, now) = (outcome.is_kept(), shared.clock.mono());
            is_moved |= core.schedule.on_outcome(ticket.0 & !DELIVERY, is_kept, now);
        } else if ticket.0 & TIMER != 0 {
            let (kept, now) = (super::transaction::kept(outcome), shared.clock.mono());
            is_timed |= core.timers.on_outcome(ticket.0 & !TIMER, kept, now);
        } else {
            is_checked |= super::transaction::on_outcome(&mut core, ticket, outcome);
        }
    }
    let is_traced = core.live.trace_on;
    drop(core);
    if is_moved {
        shared.delivery_moved.notify_one();
    }
    if is_checked {
        shared.check_moved.notify_one();
    }
    if is_timed {
        shared.timer_moved.notify_one();
    }
    let mut text = ReplyText { shared, is_traced, id: String::with_capacity(64) };
    for (waiting, outcome) in ready.iter().filter(|(waiting, _)| waiting.is_send_back) {
        send_back::answer(&waiting.to, *outcome);
    }
    ready.retain(|(waiting, _)| !waiting.is_send_back);
    for run in ready.chunk_by(|(a, _), (b, _)| a.to.peer.id() == b.to.peer.id()) {
        run[0].0.to.peer.with_outbox(|out| {
            for (waiting, outcome) in run {
                text.write(out, waiting, *outcome);
            }
        });
    }
}

/// Writes answers of sends, with a buffer for the message id.
struct ReplyText<'a> {
    shared: &'a Shared,
    is_traced: bool,
    id: String,
}

impl ReplyText<'_> {
    fn write(&mut self, out: &mut BytesMut, waiting: &WaitingSend, outcome: Outcome) {
        let WaitingSend { to, .. } = waiting;
        let options = &self.shared.options;
        let mut reply = SendReply {
            opaque: to.opaque,
            code: code::SUCCESS,
            remark: None,
            stored: None,
            region: &options.region_id,
            is_traced: self.is_traced,
        };
        match reply::of_outcome(outcome, || self.shared.disk_used()) {
            Ok(code) => {
                if waiting.batch_ids.is_none() {
                    self.id.clear();
                    let host = self.shared.store_host();
                    message_id::push_offset_id(host, waiting.physical, &mut self.id);
                }
                reply.code = code;
                reply.stored = Some(Stored {
                    message_id: waiting.batch_ids.as_deref().unwrap_or(&self.id),
                    queue_id: waiting.queue as i32,
                    queue_offset: waiting.queue_offset.0 as i64,
                });
                encode_send_reply(out, to.serialize, &reply);
            }
            Err(refusal) => {
                reply.code = refusal.code;
                reply.remark = Some(&refusal.remark);
                encode_send_reply(out, to.serialize, &reply);
            }
        }
    }
}

/// Answers every send that waited for a topic which could not be saved.
pub(in super::super) fn refuse_waiting(shared: &Shared, reason: &str) {
    let waiting = std::mem::take(&mut shared.core.lock().waiting_for_topic);
    let refusal = Refusal::not_available(reason, shared.disk_used());
    for (peer, frame) in waiting {
        let Ok(header) = crate::protocol::header::scan(&frame) else { continue };
        let to = ReplyTo {
            opaque: header.opaque,
            serialize: frame.serialize,
            oneway: header.is_oneway(),
            peer,
        };
        to.refuse(&refusal);
    }
}
