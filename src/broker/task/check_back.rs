//! Asks producers what became of their transactions, round by round.
//!
//! Source: TransactionalMessageCheckService, TransactionalMessageServiceImpl#check,
//! AbstractTransactionalMessageCheckListener#sendCheckMessage (4.9.3).

use super::super::driver::{Core, Shared, TRANSACTION};
use super::super::reply::Answer;
use super::super::transaction::rule::{self, Facts, Verdict};
use super::super::transaction::{
    Aim, Copied, DISCARD_TOPIC, HALF_TOPIC, Next, Unreadable, rewrite,
};
use super::transactions::{half_key, write_owed};
use crate::format::message_unit::{self, Record, Unit, View};
use crate::model::{PhysicalOffset, QueueKey, QueueOffset, property};
use crate::protocol::Command;
use crate::protocol::code::request_code;
use crate::protocol::header::transaction::CheckTransactionStateHeader;
use crate::rt::task::{Stop, yield_now};
use crate::rt::time::Alarm;
use crate::store::{AppendError, Ticket};
use bytes::{Bytes, BytesMut};
use std::sync::Arc;

pub async fn run(shared: Arc<Shared>, mut stop: Stop) {
    let mut alarm = Alarm::new(&shared.clock);
    let options = shared.options.transactions.clone();
    let key = half_key();
    let mut due = shared.clock.mono() + options.check_interval;
    loop {
        let is_owing = shared.core.lock().transactions.is_owing();
        let soon = shared.clock.mono() + options.retry_pause;
        alarm.set(Some(if is_owing { due.min(soon) } else { due }));
        crate::rt::select! {
            _ = stop.wait() => return,
            _ = alarm.ring() => {}
        }
        write_owed(&shared, &mut shared.core.lock());
        if shared.clock.mono() < due {
            continue;
        }
        let round = Round { shared: &shared, key: &key };
        let is_whole = round.run(&mut stop).await;
        let pause = options.check_interval;
        due = shared.clock.mono() + if is_whole { pause } else { pause.min(options.retry_pause) };
    }
}

/// One look at every open half message.
struct Round<'a> {
    shared: &'a Arc<Shared>,
    key: &'a QueueKey,
}

/// What a look at one half message came to.
enum Step {
    GoOn,
    /// Those behind are younger.
    Done,
    /// The store takes nothing now.
    NotNow,
}

/// A half message as the disk gave it.
enum Found {
    Record(Bytes),
    Deleted { min: QueueOffset },
    Not(String),
}

