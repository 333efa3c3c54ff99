//! The one task of a connection: it reads what the socket has, hands all frames over at once, and
//! writes what was pushed meanwhile. A turn looks at the stop, then the clock, then the work.

use super::error::Error;
use super::limits::Limits;
use super::outbox::Outbox;
use super::peer::{Mode, Peer};
use crate::net::Stream;
use crate::protocol::frame::{self, Frame};
use crate::rt::time::{Alarm, Duration, Mono};
use bytes::BytesMut;
use std::io::IoSlice;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// What a server or a client does with the frames that arrive.
pub trait Service: Send + Sync + 'static {
    /// Takes all frames of one read, in order; leaves `frames` empty. It must not wait: what
    /// cannot be answered at once is answered later through `peer`. Everything pushed during the
    /// call leaves in one write after it.
    fn on_frames(&self, peer: &Peer, frames: &mut Vec<Frame>);

    /// Called once per connection, before its first frames.
    fn on_open(&self, peer: &Peer) {
        let _ = peer;
    }

    /// Called once for every `on_open`, whatever ended the connection.
    fn on_close(&self, peer: &Peer) {
        let _ = peer;
    }
}

/// Slices offered to one vectored write.
const SLICE_COUNT_MAX: usize = 32;

/// Most that one turn writes before it lets others go on. Units: bytes.
const WRITE_TURN_SIZE: usize = 1024 * 1024;

/// A connection that read nothing for so long gives its buffers back.
const QUIET: Duration = Duration::from_secs(10);

/// A connection that drains ends so long after a read: what was on its way is answered, and a peer
/// that has its answer has not sent the next request yet.
const DRAIN_LULL: Duration = Duration::from_millis(1);

/// A peer that goes on sending is cut off after so long.
const DRAIN_READ_MAX: Duration = Duration::from_millis(100);

/// Size of a frame's length field, which the length does not count. Units: bytes.
const LENGTH_SIZE: usize = 4;

pub(super) struct Connection {
    stream: Box<dyn Stream>,
    peer: Peer,
    service: Arc<dyn Service>,
    buf: BytesMut,
    frames: Vec<Frame>,
    writing: Outbox,
    /// Since when what waits may be shared with others: views of files, parts of a cache.
    shared_since: Mono,
    /// The kernel takes nothing more; the socket will say when that changes.
    is_write_blocked: bool,
    /// How much the next read offers room for. Units: bytes.
    read_size: usize,
    hold: Hold,
    limits: Limits,
    alarm: Alarm,
    armed: Option<Mono>,
    /// When to give the buffers back, while there is something to give.
    quiet_at: Option<Mono>,
    /// When a connection that drains may end, and when it must.
    drain: Option<(Mono, Mono)>,
    /// Set when nothing more will be read: why. The connection ends when all is written.
    ending: Option<String>,
}

/// The share of the server's budget that the unfinished frame in the buffer takes.
#[derive(Default)]
struct Hold {
    /// Units: bytes.
    taken: usize,
    /// Units: bytes. More than `taken` while the connection waits for the budget.
    wanted: usize,
    ticket: Option<u64>,
}

/// What a turn begins with.
struct Start {
    mode: Mode,
    pending_deadline: Option<Mono>,
    unsent: usize,
    is_queueing: bool,
    is_new_waker: bool,
}

impl Connection {
    pub fn new(stream: Box<dyn Stream>, peer: Peer, service: Arc<dyn Service>) -> Self {
        let shared = &peer.0;
        service.on_open(&peer);
        Connection {
            read_size: shared.options.read_size_min,
            limits: Limits::new(shared.options.clone(), shared.clock.mono()),
            alarm: Alarm::new(&shared.clock),
            armed: None,
            stream,
            buf: BytesMut::new(),
            frames: Vec::new(),
            writing: Outbox::default(),
            shared_since: shared.clock.mono(),
            is_write_blocked: false,
            hold: Hold::default(),
            quiet_at: None,
            drain: None,
            ending: None,
            service,
            peer,
        }
    }

