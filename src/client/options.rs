//! What a client can be told.

use crate::remoting::ClientOptions;
use crate::rt::rng::Rng;
use crate::rt::time::Duration;

#[derive(Clone, Debug)]
pub struct Options {
    /// `host:port` of each name server.
    pub name_servers: Vec<String>,
    /// The group that this client sends for.
    pub producer_group: String,
    /// For routes, heartbeats and everything without a limit of its own.
    /// Source: ClientConfig#mqClientApiTimeout (4.9.3).
    pub request_timeout: Duration,
    /// For offsets. Source: RemoteBrokerOffsetStore (4.9.3).
    pub offset_timeout: Duration,
    /// For all tries of one send, the route included.
    /// Source: DefaultMQProducer#sendMsgTimeout (4.9.3).
    pub send_timeout: Duration,
    /// Units: tries of one send. Source: 1 + DefaultMQProducer#retryTimesWhenSendFailed (4.9.3).
    pub send_tries_max: u32,
    /// Whether FLUSH_DISK_TIMEOUT and its like are tried again elsewhere.
    /// Source: DefaultMQProducer#retryAnotherBrokerWhenNotStoreOK (4.9.3).
    pub retry_when_not_ok: bool,
    /// The template of topics that do not exist. Source: DefaultMQProducer#createTopicKey (4.9.3).
    pub default_topic: String,
    /// Units: queues of a topic made from the template.
    pub default_topic_queues: u32,
    /// Units: bytes of a body. Source: DefaultMQProducer#maxMessageSize (4.9.3).
    pub body_size_max: usize,
    /// How long a broker may hold a pull that asks to wait.
    /// Source: DefaultMQPullConsumer#brokerSuspendMaxTimeMillis (4.9.3).
    pub pull_suspend: Duration,
    /// For a pull that asks to wait; must be longer than `pull_suspend`.
    pub pull_timeout_suspended: Duration,
    /// For a pull that does not.
    pub pull_timeout: Duration,
    /// Routes that are in use are asked for this often.
    /// Source: ClientConfig#pollNameServerInterval (4.9.3).
    pub route_interval: Duration,
    /// Source: ClientConfig#heartbeatBrokerInterval (4.9.3).
    pub heartbeat_interval: Duration,
    /// The same for a topic that is not known yet.
    pub template_interval: Duration,
    /// Units: topics whose route is kept.
    pub topics_max: usize,
    pub remoting: ClientOptions,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            name_servers: Vec::new(),
            producer_group: "HOTFIRE_PRODUCER".to_owned(),
            request_timeout: Duration::from_secs(3),
            offset_timeout: Duration::from_secs(5),
            send_timeout: Duration::from_secs(3),
            send_tries_max: 3,
            retry_when_not_ok: false,
            default_topic: "TBW102".to_owned(),
            default_topic_queues: 4,
            body_size_max: 4 << 20,
            pull_suspend: Duration::from_secs(20),
            pull_timeout_suspended: Duration::from_secs(30),
            pull_timeout: Duration::from_secs(10),
            route_interval: Duration::from_secs(30),
            heartbeat_interval: Duration::from_secs(30),
            template_interval: Duration::from_secs(1),
            topics_max: 10_000,
            remoting: ClientOptions::default(),
        }
    }
}

impl Options {
    /// Options of a client of these name servers, written `host:port;host:port`.
    pub fn of_name_servers(addrs: &str) -> Self {
        let addrs = addrs.split(';').map(str::trim).filter(|addr| !addr.is_empty());
        Options { name_servers: addrs.map(str::to_owned).collect(), ..Self::default() }
    }

    /// Short times drawn for one simulated run, so that limits are met there.
    pub fn swarm(rng: &mut Rng) -> Self {
        let ms = |rng: &mut Rng, lo, hi| Duration::from_millis(rng.between(lo, hi));
        let pull_suspend = ms(rng, 200, 20_000);
        Options {
            request_timeout: ms(rng, 300, 3_000),
            offset_timeout: ms(rng, 300, 5_000),
            send_timeout: ms(rng, 300, 5_000),
            send_tries_max: rng.between(1, 4) as u32,
            retry_when_not_ok: rng.chance(0.2),
            default_topic_queues: rng.between(1, 8) as u32,
            pull_suspend,
            pull_timeout_suspended: pull_suspend + ms(rng, 1_000, 10_000),
            pull_timeout: ms(rng, 500, 10_000),
            route_interval: ms(rng, 500, 30_000),
            heartbeat_interval: ms(rng, 1_000, 30_000),
            remoting: ClientOptions::swarm(rng),
            ..Self::default()
        }
    }
}
