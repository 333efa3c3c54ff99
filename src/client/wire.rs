//! Requests as this client writes them, and answers as it reads them.

use super::driver::Interest;
use super::error::Error;
use super::message::Message;
use super::options::Options;
use super::producer::{SendResult, SendStatus};
use super::pull::PullRequest;
use super::route_cache::{MessageQueue, QueueData, Route};
use super::subscription::Subscription;
use crate::model::{GroupName, QueueId, QueueOffset, WallMillis, property};
use crate::protocol::Command;
use crate::protocol::body::client::{
    ConsumeFromWhere, ConsumeType, ConsumerData, HeartbeatData, MessageModel, ProducerData,
    SubscriptionData,
};
use crate::protocol::body::list::ConsumerList;
use crate::protocol::body::route::TopicRouteData;
use crate::protocol::body::{self, Dialect};
use crate::protocol::code::request_code;
use crate::rt::time::Duration;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The error that an answer with a refusing code stands for.
pub(super) fn refused(what: &'static str, addr: &str, answer: &Command) -> Error {
    let remark = answer.remark.clone().unwrap_or_default();
    Error::Answer { what, addr: addr.to_owned(), code: answer.code, remark }
}

fn unusable(what: &'static str, addr: &str, field: &'static str) -> Error {
    Error::AnswerField { what, addr: addr.to_owned(), field }
}

/// An offset in an answer. Brokers may say -1 for a queue without messages: that is 0 here.
pub(super) fn offset(
    what: &'static str,
    addr: &str,
    answer: &Command,
    field: &'static str,
) -> Result<QueueOffset, Error> {
    let value: Option<i64> = answer.get(field).and_then(|text| text.parse().ok());
    let value = value.ok_or_else(|| unusable(what, addr, field))?;
    Ok(QueueOffset(u64::try_from(value).unwrap_or(0)))
}

/// A request about one queue.
pub(super) fn of_queue(code: i32, queue: &MessageQueue) -> Command {
    Command::request(code).with_ext("topic", &queue.topic).with_ext("queueId", queue.queue)
}

/// Source: SendMessageRequestHeaderV2, MQClientAPIImpl#sendMessage (4.9.3).
pub(super) fn send_request(
    message: &Message,
    queue: &MessageQueue,
    options: &Options,
    now: WallMillis,
) -> Command {
    let properties = message.properties.encode();
    Command::request(request_code::SEND_MESSAGE_V2)
        .with_ext("a", &options.producer_group)
        .with_ext("b", &message.topic)
        .with_ext("c", &options.default_topic)
        .with_ext("d", options.default_topic_queues)
        .with_ext("e", queue.queue)
        .with_ext("f", 0)
        .with_ext("g", now.0)
        .with_ext("h", message.flag)
        .with_ext("i", String::from_utf8_lossy(&properties))
        .with_ext("j", 0)
        .with_ext("k", false)
        .with_ext("m", false)
        .with_body(message.body.clone())
}

/// Source: MQClientAPIImpl#processSendResponse (4.9.3).
pub(super) fn send_result(
    message: &Message,
    queue: &MessageQueue,
    addr: &str,
    answer: &Command,
) -> Result<SendResult, Error> {
    let Some(status) = SendStatus::of_code(answer.code) else {
        return Err(refused("send", addr, answer));
    };
    let queue_id = answer.get("queueId").and_then(|text| text.parse().ok());
    let queue_id = QueueId(queue_id.ok_or_else(|| unusable("send", addr, "queueId"))?);
    let offset_id = answer.get("msgId").ok_or_else(|| unusable("send", addr, "msgId"))?;
    Ok(SendResult {
        status,
        message_id: message.properties.get(property::UNIQUE_KEY).unwrap_or_default().to_owned(),
        offset_message_id: offset_id.to_owned(),
        queue: MessageQueue { queue: queue_id, ..queue.clone() },
        queue_offset: offset("send", addr, answer, "queueOffset")?,
        tries: 1,
    })
}

/// Source: PullMessageRequestHeader, PullAPIWrapper#pullKernelImpl (4.9.3).
pub(super) fn pull_request(request: &PullRequest<'_>, suspend: Duration) -> Command {
    of_queue(request_code::PULL_MESSAGE, request.queue)
        .with_ext("consumerGroup", request.group)
        .with_ext("queueOffset", request.from)
        .with_ext("maxMsgNums", request.count_max)
        .with_ext("sysFlag", request.flags())
        .with_ext("commitOffset", request.commit.unwrap_or_default())
        .with_ext("suspendTimeoutMillis", suspend.as_millis())
        .with_ext("subscription", &request.subscription.expression)
        .with_ext(
            "subVersion",
            if request.as_registered { request.subscription.version } else { 0 },
        )
        .with_ext("expressionType", request.subscription.expression_type.name())
}

/// Source: HeartbeatData, MQClientInstance#prepareHeartbeatData (4.9.3).
pub(super) fn heartbeat(
    client_id: &str,
    producer: Option<&str>,
    interests: &BTreeMap<GroupName, Interest>,
) -> Bytes {
    let producers = producer.map(|group| ProducerData { group_name: group.to_owned() });
    let body = HeartbeatData {
        client_id: client_id.to_owned(),
        consumer_data_set: interests.iter().map(|(group, what)| consumer(group, what)).collect(),
        producer_data_set: producers.into_iter().collect(),
    };
    body::encode(&body, Dialect::Fastjson)
}

