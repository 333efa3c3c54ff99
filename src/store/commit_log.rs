//! The end of the log: assigns places and keeps encoded records until they are written.
//!
//! Source: CommitLog.DefaultAppendMessageCallback#doAppend (4.9.3). A record never straddles
//! segments: when it and a blank record do not fit, a blank record ends the segment.

use crate::format::message_unit::{self, BLANK_SIZE};
use crate::model::WallMillis;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// Encoded records in a row, within one segment. `bytes` is shared with the tail cache.
#[derive(Clone, Debug)]
pub struct Piece {
    pub at: u64,
    pub bytes: Bytes,
    /// Where the log goes on: after the bytes, or in the next segment after a blank record.
    pub end: u64,
    /// Its last record; `None` when it holds only a blank record.
    pub last_record: Option<LastRecord>,
}

/// The newest record below a watermark, so that floor and checkpoint can name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastRecord {
    pub at: u64,
    pub store_timestamp: WallMillis,
}

pub struct CommitLog {
    segment_size: u64,
    block_size: usize,
    end: u64,
    /// Pieces that were cut, oldest first.
    pieces: VecDeque<Piece>,
    /// The piece under construction; its spare capacity is used by the next one.
    block: BytesMut,
    block_at: u64,
    last_record: Option<LastRecord>,
    /// Units: bytes in `pieces`, in `block` and with the writer.
    pending: usize,
}

impl CommitLog {
    pub fn new(segment_size: u64, block_size: usize, end: u64) -> Self {
        CommitLog {
            segment_size,
            block_size,
            end,
            pieces: VecDeque::new(),
            block: BytesMut::new(),
            block_at: end,
            last_record: None,
            pending: 0,
        }
    }

    pub fn end(&self) -> u64 {
        self.end
    }
    /// Units: bytes that were appended and not yet written.
    pub fn pending(&self) -> usize {
        self.pending
    }
    /// Units: bytes; the largest record that a segment can hold.
    pub fn record_size_max(&self) -> usize {
        usize::try_from(self.segment_size).unwrap_or(usize::MAX).saturating_sub(BLANK_SIZE)
    }

    /// Where a record (or a whole batch) of `size` bytes will lie.
    pub fn place(&self, size: usize) -> u64 {
        if self.fits(size) { self.end } else { self.end + self.rest() }
    }

    fn rest(&self) -> u64 {
        self.segment_size - self.end % self.segment_size
    }
    fn fits(&self, size: usize) -> bool {
        (size + BLANK_SIZE) as u64 <= self.rest()
    }

    /// Goes to the place that `place` named: ends the segment when `size` bytes do not fit.
    pub fn roll_for(&mut self, size: usize) {
        assert!(size <= self.record_size_max(), "{size} bytes do not fit into any segment");
        if !self.fits(size) {
            self.end_segment();
        }
    }

    /// Ends the segment with a blank record: the log goes on in the next one.
    pub fn end_segment(&mut self) {
        let rest = self.rest();
        assert!(rest >= BLANK_SIZE as u64, "a blank record does not fit into {rest} bytes");
        self.make_room(BLANK_SIZE);
        let remaining = u32::try_from(rest).expect("Options::check bounds the segment size");
        message_unit::encode_blank(remaining, &mut self.block);
        self.pending += BLANK_SIZE;
        self.end += rest;
        self.cut();
    }

    /// Appends what `encode` writes, exactly `size` bytes, at the log's end.
    pub fn push(&mut self, size: usize, stored: WallMillis, encode: impl FnOnce(&mut BytesMut)) {
        self.make_room(size);
        let before = self.block.len();
        encode(&mut self.block);
        assert_eq!(self.block.len() - before, size, "a record has another size than it said");
        self.last_record = Some(LastRecord { at: self.end, store_timestamp: stored });
        self.end += size as u64;
        self.pending += size;
    }

    /// Appends a record as it lies in memory: nothing is copied, and records that lie in a row
    /// there are one piece.
    pub fn push_whole(&mut self, record: BytesMut, stored: WallMillis) {
        if self.block.as_ptr_range().end != record.as_ptr() {
            self.cut();
        }
        self.last_record = Some(LastRecord { at: self.end, store_timestamp: stored });
        self.end += record.len() as u64;
        self.pending += record.len();
        self.block.unsplit(record);
    }

    fn make_room(&mut self, size: usize) {
        if self.block.capacity() - self.block.len() < size {
            self.cut();
            self.block = BytesMut::with_capacity(self.block_size.max(size));
        }
    }

    /// Closes the piece under construction, so that it can be taken.
    pub fn cut(&mut self) {
        if !self.block.is_empty() {
            self.pieces.push_back(Piece {
                at: self.block_at,
                bytes: self.block.split().freeze(),
                end: self.end,
                last_record: self.last_record.take(),
            });
        }
        self.block_at = self.end;
    }

