//! Readers: each follows one queue from its begin to what is newest, and gives back what it
//! fails at.

use super::super::cluster::Phase;
use super::super::filters::{self, Selector};
use super::super::transactions;
use super::{Node, Since};
use crate::history::{self, Fate, Grade, History, Id, Place, Seen};
use crate::oracle::files::{self, Record};
use crate::oracle::retry::{self, RETRIES_MAX};
use crate::oracle::{delay, judge, timer};
use crate::trace;
use hotfire::client::{MessageQueue, PullRequest, PullResult, PullStatus, Subscription};
use hotfire::model::{PhysicalOffset, QueueOffset, TopicName};
use hotfire::rt::rng::Rng;
use hotfire::rt::sim::mark;
use hotfire::rt::time::{Duration, Mono};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Finds the queues of a topic again and again, and reads each new one.
pub async fn follow_topic(node: Node, topic: String, mut dice: Rng) {
    let mut known: BTreeSet<(String, u32)> = BTreeSet::new();
    let name = TopicName::new(&topic);
    loop {
        if let Ok(queues) = node.client.subscribe_queues(&name).await {
            for queue in queues {
                if known.insert((queue.broker.to_string(), queue.queue.0)) {
                    let reader = Reader::new(&node, queue, Rng::from_seed(dice.next_u64()));
                    if let Some(reader) = reader {
                        node.group.spawn(reader.run());
                    }
                }
            }
        }
        node.pause(dice.between(500, 3_000)).await;
    }
}

struct Reader {
    node: Node,
    queue: MessageQueue,
    broker: usize,
    subscription: Subscription,
    /// What it wants besides tags, and in which turn of the client.
    selector: Option<(Arc<Selector>, u64)>,
    dice: Rng,
}

impl Reader {
    fn new(node: &Node, queue: MessageQueue, dice: Rng) -> Option<Self> {
        let broker = node.house.broker_machine(&queue.broker)?;
        let subscription = Subscription::tags(&queue.topic, "*", 0).ok()?;
        Some(Reader { node: node.clone(), queue, broker, subscription, selector: None, dice })
    }

    fn key(&self) -> (usize, usize, String, u32) {
        (self.node.machine, self.broker, self.queue.topic.to_string(), self.queue.queue.0)
    }

    async fn run(mut self) {
        let mut at = self.begin().await;
        let (mut reread, mut recoveries) = (0, self.recoveries());
        loop {
            if self.recoveries() != recoveries {
                at = self.not_past_any(at, recoveries);
                recoveries = self.recoveries();
            }
            let wanted = self.node.house.0.progress.lock().reread;
            if wanted != reread {
                (reread, at) = (wanted, 0);
            }
            if self.takes_turn() {
                at = 0;
            }
            let phase = self.node.house.phase();
            let commit = (self.dice.chance(0.2) && at > 0).then_some(QueueOffset(at));
            let request = PullRequest {
                group: &self.node.consumers,
                queue: &self.queue,
                from: QueueOffset(at),
                count_max: self.dice.between(1, 32) as u32,
                subscription: &self.subscription,
                as_registered: self.is_registered(),
                may_wait: self.dice.chance(0.8),
                commit,
            };
            let asked = self.node.clock.mono();
            let mut pause_ms = 0;
            let since = Since::now(&self.node.house, self.broker);
            self.on_asked(commit);
            match self.node.client.pull(&request).await {
                // The new log may already reach past `at`: what it answers may lie behind a gap.
                Ok(_) if self.recoveries() != recoveries => {}
                // The client changed its mind meanwhile: by which selector this is, is unknown.
                Ok(_) if self.is_late() => {}
                Ok(result) => {
                    self.on_answer(commit, phase);
                    match self.follow(at, since, asked, &result).await {
                        Some((next, pause)) => (at, pause_ms) = (next, pause),
                        None => return,
                    }
                    self.node.house.court().moved();
                    if commit.is_none() && self.dice.chance(0.1) && at > 0 {
                        self.commit(at).await;
                    }
                }
                Err(e) => {
                    trace::event(&self.node.name, format_args!("pull failed: {e}"));
                    at = self.not_past_recovery(at);
                    pause_ms = self.dice.between(50, 400);
                }
            }
            if pause_ms > 0 {
                self.node.pause(pause_ms).await;
            }
        }
    }

