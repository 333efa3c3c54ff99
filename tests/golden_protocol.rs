//! Frames, headers and bodies as Java 4.9.3 puts them on the wire.
//!
//! Provenance of each is said where it stands. "Observed" means: taken from the wire of a 4.9.3
//! name server or broker, built from its tag and run on JDK 17 with fastjson 1.2.76.

#![allow(clippy::unwrap_used)] // a test that cannot go on may stop here

use bytes::BytesMut;
use hotfire::protocol::body::client::{ConsumeType, HeartbeatData, MessageModel};
use hotfire::protocol::body::cluster::ClusterInfo;
use hotfire::protocol::body::list::{ConsumerList, KvTable, TopicList};
use hotfire::protocol::body::offset::{ConsumerOffsets, DelayOffsets};
use hotfire::protocol::body::register::{RegisterBrokerBody, body_crc32};
use hotfire::protocol::body::route::{BrokerData, QueueData, TopicRouteData};
use hotfire::protocol::body::{Dialect, decode, encode};
use hotfire::protocol::frame::{FRAME_SIZE_MAX, Serialize, cut};
use hotfire::protocol::reply::{PullReply, SendReply, Stored};
use hotfire::protocol::reply::{encode_pull_reply, encode_reply, encode_send_reply};
use hotfire::protocol::{Command, Language};
use std::collections::{BTreeMap, BTreeSet};

