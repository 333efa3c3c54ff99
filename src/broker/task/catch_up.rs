//! Before a master writes: others of its name are asked whether one has more of its log, which it
//! then takes, and whether somebody else was master meanwhile, who then keeps the name (ADR-0026).
//!
//! Source: none; in 4.9 a master that comes back goes on with what it has (W-40, W-47).

use super::super::error::Error;
use super::super::offsets::{OffsetFile, Offsets};
use super::super::options::Options;
use super::super::replication::wire::{self, Answer, Question};
use super::others;
use crate::ha::Position;
use crate::model::{PhysicalOffset, QueueKey, TopicName};
use crate::protocol::Command;
use crate::protocol::body;
use crate::protocol::code::{request_code, response_code as code};
use crate::remoting::Client;
use crate::rt::time::{Clock, Duration};
use crate::store::{AppendError, IntakeError, Stats, Store};
use std::collections::{BTreeMap, BTreeSet};

/// Each question is given up after this.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Who did not answer is asked again after this.
const PAUSE: Duration = Duration::from_millis(300);

/// What the start needs of the broker that is not there yet.
pub struct Start<'a> {
    pub clock: &'a Clock,
    pub client: &'a Client,
    pub store: &'a Store,
    pub options: &'a Options,
    /// Where this broker is reached.
    pub addr: String,
    /// Slaves that followed before.
    pub known: Vec<String>,
    /// The last process did not stop in order: its log may lack what a slave has.
    pub is_unclean: bool,
}

/// Makes the log as long as that of the slave that has most of it, and begins an epoch.
/// Returns the slaves that answered. Durable on return. Errors: `Fenced`.
pub async fn run(start: &Start<'_>, epoch_id: u64) -> Result<Vec<String>, Error> {
    let deadline = start.clock.mono() + start.options.replication.catch_up_wait;
    // Nothing is written meanwhile. Without others it is not read at all.
    let mut question = None;
    let mut heard: BTreeMap<String, Answer> = BTreeMap::new();
    let mut silent: BTreeMap<String, String>;
    loop {
        silent = BTreeMap::new();
        for addr in addresses(start).await {
            if heard.contains_key(&addr) {
                continue;
            }
            let question = match &question {
                Some(question) => question,
                None => question.insert(question_of(start).await?),
            };
            match others::ask_position(start.client, &addr, question, TIMEOUT).await {
                Ok(Some(answer)) => {
                    heard.insert(addr, answer);
                }
                Ok(None) => tracing::info!(
                    "{addr} has this broker's name: it is no Hotfire, what it has is not known"
                ),
                Err(why) => {
                    silent.insert(addr, why);
                }
            }
        }
        let is_over = start.clock.mono() + PAUSE >= deadline;
        if silent.is_empty() || is_over || !start.is_unclean {
            break;
        }
        start.clock.sleep_until(start.clock.mono() + PAUSE).await;
    }
    if let Some(Question { position, .. }) = &question {
        judge_and_take(start, position, &heard).await?;
    }
    if start.is_unclean {
        for (addr, why) in silent {
            tracing::warn!(
                "slave {addr} could not be asked ({why}): what it has behind {} is lost",
                start.store.stats().end
            );
        }
    }
    start.store.begin_epoch(epoch_id).await.map_err(Error::Store)?;
    Ok(heard.into_keys().collect())
}

async fn question_of(start: &Start<'_>) -> Result<Question, Error> {
    let position = Position::of(start.store).await;
    Ok(Question {
        broker_name: start.options.topics.broker_name.clone(),
        addr: start.addr.clone(),
        follows: false,
        position: position.map_err(|source| Error::ReadLog { source })?,
    })
}

/// Whether this broker may write, and what it then takes of what the others have.
async fn judge_and_take(
    start: &Start<'_>,
    mine: &Position,
    heard: &BTreeMap<String, Answer>,
) -> Result<(), Error> {
    // What a running master says explains more than what its slaves do.
    let (slaves, masters): (Vec<_>, Vec<_>) = heard.iter().partition(|(_, answer)| answer.is_slave);
    for (addr, answer) in masters.into_iter().chain(slaves) {
        judge(mine, addr, answer)?;
    }
    match heard.iter().max_by_key(|(_, answer)| answer.position.end) {
        Some((addr, answer)) => take_over(start, mine, addr, answer).await,
        None => Ok(()),
    }
}

/// What clients committed at a slave while this master was away is not taken back
/// (apache/rocketmq#1094).
pub async fn offsets(client: &Client, slave: &str, store: &Store, offsets: &mut Offsets) {
    let request = Command::request(request_code::GET_ALL_CONSUMER_OFFSET).with_ext("own", true);
    let file = match client.invoke(slave, request, TIMEOUT).await {
        Ok(answer) if answer.code == code::SUCCESS => {
            body::decode::<OffsetFile>(&answer.body).map_err(|error| error.to_string())
        }
        Ok(answer) => Err(answer.remark.unwrap_or_default()),
        Err(error) => Err(error.to_string()),
    };
    let end_of = |topic: &str, queue| {
        let key = QueueKey { topic: TopicName::new(topic), queue };
        i64::try_from(store.max_offset(&key).0).unwrap_or(i64::MAX)
    };
    match file.map(|file| offsets.raise(file, end_of)) {
        Ok(0) => {}
        Ok(count) => {
            crate::rt::probe!("ha: a master took over offsets that were committed at its slave");
            tracing::info!("{count} offsets were committed at slave {slave} meanwhile");
        }
        Err(why) => tracing::warn!("the offsets at slave {slave} are not known: {why}"),
    }
}

