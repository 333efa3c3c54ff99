//! Bytes that wait to leave on one connection: small replies copied together, large bodies kept as
//! they are, in the order they were pushed.

use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::io::{self, IoSlice};

/// Bodies up to this size are copied behind the other small bytes: one more slice in a vectored
/// write costs about as much. Units: bytes.
const COPY_SIZE_MAX: usize = 2048;

/// A buffer larger than this is given back when it runs empty. Units: bytes.
const KEEP_SIZE_MAX: usize = 256 * 1024;

/// See the module page. Pure: it never writes anything itself.
#[derive(Debug, Default)]
pub struct Outbox {
    pieces: VecDeque<Bytes>,
    pieces_size: usize,
    /// So many of the first pieces are ours alone.
    own_count: usize,
    tail: BytesMut,
}

impl Outbox {
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.tail.is_empty()
    }

    /// Units: bytes.
    pub fn size(&self) -> usize {
        self.pieces_size + self.tail.len()
    }

    /// Where small things are appended. Only append: what is there already was promised.
    pub fn small(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Appends a body without copying it, unless it is small.
    pub fn push(&mut self, body: Bytes) {
        if body.len() <= COPY_SIZE_MAX {
            self.tail.extend_from_slice(&body);
            return;
        }
        if !self.tail.is_empty() {
            let head = self.tail.split().freeze();
            self.pieces_size += head.len();
            self.pieces.push_back(head);
        }
        self.pieces_size += body.len();
        self.pieces.push_back(body);
    }

    /// Fills `out` with the first slices to write, in order, and returns how many there are.
    pub fn slices<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        let tail = (!self.tail.is_empty()).then_some(&self.tail[..]);
        let all = self.pieces.iter().map(|piece| &piece[..]).chain(tail);
        let mut count = 0;
        for (slot, piece) in out.iter_mut().zip(all) {
            *slot = IoSlice::new(piece);
            count += 1;
        }
        count
    }

    /// Forgets the first `n` bytes: they were written.
    pub fn consume(&mut self, mut n: usize) {
        assert!(n <= self.size(), "{n} bytes were written of {} that waited", self.size());
        while let Some(first) = self.pieces.front_mut() {
            if n < first.len() {
                first.advance(n);
                self.pieces_size -= n;
                return;
            }
            n -= first.len();
            self.pieces_size -= first.len();
            self.pieces.pop_front();
            self.own_count = self.own_count.saturating_sub(1);
        }
        if n < self.tail.len() {
            self.tail.advance(n);
        } else if self.tail.capacity() > KEEP_SIZE_MAX {
            self.tail = BytesMut::new();
        } else {
            self.tail.clear();
        }
    }

    /// Replaces every body that is shared with others by what `copy` makes of it.
    /// Errors: those of `copy`.
    pub fn own(&mut self, copy: impl Fn(&Bytes) -> io::Result<Bytes>) -> io::Result<()> {
        for piece in self.pieces.iter_mut().skip(self.own_count) {
            *piece = copy(piece)?;
        }
        self.own_count = self.pieces.len();
        Ok(())
    }

    /// Gives the memory of an empty outbox back.
    pub fn release(&mut self) {
        if self.is_empty() {
            *self = Outbox::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Writes everything in steps, each taking at most the next of `steps` bytes.
    fn drain(outbox: &mut Outbox, steps: &[usize]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut steps = steps.iter().cycle();
        while !outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); 3];
            let count = outbox.slices(&mut slices);
            let mut left = *steps.next().unwrap();
            let mut taken = 0;
            for slice in &slices[..count] {
                let n = left.min(slice.len());
                out.extend_from_slice(&slice[..n]);
                left -= n;
                taken += n;
            }
            outbox.consume(taken);
        }
        out
    }

    proptest! {
        #[test]
        fn bytes_leave_in_the_order_they_were_pushed(
            pushes in proptest::collection::vec((any::<bool>(), 0usize..5000), 0..20),
            steps in proptest::collection::vec(1usize..4000, 1..5),
        ) {
            let mut outbox = Outbox::default();
            let mut expected = Vec::new();
            for (at, (small, size)) in pushes.iter().enumerate() {
                let bytes = vec![at as u8; *size];
                expected.extend_from_slice(&bytes);
                if *small {
                    outbox.small().extend_from_slice(&bytes);
                } else {
                    outbox.push(Bytes::from(bytes));
                }
                prop_assert_eq!(outbox.size(), expected.len());
            }
            prop_assert_eq!(drain(&mut outbox, &steps), expected);
            prop_assert_eq!(outbox.size(), 0);
        }
    }

    #[test]
    fn a_large_body_is_not_copied() {
        let body = Bytes::from(vec![7; COPY_SIZE_MAX + 1]);
        let mut outbox = Outbox::default();
        outbox.small().extend_from_slice(b"head");
        outbox.push(body.clone());
        outbox.small().extend_from_slice(b"next");
        let mut slices = [IoSlice::new(&[]); 8];
        assert_eq!(outbox.slices(&mut slices), 3);
        assert_eq!(slices[1].as_ptr(), body.as_ptr());
    }

    #[test]
    fn a_body_that_is_shared_is_copied_once_and_stays_in_its_place() {
        let body = Bytes::from(vec![7; COPY_SIZE_MAX + 1]);
        let mut outbox = Outbox::default();
        outbox.small().extend_from_slice(b"head");
        outbox.push(body.clone());
        outbox.own(|bytes| Ok(Bytes::copy_from_slice(bytes))).unwrap();
        outbox.own(|_| Err(io::Error::other("it was copied already"))).unwrap();
        outbox.push(body.clone());
        assert!(outbox.own(|_| Err(io::Error::other("this one was not"))).is_err());
        let all = drain(&mut outbox, &[5000]);
        assert_eq!(all, [&b"head"[..], &body[..], &body[..]].concat());
    }
}
