//! What is under way between the machines, and what happens when it arrives.

use super::dial::FIRST_EPHEMERAL_PORT;
use bytes::BytesMut;
use hotfire::rt::rng::Rng;
use hotfire::rt::sim::mark;
use hotfire::rt::time::{Duration, Mono};
use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::task::Waker;

/// One way from one machine to another.
#[derive(Clone, Debug)]
pub struct Link {
    /// Least and most. Units: microseconds.
    pub latency_us: (u64, u64),
    /// Chance of each segment to be lost.
    pub loss: f64,
    pub is_clogged: bool,
}

impl Default for Link {
    fn default() -> Self {
        Link { latency_us: (200, 3_000), loss: 0.0, is_clogged: false }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub connections: u64,
    pub segments: u64,
    pub bytes: u64,
    pub resends: u64,
    pub resets: u64,
    pub refused: u64,
    pub dial_timeouts: u64,
}

/// What became of the dials from one machine to a port of another. Units: microseconds of virtual
/// time.
#[derive(Clone, Debug, Default)]
pub struct Line {
    /// One of the three hops of the last one was lost.
    pub lost_us: Option<u64>,
    /// When each was taken, or refused.
    pub answered_us: Vec<u64>,
    /// The last that was taken.
    pub taken_us: Option<u64>,
}

pub(super) struct Machine {
    pub name: String,
    pub ip: IpAddr,
    pub is_on: bool,
    /// Counts the deaths of its processes.
    pub epoch: u64,
    pub next_port: u16,
}

#[derive(Default)]
pub(super) struct Listener {
    pub arrived: VecDeque<(u64, SocketAddr)>,
    pub waker: Option<Waker>,
}

pub(super) enum Segment {
    Data(BytesMut),
    Fin,
    Rst,
}

/// One direction of a connection.
#[derive(Default)]
pub(super) struct Pipe {
    pub under_way: VecDeque<(Mono, Segment)>,
    pub under_way_size: usize,
    pub last_arrival: Mono,
    pub received: BytesMut,
    pub is_finished: bool,
    pub fin_received: bool,
    pub is_scheduled: bool,
    pub resends: u32,
    pub reader: Option<Waker>,
    pub writer: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum EndState {
    Open,
    /// The process closed it or died; its kernel still sends what was written.
    Closed,
    /// The machine lost power: nothing is known of it any more.
    Vanished,
}

pub(super) struct End {
    pub machine: usize,
    pub addr: SocketAddr,
    pub state: EndState,
    pub error: Option<ErrorKind>,
}

/// Pipe `n` leads from end `n` to the other.
pub(super) struct Connection {
    pub ends: [End; 2],
    pub pipes: [Pipe; 2],
}

pub(super) struct Dial {
    pub from: usize,
    pub to: usize,
    pub local: SocketAddr,
    pub target: SocketAddr,
    pub tries: u32,
    pub outcome: Option<Result<u64, ErrorKind>>,
    pub waker: Option<Waker>,
}

#[derive(Clone, Copy)]
pub(super) enum Event {
    /// The head of a pipe arrives.
    Deliver {
        connection: u64,
        from: usize,
    },
    /// The far machine says that it does not know the connection.
    ResetBack {
        connection: u64,
        to: usize,
    },
    Syn {
        dial: u64,
    },
    SynAnswer {
        dial: u64,
        is_refused: bool,
    },
    SynAgain {
        dial: u64,
    },
    DialTimeout {
        dial: u64,
    },
}

pub struct Wire {
    pub(super) dice: Rng,
    pub(super) next_id: u64,
    pub(super) events: BTreeMap<(Mono, u64), Event>,
    pub(super) machines: Vec<Machine>,
    pub(super) links: BTreeMap<(usize, usize), Link>,
    pub(super) default_link: Link,
    pub(super) listeners: BTreeMap<(usize, u16), Listener>,
    pub(super) dials: BTreeMap<u64, Dial>,
    /// From, to, port.
    pub(super) lines: BTreeMap<(usize, usize, u16), Line>,
    pub(super) connections: BTreeMap<u64, Connection>,
    pub(super) woken: Vec<Waker>,
    pub(super) stats: Stats,
}

/// The machines and their links.
impl Wire {
    pub fn new(dice: Rng) -> Wire {
        Wire {
            dice,
            next_id: 1,
            events: BTreeMap::new(),
            machines: Vec::new(),
            links: BTreeMap::new(),
            default_link: Link::default(),
            listeners: BTreeMap::new(),
            dials: BTreeMap::new(),
            lines: BTreeMap::new(),
            connections: BTreeMap::new(),
            woken: Vec::new(),
            stats: Stats::default(),
        }
    }

    pub fn add_machine(&mut self, name: &str, ip: IpAddr) -> usize {
        let next_port = FIRST_EPHEMERAL_PORT;
        self.machines.push(Machine { name: name.to_owned(), ip, is_on: true, epoch: 0, next_port });
        self.machines.len() - 1
    }

    pub fn epoch(&self, machine: usize) -> u64 {
        self.machines[machine].epoch
    }

    pub fn stats(&self) -> Stats {
        self.stats
    }

    pub fn link_mut(&mut self, from: usize, to: usize) -> &mut Link {
        let link = self.default_link.clone();
        self.links.entry((from, to)).or_insert(link)
    }

