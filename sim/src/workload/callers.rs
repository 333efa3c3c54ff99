//! Clients of which the broker asks something for others: they wait for replies, are told to
//! reset their offsets, and lock queues.

use super::cluster::{BROKER_PORT, ClusterHouse, Phase, ip, topic_name};
use crate::oracle::calls::Asked;
use crate::oracle::judge::Verdict;
use crate::trace;
use crate::world::Boot;
use hotfire::protocol::Command;
use hotfire::protocol::body;
use hotfire::protocol::code::{request_code as request, response_code as code};
use hotfire::protocol::frame::Serialize;
use hotfire::remoting::{Client, ClientOptions, ClientRequests, Error, Peer};
use hotfire::rt::rng::Rng;
use hotfire::rt::sim::mark;
use hotfire::rt::sync::Mutex;
use hotfire::rt::task::TaskGroup;
use hotfire::rt::time::{Clock, Duration};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

const GROUP: &str = "walkers";
pub(super) const TIMEOUT: Duration = Duration::from_secs(12);

/// What has no answer may still arrive within this.
pub(super) const LATE_MS: u64 = 8_000;

/// Queues that a walker commits: more than a topic has here.
const QUEUES: i32 = 8;

/// Those who make topics at each broker: more than one, so that registrations meet.
const MAKERS: usize = 2;

/// One process's part in it, with one broker.
#[derive(Clone)]
pub(super) struct Party {
    pub house: ClusterHouse,
    pub broker: usize,
    pub machine: usize,
    pub generation: u64,
    addr: String,
    clock: Clock,
    /// What it asks as an operator, on a connection of its own.
    pub client: Client,
}

/// What the broker asks.
pub(super) struct Ear {
    pub house: ClusterHouse,
    pub id: String,
    pub clock: Clock,
    pub dice: Mutex<Rng>,
    /// The tables of offsets it was told.
    told: Mutex<Vec<Value>>,
    /// Since when its heartbeats are taken, without a break. Units: microseconds.
    member_since: Mutex<Option<u64>>,
}

impl Ear {
    fn on_beat(&self, is_taken: bool) {
        let mut since = self.member_since.lock();
        *since = is_taken.then(|| since.unwrap_or_else(trace::now_us));
    }

    pub(super) fn is_member_since(&self, at_us: u64) -> bool {
        self.member_since.lock().is_some_and(|since| since <= at_us)
    }
}

impl ClientRequests for Ear {
    fn on_request(&self, peer: &Peer, request: Command) {
        match request.code {
            request::PUSH_REPLY_MESSAGE_TO_CLIENT => {
                let properties = request.get("properties").unwrap_or_default();
                let items = properties.split('\u{2}').filter_map(|i| i.split_once('\u{1}'));
                let number = items.clone().find(|(name, _)| *name == "CORRELATION_ID");
                let number = number.map_or("", |(_, value)| value);
                let answer = i32::from(self.dice.lock().chance(0.15));
                let body = &request.body;
                let mut calls = self.house.0.calls.lock();
                let judged = calls.on_pushed(&self.id, number, body, answer);
                drop(calls);
                self.house.court().check("calls", judged);
                let answer = Command::reply(request.opaque, answer);
                peer.with_outbox(|out| answer.encode(Serialize::Json, out));
            }
            request::RESET_CONSUMER_CLIENT_OFFSET => {
                let table: Value = body::decode(&request.body).unwrap_or_default();
                self.told.lock().push(table);
            }
            request::GET_CONSUMER_RUNNING_INFO | request::CONSUME_MESSAGE_DIRECTLY => {
                self.on_question(peer, request);
            }
            request::GET_CONSUMER_STATUS_FROM_CLIENT => self.on_status(peer, &request),
            _ => {}
        }
    }

    fn on_close(&self, _: &Peer) {
        self.on_beat(false);
    }
}

