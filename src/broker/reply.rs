//! From what happened to the code and remark a client sees: the one place where they are chosen.

use super::filter::sql92::CompileError;
use crate::protocol::code::response_code as code;
use crate::rt::time::Duration;
use crate::store::{AppendError, Outcome, ReadStatus, Rejection};
use std::borrow::Cow;

const FAQ: &str = "\nSee http://rocketmq.apache.org/docs/faq/ for further details.";
const ILLEGAL: &str = "the message is illegal, maybe msg body or properties length not matched. \
                       msg body length limit 128k, msg properties length limit 32k.";

/// A request that is not done: code and remark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: i32,
    pub remark: Cow<'static, str>,
}

/// The usual result of a handler.
pub type Answer<T> = Result<T, Refusal>;

impl Refusal {
    pub fn new(code: i32, remark: impl Into<Cow<'static, str>>) -> Self {
        Refusal { code, remark: remark.into() }
    }

    pub fn system_error(remark: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(code::SYSTEM_ERROR, remark)
    }

    /// Source: AdminBrokerProcessor#getUnknownCmdResponse (4.9.3), with its leading space.
    pub fn unknown_code(request: i32) -> Self {
        let remark = format!(" request type {request} not supported");
        Refusal::new(code::REQUEST_CODE_NOT_SUPPORTED, remark)
    }

    pub fn topic_not_exist(topic: &str) -> Self {
        let remark = format!("topic[{topic}] not exist, apply first please!{FAQ}");
        Refusal::new(code::TOPIC_NOT_EXIST, remark)
    }

    pub fn pull_topic_not_exist(topic: &str) -> Self {
        let remark = format!("topic[{topic}] not exist, apply first please! {FAQ}");
        Refusal::new(code::TOPIC_NOT_EXIST, remark)
    }

    pub fn group_not_exist(group: &str) -> Self {
        let remark = format!("subscription group [{group}] does not exist, {FAQ}");
        Refusal::new(code::SUBSCRIPTION_GROUP_NOT_EXIST, remark)
    }

    pub fn retry_group_not_exist(group: &str) -> Self {
        let remark = format!("subscription group not exist, {group} {FAQ}");
        Refusal::new(code::SUBSCRIPTION_GROUP_NOT_EXIST, remark)
    }

    pub fn no_live_consumer() -> Self {
        let remark = format!("the consumer's group info not exist{FAQ}");
        Refusal::new(code::SUBSCRIPTION_NOT_EXIST, remark)
    }

    pub fn not_subscribed() -> Self {
        let remark = format!("the consumer's subscription not exist{FAQ}");
        Refusal::new(code::SUBSCRIPTION_NOT_EXIST, remark)
    }

    /// Filters other than tags are not allowed here.
    pub fn no_such_filter(expression_type: &str) -> Self {
        Refusal::system_error(format!(
            "The broker does not support consumer to filter message by {expression_type}"
        ))
    }

    /// An expression in a request cannot be used. Source: PullMessageProcessor (4.9.3).
    /// Differs: it says why.
    pub fn filter_not_parsed(error: &CompileError) -> Self {
        let remark = format!("parse the consumer's subscription failed: {error}");
        Refusal::new(code::SUBSCRIPTION_PARSE_FAILED, remark)
    }

    pub fn filter_not_exist() -> Self {
        let remark = "The broker's consumer filter data is not exist!Your expression may be wrong!";
        Refusal::new(code::FILTER_DATA_NOT_EXIST, remark)
    }

    pub fn filter_not_latest() -> Self {
        let remark = "the consumer's consumer filter data not latest";
        Refusal::new(code::FILTER_DATA_NOT_LATEST, remark)
    }

    /// A bound of this broker is reached. Source: NettyRemotingAbstract, `[OVERLOAD]` (4.9.3).
    pub fn overload(bound: &str) -> Self {
        let remark = format!("[OVERLOAD]system busy, start flow control for a while: {bound}");
        Refusal::new(code::SYSTEM_BUSY, remark)
    }

    /// The disk did not give what a pull wants in time.
    /// Source: BrokerFastFailure#cleanExpiredRequestInQueue (4.9.3).
    pub fn read_stalled(waited: Duration) -> Self {
        let ms = waited.as_millis();
        let remark = format!(
            "[TIMEOUT_CLEAN_QUEUE]broker busy, start flow control for a while, period in queue: \
             {ms}ms, size of queue: 1; the log's read has waited {ms} ms"
        );
        Refusal::new(code::SYSTEM_BUSY, remark)
    }

