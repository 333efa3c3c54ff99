//! Listening and connecting: three hops that can each be lost.

use super::wire::{Connection, Dial, End, EndState, Event, Listener, Wire};
use crate::trace;
use hotfire::rt::time::{Duration, Mono};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::task::Waker;

/// Connections that wait to be accepted; further ones are lost.
const BACKLOG_COUNT: usize = 128;
/// First pause before connecting is tried again; doubles.
const DIAL_AGAIN: Duration = Duration::from_secs(1);
const DIAL_COUNT_MAX: u32 = 6;
pub const FIRST_EPHEMERAL_PORT: u16 = 32_768;

impl Wire {
    /// Errors: `AddrInUse`; `AddrNotAvailable` for another machine's address.
    pub fn listen(&mut self, machine: usize, addr: SocketAddr) -> Result<SocketAddr, ErrorKind> {
        let (ip, mut port) = (addr.ip(), addr.port());
        if !ip.is_unspecified() && !ip.is_loopback() && ip != self.machines[machine].ip {
            return Err(ErrorKind::AddrNotAvailable);
        }
        if port == 0 {
            port = self.free_port(machine);
        }
        if self.listeners.contains_key(&(machine, port)) {
            return Err(ErrorKind::AddrInUse);
        }
        self.listeners.insert((machine, port), Listener::default());
        Ok(SocketAddr::new(ip, port))
    }

    /// Gives a port back; who was not accepted is reset.
    pub fn unlisten(&mut self, machine: usize, port: u16, now: Mono) {
        let Some(listener) = self.listeners.remove(&(machine, port)) else { return };
        for (id, _) in listener.arrived {
            self.close(id, 1, true, now);
        }
    }

    /// The next connection that arrived, with both its addresses: ours, theirs.
    pub fn accept(
        &mut self,
        machine: usize,
        port: u16,
        waker: &Waker,
    ) -> Option<(u64, SocketAddr, SocketAddr)> {
        let listener = self.listeners.get_mut(&(machine, port))?;
        while let Some((id, peer)) = listener.arrived.pop_front() {
            if let Some(connection) = self.connections.get(&id) {
                return Some((id, connection.ends[1].addr, peer));
            }
        }
        listener.waker = Some(waker.clone());
        None
    }

    pub fn dial(&mut self, from: usize, to: usize, port: u16, timeout: Duration, now: Mono) -> u64 {
        let id = self.id();
        let is_local = from == to;
        let near = if is_local { IpAddr::from([127, 0, 0, 1]) } else { self.machines[from].ip };
        let far = if is_local { near } else { self.machines[to].ip };
        let local = SocketAddr::new(near, self.free_port(from));
        let target = SocketAddr::new(far, port);
        let dial = Dial { from, to, local, target, tries: 0, outcome: None, waker: None };
        self.dials.insert(id, dial);
        self.schedule(now + timeout, Event::DialTimeout { dial: id });
        self.send_syn(id, now);
        id
    }

    /// The outcome of a dial, once: the connection with both addresses (ours, theirs).
    pub fn dialed(
        &mut self,
        id: u64,
        waker: &Waker,
    ) -> Option<Result<(u64, SocketAddr, SocketAddr), ErrorKind>> {
        let dial = self.dials.get_mut(&id)?;
        if dial.outcome.is_none() {
            dial.waker = Some(waker.clone());
            return None;
        }
        let dial = self.dials.remove(&id)?;
        let (local, target) = (dial.local, dial.target);
        dial.outcome.map(|outcome| outcome.map(|connection| (connection, local, target)))
    }

    /// The caller stopped waiting.
    pub fn abandon_dial(&mut self, id: u64, now: Mono) {
        if let Some(Dial { outcome: Some(Ok(connection)), .. }) = self.dials.remove(&id) {
            self.close(connection, 0, false, now);
        }
    }

    fn free_port(&mut self, machine: usize) -> u16 {
        loop {
            let port = self.machines[machine].next_port;
            let next = port.checked_add(1).unwrap_or(FIRST_EPHEMERAL_PORT);
            self.machines[machine].next_port = next;
            if !self.listeners.contains_key(&(machine, port)) {
                return port;
            }
        }
    }

    pub(super) fn send_syn(&mut self, id: u64, now: Mono) {
        let Some(dial) = self.dials.get_mut(&id) else { return };
        if dial.outcome.is_some() {
            return;
        }
        dial.tries += 1;
        let (from, to, tries) = (dial.from, dial.to, dial.tries);
        if tries <= DIAL_COUNT_MAX {
            self.schedule(now + DIAL_AGAIN * (1 << (tries - 1)), Event::SynAgain { dial: id });
        }
        if from == to {
            // Over loopback everything is at once.
            self.on_syn(id, now);
        } else if !self.is_lost(from, to) {
            let at = now + self.latency(from, to);
            self.schedule(at, Event::Syn { dial: id });
        } else {
            self.note_lost(id);
        }
    }

    pub(super) fn on_syn(&mut self, id: u64, now: Mono) {
        let Some(dial) = self.dials.get(&id) else { return };
        let (from, to, port) = (dial.from, dial.to, dial.target.port());
        if !self.reaches(from, to) {
            return self.note_lost(id);
        }
        let is_refused = match self.listeners.get(&(to, port)) {
            Some(listener) if listener.arrived.len() >= BACKLOG_COUNT => return self.note_lost(id),
            listener => listener.is_none(),
        };
        if from == to {
            self.on_syn_answer(id, is_refused);
        } else if !self.is_lost(to, from) {
            let at = now + self.latency(to, from);
            self.schedule(at, Event::SynAnswer { dial: id, is_refused });
        } else {
            self.note_lost(id);
        }
    }

    pub(super) fn on_syn_answer(&mut self, id: u64, is_refused: bool) {
        let Some(dial) = self.dials.get(&id) else { return };
        if dial.outcome.is_some() {
            return;
        }
        let (from, to, local, target) = (dial.from, dial.to, dial.local, dial.target);
        if !self.reaches(to, from) {
            return self.note_lost(id);
        }
        let now_us = trace::now_us();
        let line = self.lines.entry((from, to, target.port())).or_default();
        line.answered_us.push(now_us);
        if is_refused || !self.listeners.contains_key(&(to, target.port())) {
            self.stats.refused += 1;
            return self.end_dial(id, Err(ErrorKind::ConnectionRefused));
        }
        line.taken_us = Some(now_us);
        let connection = self.id();
        let end = |machine, addr| End { machine, addr, state: EndState::Open, error: None };
        let ends = [end(from, local), end(to, target)];
        self.connections.insert(connection, Connection { ends, pipes: Default::default() });
        self.stats.connections += 1;
        if let Some(listener) = self.listeners.get_mut(&(to, target.port())) {
            listener.arrived.push_back((connection, local));
            self.woken.extend(listener.waker.take());
        }
        self.end_dial(id, Ok(connection));
    }

    fn note_lost(&mut self, id: u64) {
        let Some(dial) = self.dials.get(&id) else { return };
        let line = self.lines.entry((dial.from, dial.to, dial.target.port())).or_default();
        line.lost_us = Some(trace::now_us());
    }

    pub(super) fn end_dial(&mut self, id: u64, outcome: Result<u64, ErrorKind>) {
        if let Some(dial) = self.dials.get_mut(&id) {
            dial.outcome = Some(outcome);
            self.woken.extend(dial.waker.take());
        }
    }
}
