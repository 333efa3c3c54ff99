//! What simulated links, crashes and power losses must do to connections: the half of the
//! network's contract that no test over loopback can see.

use super::SimNet;
use bytes::BytesMut;
use hotfire::net::conformance::{self, Ends, Outcome};
use hotfire::net::{Listener, Net, Stream, accept, read, write_all};
use hotfire::rt::rng::Rng;
use hotfire::rt::time::{Clock, Duration};
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::sync::Arc;

const SECOND: Duration = Duration::from_secs(1);

/// Two machines, a process on each, and a port that the second one listens on.
struct Pair {
    net: SimNet,
    clock: Clock,
    a: usize,
    b: usize,
    near: Arc<dyn Net>,
    far: Arc<dyn Net>,
}

pub async fn run(seed: u64) -> Outcome {
    keeps_the_contract(seed).await?;
    a_lost_syn_is_sent_again(seed).await?;
    a_clogged_way_back_stops_a_dial_too(seed).await?;
    a_clog_hides_an_end_until_it_is_healed(seed).await?;
    a_dead_process_frees_its_ports_and_ends_its_connections(seed).await?;
    a_machine_without_power_is_silent_and_resets_when_back(seed).await?;
    loss_delays_and_loses_nothing(seed).await
}

fn pair(seed: u64) -> Pair {
    let net = SimNet::new(Rng::from_seed(seed));
    let a = net.add_machine("a", IpAddr::from([10, 0, 0, 1]));
    let b = net.add_machine("b", IpAddr::from([10, 0, 0, 2]));
    let (near, far) = (net.process(a), net.process(b));
    Pair { net, clock: Clock::new(), a, b, near, far }
}

impl Pair {
    async fn listen(&self) -> Result<Box<dyn Listener>, String> {
        let any = "0.0.0.0:10911".parse().map_err(|e| format!("{e}"))?;
        ok(self.far.listen(any).await, "listen")
    }

    async fn connect(&self) -> Result<(Box<dyn Stream>, Box<dyn Stream>), String> {
        let mut listener = self.listen().await?;
        let near = ok(self.near.dial("b:10911", SECOND * 3).await, "dial")?;
        let far = ok(accept(&mut *listener).await, "accept")?;
        Ok((near, far))
    }

    /// What has come of the dials to the port: one was lost, answered, taken.
    fn is_line(&self, lost: bool, answered: bool, taken: bool) -> bool {
        let line = self.net.line(self.a, self.b, 10_911);
        let has = (line.lost_us.is_some(), !line.answered_us.is_empty(), line.taken_us.is_some());
        has == (lost, answered, taken)
    }

    async fn rest(&self, time: Duration) {
        self.clock.sleep_until(self.clock.mono() + time).await;
    }

    /// What the next read says, or nothing within `time`.
    async fn hears(&self, stream: &mut dyn Stream, time: Duration) -> Option<io::Result<usize>> {
        let mut buf = BytesMut::new();
        self.clock.before(self.clock.mono() + time, read(stream, &mut buf, 100)).await
    }
}

async fn keeps_the_contract(seed: u64) -> Outcome {
    let Pair { near, far, clock, net: _net, .. } = pair(seed);
    let at = |ip: [u8; 4]| (IpAddr::from(ip), 0).into();
    let ends = Ends { near, far: far.clone(), addr: at([10, 0, 0, 2]), clock: clock.clone() };
    conformance::run(&ends).await?;
    let ends = Ends { near: far.clone(), far, addr: at([127, 0, 0, 1]), clock };
    conformance::run(&ends).await
}

async fn a_lost_syn_is_sent_again(seed: u64) -> Outcome {
    let pair = pair(seed);
    let _listener = pair.listen().await?;
    pair.net.clog(pair.a, pair.b, true);
    let early = pair.near.dial("b:10911", SECOND / 2).await;
    fails(early, ErrorKind::TimedOut, "dial over a clogged link")?;
    holds(pair.is_line(true, false, false), "the line is known to have lost a dial")?;
    let dial = pair.near.dial("b:10911", SECOND * 5);
    let heal = async {
        pair.rest(SECOND / 2).await;
        pair.net.heal();
        std::future::pending::<()>().await;
    };
    let begun = pair.clock.mono();
    hotfire::rt::select! {
        dialed = dial => ok(dialed, "dial again").map(|_| ())?,
        _ = heal => {}
    }
    holds(pair.is_line(true, true, true), "the line is known to have answered")?;
    holds(pair.clock.mono().since(begun) >= SECOND, "the second try comes after a second")
}

async fn a_clogged_way_back_stops_a_dial_too(seed: u64) -> Outcome {
    let pair = pair(seed);
    let _listener = pair.listen().await?;
    pair.net.clog(pair.b, pair.a, true);
    fails(pair.near.dial("b:10911", SECOND * 3).await, ErrorKind::TimedOut, "dial one way")?;
    holds(pair.is_line(true, false, false), "a lost answer is a lost dial")?;
    pair.net.heal();
    fails(pair.near.dial("b:9", SECOND).await, ErrorKind::ConnectionRefused, "dial no port")?;
    let line = pair.net.line(pair.a, pair.b, 9);
    let is_refused = !line.answered_us.is_empty() && line.taken_us.is_none();
    holds(is_refused, "a refusal is an answer")?;
    fails(pair.near.dial("c:9", SECOND).await, ErrorKind::NotFound, "dial no machine")
}

