//! Keeps the state files as new as the tables: topics and groups at once, filters and offsets of
//! consumers and of delay levels every few seconds, all of them once more at the end.

use super::super::driver::opening::Files;
use super::super::driver::{Core, Saved, Shared};
use super::super::error::Error;
use super::super::handler::{self, send};
use super::super::transaction::{GROUP, HALF_TOPIC, OP_TOPIC, Progress, rewrite};
use super::state_file::{Origin, StateFile};
use crate::protocol::body;
use crate::rt::task::Stop;
use crate::rt::time::{Alarm, Clock, Duration};
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// A file that could not be written is tried again after this.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// What a state file holds, leniently read as fastjson reads it; `None` for a new broker.
pub async fn load<T: DeserializeOwned>(
    clock: &Clock,
    file: &mut StateFile,
) -> Result<Option<T>, Error> {
    let parse = |bytes: &[u8]| -> Result<T, String> {
        body::decode(bytes).map_err(|error| error.to_string())
    };
    let (value, origin) = file.load(clock, parse).await?;
    if let Origin::Backup(fault) = origin {
        let path = file.path();
        tracing::error!(
            "{path} cannot be used ({fault}): the generation before it is used instead"
        );
    }
    Ok(value)
}

pub async fn run(shared: Arc<Shared>, mut files: Files, mut stop: Stop) {
    let mut alarm = Alarm::new(&shared.clock);
    let interval = shared.options.offsets_save_interval;
    let delays_interval = shared.options.schedule.save_interval;
    let mut offsets_due = shared.clock.mono() + interval;
    let mut delays_due = shared.clock.mono() + delays_interval;
    shared.unsaved.notify_one();
    loop {
        alarm.set(Some(offsets_due.min(delays_due)));
        let is_end = crate::rt::select! {
            _ = stop.wait() => true,
            _ = alarm.ring() => false,
            _ = shared.unsaved.notified() => false,
        };
        let saved_tables = save_tables(&shared, &mut files).await;
        let is_due = is_end || shared.clock.mono() >= offsets_due;
        if is_due {
            save_offsets(&shared, &mut files.offsets).await;
            save_filters(&shared, &mut files.filters).await;
            offsets_due = shared.clock.mono() + interval;
        }
        if is_end || shared.clock.mono() >= delays_due {
            let is_saved = save_delays(&shared, &mut files.delays).await;
            let pause = if is_saved { delays_interval } else { RETRY_INTERVAL };
            delays_due = shared.clock.mono() + pause.min(delays_interval);
        }
        if is_end {
            break;
        }
        if !saved_tables {
            offsets_due = offsets_due.min(shared.clock.mono() + RETRY_INTERVAL);
        }
    }
}

async fn save_tables(shared: &Arc<Shared>, files: &mut Files) -> bool {
    let topics =
        snapshot(shared, |core| core.topics.unsaved().map(|mark| (mark, core.topics.to_json())));
    let mut is_saved = true;
    if let Some((mark, text)) = topics {
        match files.topics.save(text).await {
            Ok(()) => {
                if shared.core.lock().topics.on_saved(mark) {
                    shared.register_again();
                }
                shared.saved.send(Saved { topics: mark.changes, ..shared.saved.get() });
                resume_sends(shared);
            }
            Err(error) => {
                tracing::error!("failed to {error}; the last good one is kept");
                send::refuse_waiting(shared, &error.to_string());
                not_saved(shared, &error);
                is_saved = false;
            }
        }
    } else {
        resume_sends(shared);
    }
    let groups = snapshot(shared, |core| {
        core.groups.unsaved().map(|changes| (changes, core.groups.to_json()))
    });
    if let Some((changes, text)) = groups {
        match files.groups.save(text).await {
            Ok(()) => {
                shared.core.lock().groups.on_saved(changes);
                shared.saved.send(Saved { groups: changes, ..shared.saved.get() });
            }
            Err(error) => {
                tracing::error!("failed to {error}; the last good one is kept");
                not_saved(shared, &error);
                is_saved = false;
            }
        }
    }
    is_saved
}

/// Whoever waits for the save is told why it is not there.
fn not_saved(shared: &Shared, error: &Error) {
    let before = shared.saved.get();
    let failures = before.failures + 1;
    shared.saved.send(Saved { failures, fault: format!("failed to {error}"), ..before });
}

/// The progress of transactions stands among the offsets, as far as the disk has it.
fn note_transactions(shared: &Shared) {
    let stats = shared.store.stats();
    let mut core = shared.core.lock();
    let core = &mut *core;
    let progress = core.transactions.to_save(stats.written.0, stats.synced.0);
    let Some(Progress { half, op }) = progress else { return };
    for (topic, at) in [(HALF_TOPIC, half), (OP_TOPIC, op)] {
        let at = i64::try_from(at).unwrap_or(i64::MAX);
        if !core.offsets.commit(0, GROUP, topic, rewrite::QUEUE, at) {
            tracing::error!("the table of consumer offsets has no room for {topic}");
        }
    }
}

async fn save_offsets(shared: &Shared, file: &mut StateFile) {
    note_transactions(shared);
    let offsets = snapshot(shared, |core| {
        core.offsets.unsaved().map(|changes| (changes, core.offsets.to_json()))
    });
    let Some((changes, text)) = offsets else { return };
    match file.save(text).await {
        Ok(()) => shared.core.lock().offsets.on_saved(changes),
        Err(error) => tracing::error!("failed to {error}; the last good one is kept"),
    }
}

async fn save_filters(shared: &Shared, file: &mut StateFile) {
    let filters = {
        let mut core = shared.core.lock();
        core.filters.clean(shared.clock.wall());
        core.filters.unsaved().map(|changes| (changes, core.filters.to_json(&shared.bloom())))
    };
    let Some((changes, text)) = filters else { return };
    match file.save(text).await {
        Ok(()) => shared.core.lock().filters.on_saved(changes),
        Err(error) => tracing::error!("failed to {error}; the last good one is kept"),
    }
}

/// The file says only what the disk has, see `Schedule::to_save`. False: more is to be saved soon.
async fn save_delays(shared: &Shared, file: &mut StateFile) -> bool {
    let text = {
        let mut core = shared.core.lock();
        let stats = shared.store.stats();
        match core.schedule.to_save(stats.written.0, stats.synced.0) {
            Some(text) => Some(text),
            None if core.schedule.is_held() => return false,
            None => None,
        }
    };
    let Some((changes, text)) = text else { return true };
    match file.save(text).await {
        Ok(()) => shared.core.lock().schedule.on_saved(changes),
        Err(error) => tracing::error!("failed to {error}; the last good one is kept"),
    }
    true
}

fn snapshot<T>(shared: &Shared, take: impl FnOnce(&Core) -> Option<T>) -> Option<T> {
    take(&shared.core.lock())
}

/// Takes the sends that waited for their topics once more, in the order they came.
fn resume_sends(shared: &Arc<Shared>) {
    let mut core = shared.core.lock();
    let waiting = std::mem::take(&mut core.waiting_for_topic);
    for (peer, frame) in waiting {
        handler::on_frame(shared, &mut core, &peer, frame);
    }
}
