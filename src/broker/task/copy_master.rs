//! A slave's copy of what its master keeps beside the log: topics, groups, how far consumers and
//! delay levels are.
//!
//! Source: SlaveSynchronize (4.9.3).
//! Differs: topics and offsets that are gone there go here too, progress waits until the log is
//! here, and a record of a new queue makes it look at once (W-48).

use super::super::driver::Shared;
use super::super::offsets::{OffsetFile, Offsets};
use super::super::replication::wire::Question;
use super::super::replication::{Ended, Pending, Progress, heir, wire};
use super::super::subscription_groups::GroupFile;
use super::super::topics::{SCHEDULE_TOPIC, TopicFile};
use super::super::transaction::{GROUP, HALF_TOPIC, OP_TOPIC, rewrite};
use super::{greet, others};
use crate::format::epochs::Epoch;
use crate::ha::Position;
use crate::model::PhysicalOffset;
use crate::protocol::Command;
use crate::protocol::body::offset::DelayOffsets;
use crate::protocol::body::{self, list::KvTable};
use crate::protocol::code::{request_code as request, response_code as code};
use crate::rt::task::Stop;
use crate::rt::time::Duration;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// Each question is given up after this. Source: BrokerOuterAPI (4.9.3).
const TIMEOUT: Duration = Duration::from_secs(3);

/// A master answers within 5 s, changed or not.
const WAIT_TIMEOUT: Duration = Duration::from_secs(8);

/// Tables that change all the time are copied no more often.
const CHANGE_PAUSE: Duration = Duration::from_secs(1);

/// How often it is looked whether something waits for the log, or is wanted now.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// What was copied last.
#[derive(Default, PartialEq, Eq)]
struct Known {
    master: Option<String>,
    /// It is followed. Another that has the name may know nothing.
    is_followed: bool,
    /// Records of another queue came: its topic may be a new one.
    queues: usize,
}

pub async fn run(shared: Arc<Shared>, mut stop: Stop) {
    let (mut pending, mut known) = (Pending::default(), Known::default());
    let options = &shared.options.replication;
    let mut next_copy = shared.clock.mono() + options.copy_first;
    loop {
        let next = next_copy.min(shared.clock.mono() + LOOK_INTERVAL);
        let is_told = crate::rt::select! {
            _ = stop.wait() => return,
            _ = shared.clock.sleep_until(next) => false,
            _ = shared.replication.master_changed.notified() => true,
        };
        take_over_due(&shared, &mut pending);
        let now = Known {
            master: shared.replication.master.get(),
            is_followed: shared.replication.ha.followed().is_connected,
            queues: shared.store.stats().queues,
        };
        if shared.clock.mono() < next_copy && known == now && !is_told {
            continue;
        }
        known = now;
        let master = known.master.as_ref();
        if let Some(master) = master.filter(|_| known.is_followed) {
            crate::rt::select! {
                _ = stop.wait() => return,
                () = copy(&shared, master, &mut pending) => {}
            }
        } else {
            make_topics(&shared);
        }
        next_copy = shared.clock.mono() + options.copy_interval;
    }
}

/// A Hotfire says when its tables change; a broker of 4.9 does not know the question.
pub async fn wait_changes(shared: Arc<Shared>, mut stop: Stop) {
    let (mut version, mut master) = (String::new(), shared.replication.master.subscribe());
    loop {
        crate::rt::select! {
            _ = stop.wait() => return,
            _ = master.until(Option::is_some) => {}
        }
        let addr = master.get().unwrap_or_default();
        let question = wire::wait_change(&version);
        let answer = crate::rt::select! {
            _ = stop.wait() => return,
            answer = shared.client.invoke(&addr, question, WAIT_TIMEOUT) => answer,
        };
        let pause = match answer {
            Ok(answer) if answer.code == code::SUCCESS => {
                let (known, own) = (&shared.replication.known_peers, shared.store_host());
                let others = wire::peers(&answer.fields());
                greet::remember_others(known, &own.to_string(), &others).await;
                let now = String::from_utf8_lossy(&answer.body).into_owned();
                if now != version {
                    version = now;
                    shared.replication.master_changed.notify_one();
                }
                CHANGE_PAUSE
            }
            _ => shared.options.replication.copy_interval,
        };
        let until = shared.clock.mono() + pause;
        crate::rt::select! {
            _ = stop.wait() => return,
            _ = shared.clock.sleep_until(until) => {}
        }
    }
}

