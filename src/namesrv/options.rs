//! What a name server can be told.

use crate::rt::rng::Rng;
use crate::rt::time::Duration;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// A change that was checked and is not made yet.
#[derive(Clone, Debug)]
pub struct Change {
    /// Key and value, in the order of the request.
    pub said: Vec<(String, String)>,
    pub order_message_enable: bool,
}

/// The configuration as tools see it and change it; keys and text are another room's.
/// Source: Configuration (4.9.3).
pub trait Configuration: Send + Sync + std::fmt::Debug {
    /// `key=value` lines, every key.
    fn text(&self) -> String;
    /// Reads Java properties. Changes nothing.
    /// Errors: each key that is unknown, has a bad value or needs a restart, with what to do.
    fn prepare(&self, properties: &str) -> Result<Change, String>;
    /// The file in which changes are kept, if there is one.
    fn file(&self) -> Option<&str>;
    /// The file's text with the change in it; every other line as it was.
    fn edited(&self, text: &str, change: &Change) -> String;
    /// The change is made.
    fn commit(&self, change: &Change);
}

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
    /// What tools read and change; without it they are told that there is none.
    pub configuration: Option<Arc<dyn Configuration>>,
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
            configuration: None,
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
