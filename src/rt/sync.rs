//! Channels and locks that behave the same in both worlds.

pub use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

/// A lock without poisoning. Never held across an await; on the broker thread it is uncontended.
#[derive(Debug, Default)]
pub struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub fn new(value: T) -> Self {
        Mutex(std::sync::Mutex::new(value))
    }

    /// A panic while locked leaves the value as it was at that moment; the owner decides at its
    /// task's edge whether the process may go on.
    pub fn lock(&self) -> std::sync::MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// One value, many readers who wait for it to change. Ours because tokio's draws from a
/// process-wide counter, which makes the same seed diverge.
pub mod watch {
    use super::{Mutex, Notify};
    use std::sync::Arc;

    struct Shared<T> {
        value: Mutex<(T, u64)>,
        changed: Notify,
    }

    pub struct Sender<T>(Arc<Shared<T>>);
    pub struct Receiver<T> {
        shared: Arc<Shared<T>>,
        seen: u64,
    }

    pub fn channel<T: Clone>(value: T) -> (Sender<T>, Receiver<T>) {
        let shared = Arc::new(Shared { value: Mutex::new((value, 0)), changed: Notify::new() });
        (Sender(shared.clone()), Receiver { shared, seen: 0 })
    }

    impl<T: Clone> Sender<T> {
        pub fn send(&self, value: T) {
            {
                let mut slot = self.0.value.lock();
                *slot = (value, slot.1 + 1);
            }
            self.0.changed.notify_waiters();
        }
        pub fn get(&self) -> T {
            self.0.value.lock().0.clone()
        }
        pub fn subscribe(&self) -> Receiver<T> {
            let seen = self.0.value.lock().1;
            Receiver { shared: self.0.clone(), seen }
        }
    }

    impl<T: Clone> Clone for Receiver<T> {
        fn clone(&self) -> Self {
            Receiver { shared: self.shared.clone(), seen: self.seen }
        }
    }

    impl<T: Clone> Receiver<T> {
        pub fn get(&self) -> T {
            self.shared.value.lock().0.clone()
        }
        /// Waits until the value was sent again since this receiver last looked, and returns it.
        pub async fn changed(&mut self) -> T {
            self.wait_for(|_| true, true).await
        }
        /// Waits until `wanted` holds, also when it holds already.
        pub async fn until(&mut self, wanted: impl Fn(&T) -> bool) -> T {
            self.wait_for(wanted, false).await
        }
        async fn wait_for(&mut self, wanted: impl Fn(&T) -> bool, only_newer: bool) -> T {
            loop {
                let changed = self.shared.changed.notified();
                let mut changed = std::pin::pin!(changed);
                changed.as_mut().enable();
                {
                    let slot = self.shared.value.lock();
                    if (!only_newer || slot.1 != self.seen) && wanted(&slot.0) {
                        self.seen = slot.1;
                        return slot.0.clone();
                    }
                }
                changed.await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::watch;

    #[test]
    fn a_watch_wakes_a_waiter_and_remembers_a_value_sent_before_the_wait() {
        crate::rt::block_on(async {
            let (sender, mut receiver) = watch::channel(0);
            sender.send(1);
            assert_eq!(receiver.changed().await, 1);
            let group = crate::rt::task::TaskGroup::new();
            group.spawn(async move { sender.send(7) });
            assert_eq!(receiver.until(|value| *value == 7).await, 7);
        });
    }
}