/// Each table by itself: one that cannot be had leaves the others.
async fn copy(shared: &Arc<Shared>, master: &str, pending: &mut Pending) {
    // Every record here lies below the master's end of log when it answers.
    let asked_at = shared.store.stats().end;
    let followed = followed_epoch(shared);
    match ask::<TopicFile>(shared, master, request::GET_ALL_TOPIC_CONFIG).await {
        Ok(file) if is_whole(shared, &file) || is_followed(shared, master, followed).await => {
            copy_topics(shared, file, asked_at).await;
        }
        Ok(_) => tracing::warn!(
            "{master} lacks topics that are here, and is not the master that is followed: nothing \
             is taken from it"
        ),
        Err(why) => {
            tracing::warn!("the topics of master {master} could not be copied: {why}");
            make_topics(shared);
        }
    }
    match ask::<GroupFile>(shared, master, request::GET_ALL_SUBSCRIPTIONGROUP_CONFIG).await {
        Ok(file) => copy_groups(shared, file),
        Err(why) => tracing::warn!("the groups of master {master} could not be copied: {why}"),
    }
    match copy_progress(shared, master).await {
        Ok(progress) => pending.on_copied(progress),
        Err(why) => tracing::warn!("the offsets of master {master} could not be copied: {why}"),
    }
    take_over_due(shared, pending);
}

/// No topic would go.
fn is_whole(shared: &Shared, file: &TopicFile) -> bool {
    shared.core.lock().topics.lacking(file).is_empty()
}

/// The newest epoch that the master has whose log comes here: no other start of a master has it.
fn followed_epoch(shared: &Shared) -> Option<Epoch> {
    shared.store.epochs().rows().last().copied()
}

/// Whether that is the master whose log comes here, which has this epoch. One that died may have
/// come back as a slave that has nothing, before the connection to it is known to be lost, and one
/// that was replaced may answer still. It began before the epoch was known here and is there after
/// its answers, so they are its own.
async fn is_followed(shared: &Shared, master: &str, followed: Option<Epoch>) -> bool {
    let position = Position::without_record(&shared.store);
    let question = Question {
        broker_name: shared.options.topics.broker_name.clone(),
        addr: shared.store_host().to_string(),
        follows: false,
        position,
    };
    match others::ask_position(&shared.client, master, &question, TIMEOUT).await {
        Ok(Some(answer)) => {
            !answer.is_slave && answer.position.epochs.rows().last().copied() == followed
        }
        // A broker of 4.9 says nothing of it.
        Ok(None) => true,
        Err(_) => false,
    }
}

async fn ask<T: DeserializeOwned>(shared: &Shared, master: &str, code: i32) -> Result<T, String> {
    let answer = shared.client.invoke(master, Command::request(code), TIMEOUT).await;
    let answer = answer.map_err(|error| error.to_string())?;
    if answer.code != code::SUCCESS {
        return Err(format!("code {}: {}", answer.code, answer.remark.unwrap_or_default()));
    }
    body::decode(&answer.body).map_err(|error| error.to_string())
}

/// Records of topics or queues came that the master could not say anything about any more: what it
/// acked can be read all the same. Its own table goes over these as soon as it can be asked.
fn make_topics(shared: &Shared) {
    let made = {
        let mut core = shared.core.lock();
        heir::make_topics(&mut core.topics, &shared.store, shared.clock.wall())
    };
    for name in &made {
        crate::rt::probe!("ha: a slave made a topic of its records");
        tracing::warn!("topic {name} is made anew from its records: its master is away");
    }
    if !made.is_empty() {
        shared.topics_changed();
    }
}

