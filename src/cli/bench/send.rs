//! Sends, as a Java producer would.

use super::args::Load;
use super::load::{Done, Work};
use super::template::{self, Hole, Template};
use crate::protocol::Command;
use crate::protocol::code::request_code;
use crate::protocol::header::send::SendMessageHeader;
use crate::rt::time::Clock;

/// The part of the unique id that counts. Sixteen bytes in hexadecimal, as Java makes them.
const ID_START: &str = "AC110001000000000000";
const ID_COUNT: &str = "900000000009";

pub struct Send {
    template: Template,
    queue: Hole,
    id: Hole,
    queues: u64,
    count: u64,
    size: u64,
}

impl Send {
    pub fn new(load: &Load) -> Self {
        let template = Template::new(request(load), load.header);
        let queue = template.hole_of("e", "0");
        let id = template.hole(ID_COUNT);
        Send {
            template,
            queue,
            id,
            queues: u64::from(load.queues),
            count: 0,
            size: u64::from(load.size),
        }
    }
}

impl Send {
    /// Where a frame's body begins, from its end.
    pub fn body_size(&self) -> usize {
        self.size as usize
    }
}

fn request(load: &Load) -> Command {
    let properties =
        format!("TAGS\u{1}TagA\u{2}UNIQ_KEY\u{1}{ID_START}{ID_COUNT}\u{2}WAIT\u{1}true");
    let header = SendMessageHeader {
        producer_group: "please_rename_unique_group_name".into(),
        topic: load.topic.as_str().into(),
        default_topic: "TBW102".into(),
        default_topic_queue_nums: load.queues as i32,
        queue_id: 0,
        sys_flag: 0,
        born_timestamp: Clock::new().wall().0,
        flag: 0,
        properties: Some(properties.into()),
        reconsume_times: Some(0),
        is_unit_mode: false,
        max_reconsume_times: None,
        is_batch: false,
    };
    let code = request_code::SEND_MESSAGE_V2;
    let body: Vec<u8> = (0..load.size).map(|at| b'a' + (at % 26) as u8).collect();
    Command::request(code).with_fields(header.to_ext(code)).with_body(body)
}

impl Work for Send {
    fn write(&mut self, _: usize, id: u32, _: u64, out: &mut Vec<u8>) {
        self.count += 1;
        let holes = [(self.queue, self.count % self.queues), (self.id, self.count)];
        self.template.write(id, &holes, out);
    }

    fn read(&mut self, _: usize, frame: &[u8], _: u64) -> Result<Done, String> {
        done(frame, self.size)
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
