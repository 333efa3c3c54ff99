//! A client machine: producers, and a reader of every queue.

mod reader;

use super::cluster::{ClusterHouse, PROMPT_SENDS, Phase, SETTLE_SENDS, ip, topic_name};
use super::filters::{self, Selector};
use super::pairs::{self, Asked};
use super::prompt::{is_prompt, is_prompt_after};
use super::timers;
use super::transactions::{self, Members};
use crate::history::{self, Fate, Grade, Id, Place};
use crate::oracle::retry::{self, RETRIES_MAX};
use crate::oracle::transaction;
use crate::trace;
use crate::world::Boot;
use hotfire::client::{
    Client, Error, Identity, Interest, Message, Options, SendResult, SendStatus, Subscription,
};
use hotfire::model::{GroupName, TopicName};
use hotfire::rt::rng::Rng;
use hotfire::rt::sim::mark;
use hotfire::rt::task::TaskGroup;
use hotfire::rt::time::{Clock, Duration};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone)]
pub struct Node {
    pub house: ClusterHouse,
    pub machine: usize,
    pub name: String,
    client: Client,
    pub clock: Clock,
    pub group: TaskGroup,
    consumers: GroupName,
}

pub async fn run(house: ClusterHouse, mut boot: Boot) {
    let plan = house.0.plan.machines[boot.machine].clone();
    let mut rng = Rng::from_seed(plan.swarm ^ (boot.generation << 20));
    let mut options = Options::swarm(&mut rng);
    options.name_servers = house.name_servers();
    // Brokers forget silent clients after 5 s and more here.
    options.heartbeat_interval = options.heartbeat_interval.min(Duration::from_secs(3));
    let tries = options.send_tries_max;
    let identity = Identity::new(ip(boot.machine), boot.generation as u32, &mut rng);
    let group = TaskGroup::new();
    let dice = Rng::from_seed(rng.next_u64());
    let client = Client::start(&boot.net, &boot.clock, &group, options, identity, dice);
    let node = Node {
        house: house.clone(),
        machine: boot.machine,
        name: boot.name.clone(),
        client,
        clock: boot.clock.clone(),
        group: group.clone(),
        consumers: GroupName::new(&format!("readers-{}", boot.name)),
    };
    // The readers of the process before are gone, and with them what they waited for.
    house.0.progress.lock().answered.retain(|reading, _| reading.0 != boot.machine);
    let is_transactional = house.0.plan.load.transactional > 0.0;
    let brokers = house.machines(crate::plan::Role::Broker);
    let members = is_transactional.then(|| Members::start(&house, &boot, &group, brokers));
    for _ in 0..house.0.plan.load.producers {
        let dice = Rng::from_seed(rng.next_u64());
        let producer = Producer { node: node.clone(), dice, tries, members: members.clone() };
        group.spawn(producer.run());
    }
    let mut topics: Vec<String> = (0..house.0.plan.load.topics).map(topic_name).collect();
    if house.0.plan.load.failing > 0.0 {
        topics.push(retry::retry_topic(&node.consumers));
        topics.push(retry::dead_topic(&node.consumers));
    }
    if is_transactional {
        topics.push(transaction::DISCARDED.to_owned());
    }
    for topic in topics {
        let dice = Rng::from_seed(rng.next_u64());
        group.spawn(reader::follow_topic(node.clone(), topic, dice));
    }
    if house.0.plan.load.filters {
        group.spawn(stay_registered(node.clone()));
    }
    if house.machines(crate::plan::Role::Client).first() == Some(&boot.machine) {
        pairs::look::start(&house, &boot, &group);
    }
    if house.0.plan.load.calls {
        super::callers::start(&house, &boot, &group, &mut rng);
    }
    boot.stop.until(|stop| *stop).await;
}