fn consumer(group: &GroupName, interest: &Interest) -> ConsumerData {
    let from = match interest.from_first {
        true => ConsumeFromWhere::FirstOffset,
        false => ConsumeFromWhere::LastOffset,
    };
    ConsumerData {
        consume_from_where: Some(from),
        consume_type: Some(ConsumeType::Actively),
        group_name: group.to_string(),
        message_model: Some(MessageModel::Clustering),
        subscription_data_set: interest.subscriptions.iter().map(subscription).collect(),
        unit_mode: false,
    }
}

fn subscription(wanted: &Subscription) -> SubscriptionData {
    SubscriptionData {
        topic: wanted.topic.to_string(),
        sub_string: wanted.expression.clone(),
        tags_set: wanted.tags.iter().cloned().collect(),
        code_set: wanted.codes().into_iter().collect(),
        sub_version: wanted.version,
        expression_type: wanted.expression_type.name().to_owned(),
        ..SubscriptionData::default()
    }
}

/// Reads the answer to GET_ROUTEINFO_BY_TOPIC. Counts that no topic has are 0.
pub(super) fn route(addr: &str, answer: &Command) -> Result<Route, Error> {
    let read = body::decode::<TopicRouteData>(&answer.body);
    let data = read.map_err(|_| unusable("ask for a route", addr, "route"))?;
    let count = |value: i32| u32::try_from(value).unwrap_or(0);
    let queues = data.queue_datas.into_iter().map(|of_broker| QueueData {
        broker: Arc::from(of_broker.broker_name),
        read_queues: count(of_broker.read_queue_nums),
        write_queues: count(of_broker.write_queue_nums),
        perm: of_broker.perm,
    });
    let mut queues: Vec<QueueData> = queues.collect();
    queues.sort();
    let brokers = data.broker_datas.into_iter();
    let brokers = brokers.map(|named| (Arc::from(named.broker_name), named.broker_addrs));
    let order_conf = data.order_topic_conf;
    Ok(Route { order_conf, queues, brokers: brokers.collect() })
}

/// Reads the answer to GET_CONSUMER_LIST_BY_GROUP.
pub(super) fn consumer_ids(addr: &str, answer: &Command) -> Result<Vec<String>, Error> {
    let read = body::decode::<ConsumerList>(&answer.body);
    let list = read.map_err(|_| unusable("list members", addr, "consumerIdList"))?;
    Ok(list.consumer_id_list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TopicName;

    fn queue() -> MessageQueue {
        MessageQueue { topic: TopicName::new("T"), broker: Arc::from("a"), queue: QueueId(2) }
    }

    #[test]
    fn a_route_of_a_java_name_server_is_read() {
        let body = r#"{"brokerDatas":[{"brokerAddrs":{0:"1.2.3.4:10911",1:"1.2.3.5:10911"},
            "brokerName":"a","cluster":"C"}],"filterServerTable":{},"queueDatas":[{"brokerName":"a",
            "perm":6,"readQueueNums":4,"topicSysFlag":0,"writeQueueNums":2}]}"#;
        let answer = Command::reply(1, 0).with_body(body.as_bytes());
        let route = route("ns:1", &answer).unwrap();
        assert_eq!(route.master("a"), Some("1.2.3.4:10911"));
        assert_eq!(route.publish_queues(&TopicName::new("T")).len(), 2);
        assert_eq!(route.subscribe_queues(&TopicName::new("T")).len(), 4);
        let broken = Command::reply(1, 0).with_body(&b"{"[..]);
        assert!(super::route("ns:1", &broken).is_err());
    }

    #[test]
    fn answers_to_a_send_are_told_apart() {
        let message = Message::new("T", "x").with_property("UNIQ_KEY", "ID");
        let stored = Command::reply(1, 12)
            .with_ext("msgId", "OFFSET")
            .with_ext("queueId", 3)
            .with_ext("queueOffset", 7);
        let result = send_result(&message, &queue(), "b:1", &stored).unwrap();
        assert_eq!(result.status, SendStatus::FlushSlaveTimeout);
        assert_eq!((result.queue.queue, result.queue_offset), (QueueId(3), QueueOffset(7)));
        assert_eq!((&*result.message_id, &*result.offset_message_id), ("ID", "OFFSET"));
        let refusal = Command::reply(1, 13).with_remark("too big");
        let error = send_result(&message, &queue(), "b:1", &refusal).unwrap_err();
        assert_eq!((error.code(), error.may_be_stored()), (Some(13), false));
        let empty = send_result(&message, &queue(), "b:1", &Command::reply(1, 0)).unwrap_err();
        assert!(empty.may_be_stored());
    }

    #[test]
    fn a_pull_says_what_it_wants() {
        let subscription = Subscription::tags("T", "a||b", 5).unwrap();
        let request = PullRequest {
            group: &GroupName::new("g"),
            queue: &queue(),
            from: QueueOffset(9),
            count_max: 32,
            subscription: &subscription,
            as_registered: false,
            may_wait: true,
            commit: Some(QueueOffset(8)),
        };
        let command = pull_request(&request, Duration::from_millis(1500));
        for (name, value) in [
            ("consumerGroup", "g"),
            ("topic", "T"),
            ("queueId", "2"),
            ("queueOffset", "9"),
            ("sysFlag", "7"),
            ("commitOffset", "8"),
            ("suspendTimeoutMillis", "1500"),
            ("subscription", "a||b"),
        ] {
            assert_eq!(command.get(name), Some(value), "{name}");
        }
    }
}
