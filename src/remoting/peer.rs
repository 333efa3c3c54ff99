//! The other end of a connection, as whoever answers it sees it.

use super::budget::Budget;
use super::error::Error;
use super::options::ConnectionOptions;
use super::outbox::Outbox;
use super::pending::Pending;
use crate::net::BoxFuture;
use crate::protocol::frame::Frame;
use crate::protocol::{Command, FLAG_ONEWAY};
use crate::rt::sync::{Mutex, oneshot};
use crate::rt::task::Spawner;
use crate::rt::time::{Clock, Duration, Mono};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// A handle of one open connection. Cloning is cheap; it does not keep the connection open.
#[derive(Clone)]
pub struct Peer(pub(super) Arc<Shared>);

/// What the connection's task and its handles share.
pub(super) struct Shared {
    pub id: u64,
    pub addr: SocketAddr,
    pub local_addr: SocketAddr,
    pub clock: Clock,
    pub options: Arc<ConnectionOptions>,
    pub spawner: Spawner,
    pub budget: Arc<Budget>,
    pub state: Mutex<State>,
}

/// How far a connection is on its way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mode {
    Open,
    /// The server accepts no new connections; this one goes on.
    Paused,
    /// It ends once what has arrived is read and everything owed is written.
    Draining,
    /// It ends now.
    Closed,
}

pub(super) type Answer = oneshot::Sender<Result<Command, Error>>;

pub(super) struct State {
    pub mode: Mode,
    pub reason: String,
    pub outbox: Outbox,
    /// Bytes that the task has taken out of `outbox` and not yet written.
    pub writing_size: usize,
    pub pending: Pending<Answer>,
    pub running_count: usize,
    pub queued: VecDeque<BoxFuture<'static, ()>>,
    pub waker: Option<Waker>,
    /// The task is in its turn, or was woken and will be: nobody needs to wake it.
    pub is_awake: bool,
}

impl Shared {
    pub fn new(
        ends: (u64, SocketAddr, SocketAddr),
        clock: &Clock,
        options: Arc<ConnectionOptions>,
        spawner: Spawner,
        budget: Arc<Budget>,
    ) -> Self {
        let state = State {
            mode: Mode::Open,
            reason: String::new(),
            outbox: Outbox::default(),
            writing_size: 0,
            pending: Pending::new(options.pending_count_max),
            running_count: 0,
            queued: VecDeque::new(),
            waker: None,
            is_awake: true,
        };
        let (id, addr, local_addr) = ends;
        let state = Mutex::new(state);
        Shared { id, addr, local_addr, clock: clock.clone(), options, spawner, budget, state }
    }
}

impl State {
    fn wake(&mut self) {
        if !self.is_awake {
            self.is_awake = true;
            self.waker.iter().for_each(Waker::wake_by_ref);
        }
    }

    pub fn unsent(&self) -> usize {
        self.writing_size + self.outbox.size()
    }

    /// Moves on towards the end, never back. The first reason given is the one that is told.
    pub fn advance(&mut self, mode: Mode, reason: &str) {
        if mode > self.mode {
            self.mode = mode;
            if mode >= Mode::Draining && self.reason.is_empty() {
                reason.clone_into(&mut self.reason);
            }
            self.wake();
        }
    }
}