/// The group's heartbeats carry what it wants now, of every topic that has a route.
async fn stay_registered(node: Node) {
    let plan = &node.house.0.plan;
    let mut known = Vec::new();
    loop {
        let turn = filters::turn(plan, node.machine);
        let mut subscriptions = Vec::new();
        for topic in (0..plan.load.topics).map(topic_name) {
            if node.client.subscribe_queues(&TopicName::new(&topic)).await.is_ok() {
                subscriptions.push(node.wants(&topic, turn).1);
            }
        }
        if subscriptions != known && turn == filters::turn(plan, node.machine) {
            let interest = Interest { subscriptions: subscriptions.clone(), from_first: true };
            if node.client.join(&node.consumers, interest).await.is_ok() {
                known = subscriptions;
            }
        }
        node.pause(300).await;
    }
}

impl Node {
    /// What this client wants of a topic in this turn.
    fn wants(&self, topic: &str, turn: u64) -> (Arc<Selector>, Subscription) {
        let (house, client) = (&self.house.0, self.machine);
        let selector = house.filters.lock().selector(&house.plan, client, topic, turn);
        let subscription = Subscription::sql92(topic, &selector.text, selector.version);
        (selector, subscription)
    }

    pub async fn pause(&self, ms: u64) {
        self.clock.sleep_until(self.clock.mono() + Duration::from_millis(ms)).await;
    }
}

/// A message that says its number, and what filters look at.
fn numbered(id: Id, topic: &str, size: usize, has_values: bool) -> Message {
    let message = Message::new(topic, history::body(id, size))
        .with_tag(&filters::tag(id))
        .with_property("SIM", &format!("{id:05}"));
    let values = if has_values { filters::values(id) } else { BTreeMap::new() };
    let add =
        |message: Message, (name, value): (String, String)| message.with_property(&name, &value);
    values.into_iter().fold(message, add)
}

struct Producer {
    node: Node,
    dice: Rng,
    tries: u32,
    /// Of producer groups, when there are transactions.
    members: Option<Members>,
}

impl Producer {
    async fn run(mut self) {
        let house = self.node.house.clone();
        let load = house.0.plan.load.clone();
        let producers = load.producers * house.machines(crate::plan::Role::Client).len() as u64;
        let pace_ms = house.0.plan.disturb_ms * producers / load.messages.max(1);
        let (mut settle, mut prompt) = (0, 0);
        loop {
            let phase = house.phase();
            let pause_ms = match phase {
                Phase::Disturb => {
                    let may = {
                        let mut progress = house.0.progress.lock();
                        let may = progress.budget > 0;
                        progress.budget = progress.budget.saturating_sub(1);
                        may
                    };
                    if may {
                        self.send(phase).await;
                    }
                    if self.dice.chance(0.3) { 0 } else { self.dice.below(pace_ms * 2 + 1) }
                }
                Phase::Settle if settle < SETTLE_SENDS => {
                    if self.send(phase).await {
                        settle += 1;
                        house.0.progress.lock().settled += 1;
                        house.court().moved();
                    }
                    300
                }
                Phase::Prompt if prompt < PROMPT_SENDS => {
                    if self.send(phase).await {
                        prompt += 1;
                    }
                    self.dice.below(200)
                }
                Phase::Settle | Phase::Prompt | Phase::Quiet => 1_000,
            };
            if pause_ms > 0 {
                self.node.pause(pause_ms).await;
            }
        }
    }

