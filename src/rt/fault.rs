//! Places where the simulator may interfere. All of them do nothing in production.

/// A crash point: a named place where the simulator may kill the process or cut the power.
#[cfg(not(madsim))]
pub async fn point(_name: &'static str) {}
#[cfg(madsim)]
pub async fn point(name: &'static str) {
    if super::sim::crash_here(name) {
        // The poll ends here; the executor drops the task.
        std::future::pending::<()>().await
    }
}

/// True when the simulator wants the rare branch taken at this place in this run.
#[cfg(not(madsim))]
pub fn buggify(_name: &'static str) -> bool {
    false
}
#[cfg(madsim)]
pub fn buggify(name: &'static str) -> bool {
    super::sim::buggify(name)
}

#[doc(hidden)]
#[cfg(not(madsim))]
pub fn probe(_name: &'static str) {}
#[doc(hidden)]
#[cfg(madsim)]
pub fn probe(name: &'static str) {
    super::sim::mark(name)
}

/// True when the named planted bug is switched on. Only `sim/planted/*.patch` call this.
#[cfg(madsim)]
pub fn planted(name: &str) -> bool {
    super::sim::planted(name)
}