    /// Nothing more is stored: why, and how full the disk is.
    /// Source: SendMessageProcessor#handlePutMessageResult (4.9.3).
    pub fn not_available(cause: &str, disk_used: Option<f64>) -> Self {
        let used = disk_used.unwrap_or(-1.0);
        let remark = format!(
            "service not available now. It may be caused by one of the following reasons: the \
             broker's disk is full [CL: {used:5.2} CQ: {used:5.2} INDEX: {used:5.2}], messages are \
             put to the slave, message store has been shut down, etc. Here it is: {cause}"
        );
        Refusal::new(code::SERVICE_NOT_AVAILABLE, remark)
    }

    /// A 4.9 producer goes to another broker at once; a consumer asks again after a second.
    pub fn stopping() -> Self {
        Refusal::new(
            code::SERVICE_NOT_AVAILABLE,
            "service not available now: the broker is stopping",
        )
    }

    pub fn message_illegal(why: impl std::fmt::Display) -> Self {
        Refusal::new(code::MESSAGE_ILLEGAL, format!("{ILLEGAL} Here: {why}"))
    }
}

/// Why the store did not take a message.
pub fn of_append_error(error: &AppendError, disk_used: Option<f64>) -> Refusal {
    match error {
        AppendError::Busy { .. } => Refusal::new(
            code::SYSTEM_BUSY,
            format!("[REJECTREQUEST]system busy, start flow control for a while: {error}"),
        ),
        AppendError::EmptyBatch => Refusal::system_error(error.to_string()),
        AppendError::Illegal(_) | AppendError::Size { .. } => Refusal::message_illegal(error),
        AppendError::Queues(..) => Refusal::system_error(error.to_string()),
        AppendError::Stalled(_) => Refusal::new(
            code::SYSTEM_BUSY,
            format!("[REJECTREQUEST]system busy, start flow control for a while; {error}"),
        ),
        AppendError::DiskFull(_)
        | AppendError::NoSpace { .. }
        | AppendError::Poisoned(_)
        | AppendError::Stopped => Refusal::not_available(&error.to_string(), disk_used),
    }
}

/// What the producer of an accepted message is told: `Ok` carries the place of the message too.
pub fn of_outcome(outcome: Outcome, disk_used: impl FnOnce() -> Option<f64>) -> Answer<i32> {
    match outcome {
        Outcome::Durable => Ok(code::SUCCESS),
        Outcome::FlushTimeout => Ok(code::FLUSH_DISK_TIMEOUT),
        Outcome::NoSlave => Ok(code::SLAVE_NOT_AVAILABLE),
        Outcome::SlaveTimeout => Ok(code::FLUSH_SLAVE_TIMEOUT),
        Outcome::Rejected(Rejection::NoSpace) => Err(Refusal::not_available(
            "disk full: no space left for the next commit log file",
            disk_used(),
        )),
        Outcome::Rejected(Rejection::Poisoned) => Err(Refusal::not_available(
            "a write or sync of the commit log failed; whether the message is kept is unknown",
            disk_used(),
        )),
        Outcome::Rejected(Rejection::Stalled { stall, count }) => {
            let (what, ms) = (stall.resource.name(), stall.waited_ms);
            let remark = format!(
                "[PCBUSY_CLEAN_QUEUE]broker busy, start flow control for a while, period in \
                 queue: {ms}ms, size of queue: {count}; {what} has waited {ms} ms"
            );
            Err(Refusal::new(code::SYSTEM_BUSY, remark))
        }
        Outcome::Rejected(Rejection::SegmentLate) => {
            Err(Refusal::system_error("create mapped file failed, server is busy or broken."))
        }
    }
}

