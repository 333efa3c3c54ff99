//! The end of a transaction, and a discarded one that begins anew: requests 37 and 323.
//!
//! Source: EndTransactionProcessor, AdminBrokerProcessor#resumeCheckHalfMessage (4.9.3).
//! Differs: a transaction ends once, and a second end is refused (W-64); the end of an old copy
//! ends its newest one (W-63); see ADR-0018.

use super::super::driver::{Core, Shared, TRANSACTION};
use super::super::real_topic::real_topic;
use super::super::reply::{self, Answer, Refusal};
use super::super::timer::{TIMER_TOPIC, rewrite as timer};
use super::super::transaction::{Aim, DISCARD_TOPIC, HALF_TOPIC, Kept, Standing, rewrite};
use super::send_back::is_meant;
use super::{Done, ReplyTo, Request, later, send};
use crate::format::message_id;
use crate::format::message_unit::{self, Unit, View};
use crate::model::{PhysicalOffset, QueueOffset, TopicName, property, sys_flag};
use crate::protocol::code::response_code as code;
use crate::protocol::header::transaction::{EndTransactionHeader, ResumeCheckHalfMessageHeader};
use crate::store::{Append, AppendError, Outcome, Rejection, Ticket};
use bytes::Bytes;
use std::sync::Arc;

/// What is asked for; the half message is not read yet.
struct End {
    header: EndTransactionHeader,
    is_commit: bool,
    at: PhysicalOffset,
}

/// Answered when what it wrote is as durable as the flush mode promises.
/// Source: EndTransactionProcessor#processRequest (4.9.3).
pub(super) fn on_end(shared: &Arc<Shared>, core: &mut Core, request: &Request) -> Answer<Done> {
    if shared.replication.role.is_slave() {
        return Err(Refusal::new(code::SLAVE_NOT_AVAILABLE, ""));
    }
    let header = EndTransactionHeader::decode(&request.header.ext)
        .map_err(|error| Refusal::system_error(error.to_string()))?;
    let is_commit = match header.commit_or_rollback {
        sys_flag::TRANSACTION_COMMIT => true,
        sys_flag::TRANSACTION_ROLLBACK => false,
        sys_flag::TRANSACTION_NONE => {
            // 4.9.3 gives no answer either: it will be asked for again.
            let (group, half) = (&header.producer_group, header.tran_state_table_offset);
            tracing::debug!(group, half, "a producer does not know yet how a transaction ends");
            return Ok(Done::Later);
        }
        _ => return Err(Refusal::system_error("commitOrRollback field wrong")),
    };
    let at = u64::try_from(header.commit_log_offset).map_err(|_| not_found(""))?;
    let end = End { header, is_commit, at: PhysicalOffset(at) };
    if let Some(record) = shared.store.record_in_memory(end.at) {
        finish(shared, core, &request.reply_to(), &end, &record)?;
        return Ok(Done::Later);
    }
    let (shared, to) = (shared.clone(), request.reply_to());
    later(request, async move {
        let record = match shared.store.record_at(end.at).await {
            Ok(Some(record)) => record,
            Ok(None) => return Err(not_found("")),
            Err(error) => return Err(not_found(&format!(": {error}"))),
        };
        finish(&shared, &mut shared.core.lock(), &to, &end, &record).map(|()| Done::Later)
    })
}

fn not_found(why: &str) -> Refusal {
    Refusal::system_error(format!("Find prepared transaction message failed{why}"))
}

/// Source: EndTransactionProcessor#checkPrepareMessage (4.9.3). Differs: the record must be a half
/// message, and the one that the id names: after a power loss another may lie there.
fn check<'a>(end: &End, record: &'a Bytes) -> Answer<View<'a>> {
    let view = match message_unit::decode(record, end.at, true) {
        Ok(Unit::Record(view)) => view,
        Ok(_) => return Err(not_found("")),
        Err(error) => return Err(not_found(&format!(": {error}"))),
    };
    if view.topic() != HALF_TOPIC || view.queue_id() != rewrite::QUEUE {
        return Err(not_found(": no half message lies there"));
    }
    if view.property(property::PRODUCER_GROUP) != Some(end.header.producer_group.as_bytes()) {
        return Err(Refusal::system_error("The producer group wrong"));
    }
    let asked = u64::try_from(end.header.tran_state_table_offset);
    if asked != Ok(view.queue_offset().0) {
        return Err(Refusal::system_error("The transaction state table offset wrong"));
    }
    if !is_meant(&view, end.header.msg_id.as_deref()) {
        crate::rt::probe!("transaction: an end named another message");
        return Err(not_found(": another message lies there"));
    }
    Ok(view)
}

/// Writes what ends the transaction; the store's outcome answers.
fn finish(shared: &Shared, core: &mut Core, to: &ReplyTo, end: &End, record: &Bytes) -> Answer<()> {
    if core.stopping {
        return Err(Refusal::stopping());
    }
    let view = check(end, record)?;
    let first = rewrite::first_of(&view);
    let half = match core.transactions.stand(view.queue_offset(), first) {
        Standing::Open(half) => half,
        Standing::Ending => return Err(Refusal::system_error("The transaction is ending")),
        Standing::Resolved => {
            crate::rt::probe!("transaction: an end came after the end");
            return Err(Refusal::system_error("The transaction has ended already"));
        }
    };
    if half != view.queue_offset() {
        crate::rt::probe!("transaction: the end of an old copy");
    }
    let ticket = Ticket(TRANSACTION | core.transactions.next_ticket());
    let op = match end.is_commit {
        true => commit(shared, core, &view, half, ticket)?,
        false => append_op(shared, core, half, ticket).map_err(|error| refused(shared, &error))?,
    };
    core.transactions.on_sent(Aim::End, half, first, op);
    if !to.oneway {
        core.transaction_replies.insert(ticket.0, to.clone());
    }
    Ok(())
}

