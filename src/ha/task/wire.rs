//! Reading and writing one connection side by side.

use crate::net::Stream;
use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::task::Poll;

/// Slices offered to one write.
const SLICES_MAX: usize = 32;

/// What waits to be written.
#[derive(Default)]
pub struct Unsent {
    parts: VecDeque<Bytes>,
    /// Units: bytes.
    size: usize,
}

impl Unsent {
    pub fn push(&mut self, part: Bytes) {
        self.size += part.len();
        self.parts.push_back(part);
    }
    pub fn size(&self) -> usize {
        self.size
    }
    fn advance(&mut self, mut written: usize) {
        self.size -= written;
        while let Some(part) = self.parts.front_mut() {
            if written < part.len() {
                part.advance(written);
                return;
            }
            written -= part.len();
            self.parts.pop_front();
        }
    }
}

/// Done when something was read or written. `read_max` of 0 reads nothing. Returns how much was
/// read. Units: bytes. Errors: also the end of what the other side sends.
pub async fn progress(
    stream: &mut dyn Stream,
    received: &mut BytesMut,
    read_max: usize,
    unsent: &mut Unsent,
) -> io::Result<usize> {
    poll_fn(|cx| {
        let mut wrote = 0;
        if unsent.size > 0 {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let mut count = 0;
            for (slice, part) in slices.iter_mut().zip(&unsent.parts) {
                *slice = IoSlice::new(part);
                count += 1;
            }
            match stream.poll_write(cx, &slices[..count]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => wrote = n,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
        }
        unsent.advance(wrote);
        if read_max > 0 {
            match stream.poll_read(cx, received, read_max) {
                Poll::Ready(Ok(0)) => {
                    let why = "the other side closed the connection";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, why)));
                }
                Poll::Ready(Ok(n)) => return Poll::Ready(Ok(n)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
        }
        if wrote > 0 { Poll::Ready(Ok(0)) } else { Poll::Pending }
    })
    .await
}
