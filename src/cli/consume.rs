//! `hotfire consume`: prints messages one per line and commits what it printed.

use super::failure::Failure;
use super::member::{self, NameServers, Printed};
use super::moment;
use crate::client::{
    Client, Interest, MessageQueue, PullRequest, PullResult, PullStatus, Subscription, allocate,
    body_of,
};
use crate::format::message_unit::View;
use crate::format::properties::Properties;
use crate::model::{GroupName, QueueOffset, TopicName, WallMillis, property};
use crate::rt;
use crate::rt::sync::mpsc;
use crate::rt::task::TaskGroup;
use crate::rt::time::{Alarm, Clock, Duration};
use clap::Args as ClapArgs;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Units: messages of one pull.
const PULL_COUNT_MAX: u32 = 32;
/// Units: pull results that wait to be printed.
const RESULTS_MAX: usize = 4;
/// Units: bytes that a compressed body may inflate to.
const BODY_SIZE_MAX: usize = 64 << 20;
/// After a failed pull.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Source: RebalanceService (4.9.3), rocketmq.client.rebalance.waitInterval.
const REBALANCE_INTERVAL: Duration = Duration::from_secs(20);

#[derive(Debug, ClapArgs)]
pub struct Consume {
    #[command(flatten)]
    pub servers: NameServers,
    #[arg(short = 't', long, value_name = "TOPIC")]
    pub topic: String,
    /// The group whose progress is used and committed
    #[arg(short = 'g', long, value_name = "GROUP")]
    pub group: String,
    /// Where to begin, whatever the group committed: first, last, or a time (epoch milliseconds,
    /// 2024-02-29T12:00:00Z, or 15m for fifteen minutes ago). Without it: where the group stopped,
    /// a new group at the first message
    #[arg(long, value_name = "first|last|TIME")]
    pub from: Option<String>,
    /// Only messages with these tags, such as "TagA || TagB"
    #[arg(long, value_name = "EXPR", default_value = "*")]
    pub filter: String,
    /// End after so many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Do not end when caught up, and share the queues with the group's other members
    #[arg(long)]
    pub follow: bool,
    /// Print a JSON object per message
    #[arg(long)]
    pub json: bool,
}

/// Prints until it has caught up, or until the count is reached or a signal comes.
pub fn run(args: &Consume) -> Result<(), Failure> {
    rt::block_on(consume(args))
}

async fn consume(args: &Consume) -> Result<(), Failure> {
    let member = member::start(&args.servers)?;
    let now = member.world.clock.wall();
    let begin = match args.from.as_deref() {
        None => Begin::Committed,
        Some("first") => Begin::First,
        Some("last") => Begin::Last,
        Some(text) => match moment::parse(text, now) {
            Some(time) => Begin::Time(time),
            None => {
                let why = format!("--from: first, last or a time was expected, found {text:?}");
                return Err(Failure::new(Failure::USAGE, why));
            }
        },
    };
    let subscription = Subscription::tags(&args.topic, &args.filter, now.0)?;
    let reading = Reading {
        client: member.client.clone(),
        clock: member.world.clock.clone(),
        group: GroupName::new(&args.group),
        topic: TopicName::new(&args.topic),
        subscription,
        begin,
        is_json: args.json,
    };
    let left = args.count.unwrap_or(u64::MAX);
    let ended = match args.follow {
        true => follow(&reading, left).await,
        false => catch_up(&reading, left).await,
    };
    member.world.end().await;
    ended
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    Committed,
    First,
    Last,
    Time(WallMillis),
}

/// What every part of the command needs.
#[derive(Clone)]
struct Reading {
    client: Client,
    clock: Clock,
    group: GroupName,
    topic: TopicName,
    subscription: Subscription,
    begin: Begin,
    is_json: bool,
}

/// Reads every queue up to where it ended when the command began.
async fn catch_up(reading: &Reading, mut left: u64) -> Result<(), Failure> {
    let queues = reading.client.subscribe_queues(&reading.topic).await?;
    let mut ranges = Vec::new();
    for queue in queues {
        let end = reading.client.max_offset(&queue).await?;
        ranges.push((reading.start_of(&queue, reading.begin).await?, end, queue));
    }
    for (start, end, queue) in ranges {
        let mut next = start;
        while next < end && left > 0 {
            let result = reading.pull(&queue, next, false).await?;
            match reading.print(&queue, next, &result, Some(end), left).await? {
                Done { reader_is_gone: true, .. } => return Ok(()),
                done => left -= done.count,
            }
            if result.status == PullStatus::NoNewMessage || result.next == next {
                break;
            }
            next = result.next;
        }
    }
    Ok(())
}

