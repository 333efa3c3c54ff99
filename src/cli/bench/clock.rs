//! The time of the measurement. A load generator measures the host, so it asks the host.

use std::sync::LazyLock;
use std::time::Instant;

/// Units: ns since the first call.
#[expect(clippy::disallowed_methods, reason = "what is measured is the host's time")]
pub fn now() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_nanos() as u64
}

/// Units: ns.
pub fn from_seconds(seconds: f64) -> u64 {
    (seconds.max(0.0) * 1e9) as u64
}
