//! What an operator asks of consumers through the broker, and of the broker's configuration.

use super::callers::{Ear, Party};
use super::cluster::{BROKER_PORT, Phase, ip, topic_name};
use crate::history::{self, Fate};
use crate::oracle::questions::{ConfigAsked, Kind};
use crate::trace;
use hotfire::format::message_id;
use hotfire::format::message_unit::{self, Unit};
use hotfire::model::PhysicalOffset;
use hotfire::protocol::Command;
use hotfire::protocol::body;
use hotfire::protocol::code::{request_code as request, response_code as code};
use hotfire::protocol::frame::Serialize;
use hotfire::remoting::Peer;
use hotfire::rt::rng::Rng;
use hotfire::rt::sim::mark;
use hotfire::rt::time::Duration;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;

/// Every caller of a broker is a member of it.
pub const SHARED_GROUP: &str = "questioned";

/// The key that operators change.
pub const KEY: &str = "waitTimeMillsInPullQueue";

/// How a member says that it answers.
const REMARK: &str = "as asked";

impl Ear {
    /// A question for a member: it answers, late or with a code of its own, or says nothing.
    pub(super) fn on_question(&self, peer: &Peer, request: Command) {
        let number = request.get("nonce").and_then(|n| n.parse().ok());
        let (code, late_ms) = {
            let mut dice = self.dice.lock();
            (i32::from(dice.chance(0.15)), if dice.chance(0.3) { dice.below(2_000) } else { 0 })
        };
        let is_silent = self.dice.lock().chance(0.08);
        let record = match message_unit::decode(&request.body, asked_at(&request), true) {
            Ok(Unit::Record(view)) => Some((view.physical_offset().0, view.body().to_vec())),
            _ => None,
        };
        let given = if is_silent { None } else { Some(code) };
        let judged = self.house.0.calls.lock().on_question(&self.id, number, given, record);
        self.house.court().check("calls", judged);
        if is_silent {
            return;
        }
        let text = format!("{}:{}", self.id, number.unwrap_or_default());
        let mut answer = Command::reply(request.opaque, code).with_body(text);
        answer.remark = Some(REMARK.to_owned());
        self.give(peer, answer, late_ms);
    }

    /// Where it is: a number that it never said before. Now and then it says nothing.
    pub(super) fn on_status(&self, peer: &Peer, request: &Command) {
        let late_ms = if self.dice.lock().chance(0.3) { self.dice.lock().below(1_500) } else { 0 };
        let is_silent = self.dice.lock().chance(0.1);
        let given_us = (!is_silent).then(|| trace::now_us() + late_ms * 1_000);
        let said = self.house.0.calls.lock().on_status(&self.id, given_us);
        if is_silent {
            return;
        }
        let text = format!("{{\"messageQueueTable\":{{\"here\":{said}}}}}");
        self.give(peer, Command::reply(request.opaque, code::SUCCESS).with_body(text), late_ms);
    }

    fn give(&self, peer: &Peer, answer: Command, late_ms: u64) {
        let (to, clock) = (peer.clone(), self.clock.clone());
        let work = async move {
            clock.sleep_until(clock.mono() + Duration::from_millis(late_ms)).await;
            to.with_outbox(|out| answer.encode(Serialize::Json, out));
        };
        peer.spawn(0, work, |_, _| {});
    }
}

/// The offset in the id of a question.
fn asked_at(request: &Command) -> PhysicalOffset {
    let id = request.get("msgId").unwrap_or_default();
    message_id::parse_offset_id(id).map_or(PhysicalOffset(0), |(_, at)| at)
}

