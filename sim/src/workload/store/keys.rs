//! Queries by key: what they may return at any time, and what they must find in the end.

use super::reader::Shared;
use super::{StoreHouse, topic_name};
use crate::history::{self, Fate, History, Id};
use crate::oracle::{files, judge};
use hotfire::model::WallMillis;
use hotfire::rt::rng::Rng;
use hotfire::rt::sim::mark;
use hotfire::rt::time::{Clock, Duration, Mono};
use hotfire::store::{Query, Store};
use std::collections::BTreeSet;

/// Messages whose own keys are asked for at the end.
const SAMPLES: usize = 40;

/// An index file is made, filled and closed with so many syncs, one after the other, and some more
/// for whoever else uses the device.
const SYNCS_PER_FILE: u64 = 16;

/// Asks for keys while the load runs. Nothing wrong may be returned; something may be missing.
pub async fn query_all((house, store, listener, clock): Shared) {
    let load = house.0.plan.load.clone();
    let mut dice = Rng::from_seed(house.0.plan.seed ^ listener.generation ^ 0x6b65_7973);
    loop {
        let until = clock.mono() + Duration::from_millis(dice.between(20, 600));
        clock.sleep_until(until).await;
        // From now on a query may give a record that rotted: its asker has to check it.
        if *house.0.rotted.lock() {
            return;
        }
        let topic = topic_name(dice.below(load.topics));
        let sent = house.court().history(|h| h.sent.len() as u64);
        let id = dice.below(sent.max(1));
        let keys = history::keys(id);
        let key = dice.pick(&keys).clone();
        let range = if dice.chance(0.3) {
            let now = clock.wall().0;
            (now - dice.below(5000) as i64, now - dice.below(2000) as i64)
        } else {
            (0, i64::MAX)
        };
        let ask = Ask { topic: &topic, key: &key, count: dice.between(1, 64) as usize, range };
        match ask.of(&house, &store).await {
            Ok(found) if found.is_empty() => mark("store: a query found nothing"),
            Ok(_) => mark("store: a query found something"),
            Err(Wrong::Answer(what)) => {
                house.court().world().violate("keys", what);
                return;
            }
            Err(Wrong::Device) => mark("store: a query failed"),
        }
    }
}

enum Wrong {
    Answer(String),
    Device,
}

struct Ask<'a> {
    topic: &'a str,
    key: &'a str,
    count: usize,
    range: (i64, i64),
}

impl Ask<'_> {
    /// The messages found: number, place and store time, newest first.
    async fn of(&self, house: &StoreHouse, store: &Store) -> Result<Vec<(Id, u64, i64)>, Wrong> {
        let (begin, end) = (WallMillis(self.range.0), WallMillis(self.range.1));
        let count_max = self.count;
        let query = Query { topic: self.topic, key: self.key, count_max, begin, end };
        let found = store.query(&query).await.map_err(|_| Wrong::Device)?;
        if !found.complete {
            return Err(Wrong::Device);
        }
        let checked = house.court().history(|history| self.check(history, &found.records));
        checked.map_err(|what| Wrong::Answer(format!("{}#{}: {what}", self.topic, self.key)))
    }

    fn check(
        &self,
        history: &History,
        units: &[bytes::Bytes],
    ) -> Result<Vec<(Id, u64, i64)>, String> {
        let mut all: Vec<(Id, u64, i64)> = Vec::new();
        for unit in units {
            for record in files::split(unit)? {
                let id = history::id_in(&record.properties)
                    .ok_or_else(|| format!("a record without a number at {}", record.physical))?;
                judge::is_what_was_sent(&record, id, history)?;
                if record.topic != self.topic || !history::keys(id).iter().any(|k| k == self.key) {
                    return Err(format!("message {id} of {} has no such key", record.topic));
                }
                let stored = record.store_timestamp;
                if stored < self.range.0 || stored > self.range.1 {
                    return Err(format!("message {id}, stored {stored}, for {:?}", self.range));
                }
                if all.last().is_some_and(|before| before.1 <= record.physical) {
                    return Err(format!("message {id} at {} is not older", record.physical));
                }
                all.push((id, record.physical, stored));
            }
        }
        match all.len() > self.count {
            true => Err(format!("{} messages, at most {} were asked for", all.len(), self.count)),
            false => Ok(all),
        }
    }
}