impl Peer {
    /// Unique among the connections of one server or client, never used again.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    pub fn addr(&self) -> SocketAddr {
        self.0.addr
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.0.local_addr
    }

    /// False once the connection is ending: what is pushed then goes nowhere.
    pub fn is_open(&self) -> bool {
        self.0.state.lock().mode < Mode::Draining
    }

    /// Bytes pushed and not yet taken by the kernel.
    pub fn unsent(&self) -> usize {
        self.0.state.lock().unsent()
    }

    /// Ends the connection at once; what is unsent is lost.
    pub fn close(&self, reason: &str) {
        self.0.state.lock().advance(Mode::Closed, reason);
    }

    /// Ends the connection when everything pushed so far was written; nothing more is read.
    pub fn close_after_flush(&self, reason: &str) {
        self.0.state.lock().advance(Mode::Draining, reason);
    }

    /// Queues an encoded frame: `head` (length, header) and then the body's parts.
    pub fn reply(&self, head: &[u8], body: impl IntoIterator<Item = Bytes>) {
        self.with_out(|out| {
            out.small().extend_from_slice(head);
            body.into_iter().for_each(|part| out.push(part));
        });
    }

    /// Lets `fill` append whole frames to the outbox, without a buffer of their own.
    pub fn with_outbox(&self, fill: impl FnOnce(&mut BytesMut)) {
        self.with_out(|out| fill(out.small()));
    }

    /// Lets `fill` append whole frames whose bodies may be shared `Bytes`. When the peer is so
    /// far behind that `unsent_size_max` is passed, the connection ends.
    pub fn with_out(&self, fill: impl FnOnce(&mut Outbox)) {
        let mut state = self.0.state.lock();
        if state.mode == Mode::Closed {
            return;
        }
        fill(&mut state.outbox);
        let unsent = state.unsent();
        if unsent > self.0.options.unsent_size_max {
            state.advance(Mode::Closed, "it left too many replies unread");
            return;
        }
        state.wake();
    }

    /// Sends a request that nobody answers. Gives no news of its fate.
    pub fn send_oneway(&self, mut request: Command) {
        request.flag |= FLAG_ONEWAY;
        self.with_opaque(|state| Some(state.pending.oneway()), request);
    }

    /// Sends a request over this connection and waits for its answer.
    pub async fn invoke(&self, request: Command, timeout: Duration) -> Result<Command, Error> {
        let deadline = self.0.clock.mono() + timeout;
        self.invoke_until(request, deadline, timeout).await
    }

    pub(super) async fn invoke_until(
        &self,
        request: Command,
        deadline: Mono,
        timeout: Duration,
    ) -> Result<Command, Error> {
        let (answer, arrival) = oneshot::channel();
        let mut opaque = None;
        let sent = self.with_opaque(
            |state| {
                opaque = state.pending.register(deadline, answer).ok();
                opaque
            },
            request,
        );
        let Some(opaque) = opaque else {
            let count = self.0.options.pending_count_max;
            return Err(Error::PendingFull { addr: self.0.addr.to_string(), count });
        };
        if !sent {
            return Err(self.closed());
        }
        let _forget = Forget { shared: &self.0, opaque };
        match arrival.await {
            Ok(Err(Error::TimedOut { addr, .. })) => Err(Error::TimedOut { addr, after: timeout }),
            Ok(answer) => answer,
            Err(_) => Err(self.closed()),
        }
    }

    /// Gives the request an id and queues it, in one step. False when the connection is ending.
    fn with_opaque(
        &self,
        opaque: impl FnOnce(&mut State) -> Option<i32>,
        mut request: Command,
    ) -> bool {
        {
            let mut state = self.0.state.lock();
            if state.mode >= Mode::Draining {
                return false;
            }
            let Some(opaque) = opaque(&mut state) else { return false };
            request.opaque = opaque;
        }
        let serialize = self.0.options.serialize;
        self.with_out(|out| request.encode(serialize, out.small()));
        true
    }

    /// Takes a frame that answers one of our own requests. One that nobody waits for is dropped.
    pub fn on_reply(&self, frame: &Frame) {
        match Command::decode(frame) {
            Ok(answer) => self.on_answer(answer),
            Err(e) => self.close(&format!("it sent an answer that cannot be read: {e}")),
        }
    }

    pub(super) fn on_answer(&self, answer: Command) {
        let waiting = self.0.state.lock().pending.on_reply(answer.opaque);
        if let Some(waiting) = waiting {
            let _ = waiting.send(Ok(answer));
        } else {
            let (peer, opaque) = (self.0.addr, answer.opaque);
            tracing::debug!(%peer, opaque, "an answer came that nobody waits for");
        }
    }

    /// Runs a rare request's work as a task of its own. At most `running_count_max` run at one
    /// time; further ones wait in order, and meanwhile nothing more is read from this peer.
    /// `size` is what the work holds of request bytes. A panic ends the task alone and is told to
    /// `on_panic`, which should answer.
    pub fn spawn(
        &self,
        size: usize,
        work: impl Future<Output = ()> + Send + 'static,
        on_panic: impl FnOnce(&Peer, &str) + Send + 'static,
    ) {
        self.0.budget.take_anyway(size);
        let held = Held { peer: self.clone(), size };
        let task = Box::pin(async move {
            let caught = CatchPanic(Box::pin(work)).await;
            if let Err(panic) = caught {
                tracing::error!(peer = %held.peer.0.addr, "a request's handler panicked: {panic}");
                on_panic(&held.peer, &panic);
            }
            drop(held);
        });
        let mut state = self.0.state.lock();
        if state.running_count >= self.0.options.running_count_max {
            crate::rt::probe!("remoting: a rare request waited for another");
            state.queued.push_back(task);
            return;
        }
        state.running_count += 1;
        drop(state);
        self.0.spawner.spawn(task);
    }

    pub(super) fn closed(&self) -> Error {
        let state = self.0.state.lock();
        Error::Closed { addr: self.0.addr.to_string(), reason: state.reason.clone() }
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Peer({} {})", self.0.id, self.0.addr)
    }
}

/// A caller that stopped waiting leaves the table.
struct Forget<'a> {
    shared: &'a Shared,
    opaque: i32,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.shared.state.lock().pending.on_reply(self.opaque);
    }
}

/// What a rare request's task holds; given back however it ends.
struct Held {
    peer: Peer,
    size: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        let shared = &self.peer.0;
        shared.budget.give_back(self.size);
        let mut state = shared.state.lock();
        state.running_count = state.running_count.saturating_sub(1);
        let next = state.queued.pop_front();
        if next.is_some() {
            state.running_count += 1;
        }
        if state.queued.is_empty() || state.mode > Mode::Open {
            state.wake();
        }
        drop(state);
        if let Some(next) = next {
            shared.spawner.spawn(next);
        }
    }
}

/// Ends with the panic's text when a poll of the work panicked.
struct CatchPanic(BoxFuture<'static, ()>);

impl Future for CatchPanic {
    type Output = Result<(), String>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let work = self.0.as_mut();
        let poll = std::panic::AssertUnwindSafe(move || work.poll(cx));
        match std::panic::catch_unwind(poll) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic_text(panic.as_ref()))),
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text").to_owned()
}
