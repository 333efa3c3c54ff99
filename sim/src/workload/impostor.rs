//! Somebody who dials a master's HA port and is no slave.
//!
//! Nobody can tell a slave from somebody who reports exactly what he was sent: such a one counts.
//! So an impostor here says what no slave can say, or less than a slave has, and then nothing.

use super::cluster::{HA_PORT, ip};
use crate::oracle::court::Court;
use crate::plan::{Fault, Role};
use crate::trace;
use bytes::BytesMut;
use hotfire::net::{self, Stream};
use hotfire::rt::rng::Rng;
use hotfire::rt::sim::mark;
use hotfire::rt::time::{Clock, Duration};

const TIMEOUT: Duration = Duration::from_secs(3);

/// What it says first.
#[derive(Clone, Copy, Debug)]
enum Word {
    /// Bytes of no meaning.
    Garbage,
    /// That it has more than there can be.
    Huge,
    /// That it has the log up to a little more than it was sent.
    More,
    /// That it has nothing, as a new slave does; it takes nothing of what it is sent.
    Nothing,
    /// The same, and it takes what it is sent and never says so.
    Mute,
}

const WORDS: [Word; 5] = [Word::Garbage, Word::Huge, Word::More, Word::Nothing, Word::Mute];

/// It dials from the first client's machine.
pub fn start(court: &Court, fault: &Fault) {
    let world = court.world();
    let from = world.machines().iter().position(|m| m.plan.role == Role::Client);
    let Some(from) = from else { return };
    let Some(node) = world.handle().get_node(world.machines()[from].node) else { return };
    let net = world.net().process(from);
    let mut dice = Rng::from_seed(fault.amount as u64);
    let (addr, stays) = (format!("{}:{HA_PORT}", ip(fault.target)), fault.for_ms);
    node.spawn(async move {
        let word = *dice.pick(&WORDS);
        trace::tell("impostor", format_args!("{word:?} to {addr}"));
        let clock = Clock::new();
        let until = clock.mono() + Duration::from_millis(stays);
        let Ok(stream) = net.dial(&addr, TIMEOUT).await else { return };
        // It ends when it is sent away, or when its time is over.
        let _ = clock.before(until, speak(stream, word, &mut dice)).await;
    });
}

async fn speak(mut stream: Box<dyn Stream>, word: Word, dice: &mut Rng) -> std::io::Result<()> {
    let mut first = match word {
        Word::Garbage => (0..dice.between(1, 100)).map(|_| dice.next_u64() as u8 | 0x40).collect(),
        Word::Huge => (dice.next_u64() >> dice.between(1, 20)).max(1 << 40).to_be_bytes().to_vec(),
        Word::More | Word::Nothing | Word::Mute => 0u64.to_be_bytes().to_vec(),
    };
    net::write_all(&mut *stream, &std::mem::take(&mut first)).await?;
    let mut received = BytesMut::new();
    match word {
        Word::Nothing => std::future::pending().await,
        Word::More => {
            while received.len() < 12 {
                if net::read(&mut *stream, &mut received, 4096).await? == 0 {
                    return Ok(());
                }
            }
            net::write_all(&mut *stream, &(1u64 << 32).to_be_bytes()).await?;
        }
        Word::Garbage | Word::Huge | Word::Mute => {}
    }
    loop {
        received.clear();
        if net::read(&mut *stream, &mut received, 4096).await? == 0 {
            mark("ha: an impostor was sent away");
            return Ok(());
        }
    }
}
