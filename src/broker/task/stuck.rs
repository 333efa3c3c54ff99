//! Looks for stuck queues, pass by pass, a few queues at a time.
//!
//! Watched are the queues here of every topic that a clustering group with members subscribes to.
//! A group that pulls by itself and has never committed may keep its offsets elsewhere: it is not.

use super::super::clients::ConsumerGroup;
use super::super::driver::{Core, Shared};
use super::super::queue_locks::LockedQueue;
use super::super::stuck::{Found, News, Watched};
use crate::model::{QueueId, QueueKey};
use crate::protocol::body::client::{ConsumeType, MessageModel};
use crate::rt::task::{Stop, yield_now};
use crate::rt::time::{Alarm, Duration};
use std::sync::Arc;

/// A pass begins so often within the time after which a queue is stuck.
const PASSES: u32 = 10;
/// But not more often than this, nor less often than that.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(60);

pub async fn run(shared: Arc<Shared>, mut stop: Stop) {
    if shared.core.lock().stuck.is_off() {
        return;
    }
    let pause = (shared.options.stuck_queue_after / PASSES).clamp(PAUSE_MIN, PAUSE_MAX);
    let mut alarm = Alarm::new(&shared.clock);
    loop {
        alarm.set(Some(shared.clock.mono() + pause));
        crate::rt::select! {
            _ = stop.wait() => return,
            _ = alarm.ring() => {}
        }
        let mut place = Some(Place::default());
        while let Some(from) = place {
            place = look(&shared, &mut shared.core.lock(), from);
            yield_now().await;
        }
        let mut after = None;
        loop {
            let (news, next) =
                shared.core.lock().stuck.sweep(after, shared.options.limits.stuck_turn_max);
            news.iter().for_each(|(key, news)| tell(&shared, &shared.core.lock(), key, *news));
            after = next;
            if after.is_none() {
                break;
            }
            yield_now().await;
        }
    }
}

/// Where a pass goes on: at this queue, or behind it where that is gone.
#[derive(Debug, Default)]
struct Place {
    group: String,
    topic: String,
    queue: u32,
}

/// Looks at some queues. Returns where to go on; `None` when the pass is over.
fn look(shared: &Shared, core: &mut Core, mut place: Place) -> Option<Place> {
    let mut left = shared.options.limits.stuck_turn_max;
    while let Some((name, group)) = core.clients.consumer_group_from(&place.group) {
        if name != place.group {
            place = Place { group: name.to_owned(), ..Place::default() };
        }
        let is_shared = group.model == Some(MessageModel::Clustering);
        let topic = if is_shared { group.subscription_from(&place.topic) } else { None };
        let Some(topic) = topic.map(|subscription| subscription.topic.clone()) else {
            // The least name behind this one.
            place.group.push('\0');
            (place.topic, place.queue) = (String::new(), 0);
            left = left.saturating_sub(1);
            if left == 0 {
                return Some(place);
            }
            continue;
        };
        if topic != place.topic {
            (place.topic, place.queue) = (topic, 0);
        }
        if left == 0 {
            return Some(place);
        }
        left -= 1;
        let row = core.topics.get(&place.topic);
        match row.filter(|row| place.queue < row.config.read_queue_nums) {
            Some(row) => {
                let key = QueueKey { topic: row.name.clone(), queue: QueueId(place.queue) };
                look_at(shared, core, &place.group, &key);
                place.queue += 1;
            }
            None => {
                place.topic.push('\0');
                place.queue = 0;
            }
        }
    }
    None
}

fn look_at(shared: &Shared, core: &mut Core, group: &str, key: &QueueKey) {
    let end = i64::try_from(shared.store.max_offset(key).0).unwrap_or(i64::MAX);
    let offset = core.offsets.get(group, &key.topic, key.queue).filter(|offset| *offset >= 0);
    let live = core.clients.consumer_group(group);
    let is_pushed_to = |live: &ConsumerGroup| live.consume_type == Some(ConsumeType::Passively);
    if offset.is_none() && !live.is_some_and(is_pushed_to) {
        return;
    }
    let (topic, queue) = (key.topic.to_string(), key.queue);
    let watched = Watched { group: group.to_owned(), topic, queue };
    let now = shared.clock.mono();
    if let Some(news) = core.stuck.on_look(now, &watched, Found { offset, end }) {
        tell(shared, core, &watched, news);
    }
}

fn tell(shared: &Shared, core: &Core, key: &Watched, news: News) {
    let Watched { group, topic, queue } = key;
    match news {
        News::Stuck { offset, lag, since } => {
            crate::rt::probe!("broker: a stuck queue was found");
            let seconds = shared.clock.mono().since(since).as_secs();
            let holder = holder(shared, core, key).unwrap_or_else(|| "nobody known".to_owned());
            tracing::warn!(
                "group {group} is stuck at {offset} of {topic}, queue {queue}, for {seconds} s: \
                 {lag} messages wait, held by {holder}"
            );
        }
        News::Moves { from, to } => {
            crate::rt::probe!("broker: a stuck queue moves again");
            tracing::info!("group {group} moves again in {topic}, queue {queue}: {from} to {to}");
        }
        News::Forgotten { offset } => tracing::info!(
            "group {group} was stuck at {offset} of {topic}, queue {queue}: it has no members, or \
             the queue is gone"
        ),
    }
}

/// The client that has the lock of the queue, or was the last to commit there, while it lives.
fn holder(shared: &Shared, core: &Core, key: &Watched) -> Option<String> {
    let locked = LockedQueue {
        broker_name: shared.options.topics.broker_name.clone(),
        queue: i32::try_from(key.queue.0).ok()?,
        topic: key.topic.clone(),
    };
    if let Some(owner) = core.locks.owner(shared.clock.mono(), &key.group, &locked) {
        return Some(owner.to_owned());
    }
    let by = core.offsets.last_committer(&key.group, &key.topic, key.queue)?;
    let live = core.clients.consumer_group(&key.group)?;
    let mut members = live.members();
    members.find(|(channel, _)| *channel == by).map(|(_, client)| client.id.clone())
}
