//! The loop: connections, slots, time.

use super::{clock, cpu};
use crate::cli::Failure;
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::OwnedFd;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// Units: bytes of one read.
const READ_SIZE: usize = 256 * 1024;
/// The loop looks at the clock at least so often. Units: ns.
const TURN_MAX: u64 = 50_000_000;
/// How long answers may keep coming after the end. Units: ns.
const DRAIN_MAX: u64 = 5_000_000_000;

/// What goes out and what comes back.
pub trait Work {
    /// Appends the request in slot `id`, which belongs to connection `line`. Ids count through
    /// all connections. `begun` is when it should have begun.
    fn write(&mut self, line: usize, id: u32, begun: u64, out: &mut Vec<u8>);

    /// Reads a reply's whole frame.
    fn read(&mut self, line: usize, frame: &[u8], now: u64) -> Result<Done, String>;

    /// Whether requests of this connection begin by the clock, when there is a rate.
    fn is_paced(&self, _line: usize) -> bool {
        true
    }

    /// Whether a slot of a connection has requests at all.
    fn is_used(&self, _line: usize, _id: u32) -> bool {
        true
    }

    /// Latencies that the work itself has measured, instead of those of its requests.
    fn latency(&mut self) -> Option<&mut Histogram<u64>> {
        None
    }
}

/// What a reply means.
pub struct Done {
    pub id: u32,
    pub messages: u64,
    /// Units: bytes of bodies.
    pub size: u64,
    pub failure: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub addr: SocketAddr,
    pub connections: usize,
    pub in_flight: u32,
    /// Units: ns.
    pub warmup: u64,
    /// Units: ns.
    pub duration: u64,
    pub count: Option<u64>,
    pub rate: Option<f64>,
    pub pids: Vec<u32>,
}

pub struct Outcome {
    pub requests: u64,
    pub messages: u64,
    pub size: u64,
    pub failed: u64,
    pub failure: Option<String>,
    /// Units: ns.
    pub elapsed: u64,
    /// Units: seconds of the processes `pids` together.
    pub cpu: Option<f64>,
    /// Units: ns.
    pub latency: Histogram<u64>,
}

struct Line {
    stream: TcpStream,
    input: Vec<u8>,
    filled: usize,
    out: Vec<u8>,
    sent: usize,
    waits_to_write: bool,
}

struct Engine<'a, W> {
    plan: &'a Plan,
    work: &'a mut W,
    poll: OwnedFd,
    lines: Vec<Line>,
    /// When the request in each slot should have begun.
    begun: Vec<u64>,
    /// Slots whose next request waits for its time.
    free: VecDeque<u32>,
    next_due: f64,
    issued: u64,
    outstanding: u64,
    is_ending: bool,
    outcome: Outcome,
}

/// Units: ns, 1 us to 5 min with three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 300_000_000_000, 3).expect("the bounds are in order")
}

/// Runs the plan. Errors: no connection, a connection ends, a process of `pids` is not there.
pub fn run(plan: &Plan, work: &mut impl Work, bar: &ProgressBar) -> Result<Outcome, Failure> {
    let refused = |e: io::Error| Failure::new(Failure::REFUSED, format!("{}: {e}", plan.addr));
    let mut engine = Engine::connect(plan, work).map_err(refused)?;
    engine.fill(clock::now());
    let begin = clock::now() + plan.warmup;
    engine.turn_until(begin, bar).map_err(refused)?;
    engine.reset();
    let cpu = cpu::seconds_of_all(&plan.pids)?;
    let begin = clock::now();
    engine.turn_until(begin + plan.duration, bar).map_err(refused)?;
    engine.outcome.elapsed = clock::now() - begin;
    let cpu_after = cpu::seconds_of_all(&plan.pids)?;
    engine.outcome.cpu = cpu.zip(cpu_after).map(|(before, after)| after - before);
    let mut outcome = std::mem::replace(&mut engine.outcome, new_outcome());
    if let Some(latency) = engine.work.latency() {
        outcome.latency = latency.clone();
    }
    engine.is_ending = true;
    engine.free.clear();
    let _ = engine.turn_until(clock::now() + DRAIN_MAX, bar);
    Ok(outcome)
}

fn new_outcome() -> Outcome {
    Outcome {
        requests: 0,
        messages: 0,
        size: 0,
        failed: 0,
        failure: None,
        elapsed: 0,
        cpu: None,
        latency: histogram(),
    }
}

impl<'a, W: Work> Engine<'a, W> {
    fn connect(plan: &'a Plan, work: &'a mut W) -> io::Result<Self> {
        let poll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut lines = Vec::with_capacity(plan.connections);
        for at in 0..plan.connections {
            let stream = TcpStream::connect(plan.addr)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(&poll, &stream, EventData::new_u64(at as u64), EventFlags::IN)?;
            lines.push(Line {
                stream,
                input: vec![0; READ_SIZE],
                filled: 0,
                out: Vec::new(),
                sent: 0,
                waits_to_write: false,
            });
        }
        let slots = plan.connections * plan.in_flight as usize;
        Ok(Engine {
            plan,
            work,
            poll,
            lines,
            begun: vec![0; slots],
            free: VecDeque::new(),
            next_due: clock::now() as f64,
            issued: 0,
            outstanding: 0,
            is_ending: false,
            outcome: new_outcome(),
        })
    }

    fn line_of(&self, id: u32) -> usize {
        (id / self.plan.in_flight) as usize
    }

    fn is_paced(&self, line: usize) -> bool {
        self.plan.rate.is_some() && self.work.is_paced(line)
    }