/// `asked_at`: where the log here ended when the master was asked. A topic of which records came
/// since was made since, and is in the next answer.
async fn copy_topics(shared: &Arc<Shared>, mut file: TopicFile, asked_at: PhysicalOffset) {
    let gone = {
        let core = shared.core.lock();
        let mut lacking = core.topics.lacking(&file);
        lacking.retain(|name| !core.topics.is_reserved(name));
        lacking
    };
    for topic in gone {
        match shared.store.delete_topic_below(&topic, asked_at).await {
            Ok(true) => {
                tracing::info!(topic = &*topic, "the master has this topic no more: it is deleted");
            }
            Ok(false) => {
                crate::rt::probe!("ha: a topic stays that its master made after it was asked");
                let core = shared.core.lock();
                let config = core.topics.get(&topic).map(|topic| topic.config.clone());
                file.topic_config_table.extend(config.map(|config| (topic.to_string(), config)));
            }
            Err(error) => tracing::warn!("failed to delete topic {topic}: {error}"),
        }
    }
    let mut core = shared.core.lock();
    let before = core.topics.changes();
    for topic in core.topics.replace(file) {
        core.offsets.remove_topic(&topic);
    }
    if core.topics.changes() != before {
        shared.topics_changed();
    }
}

fn copy_groups(shared: &Shared, file: GroupFile) {
    let mut core = shared.core.lock();
    if core.groups.replace(file) {
        shared.unsaved.notify_one();
    }
}

/// Offsets first, and then where the log ended: what they say lies below.
async fn copy_progress(shared: &Shared, master: &str) -> Result<Progress, String> {
    let hand_overs = shared.core.lock().offsets.hand_overs();
    let epoch = followed_epoch(shared);
    let offsets = ask::<OffsetFile>(shared, master, request::GET_ALL_CONSUMER_OFFSET).await?;
    let delays = ask::<DelayOffsets>(shared, master, request::GET_ALL_DELAY_OFFSET).await?;
    let runtime = ask::<KvTable>(shared, master, request::GET_BROKER_RUNTIME_INFO).await?;
    let at = runtime.table.get("commitLogMaxOffset").and_then(|at| at.parse().ok());
    let at = PhysicalOffset(at.ok_or("it does not say where its log ends")?);
    if !is_followed(shared, master, epoch).await {
        crate::rt::probe!("ha: the progress of a master that is not followed was left");
        return Err("it does not say that it is the master whose log comes here".to_owned());
    }
    Ok(Progress { at, epoch, hand_overs, offsets, delays })
}

fn take_over_due(shared: &Shared, pending: &mut Pending) {
    let log = shared.store.stats();
    if let Some(Ended { half, op, .. }) = pending.take_ended(log.synced) {
        let mut core = shared.core.lock();
        for (topic, at) in [(HALF_TOPIC, half), (OP_TOPIC, op)] {
            at.into_iter().for_each(|at| {
                core.offsets.commit(0, GROUP, topic, rewrite::QUEUE, at);
            });
        }
    }
    let due = pending.take_due(log.min, log.written, followed_epoch(shared));
    let Some(mut progress) = due else { return };
    let queues = shared.store.queues().into_iter();
    let queues: Vec<_> = queues.filter(|(key, ..)| &*key.topic == SCHEDULE_TOPIC).collect();
    let mut core = shared.core.lock();
    let mut keep = |topic| keep_own(&core.offsets, &mut progress.offsets, topic);
    let (half, op) = (keep(HALF_TOPIC), keep(OP_TOPIC));
    pending.on_taken(Ended { at: progress.at, half, op });
    core.offsets.take_over(progress.offsets, progress.hand_overs);
    let queues = queues.into_iter().map(|(key, min, end)| (key.queue, min, end));
    core.schedule.take_over(progress.delays, queues);
}

/// Leaves the row of transactions in a topic as it is here. Returns what the master has; a row that
/// it has not goes.
fn keep_own(offsets: &Offsets, file: &mut OffsetFile, topic: &str) -> Option<i64> {
    let key = format!("{topic}@{GROUP}");
    let rows = file.offset_table.get_mut(&key)?;
    let theirs = rows.remove(&rewrite::QUEUE.0.to_string());
    if let Some(own) = offsets.get(GROUP, topic, rewrite::QUEUE) {
        rows.insert(rewrite::QUEUE.0.to_string(), own);
    }
    theirs
}
