//! Which queue a message goes to, and what follows from an answer.

use super::error::Error;
use super::route_cache::MessageQueue;
use crate::model::QueueOffset;
use std::fmt;

/// What a broker promises about a message that it stored.
/// Source: SendStatus (4.9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendStatus {
    FlushDiskTimeout,
    FlushSlaveTimeout,
    Ok,
    SlaveNotAvailable,
}

impl SendStatus {
    /// `None` when the code means that the message was refused.
    /// Source: MQClientAPIImpl#processSendResponse (4.9.3).
    pub fn of_code(code: i32) -> Option<Self> {
        match code {
            0 => Some(SendStatus::Ok),
            10 => Some(SendStatus::FlushDiskTimeout),
            11 => Some(SendStatus::SlaveNotAvailable),
            12 => Some(SendStatus::FlushSlaveTimeout),
            _ => None,
        }
    }
}

impl fmt::Display for SendStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendStatus::FlushDiskTimeout => "FLUSH_DISK_TIMEOUT",
            SendStatus::FlushSlaveTimeout => "FLUSH_SLAVE_TIMEOUT",
            SendStatus::Ok => "SEND_OK",
            SendStatus::SlaveNotAvailable => "SLAVE_NOT_AVAILABLE",
        })
    }
}

#[derive(Clone, Debug)]
pub struct SendResult {
    pub status: SendStatus,
    /// The unique id that the client gave the message.
    pub message_id: String,
    /// Where the broker put it.
    pub offset_message_id: String,
    pub queue: MessageQueue,
    pub queue_offset: QueueOffset,
    /// Units: tries it took. After a failed one the message may be stored twice.
    pub tries: u32,
}

/// Takes queues in turn. One per topic and client; it starts anywhere.
/// Source: TopicPublishInfo#selectOneMessageQueue (4.9.3).
#[derive(Clone, Debug)]
pub struct Turn(u64);

impl Turn {
    pub fn starting_at(at: u64) -> Self {
        Turn(at)
    }

    /// The next queue, on another broker than `avoid` when there is one.
    pub fn next<'a>(
        &mut self,
        queues: &'a [MessageQueue],
        avoid: Option<&str>,
    ) -> Option<&'a MessageQueue> {
        for _ in 0..queues.len() {
            let queue = self.step(queues)?;
            if avoid != Some(&*queue.broker) {
                return Some(queue);
            }
        }
        self.step(queues)
    }

    fn step<'a>(&mut self, queues: &'a [MessageQueue]) -> Option<&'a MessageQueue> {
        self.0 = self.0.wrapping_add(1);
        queues.get((self.0 % (queues.len().max(1) as u64)) as usize)
    }
}

/// Codes with which another broker is tried: topic not known, not available, system error, no
/// permission, no buyer id, not in this unit.
/// Source: DefaultMQProducer#retryResponseCodes (4.9.3).
const RETRY_CODES: [i32; 6] = [17, 14, 1, 16, 204, 205];

/// Whether a failed try is followed by another one.
/// Source: DefaultMQProducerImpl#sendDefaultImpl (4.9.3).
pub fn is_worth_another_try(error: &Error) -> bool {
    match error {
        Error::Answer { code, .. } => RETRY_CODES.contains(code),
        Error::AnswerField { .. } | Error::NoBroker(_) | Error::Remoting(_) => true,
        Error::Lookup { .. }
        | Error::Message(_)
        | Error::NoNameServer
        | Error::NoRoute(_)
        | Error::Send { .. }
        | Error::SendTime { .. }
        | Error::Subscription(_)
        | Error::Topics { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{QueueId, TopicName};
    use std::sync::Arc;

    fn queues(brokers: &[(&str, u32)]) -> Vec<MessageQueue> {
        let all = brokers.iter().flat_map(|(name, count)| (0..*count).map(move |q| (*name, q)));
        all.map(|(broker, queue)| MessageQueue {
            topic: TopicName::new("T"),
            broker: Arc::from(broker),
            queue: QueueId(queue),
        })
        .collect()
    }

    #[test]
    fn queues_are_taken_in_turn() {
        let queues = queues(&[("a", 2), ("b", 1)]);
        let mut turn = Turn::starting_at(u64::MAX - 1);
        let taken: Vec<_> = (0..4).map(|_| turn.next(&queues, None).unwrap().queue.0).collect();
        assert_eq!(taken.len(), 4);
        let mut turn = Turn::starting_at(2);
        let taken: Vec<_> = (0..3).map(|_| turn.next(&queues, None).unwrap().clone()).collect();
        assert_eq!(taken, queues);
    }

    #[test]
    fn the_broker_that_failed_is_avoided_when_there_is_another() {
        let two = queues(&[("a", 3), ("b", 1)]);
        let mut turn = Turn::starting_at(0);
        for _ in 0..10 {
            assert_eq!(&*turn.next(&two, Some("a")).unwrap().broker, "b");
        }
        let one = queues(&[("a", 2)]);
        assert_eq!(&*turn.next(&one, Some("a")).unwrap().broker, "a");
        assert_eq!(turn.next(&[], Some("a")), None);
    }

    #[test]
    fn busy_and_illegal_are_not_tried_again() {
        let answer =
            |code| Error::Answer { what: "send", addr: String::new(), code, remark: String::new() };
        for code in RETRY_CODES {
            assert!(is_worth_another_try(&answer(code)));
        }
        assert!(!is_worth_another_try(&answer(2)) && !is_worth_another_try(&answer(13)));
        assert!(is_worth_another_try(&Error::NoBroker("a".to_owned())));
    }
}
