//! A member of a group that goes on slowly, or not at all: the broker says which it is.

use super::callers::{Ear, LATE_MS, Party};
use super::cluster::topic_name;
use crate::oracle::calls::judge_stuck;
use crate::trace;
use hotfire::protocol::Command;
use hotfire::protocol::body;
use hotfire::protocol::code::{request_code as request, response_code as code};
use hotfire::rt::rng::Rng;
use hotfire::rt::sim::mark;
use serde_json::Value;
use std::sync::Arc;

/// A look at all queues is over this long after it was due.
const SLACK_MS: u64 = 700;

/// What a stall is at a broker. Units: milliseconds.
#[derive(Clone, Copy)]
struct Terms {
    /// Without progress for so long a queue is stuck.
    after: u64,
    /// A change has been seen after this.
    seen: u64,
}

impl Party {
    /// Its name sorts before those of the other groups: it is among the first that are named.
    pub(super) fn stalling_group(&self) -> String {
        format!("a-staller-{}-{}", self.machine, self.generation)
    }

    /// Stands still or goes on in one queue, and looks what the broker makes of it.
    pub(super) async fn stall(self, mut dice: Rng, ear: Arc<Ear>) {
        let after = || self.house.0.progress.lock().stuck_after.get(&self.broker).copied();
        while after().is_none() {
            self.pause(100).await;
        }
        let after = after().unwrap_or_default().as_millis() as u64;
        let terms = Terms { after, seen: (after / 10).max(100) + SLACK_MS };
        loop {
            self.pause(dice.between(50, 500)).await;
            let group = self.stalling_group();
            let queue = dice.below(self.house.0.plan.load.queues) as i32;
            let place = (group.as_str(), queue);
            let Some(end) = self.number(request::GET_MAX_OFFSET, queue).await else { continue };
            if end < 2 {
                continue;
            }
            let is_done = match dice.chance(0.5) {
                true => {
                    let offset = dice.below(end as u64) as i64;
                    self.stand(place, offset, terms, &ear).await
                }
                false => self.go_on(place, end - 1, terms, &mut dice).await,
            };
            if !is_done {
                // What had no answer may still be on its way.
                self.pause(LATE_MS).await;
            }
        }
    }

    /// Commits once and never again: the queue is named. False: the commit has no answer.
    async fn stand(&self, place: (&str, i32), offset: i64, terms: Terms, ear: &Ear) -> bool {
        let lives = self.lives();
        if !self.commit(place.0, place.1, offset).await {
            return false;
        }
        let from_us = trace::now_us();
        self.pause(terms.after + terms.seen + terms.seen).await;
        let Some(is_named) = self.is_named(place).await else { return true };
        if is_named {
            mark("calls: a stuck queue was named");
            return true;
        }
        // Whoever was dropped hears of it by then.
        self.pause(3_000).await;
        if self.lives() == lives && ear.is_member_since(from_us) {
            self.check(judge_stuck(place.0, false, true));
        }
        true
    }

    /// Commits 0 and this in turn, and looks before each is old. False: one has no answer.
    async fn go_on(&self, place: (&str, i32), other: i64, terms: Terms, dice: &mut Rng) -> bool {
        let lives = self.lives();
        // What the broker has before is not known. Two moves between two looks may be none.
        if !self.commit(place.0, place.1, 0).await {
            return false;
        }
        self.pause(terms.seen).await;
        for turn in 0..dice.between(2, 4) {
            let sent_us = trace::now_us();
            if !self.commit(place.0, place.1, if turn % 2 == 0 { other } else { 0 }).await {
                return false;
            }
            self.pause(dice.between(terms.seen, terms.after - 200)).await;
            let Some(is_named) = self.is_named(place).await else { continue };
            let age_us = trace::now_us() - sent_us;
            if self.lives() == lives && age_us < terms.after * 1_000 {
                mark("calls: a slow queue was not named");
                self.check(judge_stuck(place.0, is_named, false));
            }
        }
        true
    }

    /// Whether the broker names the group's queue as stuck.
    async fn is_named(&self, (group, queue): (&str, i32)) -> Option<bool> {
        let answer = self.ask(Command::request(request::GET_BROKER_RUNTIME_INFO)).await.ok()?;
        let table: Value =
            body::decode(&answer.body).ok().filter(|_| answer.code == code::SUCCESS)?;
        let first = table["table"]["stuckQueuesFirst"].as_str().unwrap_or_default();
        let name = format!("{group}@{}@{queue}", topic_name(0));
        Some(first.split(' ').any(|named| named == name))
    }
}
