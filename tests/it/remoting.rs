//! Servers and clients of the remoting room over loopback, with a service that echoes.

use bytes::{Bytes, BytesMut};
use hotfire::net::tcp::TcpNet;
use hotfire::net::{Net, Stream, read, write_all};
use hotfire::protocol::Command;
use hotfire::protocol::frame::{Frame, Serialize};
use hotfire::remoting::{
    Client, ClientOptions, ClientRequests, Error, Peer, Server, ServerOptions, Service,
};
use hotfire::rt::block_on;
use hotfire::rt::sync::{Mutex, Notify};
use hotfire::rt::task::TaskGroup;
use hotfire::rt::time::{Clock, Duration};
use std::sync::Arc;

const ECHO: i32 = 10;
const SILENCE: i32 = 11;
/// Answered by a task that waits until it is let go.
const SLOW: i32 = 12;
const PANIC: i32 = 13;
/// The server asks back before it answers.
const ASK_BACK: i32 = 14;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Echo {
    let_go: Notify,
    running: Mutex<(usize, usize)>,
    opened: Mutex<(usize, usize)>,
}

fn answer(request: &Command, code: i32, body: Bytes) -> Command {
    Command::reply(request.opaque, code).with_body(body)
}

fn send(peer: &Peer, command: &Command) {
    peer.with_outbox(|out| command.encode(Serialize::Json, out));
}

struct EchoService(Arc<Echo>);

impl Service for EchoService {
    fn on_frames(&self, peer: &Peer, frames: &mut Vec<Frame>) {
        for frame in frames.drain(..) {
            let request = match Command::decode(&frame) {
                Ok(request) => request,
                Err(e) => return peer.close(&e.to_string()),
            };
            if request.is_reply() {
                peer.on_reply(&frame);
                continue;
            }
            let size = frame.body.len();
            let (to, echo) = (peer.clone(), self.0.clone());
            match request.code {
                ECHO => send(peer, &answer(&request, 0, request.body.clone())),
                SLOW => {
                    let late = answer(&request, 1, Bytes::new());
                    let work = async move {
                        {
                            let mut running = echo.running.lock();
                            running.0 += 1;
                            running.1 = running.1.max(running.0);
                        }
                        echo.let_go.notified().await;
                        echo.running.lock().0 -= 1;
                        send(&to, &answer(&request, 0, Bytes::new()));
                    };
                    peer.spawn(size, work, move |peer, _| send(peer, &late));
                }
                PANIC => {
                    let late = answer(&request, 1, Bytes::new());
                    let work = async { panic!("as asked") };
                    peer.spawn(size, work, move |peer, text| {
                        assert_eq!(text, "as asked");
                        send(peer, &late);
                    });
                }
                ASK_BACK => {
                    let work = async move {
                        let back = to.invoke(Command::request(77), SECOND).await.unwrap();
                        send(&to, &answer(&request, 0, back.body));
                    };
                    peer.spawn(size, work, |_, _| ());
                }
                SILENCE => {}
                unknown => {
                    let remark = format!(" request type {unknown} not supported");
                    send(peer, &answer(&request, 3, Bytes::new()).with_remark(remark));
                }
            }
        }
    }
    fn on_open(&self, _peer: &Peer) {
        self.0.opened.lock().0 += 1;
    }
    fn on_close(&self, _peer: &Peer) {
        self.0.opened.lock().1 += 1;
    }
}

pub struct World {
    pub net: Arc<dyn Net>,
    pub clock: Clock,
    group: TaskGroup,
    echo: Arc<Echo>,
    server: Server,
    pub addr: String,
}

impl World {
    pub async fn new(options: ServerOptions) -> World {
        let (net, clock): (Arc<dyn Net>, _) = (Arc::new(TcpNet::default()), Clock::new());
        let (group, echo) = (TaskGroup::new(), Arc::new(Echo::default()));
        let service = Arc::new(EchoService(echo.clone()));
        let at = ["127.0.0.1:0".parse().unwrap()];
        let server = Server::start(&net, &clock, &group, &at, service, options).await.unwrap();
        let addr = server.local_addrs()[0].to_string();
        World { net, clock, group, echo, server, addr }
    }
    fn client(&self) -> Client {
        Client::new(&self.net, &self.clock, &self.group, ClientOptions::default(), None)
    }
    async fn raw(&self) -> Box<dyn Stream> {
        self.net.dial(&self.addr, SECOND).await.unwrap()
    }
    async fn eventually(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let end = self.clock.mono() + Duration::from_secs(10);
        while !holds() {
            assert!(self.clock.mono() < end, "it never came to this: {what}");
            self.clock.sleep_until(self.clock.mono() + Duration::from_millis(2)).await;
        }
    }
}

