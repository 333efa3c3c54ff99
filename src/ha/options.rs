//! What replication can be told.

use crate::rt::rng::Rng;
use crate::rt::time::Duration;

/// Every bound of replication, with its unit.
#[derive(Clone, Debug)]
pub struct Options {
    /// `haSendHeartbeatInterval`: a master that sent nothing for so long sends an empty frame, a
    /// slave its report.
    pub heartbeat_interval: Duration,
    /// `haHousekeepingInterval`: an end that heard nothing for so long closes the connection.
    pub silence_max: Duration,
    /// `haTransferBatchSize`: log bytes of one frame. A Java slave takes less than 4 MiB.
    /// Units: bytes.
    pub batch_size: usize,
    /// Frames wait to be taken by a slave up to so much; more is read from the log then.
    /// Units: bytes.
    pub unsent_size_max: usize,
    /// A frame with more is not from a master. Units: bytes.
    pub frame_size_max: usize,
    /// Slaves that may be connected at a time.
    pub slaves_max: usize,
    pub dial_timeout: Duration,
    /// After a lost connection a slave dials again at once, and then after a pause that doubles
    /// up to this.
    pub dial_pause_max: Duration,
    /// A slave that cannot take what it was sent tries again after this.
    pub retry_interval: Duration,
    /// A token of a greeting opens a connection for so long.
    pub token_lifetime: Duration,
    /// Tokens that wait to be used; the oldest of more are void.
    pub tokens_max: usize,
    /// A slave without any log gets the master's last file only, as in 4.9, and not everything.
    pub starts_at_last_file: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            heartbeat_interval: Duration::from_secs(5),
            silence_max: Duration::from_secs(20),
            batch_size: 32 << 10,
            unsent_size_max: 256 << 10,
            frame_size_max: 4 << 20,
            slaves_max: 64,
            dial_timeout: Duration::from_secs(5),
            dial_pause_max: Duration::from_secs(5),
            retry_interval: Duration::from_millis(100),
            token_lifetime: Duration::from_secs(30),
            tokens_max: 64,
            starts_at_last_file: false,
        }
    }
}

impl Options {
    /// Small and hurried, drawn from `rng`: what the simulator runs.
    pub fn swarm(rng: &mut Rng) -> Self {
        let mut ms = |lo, hi| Duration::from_millis(rng.between(lo, hi));
        let heartbeat_interval = ms(50, 5000);
        Options {
            heartbeat_interval,
            silence_max: heartbeat_interval * 4,
            dial_pause_max: ms(100, 5000),
            retry_interval: ms(10, 200),
            batch_size: rng.between(1, 32 << 10) as usize,
            unsent_size_max: rng.between(1, 64 << 10) as usize,
            ..Options::default()
        }
    }
}
