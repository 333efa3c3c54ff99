//! From end to end: one connection sends at a rate, one per queue waits for arrivals.

use super::args::Load;
use super::load::{Done, Work, histogram};
use super::pull;
use super::send;
use super::template::{self, Hole, Template};
use crate::protocol::header::pull::{PullMessageReplyHeader, flag};
use hdrhistogram::Histogram;

/// Nothing beyond a queue's end is pulled, so this asks for the end.
const BEYOND: i64 = 999_999_999_999_999_999;
/// Units: ms.
const SUSPEND_MS: i64 = 15_000;
/// A sent body begins with the time it should have gone, in decimal.
const TIME_SIZE: usize = 20;

pub struct Tail {
    send: send::Send,
    pull: Template,
    queue: Hole,
    offset: Hole,
    /// Connections that pull, one per queue; the ones after them send.
    pullers: usize,
    in_flight: u32,
    next: Vec<i64>,
    latency: Histogram<u64>,
}

impl Tail {
    /// The load must have a body that holds the time. Connections are `queues` more than asked.
    pub fn new(load: &Load) -> Self {
        let flags = flag::SUBSCRIPTION | flag::SUSPEND;
        let pull = Template::new(pull::request(load, SUSPEND_MS, flags), load.header);
        let queue = pull.hole_of("queueId", "0");
        let offset = pull.hole_of("queueOffset", pull::OFFSET);
        Tail {
            send: send::Send::new(load),
            pull,
            queue,
            offset,
            pullers: load.queues as usize,
            in_flight: load.in_flight,
            next: vec![BEYOND; load.queues as usize],
            latency: histogram(),
        }
    }

    fn on_pull(&mut self, line: usize, frame: &[u8], now: u64) -> Result<Done, String> {
        let command = template::command(frame)?;
        let id = template::reply(frame)?.id;
        let header = PullMessageReplyHeader::decode(&command.fields());
        let header = header.map_err(|e| format!("code {}: {e}", command.code))?;
        let was_at_end = self.next[line] == BEYOND;
        self.next[line] = if was_at_end { header.max_offset } else { header.next_begin_offset };
        let mut messages = 0;
        if !was_at_end {
            for body in pull::messages_of(&command.body) {
                messages += 1;
                let digits =
                    body.get(..TIME_SIZE).and_then(|digits| std::str::from_utf8(digits).ok());
                let sent: Option<u64> = digits.and_then(|digits| digits.parse().ok());
                self.latency.saturating_record(now.saturating_sub(sent.unwrap_or(now)));
            }
        }
        let size = command.body.len() as u64;
        Ok(Done { id, messages, size, failure: None })
    }
}

impl Work for Tail {
    fn write(&mut self, line: usize, id: u32, begun: u64, out: &mut Vec<u8>) {
        if line >= self.pullers {
            self.send.write(line, id, begun, out);
            let at = out.len() - self.send.body_size();
            out[at..at + TIME_SIZE].copy_from_slice(format!("{begun:020}").as_bytes());
            return;
        }
        let holes = [(self.queue, line as u64), (self.offset, self.next[line] as u64)];
        self.pull.write(id, &holes, out);
    }

    fn read(&mut self, line: usize, frame: &[u8], now: u64) -> Result<Done, String> {
        if line < self.pullers {
            return self.on_pull(line, frame, now);
        }
        // Only arrivals count as messages.
        send::done(frame, 0).map(|done| Done { messages: 0, ..done })
    }

    fn is_paced(&self, line: usize) -> bool {
        line >= self.pullers
    }

    /// A queue is pulled by one request at a time, whatever is in flight elsewhere.
    fn is_used(&self, line: usize, id: u32) -> bool {
        line >= self.pullers || id.is_multiple_of(self.in_flight)
    }

    fn latency(&mut self) -> Option<&mut Histogram<u64>> {
        Some(&mut self.latency)
    }
}