/// Starts what this process does with every broker.
pub fn start(house: &ClusterHouse, boot: &Boot, group: &TaskGroup, rng: &mut Rng) {
    for broker in house.machines(crate::plan::Role::Broker) {
        let connect = |rng: &mut Rng, ear: Option<Arc<dyn ClientRequests>>| {
            Client::new(&boot.net, &boot.clock, group, ClientOptions::swarm(rng), ear)
        };
        let party = Party {
            house: house.clone(),
            broker,
            machine: boot.machine,
            generation: boot.generation,
            addr: format!("{}:{BROKER_PORT}", ip(broker)),
            clock: boot.clock.clone(),
            client: connect(rng, None),
        };
        let id = format!("caller-{}-{broker}-{}", boot.machine, boot.generation);
        house.0.calls.lock().on_asker(&id, boot.machine, boot.generation);
        let ear = Arc::new(Ear {
            house: house.clone(),
            id: id.clone(),
            clock: boot.clock.clone(),
            dice: Mutex::new(Rng::from_seed(rng.next_u64())),
            told: Mutex::default(),
            member_since: Mutex::default(),
        });
        let own = connect(rng, Some(ear.clone()));
        let mut dice = || Rng::from_seed(rng.next_u64());
        group.spawn(party.clone().live(own, id.clone(), ear.clone()));
        group.spawn(party.clone().inquire(dice(), id, ear.clone()));
        group.spawn(party.clone().configure(dice()));
        group.spawn(party.clone().reply(dice()));
        group.spawn(party.clone().walk(dice(), ear.clone()));
        group.spawn(party.clone().stall(dice(), ear));
        for who in 0..MAKERS {
            group.spawn(party.clone().make(dice(), who));
        }
        for name in ["a", "b"] {
            let id = format!("{name}-{}-{}", boot.machine, boot.generation);
            group.spawn(party.clone().lock(dice(), id));
        }
    }
}

impl Party {
    pub(super) async fn ask(&self, request: Command) -> Result<Command, Error> {
        self.client.invoke(&self.addr, request, TIMEOUT).await
    }

    pub(super) async fn pause(&self, ms: u64) {
        self.clock.sleep_until(self.clock.mono() + Duration::from_millis(ms)).await;
    }

    pub(super) fn check(&self, verdict: Verdict) {
        self.house.court().check("calls", verdict);
    }

    /// Power losses and starts of the broker.
    pub(super) fn lives(&self) -> (u64, u64) {
        let world = self.house.world();
        (world.power_losses(self.broker), world.generation(self.broker))
    }

    fn group(&self) -> String {
        format!("{GROUP}-{}-{}", self.machine, self.generation)
    }

    /// Heartbeats: it consumes in groups of its own, and waits for replies.
    async fn live(self, own: Client, id: String, ear: Arc<Ear>) {
        let topic = topic_name(0);
        let shared = super::questions::SHARED_GROUP.to_owned();
        let groups = [self.group(), self.stalling_group(), shared].map(|group| {
            format!(
                "{{\"groupName\":\"{group}\",\"consumeType\":\"CONSUME_PASSIVELY\",\
                 \"messageModel\":\"CLUSTERING\",\"subscriptionDataSet\":\
                 [{{\"topic\":\"{topic}\",\"subString\":\"*\",\"subVersion\":1}}]}}"
            )
        });
        let beat = format!(
            "{{\"clientID\":\"{id}\",\"producerDataSet\":[{{\"groupName\":\"askers\"}}],\
             \"consumerDataSet\":[{}]}}",
            groups.join(",")
        );
        loop {
            let request = Command::request(request::HEART_BEAT).with_body(beat.clone());
            let answer = own.invoke(&self.addr, request, Duration::from_secs(2)).await;
            ear.on_beat(answer.is_ok_and(|answer| answer.code == code::SUCCESS));
            self.pause(400).await;
        }
    }

