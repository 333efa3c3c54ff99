//! What the clients of a run know: what they sent, what they were told, what they read.
//!
//! Oracles judge from here and from the machines' files, never from the product's own tables.

use crate::oracle::replica::Replicated;
use std::collections::{BTreeMap, BTreeSet};

/// A message's number in this run; it stands in the message's properties.
pub type Id = u64;

/// How strong the promise of an acknowledgement was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// In the page cache: survives the process.
    Written,
    /// On the platter: survives the power.
    Synced,
}

/// Where a message was said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub machine: usize,
    pub queue: u32,
    pub queue_offset: u64,
    pub physical: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// No answer yet, or none that says anything: it may or may not be stored.
    Unknown,
    Acked {
        grade: Grade,
        place: Place,
        power_losses: u64,
        generation: u64,
    },
    /// The answer said that it is not stored.
    Refused,
    /// It was acknowledged, and a power loss took it back as its mode allows.
    LostLegally,
    /// It was acknowledged, and its file was deleted for its age or for space.
    Deleted,
}

#[derive(Clone, Debug)]
pub struct Sent {
    pub topic: String,
    pub queue: Option<u32>,
    pub size: usize,
    /// The properties as they must be stored, when they are known to the byte.
    pub properties: Option<Vec<u8>>,
    pub fate: Fate,
    /// Its topic was deleted since.
    pub is_gone: bool,
    /// How often it may be in the logs: resends make copies.
    pub copies_max: u32,
    /// Its delay level; 0 for none.
    pub level: u32,
    /// It asks for a time of its own.
    pub is_timed: bool,
    /// How often each group fails to consume it.
    pub fails: u32,
}

#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub id: Id,
    pub grade: Grade,
    pub power_losses: u64,
    pub generation: u64,
    pub physical: u64,
}

/// Machine, topic, queue, queue offset.
pub type Slot = (usize, String, u32, u64);

/// Client, broker, topic, queue.
pub type Reading = (usize, usize, String, u32);

/// What a group's reader committed of one queue.
#[derive(Clone, Debug, Default)]
pub struct Commits {
    /// When the broker said yes, and to what. Units: microseconds of virtual time.
    acked: Vec<(u64, u64)>,
    /// The largest offset that was ever asked for.
    asked_max: u64,
}

/// How a producer ends a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Commit,
    Rollback,
    /// Only when it is asked.
    CommitAsked,
    RollbackAsked,
    /// It never knows.
    Never,
    /// Long after it was asked first, by the offsets that it was told.
    CommitLate,
    /// It asks for both, and one of them happens.
    Both,
}

/// When an end was acknowledged, and how strong the promise is.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    pub machine: usize,
    pub grade: Grade,
    pub power_losses: u64,
    pub generation: u64,
}

/// One transaction, as its producers know it.
#[derive(Clone, Debug)]
pub struct Transaction {
    pub wish: Wish,
    /// Which producer group sent it.
    pub group: u64,
    /// What whoever is asked answers: commit or not. `None`: unknown yet.
    pub decision: Option<bool>,
    pub commit_asked: bool,
    pub rollback_asked: bool,
    pub committed: Option<Promise>,
    pub rolled_back: Option<Promise>,
    /// When it was sent, and how long nobody is to ask. Units: microseconds.
    pub sent_us: u64,
    pub immune_us: u64,
    /// Sent when nothing was wrong any more.
    pub is_calm: bool,
}

/// A topic was deleted, or at least asked to be.
#[derive(Clone, Debug)]
pub struct Deletion {
    pub topic: String,
    /// Messages from this number on were sent after it.
    pub first: Id,
    pub is_done: bool,
}