    pub fn change_all_links(&mut self, change: impl Fn(&mut Link)) {
        change(&mut self.default_link);
        self.links.values_mut().for_each(change);
    }

    pub fn line(&self, from: usize, to: usize, port: u16) -> Line {
        self.lines.get(&(from, to, port)).cloned().unwrap_or_default()
    }

    pub fn take_woken(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.woken)
    }

    pub fn next_event(&self) -> Option<Mono> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    pub fn shutdown(&mut self) {
        self.events.clear();
        self.dials.clear();
        self.connections.clear();
        self.listeners.clear();
    }

    /// The machine that a name, an address or a loopback address means to `from`.
    pub fn machine_at(&self, from: usize, host: &str) -> Option<usize> {
        match host.parse::<IpAddr>() {
            Ok(ip) if ip.is_loopback() => Some(from),
            Ok(ip) => self.machines.iter().position(|machine| machine.ip == ip),
            Err(_) => self.machines.iter().position(|machine| machine.name == host),
        }
    }

    pub(super) fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(super) fn schedule(&mut self, at: Mono, event: Event) {
        let id = self.id();
        self.events.insert((at, id), event);
    }

    fn link(&self, from: usize, to: usize) -> &Link {
        self.links.get(&(from, to)).unwrap_or(&self.default_link)
    }

    pub(super) fn latency(&mut self, from: usize, to: usize) -> Duration {
        if from == to {
            return Duration::ZERO;
        }
        let (least, most) = self.link(from, to).latency_us;
        Duration::from_micros(self.dice.between(least, most.max(least)))
    }

    /// Whether the far machine can hear at all; loss is drawn apart.
    pub(super) fn reaches(&self, from: usize, to: usize) -> bool {
        self.machines[to].is_on && (from == to || !self.link(from, to).is_clogged)
    }

    pub(super) fn is_lost(&mut self, from: usize, to: usize) -> bool {
        let loss = if from == to { 0.0 } else { self.link(from, to).loss };
        let is_lost = loss > 0.0 && self.dice.chance(loss);
        self.stats.resends += u64::from(is_lost);
        is_lost
    }

    pub fn run_due(&mut self, now: Mono) {
        while let Some(next) = self.events.first_entry() {
            if next.key().0 > now {
                break;
            }
            match next.remove() {
                Event::Deliver { connection, from } => self.deliver(connection, from, now),
                Event::ResetBack { connection, to } => {
                    mark("net: a half-open connection was reset");
                    self.fail(connection, to, ErrorKind::ConnectionReset);
                    self.reap(connection);
                }
                Event::Syn { dial } => self.on_syn(dial, now),
                Event::SynAnswer { dial, is_refused } => self.on_syn_answer(dial, is_refused),
                Event::SynAgain { dial } => self.send_syn(dial, now),
                Event::DialTimeout { dial } => {
                    if self.dials.get(&dial).is_some_and(|dial| dial.outcome.is_none()) {
                        self.stats.dial_timeouts += 1;
                        mark("net: a dial timed out");
                        self.end_dial(dial, Err(ErrorKind::TimedOut));
                    }
                }
            }
        }
    }
}

/// Faults of machines.
impl Wire {
    pub fn process_crash(&mut self, machine: usize, now: Mono) {
        self.machines[machine].epoch += 1;
        self.forget_sockets(machine, now);
        for id in self.connections_of(machine) {
            for end in 0..2 {
                // Closing one end may have ended the whole connection.
                let Some(connection) = self.connections.get(&id) else { break };
                let is_ours = connection.ends[end].machine == machine;
                if is_ours && connection.ends[end].state == EndState::Open {
                    let by_reset = self.dice.chance(0.5);
                    self.close(id, end, by_reset, now);
                }
            }
        }
    }

    pub fn power_loss(&mut self, machine: usize, now: Mono) {
        self.machines[machine].epoch += 1;
        self.machines[machine].is_on = false;
        for id in self.connections_of(machine) {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            for n in 0..2 {
                if connection.ends[n].machine == machine {
                    connection.ends[n].state = EndState::Vanished;
                    // What is on the wire arrives; what had to be sent again never will.
                    if connection.pipes[n].resends > 0 {
                        connection.pipes[n].under_way.clear();
                        connection.pipes[n].under_way_size = 0;
                    }
                }
            }
            self.reap(id);
        }
        self.forget_sockets(machine, now);
    }

    pub fn power_on(&mut self, machine: usize) {
        self.machines[machine].is_on = true;
    }

    /// Listening ports and dials of a process that is gone.
    fn forget_sockets(&mut self, machine: usize, now: Mono) {
        let ports: Vec<u16> = self
            .listeners
            .range((machine, 0)..=(machine, u16::MAX))
            .map(|(key, _)| key.1)
            .collect();
        for port in ports {
            self.unlisten(machine, port, now);
        }
        self.dials.retain(|_, dial| dial.from != machine);
    }

    fn connections_of(&self, machine: usize) -> Vec<u64> {
        let has = |c: &Connection| c.ends.iter().any(|end| end.machine == machine);
        self.connections.iter().filter(|(_, c)| has(c)).map(|(id, _)| *id).collect()
    }
}
