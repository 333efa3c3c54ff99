//! Brokers that come, stay and go: requests 103, 104, 322.

use super::{Answer, Refusal, Shared, done, required, required_number};
use crate::namesrv::route_table::{DataVersion, Registration, TopicRow};
use crate::protocol::Command;
use crate::protocol::body;
use crate::protocol::code::response_code;
use crate::remoting::Peer;

impl Shared {
    /// Source: DefaultRequestProcessor#registerBrokerWithFilterServer.
    pub(super) fn register(&self, peer: &Peer, request: &Command) -> Answer {
        check_crc(request)?;
        let (version, topics, filter_servers) = said_topics(request)?;
        let said = Registration {
            cluster: required(request, "clusterName")?.to_owned(),
            name: required(request, "brokerName")?.to_owned(),
            id: required_number(request, "brokerId")?,
            addr: required(request, "brokerAddr")?.to_owned(),
            ha_addr: required(request, "haServerAddr")?.to_owned(),
            version,
            topics,
            filter_servers,
        };
        let registered = {
            let now = self.clock.mono();
            let mut routes = self.routes.lock();
            routes.on_register(now, peer.id(), said)
        };
        let registered = registered
            .map_err(|full| Refusal::new(response_code::SYSTEM_ERROR, full.to_string()))?;
        self.brokers.lock().insert(peer.id(), peer.clone());
        self.deadline_moved.notify_one();
        let mut answer = done();
        if let Some(addr) = registered.ha_addr {
            answer.set_ext("haServerAddr", addr);
        }
        if let Some(addr) = registered.master_addr {
            answer.set_ext("masterAddr", addr);
        }
        Ok(match self.order_topics_body() {
            Some(body) => answer.with_body(body),
            None => answer,
        })
    }

    pub(super) fn unregister(&self, request: &Command) -> Answer {
        let cluster = required(request, "clusterName")?;
        let name = required(request, "brokerName")?;
        let addr = required(request, "brokerAddr")?;
        let id = required_number(request, "brokerId")?;
        self.routes.lock().on_unregister(cluster, name, id, addr);
        self.deadline_moved.notify_one();
        Ok(done())
    }

    /// Source: DefaultRequestProcessor#queryBrokerTopicConfig.
    pub(super) fn query_version(&self, request: &Command) -> Answer {
        let addr = required(request, "brokerAddr")?;
        let asked = body::DataVersion::decode(&request.body)?;
        let asked = DataVersion { timestamp: asked.timestamp, counter: asked.counter };
        let now = self.clock.mono();
        let (is_changed, known) = self.routes.lock().on_query_version(now, addr, asked);
        self.deadline_moved.notify_one();
        let answer = done().with_ext("changed", is_changed);
        Ok(match known {
            Some(DataVersion { timestamp, counter }) => {
                answer.with_body(body::DataVersion { timestamp, counter }.encode())
            }
            None => answer,
        })
    }
}

/// Source: DefaultRequestProcessor#checksum, UtilAll#crc32: the top bit is cleared.
fn check_crc(request: &Command) -> Result<(), Refusal> {
    let said = match request.get("bodyCrc32") {
        Some(_) => required_number(request, "bodyCrc32")?,
        None => 0,
    };
    let found = i64::from(crc32fast::hash(&request.body) & 0x7FFF_FFFF);
    if said != 0 && said != found {
        return Err(Refusal::new(response_code::SYSTEM_ERROR, "crc32 not match"));
    }
    Ok(())
}
