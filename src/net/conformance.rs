//! One suite for every `Net`: what the rooms above may rely on. It needs two ends, which may be on
//! one machine or on two.

use super::{Listener, Net, Stream, accept, read, write_all};
use crate::rt::time::{Clock, Duration};
use bytes::BytesMut;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

/// What went against the contract, in words.
pub type Outcome = Result<(), String>;

/// The two machines of a run.
pub struct Ends {
    /// Dials.
    pub near: Arc<dyn Net>,
    /// Listens.
    pub far: Arc<dyn Net>,
    /// Where `far` may listen; port 0 lets it choose.
    pub addr: SocketAddr,
    pub clock: Clock,
}

/// How long any one step may take before it counts as stuck.
const STEP: Duration = Duration::from_secs(20);

/// How long is waited to see that nothing happens.
const PATIENCE: Duration = Duration::from_millis(300);

/// More than any window between two ends holds. Units: bytes.
const WINDOW_SIZE_MAX: usize = 64 * 1024 * 1024;

/// Runs every situation, each on a connection of its own.
pub async fn run(ends: &Ends) -> Outcome {
    bad_addresses_are_refused(ends).await?;
    a_port_has_one_listener(ends).await?;
    both_ends_know_each_other(ends).await?;
    half_close_leaves_the_other_direction_open(ends).await?;
    a_drop_after_reading_all_is_an_end(ends).await?;
    a_drop_with_unread_bytes_is_a_reset(ends).await?;
    readiness_takes_nothing(ends).await?;
    a_full_window_stops_the_writer(ends).await?;
    one_byte_at_a_time_is_the_same_stream(ends).await?;
    writes_have_no_boundaries(ends).await?;
    much_passes_both_ways_at_once(ends).await
}

async fn bad_addresses_are_refused(ends: &Ends) -> Outcome {
    let listener = did(ends.far.listen(ends.addr).await, "listen")?;
    let free = listener.local_addr().to_string();
    drop(listener);
    let refused = ends.near.dial(&free, STEP).await;
    fails(refused, ErrorKind::ConnectionRefused, "dial a port where nobody listens")?;
    fails(ends.near.dial("no-port", STEP).await, ErrorKind::InvalidInput, "dial a bare name")
}

async fn a_port_has_one_listener(ends: &Ends) -> Outcome {
    let first = did(ends.far.listen(ends.addr).await, "listen")?;
    let second = ends.far.listen(first.local_addr()).await;
    fails(second, ErrorKind::AddrInUse, "listen twice on one port")?;
    let addr = first.local_addr();
    drop(first);
    did(ends.far.listen(addr).await, "listen on a port that was given back")?;
    Ok(())
}

async fn both_ends_know_each_other(ends: &Ends) -> Outcome {
    let (near, far) = pair(ends).await?;
    same(near.peer_addr(), far.local_addr(), "the far address")?;
    same(far.peer_addr(), near.local_addr(), "the near address")
}

async fn half_close_leaves_the_other_direction_open(ends: &Ends) -> Outcome {
    let (mut near, mut far) = pair(ends).await?;
    did(write_all(&mut *near, b"question").await, "write")?;
    did(shutdown(&mut *near).await, "half-close")?;
    same(&read_to_end(ends, &mut *far).await?[..], b"question", "bytes before the half-close")?;
    did(write_all(&mut *far, b"answer").await, "write after the peer's half-close")?;
    did(shutdown(&mut *far).await, "half-close the second direction")?;
    same(&read_to_end(ends, &mut *near).await?[..], b"answer", "bytes after the half-close")
}

async fn a_drop_after_reading_all_is_an_end(ends: &Ends) -> Outcome {
    let (mut near, mut far) = pair(ends).await?;
    did(write_all(&mut *near, b"last words").await, "write")?;
    drop(near);
    same(&read_to_end(ends, &mut *far).await?[..], b"last words", "bytes before the drop")
}

async fn a_drop_with_unread_bytes_is_a_reset(ends: &Ends) -> Outcome {
    let (mut near, mut far) = pair(ends).await?;
    did(write_all(&mut *far, b"never read").await, "write")?;
    did(in_time(ends, readable(&mut *near)).await?, "wait for the bytes")?;
    drop(near);
    let mut buf = BytesMut::new();
    let seen = in_time(ends, read(&mut *far, &mut buf, 100)).await?;
    fails(seen, ErrorKind::ConnectionReset, "read after a drop with unread bytes")
}

