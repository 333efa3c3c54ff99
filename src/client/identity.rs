//! Who a client is: its id among the members of a group, and the ids of its messages.

use crate::format::message_id::{self, UniqueId};
use crate::model::WallMillis;
use crate::rt::rng::Rng;
use std::net::IpAddr;

/// Source: ClientConfig#buildMQClientId, MessageClientIDSetter (4.9.3).
#[derive(Clone, Debug)]
pub struct Identity {
    ip: IpAddr,
    process: u32,
    /// Tells two clients of one process apart.
    instance: u64,
    counter: u16,
}

impl Identity {
    /// The identity of one client of process `process` on a machine with address `ip`.
    pub fn new(ip: IpAddr, process: u32, rng: &mut Rng) -> Self {
        let instance = rng.next_u64();
        Identity { ip, process, instance, counter: (instance >> 48) as u16 }
    }

    /// `ip@pid#instance`, as clustering consumers and producers of 4.9.3 are named.
    pub fn client_id(&self) -> String {
        format!("{}@{}#{}", self.ip, self.process, self.instance)
    }

    /// A message id that no other message has.
    /// Differs: the month is that of UTC; readers only estimate a send time from it.
    pub fn next_unique_id(&mut self, now: WallMillis) -> String {
        self.counter = self.counter.wrapping_add(1);
        UniqueId {
            ip: self.ip,
            process: self.process as u16,
            loader: self.instance as u32,
            since_month_ms: message_id::since_month_ms(now, 0),
            counter: self.counter,
        }
        .encode()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ids_differ_within_a_millisecond() {
        let ip = "10.0.0.1".parse().unwrap();
        let mut identity = Identity::new(ip, 70_000, &mut Rng::from_seed(1));
        let ids: BTreeSet<_> =
            (0..65_536).map(|_| identity.next_unique_id(WallMillis(1_700_000_000_000))).collect();
        assert_eq!(ids.len(), 65_536);
        let one = UniqueId::parse(ids.first().unwrap()).unwrap();
        assert_eq!((one.ip, one.process), (ip, 70_000u32 as u16));
        assert!(identity.client_id().starts_with("10.0.0.1@70000#"));
    }
}
