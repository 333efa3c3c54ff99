//! The broker's own configuration: requests 25 and 26.

use super::super::configuration::{Change, Configuration};
use super::super::driver::Shared;
use super::super::reply::{Answer, Refusal};
use super::{Done, Request, later};
use crate::disk::{self, replace_small};
use crate::protocol::code::response_code as code;
use bytes::Bytes;
use std::io;
use std::sync::Arc;

/// Longest configuration file. Units: bytes.
const FILE_SIZE_MAX: u64 = 1 << 20;

fn configuration(shared: &Shared) -> Answer<Arc<dyn Configuration>> {
    let none = || Refusal::system_error("this broker was started without a configuration");
    shared.configuration.clone().ok_or_else(none)
}

/// Source: AdminBrokerProcessor#getBrokerConfig (4.9.3).
pub(super) fn print(shared: &Shared) -> Answer<Done> {
    let configuration = configuration(shared)?;
    let version = serde_json::to_string(&configuration.version()).unwrap_or_default();
    Ok(Done::Full {
        code: code::SUCCESS,
        remark: "".into(),
        ext: vec![("version", version)],
        body: Bytes::from(configuration.text()),
    })
}

/// Durable on the answer: the change, in the file that was read at the start.
/// Source: AdminBrokerProcessor#updateBrokerConfig (4.9.3).
/// Differs: it is refused as a whole when one key is unknown, has a bad value or needs a restart;
/// the file keeps its other lines (ADR-0020).
pub(super) fn change(shared: &Arc<Shared>, request: &Request) -> Answer<Done> {
    if request.body().is_empty() {
        return Ok(Done::Empty);
    }
    let configuration = configuration(shared)?;
    let text = String::from_utf8_lossy(request.body()).into_owned();
    let (own, asker) = (shared.clone(), request.peer.addr());
    later(request, async move {
        let stopped = |_| Refusal::stopping();
        let _turn = own.configuring.acquire().await.map_err(stopped)?;
        let change = configuration.prepare(&text).map_err(Refusal::system_error)?;
        if let Some(path) = configuration.file() {
            keep(&own, &*configuration, path, &change).await.map_err(|error| {
                Refusal::system_error(format!("nothing was changed: write {path}: {error}"))
            })?;
        }
        configuration.commit(own.clock.wall(), &change);
        let registered = apply(&own, &change).map(|changes| own.until_registered(changes));
        tracing::info!("{asker} changed the configuration: {:?}", change.said);
        if let Some(registered) = registered {
            registered.await;
        }
        Ok(Done::Empty)
    })
}

/// Durable on return: the file with the change in it.
async fn keep(
    shared: &Shared,
    configuration: &dyn Configuration,
    path: &str,
    change: &Change,
) -> io::Result<()> {
    let before = disk::read_small(&*shared.disk, path, FILE_SIZE_MAX)?;
    let after = configuration.edited(&String::from_utf8_lossy(&before), change);
    if after.len() as u64 > FILE_SIZE_MAX {
        let what = format!("it would have {} bytes, at most {FILE_SIZE_MAX}", after.len());
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    replace_small(&*shared.disk, path, after.as_bytes()).await
}

/// Returns the change of the topic table that the name servers are to hear, if there is one.
/// Source: AdminBrokerProcessor#updateBrokerConfig (4.9.3), which registers before it answers.
fn apply(shared: &Shared, change: &Change) -> Option<u64> {
    shared.store.set_retention(change.rules.clone());
    let mut core = shared.core.lock();
    core.live = change.live;
    core.topics.set_auto_create(change.live.auto_create_topics);
    core.groups.set_auto_create(change.live.auto_create_groups);
    if change.said.iter().all(|(key, _)| key != "brokerPermission") {
        return None;
    }
    // Name servers look at the topics again only when their version is another.
    core.topics.touch(shared.clock.wall());
    shared.topics_changed();
    Some(core.topics.changes())
}
