//! Pulls a backlog from its beginning, over and over.

use super::args::Load;
use super::load::{Done, Work};
use super::template::{self, Hole, Template};
use crate::protocol::Command;
use crate::protocol::code::{request_code, response_code};
use crate::protocol::header::pull::{PullMessageHeader, PullMessageReplyHeader, flag};

/// Place for any offset.
pub const OFFSET: &str = "1000000000000000001";

pub struct Pull {
    template: Template,
    queue: Hole,
    offset: Hole,
    queues: u32,
    /// By request id: where it goes on.
    next: Vec<i64>,
}

impl Pull {
    pub fn new(load: &Load) -> Self {
        let template = Template::new(request(load, 0, flag::SUBSCRIPTION), load.header);
        let (queue, offset) =
            (template.hole_of("queueId", "0"), template.hole_of("queueOffset", OFFSET));
        let next = vec![0; (load.connections * load.in_flight) as usize];
        Pull { template, queue, offset, queues: load.queues, next }
    }
}

/// A pull of everything, from `OFFSET`.
pub fn request(load: &Load, suspend_ms: i64, sys_flag: i32) -> Command {
    let header = PullMessageHeader {
        consumer_group: "hotfire_bench".into(),
        topic: load.topic.as_str().into(),
        queue_id: 0,
        queue_offset: OFFSET.parse().unwrap_or_default(),
        max_msg_nums: load.pull_count as i32,
        sys_flag,
        commit_offset: 0,
        suspend_timeout_millis: suspend_ms,
        subscription: Some("*".into()),
        sub_version: 0,
        expression_type: Some("TAG".into()),
    };
    Command::request(request_code::PULL_MESSAGE).with_fields(header.to_ext())
}

impl Work for Pull {
    fn write(&mut self, line: usize, id: u32, _: u64, out: &mut Vec<u8>) {
        let queue = u64::from(line as u32 % self.queues);
        let holes = [(self.queue, queue), (self.offset, self.next[id as usize] as u64)];
        self.template.write(id, &holes, out);
    }

    fn read(&mut self, _: usize, frame: &[u8], _: u64) -> Result<Done, String> {
        let reply = template::reply(frame)?;
        let command = template::command(frame)?;
        let id = reply.id;
        let Ok(header) = PullMessageReplyHeader::decode(&command.fields()) else {
            let remark = command.remark.unwrap_or_default();
            let failure = Some(format!("code {}: {remark}", reply.code));
            return Ok(Done { id, messages: 0, size: 0, failure });
        };
        let next = self.next.get_mut(id as usize).ok_or("a reply to no request")?;
        if reply.code == response_code::SUCCESS {
            *next = header.next_begin_offset;
            let (messages, size) = contents(&command.body);
            return Ok(Done { id, messages, size, failure: None });
        }
        let failure = (header.max_offset == 0).then(|| "the queue is empty".to_owned());
        *next = header.min_offset;
        Ok(Done { id, messages: 0, size: 0, failure })
    }
}

/// How many messages, and how long their bodies are.
pub fn contents(body: &[u8]) -> (u64, u64) {
    let (mut messages, mut bytes) = (0, 0);
    for message in messages_of(body) {
        messages += 1;
        bytes += message.len() as u64;
    }
    (messages, bytes)
}

/// The bodies of the messages in a reply.
pub fn messages_of(mut body: &[u8]) -> impl Iterator<Item = &[u8]> {
    /// Where the length of a message's body stands when both hosts are of four bytes.
    const BODY_SIZE_AT: usize = 84;
    std::iter::from_fn(move || {
        let size = u32::from_be_bytes(*body.first_chunk::<4>()?) as usize;
        let (message, rest) = body.split_at_checked(size)?;
        body = rest;
        let size = message.get(BODY_SIZE_AT..)?.first_chunk::<4>()?;
        message.get(BODY_SIZE_AT + 4..)?.get(..u32::from_be_bytes(*size) as usize)
    })
}