impl Round<'_> {
    /// False: not all could be looked at.
    async fn run(&self, stop: &mut Stop) -> bool {
        if let Err(refusal) = self.make_topic(HALF_TOPIC).await {
            tracing::warn!("transactions are not checked: {}", refusal.remark);
            return false;
        }
        let end = self.shared.store.max_offset(self.key);
        let mut from = 0;
        let is_whole = loop {
            if stop.is_set() {
                return true;
            }
            let next = self.shared.core.lock().transactions.next_open(from, end);
            let half = match next {
                Next::End => break true,
                Next::Later(at) => {
                    from = at;
                    yield_now().await;
                    continue;
                }
                Next::Open(half) => half,
            };
            from = half.0 + 1;
            match self.look(half).await {
                Step::GoOn => {}
                Step::Done => break true,
                Step::NotNow => break false,
            }
            let turn_max = self.shared.options.transactions.turn_count_max;
            if self.shared.core.lock().transactions.own_flights() >= turn_max {
                self.settle(stop).await;
            }
            yield_now().await;
        };
        self.settle(stop).await;
        is_whole
    }

    /// Waits until the store has said what became of everything, and asks the producers.
    async fn settle(&self, stop: &mut Stop) {
        loop {
            let moved = self.shared.check_moved.notified();
            let (asks, left) = {
                let mut core = self.shared.core.lock();
                (core.transactions.take_asks(), core.transactions.own_flights())
            };
            for copy in asks {
                self.ask(&copy).await;
            }
            if left == 0 {
                return;
            }
            crate::rt::select! {
                _ = stop.wait() => return,
                _ = moved => {}
            }
        }
    }

    async fn look(&self, half: QueueOffset) -> Step {
        let record = match self.read(half).await {
            Found::Record(record) => record,
            Found::Deleted { min } => {
                let lost = self.shared.core.lock().transactions.on_deleted(min);
                if lost > 0 {
                    crate::rt::probe!("transaction: an open half message was deleted");
                    tracing::error!("{lost} open half messages were deleted with their files");
                }
                return Step::GoOn;
            }
            Found::Not(why) => {
                let became = self.shared.core.lock().transactions.on_unreadable(half);
                match became {
                    Unreadable::First => tracing::warn!("half message {half} waits: {why}"),
                    Unreadable::Again => tracing::debug!("half message {half} waits: {why}"),
                    Unreadable::LeftBehind => {
                        crate::rt::probe!("transaction: a half message was left behind");
                        tracing::error!("half message {half} is left behind: {why}");
                    }
                }
                return Step::GoOn;
            }
        };
        let Ok(Unit::Record(view)) = message_unit::decode(&record, at_of(&record), false) else {
            return Step::GoOn;
        };
        let first = rewrite::first_of(&view);
        self.shared.core.lock().transactions.on_read(half, first);
        let mut facts = Facts::of(&view, &self.shared.options.transactions);
        if facts.immunity_ms.is_some() && first < half.0 {
            facts.began = match self.shared.store.store_time_of(self.key, QueueOffset(first)).await
            {
                Ok(began) => began.unwrap_or(view.born_timestamp()),
                Err(error) => {
                    tracing::warn!("half message {half} waits: {first} cannot be read: {error}");
                    return Step::GoOn;
                }
            };
        }
        // A round may have begun before this message was stored.
        let now = self.shared.clock.wall();
        let verdict = rule::judge(&facts, now, &self.shared.options.transactions);
        match verdict {
            Verdict::Wait => Step::Done,
            Verdict::Check => self.renew(&view, first, Some(facts.next_check())).await,
            Verdict::PutBack => self.renew(&view, first, None).await,
            Verdict::DiscardChecked | Verdict::DiscardOld => self.discard(&view, verdict).await,
        }
    }

    async fn read(&self, half: QueueOffset) -> Found {
        let slice = match self.shared.store.slice(self.key, half, 1).await {
            Ok(slice) => slice,
            Err(error) => return Found::Not(format!("its queue entry cannot be read: {error}")),
        };
        if half < slice.min {
            return Found::Deleted { min: slice.min };
        }
        let unit = slice.units.first().filter(|unit| !unit.is_blank() && !unit.is_empty());
        let Some(unit) = unit else { return Found::Not("its queue entry is blank".to_owned()) };
        let at = unit.physical_offset;
        let record = match self.shared.store.record_at(at).await {
            Ok(Some(record)) => record,
            Ok(None) => return Found::Not(format!("no record lies at {at}")),
            Err(error) => return Found::Not(format!("it cannot be read: {error}")),
        };
        let is_it = |view: &View| view.topic() == HALF_TOPIC && view.queue_offset() == half;
        match message_unit::decode(&record, at, true) {
            Ok(Unit::Record(view)) if is_it(&view) => Found::Record(record),
            Ok(_) => Found::Not(format!("another record lies at {at}")),
            Err(error) => Found::Not(error.to_string()),
        }
    }

    /// Appends the half message anew, and its op message. With the number of checks its producers
    /// are asked once the copy is kept.
    /// Source: #putBackHalfMsgQueue, #putImmunityMsgBackToHalfQueue (4.9.3).
    async fn renew(&self, view: &View<'_>, first: u64, check_times: Option<i32>) -> Step {
        let half = view.queue_offset();
        let properties = rewrite::copy(view, check_times);
        let sent = {
            let mut core = self.shared.core.lock();
            if core.transactions.stand(half, half.0) != open(half) {
                return Step::GoOn;
            }
            let ticket = Ticket(TRANSACTION | core.transactions.next_ticket());
            let names = &core.transaction_names;
            let body = half.0.to_string();
            let (host, now) = (self.shared.store_host(), self.shared.clock.wall());
            let appends = [
                rewrite::again(view, &names.half, rewrite::QUEUE, &properties, ticket),
                rewrite::op(names, &body, host, now, ticket),
            ];
            self.shared.store.append_all(&appends).map(|all| {
                let copy = Copied { half: all[0].queue_offset, physical: all[0].physical };
                let aim = Aim::Renew { copy, asks: check_times.is_some() };
                core.transactions.on_sent(aim, half, first, all[1].queue_offset);
            })
        };
        match sent {
            Ok(()) => Step::GoOn,
            Err(error @ (AppendError::Illegal(_) | AppendError::Size { .. })) => {
                // Written by a broker that leaves no room: it is asked for as it is.
                tracing::warn!("half message {half} cannot be appended anew: {error}");
                let copy = Copied { half, physical: view.physical_offset() };
                self.ask(&copy).await;
                Step::GoOn
            }
            Err(error) => self.not_now(half, &error),
        }
    }

    fn not_now(&self, half: QueueOffset, error: &AppendError) -> Step {
        crate::rt::probe!("transaction: the store refused a check");
        tracing::warn!("the check of transactions stops at half message {half}: {error}");
        Step::NotNow
    }

    /// Source: DefaultTransactionalMessageCheckListener#resolveDiscardMsg (4.9.3).
    /// Differs: what the store refuses is tried again (W-67).
    async fn discard(&self, view: &View<'_>, why: Verdict) -> Step {
        let half = view.queue_offset();
        if let Err(refusal) = self.make_topic(DISCARD_TOPIC).await {
            tracing::warn!("half message {half} is not discarded yet: {}", refusal.remark);
            return Step::NotNow;
        }
        let properties = rewrite::copy(view, None);
        let mut core = self.shared.core.lock();
        if core.transactions.stand(half, half.0) != open(half) {
            return Step::GoOn;
        }
        let ticket = Ticket(TRANSACTION | core.transactions.next_ticket());
        let names = &core.transaction_names;
        let body = half.0.to_string();
        let (host, now) = (self.shared.store_host(), self.shared.clock.wall());
        let mut appends = [
            rewrite::again(view, &names.discard, rewrite::QUEUE, &properties, ticket),
            rewrite::op(names, &body, host, now, ticket),
        ];
        let mut sent = self.shared.store.append_all(&appends);
        if matches!(sent, Err(AppendError::Illegal(_) | AppendError::Size { .. })) {
            appends[0].properties = view.properties();
            sent = self.shared.store.append_all(&appends);
        }
        match sent {
            Ok(all) => {
                let (at, first) = (all[0].physical, rewrite::first_of(view));
                let cause = match why {
                    Verdict::DiscardOld => "too old",
                    _ => "checked too often",
                };
                tracing::error!("half message {half} is {cause}: it lies in {DISCARD_TOPIC}, {at}");
                crate::rt::probe!("transaction: a half message was discarded");
                core.transactions.on_sent(Aim::Discard, half, first, all[1].queue_offset);
                Step::GoOn
            }
            Err(error) => self.not_now(half, &error),
        }
    }

    /// One queue, readable and writable; durable on return.
    async fn make_topic(&self, name: &str) -> Answer<()> {
        let saved = {
            let mut core = self.shared.core.lock();
            if core.topics.get(name).is_some_and(|topic| core.topics.is_durable(topic)) {
                return Ok(());
            }
            if core.topics.get(name).is_none() {
                let made = core.topics.create(self.shared.clock.wall(), name, 1, 0);
                made.map_err(|e| super::super::reply::Refusal::system_error(e.to_string()))?;
                self.shared.topics_changed();
            }
            self.shared.until_saved(core.topics.changes(), 0)
        };
        saved.await
    }

    /// Asks a member of the producer group; a group without one is asked again in the next round.
    async fn ask(&self, copy: &Copied) {
        let record = match self.shared.store.record_at(copy.physical).await {
            Ok(Some(record)) => record,
            Ok(None) => return tracing::warn!("half message {} is not visible", copy.half),
            Err(error) => {
                return tracing::warn!("half message {} is not asked for: {error}", copy.half);
            }
        };
        let Ok(Unit::Record(view)) = message_unit::decode(&record, copy.physical, true) else {
            return;
        };
        let Some(question) = question(&view) else {
            return tracing::warn!("half message {} does not say where it belongs", copy.half);
        };
        let group = view.property(property::PRODUCER_GROUP).unwrap_or_default();
        let group = String::from_utf8_lossy(group);
        let mut core = self.shared.core.lock();
        match pick(&mut core, &group) {
            Some(channel) => {
                if let Some(connected) = core.peers.get(&channel) {
                    connected.peer.send_oneway(question);
                }
            }
            None => {
                crate::rt::probe!("transaction: nobody of the producer group lives");
                let half = copy.half;
                tracing::warn!(%group, "nobody can be asked for half message {half}");
            }
        }
    }
}

