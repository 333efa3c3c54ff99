//! Streams: what a process reads and writes, and how segments travel.

use super::wire::{Connection, EndState, Event, Segment, Wire};
use bytes::{Buf, BytesMut};
use hotfire::rt::sim::mark;
use hotfire::rt::time::{Duration, Mono};
use std::io::ErrorKind;
use std::task::Waker;

/// Bytes that one direction of a connection holds before its writer stops.
pub const WINDOW_SIZE: usize = 64 * 1024;
/// Segments smaller than this take the next write's bytes in. Units: bytes.
const MERGE_SIZE: usize = 1400;
/// First pause before a lost segment is sent again; doubles up to `RESEND_MAX`.
const RESEND_MIN: Duration = Duration::from_millis(200);
const RESEND_MAX: Duration = Duration::from_millis(3_200);
/// After so many the sender gives its connection up: about a minute.
const RESEND_COUNT_MAX: u32 = 24;

impl Wire {
    fn open(&mut self, id: u64, end: usize) -> Result<&mut Connection, ErrorKind> {
        let connection = self.connections.get_mut(&id).ok_or(ErrorKind::ConnectionReset)?;
        match connection.ends[end].state {
            EndState::Open => Ok(connection),
            EndState::Closed | EndState::Vanished => Err(ErrorKind::NotConnected),
        }
    }

    /// True when a read would not wait.
    pub fn is_readable(&mut self, id: u64, end: usize, waker: &Waker) -> bool {
        let Ok(connection) = self.open(id, end) else { return true };
        let pipe = &mut connection.pipes[1 - end];
        let has = !pipe.received.is_empty() || pipe.fin_received;
        if !has && connection.ends[end].error.is_none() {
            pipe.reader = Some(waker.clone());
            return false;
        }
        true
    }

    /// `None`: nothing yet.
    pub fn read(
        &mut self,
        id: u64,
        end: usize,
        buf: &mut BytesMut,
        max: usize,
        waker: &Waker,
    ) -> Option<Result<usize, ErrorKind>> {
        if !self.is_readable(id, end, waker) {
            return None;
        }
        let connection = match self.open(id, end) {
            Ok(connection) => connection,
            Err(e) => return Some(Err(e)),
        };
        let pipe = &mut connection.pipes[1 - end];
        if pipe.received.is_empty() {
            return Some(match connection.ends[end].error {
                Some(error) => Err(error),
                None => Ok(0),
            });
        }
        let mut n = pipe.received.len().min(max);
        let writer = pipe.writer.take();
        if n > 1 && self.dice.chance(0.25) {
            n = self.dice.between(1, n as u64) as usize;
        }
        let pipe = &mut self.connections.get_mut(&id)?.pipes[1 - end];
        buf.extend_from_slice(&pipe.received[..n]);
        pipe.received.advance(n);
        self.woken.extend(writer);
        Some(Ok(n))
    }