fn request(code: i32, body: &[u8]) -> Command {
    Command::request(code).with_body(Bytes::copy_from_slice(body))
}

fn bytes_of(code: i32, body: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    request(code, body).encode(Serialize::Json, &mut out);
    out
}

/// True when the other side ended the connection, by an end or a reset.
pub async fn is_ended(stream: &mut dyn Stream) -> bool {
    let mut buf = BytesMut::new();
    loop {
        match read(stream, &mut buf, 65_536).await {
            Ok(0) | Err(_) => return true,
            Ok(_) => buf.clear(),
        }
    }
}

#[test]
fn many_requests_share_one_connection() {
    block_on(async {
        let world = World::new(ServerOptions::default()).await;
        let (client, tasks) = (world.client(), TaskGroup::new());
        let done = Arc::new(Mutex::new(0));
        for n in 0..500u32 {
            let (client, addr, done) = (client.clone(), world.addr.clone(), done.clone());
            tasks.spawn(async move {
                let body = vec![n as u8; n as usize * 37];
                let answer = client.invoke(&addr, request(ECHO, &body), SECOND * 10).await.unwrap();
                assert_eq!(answer.body, body);
                *done.lock() += 1;
            });
        }
        world.eventually("all are answered", || *done.lock() == 500).await;
        assert_eq!(world.echo.opened.lock().0, 1);
    });
}

#[test]
fn a_large_frame_passes_and_one_beyond_the_bound_ends_the_connection() {
    block_on(async {
        let world = World::new(ServerOptions::default()).await;
        let client = world.client();
        let body = vec![5; 12 * 1024 * 1024];
        let answer = client.invoke(&world.addr, request(ECHO, &body), SECOND * 20).await.unwrap();
        assert!(answer.body == body);
        let beyond = vec![5; 16 * 1024 * 1024];
        let refused = client.invoke(&world.addr, request(ECHO, &beyond), SECOND * 20).await;
        assert!(matches!(refused, Err(Error::Closed { .. })), "{refused:?}");
        let again = client.invoke(&world.addr, request(ECHO, b"x"), SECOND).await.unwrap();
        assert_eq!(again.body, &b"x"[..]);
    });
}

#[test]
fn an_answer_that_never_comes_is_given_up_at_its_deadline() {
    block_on(async {
        let world = World::new(ServerOptions::default()).await;
        let client = world.client();
        let before = world.clock.mono();
        let timeout = Duration::from_millis(150);
        let late = client.invoke(&world.addr, request(SILENCE, b""), timeout).await;
        assert!(matches!(late, Err(Error::TimedOut { after, .. }) if after == timeout), "{late:?}");
        let took = world.clock.mono().since(before);
        assert!(took >= timeout && took < SECOND, "{took:?}");
    });
}

#[test]
fn a_server_asks_over_the_connection_its_client_opened() {
    struct Callback;
    impl ClientRequests for Callback {
        fn on_request(&self, peer: &Peer, request: Command) {
            assert_eq!(request.code, 77);
            send(peer, &answer(&request, 0, Bytes::from_static(b"from the client")));
        }
    }
    block_on(async {
        let world = World::new(ServerOptions::default()).await;
        let callback: Arc<dyn ClientRequests> = Arc::new(Callback);
        let options = ClientOptions::default();
        let client = Client::new(&world.net, &world.clock, &world.group, options, Some(callback));
        let answer = client.invoke(&world.addr, request(ASK_BACK, b""), SECOND).await.unwrap();
        assert_eq!(answer.body, &b"from the client"[..]);
    });
}

#[test]
fn a_client_connects_again_and_leaves_dead_addresses_alone_for_a_while() {
    block_on(async {
        let world = World::new(ServerOptions::default()).await;
        let client = world.client();
        client.invoke(&world.addr, request(ECHO, b"1"), SECOND).await.unwrap();
        let peer = client.connect(&world.addr, SECOND).await.unwrap();
        peer.close("a test");
        let answer = client.invoke(&world.addr, request(ECHO, b"2"), SECOND).await.unwrap();
        assert_eq!(answer.body, &b"2"[..]);

        world.server.shutdown().await;
        world.eventually("the end is seen", || world.echo.opened.lock().1 == 2).await;
        let mut seen = Vec::new();
        for _ in 0..20 {
            let e = client.invoke(&world.addr, request(ECHO, b"3"), SECOND).await.unwrap_err();
            seen.push(e.to_string());
            if let Error::BackingOff { kind, .. } = &e {
                assert_eq!(*kind, std::io::ErrorKind::ConnectionRefused);
                assert!(e.is_unsent());
                return;
            }
        }
        panic!("the address was tried again and again: {seen:?}");
    });
}

