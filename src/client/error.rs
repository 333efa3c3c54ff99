//! What can go wrong for a producer or a consumer.

use crate::model::TopicName;
use crate::remoting;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The broker or name server at `addr` said no.
    #[error("{what}: {addr} answered code {code}: {remark}")]
    Answer { what: &'static str, addr: String, code: i32, remark: String },
    /// The answer says yes, but lacks what a yes must say.
    #[error("{what}: the answer of {addr} has no usable {field}")]
    AnswerField { what: &'static str, addr: String, field: &'static str },
    /// The topic's route could not be asked for.
    #[error("find topic {topic}: {source}")]
    Lookup { topic: TopicName, source: Box<Error> },
    #[error("the message is not legal: {0}")]
    Message(String),
    #[error("no broker of name {0} is known to be up")]
    NoBroker(String),
    #[error("no name server was given")]
    NoNameServer,
    /// Source: ClientErrorCode#NOT_FOUND_TOPIC_EXCEPTION (4.9.3).
    #[error("topic {0} has no route: no broker serves it, and none creates topics by itself")]
    NoRoute(TopicName),
    #[error(transparent)]
    Remoting(#[from] remoting::Error),
    /// Every try failed.
    #[error("send to topic {topic} ({tries} tries, brokers {brokers}): {last}")]
    Send { topic: TopicName, tries: u32, brokers: String, may_be_stored: bool, last: Box<Error> },
    /// The time for all tries was over before one of them ended well.
    #[error("send to topic {topic} within {budget_ms} ms ({tries} tries): {last}")]
    SendTime { topic: TopicName, tries: u32, budget_ms: u128, may_be_stored: bool, last: String },
    #[error("the subscription {0:?} is not a tag expression")]
    Subscription(String),
    #[error("too many topics in one client: {count}, at most {max}")]
    Topics { count: usize, max: usize },
}

impl Error {
    /// Whether a message may be stored although this send failed. False only when it is certain
    /// that no broker stored it.
    pub fn may_be_stored(&self) -> bool {
        match self {
            Error::Answer { code, .. } => !is_refusal(*code),
            Error::AnswerField { .. } => true,
            Error::Remoting(error) => !error.is_unsent(),
            Error::Send { may_be_stored, .. } | Error::SendTime { may_be_stored, .. } => {
                *may_be_stored
            }
            Error::Lookup { .. }
            | Error::Message(_)
            | Error::NoBroker(_)
            | Error::NoNameServer
            | Error::NoRoute(_)
            | Error::Subscription(_)
            | Error::Topics { .. } => false,
        }
    }

    /// The code of the broker's or name server's refusal.
    pub fn code(&self) -> Option<i32> {
        match self {
            Error::Answer { code, .. } => Some(*code),
            Error::Lookup { source: inner, .. } | Error::Send { last: inner, .. } => inner.code(),
            _ => None,
        }
    }
}

/// Codes that a broker answers before it stores anything: busy, not supported, message illegal,
/// no permission, topic or group not known. Others (1, 14) may also be the answer to a record that
/// was written and could not be made durable.
fn is_refusal(code: i32) -> bool {
    matches!(code, 2 | 3 | 13 | 16 | 17 | 26 | 204 | 205)
}