/// Source: PullMessageProcessor#processRequest (4.9.3), the table of status and code.
pub fn of_read(status: ReadStatus, wanted: i64) -> i32 {
    match status {
        ReadStatus::Found => code::SUCCESS,
        ReadStatus::MessageWasRemoving | ReadStatus::NoMatchedMessage => {
            code::PULL_RETRY_IMMEDIATELY
        }
        ReadStatus::NoMessageInQueue if wanted != 0 => code::PULL_OFFSET_MOVED,
        ReadStatus::NoMessageInQueue
        | ReadStatus::OffsetFoundNull
        | ReadStatus::OffsetOverflowOne => code::PULL_NOT_FOUND,
        ReadStatus::OffsetOverflowBadly | ReadStatus::OffsetTooSmall => code::PULL_OFFSET_MOVED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_queue_parks_at_zero_and_moves_anyone_else() {
        assert_eq!(of_read(ReadStatus::NoMessageInQueue, 0), code::PULL_NOT_FOUND);
        assert_eq!(of_read(ReadStatus::NoMessageInQueue, 5), code::PULL_OFFSET_MOVED);
        assert_eq!(of_read(ReadStatus::OffsetOverflowOne, 5), code::PULL_NOT_FOUND);
    }

    #[test]
    fn a_full_disk_is_named_in_the_words_that_tools_look_for() {
        let error = AppendError::NoSpace { size: 1024 };
        let refusal = of_append_error(&error, Some(99.5));
        assert_eq!(refusal.code, code::SERVICE_NOT_AVAILABLE);
        assert!(refusal.remark.starts_with("service not available now."));
        assert!(refusal.remark.contains("[CL: 99.50 CQ: 99.50 INDEX: 99.50]"));
        assert!(refusal.remark.contains("no space left"));
    }

    /// Every way in which a message is not simply stored, with the code and the words of 4.9.3 that
    /// clients and people match on, and what we add.
    #[test]
    fn every_status_of_the_store_reaches_the_client_with_its_code() {
        use crate::store::{Resource, Stall};
        let stall = Stall { resource: Resource::Write, waited_ms: 1243 };
        let refused = |error: AppendError| of_append_error(&error, Some(91.0));
        let full = AppendError::DiskFull("disk full: 91 % of /d used, limit 90 %".into());
        let rejected = |why| of_outcome(Outcome::Rejected(why), || Some(91.0)).unwrap_err();
        let put_ok = of_outcome(Outcome::Durable, || None);
        let flush_disk_timeout = of_outcome(Outcome::FlushTimeout, || None);
        assert_eq!((put_ok, flush_disk_timeout), (Ok(0), Ok(10)));
        let unavailable = "service not available now. It may be caused by one of the following";
        let rows = [
            (refused(full), 14, unavailable, "Here it is: disk full: 91 % of /d used, limit 90 %"),
            (refused(AppendError::NoSpace { size: 9 }), 14, unavailable, "[CL: 91.00 CQ: 91.00"),
            (refused(AppendError::Poisoned("EIO".into())), 14, unavailable, "poisoned: EIO"),
            (refused(AppendError::Stopped), 14, unavailable, "stopped"),
            (rejected(Rejection::NoSpace), 14, unavailable, "disk full: no space left"),
            (rejected(Rejection::Poisoned), 14, unavailable, "write or sync"),
            (
                rejected(Rejection::SegmentLate),
                1,
                "create mapped file failed, server is busy or broken.",
                "",
            ),
            (
                refused(AppendError::Size { size: 9, max: 8 }),
                13,
                "the message is illegal, maybe msg body or properties length not matched.",
                "9 bytes",
            ),
            (
                refused(AppendError::Stalled(stall)),
                2,
                "[REJECTREQUEST]system busy, start flow control for a while; ",
                "the log's write has waited 1243 ms",
            ),
            (
                refused(AppendError::Busy { pending: 9, max: 8 }),
                2,
                "[REJECTREQUEST]system busy, start flow control for a while",
                "9 bytes wait to be written",
            ),
            (
                rejected(Rejection::Stalled { stall, count: 7 }),
                2,
                "[PCBUSY_CLEAN_QUEUE]broker busy, start flow control for a while, period in \
                 queue: 1243ms, size of queue: 7; ",
                "the log's write has waited 1243 ms",
            ),
            (refused(AppendError::Queues(5)), 1, "the store has 5 queues", ""),
            (refused(AppendError::EmptyBatch), 1, "the batch has no message", ""),
            (
                Refusal::read_stalled(Duration::from_secs(5)),
                2,
                "[TIMEOUT_CLEAN_QUEUE]broker busy, start flow control for a while, period in \
                 queue: 5000ms, size of queue: 1; ",
                "the log's read has waited 5000 ms",
            ),
            (
                Refusal::overload("x"),
                2,
                "[OVERLOAD]system busy, start flow control for a while: x",
                "",
            ),
        ];
        for (refusal, code, start, part) in rows {
            let remark = &refusal.remark;
            assert_eq!(refusal.code, code, "{remark}");
            assert!(remark.starts_with(start) && remark.contains(part), "{remark}");
        }
    }

    #[test]
    fn an_unknown_code_is_named_as_java_does() {
        let refusal = Refusal::unknown_code(9999);
        assert_eq!((refusal.code, &*refusal.remark), (3, " request type 9999 not supported"));
    }
}