    /// The oldest piece that lies below `limit`, to be written next.
    pub fn take_below(&mut self, limit: u64) -> Option<Piece> {
        if self.pieces.front()?.at < limit { self.pieces.pop_front() } else { None }
    }

    /// Whether a piece waits for a segment that begins at `limit`.
    pub fn waits_for(&self, limit: u64) -> bool {
        let cut = self.pieces.front().map(|piece| piece.at);
        cut.or((!self.block.is_empty()).then_some(self.block_at)).is_some_and(|at| at >= limit)
    }

    pub fn has_pieces(&self) -> bool {
        !self.pieces.is_empty() || !self.block.is_empty()
    }

    pub fn on_written(&mut self, bytes: usize) {
        self.pending -= bytes;
    }

    /// An empty log begins at `at` instead.
    pub fn begin_at(&mut self, at: u64) {
        assert!(self.end == 0 && !self.has_pieces(), "only an empty log can begin elsewhere");
        (self.end, self.block_at) = (at, at);
    }

    /// Takes back everything from `at` on, which is the start of a segment and was not written.
    pub fn reject_from(&mut self, at: u64) {
        self.cut();
        while self.pieces.back().is_some_and(|piece| piece.at >= at) {
            let piece = self.pieces.pop_back().expect("the loop looked at it");
            self.pending -= piece.bytes.len();
        }
        self.end = self.end.min(at);
        self.block_at = self.end;
        self.last_record = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(log: &mut CommitLog, size: usize) -> u64 {
        let at = log.place(size);
        log.roll_for(size);
        assert_eq!(log.end(), at);
        log.push(size, WallMillis(0), |out| out.extend_from_slice(&vec![b'x'; size]));
        at
    }

    #[test]
    fn records_that_do_not_fit_begin_the_next_segment() {
        let mut log = CommitLog::new(100, 64, 0);
        assert_eq!(push(&mut log, 60), 0);
        assert_eq!(push(&mut log, 32), 60); // 8 bytes stay
        assert_eq!(push(&mut log, 1), 100);
        assert_eq!(push(&mut log, 92), 200);
        log.cut();
        let mut pieces = Vec::new();
        while let Some(piece) = log.take_below(u64::MAX) {
            assert!(piece.at / 100 == (piece.at + piece.bytes.len() as u64 - 1) / 100);
            pieces.push((piece.at, piece.bytes.len(), piece.end));
        }
        // The piece of a block is cut where a block is full; blanks end segments.
        let total: usize = pieces.iter().map(|p| p.1).sum();
        assert_eq!(total, 60 + 32 + 8 + 1 + 8 + 92);
        assert!(pieces.windows(2).all(|w| w[0].2 == w[1].0));
        assert_eq!(pieces.last().map(|p| p.2), Some(292));
    }

    #[test]
    fn records_in_a_row_in_memory_are_one_piece_and_stay_where_they_are() {
        let mut log = CommitLog::new(1000, 64, 0);
        let mut memory = BytesMut::from(&[b'x'; 300][..]);
        let begin = memory.as_ptr();
        for size in [100, 80, 20] {
            log.push_whole(memory.split_to(size), WallMillis(0));
        }
        log.push_whole(BytesMut::from(&[b'y'; 10][..]), WallMillis(1));
        log.cut();
        log.push_whole(memory, WallMillis(2)); // goes on where the first piece ended
        log.cut();
        let pieces: Vec<_> = std::iter::from_fn(|| log.take_below(u64::MAX)).collect();
        let places: Vec<_> = pieces.iter().map(|p| (p.at, p.bytes.len(), p.end)).collect();
        assert_eq!(places, [(0, 200, 200), (200, 10, 210), (210, 100, 310)]);
        assert_eq!(pieces[0].bytes.as_ptr(), begin);
        let last = |at, ms| Some(LastRecord { at, store_timestamp: WallMillis(ms) });
        assert_eq!(pieces[0].last_record, last(180, 0));
        assert_eq!(pieces[2].last_record, last(210, 2));
        assert_eq!(log.pending(), 310);
    }

    #[test]
    fn a_rejected_suffix_leaves_the_log_at_the_segments_start() {
        let mut log = CommitLog::new(100, 256, 0);
        push(&mut log, 60);
        push(&mut log, 60);
        push(&mut log, 20);
        push(&mut log, 60);
        assert_eq!(log.end(), 260);
        log.reject_from(100);
        assert_eq!(log.end(), 100);
        assert!(!log.waits_for(100));
        assert_eq!(log.pending(), 68);
        assert_eq!(log.take_below(100).map(|p| (p.at, p.end)), Some((0, 100)));
        assert!(!log.has_pieces());
        assert_eq!(push(&mut log, 10), 100);
    }
}
