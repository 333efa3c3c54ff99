//! Clocks while the sockets never fall silent. A loop that looks at its work before its clock
//! fires no timer under load, and the simulator hardly shows it.

#![expect(clippy::disallowed_methods, reason = "broker and load need a thread each")]

use crate::broker::{World, pull_request, send_request};
use bytes::BytesMut;
use hotfire::net::tcp::TcpNet;
use hotfire::net::{Net, read, write_all};
use hotfire::protocol::code::response_code as code;
use hotfire::protocol::frame::{Serialize, cut};
use hotfire::remoting::{Client, ClientOptions};
use hotfire::rt::block_on;
use hotfire::rt::task::TaskGroup;
use hotfire::rt::time::{Clock, Duration};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

const CONNECTIONS: usize = 16;
const IN_FLIGHT: usize = 16;
const PULLS: usize = 5;
const SUSPEND_MS: i64 = 1_000;
const ANSWER_WITHIN: Duration = Duration::from_millis(1_200);

/// Fewer sends than this during one pull are no load. Units: answers.
const LOAD_MIN: u64 = 1_000;

#[derive(Default)]
struct Load {
    is_over: AtomicBool,
    answered: AtomicU64,
}

/// Keeps `IN_FLIGHT` sends under way on one connection.
async fn saturate(net: Arc<dyn Net>, addr: String, load: Arc<Load>) {
    let mut frame = BytesMut::new();
    send_request("Loaded", 0, "", "some body").encode(Serialize::Json, &mut frame);
    let frames = frame.repeat(IN_FLIGHT);
    let mut stream = net.dial(&addr, Duration::from_secs(10)).await.unwrap();
    write_all(&mut *stream, &frames).await.unwrap();
    let mut got = BytesMut::new();
    while !load.is_over.load(Ordering::Relaxed) {
        assert!(read(&mut *stream, &mut got, 65_536).await.unwrap() > 0, "the broker hung up");
        let mut count = 0;
        while cut(&mut got, 1 << 20).unwrap().is_some() {
            count += 1;
        }
        load.answered.fetch_add(count as u64, Ordering::Relaxed);
        write_all(&mut *stream, &frames[..count * frame.len()]).await.unwrap();
    }
}

/// How long each pull of an empty place was parked, with the sends answered meanwhile.
async fn park(addr: &str, load: &Load) -> Vec<(Duration, u64)> {
    let (net, clock): (Arc<dyn Net>, _) = (Arc::new(TcpNet::default()), Clock::new());
    let group = TaskGroup::new();
    let client = Client::new(&net, &clock, &group, ClientOptions::default(), None);
    let timeout = Duration::from_secs(20);
    let sent = client.invoke(addr, send_request("Quiet", 0, "", "x"), timeout).await.unwrap();
    assert_eq!(sent.code, code::SUCCESS);
    let mut parked = Vec::new();
    for _ in 0..PULLS {
        let (begun, before) = (clock.mono(), load.answered.load(Ordering::Relaxed));
        let pull = pull_request("Quiet", 0, 1, SUSPEND_MS);
        let answer = client.invoke(addr, pull, timeout).await.unwrap();
        assert_eq!(answer.code, code::PULL_NOT_FOUND);
        let answered = load.answered.load(Ordering::Relaxed) - before;
        parked.push((clock.mono().since(begun), answered));
    }
    parked
}

#[test]
fn a_parked_pull_is_answered_in_time_while_sends_saturate_the_broker() {
    let load = Arc::new(Load::default());
    let (started, addr) = mpsc::channel();
    let over = load.clone();
    let broker = thread::spawn(move || {
        block_on(async {
            let world = World::new();
            let broker = world.start(world.parts()).await;
            started.send(broker.local_addr().to_string()).unwrap();
            let clock = Clock::new();
            while !over.is_over.load(Ordering::Relaxed) {
                clock.sleep_until(clock.mono() + Duration::from_millis(50)).await;
            }
            broker.shutdown().await;
        });
    });
    let addr = addr.recv().unwrap();
    let (target, shared) = (addr.clone(), load.clone());
    let producers = thread::spawn(move || {
        block_on(async {
            let (net, group, clock) = (Arc::new(TcpNet::default()), TaskGroup::new(), Clock::new());
            for _ in 0..CONNECTIONS {
                group.spawn(saturate(net.clone(), target.clone(), shared.clone()));
            }
            while !shared.is_over.load(Ordering::Relaxed) && group.count() == CONNECTIONS {
                clock.sleep_until(clock.mono() + Duration::from_millis(50)).await;
            }
            assert!(shared.is_over.load(Ordering::Relaxed), "a producer failed");
        });
    });
    let mut parked = block_on(park(&addr, &load));
    load.is_over.store(true, Ordering::Relaxed);
    producers.join().unwrap();
    broker.join().unwrap();
    parked.sort();
    let least = Duration::from_millis(SUSPEND_MS as u64);
    assert!(parked.iter().all(|(time, _)| *time >= least), "answered too early: {parked:?}");
    assert!(parked.iter().all(|(_, sends)| *sends >= LOAD_MIN), "this was no load: {parked:?}");
    // The median: the test may share its two cores with others.
    assert!(parked[PULLS / 2].0 <= ANSWER_WITHIN, "answered too late: {parked:?}");
}
