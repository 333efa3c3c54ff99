//! Sends, as a Java producer would.

use super::args::Load;
use super::load::{Done, Work};
use super::template::{self, Hole, Template};
use crate::format::message_batch::{self, Member};
use crate::protocol::Command;
use crate::protocol::code::request_code;
use crate::protocol::header::send::SendMessageHeader;
use crate::rt::time::Clock;

/// The part of the unique id that counts. Sixteen bytes in hexadecimal, as Java makes them.
const ID_START: &str = "AC110001000000000000";
const ID_COUNT_START: u64 = 900_000_000_009;

pub struct Send {
    template: Template,
    /// The queue's number, then the count of each message's id.
    holes: Vec<(Hole, u64)>,
    queues: u64,
    count: u64,
    /// Messages of one request.
    batch: u64,
    /// Units: bytes of one body.
    size: u64,
}

impl Send {
    pub fn new(load: &Load) -> Self {
        let template = Template::new(request(load), load.header);
        let queue = (template.hole_of("e", "0"), 0);
        let ids = (0..load.batch).map(|at| (template.hole(&id_count(at)), 0));
        Send {
            holes: std::iter::once(queue).chain(ids).collect(),
            template,
            queues: u64::from(load.queues),
            count: 0,
            batch: u64::from(load.batch),
            size: u64::from(load.size),
        }
    }
}

/// Another text for each message of a batch, in place of its count.
fn id_count(at: u32) -> String {
    format!("{:012}", ID_COUNT_START + u64::from(at))
}

fn properties(at: u32) -> String {
    format!("TAGS\u{1}TagA\u{2}UNIQ_KEY\u{1}{ID_START}{}\u{2}WAIT\u{1}true", id_count(at))
}

/// The body of a batch.
fn members(body: &[u8], count: u32) -> Vec<u8> {
    let mut out = Vec::new();
    for at in 0..count {
        let properties = properties(at);
        message_batch::encode(
            &Member { flag: 0, body, properties: properties.as_bytes() },
            &mut out,
        );
    }
    out
}

impl Send {
    /// Where a frame's body begins, from its end.
    pub fn body_size(&self) -> usize {
        self.size as usize
    }
}

fn request(load: &Load) -> Command {
    let is_batch = load.batch > 1;
    let header = SendMessageHeader {
        producer_group: "please_rename_unique_group_name".into(),
        topic: load.topic.as_str().into(),
        default_topic: "TBW102".into(),
        default_topic_queue_nums: load.queues as i32,
        queue_id: 0,
        sys_flag: 0,
        born_timestamp: Clock::new().wall().0,
        flag: 0,
        properties: Some(if is_batch { String::new() } else { properties(0) }.into()),
        reconsume_times: Some(0),
        is_unit_mode: false,
        max_reconsume_times: None,
        is_batch,
    };
    let body: Vec<u8> = (0..load.size).map(|at| b'a' + (at % 26) as u8).collect();
    let (code, body) = match load.batch {
        1 => (request_code::SEND_MESSAGE_V2, body),
        count => (request_code::SEND_BATCH_MESSAGE, members(&body, count)),
    };
    Command::request(code).with_fields(header.to_ext(code)).with_body(body)
}

impl Work for Send {
    fn write(&mut self, _: usize, id: u32, _: u64, out: &mut Vec<u8>) {
        self.holes[0].1 = (self.count / self.batch) % self.queues;
        for (_, number) in &mut self.holes[1..] {
            self.count += 1;
            *number = self.count;
        }
        self.template.write(id, &self.holes, out);
    }

    fn read(&mut self, _: usize, frame: &[u8], _: u64) -> Result<Done, String> {
        let one = done(frame, self.size)?;
        Ok(Done { messages: one.messages * self.batch, size: one.size * self.batch, ..one })
    }
}

/// Reads the reply to a send.
pub fn done(frame: &[u8], size: u64) -> Result<Done, String> {
    let reply = template::reply(frame)?;
    if reply.code == 0 {
        return Ok(Done { id: reply.id, messages: 1, size, failure: None });
    }
    let remark = template::command(frame)?.remark.unwrap_or_default();
    let failure = Some(format!("code {}: {remark}", reply.code));
    Ok(Done { id: reply.id, messages: 0, size: 0, failure })
}
