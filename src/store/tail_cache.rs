//! The newest written records, kept for readers as shared bytes.
//!
//! Bytes that wait for no reader are not kept for long: appends then use the same memory again,
//! which is still in the processor's cache.

use super::commit_log::Piece;
use bytes::Bytes;
use std::collections::VecDeque;

pub struct TailCache {
    pieces: VecDeque<Piece>,
    /// Units: bytes.
    size: usize,
    size_max: usize,
    idle_size_max: usize,
    end: u64,
    /// Where the log ended when somebody last read messages.
    read_end: u64,
}

impl TailCache {
    /// `idle_size_max` counts when nobody reads. Units: bytes.
    pub fn new(size_max: usize, idle_size_max: usize, end: u64) -> Self {
        let idle_size_max = idle_size_max.min(size_max);
        TailCache { pieces: VecDeque::new(), size: 0, size_max, idle_size_max, end, read_end: end }
    }

    /// Somebody reads messages: what follows is kept at full size, until as much went by unread.
    pub fn on_read(&mut self) {
        self.read_end = self.end;
    }

    /// What is not visible yet is still to be read, by slaves and for the index, and does not count
    /// as idle.
    fn limit(&self, visible: u64) -> usize {
        let is_read = self.end - self.read_end <= self.size_max as u64;
        let hidden = usize::try_from(self.end.saturating_sub(visible)).unwrap_or(usize::MAX);
        let idle = self.idle_size_max.saturating_add(hidden);
        if is_read { self.size_max } else { idle.min(self.size_max) }
    }

    /// The log, which is empty, begins at `at` instead.
    pub fn begin_at(&mut self, at: u64) {
        assert!(self.pieces.is_empty(), "the log is not empty");
        (self.end, self.read_end) = (at, at);
    }

    /// The log went on with this piece, and is visible up to `visible`.
    pub fn push(&mut self, piece: Piece, visible: u64) {
        assert_eq!(piece.at, self.end, "a piece does not follow the one before it");
        self.end = piece.end;
        self.size += piece.bytes.len();
        self.pieces.push_back(piece);
        let limit = self.limit(visible);
        while self.size > limit
            && let Some(oldest) = self.pieces.pop_front()
        {
            self.size -= oldest.bytes.len();
        }
    }

    /// Everything from here on is held.
    pub fn base(&self) -> u64 {
        self.pieces.front().map_or(self.end, |piece| piece.at)
    }

    /// The bytes of a piece from `at` on; records are whole in it.
    pub fn from(&self, at: u64) -> Option<Bytes> {
        let after = self.pieces.partition_point(|piece| piece.at <= at);
        let piece = self.pieces.get(after.checked_sub(1)?)?;
        let start = usize::try_from(at - piece.at).ok()?;
        (start < piece.bytes.len()).then(|| piece.bytes.slice(start..))
    }

    /// The bytes at `at`, which lie within one piece: records do. `hint` is a piece near to it, and
    /// becomes the one that was found.
    pub fn find(&self, at: u64, size: usize, hint: &mut usize) -> Option<Bytes> {
        let holds = |piece: &Piece| piece.at <= at && at < piece.end;
        if !self.pieces.get(*hint).is_some_and(holds) {
            *hint += 1;
            if !self.pieces.get(*hint).is_some_and(holds) {
                *hint = self.pieces.partition_point(|piece| piece.at <= at).checked_sub(1)?;
            }
        }
        let piece = self.pieces.get(*hint)?;
        let start = usize::try_from(at - piece.at).ok()?;
        let end = start.checked_add(size)?;
        (end <= piece.bytes.len()).then(|| piece.bytes.slice(start..end))
    }
}

/// Joins records that lie side by side in one piece, so that a reply has few parts.
#[derive(Default)]
pub struct Joined {
    parts: Vec<Bytes>,
    size: usize,
    count: usize,
    /// The last part: its piece, start and end in the log.
    last: Option<(u64, u64)>,
    /// The piece of the last record.
    piece: usize,
}

