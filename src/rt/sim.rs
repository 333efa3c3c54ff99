//! What the simulator hangs on the runtime of one seed: probes, crash points, planted bugs.
//!
//! Every seed runs on a thread of its own, so thread-locals here are per seed, not per process.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// Decides whether the process that visits a crash point dies there. When it answers true it has
/// already asked the executor to kill the node.
pub type CrashHook = Box<dyn FnMut(&'static str) -> bool>;
/// Decides whether a buggify site fires.
pub type BuggifyHook = Box<dyn FnMut(&'static str) -> bool>;

#[derive(Default)]
struct Hooks {
    crash: Option<CrashHook>,
    buggify: Option<BuggifyHook>,
    planted: BTreeSet<String>,
    marks: BTreeMap<&'static str, u64>,
}

thread_local! {
    static HOOKS: RefCell<Hooks> = RefCell::default();
}

/// Installs the hooks of this seed. Call once, before the first node starts.
pub fn install(crash: CrashHook, buggify: BuggifyHook, planted: BTreeSet<String>) {
    HOOKS.with_borrow_mut(|h| {
        h.crash = Some(crash);
        h.buggify = Some(buggify);
        h.planted = planted;
    });
}

/// How often each probe was hit in this seed.
pub fn take_marks() -> BTreeMap<&'static str, u64> {
    HOOKS.with_borrow_mut(|h| std::mem::take(&mut h.marks))
}

/// Counts a probe. The simulator's own devices (disk, net) use it too.
pub fn mark(name: &'static str) {
    HOOKS.with_borrow_mut(|h| *h.marks.entry(name).or_default() += 1);
}

pub(super) fn crash_here(name: &'static str) -> bool {
    // The hook is taken out while it runs: it may come back here through a probe.
    let hook = HOOKS.with_borrow_mut(|h| h.crash.take());
    let Some(mut hook) = hook else { return false };
    let dies = hook(name);
    HOOKS.with_borrow_mut(|h| h.crash = Some(hook));
    dies
}

pub(super) fn buggify(name: &'static str) -> bool {
    let hook = HOOKS.with_borrow_mut(|h| h.buggify.take());
    let Some(mut hook) = hook else { return false };
    let fires = hook(name);
    HOOKS.with_borrow_mut(|h| h.buggify = Some(hook));
    fires
}

pub(super) fn planted(name: &str) -> bool {
    HOOKS.with_borrow(|h| h.planted.contains(name))
}
