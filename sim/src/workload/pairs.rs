//! Masters and slaves: what they are told, and what producers may be told.

pub mod look;

use super::cluster::{ClusterHouse, HA_PORT, Phase, Progress, ip};
use crate::history::{Id, Place, Sent};
use crate::oracle::court::ROOT;
use crate::oracle::replica::{Powers, Replicated};
use crate::plan::Role;
use crate::scenario::FaultKind;
use crate::trace;
use hotfire::broker::Options;
use hotfire::broker::replication::Role as BrokerRole;
use hotfire::client::SendStatus;
use hotfire::ha;
use hotfire::rt::rng::Rng;
use hotfire::rt::sim::mark;
use hotfire::rt::time::Duration;
use hotfire::store::{self, Replicate};

/// A slave that is healthy and waited for so long has the message.
const TIMELY: Duration = Duration::from_secs(1);
/// Less than this is a bound that a message alone may break.
const FAR: u64 = 1 << 20;

/// What it takes beyond its silence until a lost connection is known at both ends.
const CLOSED_SLACK: Duration = Duration::from_secs(2);

/// How a broker replicates.
#[derive(Clone, Copy, Debug)]
pub struct PairTerms {
    copy_interval: Duration,
    silence_max: Duration,
    catch_up_wait: Duration,
    /// Of a SYNC_MASTER.
    replicate: Option<Replicate>,
}

/// Tells a broker its part.
pub fn suit(
    house: &ClusterHouse,
    machine: usize,
    options: &mut Options,
    store_options: &mut store::Options,
) {
    let plan = &house.0.plan;
    let Some(pair) = &plan.machines[machine].pair else { return };
    let master = plan.machines[pair.master].swarm;
    // One speaks as often as the other listens, as operators have it.
    let mut both = Rng::from_seed(master ^ 0x0004_a711);
    let mut dice = Rng::from_seed(plan.machines[machine].swarm ^ 0x0004_a712);
    let own = ha::Options::swarm(&mut dice);
    let mut stream = ha::Options::swarm(&mut both);
    if both.chance(0.6) {
        stream.heartbeat_interval = Duration::from_millis(both.between(50, 400));
        stream.silence_max = stream.heartbeat_interval * 4;
    }
    stream.batch_size = own.batch_size;
    stream.unsent_size_max = own.unsent_size_max;
    stream.retry_interval = own.retry_interval;
    stream.starts_at_last_file = both.chance(0.15);
    let replication = &mut options.replication;
    if both.chance(0.7) {
        // Else an impostor is not let in at all.
        let all = house.0.plan.machines.iter().enumerate();
        let peers = all.filter(|(_, m)| m.role != Role::NameServer);
        replication.allowed = peers.map(|(n, _)| ip(n)).collect();
    }
    replication.stream = stream;
    replication.copy_first = Duration::from_millis(dice.between(10, 500));
    replication.copy_interval = Duration::from_millis(dice.between(100, 3_000));
    options.id = pair.id as i64;
    // All that is cut off is kept.
    store_options.cut_size_max_bytes = 1 << 30;
    if pair.master != machine {
        replication.role = BrokerRole::Slave;
        replication.master = pair.knows_master.then(|| format!("{}:{HA_PORT}", ip(pair.master)));
        // Files of one size at both ends.
        let mut rng = Rng::from_seed(master);
        let _ = Options::swarm(&mut rng);
        let theirs = store::Options::swarm(ROOT, &mut rng);
        store_options.segment_size_bytes = theirs.segment_size_bytes;
        store_options.record_size_max_bytes = theirs.record_size_max_bytes;
    } else if pair.is_sync_master {
        replication.role = BrokerRole::SyncMaster;
        let timeout = Duration::from_millis(dice.between(100, 3_000));
        let small = dice.between(1, 20_000);
        let fall_behind_max = if dice.chance(0.2) { small } else { 256 << 20 };
        store_options.replicate = Some(Replicate { timeout, fall_behind_max });
        if dice.chance(0.5) {
            // Often enough to come while records wait for a slave.
            store_options.checkpoint_interval = Duration::from_millis(dice.between(50, 800));
        }
    }
    // A short wait ends while a slave is still out of reach.
    let mut wait = Rng::from_seed(plan.machines[machine].swarm ^ 0x0004_a713);
    if wait.chance(0.5) {
        let wait_ms = wait.between(2_000, 5_000);
        options.replication.catch_up_wait = Duration::from_millis(wait_ms);
    }
    let terms = PairTerms {
        copy_interval: options.replication.copy_interval,
        silence_max: options.replication.stream.silence_max,
        catch_up_wait: options.replication.catch_up_wait,
        replicate: store_options.replicate,
    };
    house.0.progress.lock().pairs.insert(machine, terms);
}

/// How long a master that comes back waits for those that it does not hear.
pub fn catch_up_wait(house: &ClusterHouse, machine: usize) -> Duration {
    let terms = house.0.progress.lock().pairs.get(&machine).copied();
    terms.map_or(Duration::ZERO, |terms| terms.catch_up_wait)
}

