//! The send of `bench send` against a server that does not read headers: replies come in order.

use super::args::Load;
use super::load::{Done, Work};
use super::send::Send;
use std::collections::VecDeque;

pub struct Echo {
    send: Send,
    size: u64,
    waiting: Vec<VecDeque<u32>>,
}

impl Echo {
    pub fn new(load: &Load) -> Self {
        let waiting = vec![VecDeque::new(); load.connections as usize];
        Echo { send: Send::new(load), size: u64::from(load.size), waiting }
    }
}

impl Work for Echo {
    fn write(&mut self, line: usize, id: u32, begun: u64, out: &mut Vec<u8>) {
        self.waiting[line].push_back(id);
        self.send.write(line, id, begun, out);
    }

    fn read(&mut self, line: usize, _: &[u8], _: u64) -> Result<Done, String> {
        let id = self.waiting[line].pop_front().ok_or("a reply to no request")?;
        Ok(Done { id, messages: 1, size: self.size, failure: None })
    }
}
