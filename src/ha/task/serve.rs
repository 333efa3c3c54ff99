//! A master's side of one connection: sends the log from where the slave's ends, and listens to how
//! far the slave is.
//!
//! Source: HAConnection (4.9.3).

use super::super::driver::Shared;
use super::super::transfer_frame::{self, Header};
use super::wire::{self, Unsent};
use crate::model::PhysicalOffset;
use crate::net::Stream;
use crate::rt::task::Stop;
use crate::rt::time::{Alarm, Duration, Mono};
use crate::store::RawLog;
use bytes::{Buf, Bytes, BytesMut};
use std::sync::Arc;

/// Reports are 8 bytes; so much is read at a time. Units: bytes.
const READ_SIZE: usize = 4096;

/// Records that come one by one share a frame: while the slave has not acked the last one, less
/// than a frame waits for its word, but no longer than this.
const HOLD_MAX: Duration = Duration::from_millis(1);

struct Serve {
    shared: Arc<Shared>,
    stream: Box<dyn Stream>,
    id: u64,
    received: BytesMut,
    unsent: Unsent,
    /// Where the next frame begins, once the slave has said where its log ends.
    next: Option<u64>,
    /// It was greeted, and so is a Hotfire.
    has_token: bool,
    /// Everything below is at the slave, as it says.
    acked: u64,
    /// Since when there is too little for a frame while the slave has not acked the last one.
    held_since: Option<Mono>,
    /// The log ends at `next`, or what is behind it waits for more.
    is_at_end: bool,
    /// There is nothing to send at `next`, and that was said.
    is_outside: bool,
    heard: Mono,
    spoke: Mono,
}

pub async fn run(shared: Arc<Shared>, stream: Box<dyn Stream>, stop: Stop) {
    let peer = stream.peer_addr();
    let now = shared.deps.clock.mono();
    let id = shared.master.lock().on_connected(now, peer);
    tracing::info!("a slave connected from {peer}");
    let serve = Serve {
        shared: shared.clone(),
        stream,
        id,
        received: BytesMut::new(),
        unsent: Unsent::default(),
        next: None,
        has_token: false,
        acked: 0,
        held_since: None,
        is_at_end: false,
        is_outside: false,
        heard: now,
        spoke: now,
    };
    match serve.run(stop).await {
        Ok(()) => tracing::info!("the connection of slave {peer} ends with this broker"),
        Err(why) => tracing::warn!("the connection of slave {peer} ends: {why}"),
    }
    let report = {
        let mut master = shared.master.lock();
        master.on_closed(id);
        master.report()
    };
    shared.deps.store.on_slaves(report);
}

impl Serve {
    async fn run(mut self, mut stop: Stop) -> Result<(), String> {
        let mut alarm = Alarm::new(&self.shared.deps.clock);
        let mut moved = self.shared.log_moved.subscribe();
        loop {
            let seen = moved.get();
            self.fill().await?;
            alarm.set(Some(self.next_deadline()));
            let waits = self.is_at_end;
            let io = crate::rt::select! {
                _ = stop.wait() => return Ok(()),
                _ = alarm.ring() => None,
                _ = moved.until(|now| *now != seen), if waits => None,
                io = wire::progress(
                    &mut *self.stream, &mut self.received, READ_SIZE, &mut self.unsent,
                ) => Some(io),
            };
            let now = self.shared.deps.clock.mono();
            match io {
                Some(Ok(0) | Err(_)) | None => {}
                Some(Ok(_)) => {
                    self.heard = now;
                    self.on_received()?;
                }
            }
            if let Some(Err(error)) = io {
                return Err(error.to_string());
            }
            self.on_clock(now)?;
        }
    }

    fn next_deadline(&self) -> Mono {
        let options = &self.shared.options;
        let silence = self.heard + options.silence_max;
        let heartbeat = self.spoke + options.heartbeat_interval;
        let held = self.held_since.map(|since| since + HOLD_MAX);
        let next = if self.next.is_some() { silence.min(heartbeat) } else { silence };
        held.map_or(next, |held| held.min(next))
    }

    fn on_clock(&mut self, now: Mono) -> Result<(), String> {
        let options = &self.shared.options;
        if now >= self.heard + options.silence_max {
            return Err(format!("it said nothing for {} ms", options.silence_max.as_millis()));
        }
        if let Some(next) = self.next
            && now >= self.spoke + options.heartbeat_interval
            && self.unsent.size() == 0
        {
            self.send(Header { at: next, size: 0 }, Vec::new());
        }
        Ok(())
    }

