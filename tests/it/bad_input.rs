//! Bytes that no client should send. The one that sent them loses its connection at most; the
//! process and everyone else go on.

use crate::remoting::is_ended;
use bytes::{BufMut, BytesMut};
use hotfire::net::tcp::TcpNet;
use hotfire::net::{Net, Stream, read, write_all};
use hotfire::protocol::Command;
use hotfire::protocol::frame::{Serialize, cut};
use hotfire::remoting::{Client, ClientOptions, ServerOptions};
use hotfire::rt::block_on;
use hotfire::rt::rng::Rng;
use hotfire::rt::task::TaskGroup;
use hotfire::rt::time::{Clock, Duration};
use std::sync::Arc;

const SECOND: Duration = Duration::from_secs(1);

/// Codes that no release knows.
const UNKNOWN_CODE: i32 = 9_999;

/// How long a half-sent frame is tolerated in these tests.
const FRAME_STALL_MAX: Duration = Duration::from_secs(4);

/// A server under attack, seen from outside, and an innocent client that must not notice.
struct Target {
    net: Arc<dyn Net>,
    clock: Clock,
    addr: String,
    innocent: Client,
    _group: TaskGroup,
}

impl Target {
    fn new(clock: Clock, addr: String) -> Target {
        let (net, group): (Arc<dyn Net>, _) = (Arc::new(TcpNet::default()), TaskGroup::new());
        let innocent = Client::new(&net, &clock, &group, ClientOptions::default(), None);
        Target { net, clock, addr, innocent, _group: group }
    }

    async fn raw(&self) -> Box<dyn Stream> {
        self.net.dial(&self.addr, SECOND * 5).await.unwrap()
    }

    /// A request that any server answers: an unknown code is refused by name.
    async fn others_are_served(&self) {
        let request = Command::request(UNKNOWN_CODE);
        let answer = self.innocent.invoke(&self.addr, request, SECOND * 10).await.unwrap();
        assert_eq!(answer.code, 3);
        assert!(answer.remark.unwrap().contains("request type 9999 not supported"));
    }

    /// Sends `bytes` on a connection of its own, which must end without a word.
    async fn ends(&self, what: &str, bytes: &[u8]) {
        let mut raw = self.raw().await;
        // The connection may end before all is written.
        let _ = write_all(&mut *raw, bytes).await;
        let deadline = self.clock.mono() + FRAME_STALL_MAX / 2;
        let ended = self.clock.before(deadline, is_ended(&mut *raw)).await;
        assert_eq!(ended, Some(true), "{what}: the connection stays open");
        self.others_are_served().await;
    }
}

fn server_options() -> ServerOptions {
    let mut options = ServerOptions::default();
    options.connection.frame_stall_max = FRAME_STALL_MAX;
    options
}

fn frame(length: u32, mark: u32, rest: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_u32(length);
    out.put_u32(mark);
    out.put_slice(rest);
    out
}

async fn attack(target: &Target) {
    target.others_are_served().await;
    frames_that_cannot_be(target).await;
    garbage(target).await;
    a_bad_frame_after_good_ones(target).await;
    many_half_open_connections(target).await;
}

async fn frames_that_cannot_be(target: &Target) {
    target.ends("a web browser", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    target.ends("a frame of 16 MiB and a byte", &frame(16 << 20, 2, b"{}")).await;
    target.ends("a negative length", &frame(0x8000_0000, 2, b"{}")).await;
    target.ends("a length of 3", &frame(3, 0, b"")).await;
    target.ends("a header longer than its frame", &frame(6, 3, b"{}")).await;
    target.ends("no header", &frame(4, 0, b"")).await;
    target.ends("an unknown type byte", &frame(6, 7 << 24 | 2, b"{}")).await;
    target.ends("a header that is no JSON", &frame(12, 8, b"nonsense")).await;
    target.ends("a binary header cut short", &frame(9, 1 << 24 | 5, b"\0\0\0\0\0")).await;
    let mut lengths = vec![0; 21];
    lengths[13..17].copy_from_slice(&i32::MAX.to_be_bytes());
    target.ends("a binary header whose remark is 2 GiB", &frame(25, 1 << 24 | 21, &lengths)).await;
}

async fn garbage(target: &Target) {
    let mut dice = Rng::from_seed(4_930);
    for _ in 0..50 {
        let size = dice.between(8, 5_000) as usize;
        let mut bytes: Vec<u8> = (0..size).map(|_| dice.next_u64() as u8).collect();
        // Half of it looks like a frame that is all there.
        if dice.chance(0.5) {
            let rest = size - 4;
            bytes[..4].copy_from_slice(&(rest as u32).to_be_bytes());
            let header = dice.below(rest as u64 * 2) as u32;
            bytes[4..8].copy_from_slice(&(header | (dice.below(3) as u32) << 24).to_be_bytes());
        } else {
            bytes[0] |= 0x80;
        }
        target.ends("garbage", &bytes).await;
    }
}

async fn a_bad_frame_after_good_ones(target: &Target) {
    let mut bytes = BytesMut::new();
    for n in 0..3 {
        let mut request = Command::request(UNKNOWN_CODE);
        request.opaque = n;
        request.encode(Serialize::Json, &mut bytes);
    }
    bytes.extend_from_slice(&frame(3, 0, b""));
    let mut raw = target.raw().await;
    write_all(&mut *raw, &bytes).await.unwrap();
    let mut got = BytesMut::new();
    while matches!(read(&mut *raw, &mut got, 1_000).await, Ok(n) if n > 0) {}
    for n in 0..3 {
        let answer = cut(&mut got, 1 << 20).unwrap().unwrap();
        assert_eq!(Command::decode(&answer).unwrap().opaque, n);
    }
    target.others_are_served().await;
}

async fn many_half_open_connections(target: &Target) {
    const COUNT: usize = 1_000;
    let begun = frame(400, 300, b"{\"code\":10,");
    let mut half_open = Vec::new();
    for n in 0..COUNT {
        let mut raw = target.raw().await;
        // Some say nothing at all, some stop within the length, some within the header.
        let size = n % begun.len();
        write_all(&mut *raw, &begun[..size]).await.unwrap();
        half_open.push((size, raw));
        if n % 100 == 0 {
            target.others_are_served().await;
        }
    }
    target.others_are_served().await;
    // Those that began a frame are dropped in time; those that said nothing may stay.
    let deadline = target.clock.mono() + FRAME_STALL_MAX * 4;
    for (size, raw) in half_open.iter_mut().filter(|(size, _)| *size > 0) {
        let ended = target.clock.before(deadline, is_ended(&mut **raw)).await;
        assert_eq!(ended, Some(true), "{size} bytes of a frame are held for ever");
    }
    target.others_are_served().await;
}

#[test]
fn a_broker_survives_bad_input() {
    block_on(async {
        let world = crate::broker::World::new();
        let mut parts = world.parts();
        parts.server = server_options();
        let broker = world.start(parts).await;
        let target = Target::new(Clock::new(), broker.local_addr().to_string());
        attack(&target).await;
        broker.shutdown().await;
    });
}

#[test]
fn an_echo_server_survives_bad_input() {
    block_on(async {
        let world = crate::remoting::World::new(server_options()).await;
        attack(&Target::new(world.clock.clone(), world.addr.clone())).await;
    });
}
