//! Deletes topics while everything else goes on; the next send makes them again.
//!
//! While a topic is being deleted nobody sends to it and nobody reads it: what such a send comes to
//! is not promised. A deletion that a crash cut off may have happened or not; it is asked for again
//! before the topic is used.

use super::reader::Shared;
use super::{Phase, topic_name};
use crate::trace;
use hotfire::rt::rng::Rng;
use hotfire::rt::sim::mark;
use hotfire::rt::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

/// Which topics may be used.
#[derive(Default)]
pub struct Gates {
    closed: BTreeSet<String>,
    /// Moves whenever a topic is closed or opened: a reader begins anew.
    epochs: BTreeMap<String, u64>,
}

impl Gates {
    pub fn is_closed(&self, topic: &str) -> bool {
        self.closed.contains(topic)
    }

    pub fn epoch(&self, topic: &str) -> u64 {
        self.epochs.get(topic).copied().unwrap_or(0)
    }

    fn close(&mut self, topic: &str) {
        if self.closed.insert(topic.to_owned()) {
            *self.epochs.entry(topic.to_owned()).or_default() += 1;
        }
    }

    fn open(&mut self, topic: &str) {
        if self.closed.remove(topic) {
            *self.epochs.entry(topic.to_owned()).or_default() += 1;
        }
    }

    /// Whoever closed them is dead and had asked for nothing.
    fn open_all_but(&mut self, pending: Option<&str>) {
        for topic in self.closed.clone() {
            if Some(topic.as_str()) != pending {
                self.open(&topic);
            }
        }
    }
}

pub async fn run((house, store, listener, clock): Shared, mut dice: Rng) {
    let pending = house.court().history(|h| h.pending_deletion());
    house.0.gates.lock().open_all_but(pending.as_deref());
    loop {
        let pending = house.court().history(|h| h.pending_deletion());
        let topic = match &pending {
            Some(topic) => topic.clone(),
            None => {
                let pause = dice.below(house.0.plan.disturb_ms / 2);
                clock.sleep_until(clock.mono() + Duration::from_millis(pause + 1)).await;
                let may = *house.0.phase.lock() == Phase::Disturb && house.take_deletion();
                if !may {
                    continue;
                }
                topic_name(dice.below(house.0.plan.load.topics))
            }
        };
        house.0.gates.lock().close(&topic);
        listener.until_answered(&topic).await;
        if pending.is_none() {
            house.court().history(|h| h.on_delete(&topic));
        }
        let name = &house.0.plan.machines[listener.machine].name;
        match store.delete_topic(&topic).await {
            Ok(()) => {
                mark("store: a topic was deleted (W-29)");
                trace::tell(name, format_args!("{topic} is deleted"));
                house.court().history(|h| h.on_deleted(&topic));
                house.0.gates.lock().open(&topic);
                house.court().moved();
            }
            Err(e) => {
                trace::event(name, format_args!("failed to delete {topic}: {e}"));
                clock.sleep_until(clock.mono() + Duration::from_millis(200)).await;
            }
        }
    }
}