async fn readiness_takes_nothing(ends: &Ends) -> Outcome {
    let (mut near, mut far) = pair(ends).await?;
    // A false yes is allowed once: a read then finds nothing, and the next question waits.
    let mut buf = BytesMut::new();
    let early = std::future::poll_fn(|cx| Poll::Ready(far.poll_read(cx, &mut buf, 100))).await;
    holds(early.is_pending(), "a read of a silent connection waits")?;
    let early = ends.clock.before(ends.clock.mono() + PATIENCE, readable(&mut *far)).await;
    holds(early.is_none(), "a silent connection is not readable")?;
    did(write_all(&mut *near, b"abc").await, "write")?;
    did(in_time(ends, readable(&mut *far)).await?, "wait for bytes")?;
    did(in_time(ends, readable(&mut *far)).await?, "wait for bytes again")?;
    same(&read_exact(ends, &mut *far, 3, 100).await?[..], b"abc", "bytes after waiting")?;
    did(shutdown(&mut *near).await, "half-close")?;
    did(in_time(ends, readable(&mut *far)).await?, "wait for the end")?;
    same(read_to_end(ends, &mut *far).await?.len(), 0, "bytes at the end")
}

async fn a_full_window_stops_the_writer(ends: &Ends) -> Outcome {
    let (mut near, mut far) = pair(ends).await?;
    let chunk = pattern(0, 64 * 1024);
    let mut sent = 0;
    loop {
        let from = sent % chunk.len();
        let write = write_some(&mut *near, &chunk[from..]);
        match ends.clock.before(ends.clock.mono() + PATIENCE, write).await {
            Some(n) => sent += did(n, "write into the window")?,
            None => break,
        }
        holds(sent < WINDOW_SIZE_MAX, "a reader that does not read stops the writer")?;
    }
    holds(sent > 0, "a window takes something")?;
    let got = read_exact(ends, &mut *far, sent, 100_000).await?;
    let whole = got.chunks(chunk.len()).all(|part| part == &chunk[..part.len()]);
    holds(whole, "the bytes of the window arrive unchanged")?;
    did(in_time(ends, write_all(&mut *near, b"go on")).await?, "write when there is room again")?;
    same(&read_exact(ends, &mut *far, 5, 100).await?[..], b"go on", "bytes after the full window")
}

async fn one_byte_at_a_time_is_the_same_stream(ends: &Ends) -> Outcome {
    let (mut near, mut far) = pair(ends).await?;
    let sent = pattern(7, 500);
    did(write_all(&mut *near, &sent).await, "write")?;
    same(read_exact(ends, &mut *far, 500, 1).await?, sent, "bytes read one by one")
}

async fn writes_have_no_boundaries(ends: &Ends) -> Outcome {
    let (mut near, mut far) = pair(ends).await?;
    let sent = pattern(3, 3_000);
    let mut rest = &sent[..];
    let mut size = 1;
    while !rest.is_empty() {
        let (part, more) = rest.split_at(size.min(rest.len()));
        let (a, b) = part.split_at(part.len() / 3);
        let mut left = vec![a, &[], b];
        while left.iter().any(|slice| !slice.is_empty()) {
            let n = did(write_slices(&mut *near, &left).await, "write slices")?;
            holds(n > 0, "a write of something takes something")?;
            advance(&mut left, n);
        }
        rest = more;
        size = size * 2 % 701 + 1;
    }
    did(shutdown(&mut *near).await, "half-close")?;
    same(read_to_end(ends, &mut *far).await?, sent, "bytes written in uneven parts")
}

async fn much_passes_both_ways_at_once(ends: &Ends) -> Outcome {
    const SIZE: usize = 1_500_000;
    let (near, far) = pair(ends).await?;
    let (a, b) = both(swap(near, 1, 2, SIZE), swap(far, 2, 1, SIZE)).await;
    a?;
    b
}

/// Writes a pattern and reads the other one, as room allows.
async fn swap(mut stream: Box<dyn Stream>, ours: u8, theirs: u8, size: usize) -> Outcome {
    let (sent, want) = (pattern(ours, size), pattern(theirs, size));
    let mut written = 0;
    let mut got = BytesMut::new();
    let moved = std::future::poll_fn(|cx| {
        loop {
            let mut is_stuck = true;
            if written < size {
                let slices = [IoSlice::new(&sent[written..])];
                if let Poll::Ready(n) = stream.poll_write(cx, &slices)? {
                    written += n;
                    is_stuck = false;
                }
            }
            if got.len() < size
                && let Poll::Ready(n) = stream.poll_read(cx, &mut got, 50_000)?
            {
                if n == 0 {
                    return Poll::Ready(Err(ErrorKind::UnexpectedEof.into()));
                }
                is_stuck = false;
            }
            if written == size && got.len() >= size {
                return Poll::Ready(Ok(()));
            }
            if is_stuck {
                return Poll::Pending;
            }
        }
    });
    let moved: io::Result<()> = moved.await;
    did(moved, "read and write at once")?;
    holds(got == want, "much arrives unchanged")
}

