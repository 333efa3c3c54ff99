//! `hotfire produce`: sends messages, prints one line per send.

use super::failure::Failure;
use super::member::{self, NameServers, Printed};
use crate::client::{Message, SendResult};
use crate::rt;
use bytes::Bytes;
use clap::Args as ClapArgs;
use serde_json::json;
use std::io::{BufRead, Read};

/// Units: bytes of one line of standard input, the client's bound of a body.
const LINE_SIZE_MAX: u64 = 4 << 20;

#[derive(Debug, ClapArgs)]
pub struct Produce {
    #[command(flatten)]
    pub servers: NameServers,
    /// The topic; brokers create it from their template when it does not exist
    #[arg(short = 't', long, value_name = "TOPIC")]
    pub topic: String,
    /// The tag that consumers filter by
    #[arg(long, value_name = "TAG")]
    pub tag: Option<String>,
    /// A key to find the message by; may be given more than once
    #[arg(long = "key", value_name = "KEY")]
    pub keys: Vec<String>,
    /// A property NAME=VALUE; may be given more than once
    #[arg(long = "property", value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub properties: Vec<(String, String)>,
    /// Deliver later: 1 to 18 stand for 1s 5s 10s 30s 1m 2m … 10m 20m 30m 1h 2h
    #[arg(long, value_name = "L", value_parser = clap::value_parser!(u32).range(1..))]
    pub delay_level: Option<u32>,
    /// How many sends; the bodies are taken round and round
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// Send bodies of this many bytes instead of given ones
    #[arg(long, value_name = "BYTES", conflicts_with = "bodies")]
    pub size: Option<usize>,
    /// Print a JSON object per send
    #[arg(long)]
    pub json: bool,
    /// The bodies; without them and without --size, every line of standard input is one
    #[arg(value_name = "BODY")]
    pub bodies: Vec<String>,
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("NAME=VALUE was expected, neither of them empty".to_owned()),
    }
}

/// Sends until the bodies or the count are used up.
/// Errors: the first send that fails ends it.
pub fn run(args: &Produce) -> Result<(), Failure> {
    rt::block_on(produce(args))
}

async fn produce(args: &Produce) -> Result<(), Failure> {
    let member = member::start(&args.servers)?;
    let mut bodies = Bodies::of(args);
    while let Some(body) = bodies.next().await? {
        let result = member.client.send(&message(args, body)).await?;
        let line = if args.json { json_line(&result) } else { line(&result) };
        if let Printed::ReaderIsGone = member::print(&line)? {
            break;
        }
    }
    member.world.end().await;
    if bodies.empty_count > 0 {
        eprintln!("{} empty lines were not sent: a message needs a body", bodies.empty_count);
    }
    Ok(())
}

fn message(args: &Produce, body: Bytes) -> Message {
    let mut message = Message::new(&args.topic, body);
    if let Some(tag) = &args.tag {
        message = message.with_tag(tag);
    }
    for key in &args.keys {
        message = message.with_key(key);
    }
    for (name, value) in &args.properties {
        message = message.with_property(name, value);
    }
    match args.delay_level {
        Some(level) => message.with_delay_level(level),
        None => message,
    }
}

/// Status, message id, queue, offset.
fn line(sent: &SendResult) -> String {
    let (id, queue) = (&sent.message_id, &sent.queue);
    format!("{} {id} {}:{} {}\n", sent.status, queue.broker, queue.queue, sent.queue_offset)
}

fn json_line(sent: &SendResult) -> String {
    let line = json!({
        "status": sent.status.to_string(),
        "msgId": sent.message_id,
        "offsetMsgId": sent.offset_message_id,
        "topic": &*sent.queue.topic,
        "brokerName": &*sent.queue.broker,
        "queueId": sent.queue.queue.0,
        "queueOffset": sent.queue_offset.0,
        "tries": sent.tries,
    });
    format!("{line}\n")
}

/// Where bodies come from.
struct Bodies {
    given: Vec<Bytes>,
    taken: u64,
    count_max: u64,
    empty_count: u64,
}

impl Bodies {
    fn of(args: &Produce) -> Self {
        let given: Vec<Bytes> = match args.size {
            Some(size) => vec![filler(size)],
            None => args.bodies.iter().map(|body| Bytes::from(body.clone())).collect(),
        };
        let all = if given.is_empty() { u64::MAX } else { given.len() as u64 };
        Bodies { count_max: args.count.unwrap_or(all), given, taken: 0, empty_count: 0 }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        if self.taken >= self.count_max {
            return Ok(None);
        }
        let body = if self.given.is_empty() {
            let Some(line) = self.next_line().await? else { return Ok(None) };
            line
        } else {
            self.given[(self.taken % self.given.len() as u64) as usize].clone()
        };
        self.taken += 1;
        Ok(Some(body))
    }

    /// The next line of standard input that is not empty.
    async fn next_line(&mut self) -> Result<Option<Bytes>, Failure> {
        let refused =
            |why: std::io::Error| Failure::new(Failure::REFUSED, format!("standard input: {why}"));
        loop {
            let line = rt::task::blocking(read_line).await.map_err(refused)?.map_err(refused)?;
            match line {
                Some(line) if line.is_empty() => self.empty_count += 1,
                line => return Ok(line.map(Bytes::from)),
            }
        }
    }
}

fn read_line() -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let size = std::io::stdin().lock().take(LINE_SIZE_MAX + 1).read_until(b'\n', &mut line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    } else if size as u64 > LINE_SIZE_MAX {
        let why = format!("a line has more than {LINE_SIZE_MAX} bytes");
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, why));
    }
    Ok((size > 0).then_some(line))
}

/// Letters, so that a consumer can print them.
fn filler(size: usize) -> Bytes {
    (b'a'..=b'z').cycle().take(size).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        produce: Produce,
    }

    fn parse(line: &str) -> Produce {
        Line::try_parse_from(line.split(' ')).expect("legal").produce
    }

    #[test]
    fn bodies_are_taken_round_and_round() {
        let args = parse("x -n a:1 -t T --count 3 one two");
        let mut bodies = Bodies::of(&args);
        rt::block_on(async {
            let mut taken = Vec::new();
            while let Some(body) = bodies.next().await.unwrap() {
                taken.push(body);
            }
            assert_eq!(taken, ["one", "two", "one"]);
        });
        let args = parse("x -n a:1 -t T --size 30");
        assert_eq!(Bodies::of(&args).count_max, 1);
        assert_eq!(Bodies::of(&args).given[0].len(), 30);
    }

    #[test]
    fn everything_that_was_typed_is_in_the_message() {
        let args =
            parse("x -n a:1 -t T --tag A --key k1 --key k2 --property a=b=c --delay-level 3 x");
        let message = message(&args, Bytes::from("x"));
        let value = |name| message.properties.get(name);
        assert_eq!((value("TAGS"), value("KEYS")), (Some("A"), Some("k1 k2")));
        assert_eq!((value("a"), value("DELAY")), (Some("b=c"), Some("3")));
        assert!(Line::try_parse_from("x -n a:1 -t T --property a x".split(' ')).is_err());
        assert!(Line::try_parse_from("x -n a:1 -t T --delay-level 0 x".split(' ')).is_err());
    }
}
