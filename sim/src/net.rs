//! The network between simulated machines, as unkind as TCP over real links.
//!
//! * A stream has no write boundaries: segments merge, writes and reads are cut short by chance,
//!   and a writer stops at a window of 64 KiB.
//! * A link has latency and loss each way; a lost segment holds up all behind it. A link can be
//!   clogged one way only. Ends and resets travel like data, so a clogged link hides them.
//! * A process that dies closes its sockets: an end, or a reset. A machine that loses power says
//!   nothing: its peers are half-open until they write and the machine, back on, answers a reset.
//! * Connecting takes three hops; lost ones are tried again after 1, 2, 4 seconds.
//! * Handles belong to one process: after its death they do nothing, and its ports are free.
//!
//! Everything that is under way stands in one queue by time, and one task carries it: a quiet
//! network costs no polls. Its dice are its own, drawn from the seed.

mod dial;
mod pipe;
mod socket;
pub mod suite;
mod wire;

pub use wire::{Line, Link, Stats};

use hotfire::net::Net;
use hotfire::rt::rng::Rng;
use hotfire::rt::sync::{Mutex, Notify};
use hotfire::rt::task::TaskGroup;
use hotfire::rt::time::{Alarm, Clock, Mono};
use socket::MachineNet;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::Waker;
use wire::Wire;

/// The whole network of one run. Cloning shares it; the last handle ends its task.
#[derive(Clone)]
pub struct SimNet {
    shared: Arc<Shared>,
    _carrier: Arc<TaskGroup>,
}

struct Shared {
    wire: Mutex<Wire>,
    clock: Clock,
    /// Something is due earlier than the carrier knows.
    sooner: Notify,
    /// What the carrier waits for.
    armed: Mutex<Option<Mono>>,
}

impl SimNet {
    /// Call outside of all nodes: the network outlives them.
    pub fn new(dice: Rng) -> SimNet {
        let shared = Arc::new(Shared {
            wire: Mutex::new(Wire::new(dice)),
            clock: Clock::new(),
            sooner: Notify::new(),
            armed: Mutex::default(),
        });
        let carrier = TaskGroup::new();
        carrier.spawn(carry(shared.clone()));
        SimNet { shared, _carrier: Arc::new(carrier) }
    }

    /// Plugs a machine in, powered on. Its number is the count of those before it.
    pub fn add_machine(&self, name: &str, ip: IpAddr) -> usize {
        self.shared.wire.lock().add_machine(name, ip)
    }

    /// The network as the process that now starts on this machine sees it.
    pub fn process(&self, machine: usize) -> Arc<dyn Net> {
        let epoch = self.shared.wire.lock().epoch(machine);
        Arc::new(MachineNet { shared: self.shared.clone(), machine, epoch })
    }

    /// The kernel closes what the process left open. Call at every end of a process.
    pub fn process_crash(&self, machine: usize) {
        self.shared.act(|wire, now| wire.process_crash(machine, now));
    }

    /// The machine falls silent. Its process is dead too.
    pub fn power_loss(&self, machine: usize) {
        self.shared.act(|wire, now| wire.power_loss(machine, now));
    }

    /// The machine answers again: with resets, until a process listens.
    pub fn power_on(&self, machine: usize) {
        self.shared.act(|wire, _| wire.power_on(machine));
    }

    /// Lets nothing pass from one machine to another; the way back is a link of its own.
    pub fn clog(&self, from: usize, to: usize, on: bool) {
        self.set_link(from, to, |link| link.is_clogged = on);
    }

    pub fn set_link(&self, from: usize, to: usize, change: impl FnOnce(&mut Link)) {
        self.shared.act(|wire, _| change(wire.link_mut(from, to)));
    }

    /// Changes every link, also those nobody has used yet.
    pub fn set_all_links(&self, change: impl Fn(&mut Link)) {
        self.shared.act(|wire, _| wire.change_all_links(change));
    }

    /// Ends every disturbance: links as at the start.
    pub fn heal(&self) {
        self.set_all_links(|link| *link = Link::default());
    }

    pub fn stats(&self) -> Stats {
        self.shared.wire.lock().stats()
    }

    pub fn line(&self, from: usize, to: usize, port: u16) -> Line {
        self.shared.wire.lock().line(from, to, port)
    }

    /// Forgets everything under way: the end of a run.
    pub fn shutdown(&self) {
        self.shared.act(|wire, _| wire.shutdown());
    }
}

impl Shared {
    /// Runs one step on the wire, then wakes whom it concerns, outside the lock.
    pub fn act<T>(&self, step: impl FnOnce(&mut Wire, Mono) -> T) -> T {
        let now = self.clock.mono();
        let (value, woken, next) = {
            let mut wire = self.wire.lock();
            let value = step(&mut wire, now);
            (value, wire.take_woken(), wire.next_event())
        };
        woken.into_iter().for_each(Waker::wake);
        let armed = *self.armed.lock();
        if let Some(next) = next
            && armed.is_none_or(|armed| next < armed)
        {
            *self.armed.lock() = Some(next);
            self.sooner.notify_one();
        }
        value
    }
}

async fn carry(shared: Arc<Shared>) {
    let mut alarm = Alarm::new(&shared.clock);
    loop {
        let next = shared.wire.lock().next_event();
        *shared.armed.lock() = next;
        alarm.set(next);
        hotfire::rt::select! {
            _ = alarm.ring() => shared.act(|wire, now| wire.run_due(now)),
            _ = shared.sooner.notified() => {}
        }
    }
}