/// The addresses of others of this name, as name servers know them, and of known slaves.
async fn addresses(start: &Start<'_>) -> BTreeSet<String> {
    let mut all: BTreeSet<String> = start.known.iter().cloned().collect();
    for server in &start.options.name_servers {
        if let Ok(found) = others::of_name(start.client, server, start.options).await {
            all.extend(found);
        }
    }
    all.remove(&start.addr);
    all
}

/// Whether this broker may write although the other says this.
fn judge(mine: &Position, addr: &str, answer: &Answer) -> Result<(), Error> {
    let fenced = |why: String| Error::Fenced { addr: addr.to_owned(), why };
    let theirs = &answer.position;
    if !answer.is_slave {
        return Err(fenced(format!(
            "it is master of this name, in epoch {}; start this one with brokerRole=SLAVE",
            theirs.epochs.number()
        )));
    }
    if mine.end == 0 && theirs.end > 0 {
        return Err(fenced(format!(
            "it is a slave with a log of this name up to {}, and there is none here: make it the \
             master, or delete what it has",
            theirs.end
        )));
    }
    let newest = theirs.epochs.rows().last();
    let is_mine = newest.is_none_or(|newest| mine.epochs.rows().contains(newest));
    let is_superset = has_all(mine, answer);
    if is_mine || is_superset || theirs.epochs.number() <= mine.epochs.number() {
        return Ok(());
    }
    Err(fenced(format!(
        "it follows another master since epoch {}; start this one with brokerRole=SLAVE, or that \
         one as the master",
        theirs.epochs.number()
    )))
}

/// Whether the other's log goes on where this one ends.
fn has_all(mine: &Position, answer: &Answer) -> bool {
    let is_same = mine.last.is_none_or(|(_, sum)| answer.sum == Some(sum));
    is_same && answer.position.min <= mine.end && mine.end <= answer.position.end
}

/// Takes what another has behind this log's end, and its list of epochs.
async fn take_over(
    start: &Start<'_>,
    mine: &Position,
    addr: &str,
    answer: &Answer,
) -> Result<(), Error> {
    if !has_all(mine, answer) {
        if answer.position.end > mine.end {
            tracing::error!(
                "slave {addr} has a log up to {}, which is another one than this up to {}: \
                 nothing of it is taken",
                answer.position.end,
                mine.end
            );
        }
        return Ok(());
    }
    if answer.position.end > mine.end {
        fetch(start, addr, answer).await?;
    }
    if answer.position.epochs.number() > mine.epochs.number() {
        let adopted = start.store.adopt_epochs(answer.position.epochs.clone()).await;
        adopted.map_err(Error::Store)?;
    }
    Ok(())
}

async fn fetch(start: &Start<'_>, addr: &str, answer: &Answer) -> Result<(), Error> {
    let (store, before) = (start.store, start.store.stats().end);
    let options = &start.options.replication;
    let give_up_at = start.clock.mono() + options.catch_up_wait;
    crate::rt::probe!("ha: a master took from its slave what it had lost");
    let mut intake = store.intake();
    let end = answer.position.end;
    while intake.received().0 < end {
        let at = intake.received().0;
        let asked = start.client.invoke(addr, wire::read_log(at), TIMEOUT * 3).await;
        let bytes = match asked {
            Ok(found) if found.code == code::SUCCESS && !found.body.is_empty() => found.body,
            Ok(found) => {
                let why = found.remark.unwrap_or_default();
                return gave_up(addr, at, end, &why);
            }
            Err(error) => return gave_up(addr, at, end, &error.to_string()),
        };
        intake.feed(&bytes);
        while let Err(error) = store.take_in(&mut intake).await {
            match error {
                IntakeError::Forget(error) => return Err(Error::Store(error)),
                IntakeError::Append(ref why)
                    if !matches!(why, AppendError::Poisoned(_))
                        && start.clock.mono() < give_up_at =>
                {
                    let written = store.stats().written;
                    let next = start.clock.mono() + options.stream.retry_interval;
                    crate::rt::select! {
                        _ = start.clock.sleep_until(next) => {}
                        _ = store.until(|stats| stats.written > written) => {}
                    }
                }
                error => return gave_up(addr, at, end, &error.to_string()),
            }
        }
    }
    let taken = PhysicalOffset(intake.at());
    let is_settled = |stats: &Stats| stats.visible >= taken || stats.end < taken;
    let stored = store.until(is_settled).await.map_err(Error::Store)?;
    if stored.end < taken {
        return gave_up(addr, stored.end.0, end, "it could not be written");
    }
    tracing::warn!(
        "this log ended at {before} after a stop that was not in order; slave {addr} had more, \
         and it ends at {} now",
        stored.end
    );
    Ok(())
}

fn gave_up(addr: &str, at: u64, end: u64, why: &str) -> Result<(), Error> {
    tracing::error!("slave {addr} has the log up to {end}, and from {at} on it is lost: {why}");
    Ok(())
}