    /// Gives every slot its first request, or its place in the queue for one.
    fn fill(&mut self, now: u64) {
        // Slot by slot over all connections, so that a slow start is spread.
        for slot in 0..self.plan.in_flight {
            for line in 0..self.plan.connections {
                let id = line as u32 * self.plan.in_flight + slot;
                if !self.work.is_used(line, id) {
                    continue;
                }
                if self.is_paced(line) { self.free.push_back(id) } else { self.issue(id, now) }
            }
        }
    }

    fn issue(&mut self, id: u32, begun: u64) {
        let line = self.line_of(id);
        self.begun[id as usize] = begun;
        self.work.write(line, id, begun, &mut self.lines[line].out);
        self.issued += 1;
        self.outstanding += 1;
    }

    fn reset(&mut self) {
        self.outcome = new_outcome();
        self.issued = 0;
        if let Some(latency) = self.work.latency() {
            latency.reset();
        }
    }

    fn is_done(&self) -> bool {
        let is_counted_out = self.plan.count.is_some_and(|count| self.outcome.requests >= count);
        (self.is_ending && self.outstanding == 0) || is_counted_out
    }

    /// Turns until the time has come, or everything asked for is done.
    fn turn_until(&mut self, end: u64, bar: &ProgressBar) -> io::Result<()> {
        let mut events =
            [epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 256];
        for at in 0..self.lines.len() {
            self.flush(at)?;
        }
        let mut shown = clock::now();
        loop {
            let now = clock::now();
            if now >= end || self.is_done() {
                return Ok(());
            }
            if now - shown > TURN_MAX {
                bar.set_position(bar.position() + (now - shown) / 1_000_000);
                shown = now;
            }
            let wait = self.begin_due(now)?.min(end - now).min(TURN_MAX);
            let timeout = rustix::time::Timespec { tv_sec: 0, tv_nsec: wait as _ };
            let count = match epoll::wait(&self.poll, &mut events[..], Some(&timeout)) {
                Ok(count) => count,
                Err(rustix::io::Errno::INTR) => 0,
                Err(e) => return Err(e.into()),
            };
            for event in &events[..count] {
                let (at, flags) = (event.data.u64() as usize, event.flags);
                if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                    self.receive(at)?;
                }
                self.flush(at)?;
            }
        }
    }

    /// Begins what is due. Gives the time to the next one. Units: ns.
    fn begin_due(&mut self, now: u64) -> io::Result<u64> {
        let Some(rate) = self.plan.rate.filter(|_| !self.is_ending) else { return Ok(u64::MAX) };
        let interval = 1e9 / rate;
        let mut touched = Vec::new();
        while self.next_due <= now as f64 {
            let Some(id) = self.free.pop_front() else { break };
            self.issue(id, self.next_due as u64);
            self.next_due += interval;
            touched.push(self.line_of(id));
        }
        touched.sort_unstable();
        touched.dedup();
        for at in touched {
            self.flush(at)?;
        }
        // What is overdue waits for a free slot, not for the clock.
        Ok(if self.next_due > now as f64 { (self.next_due - now as f64) as u64 } else { u64::MAX })
    }

    fn receive(&mut self, at: usize) -> io::Result<()> {
        let line = &mut self.lines[at];
        if line.filled == line.input.len() {
            line.input.resize(line.filled * 2, 0);
        }
        match line.stream.read(&mut line.input[line.filled..]) {
            Ok(0) => return Err(io::Error::other("the server closed the connection")),
            Ok(size) => line.filled += size,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        }
        let now = clock::now();
        let input = std::mem::take(&mut line.input);
        let filled = line.filled;
        let mut from = 0;
        while let Some(size) = whole_frame(&input[from..filled])? {
            self.on_reply(at, &input[from..from + size], now)?;
            from += size;
        }
        let line = &mut self.lines[at];
        line.input = input;
        line.input.copy_within(from..filled, 0);
        line.filled = filled - from;
        Ok(())
    }

    fn on_reply(&mut self, at: usize, frame: &[u8], now: u64) -> io::Result<()> {
        let done = self.work.read(at, frame, now).map_err(io::Error::other)?;
        let Some(begun) = self.begun.get(done.id as usize).copied() else {
            return Err(io::Error::other(format!("a reply to request {}, never sent", done.id)));
        };
        self.outstanding = self.outstanding.saturating_sub(1);
        self.outcome.requests += 1;
        self.outcome.messages += done.messages;
        self.outcome.size += done.size;
        self.outcome.latency.saturating_record(now - begun);
        if let Some(failure) = done.failure {
            self.outcome.failed += 1;
            self.outcome.failure.get_or_insert(failure);
        }
        if self.is_paced(at) {
            self.free.push_back(done.id);
        } else if !self.is_ending {
            self.issue(done.id, now);
        }
        Ok(())
    }

    fn flush(&mut self, at: usize) -> io::Result<()> {
        let line = &mut self.lines[at];
        while line.sent < line.out.len() {
            match line.stream.write(&line.out[line.sent..]) {
                Ok(size) => line.sent += size,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        let is_empty = line.sent == line.out.len();
        if is_empty {
            line.out.clear();
            line.sent = 0;
        }
        if line.waits_to_write == is_empty {
            line.waits_to_write = !is_empty;
            let flags = if is_empty { EventFlags::IN } else { EventFlags::IN | EventFlags::OUT };
            epoll::modify(&self.poll, &line.stream, EventData::new_u64(at as u64), flags)?;
        }
        Ok(())
    }
}

fn whole_frame(bytes: &[u8]) -> io::Result<Option<usize>> {
    let Some(length) = bytes.first_chunk::<4>() else { return Ok(None) };
    let size = 4 + u32::from_be_bytes(*length) as usize;
    if !(8..=crate::protocol::frame::FRAME_SIZE_MAX).contains(&size) {
        return Err(io::Error::other(format!("a reply of {size} bytes")));
    }
    Ok((bytes.len() >= size).then_some(size))
}
