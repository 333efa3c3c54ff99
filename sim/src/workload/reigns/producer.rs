//! Who writes to whom it holds for the master: plain, delayed, timed and transactional messages.

use super::super::cluster::{BROKER_PORT, Phase, ip, topic_name};
use super::super::timers;
use super::super::transactions::{self, Members};
use super::{HEARD_US, ReignHouse};
use crate::history::{self, Fate, Grade, Id};
use crate::oracle::reign::{self, Ack, AckFate};
use hotfire::client::SendStatus;
use hotfire::protocol::Command;
use hotfire::protocol::code::request_code as request;
use hotfire::remoting::Client;
use hotfire::rt::rng::Rng;
use hotfire::rt::sim::mark;
use hotfire::rt::time::{Clock, Duration};

const TIMEOUT: Duration = Duration::from_secs(4);

pub(super) struct Producer {
    pub house: ReignHouse,
    pub client: Client,
    pub clock: Clock,
    pub members: Members,
    pub n: u64,
}

/// How a message comes to those who read its topic.
#[derive(Clone, Copy, Debug)]
enum Way {
    AtOnce,
    /// After the time of this level, from 1.
    Delayed(u32),
    /// At a time of its own.
    Timed(timers::Ask),
    /// When its transaction is committed.
    Half,
}

impl Way {
    /// The queue in which it lies first, of `queue` that it is meant for. A timed one that is due
    /// lies there at once: `Raw::has` looks at the topic too.
    fn queue(self, queue: u32) -> u32 {
        match self {
            Way::AtOnce | Way::Timed(_) => queue,
            Way::Delayed(level) => level - 1,
            Way::Half => 0,
        }
    }
}

impl Producer {
    pub async fn run(self, mut dice: Rng) {
        loop {
            let is_disturbed = self.house.0.cluster.phase() == Phase::Disturb;
            let (low, high) = if is_disturbed { (5, 120) } else { (20, 200) };
            let pause = Duration::from_millis(dice.between(low, high));
            self.clock.sleep_until(self.clock.mono() + pause).await;
            let phase = self.house.0.cluster.phase();
            let is_due = match phase {
                Phase::Disturb => {
                    let mut desk = self.house.0.desk.lock();
                    let has_more = desk.budget > 0;
                    desk.budget = desk.budget.saturating_sub(1);
                    has_more
                }
                Phase::Settle => true,
                Phase::Prompt | Phase::Quiet => false,
            };
            if is_due {
                let target = self.target(&mut dice);
                self.house.0.desk.lock().open += 1;
                self.send(target, phase, &mut dice).await;
                self.house.0.desk.lock().open -= 1;
                self.house.court().moved();
            }
        }
    }

    /// Whom it holds for the master: mostly the right one.
    fn target(&self, dice: &mut Rng) -> usize {
        match dice.chance(0.7) {
            true => self.house.0.desk.lock().master,
            false => *dice.pick(&self.house.brokers()),
        }
    }

    /// Draws a message. Its topic, its queue, how it comes, its number and size.
    fn draw(&self, dice: &mut Rng) -> (u32, Way, Id, usize) {
        let (house, load) = (&self.house, &self.house.plan().load);
        let (topic, queue) = (topic_name(0), dice.below(load.queues) as u32);
        let size = dice.between(load.body_bytes.0, load.body_bytes.1) as usize;
        let way = match () {
            () if dice.chance(load.delayed) => {
                Way::Delayed(1 + dice.below(load.levels_ms.len() as u64) as u32)
            }
            () if dice.chance(load.timed) => Way::Timed(timers::draw(dice, self.clock.wall())),
            () if dice.chance(load.transactional) => Way::Half,
            () => Way::AtOnce,
        };
        let id = house.court().history(|h| {
            let is_plain = matches!(way, Way::AtOnce);
            // What waits lies in another queue.
            let id = h.on_send(&topic, is_plain.then_some(queue), size);
            let sent = &mut h.sent[id as usize];
            match way {
                Way::Delayed(level) => sent.level = level,
                Way::Timed(_) => sent.is_timed = true,
                Way::AtOnce | Way::Half => {}
            }
            id
        });
        (queue, way, id, size)
    }

