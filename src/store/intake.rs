//! What a master's log says next: bytes that arrive in any pieces become whole units.
//!
//! Source: HAService.HAClient#dispatchReadRequest, CommitLog#appendData (4.9.3).
//! Differs: bytes are checked as recovery checks them, and only whole records enter the log, so
//! that a slave's log never ends within one; what a master's file holds behind its blank record is
//! passed over (W-50).

use super::append::AppendError;
use crate::format::message_unit::{self, BLANK_SIZE, DecodeError, Unit, View};
use crate::model::{PhysicalOffset, QueueKey};
use bytes::{Buf, BytesMut};

/// Why what a master sent was not taken.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// For now, or for ever: as the append error says. What was fed is kept and can be tried again.
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("the master's log at offset {at} cannot be taken: {what}")]
    Bad { at: PhysicalOffset, what: String },
    /// The store forgets the queue and goes on.
    #[error("queue {} of topic {} begins anew", .0.queue, .0.topic)]
    BeganAnew(QueueKey),
    /// A queue that begins anew could not be forgotten.
    #[error(transparent)]
    Forget(#[from] super::error::Error),
    /// What was taken before could not be written. Ask the master again from the log's end on.
    #[error("the log ends at {end}, and the next record lies at {at}")]
    Moved { end: PhysicalOffset, at: PhysicalOffset },
}

/// Memory that records are kept in, and written from, is asked for in pieces of this size.
/// Units: bytes.
const CHUNK_SIZE: usize = 512 << 10;

/// Bytes of a master's log that are not yet in this one.
pub struct Intake {
    segment_size: u64,
    /// Where the next unit begins.
    at: u64,
    held: BytesMut,
    /// What is still to come behind a blank record. Units: bytes.
    skip: u64,
}

/// A whole unit.
pub enum Next<'a> {
    Record(View<'a>),
    /// The segment ends here.
    Blank,
    /// More bytes are needed.
    Nothing,
}

impl Intake {
    /// The log goes on at `at`.
    pub fn new(segment_size: u64, at: PhysicalOffset) -> Self {
        Intake { segment_size, at: at.0, held: BytesMut::new(), skip: 0 }
    }

    /// Everything below arrived.
    pub fn received(&self) -> PhysicalOffset {
        PhysicalOffset(self.at + self.held.len() as u64 - self.skip)
    }

    /// Where the next unit begins.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// The bytes at `received`.
    pub fn feed(&mut self, bytes: &[u8]) {
        let passed = self.skip.min(bytes.len() as u64);
        self.skip -= passed;
        let bytes = &bytes[passed as usize..];
        if self.held.capacity() - self.held.len() < bytes.len() {
            // `reserve` would double what nobody else holds.
            let size = self.held.len() + bytes.len().max(CHUNK_SIZE);
            let held = std::mem::replace(&mut self.held, BytesMut::with_capacity(size));
            self.held.extend_from_slice(&held);
        }
        self.held.extend_from_slice(bytes);
    }

