//! The event log of one seed: a hash over every event, and the last events of each node.
//!
//! Every seed runs on a thread of its own, so the log is a thread-local. The hash covers virtual
//! time, node and text of every event, and at the end one more throw of the runtime's dice: two
//! runs with equal hashes threw equally often.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

/// How many events of each node a failure shows.
const KEPT_PER_NODE: usize = 14;

#[derive(Default)]
struct Log {
    hash: Hash,
    events: u64,
    kept: BTreeMap<String, VecDeque<String>>,
    /// The moments worth telling, for the story: faults, crashes, recoveries, acks near them.
    told: Vec<String>,
    print: bool,
    line: String,
}

thread_local! {
    static LOG: RefCell<Log> = RefCell::default();
}

/// FNV-1a over bytes; cheap, and the same everywhere.
#[derive(Clone, Copy)]
struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Hash(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    fn update(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.0 = (self.0 ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// Starts the log of a new seed on this thread.
pub fn start(print: bool) {
    LOG.with_borrow_mut(|log| *log = Log { print, ..Log::default() });
    // The subscriber is per thread and lives as long as the thread.
    std::mem::forget(tracing::subscriber::set_default(Product));
}

/// Units: microseconds of virtual time since the start of the seed.
pub fn now_us() -> u64 {
    match madsim::time::TimeHandle::try_current() {
        Some(time) => time.elapsed().as_micros() as u64,
        None => 0,
    }
}

/// Writes one event.
pub fn event(node: &str, what: std::fmt::Arguments<'_>) {
    let us = now_us();
    LOG.with_borrow_mut(|log| {
        let mut line = std::mem::take(&mut log.line);
        line.clear();
        // Writing into a String cannot fail.
        let _ = write!(line, "{:>6}.{:06} {node} {what}", us / 1_000_000, us % 1_000_000);
        log.hash.update(line.as_bytes());
        log.events += 1;
        if log.print {
            println!("{line}");
        }
        match log.kept.get_mut(node) {
            Some(kept) => {
                let mut slot = if kept.len() == KEPT_PER_NODE {
                    kept.pop_front().unwrap_or_default()
                } else {
                    String::new()
                };
                slot.clear();
                slot.push_str(&line);
                kept.push_back(slot);
            }
            None => {
                log.kept.insert(node.into(), VecDeque::from([line.clone()]));
            }
        }
        log.line = line;
    });
}

/// An event that belongs into the story of a failure.
pub fn tell(node: &str, what: std::fmt::Arguments<'_>) {
    event(node, what);
    LOG.with_borrow_mut(|log| {
        let line = log.line.clone();
        log.told.push(line);
    });
}

/// What a finished seed leaves behind.
pub struct Finished {
    pub hash: u64,
    pub events: u64,
    pub kept: BTreeMap<String, VecDeque<String>>,
    pub told: Vec<String>,
}

/// Ends the log; `unseed` is one more throw of the runtime's dice.
pub fn finish(unseed: u64, virtual_us: u64) -> Finished {
    LOG.with_borrow_mut(|log| {
        let mut log = std::mem::take(log);
        log.hash.update(&unseed.to_le_bytes());
        log.hash.update(&virtual_us.to_le_bytes());
        Finished { hash: log.hash.0, events: log.events, kept: log.kept, told: log.told }
    })
}

/// Puts the product's own `tracing` events into the log of the seed.
struct Product;

impl tracing::Subscriber for Product {
    fn enabled(&self, meta: &tracing::Metadata<'_>) -> bool {
        *meta.level() <= tracing::Level::INFO && meta.target().starts_with("hotfire")
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, product: &tracing::Event<'_>) {
        let mut text = Text(String::new());
        product.record(&mut text);
        let level = product.metadata().level();
        event(&crate::world::node_name(), format_args!("{level}{}", text.0));
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

struct Text(String);

impl tracing::field::Visit for Text {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        // Writing into a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