    /// Runs until the connection ends.
    pub async fn run(mut self) {
        let end = std::future::poll_fn(|cx| match self.poll_turn(cx) {
            Ok(()) => Poll::Pending,
            Err(end) => Poll::Ready(end),
        })
        .await;
        self.peer.close(&end);
    }

    /// One turn. `Err` is the connection's end and its reason.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Result<(), String> {
        let now = self.peer.0.clock.mono();
        let start = self.begin(cx, now);
        if start.mode == Mode::Closed {
            return Err(String::new());
        }
        self.look_at_clock(now, start.pending_deadline)?;
        self.write(cx, now)?;
        let mut more = false;
        if self.may_read(cx, &start) {
            more = self.read(cx, now)?;
            self.take_outbox(now);
            self.write(cx, now)?;
        } else {
            self.limits.on_paused(now);
        }
        if start.mode == Mode::Draining {
            // A read this turn moved that deadline.
            self.drain(now, self.quiet_at == Some(now + QUIET));
        }
        let (is_left, pending_deadline) = self.finish(cx, now)?;
        self.arm(cx, now, pending_deadline, start.is_new_waker);
        more |= is_left;
        if more {
            // The others first: one busy peer must not keep the thread.
            cx.waker().wake_by_ref();
        }
        Ok(())
    }

    fn begin(&mut self, cx: &mut Context<'_>, now: Mono) -> Start {
        let mut state = self.peer.0.state.lock();
        state.is_awake = true;
        let is_new_waker = !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if is_new_waker {
            state.waker = Some(cx.waker().clone());
        }
        if self.writing.is_empty() {
            self.shared_since = now;
            std::mem::swap(&mut self.writing, &mut state.outbox);
            state.writing_size = self.writing.size();
        }
        Start {
            mode: state.mode,
            pending_deadline: state.pending.next_deadline(),
            unsent: state.outbox.size(),
            is_queueing: !state.queued.is_empty(),
            is_new_waker,
        }
    }

    fn take_outbox(&mut self, now: Mono) {
        if self.writing.is_empty() {
            self.shared_since = now;
            std::mem::swap(&mut self.writing, &mut self.peer.0.state.lock().outbox);
        }
    }

    /// What has arrived is read and answered before the end: a Java client waits its whole time for
    /// the answer to a request that it sent before it saw the end. The best moment is when it has
    /// just been answered, so a peer is given `drain_quiet` to ask once more.
    fn drain(&mut self, now: Mono, has_read: bool) {
        let quiet = self.peer.0.options.drain_quiet;
        let (may_end, must_end) = self.drain.get_or_insert((now + quiet, now + DRAIN_READ_MAX));
        if has_read {
            *may_end = (now + DRAIN_LULL).min(*must_end);
        }
    }

    /// Ends the turn: from here on whoever pushes wakes the task. True when there is work left
    /// that no event will announce; and when our first unanswered request is due.
    fn finish(&mut self, cx: &mut Context<'_>, now: Mono) -> Result<(bool, Option<Mono>), String> {
        let mut state = self.peer.0.state.lock();
        state.writing_size = self.writing.size();
        if state.mode == Mode::Closed {
            // Decided during this turn, in which nobody wakes the task.
            return Err(String::new());
        }
        let is_drained = self.drain.is_some_and(|(may_end, _)| may_end <= now);
        let is_over = self.ending.is_some() || is_drained;
        if is_over && state.unsent() == 0 && state.running_count == 0 {
            drop(state);
            // What was written still arrives; an error would only say that the peer is gone.
            let _ = self.stream.poll_shutdown(cx);
            return Err(self.ending.take().unwrap_or_default());
        }
        let more =
            if self.writing.is_empty() { !state.outbox.is_empty() } else { !self.is_write_blocked };
        state.is_awake = more;
        Ok((more, state.pending.next_deadline()))
    }

    /// Gives up what is overdue.
    fn look_at_clock(&mut self, now: Mono, pending: Option<Mono>) -> Result<(), String> {
        if pending.is_some_and(|at| at <= now) {
            let mut late = Vec::new();
            self.peer.0.state.lock().pending.on_deadline(now, &mut late);
            for waiting in late {
                let addr = self.peer.addr().to_string();
                let _ = waiting.send(Err(Error::TimedOut { addr, after: Duration::ZERO }));
            }
        }
        if self.armed.is_none_or(|at| at > now) {
            return Ok(());
        }
        self.armed = None;
        if self.quiet_at.is_some_and(|at| at <= now) {
            self.quiet_at = None;
            self.release_buffers();
        }
        self.own_what_waits(now)?;
        match self.limits.on_deadline(now) {
            Some(reason) => Err(reason.to_owned()),
            None => Ok(()),
        }
    }

    /// A slow reader gets copies: what it waits for must not hold the space of a removed file.
    fn own_what_waits(&mut self, now: Mono) -> Result<(), String> {
        if self.writing.is_empty() || self.shared_since + self.peer.0.options.share_max > now {
            return Ok(());
        }
        crate::rt::probe!("remoting: replies that waited for long were copied");
        self.shared_since = now;
        let stream = &self.stream;
        let mut state = self.peer.0.state.lock();
        let owned = self.writing.own(|bytes| stream.copy(bytes));
        let owned = owned.and_then(|()| state.outbox.own(|bytes| stream.copy(bytes)));
        owned.map_err(|e| format!("what it waits for can no longer be read: {e}"))
    }

    /// Re-arms the timer only when it would ring too late; one that rings early costs a look.
    fn arm(&mut self, cx: &mut Context<'_>, now: Mono, pending: Option<Mono>, is_new_waker: bool) {
        // Once it has passed, only what is owed keeps the connection, and that wakes the task.
        let drained = self.drain.map(|(may_end, _)| may_end).filter(|at| *at > now);
        let share = self.shared_since + self.peer.0.options.share_max;
        let share = (!self.writing.is_empty()).then_some(share);
        let wanted = [pending, self.quiet_at, drained, share].into_iter().flatten();
        let wanted = wanted.fold(self.limits.next_deadline(), Mono::min);
        let is_late = self.armed.is_none_or(|armed| wanted < armed);
        if is_late {
            self.armed = Some(wanted);
            self.alarm.set(Some(wanted));
        }
        if (is_late || is_new_waker) && pin!(self.alarm.ring()).poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    fn release_buffers(&mut self) {
        if self.buf.is_empty() {
            self.buf = BytesMut::new();
            self.frames = Vec::new();
            self.read_size = self.peer.0.options.read_size_min;
        }
        self.writing.release();
        self.peer.0.state.lock().outbox.release();
    }

    /// Writes until all is gone, the kernel takes no more, or it was much for one turn.
    fn write(&mut self, cx: &mut Context<'_>, now: Mono) -> Result<(), String> {
        self.is_write_blocked = false;
        let mut written = 0;
        while !self.writing.is_empty() && written < WRITE_TURN_SIZE {
            let mut slices = [IoSlice::new(&[]); SLICE_COUNT_MAX];
            let count = self.writing.slices(&mut slices);
            match self.stream.poll_write(cx, &slices[..count]) {
                Poll::Pending => {
                    self.is_write_blocked = true;
                    self.limits.on_write_blocked(now);
                    return Ok(());
                }
                Poll::Ready(Ok(0)) => return Err("a write took nothing".to_owned()),
                Poll::Ready(Ok(n)) => {
                    self.writing.consume(n);
                    self.limits.on_written(now);
                    written += n;
                }
                Poll::Ready(Err(e)) => return Err(format!("write: {e}")),
            }
        }
        Ok(())
    }

    /// Whether this turn may take more requests in.
    fn may_read(&mut self, cx: &mut Context<'_>, start: &Start) -> bool {
        let unsent = start.unsent + self.writing.size();
        if self.ending.is_some() || start.is_queueing {
            return false;
        }
        if unsent > self.peer.0.options.unsent_pause_size {
            crate::rt::probe!("remoting: unsent replies stopped reading");
            return false;
        }
        self.take_budget(cx)
    }

    /// True when the unfinished frame's size has been taken from the budget.
    fn take_budget(&mut self, cx: &mut Context<'_>) -> bool {
        let Hold { taken, wanted, ticket } = &mut self.hold;
        if *taken < *wanted {
            if !self.peer.0.budget.poll_take(ticket, *wanted - *taken, cx.waker()) {
                crate::rt::probe!("remoting: a frame waited for the in-flight budget");
                return false;
            }
            *taken = *wanted;
        }
        true
    }

    /// Reads once and hands over what became whole. True when the socket may have more.
    fn read(&mut self, cx: &mut Context<'_>, now: Mono) -> Result<bool, String> {
        // Asked without a buffer, so that idle connections hold none.
        match self.stream.poll_readable(cx) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Err(e)) => return Err(format!("read: {e}")),
            Poll::Ready(Ok(())) => {}
        }
        let room = self.read_size;
        self.buf.reserve(room);
        self.quiet_at = Some(now + QUIET);
        let read = match self.stream.poll_read(cx, &mut self.buf, room) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Err(e)) => return Err(format!("read: {e}")),
            Poll::Ready(Ok(read)) => read,
        };
        if read == 0 {
            self.ending = Some("closed by the peer".to_owned());
            return Ok(false);
        }
        self.limits.on_read(now);
        self.adapt_read_size(read);
        let cut = self.cut_frames();
        let is_new = !self.frames.is_empty();
        if is_new {
            self.service.on_frames(&self.peer, &mut self.frames);
            self.frames.clear();
        }
        match cut {
            Ok(()) => self.look_at_rest(now, is_new),
            Err(e) => self.ending = Some(e),
        }
        // Also how the socket learns whom to wake.
        Ok(self.stream.poll_readable(cx).is_ready())
    }

    fn adapt_read_size(&mut self, read: usize) {
        let options = &self.peer.0.options;
        if read >= self.read_size {
            self.read_size = (self.read_size * 2).min(options.read_size_max);
        } else if read < self.read_size / 8 {
            self.read_size = (self.read_size / 2).max(options.read_size_min);
        }
    }

    /// Frames before a broken one still count.
    fn cut_frames(&mut self) -> Result<(), String> {
        let size_max = self.peer.0.options.frame_size_max;
        loop {
            match frame::cut(&mut self.buf, size_max) {
                Ok(Some(frame)) => self.frames.push(frame),
                Ok(None) => return Ok(()),
                Err(e) => {
                    crate::rt::probe!("remoting: a frame could not be read");
                    tracing::warn!(peer = %self.peer.addr(), "connection ends: {e}");
                    return Err(e.to_string());
                }
            }
        }
    }

    /// Notes what an unfinished frame holds and how it moves on.
    fn look_at_rest(&mut self, now: Mono, is_new: bool) {
        if is_new && self.hold.taken > 0 {
            self.peer.0.budget.give_back(self.hold.taken);
            self.hold.taken = 0;
        }
        self.hold.wanted = match self.buf.first_chunk::<LENGTH_SIZE>() {
            Some(length) => LENGTH_SIZE + u32::from_be_bytes(*length) as usize,
            None => 0,
        };
        if self.buf.is_empty() {
            self.limits.on_whole();
        } else {
            self.limits.on_partial(now, self.buf.len(), is_new);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let shared = &self.peer.0;
        shared.budget.give_back(self.hold.taken);
        shared.budget.leave(&mut self.hold.ticket);
        let mut waiting = Vec::new();
        let mut state = shared.state.lock();
        state.advance(Mode::Closed, "stopped");
        state.pending.on_close(&mut waiting);
        state.waker = None;
        state.writing_size = 0;
        let queued = std::mem::take(&mut state.queued);
        let unsent = std::mem::take(&mut state.outbox);
        drop(state);
        // Outside the lock: a dropped request gives back what it held through the same lock.
        drop((queued, unsent));
        for waiting in waiting {
            let _ = waiting.send(Err(self.peer.closed()));
        }
        tracing::debug!(peer = %self.peer.addr(), reason = %self.peer.closed(), "connection ended");
        self.service.on_close(&self.peer);
    }
}
