//! What another Hotfire of this name asks, and how replication stands: requests 60001 to 60004.

use super::super::driver::{Core, Shared};
use super::super::replication::peers::ip_of;
use super::super::replication::wire::{self, Answer as Said, Question};
use super::super::reply::{Answer, Refusal};
use super::super::task::greet::remember;
use super::{Done, Request, later};
use crate::ha::Position;
use crate::model::PhysicalOffset;
use crate::protocol::code::response_code as code;
use crate::rt::time::Duration;
use crate::store::RawLog;
use bytes::Bytes;
use std::sync::Arc;

/// Log bytes of one answer. Units: bytes.
const READ_SIZE_MAX: usize = 256 << 10;

fn bad(why: impl Into<String>) -> Refusal {
    Refusal::system_error(why.into())
}

/// A slave also answers the master that it follows: a name server has forgotten one that died when
/// it comes back and asks.
fn check(shared: &Shared, request: &Request) -> Answer<()> {
    let ip = request.peer.addr().ip();
    let master = shared.replication.master.get().and_then(|addr| ip_of(&addr));
    if master == Some(ip) || shared.replication.admission.admits(ip) {
        return Ok(());
    }
    Err(bad(format!("{ip} is not known as a broker of this name")))
}

/// How this log stands to that of the one who asks; one that will follow gets a token, and must be
/// known for that. Others are answered whoever they are: name servers have one address for a
/// master, so that this broker may not know the one that it replaced, who must hear that it was.
pub(super) fn position(shared: &Arc<Shared>, core: &mut Core, request: &Request) -> Answer<Done> {
    let asked = Question::decode(&request.header.ext, request.body()).map_err(bad)?;
    if asked.follows {
        check(shared, request)?;
    }
    let name = &shared.options.topics.broker_name;
    if asked.broker_name != *name {
        return Err(bad(format!("this is broker {name}, not {}", asked.broker_name)));
    }
    let is_slave = shared.replication.role.is_slave();
    if asked.follows && is_slave {
        return Err(bad("this broker is a slave itself"));
    }
    let is_replaced = shared.store.epochs().is_replaced_in(&asked.position.epochs);
    if !is_slave && is_replaced && check(shared, request).is_ok() {
        return Err(fence(shared, &asked));
    }
    if is_slave && check(shared, request).is_ok() {
        shared.replication.ha.hear_of(asked.position.epochs.clone());
    }
    let token = asked.follows.then(|| core.rng.next_u64() >> 1);
    let shared = shared.clone();
    later(request, async move {
        let sum = match asked.position.last {
            Some((at, _)) => shared.store.checksum_at(PhysicalOffset(at)).await,
            None => Ok(None),
        };
        let sum = sum.map_err(|error| bad(format!("the log cannot be read: {error}")))?;
        let known_peers = &shared.replication.known_peers;
        let mut peers = Vec::new();
        if let Some(token) = token {
            remember(known_peers, &asked.addr).await;
            shared.replication.ha.expect(token);
            peers = known_peers.all();
        }
        let stats = shared.store.stats();
        if stats.poisoned {
            return Err(bad("the commit log is poisoned"));
        }
        let (epochs, end) = (shared.store.epochs(), shared.stored_end().0);
        let position = Position { epochs, min: stats.min.0, end, last: None };
        let said = Said { is_slave, position, written: stats.written.0, sum, token, peers };
        let (ext, body) = (said.fields(), said.body());
        Ok(Done::Full { code: code::SUCCESS, remark: "".into(), ext, body })
    })
}

/// Another master began behind this one's newest epoch, says one who followed it: this one ends.
fn fence(shared: &Shared, asked: &Question) -> Refusal {
    crate::rt::probe!("ha: a master heard from a slave that it was replaced");
    let (addr, number) = (&asked.addr, asked.position.epochs.number());
    let why = format!(
        "{addr} knows of epoch {number} of another master, which began later than this one's: \
         start this broker with brokerRole=SLAVE"
    );
    tracing::error!("{why}");
    shared.replication.fenced.send(Some(why.clone()));
    bad(why)
}

/// Bytes of this log for a master that lacks them.
pub(super) fn read_log(shared: &Arc<Shared>, request: &Request) -> Answer<Done> {
    check(shared, request)?;
    let at = wire::read_log_at(&request.header.ext).map_err(bad)?;
    let shared = shared.clone();
    later(request, async move {
        let left = shared.stored_end().0.saturating_sub(at);
        let size = usize::try_from(left).unwrap_or(usize::MAX).min(READ_SIZE_MAX);
        if size == 0 {
            return Ok(Done::Body(Bytes::new()));
        }
        match shared.store.raw_log(PhysicalOffset(at), size).await {
            Ok(RawLog::Bytes(bytes)) => Ok(Done::Body(bytes)),
            Ok(RawLog::End | RawLog::Outside) => Err(bad(format!("the log has nothing at {at}"))),
            Err(error) => Err(bad(format!("the log cannot be read at {at}: {error}"))),
        }
    })
}

/// The tables are looked at so often while a slave waits for a change of them.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// It is told that nothing changed after so long. Below the time that a slave waits for an answer.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Answered when topics, groups, offsets, delay progress or the known peers changed since the
/// version that is said.
pub(super) fn wait_change(shared: &Arc<Shared>, core: &Core, request: &Request) -> Answer<Done> {
    check(shared, request)?;
    let known = request.header.ext.get("version").unwrap_or_default().to_string();
    let first = version(shared, core);
    let (shared, deadline) = (shared.clone(), shared.clock.mono() + WAIT_MAX);
    later(request, async move {
        let mut now = first;
        while now == known && shared.clock.mono() < deadline {
            shared.clock.sleep_until(shared.clock.mono() + LOOK_INTERVAL).await;
            now = version(&shared, &shared.core.lock());
        }
        let peers = shared.replication.known_peers.all();
        let ext = wire::peers_field(&peers).into_iter().collect();
        Ok(Done::Full { code: code::SUCCESS, remark: "".into(), ext, body: Bytes::from(now) })
    })
}

fn version(shared: &Shared, core: &Core) -> String {
    let saved = shared.saved.get();
    let (offsets, delays) = (core.offsets.changes(), core.schedule.changes());
    let (topics, groups) = (saved.topics, saved.groups);
    let peers = shared.replication.known_peers.count();
    format!("{}-{topics}-{groups}-{offsets}-{delays}-{peers}", shared.started_ms)
}

/// How replication stands, for `hotfire admin haStatus`.
pub(super) fn status(shared: &Arc<Shared>) -> Answer<Done> {
    super::topic::json(&shared.replication_status())
}
