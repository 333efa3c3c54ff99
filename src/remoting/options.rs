//! What a server and a client of this room can be told.

use crate::protocol::frame::Serialize;
use crate::rt::rng::Rng;
use crate::rt::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// A client's connection ends by the client's own will: only answers can be on their way.
const CLIENT_DRAIN_QUIET: Duration = Duration::from_millis(5);

/// Bounds of one connection, whichever side opened it.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// Longest frame, with its four length bytes. Units: bytes. Longer ones close the connection.
    /// Source: NettyDecoder, com.rocketmq.remoting.frameMaxLength (4.9.3)
    pub frame_size_max: usize,
    /// Most that one turn takes from a socket: enough to batch, not enough to starve the others.
    /// Units: bytes.
    pub read_size_max: usize,
    /// What a connection that has been quiet offers to its first read. Units: bytes.
    pub read_size_min: usize,
    /// Replies that wait for a slow reader before we stop reading its requests. Units: bytes.
    pub unsent_pause_size: usize,
    /// Replies that wait for a slow reader before it is dropped. Units: bytes.
    pub unsent_size_max: usize,
    /// How long a peer may leave waiting replies untouched before it is dropped.
    pub write_stall_max: Duration,
    /// Replies that wait for so long are copied: they may be views of files that were removed.
    pub share_max: Duration,
    /// How long a begun frame may go without `frame_progress_size` more of it: a peer that drips
    /// bytes holds memory for nothing.
    pub frame_stall_max: Duration,
    /// See `frame_stall_max`. Units: bytes.
    pub frame_progress_size: usize,
    /// A connection on which nothing was read or written for so long is closed.
    /// Source: NettyServerConfig#serverChannelMaxIdleTimeSeconds (4.9.3)
    pub idle_max: Duration,
    /// How long a connection that is to end waits for one more request, so that it ends after an
    /// answer and not while the next request is on its way.
    pub drain_quiet: Duration,
    /// Rare requests that run at one time. More wait in order, and reading pauses.
    pub running_count_max: usize,
    /// Requests of ours that wait for the peer's answer. More are refused.
    pub pending_count_max: usize,
    /// How our own requests are written. A peer's requests say themselves how they are.
    pub serialize: Serialize,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        ConnectionOptions {
            frame_size_max: 16 * MIB,
            read_size_max: 256 * KIB,
            read_size_min: 8 * KIB,
            unsent_pause_size: 4 * MIB,
            unsent_size_max: 64 * MIB,
            write_stall_max: Duration::from_secs(30),
            share_max: Duration::from_secs(15),
            frame_stall_max: Duration::from_secs(30),
            frame_progress_size: KIB,
            idle_max: Duration::from_secs(120),
            drain_quiet: Duration::from_millis(50),
            running_count_max: 64,
            pending_count_max: 65_536,
            serialize: Serialize::Json,
        }
    }
}

impl ConnectionOptions {
    /// Small bounds drawn for one simulated run, so that rare paths are common there.
    pub fn swarm(rng: &mut Rng) -> Self {
        let read_size_min = 1 << rng.between(6, 13);
        ConnectionOptions {
            read_size_min,
            read_size_max: read_size_min << rng.between(0, 5),
            unsent_pause_size: 1 << rng.between(12, 22),
            running_count_max: rng.between(1, 64) as usize,
            ..Self::default()
        }
    }
}

/// What a `Server` can be told.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    pub connection: ConnectionOptions,
    /// Connections in all; the next one is closed at once. Each costs about 2 KB and a descriptor.
    pub connection_count_max: usize,
    /// Request bytes that are being received or worked on, over all connections; a frame's size is
    /// taken when its length is read. Beyond it, reading waits. Units: bytes.
    pub inflight_size_max: usize,
    /// How long a shutdown waits for peers to take the replies they were owed.
    pub drain_max: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        ServerOptions {
            connection: ConnectionOptions::default(),
            connection_count_max: 50_000,
            inflight_size_max: 256 * MIB,
            drain_max: Duration::from_secs(3),
        }
    }
}

impl ServerOptions {
    /// See `ConnectionOptions::swarm`.
    pub fn swarm(rng: &mut Rng) -> Self {
        let connection = ConnectionOptions::swarm(rng);
        let inflight_size_max = connection.frame_size_max * rng.between(1, 4) as usize;
        ServerOptions { connection, inflight_size_max, ..Self::default() }
    }
}

/// What a `Client` can be told.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    pub connection: ConnectionOptions,
    /// How long one dial may take. Source: NettyClientConfig#connectTimeoutMillis (4.9.3)
    pub dial_timeout: Duration,
    /// Pause after the first failed dial of an address; doubled by each further one.
    pub backoff_min: Duration,
    pub backoff_max: Duration,
    /// Addresses with an open connection. Beyond it the longest unused one is closed.
    pub connection_count_max: usize,
    /// Bytes of answers that are being received, over all connections. Units: bytes.
    pub inflight_size_max: usize,
    /// How long a shutdown waits for what was written to leave.
    pub drain_max: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        ClientOptions {
            connection: ConnectionOptions {
                drain_quiet: CLIENT_DRAIN_QUIET,
                ..ConnectionOptions::default()
            },
            dial_timeout: Duration::from_secs(3),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
            connection_count_max: 10_000,
            inflight_size_max: 256 * MIB,
            drain_max: Duration::from_secs(1),
        }
    }
}

impl ClientOptions {
    /// See `ConnectionOptions::swarm`.
    pub fn swarm(rng: &mut Rng) -> Self {
        ClientOptions {
            connection: ConnectionOptions {
                drain_quiet: CLIENT_DRAIN_QUIET,
                ..ConnectionOptions::swarm(rng)
            },
            dial_timeout: Duration::from_millis(rng.between(500, 3_000)),
            backoff_min: Duration::from_millis(rng.between(10, 200)),
            backoff_max: Duration::from_millis(rng.between(500, 5_000)),
            ..Self::default()
        }
    }
}