    /// Judges an answer: where to go on and after how many milliseconds, or nothing when it is
    /// wrong.
    async fn follow(
        &mut self,
        at: u64,
        since: Since,
        asked: Mono,
        result: &PullResult,
    ) -> Option<(u64, u64)> {
        let (status, mut pause_ms) = (result.status, 0);
        if status == PullStatus::NoNewMessage {
            // A broker with too many parked pulls answers at once.
            let waited = self.node.clock.mono().since(asked) > Duration::from_millis(100);
            pause_ms = if waited { 0 } else { self.dice.between(100, 400) };
        }
        let (name, judged) = match status {
            PullStatus::OffsetIllegal => ("reading", Ok(self.not_past_recovery(result.next.0))),
            _ if self.selector.is_some() => ("selected", self.take_selected(at, since, result)),
            PullStatus::Found => match self.take(at, since, &result.body) {
                Ok((next, failed)) => {
                    self.send_back_all(failed).await;
                    ("reading", Ok(next))
                }
                Err(what) => ("reading", Err(what)),
            },
            PullStatus::NoMatchedMessage => ("reading", Ok(result.next.0.max(at))),
            PullStatus::NoNewMessage => ("reading", Ok(at)),
        };
        match judged {
            Ok(next) => Some((next, pause_ms)),
            Err(what) => {
                self.node.house.court().check(name, Err(what));
                None
            }
        }
    }

    /// The broker answered a pull, and with it took the commit that it carried.
    fn on_answer(&self, commit: Option<QueueOffset>, phase: Phase) {
        let key = self.key();
        if let Some(QueueOffset(at)) = commit {
            let now_us = trace::now_us();
            self.node.house.court().history(|h| h.on_commit_acked(&key, at, now_us));
        }
        self.node.house.0.progress.lock().answered.insert(key, phase);
    }

    /// Where the group left off, as the broker says.
    async fn begin(&mut self) -> u64 {
        loop {
            let asked = self.node.client.committed_offset(&self.node.consumers, &self.queue).await;
            match asked {
                Ok(found) => {
                    let at = found.map_or(0, |at| at.0);
                    let asked_by = self.key();
                    let house = &self.node.house;
                    let near_us = house.offsets_near_us(self.broker);
                    let crashes = house.world().crashes_us(self.broker);
                    let judged =
                        house.court().history(|h| h.on_committed(&asked_by, at, &crashes, near_us));
                    if house.keeps_offsets(self.broker) {
                        house.court().check("offsets_kept", judged);
                    }
                    // Whoever begins further on has read what is before.
                    let at = self.not_past_recovery(at);
                    let mut progress = house.0.progress.lock();
                    let to = progress.read_to.entry(asked_by).or_default();
                    *to = (*to).max(at);
                    return at;
                }
                Err(_) => self.node.pause(self.dice.between(50, 500)).await,
            }
        }
    }

    async fn commit(&mut self, at: u64) {
        let house = self.node.house.clone();
        let key = self.key();
        house.court().history(|h| h.on_commit_asked(&key, at));
        let done = self
            .node
            .client
            .commit_offset(&self.node.consumers, &self.queue, QueueOffset(at))
            .await;
        if done.is_ok() {
            house.court().history(|h| h.on_commit_acked(&key, at, trace::now_us()));
        }
    }

    fn on_asked(&self, commit: Option<QueueOffset>) {
        if let Some(QueueOffset(at)) = commit {
            let key = self.key();
            self.node.house.court().history(|h| h.on_commit_asked(&key, at));
        }
    }