    /// Sends one message; true when it is acked.
    async fn send(&mut self, phase: Phase) -> bool {
        let house = self.node.house.clone();
        let load = &house.0.plan.load;
        let topic = topic_name(self.dice.below(load.topics));
        let size = self.dice.between(load.body_bytes.0.max(1), load.body_bytes.1.max(1)) as usize;
        let wait = phase != Phase::Disturb || !self.dice.chance(load.no_wait);
        let id = house.court().history(|h| {
            let id = h.on_send(&topic, None, size);
            h.sent[id as usize].copies_max = self.tries;
            id
        });
        let message = numbered(id, &topic, size, load.filters).with_wait(wait);
        let (mut message, delay) = self.delayed(id, message);
        let level = delay.level;
        let in_transaction = self.begin_transaction(phase, id);
        if let Some(properties) = &in_transaction {
            for (name, value) in properties {
                message = message.with_property(name, value);
            }
        }
        let brokers = house.machines(crate::plan::Role::Broker);
        let since: Vec<_> = brokers.iter().map(|b| (*b, Since::now(&house, *b))).collect();
        let pairs: Vec<_> = brokers.iter().map(|b| Asked::now(&house, *b, phase)).collect();
        let (mut asked, mut unique) = (0, String::new());
        let is_once = delay.is_one() || in_transaction.is_some();
        let fate = match self.give(&message, is_once).await {
            Ok(result) => {
                asked = result.queue.queue.0;
                unique.clone_from(&result.message_id);
                // It lies in the first queue of its level, or of half messages.
                let place = if in_transaction.is_some() { Some(0) } else { level.checked_sub(1) };
                let fate = self.fate_of(&result, wait, place, &since);
                if wait && let Fate::Acked { place, .. } = fate {
                    let asked = pairs.iter().find(|asked| asked.master == place.machine);
                    asked.into_iter().for_each(|a| a.judge(&house, id, place, result.status));
                }
                fate
            }
            Err(e) => self.fate_of_error(id, &e),
        };
        self.tell(id, fate);
        if let (Some(_), Some(members)) = (&in_transaction, &self.members) {
            members.on_fate(id, fate, (asked, unique), &mut self.dice);
            return matches!(fate, Fate::Acked { .. });
        }
        if let (Phase::Prompt, Fate::Acked { place, .. }) = (phase, fate) {
            match self.wait_ms(delay, place.machine) {
                _ if !delay.is_one() => self.node.group.spawn(is_prompt(house, id, topic, place)),
                Some(wait_ms) => {
                    let key = (place.machine, topic, asked);
                    self.node.group.spawn(is_prompt_after(house, id, key, wait_ms));
                }
                None => house.0.progress.lock().prompt += 1,
            }
        }
        matches!(fate, Fate::Acked { .. })
    }

    /// Draws how long a message waits, and how often consumers fail at it.
    fn delayed(&mut self, id: Id, mut message: Message) -> (Message, Delay) {
        let house = self.node.house.clone();
        let load = &house.0.plan.load;
        let level = match self.dice.chance(load.delayed) {
            true => 1 + self.dice.below(load.levels_ms.len() as u64) as u32,
            false => 0,
        };
        if self.dice.chance(load.failing) {
            let fails = self.dice.between(1, u64::from(RETRIES_MAX) + 2) as u32;
            house.court().history(|h| h.sent[id as usize].fails = fails);
        }
        if level > 0 {
            message = message.with_delay_level(level);
            house.court().history(|h| h.sent[id as usize].level = level);
        }
        let is_timed = level == 0 && load.timed > 0.0 && self.dice.chance(load.timed);
        let ask = is_timed.then(|| timers::draw(&mut self.dice, self.node.clock.wall()));
        if let Some(ask) = &ask {
            message = message.with_property(ask.name, &ask.value.to_string());
            house.court().history(|h| h.sent[id as usize].is_timed = true);
        }
        (message, Delay { level, ask })
    }

    /// How long that is, by real time. `None`: the clock steps, and it may be minutes.
    fn wait_ms(&self, delay: Delay, broker: usize) -> Option<i64> {
        let house = &self.node.house;
        let skew_ms = |machine: usize| house.0.plan.machines[machine].skew_ms;
        match delay.ask {
            Some(_) if house.court().delays(broker).clock_steps => None,
            Some(ask) if ask.is_date() => {
                Some(ask.wait_ms + skew_ms(self.node.machine) - skew_ms(broker))
            }
            Some(ask) => Some(ask.wait_ms),
            None if delay.level > 0 => Some(house.0.plan.load.levels_ms[delay.level as usize - 1]),
            None => Some(0),
        }
    }