fn bytes(hex: &str) -> BytesMut {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn encoded(command: &Command, serialize: Serialize) -> BytesMut {
    let mut out = BytesMut::new();
    command.encode(serialize, &mut out);
    out
}

fn read(mut bytes: BytesMut) -> Command {
    let frame = cut(&mut bytes, FRAME_SIZE_MAX).unwrap().unwrap();
    assert!(bytes.is_empty());
    Command::decode(&frame).unwrap()
}

/// Observed: request 30 as RemotingCommand#encode writes it, in JSON and in ROCKETMQ.
fn get_max_offset() -> Command {
    let command = Command::request(30).with_ext("queueId", 3).with_ext("topic", "T");
    Command { opaque: 7, language: Language::Java, ..command }.with_body("xyz")
}

#[test]
fn a_request_in_json() {
    let header = concat!(
        r#"{"code":30,"extFields":{"queueId":"3","topic":"T"},"flag":0,"language":"JAVA","#,
        r#""opaque":7,"serializeTypeCurrentRPC":"JSON","version":399}"#
    );
    let mut frame = BytesMut::new();
    frame.extend_from_slice(&(4 + header.len() as u32 + 3).to_be_bytes());
    frame.extend_from_slice(&(header.len() as u32).to_be_bytes());
    frame.extend_from_slice(header.as_bytes());
    frame.extend_from_slice(b"xyz");
    assert_eq!(encoded(&get_max_offset(), Serialize::Json), frame);
    assert_eq!(read(frame), get_max_offset());
}

#[test]
fn a_request_in_binary() {
    let frame = bytes(
        "00000038 01000031 001e 00 018f 00000007 00000000 00000002 6869 0000001a
         0007 71756575654964 00000001 33 0005 746f706963 00000001 54 78797a",
    );
    let command = get_max_offset().with_remark("hi");
    assert_eq!(encoded(&command, Serialize::Rocketmq), frame);
    assert_eq!(read(frame), command);
}

/// Source: SendMessageProcessor, RemotingCommand#encode, the order of java.util.HashMap for these
/// keys (hash spread over 16 buckets); shape observed.
#[test]
fn the_reply_to_a_send() {
    let mut out = BytesMut::new();
    let stored = Stored {
        message_id: "7F00000100002A9F0000000000000123",
        queue_id: 3,
        queue_offset: 4_294_967_296,
    };
    let reply = SendReply {
        opaque: -2,
        code: 0,
        remark: None,
        stored: Some(stored),
        region: "DefaultRegion",
        is_traced: true,
    };
    encode_send_reply(&mut out, Serialize::Json, &reply);
    let header = concat!(
        r#"{"code":0,"extFields":{"queueId":"3","TRACE_ON":"true","MSG_REGION":"DefaultRegion","#,
        r#""msgId":"7F00000100002A9F0000000000000123","queueOffset":"4294967296"},"flag":1,"#,
        r#""language":"JAVA","opaque":-2,"serializeTypeCurrentRPC":"JSON","version":399}"#
    );
    assert_eq!(std::str::from_utf8(&out[8..]).unwrap(), header);
    let json = read(out);
    let mut out = BytesMut::new();
    encode_send_reply(&mut out, Serialize::Rocketmq, &reply);
    assert_eq!(read(out), json, "both encodings say the same");
    assert!(json.is_reply());
}

#[test]
fn a_refused_send_has_fields_but_no_place() {
    let mut out = BytesMut::new();
    let reply = SendReply {
        opaque: 1,
        code: 13,
        remark: Some("the message is illegal"),
        stored: None,
        region: "DefaultRegion",
        is_traced: false,
    };
    encode_send_reply(&mut out, Serialize::Json, &reply);
    let header = concat!(
        r#"{"code":13,"extFields":{"TRACE_ON":"false","MSG_REGION":"DefaultRegion"},"flag":1,"#,
        r#""language":"JAVA","opaque":1,"remark":"the message is illegal","#,
        r#""serializeTypeCurrentRPC":"JSON","version":399}"#
    );
    assert_eq!(std::str::from_utf8(&out[8..]).unwrap(), header);
    let json = read(out);
    let mut out = BytesMut::new();
    encode_send_reply(&mut out, Serialize::Rocketmq, &reply);
    assert_eq!(read(out), json);
}

/// Source: PullMessageProcessor, RemotingCommand#encode, the order of java.util.HashMap.
#[test]
fn the_reply_to_a_pull() {
    let reply = PullReply {
        opaque: 5,
        code: 19,
        remark: Some("OFFSET_OVERFLOW_ONE"),
        suggest_which_broker_id: 0,
        next_begin_offset: 12,
        min_offset: 0,
        max_offset: 12,
        body_size: 0,
    };
    let mut out = BytesMut::new();
    encode_pull_reply(&mut out, Serialize::Json, &reply);
    let header = concat!(
        r#"{"code":19,"extFields":{"suggestWhichBrokerId":"0","nextBeginOffset":"12","#,
        r#""maxOffset":"12","minOffset":"0"},"flag":1,"language":"JAVA","opaque":5,"#,
        r#""remark":"OFFSET_OVERFLOW_ONE","serializeTypeCurrentRPC":"JSON","version":399}"#
    );
    assert_eq!(std::str::from_utf8(&out[8..]).unwrap(), header);
    let json = read(out);
    let mut out = BytesMut::new();
    encode_pull_reply(&mut out, Serialize::Rocketmq, &reply);
    assert_eq!(read(out), json);
}

/// Observed: the remark has a leading blank, the answer no fields.
#[test]
fn the_reply_to_an_unknown_code() {
    let mut out = BytesMut::new();
    let remark = " request type 361 not supported";
    encode_reply(&mut out, Serialize::Json, 9, 3, Some(remark), &[], 0);
    let header = concat!(
        r#"{"code":3,"flag":1,"language":"JAVA","opaque":9,"#,
        r#""remark":" request type 361 not supported","serializeTypeCurrentRPC":"JSON","#,
        r#""version":399}"#
    );
    assert_eq!(std::str::from_utf8(&out[8..]).unwrap(), header);
}

fn broker_data(addrs: &[(i64, &str)]) -> BrokerData {
    BrokerData {
        broker_addrs: addrs.iter().map(|(id, addr)| (*id, (*addr).to_owned())).collect(),
        broker_name: "broker-a".into(),
        cluster: "DefaultCluster".into(),
    }
}

/// Observed: request 105 to a name server with one broker; the second text from 4.9.4 on.
#[test]
fn a_route_in_both_dialects() {
    let route = TopicRouteData {
        broker_datas: vec![broker_data(&[(0, "10.0.0.1:10911"), (1, "10.0.0.2:10911")])],
        queue_datas: vec![QueueData {
            broker_name: "broker-a".into(),
            perm: 6,
            read_queue_nums: 4,
            topic_sys_flag: 0,
            write_queue_nums: 4,
        }],
        ..TopicRouteData::default()
    };
    let text = concat!(
        r#"{"brokerDatas":[{"brokerAddrs":{0:"10.0.0.1:10911",1:"10.0.0.2:10911"},"#,
        r#""brokerName":"broker-a","cluster":"DefaultCluster"}],"filterServerTable":{},"#,
        r#""queueDatas":[{"brokerName":"broker-a","perm":6,"readQueueNums":4,"topicSysFlag":0,"#,
        r#""writeQueueNums":4}]}"#
    );
    assert_eq!(encode(&route, Dialect::Fastjson), text);
    assert_eq!(decode::<TopicRouteData>(text.as_bytes()).unwrap(), route);
    let quoted = text.replace("{0:", "{\"0\":").replace(",1:", ",\"1\":");
    assert_eq!(encode(&route, Dialect::Standard), quoted);
    assert_eq!(decode::<TopicRouteData>(quoted.as_bytes()).unwrap(), route);
}

/// Observed: request 106.
#[test]
fn a_cluster() {
    let cluster = ClusterInfo {
        broker_addr_table: BTreeMap::from([(
            "broker-a".into(),
            broker_data(&[(0, "10.0.0.1:10911")]),
        )]),
        cluster_addr_table: BTreeMap::from([(
            "DefaultCluster".into(),
            BTreeSet::from(["broker-a".into()]),
        )]),
    };
    let text = concat!(
        r#"{"brokerAddrTable":{"broker-a":{"brokerAddrs":{0:"10.0.0.1:10911"},"#,
        r#""brokerName":"broker-a","cluster":"DefaultCluster"}},"#,
        r#""clusterAddrTable":{"DefaultCluster":["broker-a"]}}"#
    );
    assert_eq!(encode(&cluster, Dialect::Fastjson), text);
    assert_eq!(decode::<ClusterInfo>(text.as_bytes()).unwrap(), cluster);
}

/// Observed: requests 43 and 45 to a master; Java slaves take the quoted form too.
#[test]
fn offsets_with_bare_keys() {
    let text = r#"{"offsetTable":{"topic@group":{0:12,1:7}}}"#;
    let offsets: ConsumerOffsets = decode(text.as_bytes()).unwrap();
    assert_eq!(offsets.offset_table["topic@group"], BTreeMap::from([(0, 12), (1, 7)]));
    assert_eq!(encode(&offsets, Dialect::Fastjson), text);
    let text = r#"{"offsetTable":{1:2,3:16}}"#;
    let offsets: DelayOffsets = decode(text.as_bytes()).unwrap();
    assert_eq!(encode(&offsets, Dialect::Fastjson), text);
}

/// Source: HeartbeatData of a Java 4.9.3 push consumer.
#[test]
fn a_heartbeat() {
    let text = concat!(
        r#"{"clientID":"192.168.0.5@4711#123456789","consumerDataSet":[{"#,
        r#""consumeFromWhere":"CONSUME_FROM_LAST_OFFSET","consumeType":"CONSUME_PASSIVELY","#,
        r#""groupName":"CG","messageModel":"CLUSTERING","subscriptionDataSet":[{"#,
        r#""classFilterMode":false,"codeSet":[2598919,2598920],"expressionType":"TAG","#,
        r#""subString":"TagA || TagB","subVersion":1700000000000,"tagsSet":["TagA","TagB"],"#,
        r#""topic":"T"}],"unitMode":false}],"producerDataSet":[{"groupName":"PG_A"},"#,
        r#"{"groupName":"CLIENT_INNER_PRODUCER"}]}"#
    );
    let heartbeat: HeartbeatData = decode(text.as_bytes()).unwrap();
    let consumer = &heartbeat.consumer_data_set[0];
    assert_eq!(consumer.consume_type, Some(ConsumeType::Passively));
    assert_eq!(consumer.message_model, Some(MessageModel::Clustering));
    assert_eq!(consumer.subscription_data_set[0].sub_version, 1_700_000_000_000);
    assert_eq!(encode(&heartbeat, Dialect::Fastjson), text);
}

/// Observed: request 103 of a 4.9.3 broker; the CRC of "hello" likewise.
#[test]
fn a_registration() {
    let text = concat!(
        r#"{"filterServerList":[],"topicConfigSerializeWrapper":{"dataVersion":{"counter":5,"#,
        r#""timestamp":1700000000000},"topicConfigTable":{"TX1":{"order":false,"perm":6,"#,
        r#""readQueueNums":2,"topicFilterType":"SINGLE_TAG","topicName":"TX1","#,
        r#""topicSysFlag":0,"writeQueueNums":2}}}}"#
    );
    let body = RegisterBrokerBody::decode(text.as_bytes(), false).unwrap();
    assert_eq!(body.topics.data_version.counter, 5);
    assert_eq!(body.encode(false), text);
    let compressed = body.encode(true);
    assert_eq!(RegisterBrokerBody::decode(&compressed, true).unwrap(), body);
    assert_eq!(body_crc32(b"hello"), 907_060_870);
}

/// Observed: requests 38, 103, 206, 304.
#[test]
fn lists_and_tables() {
    let consumers = ConsumerList { consumer_id_list: vec!["cid1".into(), "cid2".into()] };
    let text = r#"{"consumerIdList":["cid1","cid2"]}"#;
    assert_eq!(encode(&consumers, Dialect::Fastjson), text);
    let text = r#"{"table":{"topic":"broker-a:4;broker-b:4"}}"#;
    assert_eq!(encode(&decode::<KvTable>(text.as_bytes()).unwrap(), Dialect::Fastjson), text);
    for text in
        [r#"{"topicList":["T"]}"#, r#"{"brokerAddr":"any broker","topicList":["c","broker-a"]}"#]
    {
        let list: TopicList = decode(text.as_bytes()).unwrap();
        assert_eq!(encode(&list, Dialect::Fastjson), text);
    }
}

/// Observed from the C++ client 2.x: bare numbers, empty remark, a line feed at the end, members
/// nobody knows, the ALI extras.
#[test]
fn a_header_of_the_cpp_client() {
    let header = concat!(
        r#"{"code":11,"extFields":{"AccessKey":"","OnsChannel":"ALIYUN","Signature":"","#,
        r#""queueId":0,"sysFlag":4,"topic":"T"},"flag":0,"language":"CPP","opaque":12,"#,
        r#""remark":"","version":333}"#,
        "\n"
    );
    let mut frame = BytesMut::new();
    frame.extend_from_slice(&(4 + header.len() as u32).to_be_bytes());
    frame.extend_from_slice(&(header.len() as u32).to_be_bytes());
    frame.extend_from_slice(header.as_bytes());
    let command = read(frame);
    assert_eq!((command.code, command.language, command.version), (11, Language::Cpp, 333));
    assert_eq!((command.get("queueId"), command.get("sysFlag")), (Some("0"), Some("4")));
}