impl Party {
    /// Asks members what they do, and has them consume a message.
    pub(super) async fn inquire(self, mut dice: Rng, own: String, ear: Arc<Ear>) {
        loop {
            self.pause(dice.between(30, 800)).await;
            if dice.chance(0.3) {
                self.ask_status(&own, &ear).await;
                continue;
            }
            let askers = self.house.0.calls.lock().askers();
            let to = match dice.chance(0.5) {
                true => own.clone(),
                false => dice.pick(&askers).0.clone(),
            };
            let direct = if dice.chance(0.5) { self.some_message(&mut dice) } else { None };
            let kind = direct.clone().map_or(Kind::Info, |(at, body, _)| Kind::Direct { at, body });
            let number = self.house.0.calls.lock().ask(&to, kind);
            let request = match &direct {
                None => Command::request(request::GET_CONSUMER_RUNNING_INFO),
                Some((at, ..)) => {
                    let host = SocketAddr::new(ip(self.broker), BROKER_PORT);
                    let id = message_id::offset_id(host, PhysicalOffset(*at));
                    Command::request(request::CONSUME_MESSAGE_DIRECTLY).with_ext("msgId", id)
                }
            };
            let request = request
                .with_ext("consumerGroup", SHARED_GROUP)
                .with_ext("clientId", &to)
                .with_ext("nonce", number);
            let (from_us, phase) = (trace::now_us(), self.house.phase());
            let Ok(answer) = self.ask(request).await else { continue };
            let is_clients = answer.remark.as_deref() == Some(REMARK);
            let said = is_clients.then(|| (answer.code, answer.body.to_vec()));
            let is_lost = direct.is_some_and(|(.., lost)| lost != self.lives().0);
            let is_calm = to == own
                && phase == Phase::Prompt
                && self.house.phase() == Phase::Prompt
                && ear.is_member_since(from_us)
                && !is_lost;
            let code = answer.code;
            let judged = self.house.0.calls.lock().on_answer(number, code, said, is_calm, is_lost);
            self.check(judged);
        }
    }

    /// A message that this broker has: where it lies, its body, and how often power was lost then.
    fn some_message(&self, dice: &mut Rng) -> Option<(u64, Vec<u8>, u64)> {
        self.house.court().history(|history| {
            let all = history.sent.iter().enumerate();
            let own: Vec<_> = all
                .filter_map(|(id, sent)| match sent.fate {
                    Fate::Acked { place, power_losses, .. } if place.machine == self.broker => {
                        Some((place.physical, id as u64, sent.size, power_losses))
                    }
                    _ => None,
                })
                .collect();
            if own.is_empty() {
                return None;
            }
            let (at, id, size, losses) = *dice.pick(&own);
            Some((at, history::body(id, size), losses))
        })
    }

    /// Where all members are: whoever answers is in the table, with what it said.
    async fn ask_status(&self, own: &str, ear: &Ear) {
        let request = Command::request(request::INVOKE_BROKER_TO_GET_CONSUMER_STATUS)
            .with_ext("topic", topic_name(0))
            .with_ext("group", SHARED_GROUP);
        let (from_us, lives) = (trace::now_us(), self.lives());
        let before = self.house.0.calls.lock().statuses(own);
        let Ok(answer) = self.ask(request).await else { return };
        if answer.code != code::SUCCESS {
            return;
        }
        let table: Value = body::decode(&answer.body).unwrap_or_default();
        let table = &table["consumerTable"];
        let found = self.house.0.calls.lock().on_status_table(table, own, before);
        let is_absent = found == Ok(false);
        let absence = self.house.0.calls.lock().judge_absence(own, before, from_us);
        self.check(found.map(|_| ()));
        // A broker that stops waits for nobody.
        let is_stopping = self.house.world().is_stopping(self.broker);
        if is_absent && absence.is_err() && !is_stopping {
            // Whoever was dropped hears of it by then.
            self.pause(3_000).await;
            if self.lives() == lives && ear.is_member_since(from_us) {
                self.check(absence);
            }
        }
    }

    /// Changes one key of the broker's configuration, and reads it.
    pub(super) async fn configure(self, mut dice: Rng) {
        loop {
            self.pause(dice.between(100, 1_500)).await;
            let asked_us = trace::now_us();
            if dice.chance(0.5) {
                let value = self.house.0.calls.lock().on_config_asked(self.broker, asked_us);
                let request = Command::request(request::UPDATE_BROKER_CONFIG)
                    .with_body(format!("{KEY}={value}"));
                let became = match self.ask(request).await {
                    Ok(answer) if answer.code == code::SUCCESS => ConfigAsked::Done,
                    Ok(_) => ConfigAsked::Refused,
                    Err(_) => ConfigAsked::Unknown,
                };
                let now_us = trace::now_us();
                self.house.0.calls.lock().on_config(self.broker, value, became, now_us);
                continue;
            }
            let Ok(answer) = self.ask(Command::request(request::GET_BROKER_CONFIG)).await else {
                continue;
            };
            if answer.code == code::SUCCESS {
                mark("calls: a configuration was read");
                let text = String::from_utf8_lossy(&answer.body).into_owned();
                let line = text.lines().find_map(|line| line.strip_prefix(KEY)?.strip_prefix('='));
                let value = line.and_then(|value| value.parse().ok());
                let judged = self.house.0.calls.lock().judge_config(self.broker, value, asked_us);
                self.check(judged);
            }
        }
    }
}
