//! What a client says of itself: the body of HEART_BEAT (34).

use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;

/// Source: HeartbeatData (4.9.3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HeartbeatData {
    #[serde(rename = "clientID")]
    pub client_id: String,
    pub consumer_data_set: Vec<ConsumerData>,
    pub producer_data_set: Vec<ProducerData>,
}

/// Source: ProducerData (4.9.3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProducerData {
    pub group_name: String,
}

/// Source: ConsumerData (4.9.3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerData {
    #[serde(deserialize_with = "wire_enum", skip_serializing_if = "Option::is_none")]
    pub consume_from_where: Option<ConsumeFromWhere>,
    #[serde(deserialize_with = "wire_enum", skip_serializing_if = "Option::is_none")]
    pub consume_type: Option<ConsumeType>,
    pub group_name: String,
    #[serde(deserialize_with = "wire_enum", skip_serializing_if = "Option::is_none")]
    pub message_model: Option<MessageModel>,
    pub subscription_data_set: Vec<SubscriptionData>,
    pub unit_mode: bool,
}

/// Source: SubscriptionData (4.9.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubscriptionData {
    pub class_filter_mode: bool,
    /// Java's hash codes of the tags.
    pub code_set: BTreeSet<i32>,
    pub expression_type: String,
    pub sub_string: String,
    /// Units: ms since 1970.
    pub sub_version: i64,
    pub tags_set: BTreeSet<String>,
    pub topic: String,
}

impl Default for SubscriptionData {
    fn default() -> Self {
        SubscriptionData {
            class_filter_mode: false,
            code_set: BTreeSet::new(),
            expression_type: "TAG".into(),
            sub_string: String::new(),
            sub_version: 0,
            tags_set: BTreeSet::new(),
            topic: String::new(),
        }
    }
}

/// An enum that clients send by name, in any letter case, or by number.
trait WireEnum: Sized + Copy + 'static {
    /// In Java's order, which is the numbers'.
    const NAMES: &'static [(&'static str, Self)];
}

macro_rules! wire_enums {
    ($(
        $(#[$doc:meta])*
        $type:ident { $($variant:ident = $name:literal,)* }
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
        pub enum $type {
            $(#[serde(rename = $name)] $variant,)*
        }

        impl WireEnum for $type {
            const NAMES: &'static [(&'static str, Self)] = &[$(($name, $type::$variant),)*];
        }

        impl $type {
            /// The name on the wire.
            pub fn name(self) -> &'static str {
                match self {
                    $($type::$variant => $name,)*
                }
            }
        }
    )*};
}

wire_enums! {
    /// Source: ConsumeType (4.9.3).
    ConsumeType {
        Actively = "CONSUME_ACTIVELY",
        Passively = "CONSUME_PASSIVELY",
    }

    /// Source: MessageModel (4.9.3).
    MessageModel {
        Broadcasting = "BROADCASTING",
        Clustering = "CLUSTERING",
    }

    /// Source: ConsumeFromWhere (4.9.3).
    ConsumeFromWhere {
        LastOffset = "CONSUME_FROM_LAST_OFFSET",
        LastOffsetAndMinAtFirstBoot = "CONSUME_FROM_LAST_OFFSET_AND_FROM_MIN_WHEN_BOOT_FIRST",
        MinOffset = "CONSUME_FROM_MIN_OFFSET",
        MaxOffset = "CONSUME_FROM_MAX_OFFSET",
        FirstOffset = "CONSUME_FROM_FIRST_OFFSET",
        Timestamp = "CONSUME_FROM_TIMESTAMP",
    }
}

/// An unknown name or number is none: Java reads it as null and goes on.
fn wire_enum<'de, D: Deserializer<'de>, E: WireEnum>(from: D) -> Result<Option<E>, D::Error> {
    struct Reader<E>(PhantomData<E>);

    impl<E: WireEnum> Visitor<'_> for Reader<E> {
        type Value = Option<E>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a name or a number")
        }
        fn visit_str<Error>(self, text: &str) -> Result<Option<E>, Error> {
            let found = E::NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
            Ok(found.map(|(_, value)| *value))
        }
        fn visit_u64<Error>(self, number: u64) -> Result<Option<E>, Error> {
            let found = usize::try_from(number).ok().and_then(|at| E::NAMES.get(at));
            Ok(found.map(|(_, value)| *value))
        }
        fn visit_i64<Error>(self, _: i64) -> Result<Option<E>, Error> {
            Ok(None)
        }
    }
    from.deserialize_any(Reader(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::body::decode;

    #[test]
    fn enums_come_in_any_letter_case_by_number_or_unknown() {
        let body = br#"{"clientID":"c","consumerDataSet":[
            {"groupName":"go","consumeType":"consume_passively","messageModel":"Clustering"},
            {"groupName":"cpp","consumeType":1,"messageModel":0,"consumeFromWhere":4},
            {"groupName":"odd","consumeType":"NEVER","messageModel":-1,"consumeFromWhere":77}]}"#;
        let heartbeat: HeartbeatData = decode(body).unwrap();
        let [go, cpp, odd] = &heartbeat.consumer_data_set[..] else { panic!() };
        assert_eq!(go.consume_type, Some(ConsumeType::Passively));
        assert_eq!(go.message_model, Some(MessageModel::Clustering));
        assert_eq!(cpp.consume_type, Some(ConsumeType::Passively));
        assert_eq!(cpp.message_model, Some(MessageModel::Broadcasting));
        assert_eq!(cpp.consume_from_where, Some(ConsumeFromWhere::FirstOffset));
        assert_eq!((odd.consume_type, odd.message_model), (None, None));
        assert!(heartbeat.producer_data_set.is_empty());
    }

    /// As the C++ client 1.2 and 2.x prints it. Such heartbeats were refused with code 1 once.
    #[test]
    fn cpp_and_go_send_numbers_of_a_subscription_as_text() {
        let body = br#"{"clientID":"10032-127.0.0.1@py6","consumerDataSet":[
            {"consumeFromWhere":0,"consumeType":1,"groupName":"py_tags","messageModel":1,
             "subscriptionDataSet":[{"codeSet":[2598919,2598921],"subString":"TagA || TagC",
             "subVersion":"1795982000123","tagsSet":["TagA","TagC"],"topic":"PyTags"}],
             "unitMode":"false"}]}"#;
        let heartbeat: HeartbeatData = decode(body).unwrap();
        let consumer = &heartbeat.consumer_data_set[0];
        let subscription = &consumer.subscription_data_set[0];
        assert_eq!(consumer.message_model, Some(MessageModel::Clustering));
        assert_eq!(subscription.sub_version, 1_795_982_000_123);
        assert_eq!(subscription.code_set, BTreeSet::from([2_598_919, 2_598_921]));
        assert!(!consumer.unit_mode);
        // The Go client sends the codes of tags as text.
        let body = br#"{"consumerDataSet":[{"groupName":"go_tags","subscriptionDataSet":[{
            "classFilterMode":false,"codeSet":["2598919","-7"],"tagsSet":["TagA","TagC"]}]}]}"#;
        let heartbeat: HeartbeatData = decode(body).unwrap();
        let codes = &heartbeat.consumer_data_set[0].subscription_data_set[0].code_set;
        assert_eq!(*codes, BTreeSet::from([-7, 2_598_919]));
        let odd = br#"{"consumerDataSet":[{"subscriptionDataSet":[{"subVersion":"soon"}]}]}"#;
        assert!(decode::<HeartbeatData>(odd).is_err());
    }
}
