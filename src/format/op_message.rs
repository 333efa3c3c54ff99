//! Op messages: each says that a half message is resolved.

use super::message_unit::View;
use crate::model::{QueueOffset, property};

/// Source: TopicValidator#RMQ_SYS_TRANS_OP_HALF_TOPIC (4.9.3).
pub const TOPIC: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";

/// The half message that an op message resolves. `None`: this is none, or names none.
/// Source: TransactionalMessageServiceImpl#fillOpRemoveMap (4.9.3).
pub fn half_of(op: &View<'_>) -> Option<QueueOffset> {
    let is_removal = op.topic() == TOPIC && op.property(property::TAGS) == Some(b"d");
    let text = std::str::from_utf8(op.body()).ok().filter(|_| is_removal)?;
    text.parse::<i64>().ok().and_then(|half| u64::try_from(half).ok()).map(QueueOffset)
}