    /// Answers whoever may wait here or anywhere.
    async fn reply(self, mut dice: Rng) {
        loop {
            self.pause(dice.between(20, 600)).await;
            let phase = self.house.phase();
            let askers = self.house.0.calls.lock().askers();
            let (to, machine, generation) = dice.pick(&askers).clone();
            let (number, body) = self.house.0.calls.lock().on_reply(&to);
            let properties = format!(
                "MSG_TYPE\u{1}reply\u{2}CORRELATION_ID\u{1}{number}\u{2}REPLY_TO_CLIENT\u{1}{to}"
            );
            let request = Command::request(request::SEND_REPLY_MESSAGE_V2)
                .with_ext("a", "repliers")
                .with_ext("b", "DefaultCluster_REPLY_TOPIC")
                .with_ext("c", "TBW102")
                .with_ext("d", 4)
                .with_ext("e", 0)
                .with_ext("f", 0)
                .with_ext("g", 1)
                .with_ext("h", 0)
                .with_ext("i", properties)
                .with_body(body);
            let Ok(answer) = self.ask(request).await else { continue };
            let judged = self.house.0.calls.lock().on_reply_answered(number, answer.code);
            self.check(judged);
            let is_there = self.house.world().generation(machine) == generation
                && to.starts_with(&format!("caller-{machine}-{}-", self.broker));
            let remark = answer.remark.unwrap_or_default();
            if phase == Phase::Prompt && is_there && remark.contains("not found") {
                self.check(Err(format!("the broker does not find {to}, which waits: {remark}")));
            }
        }
    }

    pub(super) async fn number(&self, code: i32, queue: i32) -> Option<i64> {
        let request = Command::request(code)
            .with_ext("consumerGroup", self.group())
            .with_ext("topic", topic_name(0))
            .with_ext("queueId", queue);
        let answer = self.ask(request).await.ok()?;
        (answer.code == code::SUCCESS).then(|| answer.get("offset")?.parse().ok())?
    }

    pub(super) async fn commit(&self, group: &str, queue: i32, offset: i64) -> bool {
        let request = Command::request(request::UPDATE_CONSUMER_OFFSET)
            .with_ext("consumerGroup", group)
            .with_ext("topic", topic_name(0))
            .with_ext("queueId", queue)
            .with_ext("commitOffset", offset);
        self.ask(request).await.is_ok_and(|answer| answer.code == code::SUCCESS)
    }

    /// Commits, asks for resets, and looks what the broker has: a reset by itself moves nothing.
    async fn walk(self, mut dice: Rng, ear: Arc<Ear>) {
        loop {
            self.pause(dice.between(50, 700)).await;
            let lives = self.lives();
            let mut committed = BTreeMap::new();
            for queue in 0..QUEUES {
                let Some(end) = self.number(request::GET_MAX_OFFSET, queue).await else { break };
                let offset = dice.below(end as u64 + 1) as i64;
                if !self.commit(&self.group(), queue, offset).await {
                    break;
                }
                committed.insert(queue, (offset, end));
            }
            if committed.len() < QUEUES as usize {
                // What had no answer may still be on its way.
                self.pause(LATE_MS).await;
                continue;
            }
            let (at, is_force) = (if dice.chance(0.5) { 0 } else { -1 }, dice.chance(0.5));
            let request = Command::request(request::INVOKE_BROKER_TO_RESET_OFFSET)
                .with_ext("topic", topic_name(0))
                .with_ext("group", self.group())
                .with_ext("timestamp", at)
                .with_ext("isForce", is_force);
            let Ok(answer) = self.ask(request).await else { continue };
            let mut found = BTreeMap::new();
            for queue in 0..QUEUES {
                let offset = self.number(request::QUERY_CONSUMER_OFFSET, queue).await;
                found.insert(queue, offset);
            }
            if self.lives() != lives {
                continue;
            }
            self.check(self.judge_walk(&committed, &found));
            if answer.code == code::SUCCESS {
                let table: Value = body::decode(&answer.body).unwrap_or_default();
                self.check(judge_targets(&table, &committed, at, is_force));
                self.is_told(&table, &ear).await;
            }
        }
    }

    fn judge_walk(
        &self,
        committed: &BTreeMap<i32, (i64, i64)>,
        found: &BTreeMap<i32, Option<i64>>,
    ) -> Verdict {
        for (queue, (offset, _)) in committed {
            let Some(Some(found)) = found.get(queue) else { continue };
            if found != offset {
                let group = self.group();
                return Err(format!(
                    "{group} committed {offset} of queue {queue}, the broker has {found}"
                ));
            }
        }
        Ok(())
    }

