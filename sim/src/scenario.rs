//! Scenarios as data: what happens to whom, and what must hold. No code.

use crate::plan::Role;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// Every scenario file, in the order in which seeds draw them.
const FILES: &[&str] = &[
    include_str!("../scenarios/store.toml"),
    include_str!("../scenarios/retention.toml"),
    include_str!("../scenarios/cluster.toml"),
    include_str!("../scenarios/calls.toml"),
    include_str!("../scenarios/queue-damage.toml"),
    include_str!("../scenarios/torn-tail.toml"),
    include_str!("../scenarios/file-creation.toml"),
    include_str!("../scenarios/clock.toml"),
    include_str!("../scenarios/recovery.toml"),
    include_str!("../scenarios/topic-recreate.toml"),
    include_str!("../scenarios/rot.toml"),
    include_str!("../scenarios/filter.toml"),
    include_str!("../scenarios/delay.toml"),
    include_str!("../scenarios/retry.toml"),
    include_str!("../scenarios/transaction.toml"),
    include_str!("../scenarios/ha.toml"),
    include_str!("../scenarios/promotion.toml"),
];

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub name: String,
    /// How often a seed without `--scenario` draws this one, relative to the others.
    pub weight: u64,
    pub world: WorldKind,
    /// Old messages are deleted, on a small disk.
    #[serde(default)]
    pub retention: bool,
    /// Units: virtual milliseconds, from and to.
    pub disturb_ms: (u64, u64),
    /// How long settling may take. Units: virtual milliseconds.
    pub budget_ms: u64,
    pub topology: Topology,
    pub load: LoadRange,
    /// Share of the seeds in which crash points are armed.
    pub crash_points: f64,
    /// Only crash points whose name begins so are armed; every one when empty.
    #[serde(default)]
    pub crash_sites: String,
    /// Crash points at places that dice seldom find.
    #[serde(default)]
    pub crash_at: Vec<CrashAt>,
    pub oracles: Vec<Oracle>,
    pub nemesis: Vec<Nemesis>,
    /// Share of the seeds in which a master is lost for good, with its disk.
    #[serde(default)]
    pub loses_master: f64,
    /// A slave may learn of a topic later than it has the first record of it.
    #[serde(default)]
    pub topics_lag: bool,
    /// Offsets committed at a slave may go back for a while after a start of its master.
    #[serde(default)]
    pub offsets_dip: bool,
    /// Of the world `pair`: what operators do.
    #[serde(default)]
    pub turns: Option<Turns>,
}

