//! Tasks that end before their owner does.

use super::sync::{Mutex, Notify, watch};
use super::time::{Clock, Mono};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::Poll;
pub use tokio::task::yield_now;

/// The stop signal of a `TaskGroup`, as its tasks see it.
#[derive(Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Resolves when the group was told to stop.
    pub async fn wait(&mut self) {
        self.0.until(|stopped| *stopped).await;
    }
    pub fn is_set(&self) -> bool {
        self.0.get()
    }
}

struct Members {
    next: u64,
    running: BTreeMap<u64, tokio::task::AbortHandle>,
}

struct Inner {
    stop: watch::Sender<bool>,
    members: Mutex<Members>,
    left: Notify,
}

/// A set of tasks with one stop signal. Dropping the last handle aborts what still runs.
#[derive(Clone)]
pub struct TaskGroup {
    inner: Arc<Inner>,
    _guard: Arc<AbortOnDrop>,
}

struct AbortOnDrop(Arc<Inner>);
impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.stop.send(true);
        let running = std::mem::take(&mut self.0.members.lock().running);
        running.values().for_each(tokio::task::AbortHandle::abort);
    }
}

struct Leave(Arc<Inner>, u64);
impl Drop for Leave {
    fn drop(&mut self) {
        self.0.members.lock().running.remove(&self.1);
        self.0.left.notify_waiters();
    }
}

/// See `TaskGroup::spawner`: for what the group's own tasks hold.
#[derive(Clone)]
pub struct Spawner(Weak<AbortOnDrop>);

impl Spawner {
    /// Runs `work` in the group; drops it when the group is gone.
    pub fn spawn<F: Future<Output = ()> + Send + 'static>(&self, work: F) {
        if let Some(guard) = self.0.upgrade() {
            start(&guard.0, work);
        }
    }
}

// Not `expect`: under simulation `tokio::spawn` is another crate's and not on the list.
#[allow(clippy::disallowed_methods, reason = "the one place where tasks start")]
fn start<F: Future<Output = ()> + Send + 'static>(group: &Arc<Inner>, work: F) {
    let mut members = group.members.lock();
    let id = members.next;
    members.next += 1;
    let leave = Leave(group.clone(), id);
    let task = tokio::spawn(async move {
        let _leave = leave;
        work.await;
    });
    members.running.insert(id, task.abort_handle());
}

impl Default for TaskGroup {
    fn default() -> Self {
        Self::new()
    }
}

impl TaskGroup {
    pub fn new() -> Self {
        let members = Mutex::new(Members { next: 0, running: BTreeMap::new() });
        let inner = Arc::new(Inner { stop: watch::channel(false).0, members, left: Notify::new() });
        TaskGroup { _guard: Arc::new(AbortOnDrop(inner.clone())), inner }
    }

    /// A way to start tasks in this group that does not keep it alive.
    pub fn spawner(&self) -> Spawner {
        Spawner(Arc::downgrade(&self._guard))
    }

    pub fn stop_signal(&self) -> Stop {
        Stop(self.inner.stop.subscribe())
    }

    /// Runs `work` until it ends, or until the group is dropped or its shutdown runs out of time.
    pub fn spawn<F: Future<Output = ()> + Send + 'static>(&self, work: F) {
        start(&self.inner, work);
    }

    pub fn count(&self) -> usize {
        self.inner.members.lock().running.len()
    }

    /// Tells every task to stop. Returns at once.
    pub fn stop(&self) {
        self.inner.stop.send(true);
    }

    /// Stops, waits for the tasks until `deadline`, then aborts the rest. Returns how many had to
    /// be aborted.
    pub async fn shutdown(&self, clock: &Clock, deadline: Mono) -> usize {
        self.stop();
        loop {
            let left = self.inner.left.notified();
            let mut left = std::pin::pin!(left);
            left.as_mut().enable();
            if self.count() == 0 {
                return 0;
            }
            if clock.before(deadline, left).await.is_none() {
                let rest = std::mem::take(&mut self.inner.members.lock().running);
                rest.values().for_each(tokio::task::AbortHandle::abort);
                return rest.len();
            }
        }
    }
}

/// Waits for all of `futures`, which make progress side by side. Results are in their order.
pub async fn all<T>(mut futures: Vec<Pin<Box<dyn Future<Output = T> + Send>>>) -> Vec<T> {
    let mut results: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (future, result) in futures.iter_mut().zip(&mut results) {
            if result.is_none()
                && let Poll::Ready(value) = future.as_mut().poll(context)
            {
                *result = Some(value);
            }
        }
        if results.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    results.into_iter().flatten().collect()
}

/// Runs `work` without an owner: for the end of the process only.
#[cfg(not(madsim))]
#[expect(clippy::disallowed_methods, reason = "see above")]
pub fn spawn_detached<F: Future<Output = ()> + Send + 'static>(work: F) {
    tokio::spawn(work);
}

/// Runs a blocking call (sync, cold read, allocation, unlink) on the pool of threads made for it.
/// Errors: the call panicked, or the runtime is ending.
#[cfg(not(madsim))]
#[expect(clippy::disallowed_methods, reason = "the one door to the blocking pool")]
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| std::io::Error::other(format!("a blocking call did not end: {e}")))
}

/// In simulation nothing blocks: the call runs in place.
#[cfg(madsim)]
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<T> {
    Ok(work())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::time::Duration;

    #[test]
    fn a_group_ends_its_tasks_and_says_how_many_did_not_listen() {
        crate::rt::block_on(async {
            let clock = Clock::new();
            let group = TaskGroup::new();
            let mut stop = group.stop_signal();
            group.spawn(async move { stop.wait().await });
            group.spawn(std::future::pending());
            let deadline = clock.mono() + Duration::from_millis(20);
            assert_eq!(group.shutdown(&clock, deadline).await, 1);
            assert_eq!(group.shutdown(&clock, deadline).await, 0);
        });
    }
}