    fn recoveries(&self) -> usize {
        self.node.house.0.progress.lock().recoveries(self.broker)
    }

    /// A power loss may have taken the log's tail: what stands there now is new, also when the
    /// broker has recovered more than once since.
    fn not_past_any(&self, at: u64, seen: usize) -> u64 {
        let progress = self.node.house.0.progress.lock();
        at.min(progress.lowest_end(&self.key(), seen).unwrap_or(0))
    }

    /// The same for the last time that it recovered.
    fn not_past_recovery(&self, at: u64) -> u64 {
        let progress = self.node.house.0.progress.lock();
        at.min(progress.recovered_end(&self.key()).unwrap_or(at))
    }

    /// Changes the selector when the client has changed its mind; then it reads from the start.
    fn takes_turn(&mut self) -> bool {
        let plan = &self.node.house.0.plan;
        let turn = filters::turn(plan, self.node.machine);
        if !plan.load.filters || self.selector.as_ref().is_some_and(|(_, now)| *now == turn) {
            return false;
        }
        let (selector, subscription) = self.node.wants(&self.queue.topic, turn);
        self.subscription = subscription;
        self.selector = Some((selector, turn));
        true
    }

    fn is_late(&self) -> bool {
        let turn = filters::turn(&self.node.house.0.plan, self.node.machine);
        self.selector.as_ref().is_some_and(|(_, asked)| *asked != turn)
    }

    fn is_registered(&self) -> bool {
        let plan = &self.node.house.0.plan;
        plan.load.filters && filters::is_registered(plan, self.node.machine)
    }

    /// Checks that a pull returned what the selector selects, all of it and nothing else; gives
    /// the next offset.
    fn take_selected(&self, from: u64, since: Since, result: &PullResult) -> Result<u64, String> {
        let Some((selector, turn)) = &self.selector else { return Ok(from) };
        let (house, key) = (&self.node.house, self.key());
        let to = result.next.0.max(from);
        if since != Since::now(house, self.broker) {
            // A crash overtook the answer: it promises nothing.
            return Ok(from);
        }
        house.court().history(|history| {
            let mut at = from;
            let mut filters = house.0.filters.lock();
            for record in files::split(&result.body)? {
                let id = history::id_in(&record.properties)
                    .ok_or_else(|| format!("a record without a number at {}", record.physical))?;
                judge::is_what_was_sent(&record, id, history)?;
                if record.queue_offset < at || record.queue_offset >= to {
                    let offset = record.queue_offset;
                    return Err(format!("{key:?}: offset {offset} between {at} and {to}"));
                }
                if !selector.selects(&record.properties) {
                    let text = &selector.text;
                    return Err(format!("{key:?}: got message {id}, not selected by {text:?}"));
                }
                filters.on_given(&key, *turn, record.queue_offset, id);
                at = record.queue_offset + 1;
            }
            filters.judge_passed(&house.0.plan, &key, *turn, (from, to), history)
        })?;
        if to > from && result.body.is_empty() {
            mark("filter: a pull was led past messages");
        }
        let mut progress = house.0.progress.lock();
        let known = progress.read_to.entry(key).or_default();
        *known = (*known).max(to);
        Ok(to)
    }