fn open(half: QueueOffset) -> super::super::transaction::Standing {
    super::super::transaction::Standing::Open(half)
}

fn at_of(record: &Bytes) -> PhysicalOffset {
    let at = record.get(28..36).and_then(|bytes| bytes.first_chunk::<8>());
    PhysicalOffset(at.map_or(0, |bytes| u64::from_be_bytes(*bytes)))
}

/// A live member of the group, each in its turn. Source: ProducerManager#getAvailableChannel.
fn pick(core: &mut Core, group: &str) -> Option<u64> {
    let turn = core.transactions.next_turn();
    let members: Vec<u64> = core.clients.producer_group(group)?.map(|(id, _)| id).collect();
    members.get(turn.checked_rem(members.len())?).copied()
}

/// Source: AbstractTransactionalMessageCheckListener#sendCheckMessage (4.9.3).
fn question(half: &View<'_>) -> Option<Command> {
    let real = rewrite::real(half)?;
    let number = |offset: u64| i64::try_from(offset).unwrap_or(i64::MAX);
    let unique = half.unique_key().map(|key| String::from_utf8_lossy(key).into_owned());
    let header = CheckTransactionStateHeader {
        tran_state_table_offset: number(half.queue_offset().0),
        commit_log_offset: number(half.physical_offset().0),
        msg_id: unique.clone(),
        transaction_id: unique,
        offset_msg_id: Some(half.offset_id()),
    };
    let message = Record { topic: real.topic, queue_id: real.queue, ..half.record() };
    message_unit::check(&message).ok()?;
    let mut body = BytesMut::new();
    message_unit::encode(&message, &mut body);
    let request = Command::request(request_code::CHECK_TRANSACTION_STATE);
    Some(request.with_fields(header.to_ext()).with_body(body.freeze()))
}