#[derive(Default)]
pub struct History {
    pub deletions: Vec<Deletion>,
    pub commits: BTreeMap<Reading, Commits>,
    pub sent: Vec<Sent>,
    /// What readers were given, by place.
    pub seen: BTreeMap<Slot, Seen>,
    /// Delayed messages that readers found in their topics: client and message.
    pub delivered: BTreeSet<(usize, Id)>,
    /// What was sent back: group, message and its tries; whether the broker said yes.
    pub sent_back: BTreeMap<(String, Id, u32), bool>,
    /// Failing messages that came back to a client for the last time, alive or dead.
    pub ended: BTreeSet<(usize, Id)>,
    pub transactions: BTreeMap<Id, Transaction>,
    /// What a SYNC_MASTER showed before its producer had an answer, and while no slave had it.
    /// By machine and place: a resend may lie elsewhere.
    pub shown_alone: BTreeSet<(usize, Id, u64)>,
    /// What a SYNC_MASTER said is at a slave.
    pub replicated: Vec<Replicated>,
    /// Half messages that a client found among the discarded ones.
    pub discarded: BTreeSet<(usize, Id)>,
    pub acked: u64,
    pub reads: u64,
}

impl History {
    pub fn on_send(&mut self, topic: &str, queue: Option<u32>, size: usize) -> Id {
        let fate = Fate::Unknown;
        let topic = topic.into();
        let (properties, is_gone) = (None, false);
        self.sent.push(Sent {
            topic,
            queue,
            size,
            properties,
            fate,
            is_gone,
            copies_max: 1,
            level: 0,
            is_timed: false,
            fails: 0,
        });
        self.sent.len() as Id - 1
    }

    /// Errors: what is wrong with this answer.
    pub fn on_fate(&mut self, id: Id, fate: Fate) -> Result<(), String> {
        let Some(sent) = self.sent.get_mut(id as usize) else {
            return Err(format!("an answer for message {id}, which was never sent"));
        };
        if sent.fate != Fate::Unknown {
            return Err(format!("message {id} was answered twice: {:?}, {fate:?}", sent.fate));
        }
        sent.fate = fate;
        self.acked += u64::from(matches!(fate, Fate::Acked { .. }));
        Ok(())
    }

    /// Somebody asks for the end of a topic: nothing is promised about its messages any more.
    pub fn on_delete(&mut self, topic: &str) {
        self.seen.retain(|slot, _| slot.1 != topic);
        self.sent.iter_mut().filter(|sent| sent.topic == topic).for_each(|s| s.is_gone = true);
        let (topic, first) = (topic.to_owned(), self.sent.len() as Id);
        self.deletions.push(Deletion { topic, first, is_done: false });
    }

    pub fn on_deleted(&mut self, topic: &str) {
        let asked = self.deletions.iter_mut().rfind(|d| d.topic == topic);
        asked.expect("it was asked for").is_done = true;
    }

    /// The topic whose deletion was asked for and not answered.
    pub fn pending_deletion(&self) -> Option<String> {
        self.deletions.iter().find(|d| !d.is_done).map(|d| d.topic.clone())
    }

    pub fn on_commit_asked(&mut self, key: &Reading, at: u64) {
        let commits = self.commits.entry(key.clone()).or_default();
        commits.asked_max = commits.asked_max.max(at);
    }

    pub fn on_commit_acked(&mut self, key: &Reading, at: u64, now_us: u64) {
        let commits = self.commits.entry(key.clone()).or_default();
        // A group that goes back starts anew: what it had committed further on is void.
        commits.acked.retain(|(_, before)| *before <= at);
        commits.acked.push((now_us, at));
    }