    /// Checks what a pull returned; gives the next offset.
    fn take(&self, from: u64, since: Since, body: &[u8]) -> Result<(u64, Vec<Failed>), String> {
        let mut failed = Vec::new();
        let house = &self.node.house;
        let (_, broker, topic, queue) = self.key();
        let sync = house.0.plan.machines[broker].sync_flush;
        let grade = if sync { Grade::Synced } else { Grade::Written };
        // An answer that a crash overtook promises only what no crash takes.
        let counts = grade == Grade::Synced || since == Since::now(house, broker);
        let Since { power_losses, generation } = since;
        let mut at = from;
        house.court().history(|history| {
            for record in files::split(body)? {
                let id = history::id_in(&record.properties)
                    .ok_or_else(|| format!("a record without a number at {}", record.physical))?;
                judge::is_what_was_sent(&record, id, history)?;
                if record.queue_offset < at {
                    return Err(format!(
                        "{topic}/{queue}: asked for {from}, got offset {} after {at}",
                        record.queue_offset
                    ));
                }
                if record.queue_offset > at {
                    return Err(format!(
                        "{topic}/{queue}: asked for {from}, offsets {at} to {} are skipped",
                        record.queue_offset
                    ));
                }
                if delay::is_delivery(&record) && !retry::is_retry(&record) {
                    mark("schedule: a delayed message was read");
                    history.delivered.insert((self.node.machine, id));
                }
                if timer::is_delivered(&record) {
                    let is_late = timer::is_made(&record);
                    mark(if is_late {
                        "timer: a timed message was read"
                    } else {
                        "timer: at once"
                    });
                    history.delivered.insert((self.node.machine, id));
                }
                if history.transactions.contains_key(&id) {
                    transactions::on_read(self.node.machine, &record, id, history)?;
                }
                failed.extend(self.failed(&record, id, history));
                let physical = record.physical;
                if history.sent[id as usize].fate == Fate::Unknown {
                    let place = Place { machine: broker, queue, queue_offset: at, physical };
                    if house.court().is_alone(broker, id, &place) {
                        history.shown_alone.insert((broker, id, physical));
                        let told = format_args!("message {id} is shown, no slave has it");
                        trace::event(&self.node.name, told);
                    }
                }
                let seen = Seen { id, grade, power_losses, generation, physical };
                if counts {
                    history.on_read((broker, topic.clone(), queue, at), seen)?;
                }
                at += 1;
            }
            Ok(())
        })?;
        let mut progress = house.0.progress.lock();
        let to = progress.read_to.entry(self.key()).or_default();
        *to = (*to).max(at);
        Ok((at, failed))
    }

    /// What this group cannot consume yet, and has not sent back yet.
    fn failed(&self, record: &Record, id: Id, history: &mut History) -> Option<Failed> {
        let (fails, times) = (history.sent[id as usize].fails, record.reconsume_times);
        if fails == 0 {
            return None;
        }
        if retry::is_last(record, fails) {
            if times <= RETRIES_MAX {
                mark("retry: a message was consumed after retries");
            }
            history.ended.insert((self.node.machine, id));
            return None;
        }
        let key = (self.node.consumers.to_string(), id, times);
        let is_done = history.sent_back.get(&key).is_some_and(|done| *done);
        (!is_done).then_some(Failed { key, physical: record.physical })
    }

    async fn send_back_all(&mut self, failed: Vec<Failed>) {
        for one in failed {
            self.send_back(one).await;
        }
    }

    /// Asks until the broker says yes.
    async fn send_back(&mut self, failed: Failed) {
        let house = self.node.house.clone();
        loop {
            house.court().history(|h| *h.sent_back.entry(failed.key.clone()).or_insert(false));
            let (group, max) = (&self.node.consumers, RETRIES_MAX as i32);
            let at = PhysicalOffset(failed.physical);
            match self.node.client.send_back(group, &self.queue, at, 0, max).await {
                Ok(()) => {
                    let told = format_args!("sent back {:?}", failed.key);
                    trace::event(&self.node.name, told);
                    house.court().history(|h| h.sent_back.insert(failed.key.clone(), true));
                    return;
                }
                Err(e) => {
                    mark("retry: a message could not be sent back");
                    trace::event(&self.node.name, format_args!("not sent back: {e}"));
                    let pause_ms = self.dice.between(50, 400);
                    self.node.pause(pause_ms).await;
                }
            }
        }
    }
}

/// A message that could not be consumed: group, number and tries, and where it lies.
struct Failed {
    key: (String, Id, u32),
    physical: u64,
}