async fn pair(ends: &Ends) -> Result<(Box<dyn Stream>, Box<dyn Stream>), String> {
    let mut listener = did(ends.far.listen(ends.addr).await, "listen")?;
    let addr = listener.local_addr().to_string();
    let dialed = ends.near.dial(&addr, STEP);
    let (near, far) = both(dialed, accept(&mut *listener as &mut dyn Listener)).await;
    Ok((did(near, "dial")?, did(far, "accept")?))
}

async fn readable(stream: &mut dyn Stream) -> io::Result<()> {
    std::future::poll_fn(|cx| stream.poll_readable(cx)).await
}

async fn shutdown(stream: &mut dyn Stream) -> io::Result<()> {
    std::future::poll_fn(|cx| stream.poll_shutdown(cx)).await
}

async fn write_some(stream: &mut dyn Stream, data: &[u8]) -> io::Result<usize> {
    write_slices(stream, &[data]).await
}

async fn write_slices(stream: &mut dyn Stream, slices: &[&[u8]]) -> io::Result<usize> {
    let slices: Vec<IoSlice<'_>> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
    std::future::poll_fn(|cx| stream.poll_write(cx, &slices)).await
}

fn advance(slices: &mut [&[u8]], mut n: usize) {
    for slice in slices {
        let here = n.min(slice.len());
        *slice = &slice[here..];
        n -= here;
    }
}

async fn read_exact(
    ends: &Ends,
    stream: &mut dyn Stream,
    size: usize,
    step: usize,
) -> Result<Vec<u8>, String> {
    let mut buf = BytesMut::new();
    while buf.len() < size {
        let before = buf.len();
        let max = step.min(size - before);
        let n = did(in_time(ends, read(stream, &mut buf, max)).await?, "read")?;
        holds(n > 0, "the stream goes on")?;
        holds(n <= max && buf.len() == before + n, "a read tells how much it appended")?;
    }
    Ok(buf.to_vec())
}

async fn read_to_end(ends: &Ends, stream: &mut dyn Stream) -> Result<Vec<u8>, String> {
    let mut buf = BytesMut::new();
    while did(in_time(ends, read(stream, &mut buf, 1_000)).await?, "read to the end")? > 0 {}
    Ok(buf.to_vec())
}

async fn in_time<T>(ends: &Ends, work: impl Future<Output = T>) -> Result<T, String> {
    let done = ends.clock.before(ends.clock.mono() + STEP, work).await;
    done.ok_or_else(|| format!("a step was stuck for {} s", STEP.as_secs()))
}

/// Runs two futures side by side.
async fn both<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut first, mut second) = (None, None);
    std::future::poll_fn(|cx| {
        if first.is_none()
            && let Poll::Ready(value) = a.as_mut().poll(cx)
        {
            first = Some(value);
        }
        if second.is_none()
            && let Poll::Ready(value) = b.as_mut().poll(cx)
        {
            second = Some(value);
        }
        match (first.take(), second.take()) {
            (Some(first), Some(second)) => Poll::Ready((first, second)),
            (one, other) => {
                (first, second) = (one, other);
                Poll::Pending
            }
        }
    })
    .await
}

fn pattern(salt: u8, size: usize) -> Vec<u8> {
    (0..size).map(|at| (at % 251) as u8 ^ salt).collect()
}

fn did<T>(result: io::Result<T>, what: &str) -> Result<T, String> {
    result.map_err(|e| format!("{what}: {e} ({:?})", e.kind()))
}

fn fails<T>(result: io::Result<T>, kind: ErrorKind, what: &str) -> Outcome {
    match result {
        Ok(_) => Err(format!("{what}: it worked, {kind:?} was expected")),
        Err(e) if e.kind() == kind => Ok(()),
        Err(e) => Err(format!("{what}: {e} ({:?}), {kind:?} was expected", e.kind())),
    }
}

fn same<T: PartialEq<U> + std::fmt::Debug, U: std::fmt::Debug>(
    got: T,
    want: U,
    what: &str,
) -> Outcome {
    if got == want { Ok(()) } else { Err(format!("{what}: {got:?}, {want:?} was expected")) }
}

fn holds(it: bool, what: &str) -> Outcome {
    if it { Ok(()) } else { Err(format!("it does not hold that {what}")) }
}