    fn properties(&self, id: Id, way: Way, is_calm: bool, dice: &mut Rng) -> String {
        let plain = history::properties(id, 0);
        let mut text = String::from_utf8_lossy(&plain).into_owned();
        let mut add = |name: &str, value: &str| text.push_str(&format!("\u{2}{name}\u{1}{value}"));
        match way {
            Way::AtOnce => {}
            Way::Delayed(level) => add("DELAY", &level.to_string()),
            Way::Timed(ask) => add(ask.name, &ask.value.to_string()),
            Way::Half => {
                add("UNIQ_KEY", &unique(id));
                for (name, value) in transactions::begin(&self.house.0.cluster, id, is_calm, dice) {
                    add(name, &value);
                }
            }
        }
        text
    }

    async fn send(&self, machine: usize, phase: Phase, dice: &mut Rng) {
        let (house, load) = (&self.house, &self.house.plan().load);
        let (queue, way, id, size) = self.draw(dice);
        let properties = self.properties(id, way, phase != Phase::Disturb, dice);
        let (losses, open_us) = {
            let ledger = house.0.ledger.lock();
            let open = ledger.open.get(&machine);
            (ledger.losses(house.court()), open.map_or(0, |open| open.since_us))
        };
        let request = Command::request(request::SEND_MESSAGE_V2)
            .with_ext("a", format!("producers-{}", self.n))
            .with_ext("b", topic_name(0))
            .with_ext("c", "TBW102")
            .with_ext("d", load.queues)
            .with_ext("e", queue)
            .with_ext("f", 0)
            .with_ext("g", self.clock.wall().0)
            .with_ext("h", 0)
            .with_ext("i", properties)
            .with_ext("j", 0)
            .with_ext("k", false)
            .with_ext("m", false)
            .with_body(history::body(id, size));
        let addr = format!("{}:{BROKER_PORT}", ip(machine));
        let answer = self.client.invoke(&addr, request, TIMEOUT).await.ok();
        let status = answer.as_ref().and_then(|answer| SendStatus::of_code(answer.code));
        let (Some(answer), Some(status)) = (answer, status) else {
            return self.tell(id, way, Fate::Unknown, dice);
        };
        let mut place = match reign::place_of(machine, &answer) {
            Ok(place) => place,
            Err(what) => return house.court().check("outcomes", Err(what)),
        };
        place.queue = way.queue(place.queue);
        let pair = house.plan().machines[machine].pair.as_ref();
        let is_sync_master = pair.is_some_and(|pair| pair.is_sync_master);
        house.court().world().note_ack(machine);
        let (grade, power_losses, generation) = (Grade::Written, losses[machine].0, 0);
        self.tell(id, way, Fate::Acked { grade, place, power_losses, generation }, dice);
        mark("promotion: a message was acked");
        let fate = AckFate::Kept;
        let ack = Ack { id, place, status, is_sync_master, losses, open_us, fate };
        house.court().on_reign_ack(&mut house.0.ledger.lock(), ack, HEARD_US);
        if phase == Phase::Settle {
            house.0.desk.lock().settled += 1;
        }
        house.court().moved();
    }

    fn tell(&self, id: Id, way: Way, fate: Fate, dice: &mut Rng) {
        if let Fate::Acked { .. } = fate {
            self.house.court().history(|h| {
                let _ = h.on_fate(id, fate);
            });
        }
        if let Way::Half = way {
            self.members.on_fate(id, fate, (0, unique(id)), dice);
        }
    }
}

fn unique(id: Id) -> String {
    format!("{id:032X}")
}
