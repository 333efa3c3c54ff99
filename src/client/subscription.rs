//! Which messages of a topic a consumer wants.

use super::Error;
use crate::format::properties::java_hash;
use crate::model::TopicName;

/// Wants everything.
pub const ALL: &str = "*";

/// What an expression is written in. Source: ExpressionType (4.9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpressionType {
    /// `*`, or tags separated by `||`.
    Tag,
    /// A condition on properties, which brokers with `enablePropertyFilter` take.
    Sql92,
}

impl ExpressionType {
    pub fn name(self) -> &'static str {
        match self {
            ExpressionType::Tag => "TAG",
            ExpressionType::Sql92 => "SQL92",
        }
    }
}

/// An expression on one topic. Source: FilterAPI#build (4.9.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub topic: TopicName,
    /// The expression as it was given.
    pub expression: String,
    pub expression_type: ExpressionType,
    /// Sorted; empty when everything is wanted.
    pub tags: Vec<String>,
    /// When it was made. Units: epoch milliseconds; a later one replaces it at the broker.
    pub version: i64,
}

impl Subscription {
    /// Errors: an expression of separators alone.
    pub fn tags(topic: &str, expression: &str, version: i64) -> Result<Self, Error> {
        let topic = TopicName::new(topic);
        let expression = if expression.trim().is_empty() { ALL } else { expression.trim() };
        let mut tags = Vec::new();
        if expression != ALL {
            let parts = expression.split("||").map(str::trim).filter(|tag| !tag.is_empty());
            tags.extend(parts.map(str::to_owned));
            if tags.is_empty() {
                return Err(Error::Subscription(expression.to_owned()));
            }
        }
        tags.sort();
        tags.dedup();
        let expression_type = ExpressionType::Tag;
        Ok(Subscription {
            topic,
            expression: expression.to_owned(),
            expression_type,
            tags,
            version,
        })
    }

    /// A condition on properties; whether it can be understood is the broker's to say.
    pub fn sql92(topic: &str, expression: &str, version: i64) -> Self {
        Subscription {
            topic: TopicName::new(topic),
            expression: expression.to_owned(),
            expression_type: ExpressionType::Sql92,
            tags: Vec::new(),
            version,
        }
    }

    /// What the broker compares a queue unit with.
    pub fn codes(&self) -> Vec<i32> {
        self.tags.iter().map(|tag| java_hash(tag.as_bytes())).collect()
    }

    /// Whether a message with these TAGS is wanted. A broker compares hashes only, so it may send
    /// others too.
    pub fn matches(&self, tags: Option<&[u8]>) -> bool {
        self.tags.is_empty()
            || tags.is_some_and(|tags| self.tags.iter().any(|tag| tag.as_bytes() == tags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_split_at_bars() {
        let two = Subscription::tags("T", " TagB || TagA ||", 0).unwrap();
        assert_eq!(two.tags, ["TagA", "TagB"]);
        assert_eq!(two.codes(), [2_598_919, 2_598_920]);
        assert!(two.matches(Some(b"TagA")) && !two.matches(Some(b"Tag")) && !two.matches(None));
        assert!(Subscription::tags("T", "", 0).unwrap().matches(None));
        assert!(Subscription::tags("T", "||", 0).is_err());
    }
}