#[test]
fn a_panicking_handler_is_answered_and_harms_nobody() {
    block_on(async {
        let world = World::new(ServerOptions::default()).await;
        let client = world.client();
        let answer = client.invoke(&world.addr, request(PANIC, b""), SECOND).await.unwrap();
        assert_eq!(answer.code, 1);
        let answer = client.invoke(&world.addr, request(ECHO, b"x"), SECOND).await.unwrap();
        assert_eq!(answer.body, &b"x"[..]);
    });
}

#[test]
fn rare_requests_beyond_the_bound_wait_their_turn() {
    block_on(async {
        let mut options = ServerOptions::default();
        options.connection.running_count_max = 4;
        let world = World::new(options).await;
        let client = world.client();
        let done = Arc::new(Mutex::new(0));
        for _ in 0..40 {
            let (client, addr, done) = (client.clone(), world.addr.clone(), done.clone());
            world.group.spawn(async move {
                client.invoke(&addr, request(SLOW, b""), SECOND * 10).await.unwrap();
                *done.lock() += 1;
            });
        }
        world.eventually("four run", || world.echo.running.lock().0 == 4).await;
        world
            .eventually("all are answered", || {
                world.echo.let_go.notify_one();
                *done.lock() == 40
            })
            .await;
        assert_eq!(world.echo.running.lock().1, 4);
    });
}

#[test]
fn a_peer_that_does_not_read_is_not_read_from_and_the_others_go_on() {
    block_on(async {
        let mut options = ServerOptions::default();
        options.connection.write_stall_max = Duration::from_millis(600);
        let world = World::new(options).await;
        let mut deaf = world.raw().await;
        let chunk = bytes_of(ECHO, &[9; 100_000]);
        let mut sent = 0;
        loop {
            let write = write_all(&mut *deaf, &chunk);
            match world.clock.before(world.clock.mono() + SECOND / 4, write).await {
                Some(Ok(())) => sent += chunk.len(),
                _ => break,
            }
            assert!(sent < 80 << 20, "reading never paused");
        }
        let client = world.client();
        client.invoke(&world.addr, request(ECHO, b"x"), SECOND).await.unwrap();
        world.eventually("the deaf one is dropped", || world.echo.opened.lock().1 == 1).await;
        client.invoke(&world.addr, request(ECHO, b"x"), SECOND).await.unwrap();
    });
}

#[test]
fn drips_and_silence_end_a_connection() {
    block_on(async {
        let mut options = ServerOptions::default();
        options.connection.frame_stall_max = Duration::from_millis(300);
        options.connection.idle_max = Duration::from_millis(900);
        let world = World::new(options).await;
        let mut dripping = world.raw().await;
        let frame = bytes_of(ECHO, &[1; 500]);
        let begun = world.clock.mono();
        for byte in frame.iter() {
            if write_all(&mut *dripping, &[*byte]).await.is_err() {
                break;
            }
            world.clock.sleep_until(world.clock.mono() + Duration::from_millis(20)).await;
        }
        assert!(is_ended(&mut *dripping).await);
        assert!(world.clock.mono().since(begun) < SECOND * 3);
        let mut silent = world.raw().await;
        let begun = world.clock.mono();
        assert!(is_ended(&mut *silent).await);
        assert!(world.clock.mono().since(begun) >= Duration::from_millis(800));
    });
}

#[test]
fn one_connection_too_many_is_turned_away() {
    block_on(async {
        let options = ServerOptions { connection_count_max: 3, ..ServerOptions::default() };
        let world = World::new(options).await;
        let mut kept = Vec::new();
        for _ in 0..3 {
            kept.push(world.raw().await);
        }
        world.eventually("three are open", || world.server.connection_count() == 3).await;
        let mut fourth = world.raw().await;
        assert!(is_ended(&mut *fourth).await);
        kept.pop();
        world.eventually("one left", || world.server.connection_count() == 2).await;
        world.client().invoke(&world.addr, request(ECHO, b"x"), SECOND).await.unwrap();
    });
}