impl Joined {
    /// Adds a record that `cache` holds. False when it does not.
    pub fn add(&mut self, cache: &TailCache, at: u64, size: usize) -> bool {
        let end = at + size as u64;
        if let Some((start, last_end)) = self.last
            && last_end == at
            && let Some(longer) = cache.find(start, (end - start) as usize, &mut self.piece)
            && let Some(part) = self.parts.last_mut()
        {
            *part = longer;
            self.last = Some((start, end));
        } else if let Some(bytes) = cache.find(at, size, &mut self.piece) {
            self.parts.push(bytes);
            self.last = Some((at, end));
        } else {
            return false;
        }
        self.size += size;
        self.count += 1;
        true
    }

    /// Parts, bytes, records.
    pub fn finish(self) -> (Vec<Bytes>, usize, usize) {
        (self.parts, self.size, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(at: u64, text: &'static [u8]) -> Piece {
        let end = at + text.len() as u64;
        Piece { at, bytes: Bytes::from_static(text), end, last_record: None }
    }

    #[test]
    fn the_newest_bytes_are_found_and_old_ones_are_not() {
        let mut cache = TailCache::new(8, 8, 10);
        assert_eq!(cache.base(), 10);
        cache.push(piece(10, b"abcd"), 100);
        cache.push(piece(14, b"efgh"), 100);
        assert_eq!(cache.find(11, 2, &mut 0).as_deref(), Some(&b"bc"[..]));
        assert_eq!(cache.find(13, 2, &mut 0), None); // over the border of two pieces
        assert_eq!(cache.find(9, 1, &mut 0), None);
        assert_eq!(cache.find(18, 1, &mut 0), None);
        cache.push(piece(18, b"i"), 100);
        assert_eq!(cache.base(), 14);
        assert_eq!(cache.find(11, 2, &mut 0), None);
        assert_eq!(cache.find(18, 1, &mut 0).as_deref(), Some(&b"i"[..]));
    }

    #[test]
    fn what_nobody_reads_is_kept_for_a_short_while_only() {
        let mut cache = TailCache::new(8, 2, 0);
        for at in 0..8 {
            cache.push(piece(at, b"a"), 100);
        }
        assert_eq!(cache.base(), 0);
        cache.push(piece(8, b"b"), 100); // the ninth byte since the start, and no reader yet
        assert_eq!(cache.base(), 7);
        cache.on_read();
        for at in 9..17 {
            cache.push(piece(at, b"c"), 100);
        }
        assert_eq!(cache.base(), 9);
        cache.on_read();
        cache.push(piece(17, b"d"), 100);
        assert_eq!(cache.base(), 10);
    }

    #[test]
    fn what_is_not_visible_is_kept_whoever_reads() {
        let mut cache = TailCache::new(8, 2, 0);
        for at in 0..16 {
            cache.push(piece(at, b"a"), at.min(12));
        }
        assert_eq!(cache.base(), 10); // four that are not visible, and two
        for at in 16..32 {
            cache.push(piece(at, b"a"), 12);
        }
        assert_eq!(cache.base(), 24); // never more than at full size
        cache.push(piece(32, b"a"), 33);
        assert_eq!(cache.base(), 31);
    }

    #[test]
    fn neighbours_in_one_piece_are_joined() {
        let mut cache = TailCache::new(100, 100, 0);
        cache.push(piece(0, b"aabb"), 100);
        cache.push(piece(4, b"cc"), 100);
        let mut joined = Joined::default();
        assert!(joined.add(&cache, 0, 2));
        assert!(joined.add(&cache, 2, 2));
        assert!(joined.add(&cache, 4, 2));
        assert!(!joined.add(&cache, 6, 2));
        let (parts, size, count) = joined.finish();
        assert_eq!(parts, [&b"aabb"[..], &b"cc"[..]]);
        assert_eq!((size, count), (6, 3));
    }
}