    fn fate_of_error(&self, id: Id, error: &Error) -> Fate {
        let (fate, what) = match error.may_be_stored() {
            true => (Fate::Unknown, "unknown"),
            false => (Fate::Refused, "refused"),
        };
        trace::event(&self.node.name, format_args!("message {id}: {what}, {error}"));
        fate
    }

    /// Notes what became of a send.
    fn tell(&self, id: Id, fate: Fate) {
        let house = &self.node.house;
        if let Fate::Acked { place, .. } = fate {
            let at = (place.machine, place.queue, place.queue_offset, place.physical);
            trace::event(&self.node.name, format_args!("message {id} acked at {at:?}"));
            house.world().note_ack(place.machine);
        }
        let told = house.court().history(|h| h.on_fate(id, fate));
        house.court().check("outcomes", told);
    }

    /// The properties of a half message, when this is to be one.
    fn begin_transaction(&mut self, phase: Phase, id: Id) -> Option<Vec<(&'static str, String)>> {
        let share = self.node.house.0.plan.load.transactional;
        let is_half = self.members.is_some() && phase != Phase::Prompt && self.dice.chance(share);
        is_half.then(|| {
            let is_calm = phase != Phase::Disturb;
            transactions::begin(&self.node.house, id, is_calm, &mut self.dice)
        })
    }

    /// A delayed or half message is sent once: a copy would be delivered as often as itself.
    async fn give(&mut self, message: &Message, is_once: bool) -> Result<SendResult, Error> {
        if !is_once {
            return self.node.client.send(message).await;
        }
        let queues = self.node.client.publish_queues(&message.topic).await?;
        let queue = self.dice.pick(&queues).clone();
        self.node.client.send_to(&queue, message).await
    }

    fn fate_of(
        &self,
        result: &SendResult,
        wait: bool,
        place: Option<u32>,
        since: &[(usize, Since)],
    ) -> Fate {
        let house = &self.node.house;
        let is_of_slaves =
            matches!(result.status, SendStatus::FlushSlaveTimeout | SendStatus::SlaveNotAvailable);
        if result.status != SendStatus::Ok {
            mark("client: stored with a weaker promise");
            if !is_of_slaves {
                return Fate::Unknown;
            }
        }
        let Some(machine) = house.broker_machine(&result.queue.broker) else {
            return Fate::Unknown;
        };
        let id = &result.offset_message_id;
        let physical = id.get(id.len().saturating_sub(16)..);
        let Some(physical) = physical.and_then(|hex| u64::from_str_radix(hex, 16).ok()) else {
            let what = format!("an ack with the message id {id:?}");
            house.court().check("outcomes", Err(what));
            return Fate::Unknown;
        };
        let sync = house.0.plan.machines[machine].sync_flush;
        let grade = if sync && wait && !is_of_slaves { Grade::Synced } else { Grade::Written };
        let now = Since::now(house, machine);
        if grade == Grade::Written && !since.contains(&(machine, now)) {
            // A crash overtook the answer: it promises nothing any more.
            return Fate::Unknown;
        }
        Fate::Acked {
            grade,
            place: Place {
                machine,
                queue: place.unwrap_or(result.queue.queue.0),
                queue_offset: result.queue_offset.0,
                physical,
            },
            power_losses: now.power_losses,
            generation: now.generation,
        }
    }
}

/// How a message is kept back: by a level, by a time of its own, or not.
#[derive(Clone, Copy)]
struct Delay {
    level: u32,
    ask: Option<timers::Ask>,
}

impl Delay {
    fn is_one(self) -> bool {
        self.level > 0 || self.ask.is_some()
    }
}

/// What a broker's machine has gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    pub power_losses: u64,
    pub generation: u64,
}

impl Since {
    pub fn now(house: &ClusterHouse, machine: usize) -> Since {
        let world = house.world();
        Since { power_losses: world.power_losses(machine), generation: world.generation(machine) }
    }
}
