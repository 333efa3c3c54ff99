//! The slaves of a master: how far each is, and whose word counts.
//!
//! Source: HAService, HAConnection (4.9.3).
//! Differs: a report of what the master never had, or never sent, closes the connection and changes
//! nothing (W-41).

use crate::rt::time::Mono;
use crate::store::SlaveReport;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::ops::Range;

/// One connected slave, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlaveRow {
    pub addr: SocketAddr,
    /// It has everything below; `None` before its first report. Units: an offset of the log.
    pub acked: Option<u64>,
    /// Everything below was sent to it. Units: an offset of the log.
    pub sent: u64,
    /// Since when it has not had all of the log; `None` while it has.
    pub behind_since: Option<Mono>,
}

struct Slave {
    addr: SocketAddr,
    acked: Option<u64>,
    sent: u64,
    /// When it last had all of the log, or came.
    whole_at: Mono,
    is_whole: bool,
}

/// Why a report was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("it says that it has the log up to {said}, which ends at {end} here")]
    Ahead { said: u64, end: u64 },
    #[error("it says that it has the log up to {said}, but it was sent no more than up to {sent}")]
    Unsent { said: u64, sent: u64 },
}

#[derive(Default)]
pub struct Master {
    slaves: BTreeMap<u64, Slave>,
    next: u64,
    /// Given out and not used, oldest first, and until when each is good.
    tokens: VecDeque<(u64, Mono)>,
}

impl Master {
    pub fn count(&self) -> usize {
        self.slaves.len()
    }

    /// `end` is where the log ends.
    pub fn rows(&self, end: u64) -> Vec<SlaveRow> {
        let row = |slave: &Slave| SlaveRow {
            addr: slave.addr,
            acked: slave.acked,
            sent: slave.sent,
            behind_since: slave.acked.is_none_or(|acked| acked < end).then_some(slave.whole_at),
        };
        self.slaves.values().map(row).collect()
    }

    /// What may be told to those who wait for a slave.
    pub fn report(&self) -> SlaveReport {
        let acked = self.slaves.values().filter_map(|slave| slave.acked);
        let acked = acked.fold(None, |best: Option<u64>, acked| Some(best.unwrap_or(0).max(acked)));
        SlaveReport { is_connected: acked.is_some(), acked: acked.unwrap_or(0) }
    }

    /// A slave was greeted. Of more than `count_max` tokens the oldest is void.
    pub fn on_greeted(&mut self, token: u64, until: Mono, count_max: usize) {
        self.tokens.push_back((token, until));
        let excess = self.tokens.len().saturating_sub(count_max);
        self.tokens.drain(..excess);
    }

    /// Whether a token is good; it is not any more.
    pub fn take_token(&mut self, now: Mono, token: u64) -> bool {
        let at = self.tokens.iter().position(|(known, until)| *known == token && now <= *until);
        at.and_then(|at| self.tokens.remove(at)).is_some()
    }

    pub fn on_connected(&mut self, now: Mono, addr: SocketAddr) -> u64 {
        self.next += 1;
        let slave = Slave { addr, acked: None, sent: 0, whole_at: now, is_whole: false };
        self.slaves.insert(self.next, slave);
        self.next
    }

    /// The log went on: whoever had all of it is behind from now on.
    pub fn on_log_moved(&mut self, now: Mono) {
        for slave in self.slaves.values_mut().filter(|slave| slave.is_whole) {
            (slave.is_whole, slave.whole_at) = (false, now);
        }
    }

    /// A slave says that it has everything below `said`; `log` is what is written here. Returns
    /// where to go on when this is its first word: an empty slave begins where the log does, or at
    /// `first` when that is later.
    pub fn on_report(
        &mut self,
        id: u64,
        said: u64,
        log: Range<u64>,
        first: u64,
    ) -> Result<Option<u64>, Refused> {
        let Some(slave) = self.slaves.get_mut(&id) else { return Ok(None) };
        if said > log.end {
            return Err(Refused::Ahead { said, end: log.end });
        }
        if slave.acked.is_some() && said > slave.sent {
            return Err(Refused::Unsent { said, sent: slave.sent });
        }
        slave.is_whole = said == log.end;
        let is_first = slave.acked.is_none();
        slave.acked = Some(slave.acked.unwrap_or(0).max(said));
        if !is_first {
            return Ok(None);
        }
        slave.sent = if said == 0 { log.start.max(first) } else { said };
        Ok(Some(slave.sent))
    }

    /// Everything below `end` was sent.
    pub fn on_sent(&mut self, id: u64, end: u64) {
        if let Some(slave) = self.slaves.get_mut(&id) {
            slave.sent = end;
        }
    }

    pub fn on_closed(&mut self, id: u64) {
        self.slaves.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master() -> (Master, u64) {
        let mut master = Master::default();
        let id = master.on_connected(Mono(0), ([10, 0, 0, 2], 4000).into());
        (master, id)
    }

    #[test]
    fn the_best_slave_counts_and_none_before_its_first_word() {
        let (mut master, a) = master();
        let b = master.on_connected(Mono(0), ([10, 0, 0, 3], 4000).into());
        assert_eq!(master.report(), SlaveReport { is_connected: false, acked: 0 });
        assert_eq!(master.on_report(a, 100, 0..500, 0), Ok(Some(100)));
        assert_eq!(master.on_report(b, 300, 0..500, 0), Ok(Some(300)));
        assert_eq!(master.report(), SlaveReport { is_connected: true, acked: 300 });
        master.on_closed(b);
        assert_eq!(master.report().acked, 100);
    }

    #[test]
    fn a_token_opens_one_connection_and_not_for_ever() {
        let mut master = Master::default();
        for (token, until) in [(1, 10), (2, 20), (3, 30)] {
            master.on_greeted(token, Mono(until), 2);
        }
        assert!(!master.take_token(Mono(5), 1), "the oldest of too many is void");
        assert!(!master.take_token(Mono(21), 2));
        assert!(master.take_token(Mono(21), 3));
        assert!(!master.take_token(Mono(21), 3));
    }

    #[test]
    fn a_word_about_what_was_never_sent_changes_nothing() {
        let (mut master, id) = master();
        let ahead = master.on_report(id, 501, 0..500, 0);
        assert_eq!(ahead, Err(Refused::Ahead { said: 501, end: 500 }));
        assert!(!master.report().is_connected);
        assert_eq!(master.on_report(id, 100, 0..500, 0), Ok(Some(100)));
        master.on_sent(id, 200);
        let unsent = master.on_report(id, 201, 0..500, 0);
        assert_eq!(unsent, Err(Refused::Unsent { said: 201, sent: 200 }));
        assert_eq!(master.on_report(id, 200, 0..500, 0), Ok(None));
        assert_eq!(master.report().acked, 200);
    }

    #[test]
    fn an_empty_slave_begins_where_the_log_does_or_at_its_last_file() {
        let (mut master, a) = master();
        assert_eq!(master.on_report(a, 0, 100..500, 0), Ok(Some(100)));
        let b = master.on_connected(Mono(0), ([10, 0, 0, 3], 4000).into());
        assert_eq!(master.on_report(b, 0, 100..500, 400), Ok(Some(400)));
        assert_eq!(master.report().acked, 0);
    }
}