    fn on_received(&mut self) -> Result<(), String> {
        if self.next.is_none()
            && !self.has_token
            && let Some(token) = transfer_frame::token(&self.received)
        {
            let now = self.shared.deps.clock.mono();
            if !self.shared.master.lock().take_token(now, token) {
                return Err("its token is not one that was given out, or too old".to_owned());
            }
            self.has_token = true;
            self.received.advance(transfer_frame::REPORT_SIZE);
        }
        let Some((said, size)) = transfer_frame::last_report(&self.received) else {
            return Ok(());
        };
        self.received.advance(size);
        let stats = self.shared.deps.store.stats();
        let log = stats.min.0..stats.written.0;
        let first = match self.shared.options.starts_at_last_file {
            true => self.shared.deps.store.last_file().0,
            false => 0,
        };
        let said = said?;
        let (start, report) = {
            let mut master = self.shared.master.lock();
            let start = master.on_report(self.id, said, log, first).map_err(|e| e.to_string())?;
            (start, master.report())
        };
        self.acked = self.acked.max(said);
        if let Some(start) = start {
            tracing::info!("slave {} goes on at {start}", self.stream.peer_addr());
            self.next = Some(start);
        }
        self.shared.deps.store.on_slaves(report);
        Ok(())
    }

    /// Takes more of the log while the slave takes what it gets.
    async fn fill(&mut self) -> Result<(), String> {
        self.is_at_end = false;
        while let Some(next) = self.next
            && self.unsent.size() < self.shared.options.unsent_size_max
        {
            if self.holds(next) {
                self.is_at_end = true;
                return Ok(());
            }
            let Some(parts) = self.frame(next).await? else { return self.say_outside(next) };
            let size: usize = parts.iter().map(Bytes::len).sum();
            if size == 0 {
                self.is_at_end = true;
                return Ok(());
            }
            let end = next + size as u64;
            self.send(Header { at: next, size: size as u32 }, parts);
            self.next = Some(end);
            self.shared.master.lock().on_sent(self.id, end);
        }
        Ok(())
    }

    /// Whether what lies at `next` should wait for more.
    fn holds(&mut self, next: u64) -> bool {
        let ready = self.shared.deps.store.stats().written.0.saturating_sub(next);
        let is_little = ready > 0 && ready < self.shared.options.batch_size as u64;
        if !is_little || self.acked >= next {
            self.held_since = None;
            return false;
        }
        let now = self.shared.deps.clock.mono();
        let since = *self.held_since.get_or_insert(now);
        let is_over = now >= since + HOLD_MAX;
        if is_over {
            self.held_since = None;
        }
        !is_over
    }

    /// The bytes of one frame, of one file: as they lie in memory, or from disk. `None` when the
    /// log has nothing there and never will.
    async fn frame(&mut self, next: u64) -> Result<Option<Vec<Bytes>>, String> {
        let (store, max) = (&self.shared.deps.store, self.shared.options.batch_size);
        let (mut parts, mut size) = (Vec::new(), 0);
        while size < max && (size == 0 || !store.is_file_start(PhysicalOffset(next + size as u64)))
        {
            let at = PhysicalOffset(next + size as u64);
            let found = store.raw_log(at, max - size).await;
            match found.map_err(|e| format!("the log cannot be read at {at}: {e}"))? {
                RawLog::Bytes(bytes) => {
                    size += bytes.len();
                    parts.push(bytes);
                }
                RawLog::Outside if size == 0 => return Ok(None),
                RawLog::End | RawLog::Outside => break,
            }
        }
        Ok(Some(parts))
    }

    /// As in 4.9 the connection lives on without anything to send.
    fn say_outside(&mut self, next: u64) -> Result<(), String> {
        if !std::mem::replace(&mut self.is_outside, true) {
            let (peer, min) = (self.stream.peer_addr(), self.shared.deps.store.stats().min);
            crate::rt::probe!("ha: a slave asks for what was deleted");
            tracing::error!(
                "slave {peer} asks for the log from {next} on, which begins at {min} here: it gets \
                 nothing; start it again with an empty store"
            );
        }
        Ok(())
    }

    fn send(&mut self, header: Header, parts: Vec<Bytes>) {
        self.spoke = self.shared.deps.clock.mono();
        self.unsent.push(Bytes::copy_from_slice(&header.encode()));
        parts.into_iter().for_each(|part| self.unsent.push(part));
    }
}
