//! What one pull looks for, and taking it out of what was read.

use super::super::clients::Subscription;
use super::sql92::Expression;
use crate::format::message_unit::{Unit, View, decode_delivered};
use crate::format::properties;
use crate::model::property;
use crate::store::{ReadResult, ReadStatus};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which messages of its queue a pull wants.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// By the hash of the tag; the client compares the tag itself.
    Tags(Arc<Subscription>),
    /// By the properties. Source: ExpressionMessageFilter (4.9.3).
    Sql92(Arc<Expression>),
    /// On a retry topic: what the group registered for the topic that a message came from.
    /// Source: ExpressionForRetryMessageFilter (4.9.3).
    Retried { tags: Option<Arc<Subscription>>, by_topic: BTreeMap<String, Arc<Expression>> },
}

impl Wanted {
    /// Whether an entry with this tags code may be wanted.
    pub fn wants_code(&self, tags_code: i64) -> bool {
        match self {
            Wanted::Tags(subscription) => subscription.matches(tags_code),
            Wanted::Sql92(_) => true,
            Wanted::Retried { tags, .. } => {
                tags.as_ref().is_none_or(|tags| tags.matches(tags_code))
            }
        }
    }

    /// Whether the tags code alone does not say it.
    pub fn needs_records(&self) -> bool {
        !matches!(self, Wanted::Tags(_))
    }

    /// Whether a message with these properties is wanted.
    pub fn wants(&self, properties: &[u8]) -> bool {
        match self {
            Wanted::Tags(_) => true,
            Wanted::Sql92(expression) => expression.matches(properties),
            Wanted::Retried { by_topic, .. } => {
                let origin = properties::get_str(properties, property::RETRY_TOPIC);
                let expression = origin.and_then(|topic| by_topic.get(topic));
                expression.is_none_or(|expression| expression.matches(properties))
            }
        }
    }

    /// Leaves of `read` the messages that are wanted; when there are none, nothing matched. What
    /// cannot be decoded stays: the client says what is wrong with it.
    pub fn sift(&self, read: &mut ReadResult) {
        if !self.needs_records() || read.status != ReadStatus::Found {
            return;
        }
        let parts = std::mem::take(&mut read.messages);
        (read.count, read.size) = (0, 0);
        for part in parts {
            let mut kept = Kept::default();
            let mut at = 0;
            while at < part.len() {
                let record = record(&part[at..]);
                let size = record.as_ref().map_or(part.len() - at, View::size);
                if record.is_none_or(|record| self.wants(record.properties())) {
                    kept.add(&part, at, at + size, read);
                }
                at += size;
            }
            kept.finish(&part, read);
        }
        if read.count == 0 {
            read.status = ReadStatus::NoMatchedMessage;
        }
    }
}

fn record(bytes: &[u8]) -> Option<View<'_>> {
    match decode_delivered(bytes, false) {
        Ok(Unit::Record(view)) => Some(view),
        Ok(Unit::Blank { .. } | Unit::End) | Err(_) => None,
    }
}

/// A run of records that stay, so that a reply has few parts.
#[derive(Default)]
struct Kept(Option<(usize, usize)>);

impl Kept {
    fn add(&mut self, part: &Bytes, start: usize, end: usize, read: &mut ReadResult) {
        read.count += 1;
        read.size += end - start;
        self.0 = match self.0 {
            Some((first, last)) if last == start => Some((first, end)),
            _ => {
                self.finish(part, read);
                Some((start, end))
            }
        };
    }

    fn finish(&mut self, part: &Bytes, read: &mut ReadResult) {
        read.messages.extend(self.0.take().map(|(start, end)| part.slice(start..end)));
    }
}

#[cfg(test)]
mod tests {
    use super::super::sql92::Limits;
    use super::*;
    use crate::format::message_unit::{self, Record};
    use crate::model::{PhysicalOffset, QueueOffset};
    use bytes::BytesMut;

    fn record_with(properties: &str, at: u64) -> Vec<u8> {
        let record = Record {
            queue_offset: QueueOffset(at),
            physical_offset: PhysicalOffset(at * 1000),
            body: b"x",
            properties: properties.as_bytes(),
            ..Record::plain()
        };
        let mut out = BytesMut::new();
        message_unit::encode(&record, &mut out);
        out.to_vec()
    }

    fn read(parts: &[&[&str]]) -> ReadResult {
        let mut count = 0;
        let messages: Vec<Bytes> = parts
            .iter()
            .map(|part| {
                count += part.len();
                part.iter().flat_map(|text| record_with(text, 0)).collect::<Vec<u8>>().into()
            })
            .collect();
        ReadResult {
            status: ReadStatus::Found,
            next: QueueOffset(9),
            min: QueueOffset(0),
            max: QueueOffset(9),
            size: messages.iter().map(Bytes::len).sum(),
            messages,
            count,
            suggest_slave: false,
        }
    }

    fn sql(text: &str) -> Arc<Expression> {
        Arc::new(Expression::compile(text, &Limits::default()).unwrap())
    }

    /// The property strings that are left, by part.
    fn left(read: &ReadResult) -> Vec<Vec<String>> {
        let texts = |part: &Bytes| -> Vec<String> {
            let views = message_unit::delivered(part).map(|view| view.unwrap());
            views.map(|view| String::from_utf8_lossy(view.properties()).into_owned()).collect()
        };
        read.messages.iter().map(texts).collect()
    }

    #[test]
    fn what_matches_stays_in_order_and_neighbours_stay_joined() {
        let mut found = read(&[&["a\x011", "a\x012", "a\x015", "a\x013"], &["a\x019"]]);
        Wanted::Sql92(sql("a BETWEEN 1 AND 3")).sift(&mut found);
        assert_eq!(left(&found), [vec!["a\x011", "a\x012"], vec!["a\x013"]]);
        assert_eq!((found.status, found.count, found.next.0), (ReadStatus::Found, 3, 9));
        assert_eq!(found.size, found.messages.iter().map(Bytes::len).sum::<usize>());
    }

    #[test]
    fn nothing_left_is_nothing_matched() {
        let mut found = read(&[&["a\x011"], &["a\x012"]]);
        Wanted::Sql92(sql("a > 3")).sift(&mut found);
        assert_eq!((found.status, found.count, found.size), (ReadStatus::NoMatchedMessage, 0, 0));
        assert!(found.messages.is_empty());
    }

    #[test]
    fn a_retried_message_is_judged_by_the_filter_of_its_origin() {
        let tags = Some(Arc::new(Subscription::from_tags("%RETRY%g", "*", |_| 0)));
        let by_topic = BTreeMap::from([("T".to_owned(), sql("a > 3"))]);
        let wanted = Wanted::Retried { tags, by_topic };
        let (t, u) = ("RETRY_TOPIC\x01T\x02a\x01", "RETRY_TOPIC\x01U\x02a\x01");
        let texts = [format!("{t}5"), format!("{t}1"), format!("{u}1"), "a\x011".to_owned()];
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut found = read(&[&texts]);
        wanted.sift(&mut found);
        assert_eq!(left(&found), [vec![texts[0]], vec![texts[2], texts[3]]]);
    }
}
