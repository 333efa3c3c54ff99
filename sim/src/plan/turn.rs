//! What operators do with a master and its slaves, one turn after another.

use crate::scenario::Turns;
use hotfire::rt::rng::Rng;
use serde::{Deserialize, Serialize};

/// A master goes, and somebody writes again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Turn {
    /// Producers send for so long before. Units: virtual milliseconds.
    pub load_ms: u64,
    pub loss: Loss,
    /// Until something is done about it.
    pub down_ms: u64,
    /// A slave takes over; otherwise the same master comes back.
    pub promotes: bool,
    /// So long after the new master has begun the old one comes back.
    pub away_ms: u64,
    /// Nobody has told the old one that it is no master any more.
    pub returns_as_master: bool,
    /// Just before it comes back, all name servers start again and know nobody.
    pub name_servers_forget: bool,
}

/// How a master goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Its process is killed.
    Kill,
    /// Its power fails.
    Power,
    /// It is stopped in order.
    Stop,
    /// It lives, and none of the others hears of it.
    Isolated,
    /// Its disk is lost too.
    Disk,
}

const LOSSES: [Loss; 6] =
    [Loss::Kill, Loss::Power, Loss::Power, Loss::Stop, Loss::Isolated, Loss::Disk];

pub fn draw(wanted: Option<&Turns>, rng: &mut Rng) -> Vec<Turn> {
    let Some(wanted) = wanted else { return Vec::new() };
    // Their dice are their own: one turn more moves nothing else.
    let mut dice = Rng::from_seed(rng.next_u64());
    let count = dice.between(wanted.count.0, wanted.count.1);
    (0..count)
        .map(|_| {
            let loss = *dice.pick(&LOSSES);
            let promotes = dice.chance(wanted.promotes);
            Turn {
                load_ms: dice.between(100, 1_500),
                loss,
                down_ms: dice.between(1, 1_500),
                // Without its log a broker is no master.
                promotes: promotes || loss == Loss::Disk,
                away_ms: dice.between(1, 3_000),
                returns_as_master: dice.chance(0.5),
                name_servers_forget: dice.chance(0.3),
            }
        })
        .collect()
}