    /// A broker says where the group is. `crashes` are the moments at which it died; a commit
    /// this near before one may be forgotten. Units: microseconds.
    /// Errors: an offset nobody committed, or one that a crash may not take back was lost.
    pub fn on_committed(
        &mut self,
        key: &Reading,
        at: u64,
        crashes: &[u64],
        near_us: u64,
    ) -> Result<(), String> {
        let Some(commits) = self.commits.get(key) else {
            if at == 0 {
                return Ok(());
            }
            return Err(format!("the broker has offset {at} for {key:?}, nobody committed"));
        };
        if at > commits.asked_max {
            let asked = commits.asked_max;
            return Err(format!(
                "the broker has offset {at} for {key:?}, at most {asked} was asked"
            ));
        }
        let may_forget = |us: u64| crashes.iter().any(|c| *c >= us && *c - us < near_us);
        let kept = commits.acked.iter().filter(|(us, _)| !may_forget(*us));
        match kept.max_by_key(|(_, offset)| *offset) {
            Some((us, offset)) if at < *offset => Err(format!(
                "offset {offset} of {key:?} was committed at {:.3} s, the broker has {at}",
                *us as f64 / 1e6
            )),
            _ => Ok(()),
        }
    }

    /// Errors: the place gave another message before.
    pub fn on_read(&mut self, slot: Slot, seen: Seen) -> Result<(), String> {
        self.reads += 1;
        match self.seen.get(&slot) {
            Some(before) if before.id != seen.id => Err(format!(
                "{}/{} at {} on machine {} gave message {} and later message {}",
                slot.1, slot.2, slot.3, slot.0, before.id, seen.id
            )),
            Some(_) => Ok(()),
            None => {
                self.seen.insert(slot, seen);
                Ok(())
            }
        }
    }
}

/// The body of a message follows from its number and size.
pub fn body(id: Id, size: usize) -> Vec<u8> {
    let mut dice = hotfire::rt::rng::Rng::from_seed(id ^ 0xb0d1e5);
    let mut bytes = vec![0u8; size];
    match id % 4 {
        // Zeros: what a lost sector looks like.
        0 if size > 8 => bytes[..8].copy_from_slice(&dice.next_u64().to_be_bytes()),
        // The head of a record inside a body must not be taken for one.
        1 if size > 12 => {
            for (n, chunk) in bytes.chunks_mut(8).enumerate() {
                let head = if n % 2 == 0 { 0x0000_005b_daa3_20a7 } else { 0x0000_0020_cbd4_3194 };
                let head: u64 = head;
                chunk.copy_from_slice(&head.to_be_bytes()[..chunk.len()]);
            }
        }
        _ => {
            for chunk in bytes.chunks_mut(8) {
                chunk.copy_from_slice(&dice.next_u64().to_be_bytes()[..chunk.len()]);
            }
        }
    }
    bytes
}

/// The properties of a message, as it is stored. One of them is padding, up to `padding_max`.
pub fn properties(id: Id, padding_max: u64) -> Vec<u8> {
    let keys = keys(id);
    let (tag, unique, more) = (id % 3, &keys[0], keys[1..].join("  "));
    let mut text = format!(
        "TAGS\u{1}t{tag}\u{2}KEYS\u{1}{more}\u{2}SIM\u{1}{id:05}\u{2}UNIQ_KEY\u{1}{unique}"
    )
    .into_bytes();
    if padding_max > 0 {
        let mut dice = hotfire::rt::rng::Rng::from_seed(id ^ 0x9add);
        let size = dice.below(padding_max + 1) as usize;
        text.extend_from_slice(b"\x02PAD\x01");
        text.resize(text.len() + size, b'p');
    }
    text
}

/// Keys that many messages have; two of them have one hash.
pub const SHARED_KEYS: [&str; 4] = ["Aa", "BB", "shared", "\u{e9}\u{1f525}"];

/// The keys of a message: its unique one, its own, a shared one.
pub fn keys(id: Id) -> Vec<String> {
    let shared = SHARED_KEYS[(id % 4) as usize].to_owned();
    vec![format!("{:032X}", id.wrapping_mul(0x9E37_79B9_7F4A_7C15)), format!("own-{id}"), shared]
}

/// The number in a stored message's properties.
pub fn id_in(properties: &[u8]) -> Option<Id> {
    let text = std::str::from_utf8(properties).ok()?;
    text.split('\u{2}').find_map(|item| item.strip_prefix("SIM\u{1}"))?.parse().ok()
}