    /// The unit at `at`. `consume` goes behind it.
    pub fn next(&self) -> Result<Next<'_>, IntakeError> {
        if self.held.is_empty() || self.skip > 0 {
            return Ok(Next::Nothing);
        }
        let left = self.segment_size - self.at % self.segment_size;
        let bad = |what: String| IntakeError::Bad { at: PhysicalOffset(self.at), what };
        match message_unit::decode(&self.held, PhysicalOffset(self.at), true) {
            // Every master leaves room for a blank record.
            Ok(Unit::Record(view)) if (view.size() + BLANK_SIZE) as u64 <= left => {
                Ok(Next::Record(view))
            }
            Ok(Unit::Record(view)) => Err(bad(format!(
                "a record of {} bytes where {left} are left of the file: both need the same \
                 mappedFileSizeCommitLog",
                view.size()
            ))),
            Ok(Unit::Blank { size }) if u64::from(size) == left => Ok(Next::Blank),
            Ok(Unit::Blank { size }) => Err(bad(format!(
                "a blank record of {size} bytes where {left} are left of the file: both need the \
                 same mappedFileSizeCommitLog"
            ))),
            Ok(Unit::End) => Err(bad("nothing is written there".into())),
            Err(DecodeError::Truncated { need, .. }) if need as u64 <= left => Ok(Next::Nothing),
            Err(error) => Err(bad(error.to_string())),
        }
    }

    /// The record of `size` bytes that `next` gave is taken. Returns it, as it lies in memory.
    pub fn consume(&mut self, size: usize) -> BytesMut {
        self.at += size as u64;
        self.held.split_to(size)
    }

    /// The blank record that `next` gave is taken: the log goes on in the next segment.
    pub fn consume_blank(&mut self) {
        let rest = self.segment_size - self.at % self.segment_size;
        let here = rest.min(self.held.len() as u64);
        self.held.advance(here as usize);
        self.skip = rest - here;
        self.at += rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::message_unit::{Record, encode, encode_blank};
    use proptest::prelude::*;

    const SEGMENT: u64 = 1024;

    /// Segments of records with these body sizes, filled up with garbage behind blanks.
    fn log(bodies: &[u8]) -> (Vec<u8>, Vec<u64>) {
        let (mut out, mut places) = (BytesMut::new(), Vec::new());
        for body in bodies {
            let body = vec![7; usize::from(*body)];
            let size = message_unit::FIXED_SIZE + 1 + body.len();
            let rest = SEGMENT - out.len() as u64 % SEGMENT;
            if (size + 8) as u64 > rest {
                encode_blank(rest as u32, &mut out);
                let end = out.len().next_multiple_of(SEGMENT as usize);
                out.resize(end, 0xAB);
            }
            places.push(out.len() as u64);
            let physical_offset = PhysicalOffset(out.len() as u64);
            let record = Record { physical_offset, body: &body, ..Record::plain() };
            encode(&record, &mut out);
        }
        (out.to_vec(), places)
    }

    proptest! {
        #[test]
        fn records_come_out_whole_however_the_bytes_are_cut(
            bodies in prop::collection::vec(0..=250u8, 1..40),
            cuts in prop::collection::vec(1..700usize, 1..40),
        ) {
            let (bytes, places) = log(&bodies);
            let mut intake = Intake::new(SEGMENT, PhysicalOffset(0));
            let (mut found, mut fed, mut cuts) = (Vec::new(), 0, cuts.into_iter().cycle());
            while fed < bytes.len() {
                let n = cuts.next().unwrap_or(1).min(bytes.len() - fed);
                intake.feed(&bytes[fed..fed + n]);
                fed += n;
                loop {
                    match intake.next().expect("the log is good") {
                        Next::Record(view) => {
                            found.push(view.physical_offset().0);
                            let size = view.size();
                            intake.consume(size);
                        }
                        Next::Blank => intake.consume_blank(),
                        Next::Nothing => break,
                    }
                }
                prop_assert_eq!(intake.received().0, fed as u64);
            }
            prop_assert_eq!(found, places);
        }
    }

    #[test]
    fn memory_is_asked_for_by_chunks_whoever_holds_records() {
        let (bytes, places) = log(&[250; 3]);
        for holds in [true, false] {
            let (mut intake, mut kept) = (Intake::new(1 << 40, PhysicalOffset(0)), Vec::new());
            intake.feed(&bytes[..10]); // there is always a part of the next
            for _ in 0..10_000 {
                intake.feed(&bytes[..places[1] as usize]);
                let record = intake.consume(places[1] as usize);
                kept.extend(holds.then_some(record));
            }
            assert!(intake.held.capacity() <= CHUNK_SIZE);
        }
    }

    #[test]
    fn a_master_with_other_files_is_refused() {
        let (bytes, _) = log(&[200; 8]);
        let mut intake = Intake::new(500, PhysicalOffset(0));
        intake.feed(&bytes);
        let size = match intake.next() {
            Ok(Next::Record(view)) => view.size(),
            _ => panic!("the first record fits"),
        };
        intake.consume(size);
        let refused = match intake.next() {
            Err(error) => error.to_string(),
            Ok(_) => panic!("the second crosses the end of the file"),
        };
        assert!(refused.contains("mappedFileSizeCommitLog"), "{refused}");
    }

    #[test]
    fn a_record_that_leaves_no_room_for_a_blank_one_is_refused() {
        let (bytes, places) = log(&[200; 3]);
        for (left, is_good) in [(8, true), (7, false), (0, false)] {
            let mut intake = Intake::new(places[2] + left, PhysicalOffset(0));
            intake.feed(&bytes);
            intake.consume(places[1] as usize);
            assert_eq!(intake.next().is_ok(), is_good, "{left} bytes left");
        }
    }

    #[test]
    fn a_damaged_record_is_refused_with_its_place() {
        let (mut bytes, places) = log(&[10, 10]);
        bytes[places[1] as usize + 95] ^= 1;
        let mut intake = Intake::new(SEGMENT, PhysicalOffset(0));
        intake.feed(&bytes);
        intake.consume(places[1] as usize);
        let at = PhysicalOffset(places[1]);
        assert!(matches!(intake.next(), Err(IntakeError::Bad { at: bad, .. }) if bad == at));
    }
}
