//! The real disk, network, clock and dice, and the group in which a server's tasks run.

use crate::disk::Disk;
use crate::disk::real::RealDisk;
use crate::net::Net;
use crate::net::tcp::TcpNet;
use crate::rt::rng::Rng;
use crate::rt::task::TaskGroup;
use crate::rt::time::{Clock, Duration};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// How long tasks may take to end after their owner did.
const END_TIMEOUT: Duration = Duration::from_millis(500);

/// What production puts where the simulator puts its own.
pub struct World {
    pub disk: Arc<dyn Disk>,
    pub net: Arc<dyn Net>,
    pub clock: Clock,
    pub rng: Rng,
    pub group: TaskGroup,
}

impl World {
    /// Call it inside the event loop: the clock is the loop's.
    pub fn new() -> Self {
        Self::counting(Arc::default())
    }

    /// The same; the network adds what it receives to `received`. Units: bytes.
    pub fn counting(received: Arc<AtomicU64>) -> Self {
        World {
            disk: Arc::new(RealDisk::new()),
            net: Arc::new(TcpNet::counting(received)),
            clock: Clock::new(),
            rng: Rng::from_entropy(),
            group: TaskGroup::new(),
        }
    }

    /// Waits for the rest of the tasks, not for long.
    pub async fn end(self) {
        self.group.shutdown(&self.clock, self.clock.mono() + END_TIMEOUT).await;
    }
}
