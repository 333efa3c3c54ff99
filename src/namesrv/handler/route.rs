//! Where a topic is, and who is in which cluster: requests 105, 106.

use super::{Answer, Refusal, Shared, done};
use crate::protocol::Command;
use crate::protocol::body::cluster::ClusterInfo;
use crate::protocol::body::{self, Dialect};
use crate::protocol::code::response_code;
use crate::protocol::header::route::GetRouteInfoHeader;
use std::sync::atomic::Ordering;

/// Clients of this version and later read keys in quotes. Source: MQVersion#V4_9_4 (4.9.4).
const VERSION_OF_STANDARD_JSON: i32 = 401;

/// Source: FAQUrl#suggestTodo (4.9.3).
const SEE: &str = "\nSee http://rocketmq.apache.org/docs/faq/ for further details.";

impl Shared {
    /// Source: DefaultRequestProcessor#getRouteInfoByTopic (4.9.3; the dialects since 4.9.4).
    pub(super) fn route_of_topic(&self, request: &Command) -> Answer {
        let header = GetRouteInfoHeader::decode(&request.fields())?;
        let topic = &header.topic;
        let route = self.routes.lock().route(topic);
        let Some(mut route) = route else {
            let remark = format!("No topic route info in name server for the topic: {topic}{SEE}");
            return Err(Refusal::new(response_code::TOPIC_NOT_EXIST, remark));
        };
        if self.order_message_enable.load(Ordering::Relaxed) {
            route.order_topic_conf = self.order_topic(topic);
        }
        let is_new =
            request.version >= VERSION_OF_STANDARD_JSON || header.accepts_standard_json_only;
        let dialect = if is_new { Dialect::Standard } else { Dialect::Fastjson };
        Ok(done().with_body(body::encode(&route, dialect)))
    }

    /// Source: RouteInfoManager#getAllClusterInfo: always in the old dialect.
    pub(super) fn cluster_info(&self) -> Answer {
        let routes = self.routes.lock();
        let brokers = routes.brokers().map(|broker| (broker.broker_name.clone(), broker.clone()));
        let info = ClusterInfo {
            broker_addr_table: brokers.collect(),
            cluster_addr_table: routes.clusters().clone(),
        };
        Ok(done().with_body(body::encode(&info, Dialect::Fastjson)))
    }
}