/// How a broker's slaves stood when a message was sent.
pub struct Asked {
    pub master: usize,
    powers: Powers,
    /// Since when each slave is out of reach. Units: microseconds.
    apart_us: Vec<Option<u64>>,
    at_us: u64,
    phase: Phase,
}

impl Asked {
    pub fn now(house: &ClusterHouse, master: usize, phase: Phase) -> Asked {
        Asked {
            master,
            powers: house.court().powers(master),
            apart_us: apart_us(house, master),
            at_us: trace::now_us(),
            phase,
        }
    }

    /// What the answer says of slaves must be so.
    pub fn judge(&self, house: &ClusterHouse, id: Id, place: Place, status: SendStatus) {
        let Some(pair) = house.court().pair(self.master) else { return };
        let shown = (self.master, id, place.physical);
        let is_alone = house.court().history(|h| h.shown_alone.contains(&shown));
        let same_power = self.powers == house.court().powers(self.master);
        if is_alone && same_power && status == SendStatus::Ok && pair.is_sync_master {
            let what = format!("message {id} was shown before the slave had it that it waited for");
            house.court().check("sync_master_shows", Err(what));
        }
        let what = self.wrong(house, pair.is_sync_master, status);
        let told = what.map_or(Ok(()), |what| {
            Err(format!("message {id} was answered {status:?} by machine {}: {what}", self.master))
        });
        house.court().check("sync_master_answers", told);
        match status {
            SendStatus::Ok if pair.is_sync_master => {
                mark("ha: a slave has it, said a master");
                let powers = self.powers.clone();
                house.court().on_replicated(Replicated { id, place, powers });
            }
            SendStatus::SlaveNotAvailable => mark("ha: no slave, said a master"),
            SendStatus::FlushSlaveTimeout => mark("ha: no slave in time, said a master"),
            _ => {}
        }
    }

    fn wrong(&self, house: &ClusterHouse, is_sync: bool, status: SendStatus) -> Option<String> {
        let is_of_slaves =
            matches!(status, SendStatus::FlushSlaveTimeout | SendStatus::SlaveNotAvailable);
        if !is_sync {
            return is_of_slaves.then(|| "it does not wait for slaves".to_owned());
        }
        let terms = house.0.progress.lock().pairs.get(&self.master).copied()?;
        let replicate = terms.replicate?;
        let in_time = replicate.timeout >= TIMELY && replicate.fall_behind_max >= FAR;
        if is_of_slaves && in_time && self.phase == Phase::Prompt && !self.powers.is_empty() {
            return Some("all is well, and its slaves have everything".to_owned());
        }
        let faults = &house.0.plan.faults;
        let is_impostor =
            |fault: &&_| fault_is(fault, FaultKind::Impostor) && fault.target == self.master;
        let silence_us = (terms.silence_max * 2 + CLOSED_SLACK).as_micros() as u64;
        let is_away = |since: &Option<u64>| since.is_some_and(|us| us + silence_us < self.at_us);
        let all_away = self.apart_us.iter().all(is_away);
        let still = self.apart_us == apart_us(house, self.master);
        if all_away && still && !faults.iter().any(|f| is_impostor(&f)) {
            mark("ha: a message was sent while every slave was away for long");
            if status != SendStatus::SlaveNotAvailable {
                return Some("every slave was out of reach for long".to_owned());
            }
        }
        None
    }
}

fn fault_is(fault: &crate::plan::Fault, kind: FaultKind) -> bool {
    fault.kind == kind
}

fn apart_us(house: &ClusterHouse, master: usize) -> Vec<Option<u64>> {
    let slaves = house.court().slaves_of(master).into_iter();
    slaves.map(|slave| house.world().apart_us(master, slave)).collect()
}

/// Whether every slave has given the message to its reader, as far as it can have it.
pub fn slaves_read(house: &ClusterHouse, progress: &Progress, sent: &Sent, place: Place) -> bool {
    let Some(reader) = house.machines(Role::Client).first().copied() else { return true };
    house.court().slaves_of(place.machine).into_iter().all(|slave| {
        let key = (reader, slave, sent.topic.clone(), place.queue);
        let to = progress.read_to.get(&key).copied().unwrap_or(0);
        let ends = house.0.plan.lost_master == Some(place.machine);
        to > place.queue_offset
            || house.court().is_outside(slave, place.physical)
            || (ends && !house.court().has(slave, place.physical))
            || (ends && !knows_topic(house, slave, &sent.topic))
    })
}

/// Topics may come to a slave later than their first records (`topics_lag` of the scenario).
fn knows_topic(house: &ClusterHouse, slave: usize, topic: &str) -> bool {
    if !house.0.plan.topics_lag {
        return true;
    }
    let is_known = has_topic(house, slave, topic);
    if !is_known {
        mark("ha: a master was lost before its slave knew the topic");
    }
    is_known
}

fn has_topic(house: &ClusterHouse, broker: usize, topic: &str) -> bool {
    let disk = &house.world().machines()[broker].disk;
    let file = disk.peek("/data/store/config/topics.json").unwrap_or_default();
    String::from_utf8_lossy(&file).contains(&format!("\"{topic}\""))
}