    /// Whoever is a member gets the same table as the operator, soon when nothing disturbs.
    async fn is_told(&self, table: &Value, ear: &Ear) {
        let is_quiet = self.house.phase() == Phase::Prompt;
        for _ in 0..20 {
            if ear.told.lock().iter().any(|told| told == table) {
                mark("calls: a reset was told to a member");
                ear.told.lock().clear();
                return;
            }
            self.pause(100).await;
        }
        if is_quiet && self.house.phase() == Phase::Prompt {
            let group = self.group();
            self.check(Err(format!("a reset of {group} was answered and not told: {table}")));
        }
    }

    /// Locks one queue against everybody else, keeps it for a while, gives it back or goes silent.
    async fn lock(self, mut dice: Rng, id: String) {
        let lifetime = || self.house.0.progress.lock().lock_lifetime.get(&self.broker).copied();
        while lifetime().is_none() {
            self.pause(100).await;
        }
        let lifetime_us = lifetime().unwrap_or_default().as_micros() as u64;
        let queue = "[{\"topic\":\"locked\",\"brokerName\":\"b\",\"queueId\":0}]";
        let body =
            format!("{{\"consumerGroup\":\"lockers\",\"clientId\":\"{id}\",\"mqSet\":{queue}}}");
        let ask = |code: i32| self.ask(Command::request(code).with_body(body.clone()));
        loop {
            self.pause(dice.between(100, lifetime_us / 1_500)).await;
            let (asked_us, before) = (trace::now_us(), self.lives());
            self.house.0.calls.lock().on_lock_asked(self.broker, &id);
            let answer = ask(request::LOCK_BATCH_MQ).await;
            let answered_us = trace::now_us();
            let Ok(answer) = answer else {
                let until_us = answered_us + lifetime_us + LATE_MS * 1_000;
                self.house.0.calls.lock().on_lock_unknown(self.broker, &id, until_us);
                continue;
            };
            let held: Value = body::decode(&answer.body).unwrap_or_default();
            let is_given = held["lockOKMQSet"].as_array().is_some_and(|held| !held.is_empty());
            let lives = (before, self.lives());
            let asked = Asked { asked_us, answered_us, lives, lifetime_us };
            let judged = match answer.code {
                code::SUCCESS => {
                    let mut calls = self.house.0.calls.lock();
                    calls.on_lock(self.broker, &id, is_given, &asked)
                }
                _ => Ok(()),
            };
            self.check(judged);
            if is_given && dice.chance(0.3) {
                self.house.0.calls.lock().on_unlock(self.broker, &id, None);
                let is_done = ask(request::UNLOCK_BATCH_MQ).await.is_ok();
                let done_us = is_done.then(trace::now_us);
                self.house.0.calls.lock().on_unlock(self.broker, &id, done_us);
                if !is_done {
                    self.pause(LATE_MS).await;
                }
            } else if is_given && dice.chance(0.3) {
                self.pause(lifetime_us / 1_000 + dice.below(1_000)).await;
            }
        }
    }
}

/// Back to the time that was asked for, forward only when forced.
fn judge_targets(
    table: &Value,
    committed: &BTreeMap<i32, (i64, i64)>,
    at: i64,
    is_force: bool,
) -> Verdict {
    let rows = table["offsetTable"].as_object();
    for (key, target) in rows.into_iter().flatten() {
        let key: Value = serde_json::from_str(key).unwrap_or_default();
        let queue = key["queueId"].as_i64().unwrap_or(-1) as i32;
        let target = target.as_i64().unwrap_or(-1);
        let Some(&(offset, end)) = committed.get(&queue) else { continue };
        let is_right = match (at, is_force) {
            (0, _) => target == 0,
            (_, true) => target >= end,
            (_, false) => target == offset,
        };
        if !is_right {
            return Err(format!(
                "queue {queue} of {end} messages, committed {offset}: a reset to {at}, force \
                 {is_force}, tells {target}"
            ));
        }
    }
    Ok(())
}
