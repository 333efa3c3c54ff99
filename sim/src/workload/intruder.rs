//! A second process on a live store's directory: it must be refused and must touch nothing.

use crate::oracle::court::{Court, ROOT};
use crate::trace;
use hotfire::rt::rng::Rng;
use hotfire::rt::sim::mark;
use hotfire::rt::task::TaskGroup;
use hotfire::store::{Arrival, Error, Options, Outcome, Store, StoreEvents, Ticket};
use std::sync::Arc;
use std::sync::atomic::Ordering;

struct Nobody;

impl StoreEvents for Nobody {
    fn on_outcomes(&self, outcomes: &mut Vec<(Ticket, Outcome)>) {
        outcomes.clear();
    }
    fn on_arrivals(&self, _: &[Arrival]) {}
    fn on_poison(&self, _: &str) {}
}

/// Starts it beside the process that holds the store; does nothing when none does.
pub fn start(court: &Court, machine: usize) {
    let world = court.world();
    if !world.is_up(machine) || !court.is_open(machine, world.generation(machine)) {
        return;
    }
    let m = &world.machines()[machine];
    let (disk, changes) = m.disk.watched_process();
    let options = Options::swarm(ROOT, &mut Rng::from_seed(m.plan.swarm));
    let (clock, name, court) = (m.clock.clone(), m.plan.name.clone(), court.clone());
    let Some(node) = world.handle().get_node(m.node) else { return };
    node.spawn(async move {
        let group = TaskGroup::new();
        let opened = Store::open(disk, clock, &group, options, Arc::new(Nobody)).await;
        let changes = changes.load(Ordering::Relaxed);
        let verdict = match opened {
            Ok(_) => Err("a second process opened a store that is held".to_owned()),
            Err(Error::Locked { .. }) if changes == 0 => {
                mark("store: a second owner was refused");
                trace::tell(&name, format_args!("a second process was refused"));
                Ok(())
            }
            Err(e) => Err(format!("a second process made {changes} changes before: {e}")),
        };
        court.check("one_owner", verdict);
    });
}
