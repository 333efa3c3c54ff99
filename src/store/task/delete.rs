//! A topic goes away, with its queues.

use crate::disk::{Disk, replace_small};
use crate::model::{PhysicalOffset, QueueKey, TopicName, is_directory_name};
use crate::rt::fault;
use crate::store::error::Error;
use crate::store::options::Options;
use crate::store::queue_files;
use crate::store::shared::Shared;
use crate::store::snapshot::TopicFloors;
use std::io;

/// Durable on return: that the topic's records up to now are gone. Its files are removed after
/// that; recovery removes what a crash leaves. Nothing is done when one lies at `below` or behind,
/// or is under way then. Returns whether it was.
pub async fn topic(
    shared: &Shared,
    topic: &str,
    below: Option<PhysicalOffset>,
) -> Result<bool, Error> {
    let what = format!("delete topic {topic}");
    let permit = shared.queue_dirs.acquire().await;
    let _permit = permit.map_err(|e| Error::io(&*what)(io::Error::other(e)))?;
    {
        let mut state = shared.state.lock();
        if below.is_some_and(|at| state.queues.goes_on(topic, at.0)) {
            return Ok(false);
        }
        let (end, log_min) = (state.log.end(), state.segments.first());
        state.topic_floors.0.retain(|_, at| *at > log_min);
        state.topic_floors.0.insert(TopicName::new(topic), end);
        let removed = state.remove_topic(topic);
        let gone = |slot: u32| removed.iter().any(|(removed, _)| removed.0 == slot);
        shared.queue_files.lock().close_where(|(slot, _)| gone(*slot));
    }
    let floors = settled_floors(shared).await.map_err(Error::io(&*what))?;
    let path = topic_floors_path(shared);
    replace_small(&*shared.disk, &path, &floors).await.map_err(Error::io(&*what))?;
    fault::point("store: topic floor written").await;
    remove_files(shared, topic).await.map_err(Error::io(&*what))?;
    Ok(true)
}

/// The floors, once the log is written up to them: what waits for its file may still be refused,
/// and a floor behind what takes its place would delete that too. A poisoned log is cut by the next
/// start, and its floors with it. Errors: `TimedOut` when the log does not go on.
async fn settled_floors(shared: &Shared) -> io::Result<Vec<u8>> {
    let late = shared.clock.sleep_until(shared.clock.mono() + shared.options.sync_flush_timeout);
    let mut late = std::pin::pin!(late);
    loop {
        let mut moved = std::pin::pin!(shared.log_moved.notified());
        moved.as_mut().enable();
        {
            let state = shared.state.lock();
            let written = state.flush.written();
            if state.poison.is_some() || state.topic_floors.0.values().all(|at| *at <= written) {
                return Ok(state.topic_floors.encode());
            }
        }
        crate::rt::select! {
            _ = &mut late => {
                let why = "the log has messages that are not written, and does not go on";
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            _ = moved => {}
        }
    }
}

/// Forgets one queue with its files: the log's next record of it is its first again. A crash leaves
/// files that recovery makes right when it meets that record.
pub async fn queue(shared: &Shared, key: &QueueKey) -> Result<(), Error> {
    let what = format!("forget queue {} of topic {}", key.queue, key.topic);
    let permit = shared.queue_dirs.acquire().await;
    let _permit = permit.map_err(|e| Error::io(&*what)(io::Error::other(e)))?;
    let gone = {
        let mut state = shared.state.lock();
        let gone = state.remove_queue(key);
        shared.queue_files.lock().close_where(|(slot, _)| gone.is_some_and(|it| it.0 == *slot));
        gone
    };
    if gone.is_none() || !is_directory_name(&key.topic) {
        return Ok(());
    }
    remove_tree(&*shared.disk, &queue_files::dir(&shared.options, key)).map_err(Error::io(what))
}

async fn remove_files(shared: &Shared, topic: &str) -> io::Result<()> {
    remove_dirs(&*shared.disk, &shared.options, topic)?;
    shared.disk.sync_dir(&shared.options.consume_queue_dir()).await
}

/// Removes a topic's directory of queue directories of files.
pub fn remove_dirs(disk: &dyn Disk, options: &Options, topic: &str) -> io::Result<()> {
    if !is_directory_name(topic) {
        return Ok(()); // it has none, and this would be another
    }
    remove_tree(disk, &queue_files::topic_dir(options, topic))
}

fn remove_tree(disk: &dyn Disk, dir: &str) -> io::Result<()> {
    let entries = match disk.list(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        listed => listed?,
    };
    for entry in entries {
        let path = format!("{dir}/{}", entry.name);
        if entry.is_dir { remove_tree(disk, &path)? } else { disk.remove(&path)? }
    }
    disk.remove_dir(dir)
}

/// Where topics were deleted; nowhere when the file is missing or broken.
pub fn read_floors(bytes: io::Result<bytes::Bytes>) -> TopicFloors {
    bytes.ok().and_then(|bytes| TopicFloors::decode(&bytes)).unwrap_or_default()
}

pub fn topic_floors_path(shared: &Shared) -> String {
    format!("{}/topic_floors", shared.options.own_dir())
}
