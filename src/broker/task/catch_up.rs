//! Before a master writes: others of its name are asked whether one has more of its log, which it
//! then takes, and whether somebody else was master meanwhile, who then keeps the name (ADR-0026).
//!
//! Source: none; in 4.9 a master that comes back goes on with what it has (W-40, W-47).

use super::super::error::Error;
use super::super::offsets::{OffsetFile, Offsets};
use super::super::options::Options;
use super::super::replication::wire::{self, Answer, Question};
use super::heir;
use super::others::{self, Silence};
use crate::disk::Disk;
use crate::ha::Position;
use crate::model::{PhysicalOffset, QueueKey, TopicName};
use crate::protocol::Command;
use crate::protocol::body;
use crate::protocol::code::{request_code, response_code as code};
use crate::remoting::Client;
use crate::rt::time::{Clock, Duration};
use crate::store::{AppendError, IntakeError, Stats, Store};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Each question is given up after this.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A log that is whole waits no longer for those of whom nothing is heard: a lost packet of a new
/// connection is sent again some times by then.
const WHOLE_WAIT: Duration = Duration::from_secs(6);

/// Who did not answer is asked again after this.
const PAUSE: Duration = Duration::from_millis(300);

/// What the start needs of the broker that is not there yet.
pub struct Start<'a> {
    pub disk: &'a dyn Disk,
    pub clock: &'a Clock,
    pub client: &'a Client,
    pub store: &'a Store,
    pub options: &'a Options,
    /// Where this broker is reached.
    pub addr: String,
    /// Those that it replicated with before.
    pub known: Vec<String>,
    /// This broker was a slave, and shall be the master now.
    pub is_heir: bool,
    /// The last process did not stop in order: its log may lack what a slave has.
    pub is_unclean: bool,
}