    /// `None`: the window is full.
    pub fn write(
        &mut self,
        id: u64,
        end: usize,
        bufs: &[std::io::IoSlice<'_>],
        now: Mono,
        waker: &Waker,
    ) -> Option<Result<usize, ErrorKind>> {
        let connection = match self.open(id, end) {
            Ok(connection) => connection,
            Err(e) => return Some(Err(e)),
        };
        if let Some(error) = connection.ends[end].error {
            return Some(Err(error));
        }
        let pipe = &mut connection.pipes[end];
        if pipe.is_finished {
            return Some(Err(ErrorKind::BrokenPipe));
        }
        let room = WINDOW_SIZE.saturating_sub(pipe.under_way_size + pipe.received.len());
        let offered: usize = bufs.iter().map(|buf| buf.len()).sum();
        if offered == 0 {
            return Some(Ok(0));
        }
        if room == 0 {
            mark("net: a writer met a full window");
            pipe.writer = Some(waker.clone());
            return None;
        }
        let mut n = room.min(offered);
        if n > 1 && self.dice.chance(0.1) {
            n = self.dice.between(1, n as u64) as usize;
        }
        let mut data = BytesMut::with_capacity(n);
        for buf in bufs {
            let part = &buf[..buf.len().min(n - data.len())];
            data.extend_from_slice(part);
        }
        self.stats.bytes += n as u64;
        self.send(id, end, Segment::Data(data), now);
        Some(Ok(n))
    }

    /// Half-close.
    pub fn finish(&mut self, id: u64, end: usize, now: Mono) -> Result<(), ErrorKind> {
        let pipe = &mut self.open(id, end)?.pipes[end];
        if !pipe.is_finished {
            pipe.is_finished = true;
            self.send(id, end, Segment::Fin, now);
        }
        Ok(())
    }

    /// What close(2) does: an end; with unread bytes, or when wanted, a reset.
    pub fn close(&mut self, id: u64, end: usize, by_reset: bool, now: Mono) {
        let Ok(connection) = self.open(id, end) else { return };
        connection.ends[end].state = EndState::Closed;
        let is_unread = !connection.pipes[1 - end].received.is_empty();
        connection.pipes[1 - end].received.clear();
        let is_broken = connection.ends[end].error.is_some();
        let was_finished = std::mem::replace(&mut connection.pipes[end].is_finished, true);
        if is_broken {
            self.drop_under_way(id, end);
        } else if is_unread || by_reset {
            if self.dice.chance(0.5) {
                self.drop_under_way(id, end);
            }
            self.send(id, end, Segment::Rst, now);
        } else if !was_finished {
            self.send(id, end, Segment::Fin, now);
        }
        self.reap(id);
    }

    fn drop_under_way(&mut self, id: u64, end: usize) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.pipes[end].under_way.clear();
            connection.pipes[end].under_way_size = 0;
        }
    }

    /// Puts a segment on its way; one that is lost arrives later, and so do all behind it.
    fn send(&mut self, id: u64, end: usize, segment: Segment, now: Mono) {
        let Some(connection) = self.connections.get(&id) else { return };
        let (from, to) = (connection.ends[end].machine, connection.ends[1 - end].machine);
        let mut at = now + self.latency(from, to);
        let mut pause = RESEND_MIN;
        while self.is_lost(from, to) {
            at = at + pause;
            pause = (pause * 2).min(RESEND_MAX);
        }
        self.stats.segments += 1;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let pipe = &mut connection.pipes[end];
        let at = at.max(pipe.last_arrival);
        pipe.last_arrival = at;
        if let Segment::Data(data) = &segment {
            pipe.under_way_size += data.len();
        }
        match (pipe.under_way.back_mut(), segment) {
            (Some((_, Segment::Data(last))), Segment::Data(data)) if last.len() < MERGE_SIZE => {
                last.extend_from_slice(&data);
            }
            (_, segment) => pipe.under_way.push_back((at, segment)),
        }
        if from == to {
            self.deliver(id, end, now);
        } else if !pipe.is_scheduled {
            pipe.is_scheduled = true;
            self.schedule(at, Event::Deliver { connection: id, from: end });
        }
    }

    /// The head of a pipe arrives, with all that arrived with it.
    pub(super) fn deliver(&mut self, id: u64, end: usize, now: Mono) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.pipes[end].is_scheduled = false;
        let (from, to) = (connection.ends[end].machine, connection.ends[1 - end].machine);
        if !self.reaches(from, to) {
            return self.resend(id, end, now);
        }
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Connection { ends, pipes } = connection;
        pipes[end].resends = 0;
        let mut is_unknown = false;
        while let Some((at, _)) = pipes[end].under_way.front() {
            if *at > now {
                break;
            }
            let Some((_, segment)) = pipes[end].under_way.pop_front() else { break };
            let is_open = ends[1 - end].state == EndState::Open;
            match segment {
                Segment::Data(data) => {
                    pipes[end].under_way_size -= data.len();
                    if is_open && ends[1 - end].error.is_none() {
                        pipes[end].received.extend_from_slice(&data);
                    }
                    is_unknown |= !is_open;
                }
                Segment::Fin => {
                    pipes[end].fin_received = true;
                    is_unknown |= ends[1 - end].state == EndState::Vanished;
                }
                Segment::Rst if is_open => {
                    self.stats.resets += 1;
                    ends[1 - end].error = Some(ErrorKind::ConnectionReset);
                    self.woken.extend(pipes[1 - end].writer.take());
                    pipes[1 - end].under_way.clear();
                    pipes[1 - end].under_way_size = 0;
                }
                Segment::Rst => {}
            }
        }
        self.woken.extend(pipes[end].reader.take());
        if let Some((at, _)) = pipes[end].under_way.front() {
            let at = *at;
            pipes[end].is_scheduled = true;
            self.schedule(at, Event::Deliver { connection: id, from: end });
        }
        if is_unknown {
            self.answer_reset(id, end, now);
        }
        self.reap(id);
    }

    /// The machine of the other end has no such connection and says so.
    fn answer_reset(&mut self, id: u64, to: usize, now: Mono) {
        let Some(connection) = self.connections.get(&id) else { return };
        let (far, near) = (connection.ends[1 - to].machine, connection.ends[to].machine);
        self.drop_under_way(id, to);
        let at = now + self.latency(far, near);
        if self.reaches(far, near) && !self.is_lost(far, near) {
            self.schedule(at, Event::ResetBack { connection: id, to });
        } else {
            // The sender hears nothing and sends again, and the answer gets another chance.
            let again = Segment::Data(BytesMut::zeroed(1));
            let Some(connection) = self.connections.get_mut(&id) else { return };
            let pipe = &mut connection.pipes[to];
            pipe.under_way_size += 1;
            pipe.under_way.push_back((now + RESEND_MIN, again));
            if !pipe.is_scheduled {
                pipe.is_scheduled = true;
                self.schedule(now + RESEND_MIN, Event::Deliver { connection: id, from: to });
            }
        }
    }

    /// The head of a pipe did not get through.
    fn resend(&mut self, id: u64, end: usize, now: Mono) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let state = connection.ends[end].state;
        let pipe = &mut connection.pipes[end];
        if state == EndState::Vanished {
            pipe.under_way.clear();
            pipe.under_way_size = 0;
            return self.reap(id);
        }
        self.stats.resends += 1;
        pipe.resends += 1;
        if pipe.resends > RESEND_COUNT_MAX {
            mark("net: a sender gave its connection up");
            self.fail(id, end, ErrorKind::TimedOut);
            return self.reap(id);
        }
        let pause = (RESEND_MIN * (1 << (pipe.resends - 1).min(8))).min(RESEND_MAX);
        pipe.is_scheduled = true;
        self.schedule(now + pause, Event::Deliver { connection: id, from: end });
    }

    /// Breaks one end: what it wrote and the other did not get is lost.
    pub(super) fn fail(&mut self, id: u64, end: usize, error: ErrorKind) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.ends[end].error.get_or_insert(error);
        let [first, second] = &mut connection.pipes;
        let (ours, theirs) = if end == 0 { (first, second) } else { (second, first) };
        ours.under_way.clear();
        ours.under_way_size = 0;
        self.stats.resets += 1;
        self.woken.extend(ours.writer.take());
        self.woken.extend(theirs.reader.take());
    }

    /// Forgets a connection that nobody can notice any more.
    pub(super) fn reap(&mut self, id: u64) {
        let Some(connection) = self.connections.get(&id) else { return };
        let Connection { ends, pipes } = connection;
        let is_over = (0..2).all(|n| {
            // An end that is not open matters only while it has something to tell an open one.
            let tells = ends[1 - n].state == EndState::Open && !pipes[n].under_way.is_empty();
            ends[n].state != EndState::Open && !tells
        });
        if is_over {
            self.connections.remove(&id);
        }
    }
}
