//! Lists of topics, and what mqadmin changes in them: requests 205, 206, 216, 224, 304, 311 to
//! 313, 327.

use super::{Answer, Shared, done};
use crate::protocol::Command;
use crate::protocol::body::list::TopicList;
use crate::protocol::body::{self, Dialect};
use crate::protocol::header::route::{
    AddWritePermReplyHeader, TopicsByClusterHeader, WipeWritePermReplyHeader, WritePermHeader,
};
use crate::protocol::header::topic::DeleteTopicHeader;

/// Source: TopicSysFlag (4.9.3).
const FLAG_UNIT: i32 = 1;
const FLAG_UNIT_SUB: i32 = 2;

pub(super) const UNIT: fn(i32) -> bool = |flag| flag & FLAG_UNIT != 0;
pub(super) const UNIT_SUB: fn(i32) -> bool = |flag| flag & FLAG_UNIT_SUB != 0;
pub(super) const UNIT_SUB_WITHOUT_UNIT: fn(i32) -> bool =
    |flag| flag & (FLAG_UNIT | FLAG_UNIT_SUB) == FLAG_UNIT_SUB;

impl Shared {
    pub(super) fn all_topics(&self) -> Answer {
        list(self.routes.lock().topics(), None)
    }

    pub(super) fn topics_of_cluster(&self, request: &Command) -> Answer {
        let header = TopicsByClusterHeader::decode(&request.fields())?;
        list(self.routes.lock().topics_of_cluster(&header.cluster), None)
    }

    pub(super) fn topics_by_flag(&self, passes: fn(i32) -> bool) -> Answer {
        list(self.routes.lock().topics_by_flag(passes), None)
    }

    /// Names of clusters and brokers, which are topics on every broker; and any broker to ask.
    /// Source: RouteInfoManager#getSystemTopicList.
    pub(super) fn system_topics(&self) -> Answer {
        let routes = self.routes.lock();
        let names = routes.clusters().iter().flat_map(|(cluster, brokers)| {
            std::iter::once(cluster.as_str()).chain(brokers.iter().map(String::as_str))
        });
        let any = routes.brokers().find_map(|broker| broker.broker_addrs.values().next().cloned());
        list(names, any)
    }

    pub(super) fn delete_topic(&self, request: &Command) -> Answer {
        let header = DeleteTopicHeader::decode(&request.fields())?;
        self.routes.lock().on_delete_topic(&header.topic);
        Ok(done())
    }

    pub(super) fn wipe_write(&self, request: &Command) -> Answer {
        let header = WritePermHeader::decode(&request.fields())?;
        let wipe_topic_count = self.routes.lock().on_wipe_write(&header.broker_name);
        Ok(done().with_fields(WipeWritePermReplyHeader { wipe_topic_count }.to_ext()))
    }

    pub(super) fn add_write(&self, request: &Command) -> Answer {
        let header = WritePermHeader::decode(&request.fields())?;
        let add_topic_count = self.routes.lock().on_add_write(&header.broker_name);
        Ok(done().with_fields(AddWritePermReplyHeader { add_topic_count }.to_ext()))
    }
}

fn list<'t>(topics: impl IntoIterator<Item = &'t str>, broker_addr: Option<String>) -> Answer {
    let topic_list = topics.into_iter().map(str::to_owned).collect();
    Ok(done().with_body(body::encode(&TopicList { broker_addr, topic_list }, Dialect::Fastjson)))
}