/// Makes the log as long as that of the slave that has most of it, and begins an epoch.
/// Returns the slaves that answered. Durable on return. Errors: `Fenced`.
pub async fn run(start: &Start<'_>, epoch_id: u64) -> Result<Vec<String>, Error> {
    let wait = start.options.replication.catch_up_wait;
    let wait = if start.is_unclean { wait } else { wait.min(WHOLE_WAIT) };
    let began = start.clock.mono();
    let deadline = began + wait;
    // Nothing is written meanwhile. Without others it is not read at all.
    let mut question = None;
    let mut heard: BTreeMap<String, Answer> = BTreeMap::new();
    let mut told = BTreeSet::new();
    let silent = loop {
        let mut silent: BTreeMap<String, Silence> = BTreeMap::new();
        let (addrs, may_be_more) = addresses(start).await;
        for addr in addrs {
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
        // A log that is whole lacks nothing that a slave that is down has. Of one that says
        // nothing it is not even known that it is down: it may be the master by now.
        let may_be_left = |silence: &Silence| silence.is_down && !start.is_unclean;
        let is_early = start.clock.mono() < began + WHOLE_WAIT;
        let is_all = silent.values().all(may_be_left) && !(may_be_more && is_early);
        if is_all || is_over {
            break silent;
        }
        for (addr, Silence { why, .. }) in silent {
            if told.insert(addr.clone()) {
                tracing::info!("waits for {addr}, which has this broker's name: {why}");
            }
        }
        start.clock.sleep_until(start.clock.mono() + PAUSE).await;
    };
    if let Some(Question { position, .. }) = &question {
        judge_and_take(start, position, &heard, epoch_id).await?;
    }
    if start.is_unclean {
        for (addr, Silence { why, .. }) in silent {
            tracing::warn!(
                "{addr} could not be asked ({why}): what it has behind {} is lost",
                start.store.stats().end
            );
        }
    }
    start.store.begin_epoch(epoch_id, start.is_heir).await.map_err(Error::Store)?;
    if tell_slaves(start, &heard, epoch_id).await? {
        start.store.begin_epoch(epoch_id, false).await.map_err(Error::Store)?;
    }
    // What groups committed at a master that was replaced is about records of its own.
    Ok(heard.into_iter().filter(|(_, answer)| answer.is_slave).map(|(addr, _)| addr).collect())
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
    epoch_id: u64,
) -> Result<(), Error> {
    // What a running master says explains more than what its slaves do.
    let (slaves, masters): (Vec<_>, Vec<_>) = heard.iter().partition(|(_, answer)| answer.is_slave);
    for (addr, answer) in masters.into_iter().chain(slaves) {
        judge(mine, addr, answer)?;
    }
    take_longest(start, mine, heard, epoch_id).await.map(|_| ())
}

/// The slaves hear of the new epoch. From then on they take nothing from a master that this one
/// replaced and that does not know it, so what they have now is all that it can have acked.
/// Returns whether records came that were written before this epoch.
async fn tell_slaves(
    start: &Start<'_>,
    heard: &BTreeMap<String, Answer>,
    epoch_id: u64,
) -> Result<bool, Error> {
    let slaves: Vec<_> = heard.iter().filter(|(_, answer)| answer.is_slave).collect();
    if slaves.is_empty() {
        return Ok(false);
    }
    let question = question_of(start).await?;
    let mut answers = BTreeMap::new();
    for (addr, _) in slaves {
        match others::ask_position(start.client, addr, &question, TIMEOUT * 3).await {
            Ok(Some(answer)) => {
                judge(&question.position, addr, &answer)?;
                answers.insert(addr.clone(), answer);
            }
            Ok(None) => {}
            Err(Silence { why, .. }) => {
                tracing::warn!("slave {addr} was not told of the new epoch: {why}");
            }
        }
    }
    take_longest(start, &question.position, &answers, epoch_id).await
}

/// Returns whether the list of epochs is another since.
async fn take_longest(
    start: &Start<'_>,
    mine: &Position,
    heard: &BTreeMap<String, Answer>,
    epoch_id: u64,
) -> Result<bool, Error> {
    let before = start.store.epochs();
    for (addr, answer) in in_order(heard) {
        if take_over(start, mine, addr, answer, epoch_id).await? {
            break;
        }
    }
    Ok(start.store.epochs() != before)
}

/// A record of a later epoch comes before any number of an earlier one, which its master left
/// out; then the longest goes first. It may be another log: one that comes later may still go on
/// where this one ends.
fn in_order(heard: &BTreeMap<String, Answer>) -> Vec<(&String, &Answer)> {
    let mut all: Vec<_> = heard.iter().filter(|(_, answer)| answer.is_slave).collect();
    all.sort_by_key(|(_, Answer { position, .. })| {
        Reverse((position.epochs.number_below(position.end), position.end))
    });
    all
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

/// The addresses of others of this name, as name servers know them, and of known peers; and
/// whether a name server may know more, of which nothing is heard.
async fn addresses(start: &Start<'_>) -> (BTreeSet<String>, bool) {
    let mut all: BTreeSet<String> = start.known.iter().cloned().collect();
    let mut may_be_more = false;
    for server in &start.options.name_servers {
        match others::of_name(start.client, server, start.options).await {
            Ok(found) => all.extend(found),
            Err(silence) => may_be_more |= !silence.is_down,
        }
    }
    all.remove(&start.addr);
    (all, may_be_more)
}

/// Whether this broker may write although the other says this.
fn judge(mine: &Position, addr: &str, answer: &Answer) -> Result<(), Error> {
    let fenced = |why: String| Error::Fenced { addr: addr.to_owned(), why };
    let theirs = &answer.position;
    if !answer.is_slave && theirs.epochs.is_replaced_in(&mine.epochs) {
        tracing::warn!(
            "{addr} still is master of this name, in epoch {}, which that of this broker, {}, \
             replaced: it ends when it hears of it",
            theirs.epochs.number(),
            mine.epochs.number()
        );
        return Ok(());
    }
    if !answer.is_slave {
        return Err(fenced(format!(
            "it is master of this name, in epoch {}; start this one with brokerRole=SLAVE",
            theirs.epochs.number()
        )));
    }
    let is_new = mine.end == 0 && mine.epochs.number() == 0;
    if is_new && theirs.end > 0 {
        return Err(fenced(format!(
            "it is a slave with a log of this name up to {}, and there is none here: make it the \
             master, or delete what it has",
            theirs.end
        )));
    }
    let newest = theirs.epochs.rows().last();
    let is_mine = newest.is_none_or(|newest| mine.epochs.rows().contains(newest));
    if theirs.end == 0 {
        // It has nothing that could be left out; whoever it heard of comes before this one anyway.
        return Ok(());
    }
    // A list that was lost is had again from a slave with the same log; one that goes on behind
    // this one's is that of another master.
    let is_replaced = mine.epochs.is_replaced_in(&theirs.epochs);
    let is_superset = has_all(mine, answer) && !is_replaced;
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

/// Takes what another has behind this log's end, and its list of epochs when that says more of it.
/// False: it is another log, or has no more.
async fn take_over(
    start: &Start<'_>,
    mine: &Position,
    addr: &str,
    answer: &Answer,
    epoch_id: u64,
) -> Result<bool, Error> {
    if !has_all(mine, answer) {
        if answer.position.end > mine.end {
            tracing::error!(
                "slave {addr} has a log up to {}, which is another one than this up to {}: \
                 nothing of it is taken",
                answer.position.end,
                mine.end
            );
        }
        return Ok(false);
    }
    let (theirs, end) = (&answer.position.epochs, answer.position.end);
    let is_longer = end > mine.end;
    let is_later = theirs.number() > mine.epochs.number();
    if is_longer
        && !is_later
        && let Some(list) = start.store.epochs().taking(theirs, end, epoch_id)
    {
        // Before the first record: a list that says more than the log has does not lie.
        crate::rt::probe!("ha: a master took records of another epoch than it knew");
        start.store.adopt_epochs(list).await.map_err(Error::Store)?;
    }
    if is_longer {
        // A crash before its tables are saved must not leave out the topics of what it takes.
        heir::Mark::HasTaken.set(start.disk, &start.options.root).await?;
    }
    if is_longer && !fetch(start, addr, answer).await? {
        let newest = answer.position.epochs.rows().last();
        let follows_another = newest.is_some_and(|newest| !mine.epochs.rows().contains(newest));
        let fenced = |why: &str| Error::Fenced { addr: addr.to_owned(), why: why.to_owned() };
        if follows_another {
            return Err(fenced("it follows another master, and what it has could not be taken"));
        }
        if start.is_heir {
            return Err(fenced(
                "it is a slave with more of the log, which could not be taken: make it the master, \
                 or name this broker in its haAllowedPeers",
            ));
        }
    }
    if is_later {
        start.store.adopt_epochs(theirs.clone()).await.map_err(Error::Store)?;
    }
    Ok(is_longer)
}

/// Returns whether all of it is here now.
async fn fetch(start: &Start<'_>, addr: &str, answer: &Answer) -> Result<bool, Error> {
    let (store, before) = (start.store, start.store.stats().end);
    let options = &start.options.replication;
    let give_up_at = start.clock.mono() + options.catch_up_wait;
    crate::rt::probe!("ha: a master took from its slave what it had lost");
    let mut intake = store.intake();
    let end = answer.position.end;
    while intake.received().0 < end {
        let at = intake.received().0;
        let asked = start.client.invoke(addr, wire::read_log(at), TIMEOUT * 3).await;
        let why = match asked {
            Ok(found) if found.code == code::SUCCESS && !found.body.is_empty() => {
                intake.feed(&found.body);
                None
            }
            Ok(found) => Some(found.remark.unwrap_or_default()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(why) = why {
            // It may not know yet who asks, or have started this moment.
            if start.clock.mono() >= give_up_at {
                return gave_up(addr, at, end, &why);
            }
            start.clock.sleep_until(start.clock.mono() + PAUSE).await;
            continue;
        }
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
    store.sync().await.map_err(Error::Store)?;
    tracing::warn!(
        "this log ended at {before} after a stop that was not in order; slave {addr} had more, \
         and it ends at {} now",
        stored.end
    );
    Ok(true)
}

fn gave_up(addr: &str, at: u64, end: u64, why: &str) -> Result<bool, Error> {
    tracing::error!("slave {addr} has the log up to {end}, and from {at} on it is lost: {why}");
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::epochs::Epochs;

    fn position(epochs: &str, end: u64) -> Position {
        let epochs = Epochs::parse(epochs).unwrap_or_default();
        Position { epochs, min: 0, end, last: (end > 0).then(|| (end - 1, 7)) }
    }

    fn verdict(mine: &Position, is_slave: bool, theirs: Position, sum: u32) -> Result<(), String> {
        let answer = Answer { is_slave, position: theirs, sum: Some(sum), ..Answer::default() };
        judge(mine, "other", &answer).map_err(|error| error.to_string())
    }

    #[test]
    fn a_young_master_that_lost_its_log_goes_on_and_one_without_epochs_does_not() {
        let theirs = position("1:0:a", 300);
        assert_eq!(verdict(&position("1:0:a", 0), true, theirs.clone(), 7), Ok(()));
        let why = verdict(&position("", 0), true, theirs, 7).unwrap_err();
        assert!(why.contains("there is none here"), "{why}");
    }

    #[test]
    fn who_has_records_of_the_newest_epoch_is_asked_before_who_has_more() {
        let of = |epochs: &str, end| {
            let position = position(epochs, end);
            Answer { is_slave: true, position, ..Answer::default() }
        };
        let heard = BTreeMap::from([
            ("old".to_owned(), of("1:0:a", 11_766)),
            ("new".to_owned(), of("1000001:0:b", 283)),
            // It has the list and no record of the newest epoch.
            ("late".to_owned(), of("1:0:a,1000001:500:b", 500)),
        ]);
        let order: Vec<_> = in_order(&heard).into_iter().map(|(addr, _)| addr.as_str()).collect();
        assert_eq!(order, ["new", "old", "late"]);
    }

    #[test]
    fn a_running_master_keeps_this_one_from_starting_unless_this_one_replaced_it() {
        let (old, new) = (position("1:0:a", 300), position("1:0:a,1000001:300:b", 300));
        assert_eq!(verdict(&new, false, old.clone(), 7), Ok(()));
        let why = verdict(&old, false, new, 7).unwrap_err();
        assert!(why.contains("it is master of this name"), "{why}");
    }

    #[test]
    fn a_slave_of_the_next_master_fences_and_one_whose_list_was_lost_here_does_not() {
        let slave = || position("1:0:a,1000001:300:b", 500);
        let why = verdict(&position("1:0:a", 300), true, slave(), 7).unwrap_err();
        assert!(why.contains("follows another master since epoch 1000001"), "{why}");
        assert_eq!(verdict(&position("", 300), true, slave(), 7), Ok(()));
        let empty = position("1000001:0:b", 0);
        assert_eq!(verdict(&position("1:0:a", 300), true, empty, 7), Ok(()));
    }
}
