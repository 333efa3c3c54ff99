//! What operators do: they stop masters, lose them, and make slaves their successors.

use super::ReignHouse;
use crate::oracle::court::ROOT;
use crate::plan::Role;
use crate::plan::turn::{Loss, Turn};
use crate::trace;
use crate::world::World;
use hotfire::rt::sim::mark;
use hotfire::rt::time::Duration;

/// A clean stop takes no longer.
const STOP: Duration = Duration::from_secs(5);

/// How often somebody is told to be master at the end: each may say that another is.
const APPOINTMENTS: usize = 8;

/// A broker that starts has opened its ports by then: a master may wait for slaves.
const START: Duration = Duration::from_secs(20);

impl ReignHouse {
    /// Carries out the plan's turns.
    pub async fn take_turns(&self) {
        for turn in &self.plan().turns {
            madsim::time::sleep(Duration::from_millis(turn.load_ms)).await;
            if self.court().world().violation().is_some() {
                return;
            }
            self.take(turn).await;
        }
    }

    async fn take(&self, turn: &Turn) {
        let world = self.court().world().clone();
        let old = self.0.desk.lock().master;
        let name = &self.plan().machines[old].name;
        // Nobody takes over from a master that it has not followed, as the manual says.
        let epochs = self.epochs(old);
        let is_alone = self.followers(old, &epochs).is_empty();
        let loss = if is_alone && turn.loss == Loss::Disk { Loss::Kill } else { turn.loss };
        trace::tell("operator", format_args!("{name}: {loss:?}"));
        self.lose(&world, old, loss).await;
        madsim::time::sleep(Duration::from_millis(turn.down_ms)).await;
        // A slave that came while it stopped may have what nobody else has.
        let heirs = self.followers(old, &epochs);
        trace::tell("operator", format_args!("{} may take over", heirs.len()));
        if turn.promotes && !heirs.is_empty() {
            self.promote(&world, &heirs, old, turn.returns_as_master).await;
            madsim::time::sleep(Duration::from_millis(turn.away_ms)).await;
        }
        self.isolate(&world, old, false);
        if loss == Loss::Disk {
            // Nobody starts a master without a log while those that may have one are down.
            self.start_others(&world, old).await;
            world.bring_back(old);
        }
        if turn.name_servers_forget {
            mark("promotion: name servers forgot all brokers");
            for name_server in self.0.cluster.machines(Role::NameServer) {
                world.crash(name_server, false);
                world.start(name_server);
            }
        }
        world.start(old);
        self.until_open(&world, old).await;
    }

    /// Every broker but one runs. Returns them.
    async fn start_others(&self, world: &World, but: usize) -> Vec<usize> {
        let others: Vec<usize> = self.brokers().into_iter().filter(|n| *n != but).collect();
        for other in &others {
            world.start(*other);
            self.until_open(world, *other).await;
        }
        others
    }

    /// What `haStatus` says of a machine's epochs.
    fn epochs(&self, machine: usize) -> Option<Vec<u8>> {
        let disk = &self.court().world().machines()[machine].disk;
        disk.peek(&format!("{ROOT}/hotfire/epochs"))
    }

    /// Slaves that know of the master's newest epoch.
    fn followers(&self, master: usize, wanted: &Option<Vec<u8>>) -> Vec<usize> {
        let follows = |n: &usize| *n != master && wanted.is_some() && self.epochs(*n) == *wanted;
        self.brokers().into_iter().filter(follows).collect()
    }

    async fn lose(&self, world: &World, old: usize, loss: Loss) {
        match loss {
            Loss::Kill => world.crash(old, false),
            Loss::Power => world.crash(old, true),
            Loss::Stop => drop(world.stop(old, STOP).await),
            Loss::Isolated => self.isolate(world, old, true),
            Loss::Disk => {
                world.lose(old);
                world.machines()[old].disk.erase_tree("/data");
                let mut ledger = self.0.ledger.lock();
                ledger.disk_losses_us.entry(old).or_default().push(trace::now_us());
                mark("promotion: a master was lost with its disk");
            }
        }
    }

    /// Nothing passes between one machine and all others, or everything again.
    fn isolate(&self, world: &World, machine: usize, on: bool) {
        let mut ledger = self.0.ledger.lock();
        if on == ledger.isolated.contains(&machine) {
            return;
        }
        match on {
            true => drop(ledger.isolated.insert(machine)),
            false => drop(ledger.isolated.remove(&machine)),
        }
        ledger.alone_us.insert(machine, trace::now_us());
        drop(ledger);
        for other in (0..world.machines().len()).filter(|n| *n != machine) {
            world.clog(machine, other, on);
            world.clog(other, machine, on);
        }
    }

    /// Of those who may, the one with the longest log takes over, as the manual says.
    async fn promote(&self, world: &World, heirs: &[usize], old: usize, returns_as_master: bool) {
        let others = self.start_others(world, old).await;
        let longest = heirs.iter().copied().max_by_key(|n| self.court().log_end(*n));
        let Some(next) = longest else { return };
        trace::tell("operator", format_args!("machine {next} is to be master"));
        mark("promotion: a slave takes over");
        world.stop(next, STOP).await;
        {
            let mut desk = self.0.desk.lock();
            desk.master = next;
            desk.cards[next].is_master = true;
            desk.cards[old].is_master = returns_as_master;
        }
        world.start(next);
        self.until_open(world, next).await;
        // A slave that was told an address is told the new one.
        let is_told = |n: &usize| {
            let pair = self.plan().machines[*n].pair.as_ref();
            *n != next && pair.is_some_and(|pair| self.is_told(pair))
        };
        for other in others.iter().copied().filter(is_told) {
            world.stop(other, STOP).await;
            world.start(other);
        }
    }

    /// Somebody is to be master when all is over: who should be is started as one, until one is.
    pub(super) async fn appoint(&self) {
        let world = self.court().world().clone();
        let all = self.brokers();
        for turn in 0..APPOINTMENTS {
            // Who is refused may say that another is to be master: then all are tried in turn.
            if turn >= 2 {
                self.0.desk.lock().master = all[turn % all.len()];
            }
            let master = self.0.desk.lock().master;
            let open = self.0.ledger.lock().open.get(&master).copied();
            let is_master = open
                .is_some_and(|open| open.is_master && open.generation == world.generation(master));
            if is_master && world.is_up(master) {
                return;
            }
            self.0.desk.lock().cards[master].is_master = true;
            world.stop(master, STOP).await;
            world.start(master);
            self.until_open(&world, master).await;
            madsim::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn until_open(&self, world: &World, machine: usize) {
        let is_open = || {
            let open = self.0.ledger.lock().open.get(&machine).copied();
            world.is_up(machine)
                && open.is_some_and(|open| open.generation == world.generation(machine))
        };
        if self.within(START, is_open).await.is_err() {
            trace::tell("operator", format_args!("machine {machine} does not listen"));
        }
    }

    /// A broker says that another is master, and ends: it is told to be a slave.
    pub(super) fn on_fenced(&self, machine: usize) {
        mark("promotion: a replaced master ended");
        let ledger = self.0.ledger.lock();
        let heir = ledger.reigns.iter().rev().map(|reign| reign.machine).find(|n| *n != machine);
        drop(ledger);
        let mut desk = self.0.desk.lock();
        desk.cards[machine].is_master = false;
        if desk.master == machine
            && let Some(heir) = heir
        {
            trace::tell("operator", format_args!("machine {heir} stays master"));
            desk.master = heir;
            desk.cards[heir].is_master = true;
        }
    }
}
