//! Where a topic is: the answer to GET_ROUTEINFO_BY_TOPIC (105).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Source: TopicRouteData (4.9.3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicRouteData {
    pub broker_datas: Vec<BrokerData>,
    /// Broker address to filter servers; empty here, but clients expect the member.
    pub filter_server_table: BTreeMap<String, Vec<String>>,
    /// `broker-a:4;broker-b:4`, for ordered topics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_topic_conf: Option<String>,
    pub queue_datas: Vec<QueueData>,
}

/// The brokers of one name. Source: BrokerData (4.9.3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerData {
    /// Broker id to address; 0 is the master.
    pub broker_addrs: BTreeMap<i64, String>,
    pub broker_name: String,
    pub cluster: String,
}

/// One broker's queues of a topic. Source: QueueData (4.9.3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueueData {
    pub broker_name: String,
    /// Bits: 4 read, 2 write, 1 inherit.
    pub perm: i32,
    pub read_queue_nums: i32,
    pub topic_sys_flag: i32,
    pub write_queue_nums: i32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::body::{Dialect, decode, encode};

    #[test]
    fn a_route_reads_back_from_both_dialects_and_tolerates_nulls() {
        let route = TopicRouteData {
            broker_datas: vec![BrokerData {
                broker_addrs: BTreeMap::from([(0, "10.0.0.1:10911".into())]),
                broker_name: "broker-a".into(),
                cluster: "DefaultCluster".into(),
            }],
            queue_datas: vec![QueueData {
                broker_name: "broker-a".into(),
                perm: 6,
                read_queue_nums: 4,
                topic_sys_flag: 0,
                write_queue_nums: 4,
            }],
            ..Default::default()
        };
        for dialect in [Dialect::Fastjson, Dialect::Standard] {
            let text = encode(&route, dialect);
            assert_eq!(decode::<TopicRouteData>(&text).unwrap(), route);
        }
        let nulls = b"{\"filterServerTable\":{\"a\":null},\"queueDatas\":null,\"more\":1}";
        assert_eq!(decode::<TopicRouteData>(nulls).unwrap(), TopicRouteData::default());
    }
}
