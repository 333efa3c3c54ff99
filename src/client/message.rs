//! A message before it is sent.

use super::Error;
use crate::format::properties::{self, Properties};
use crate::model::{TopicName, property};
use bytes::Bytes;

/// Units: characters. Source: Validators#TOPIC_MAX_LENGTH (4.9.3).
const TOPIC_SIZE_MAX: usize = 127;
/// Source: Validators#checkMessage (4.9.3).
const TOPIC_REFUSED: &str = "SCHEDULE_TOPIC_XXXX";

#[derive(Clone, Debug)]
pub struct Message {
    pub topic: TopicName,
    pub flag: i32,
    pub body: Bytes,
    pub properties: Properties,
}

impl Message {
    pub fn new(topic: &str, body: impl Into<Bytes>) -> Self {
        let mut properties = Properties::default();
        properties.set(property::WAIT, "true");
        Message { topic: TopicName::new(topic), flag: 0, body: body.into(), properties }
    }

    pub fn with_tag(mut self, tag: &str) -> Self {
        self.properties.set(property::TAGS, tag);
        self
    }

    /// Adds a key to those that the message has.
    pub fn with_key(mut self, key: &str) -> Self {
        let keys = match self.properties.get(property::KEYS) {
            Some(keys) => format!("{keys} {key}"),
            None => key.to_owned(),
        };
        self.properties.set(property::KEYS, keys);
        self
    }

    pub fn with_property(mut self, name: &str, value: &str) -> Self {
        self.properties.set(name, value);
        self
    }

    /// 1 to 18 by default; the broker keeps the message back for that level's time.
    pub fn with_delay_level(self, level: u32) -> Self {
        self.with_property(property::DELAY, &level.to_string())
    }

    /// Whether the broker answers only when the message is flushed and replicated, as it is
    /// configured to.
    pub fn with_wait(self, wait: bool) -> Self {
        self.with_property(property::WAIT, if wait { "true" } else { "false" })
    }

    /// Source: Validators#checkMessage, #checkTopic (4.9.3).
    pub(super) fn check(&self, body_size_max: usize) -> Result<(), Error> {
        check_topic(&self.topic)?;
        if &*self.topic == TOPIC_REFUSED {
            return Err(Error::Message(format!("sending to topic {TOPIC_REFUSED} is forbidden")));
        }
        if self.body.is_empty() {
            return Err(Error::Message("the body is empty".to_owned()));
        }
        if self.body.len() > body_size_max {
            let size = self.body.len();
            let why = format!("the body has {size} bytes, at most {body_size_max} are possible");
            return Err(Error::Message(why));
        }
        for (name, value) in self.properties.iter() {
            let separators = [char::from(properties::NAME_END), char::from(properties::ITEM_END)];
            if name.is_empty() || value.is_empty() {
                return Err(Error::Message(format!("property {name:?} is empty: {value:?}")));
            }
            if name.contains(separators) || value.contains(separators) || value.contains('\0') {
                let why = format!("property {name:?} holds a separator or NUL: {value:?}");
                return Err(Error::Message(why));
            }
        }
        Ok(())
    }
}

fn check_topic(topic: &str) -> Result<(), Error> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "%|-_".contains(c);
    if topic.is_empty() || topic.len() > TOPIC_SIZE_MAX || !topic.chars().all(legal) {
        let why = format!("topic {topic:?} is not 1 to 127 letters, digits, '%', '|', '-' or '_'");
        return Err(Error::Message(why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn illegal_messages_are_refused_before_they_are_sent() {
        let size_max = 10;
        assert!(Message::new("T", "x").check(size_max).is_ok());
        let long = "T".repeat(128);
        for bad in [
            Message::new("", "x"),
            Message::new("a b", "x"),
            Message::new(&long, "x"),
            Message::new("SCHEDULE_TOPIC_XXXX", "x"),
            Message::new("T", ""),
            Message::new("T", "12345678901"),
            Message::new("T", "x").with_property("a", ""),
            Message::new("T", "x").with_property("a", "b\u{2}c"),
        ] {
            assert!(matches!(bad.check(size_max), Err(Error::Message(_))), "{bad:?}");
        }
    }

    #[test]
    fn keys_are_separated_by_one_space() {
        let message = Message::new("T", "x").with_key("a").with_key("b");
        assert_eq!(message.properties.get("KEYS"), Some("a b"));
    }
}
