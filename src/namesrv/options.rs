//! What a name server can be told.

use crate::rt::rng::Rng;
use crate::rt::time::Duration;
use std::net::{Ipv4Addr, SocketAddr};

/// Every bound, with its unit.
#[derive(Clone, Debug)]
pub struct Options {
    /// `bindAddress` and `listenPort`.
    pub listen: SocketAddr,
    /// `kvConfigPath`.
    pub kv_config_path: String,
    /// `orderMessageEnable`: route answers carry the order configuration of the topic.
    pub order_message_enable: bool,
    /// A broker that is not heard of for so long is forgotten.
    /// Source: RouteInfoManager#BROKER_CHANNEL_EXPIRED_TIME (4.9.3).
    pub broker_silence_max: Duration,
    /// Live brokers; each costs a row and a connection.
    pub brokers_max: usize,
    /// Topics over all brokers.
    pub topics_max: usize,
    /// Longest key-value configuration. Units: bytes of its file.
    pub kv_size_max: usize,
    /// What the request for the configuration is answered: `key=value` lines.
    pub config_text: String,
    pub server: crate::remoting::ServerOptions,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 9876)),
            kv_config_path: "namesrv/kvConfig.json".to_owned(),
            order_message_enable: false,
            broker_silence_max: Duration::from_secs(120),
            brokers_max: 10_000,
            topics_max: 500_000,
            kv_size_max: 16 << 20,
            config_text: String::new(),
            server: crate::remoting::ServerOptions::default(),
        }
    }
}

impl Options {
    /// Small bounds for one run of the simulation.
    pub fn swarm(rng: &mut Rng) -> Self {
        Options {
            broker_silence_max: Duration::from_millis(rng.between(20_000, 120_000)),
            order_message_enable: rng.chance(0.5),
            server: crate::remoting::ServerOptions::swarm(rng),
            ..Options::default()
        }
    }
}
