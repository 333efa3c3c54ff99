//! Requests to clients that somebody waits for: how many there may be, and how they end.

use super::super::driver::Shared;
use super::super::reply::Refusal;
use crate::protocol::Command;
use crate::remoting::{Error, Peer};
use crate::rt::task::{Spawner, Stop, TaskGroup};
use crate::rt::time::Duration;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The calls under way. They run beside the rare requests of their callers: a caller may be the
/// called client itself, and its answer must be read while it waits.
pub struct Calls {
    running_count: AtomicUsize,
    count_max: usize,
    spawner: Spawner,
    stop: Stop,
}

/// Why a client gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It was asked, and its connection ended before it answered.
    Died(String),
    /// It could not be asked.
    Gone(String),
    /// This broker stops.
    Stopping,
    TimedOut {
        addr: String,
        after: Duration,
    },
}

impl Calls {
    /// Calls end with the group: whoever waits is told that the broker stops.
    pub fn new(group: &TaskGroup, count_max: usize) -> Self {
        let (spawner, stop) = (group.spawner(), group.stop_signal());
        Calls { running_count: AtomicUsize::new(0), count_max, spawner, stop }
    }

    pub fn running_count(&self) -> usize {
        self.running_count.load(Ordering::Relaxed)
    }

    /// Asks a client and waits.
    pub async fn ask(
        &self,
        peer: &Peer,
        request: Command,
        timeout: Duration,
    ) -> Result<Command, Failure> {
        if !peer.is_open() {
            return Err(Failure::Gone(format!("the connection to {} is closed", peer.addr())));
        }
        let mut stop = self.stop.clone();
        let answer = crate::rt::select! {
            _ = stop.wait() => return Err(Failure::Stopping),
            answer = peer.invoke(request, timeout) => answer,
        };
        answer.map_err(|error| match error {
            Error::TimedOut { addr, after } => Failure::TimedOut { addr, after },
            Error::Closed { .. } => Failure::Died(error.to_string()),
            _ => Failure::Gone(error.to_string()),
        })
    }
}

impl Shared {
    /// Runs work that waits for clients.
    /// Errors: as many calls as may be are under way; the work is dropped.
    pub fn call_later(
        self: &Arc<Self>,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Refusal> {
        let calls = &self.calls;
        if calls.running_count() >= calls.count_max {
            return Err(Refusal::overload("as many calls to clients as may be wait for an answer"));
        }
        calls.running_count.fetch_add(1, Ordering::Relaxed);
        let running = Running(self.clone());
        calls.spawner.spawn(async move {
            work.await;
            drop(running);
        });
        Ok(())
    }
}

/// Counts itself out however its task ends.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.calls.running_count.fetch_sub(1, Ordering::Relaxed);
    }
}