async fn a_clog_hides_an_end_until_it_is_healed(seed: u64) -> Outcome {
    let pair = pair(seed);
    let (near, mut far) = pair.connect().await?;
    pair.net.clog(pair.a, pair.b, true);
    drop(near);
    holds(pair.hears(&mut *far, SECOND * 5).await.is_none(), "a clog hides the end")?;
    pair.net.heal();
    let heard = pair.hears(&mut *far, SECOND * 5).await;
    holds(matches!(heard, Some(Ok(0))), "the end arrives after the clog")
}

async fn a_dead_process_frees_its_ports_and_ends_its_connections(seed: u64) -> Outcome {
    let pair = pair(seed);
    let listener = pair.listen().await?;
    drop(listener);
    let (mut near, mut far) = pair.connect().await?;
    let mut listener = pair.listen().await?;
    pair.net.process_crash(pair.b);
    let late = pair.clock.before(pair.clock.mono() + SECOND, write_all(&mut *far, b"ghost")).await;
    holds(late.is_none(), "a dead process writes nothing")?;
    let late = pair.clock.before(pair.clock.mono() + SECOND, accept(&mut *listener)).await;
    holds(late.is_none(), "a dead process accepts nothing")?;
    match pair.hears(&mut *near, SECOND).await {
        Some(Ok(0)) => {
            // The dead process's kernel resets who writes on.
            let _ = write_all(&mut *near, b"still there?").await;
            pair.rest(SECOND).await;
            fails(write_all(&mut *near, b"hello?").await, ErrorKind::ConnectionReset, "write on")?;
        }
        Some(Err(e)) if e.kind() == ErrorKind::ConnectionReset => {}
        other => return Err(format!("the peer of a dead process heard {other:?}")),
    }
    fails(pair.near.dial("b:10911", SECOND).await, ErrorKind::ConnectionRefused, "dial the dead")?;
    let next = pair.net.process(pair.b);
    let any = "0.0.0.0:10911".parse().map_err(|e| format!("{e}"))?;
    let _listener_of_next = ok(next.listen(any).await, "listen in the next process")?;
    // The dead one's handles are dropped late and must not touch the next one's.
    drop((listener, far));
    ok(pair.near.dial("b:10911", SECOND).await, "dial the next process")?;
    Ok(())
}

async fn a_machine_without_power_is_silent_and_resets_when_back(seed: u64) -> Outcome {
    let pair = pair(seed);
    let (mut near, _far) = pair.connect().await?;
    pair.net.power_loss(pair.b);
    holds(pair.hears(&mut *near, SECOND * 60).await.is_none(), "no power, no word")?;
    fails(pair.near.dial("b:10911", SECOND * 3).await, ErrorKind::TimedOut, "dial no power")?;
    ok(write_all(&mut *near, b"anyone?").await, "write to a half-open peer")?;
    holds(pair.hears(&mut *near, SECOND * 10).await.is_none(), "no power, still no word")?;
    pair.net.power_on(pair.b);
    match pair.hears(&mut *near, SECOND * 10).await {
        Some(Err(e)) if e.kind() == ErrorKind::ConnectionReset => Ok(()),
        other => Err(format!("a machine that came back said {other:?}")),
    }
}

async fn loss_delays_and_loses_nothing(seed: u64) -> Outcome {
    let pair = pair(seed);
    let (mut near, mut far) = pair.connect().await?;
    pair.net.set_all_links(|link| link.loss = 0.2);
    let mut got = BytesMut::new();
    for n in 0..50u8 {
        ok(write_all(&mut *near, &[n; 100]).await, "write")?;
        pair.rest(Duration::from_millis(5)).await;
    }
    while got.len() < 5_000 {
        ok(read(&mut *far, &mut got, 1_000).await, "read")?;
    }
    let whole = got.chunks(100).zip(0..).all(|(part, n)| part.iter().all(|byte| *byte == n));
    holds(whole && pair.net.stats().resends > 0, "all arrives in order, some of it late")
}

fn ok<T>(result: io::Result<T>, what: &str) -> Result<T, String> {
    result.map_err(|e| format!("{what}: {e} ({:?})", e.kind()))
}

fn fails<T>(result: io::Result<T>, kind: ErrorKind, what: &str) -> Outcome {
    match result {
        Err(e) if e.kind() == kind => Ok(()),
        Err(e) => Err(format!("{what}: {e} ({:?}), {kind:?} was expected", e.kind())),
        Ok(_) => Err(format!("{what}: it worked, {kind:?} was expected")),
    }
}

fn holds(it: bool, what: &str) -> Outcome {
    if it { Ok(()) } else { Err(format!("it does not hold that {what}")) }
}