/// Reads this member's share of the queues until the count is reached or a signal comes.
async fn follow(reading: &Reading, mut left: u64) -> Result<(), Failure> {
    let interest = Interest {
        subscriptions: vec![reading.subscription.clone()],
        from_first: reading.begin != Begin::Last,
    };
    reading.client.join(&reading.group, interest).await?;
    let mut changes = reading.client.member_changes();
    let mut alarm = Alarm::new(&reading.clock);
    let (sender, mut results) = mpsc::channel(RESULTS_MAX);
    let mut share = Share { owned: BTreeMap::new(), begun: BTreeSet::new(), next_turn: 0, sender };
    let mut rebalance_at = reading.clock.mono();
    let signal = rt::shutdown_signal();
    let mut signal = std::pin::pin!(signal);
    while left > 0 {
        alarm.set(Some(rebalance_at));
        rt::select! {
            _ = &mut signal => break,
            _ = alarm.ring() => {
                share.rebalance(reading).await;
                rebalance_at = reading.clock.mono() + REBALANCE_INTERVAL;
            }
            _ = changes.changed() => share.rebalance(reading).await,
            pulled = results.recv() => {
                let Some(Pulled { queue, turn, from, result }) = pulled else { break };
                if share.owned.get(&queue).is_none_or(|owned| owned.turn != turn) {
                    continue;
                }
                let done = reading.print(&queue, from, &result, None, left).await?;
                left -= done.count;
                if done.reader_is_gone {
                    break;
                }
            }
        }
    }
    share.owned.clear();
    reading.client.leave(&reading.group).await;
    Ok(())
}

/// The queues that this member reads now.
struct Share {
    owned: BTreeMap<MessageQueue, Owned>,
    /// Queues that this command has read from already: they go on where the group is.
    begun: BTreeSet<MessageQueue>,
    next_turn: u64,
    sender: mpsc::Sender<Pulled>,
}

struct Owned {
    /// Tells the results of this task from those of an earlier one.
    turn: u64,
    _task: TaskGroup,
}

struct Pulled {
    queue: MessageQueue,
    turn: u64,
    from: QueueOffset,
    result: PullResult,
}

impl Share {
    /// Divides the queues again. When the members or the route cannot be asked for, all stays as
    /// it is until the next time.
    async fn rebalance(&mut self, reading: &Reading) {
        let asked = async {
            let queues = reading.client.subscribe_queues(&reading.topic).await?;
            let members = reading.client.members(&reading.group, &reading.topic).await?;
            Ok::<_, crate::client::Error>((queues, members))
        };
        let (queues, members) = match asked.await {
            Ok(asked) => asked,
            Err(error) => return eprintln!("the queues are not divided again: {error}"),
        };
        let mine = allocate::averagely(&queues, &members, &reading.client.client_id());
        self.owned.retain(|queue, _| mine.contains(&queue));
        for queue in mine {
            if self.owned.contains_key(queue) {
                continue;
            }
            let is_new = self.begun.insert(queue.clone());
            let begin = if is_new { reading.begin } else { Begin::Committed };
            let (task, turn) = (TaskGroup::new(), self.next_turn);
            self.next_turn += 1;
            let work = pull_queue(reading.clone(), queue.clone(), turn, begin, self.sender.clone());
            task.spawn(work);
            self.owned.insert(queue.clone(), Owned { turn, _task: task });
        }
    }
}

/// Pulls one queue for ever, waiting at the broker when there is nothing.
async fn pull_queue(
    reading: Reading,
    queue: MessageQueue,
    turn: u64,
    begin: Begin,
    results: mpsc::Sender<Pulled>,
) {
    let mut next = None;
    loop {
        let pulled = async {
            let at = match next {
                Some(at) => at,
                None => reading.start_of(&queue, begin).await?,
            };
            Ok::<_, Failure>((at, reading.pull(&queue, at, true).await?))
        };
        match pulled.await {
            Ok((at, result)) => {
                next = Some(result.next);
                let pulled = Pulled { queue: queue.clone(), turn, from: at, result };
                if results.send(pulled).await.is_err() {
                    return;
                }
            }
            Err(failure) => {
                eprintln!("{}:{}: {}", queue.broker, queue.queue, failure.text);
                reading.clock.sleep_until(reading.clock.mono() + RETRY_PAUSE).await;
            }
        }
    }
}

/// What became of one pull result.
struct Done {
    /// Units: messages printed.
    count: u64,
    reader_is_gone: bool,
}

impl Reading {
    async fn start_of(&self, queue: &MessageQueue, begin: Begin) -> Result<QueueOffset, Failure> {
        Ok(match begin {
            Begin::Committed => match self.client.committed_offset(&self.group, queue).await? {
                Some(offset) => offset,
                None => self.client.min_offset(queue).await?,
            },
            Begin::First => self.client.min_offset(queue).await?,
            Begin::Last => self.client.max_offset(queue).await?,
            Begin::Time(time) => self.client.search_offset(queue, time).await?,
        })
    }