#[test]
fn large_frames_wait_for_the_budget_and_all_arrive() {
    block_on(async {
        let inflight_size_max = 3 << 20;
        let options = ServerOptions { inflight_size_max, ..ServerOptions::default() };
        let world = World::new(options).await;
        let done = Arc::new(Mutex::new(0));
        for n in 0..8 {
            let (client, addr, done) = (world.client(), world.addr.clone(), done.clone());
            world.group.spawn(async move {
                let body = vec![n; 2 << 20];
                let answer = client.invoke(&addr, request(ECHO, &body), SECOND * 20).await.unwrap();
                assert!(answer.body == body);
                *done.lock() += 1;
            });
        }
        world.eventually("all are answered", || *done.lock() == 8).await;
    });
}

#[test]
fn a_shutdown_answers_what_was_taken_and_closes_the_port() {
    block_on(async {
        let world = World::new(ServerOptions::default()).await;
        let (client, done) = (world.client(), Arc::new(Mutex::new(0)));
        let (caller, addr, count) = (client.clone(), world.addr.clone(), done.clone());
        world.group.spawn(async move {
            caller.invoke(&addr, request(SLOW, b""), SECOND * 10).await.unwrap();
            *count.lock() += 1;
        });
        world.eventually("it runs", || world.echo.running.lock().0 == 1).await;
        world.server.pause();
        world.echo.let_go.notify_one();
        world.server.shutdown().await;
        world.eventually("it is answered", || *done.lock() == 1).await;
        assert_eq!(*world.echo.opened.lock(), (1, 1));
        let refused = world.net.dial(&world.addr, SECOND).await;
        assert_eq!(refused.err().unwrap().kind(), std::io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_shutdown_reads_and_answers_what_has_arrived() {
    block_on(async {
        let world = World::new(ServerOptions::default()).await;
        let mut raw = world.raw().await;
        write_all(&mut *raw, &bytes_of(ECHO, b"first")).await.unwrap();
        let mut buf = BytesMut::new();
        while !buf.ends_with(b"first") {
            read(&mut *raw, &mut buf, 1000).await.unwrap();
        }
        // It lies in the kernel when the server begins to stop.
        write_all(&mut *raw, &bytes_of(ECHO, b"last")).await.unwrap();
        world.server.pause();
        world.server.shutdown().await;
        while read(&mut *raw, &mut buf, 1000).await.unwrap() > 0 {}
        assert!(buf.ends_with(b"last"), "{buf:?}");
    });
}

#[test]
fn a_shutdown_ends_a_connection_after_an_answer() {
    block_on(async {
        let mut options = ServerOptions::default();
        options.connection.drain_quiet = SECOND * 60;
        let world = Arc::new(World::new(options).await);
        let mut raw = world.raw().await;
        world.eventually("it is connected", || world.server.connection_count() == 1).await;
        let stopping = world.clone();
        world.group.spawn(async move { stopping.server.shutdown().await });
        world.clock.sleep_until(world.clock.mono() + Duration::from_millis(20)).await;
        write_all(&mut *raw, &bytes_of(ECHO, b"next")).await.unwrap();
        let mut buf = BytesMut::new();
        let begun = world.clock.mono();
        while read(&mut *raw, &mut buf, 1000).await.unwrap() > 0 {}
        assert!(buf.ends_with(b"next"), "{buf:?}");
        assert!(world.clock.mono() < begun + SECOND * 2, "it ends when its request was answered");
    });
}

#[test]
fn the_end_of_the_group_ends_servers_and_clients() {
    block_on(async {
        let world = World::new(ServerOptions::default()).await;
        let client = world.client();
        client.invoke(&world.addr, request(ECHO, b"x"), SECOND).await.unwrap();
        let left = world.group.shutdown(&world.clock, world.clock.mono() + SECOND * 5).await;
        assert_eq!(left, 0);
        assert_eq!(*world.echo.opened.lock(), (1, 1));
        let late = client.invoke(&world.addr, request(ECHO, b"x"), SECOND).await;
        assert!(matches!(late, Err(Error::Stopped { .. })), "{late:?}");
    });
}

#[test]
fn a_client_that_closes_its_sending_side_still_gets_its_answers() {
    block_on(async {
        let world = World::new(ServerOptions::default()).await;
        let mut raw = world.raw().await;
        write_all(&mut *raw, &bytes_of(ECHO, b"last")).await.unwrap();
        std::future::poll_fn(|cx| raw.poll_shutdown(cx)).await.unwrap();
        let mut buf = BytesMut::new();
        while read(&mut *raw, &mut buf, 1000).await.unwrap() > 0 {}
        assert!(buf.ends_with(b"last"), "{buf:?}");
    });
}