fn refused(shared: &Shared, error: &AppendError) -> Refusal {
    reply::of_append_error(error, shared.disk_used())
}

fn commit(
    shared: &Shared,
    core: &mut Core,
    view: &View,
    half: QueueOffset,
    ticket: Ticket,
) -> Answer<QueueOffset> {
    let no_place = || Refusal::system_error("the half message does not say where it belongs");
    let real = rewrite::real(view).ok_or_else(no_place)?;
    let at = view.physical_offset();
    let Some((topic, _)) = real_topic(shared, core, real.topic, real.queue, at) else {
        // Its producer is asked for the end again.
        let why = format!("the topic {} of the half message is not on disk yet", real.topic);
        return Err(Refusal::system_error(why));
    };
    let body = half.0.to_string();
    let (host, now) = (shared.store_host(), shared.clock.wall());
    let mut timed = None;
    if let Some(due) = send::due_of(shared, core, view.properties())? {
        // Its time counts from the commit. Source: EndTransactionProcessor#sendFinalMessage (5.3).
        let mut properties = view.properties().to_vec();
        timer::set_due(&mut properties, due);
        timed = Some((TopicName::new(TIMER_TOPIC), properties));
    }
    let mut last = rewrite::committed(view, &topic, real.queue, ticket);
    if let Some((topic, properties)) = &timed {
        last = Append { topic, queue: timer::WAITING, properties, ..last };
    }
    let appends = [last, rewrite::op(&core.transaction_names, &body, host, now, ticket)];
    let all = shared.store.append_all(&appends).map_err(|error| refused(shared, &error))?;
    if timed.is_some() {
        core.timers.on_put(all[0].queue_offset);
    }
    Ok(all[1].queue_offset)
}

/// Appends the op message of `half` alone. Returns where it lies in its queue.
pub(in super::super) fn append_op(
    shared: &Shared,
    core: &Core,
    half: QueueOffset,
    ticket: Ticket,
) -> Result<QueueOffset, AppendError> {
    let body = half.0.to_string();
    let (host, now) = (shared.store_host(), shared.clock.wall());
    let op = rewrite::op(&core.transaction_names, &body, host, now, ticket);
    shared.store.append(&op).map(|appended| appended.queue_offset)
}

/// A discarded half message begins anew.
/// Differs: only messages of TRANS_CHECK_MAX_TIME_TOPIC are taken.
pub(super) fn on_resume(shared: &Arc<Shared>, request: &Request) -> Answer<Done> {
    const FAILED: &str = "Put message back to RMQ_SYS_TRANS_HALF_TOPIC failed.";
    let failed = |why: &str| Refusal::system_error(format!("{FAILED}{why}"));
    let header = ResumeCheckHalfMessageHeader::decode(&request.header.ext)
        .map_err(|error| Refusal::system_error(error.to_string()))?;
    let id = header.msg_id.unwrap_or_default();
    let (_, at) = message_id::parse_offset_id(&id).map_err(|error| failed(&error.to_string()))?;
    let (shared, to) = (shared.clone(), request.reply_to());
    later(request, async move {
        let record = shared.store.record_at(at).await;
        let record = record.map_err(|error| failed(&error.to_string()))?;
        let record = record.ok_or_else(|| failed(" No message lies there."))?;
        let view = match message_unit::decode(&record, at, true) {
            Ok(Unit::Record(view)) if view.topic() == DISCARD_TOPIC => view,
            _ => return Err(failed(" No discarded half message lies there.")),
        };
        let mut core = shared.core.lock();
        let core = &mut *core;
        if core.stopping {
            return Err(Refusal::stopping());
        }
        let properties = rewrite::resumed(&view);
        let ticket = Ticket(TRANSACTION | core.transactions.next_ticket());
        let names = &core.transaction_names;
        let append = rewrite::again(&view, &names.half, rewrite::QUEUE, &properties, ticket);
        let appended = shared.store.append(&append).map_err(|error| refused(&shared, &error))?;
        core.transactions.on_resumed();
        core.transactions.on_half(appended.queue_offset);
        core.transaction_replies.insert(ticket.0, to);
        Ok(Done::Later)
    })
}

/// Whether an append of our own is in the log.
pub(super) fn kept(outcome: Outcome) -> Kept {
    match outcome {
        Outcome::Rejected(Rejection::Poisoned) => Kept::Unknown,
        Outcome::Rejected(_) => Kept::No,
        _ => Kept::Yes,
    }
}

/// The store says what became of an append. True: the check should look.
pub(super) fn on_outcome(core: &mut Core, ticket: Ticket, outcome: Outcome) -> bool {
    let aim = core.transactions.on_outcome(ticket.0 & !TRANSACTION, kept(outcome));
    if let Some(to) = core.transaction_replies.remove(&ticket.0) {
        answer(&to, outcome);
    }
    aim.is_some_and(|aim| !matches!(aim, Aim::End | Aim::Resume))
}

/// Source: EndTransactionProcessor#sendFinalMessage (4.9.3).
/// Differs: what no sync covered in time is no success, but code 10, and what no slave has is code
/// 11 or 12.
fn answer(to: &ReplyTo, outcome: Outcome) {
    match reply::of_outcome(outcome, || None) {
        Ok(code::SUCCESS) => to.done(&[], Bytes::new()),
        Ok(code @ code::FLUSH_DISK_TIMEOUT) => {
            to.refuse(&Refusal::new(code, "no sync has covered it yet"));
        }
        Ok(code) => to.refuse(&Refusal::new(code, "no slave has said that it has it")),
        Err(refusal) => to.refuse(&refusal),
    }
}