/// What happens at one kind of place, armed in a share of the seeds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrashAt {
    /// How the names of the places begin.
    pub sites: String,
    pub chance: f64,
    /// How many points are armed.
    pub times: (u64, u64),
    /// The visit at which one fires.
    pub visits: (u64, u64),
    /// The chance that power goes too.
    #[serde(default)]
    pub power: f64,
    /// The process lives on, but its next sync fails; power is lost later.
    #[serde(default)]
    pub sync_fails: bool,
    /// Until the restart, or the loss of power. Units: virtual milliseconds.
    pub for_ms: (u64, u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorldKind {
    /// One machine that runs the store alone.
    Store,
    /// Name servers, brokers and clients over the simulated network.
    Cluster,
    /// A master and its slaves, whose parts operators change.
    Pair,
}

/// How often masters go, and who goes on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turns {
    pub count: (u64, u64),
    /// The chance that a slave takes over.
    pub promotes: f64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    pub namesrvs: (u64, u64),
    pub brokers: (u64, u64),
    pub clients: (u64, u64),
    /// Of each broker.
    #[serde(default)]
    pub slaves: (u64, u64),
    /// Share of the brokers that answer a producer only once a slave has the message.
    #[serde(default)]
    pub sync_masters: f64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadRange {
    pub messages: (u64, u64),
    pub producers: (u64, u64),
    pub topics: (u64, u64),
    pub queues: (u64, u64),
    pub body_bytes: (u64, u64),
    /// A property of up to so many bytes is added to a message's own.
    #[serde(default)]
    pub padding_bytes: (u64, u64),
    /// How often a topic is deleted, and made again by the next send.
    #[serde(default)]
    pub deletions: (u64, u64),
    /// Readers subscribe by SQL92, and messages carry properties for them.
    #[serde(default)]
    pub filters: bool,
    /// Clients ask the broker for something of other clients.
    #[serde(default)]
    pub calls: bool,
    /// Share of the messages that are delayed.
    #[serde(default)]
    pub delayed: f64,
    /// Share of the others that ask for a time of their own.
    #[serde(default)]
    pub timed: f64,
    /// Share of the messages that consumers fail at, some of them for ever.
    #[serde(default)]
    pub failing: f64,
    /// Share of the messages that are sent in a transaction.
    #[serde(default)]
    pub transactional: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Oracle {
    /// An acked message survives what its flush mode promises.
    AckedSurvives,
    /// Every byte delivered or stored was sent.
    NoPhantom,
    /// Queue offsets are dense and in log order.
    DenseOrder,
    /// What a reader saw is not taken back by a crash.
    VisibleStays,
    /// Queues follow from the log, also after deleting what is derived.
    DerivedFollow,
    /// After the heal everything answers again.
    Liveness,
    /// Only what may go is deleted, in order, and space comes back.
    Retention,
    /// A committed offset is kept, but for the last moments before a crash.
    OffsetsKept,
    /// Each group gets exactly what its SQL92 selector selects, as the reference evaluator says.
    Selected,
    /// Delayed messages come to their topic, not early, in the order of their level, and all.
    Delays,
    /// Retries are asked for and counted; dead letters hold what failed too often, and only that.
    Retries,
    /// Transactions end once, as their producers say, and every one of them ends.
    Transactions,
    /// Replies, resets and locks that the broker passes between its clients.
    Calls,
    /// A slave's log is its master's, byte for byte, and its tables follow.
    Replicas,
    /// What a SYNC_MASTER acked is at a slave, and its answers say so only then.
    SyncMaster,
    /// One master at a time, and the next one has what was promised.
    Reigns,
    /// Bits that flip at rest in sealed segments are found, exactly those, and cut nothing.
    RotFound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    ProcessCrash,
    PowerLoss,
    /// Every machine loses power at once.
    PowerLossAll,
    /// A master loses power, and its slave that or its process alone, at once. They come back one
    /// after the other.
    PowerLossPair,
    /// A clean stop and a start.
    Restart,
    SyncErrors,
    WriteErrors,
    ReadErrors,
    /// One sector of a commit log file cannot be read.
    BadSector,
    NoSpace,
    ClockStep,
    SlowDisk,
    /// The device stands still: syncs and new files begin and do not come back.
    Stall,
    /// Both directions between two machines are dead.
    Partition,
    /// One direction is dead.
    Clog,
    /// The process stands still and comes back.
    Pause,
    /// A second process on the same store directory.
    SecondStart,
    /// Somebody who is no slave dials the HA port of a master.
    Impostor,
    /// The power fails; where the log ends lie eight bytes that nobody wrote (W-08).
    TailGarbage,
    /// The power fails; a bit of a record that no sync covered arrives flipped (W-07, W-09).
    TailFlip,
    /// The process dies; a page of each of the last four files of a queue is zeros (W-23).
    QueuePages,
    /// The process dies; the newest entries of one queue are gone (W-24).
    QueueTail,
    /// The process dies; every queue lost another number of entries, and `abort` is gone (W-26).
    QueuesUneven,
    /// The process dies; a queue holds nothing but blank entries (W-27).
    QueueBlank,
    /// The process dies; the last file of a queue, or of a queue that never was, is zeros (W-28).
    QueueZero,
    /// The process dies; all queue files are gone (W-29).
    QueuesGone,
    /// The process dies; all of Hotfire's own files are gone.
    OwnGone,
    /// The process dies; `abort` is gone (W-13).
    AbortGone,
}

impl FaultKind {
    /// Whether state files may fail to be written.
    pub fn is_disk_trouble(self) -> bool {
        matches!(
            self,
            FaultKind::SyncErrors
                | FaultKind::WriteErrors
                | FaultKind::ReadErrors
                | FaultKind::BadSector
                | FaultKind::NoSpace
                | FaultKind::SlowDisk
                | FaultKind::Stall
        )
    }

    /// Whether it changes files while their process is down.
    pub fn damages(self) -> bool {
        matches!(
            self,
            FaultKind::TailGarbage
                | FaultKind::TailFlip
                | FaultKind::QueuePages
                | FaultKind::QueueTail
                | FaultKind::QueuesUneven
                | FaultKind::QueueBlank
                | FaultKind::QueueZero
                | FaultKind::QueuesGone
                | FaultKind::OwnGone
                | FaultKind::AbortGone
        )
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nemesis {
    pub kind: FaultKind,
    /// Share of the seeds in which this nemesis is at work at all.
    pub chance: f64,
    pub times: (u64, u64),
    /// Units: virtual milliseconds, from and to.
    pub for_ms: (u64, u64),
    #[serde(default)]
    pub on: Aim,
}

/// Whom a nemesis may strike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    #[default]
    Any,
    Masters,
    Slaves,
    /// What lies between a slave and its master.
    Pairs,
}

impl Aim {
    pub fn is(self, role: Role) -> bool {
        match self {
            Aim::Any => true,
            Aim::Masters => role == Role::Broker,
            Aim::Slaves | Aim::Pairs => role == Role::Slave,
        }
    }
}

/// All scenarios.
pub fn all() -> Result<Vec<Scenario>> {
    FILES.iter().map(|text| toml::from_str(text).context("failed to read a scenario")).collect()
}

pub fn named(name: &str) -> Result<Scenario> {
    let mut all = all()?;
    match all.iter().position(|s| s.name == name) {
        Some(at) => Ok(all.swap_remove(at)),
        None => {
            let names: Vec<_> = all.into_iter().map(|s| s.name).collect();
            bail!("no scenario is called {name}; there are: {}", names.join(", "))
        }
    }
}