impl StoreHouse {
    /// How long the device takes for the files of a whole index, should it have to be made again:
    /// with a few entries in each that is most of the work.
    fn rolling(&self) -> Duration {
        let Some(shape) = self.court().index_shape(0) else { return Duration::ZERO };
        let keys = self.court().history(|history| history.sent.len()) * history::keys(0).len();
        let files = keys as u64 / u64::from(shape.1 - 1).max(1);
        let sync_max = self.0.plan.machines[0].habits.sync_us.1;
        Duration::from_micros(files * SYNCS_PER_FILE * sync_max)
    }

    /// Every acked message is found by each of its keys, and by its time.
    /// Errors: what was still missing at the deadline.
    pub(super) async fn find_all(&self, clock: &Clock, deadline: Mono) -> Result<(), String> {
        let deadline = deadline + self.rolling();
        loop {
            let store = self.0.store.lock().clone();
            let missing = match store {
                Some(store) => match self.find(&store).await {
                    Ok(()) => return Ok(()),
                    Err(Wrong::Answer(what)) => what,
                    Err(Wrong::Device) => "a query failed".to_owned(),
                },
                None => "the store is closed".to_owned(),
            };
            if self.court().world().violation().is_some() {
                return Ok(());
            }
            if clock.mono() >= deadline {
                return Err(format!("not all keys are found: {missing}"));
            }
            clock.sleep_until(clock.mono() + Duration::from_millis(300)).await;
        }
    }

    async fn find(&self, store: &Store) -> Result<(), Wrong> {
        let acked: Vec<(Id, String, u64)> = self.court().history(|history| {
            let of = |(id, sent): (usize, &history::Sent)| match sent.fate {
                Fate::Acked { place, .. } => Some((id as Id, sent.topic.clone(), place.physical)),
                _ => None,
            };
            history.sent.iter().enumerate().filter_map(of).collect()
        });
        let everything = (0, i64::MAX);
        for topic in (0..self.0.plan.load.topics).map(topic_name) {
            for key in history::SHARED_KEYS {
                let ask = Ask { topic: &topic, key, count: usize::MAX, range: everything };
                let found: BTreeSet<u64> =
                    ask.of(self, store).await?.iter().map(|found| found.1).collect();
                for (id, of, at) in &acked {
                    let has = *of == topic && history::keys(*id).iter().any(|k| k == key);
                    // Retention may have taken it meanwhile.
                    if has && !found.contains(at) && *at >= store.stats().min.0 {
                        let what = format!("message {id} at {at} is not found by {topic}#{key}");
                        return Err(Wrong::Answer(what));
                    }
                }
            }
        }
        let step = (acked.len() / SAMPLES).max(1);
        for (id, topic, at) in acked.iter().rev().step_by(step) {
            for key in history::keys(*id) {
                if history::SHARED_KEYS.contains(&key.as_str()) {
                    continue;
                }
                let mut ask = Ask { topic, key: &key, count: 64, range: everything };
                let found = ask.of(self, store).await?;
                let Some((_, _, stored)) = found.iter().find(|found| found.1 == *at) else {
                    if *at < store.stats().min.0 {
                        continue;
                    }
                    let what = format!("message {id} at {at} is not found by {topic}#{key}");
                    return Err(Wrong::Answer(what));
                };
                ask.range = (*stored, *stored);
                let found = ask.of(self, store).await?;
                if !found.iter().any(|found| found.1 == *at) && *at >= store.stats().min.0 {
                    let what = format!("message {id} is not found by {topic}#{key} at {stored}");
                    return Err(Wrong::Answer(what));
                }
            }
        }
        Ok(())
    }
}
