//! Brokers that come, stay and go: requests 103, 104, 322.

use super::{Answer, Refusal, Shared, done};
use crate::namesrv::route_table::Registration;
use crate::protocol::Command;
use crate::protocol::body::register::RegisterBrokerBody;
use crate::protocol::body::{self, DataVersion, Dialect};
use crate::protocol::code::response_code;
use crate::protocol::header::register::{
    BrokerHeader, QueryDataVersionReplyHeader, RegisterBrokerHeader, RegisterBrokerReplyHeader,
};
use crate::remoting::Peer;

/// Below it a registration carries topics alone. Source: MQVersion#V3_0_11 (4.9.3).
const VERSION_WITH_FILTER_SERVERS: i32 = 37;

impl Shared {
    /// Source: DefaultRequestProcessor#registerBrokerWithFilterServer, #registerBroker.
    pub(super) fn register(&self, peer: &Peer, request: &Command) -> Answer {
        let header = RegisterBrokerHeader::decode(&request.fields())?;
        check_crc(request, header.body_crc32.unwrap_or_default())?;
        let (topics, filter_servers) = if request.version >= VERSION_WITH_FILTER_SERVERS {
            let body = RegisterBrokerBody::decode(&request.body, header.is_compressed)?;
            (body.topics, Some(body.filter_server_list))
        } else if request.body.is_empty() {
            (Default::default(), None)
        } else {
            (body::decode(&request.body)?, None)
        };
        let said = Registration {
            cluster: header.cluster_name,
            name: header.broker_name,
            id: header.broker_id,
            addr: header.broker_addr,
            ha_addr: header.ha_server_addr,
            version: topics.data_version,
            topics: topics.topic_config_table.into_values().collect(),
            filter_servers,
        };
        let now = self.clock.mono();
        let registered = self.routes.lock().on_register(now, peer.id(), said);
        let registered = registered
            .map_err(|full| Refusal::new(response_code::SYSTEM_ERROR, full.to_string()))?;
        self.brokers.lock().insert(peer.id(), peer.clone());
        self.deadline_moved.notify_one();
        let reply = RegisterBrokerReplyHeader {
            ha_server_addr: registered.ha_addr,
            master_addr: registered.master_addr,
        };
        Ok(done()
            .with_fields(reply.to_ext())
            .with_body(self.order_topics_body().unwrap_or_default()))
    }

    pub(super) fn unregister(&self, request: &Command) -> Answer {
        let said = BrokerHeader::decode(&request.fields())?;
        self.routes.lock().on_unregister(
            &said.cluster_name,
            &said.broker_name,
            said.broker_id,
            &said.broker_addr,
        );
        self.deadline_moved.notify_one();
        Ok(done())
    }

    /// Source: DefaultRequestProcessor#queryBrokerTopicConfig.
    pub(super) fn query_version(&self, request: &Command) -> Answer {
        let said = BrokerHeader::decode(&request.fields())?;
        let asked: DataVersion = body::decode(&request.body)?;
        let now = self.clock.mono();
        let (is_changed, known) =
            self.routes.lock().on_query_version(now, &said.broker_addr, asked);
        self.deadline_moved.notify_one();
        let body = known.map(|known| body::encode(&known, Dialect::Fastjson));
        let reply = QueryDataVersionReplyHeader { is_changed };
        Ok(done().with_fields(reply.to_ext()).with_body(body.unwrap_or_default()))
    }
}

/// Source: DefaultRequestProcessor#checksum, UtilAll#crc32: the top bit is cleared.
fn check_crc(request: &Command, said: i32) -> Result<(), Refusal> {
    if said != 0 && said as u32 != crc32fast::hash(&request.body) & 0x7FFF_FFFF {
        return Err(Refusal::new(response_code::SYSTEM_ERROR, "crc32 not match"));
    }
    Ok(())
}