    async fn pull(
        &self,
        queue: &MessageQueue,
        from: QueueOffset,
        may_wait: bool,
    ) -> Result<PullResult, Failure> {
        let request = PullRequest {
            group: &self.group,
            queue,
            from,
            count_max: PULL_COUNT_MAX,
            subscription: &self.subscription,
            as_registered: false,
            may_wait,
            commit: None,
        };
        Ok(self.client.pull(&request).await?)
    }

    /// Prints up to `left` messages below `end`, and commits past the last one that was printed.
    async fn print(
        &self,
        queue: &MessageQueue,
        from: QueueOffset,
        result: &PullResult,
        end: Option<QueueOffset>,
        left: u64,
    ) -> Result<Done, Failure> {
        let (mut lines, mut count) = (String::new(), 0);
        let mut commit = end.map_or(result.next, |end| result.next.min(end));
        for unit in result.messages(&self.subscription) {
            let view = unit.map_err(|error| {
                let why = format!("a message of {}:{}: {error}", queue.broker, queue.queue);
                Failure::new(Failure::REFUSED, why)
            })?;
            if end.is_some_and(|end| view.queue_offset() >= end) {
                break;
            }
            if count == left {
                commit = view.queue_offset();
                break;
            }
            lines.push_str(&self.line(queue, &view));
            count += 1;
        }
        if !lines.is_empty()
            && let Printed::ReaderIsGone = member::print(&lines)?
        {
            return Ok(Done { count: 0, reader_is_gone: true });
        }
        if commit != from {
            self.client.commit_offset(&self.group, queue, commit).await?;
        }
        Ok(Done { count, reader_is_gone: false })
    }

    fn line(&self, queue: &MessageQueue, view: &View<'_>) -> String {
        let body = match body_of(view, BODY_SIZE_MAX) {
            Ok(body) => body.into_owned(),
            Err(error) => {
                eprintln!("offset {}: the body is shown as stored: {error}", view.queue_offset());
                view.body().to_vec()
            }
        };
        if self.is_json { json_line(queue, view, &body) } else { line(queue, view, &body) }
    }
}

fn message_id(view: &View<'_>) -> String {
    match view.unique_key() {
        Some(id) => String::from_utf8_lossy(id).into_owned(),
        None => view.offset_id(),
    }
}

/// Queue, offset, store time, message id, tag, body, separated by tabs.
fn line(queue: &MessageQueue, view: &View<'_>, body: &[u8]) -> String {
    let tags = view.property(property::TAGS).map_or_else(|| "-".to_owned(), escape);
    let (at, id) = (moment::text(view.store_timestamp()), escape(message_id(view).as_bytes()));
    let offset = view.queue_offset();
    let (broker, number) = (&queue.broker, queue.queue);
    format!("{broker}:{number}\t{offset}\t{at}\t{id}\t{tags}\t{}\n", escape(body))
}

/// Text on one line: what is no text, control characters and the backslash are written as `\n`,
/// `\\` or `\x1f`.
fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                letter if letter.is_ascii_control() => push_hex(&mut out, letter as u8),
                letter => out.push(letter),
            }
        }
        chunk.invalid().iter().for_each(|byte| push_hex(&mut out, *byte));
    }
    out
}

fn push_hex(out: &mut String, byte: u8) {
    let _ = write!(out, "\\x{byte:02x}");
}

/// A body that is no text is given as hex.
fn json_line(queue: &MessageQueue, view: &View<'_>, body: &[u8]) -> String {
    let properties = Properties::parse(view.properties());
    let mut line = json!({
        "topic": view.topic(),
        "brokerName": &*queue.broker,
        "queueId": view.queue_id().0,
        "queueOffset": view.queue_offset().0,
        "msgId": message_id(view),
        "offsetMsgId": view.offset_id(),
        "bornTimestamp": view.born_timestamp().0,
        "bornHost": view.born_host().to_string(),
        "storeTimestamp": view.store_timestamp().0,
        "storeHost": view.store_host().to_string(),
        "reconsumeTimes": view.reconsume_times(),
        "flag": view.flag(),
        "tags": properties.get(property::TAGS),
        "keys": properties.get(property::KEYS),
        "properties": properties.iter().collect::<BTreeMap<_, _>>(),
    });
    match std::str::from_utf8(body) {
        Ok(text) => line["body"] = text.into(),
        Err(_) => {
            let hex = body.iter().fold(String::new(), |mut hex, byte| {
                let _ = write!(hex, "{byte:02x}");
                hex
            });
            line["bodyHex"] = hex.into();
        }
    }
    format!("{line}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_one_line() {
        assert_eq!(escape(b"a\nb\\\t\x01\xff\xc3\xa9"), "a\\nb\\\\\\t\\x01\\xff\u{e9}");
    }
}
