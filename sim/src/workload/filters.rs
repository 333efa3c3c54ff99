//! Readers that want only some messages: their selectors, the messages' properties, and what each
//! reader was given. Which messages a selector selects says the reference evaluator, never the
//! product's.

#[path = "../../../tests/sql92/generate.rs"]
mod generate;
#[path = "../../../tests/sql92/reference.rs"]
mod reference;

use crate::history::{Fate, History, Id, Reading};
use crate::plan::Plan;
use crate::trace;
use hotfire::rt::rng::Rng;
use reference::{Outcome, Term};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A selector is tried on so many messages: it must select some of them and not all.
const SAMPLES: u64 = 60;

/// What a client wants of a topic.
pub struct Selector {
    term: Term,
    pub text: String,
    /// Units: 1 and counting; the client changes its mind once.
    pub version: i64,
}

impl Selector {
    fn new(plan: &Plan, client: usize, topic: &str, turn: u64) -> Self {
        let topic = topic.bytes().fold(0u64, |hash, byte| hash * 31 + u64::from(byte));
        let mut rng = Rng::from_seed(plan.machines[client].swarm ^ topic << 8 ^ turn);
        let mut dice = |n| rng.below(n);
        loop {
            let term = generate::selector(&mut dice);
            let selects = |id: &u64| reference::outcome(&term, &having(*id)) == Outcome::True;
            let count = (0..SAMPLES).filter(selects).count() as u64;
            if (SAMPLES / 10..SAMPLES).contains(&count) {
                let text = generate::text(&term, &mut dice);
                return Selector { term, text, version: turn as i64 + 1 };
            }
        }
    }

    /// Whether a stored message with these properties is selected.
    pub fn selects(&self, properties: &[u8]) -> bool {
        let text = String::from_utf8_lossy(properties);
        let items = text.split('\u{2}').filter_map(|item| item.split_once('\u{1}'));
        let having: Vec<_> = items.map(|(name, value)| (name.into(), value.into())).collect();
        reference::outcome(&self.term, &having) == Outcome::True
    }
}

/// The tag of a message.
pub fn tag(id: Id) -> String {
    format!("t{}", id % 3)
}

/// The properties that a message gets besides its tag and number.
pub fn values(id: Id) -> BTreeMap<String, String> {
    let mut rng = Rng::from_seed(id ^ 0x00f1_17e4);
    let mut dice = |n| rng.below(n);
    let having = match dice(3) {
        0 => generate::having(&mut dice),
        _ => generate::plain_having(&mut dice),
    };
    having.into_iter().filter(|(name, _)| name != "TAGS").collect()
}

fn having(id: Id) -> Vec<(String, String)> {
    let mut having: Vec<_> = values(id).into_iter().collect();
    having.push(("TAGS".to_owned(), tag(id)));
    having
}

/// What all readers of a run want and have.
#[derive(Default)]
pub struct Filters {
    selectors: BTreeMap<(usize, String, u64), Arc<Selector>>,
    /// Whether a client's selector of a turn selects a message.
    selected: BTreeMap<(usize, u64, Id), bool>,
    /// By reading and turn: the messages that were given, by offset.
    given: BTreeMap<(Reading, u64), BTreeMap<u64, Id>>,
}

impl Filters {
    pub fn selector(
        &mut self,
        plan: &Plan,
        client: usize,
        topic: &str,
        turn: u64,
    ) -> Arc<Selector> {
        let key = (client, topic.to_owned(), turn);
        let made = || Arc::new(Selector::new(plan, client, topic, turn));
        self.selectors.entry(key).or_insert_with(made).clone()
    }

    fn is_selected(&mut self, plan: &Plan, client: usize, topic: &str, turn: u64, id: Id) -> bool {
        if let Some(known) = self.selected.get(&(client, turn, id)) {
            return *known;
        }
        let selector = self.selector(plan, client, topic, turn);
        let is_selected = reference::outcome(&selector.term, &having(id)) == Outcome::True;
        self.selected.insert((client, turn, id), is_selected);
        is_selected
    }

    /// Whether the reader has this message, or does not want it.
    pub fn has(&mut self, plan: &Plan, reading: &Reading, turn: u64, id: Id, at: u64) -> bool {
        let given = self.given.get(&(reading.clone(), turn)).and_then(|given| given.get(&at));
        given == Some(&id) || !self.is_selected(plan, reading.0, &reading.2, turn, id)
    }

    pub fn on_given(&mut self, reading: &Reading, turn: u64, at: u64, id: Id) {
        self.given.entry((reading.clone(), turn)).or_default().insert(at, id);
    }

    /// A reader was led from one offset to another: nothing that it wants lies between but what it
    /// was given.
    pub fn judge_passed(
        &mut self,
        plan: &Plan,
        reading: &Reading,
        turn: u64,
        (from, to): (u64, u64),
        history: &History,
    ) -> Result<(), String> {
        for (id, sent) in history.sent.iter().enumerate() {
            let Fate::Acked { place, .. } = sent.fate else { continue };
            let is_here = (place.machine, &sent.topic, place.queue)
                == (reading.1, &reading.2, reading.3)
                && (from..to).contains(&place.queue_offset);
            if is_here && !self.has(plan, reading, turn, id as Id, place.queue_offset) {
                let text = &self.selector(plan, reading.0, &reading.2, turn).text;
                return Err(format!(
                    "client {} was led past message {id} at {}/{} {}, which it selects by {text:?}",
                    reading.0, reading.2, reading.3, place.queue_offset
                ));
            }
        }
        Ok(())
    }

    /// A broker recovered: what lies past these ends is read anew.
    pub fn on_recovered(&mut self, broker: usize, end_of: impl Fn(&str, u32) -> u64) {
        for ((reading, _), given) in &mut self.given {
            if reading.1 == broker {
                let end = end_of(&reading.2, reading.3);
                given.retain(|at, _| *at < end);
            }
        }
    }

    /// Everything is read anew.
    pub fn forget_given(&mut self) {
        self.given.clear();
    }
}

/// How often a client has changed its mind by now: once, at some moment of the disturbance.
pub fn turn(plan: &Plan, client: usize) -> u64 {
    let at_us = plan.machines[client].swarm % (plan.disturb_ms * 1_000).max(1);
    u64::from(trace::now_us() >= at_us)
}

/// Whether the client's pulls go by its heartbeats, as push consumers do.
pub fn is_registered(plan: &Plan, client: usize) -> bool {
    !(plan.machines[client].swarm >> 32).is_multiple_of(3)
}
