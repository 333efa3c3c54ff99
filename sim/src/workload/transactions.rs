//! Producers with transactions: what they want, how they end it, and what they answer when asked.

use super::client::Since;
use super::cluster::{BROKER_PORT, ClusterHouse, ip};
use crate::history::{self, Fate, Grade, History, Id, Place, Promise, Transaction, Wish};
use crate::oracle::delay::property;
use crate::oracle::files::{self, Record};
use crate::oracle::{judge, transaction};
use crate::plan::Role;
use crate::scenario::Oracle;
use crate::trace;
use crate::world::Boot;
use hotfire::broker::options::TransactionOptions;
use hotfire::protocol::Command;
use hotfire::protocol::code::{request_code as request, response_code as code};
use hotfire::remoting::{self, ClientRequests, Peer};
use hotfire::rt::rng::Rng;
use hotfire::rt::sim::mark;
use hotfire::rt::sync::mpsc;
use hotfire::rt::task::TaskGroup;
use hotfire::rt::time::{Clock, Duration};
use std::sync::Arc;

/// Everything has been asked for, or discarded, this long after the last send.
pub const ENDED: Duration = Duration::from_secs(20);

/// Producer groups; every client is a member of each.
const GROUPS: u64 = 2;
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Beyond the rounds of the broker, a transaction that is asked for is delivered within this.
const ASKED_SLACK: Duration = Duration::from_secs(8);

/// How a broker asks in one run.
pub fn options(swarm: u64) -> TransactionOptions {
    let mut dice = Rng::from_seed(swarm ^ 0x7a05);
    let ms = |dice: &mut Rng, from, to| Duration::from_millis(dice.between(from, to));
    let mut options = TransactionOptions {
        timeout: ms(&mut dice, 50, 2_000),
        check_interval: ms(&mut dice, 100, 1_500),
        check_max: dice.between(3, 7) as i32,
        turn_count_max: 1 << dice.below(5),
        retry_pause: ms(&mut dice, 20, 400),
        ..TransactionOptions::default()
    };
    if dice.chance(0.2) {
        options.window_max = dice.between(8, 40) as usize;
    }
    options
}

fn group_name(group: u64) -> String {
    format!("transactions-{group}")
}

/// Draws how a transaction shall end. Gives the properties of its half message.
pub fn begin(
    house: &ClusterHouse,
    id: Id,
    is_calm: bool,
    dice: &mut Rng,
) -> Vec<(&'static str, String)> {
    let wishes: &[Wish] = match is_calm {
        true => &[Wish::Commit, Wish::CommitAsked],
        false => &[
            Wish::Commit,
            Wish::Commit,
            Wish::Commit,
            Wish::Commit,
            Wish::Rollback,
            Wish::Rollback,
            Wish::CommitAsked,
            Wish::CommitAsked,
            Wish::RollbackAsked,
            Wish::Never,
            Wish::CommitLate,
            Wish::CommitLate,
            Wish::Both,
        ],
    };
    let wish = *dice.pick(wishes);
    let group = id % GROUPS;
    let immune_s = if dice.chance(0.1) { dice.between(1, 2) } else { 0 };
    let one = Transaction {
        wish,
        group,
        decision: None,
        commit_asked: false,
        rollback_asked: false,
        committed: None,
        rolled_back: None,
        sent_us: trace::now_us(),
        immune_us: immune_s * 1_000_000,
        is_calm,
    };
    house.court().history(|history| {
        history.transactions.insert(id, one);
        history.sent[id as usize].copies_max = 1;
    });
    let mut properties = vec![("TRAN_MSG", "true".to_owned()), ("PGROUP", group_name(group))];
    if immune_s > 0 {
        properties.push(("CHECK_IMMUNITY_TIME_IN_SECONDS", immune_s.to_string()));
    }
    properties
}

/// Whether a client has seen the end of an acked half message, as far as there is one to be seen.
pub fn has_ended(one: &Transaction, history: &History, client: usize, id: Id) -> bool {
    let is_delivered = history.delivered.contains(&(client, id));
    let is_discarded = history.discarded.contains(&(client, id));
    match one.wish {
        Wish::Rollback | Wish::RollbackAsked | Wish::Both => true,
        Wish::Never => is_discarded,
        // Who could not be asked as often as the broker does has lost its chance.
        Wish::Commit | Wish::CommitAsked | Wish::CommitLate => {
            is_delivered || (is_discarded && !one.is_calm)
        }
    }
}

/// A reader was given a message of a transaction.
pub fn on_read(
    client: usize,
    record: &Record,
    id: Id,
    history: &mut History,
) -> Result<(), String> {
    let Some(one) = history.transactions.get(&id) else { return Ok(()) };
    if record.topic == transaction::DISCARDED {
        history.discarded.insert((client, id));
        return Ok(());
    }
    let topic = &record.topic;
    if !one.commit_asked {
        return Err(format!("message {id} is seen in {topic}, and nobody has committed it"));
    }
    if !transaction::is_committed(record) {
        return Err(format!("message {id} is seen in {topic} without the mark of a commit"));
    }
    mark("transaction: a committed message was read");
    history.delivered.insert((client, id));
    Ok(())
}

/// Where a half message lies.
#[derive(Clone, Debug)]
struct Half {
    machine: usize,
    queue_offset: u64,
    physical: u64,
    /// The message's unique id.
    unique: String,
}

/// What a broker asked: the half message, its number and its group.
struct Question {
    half: Half,
    id: Id,
}

/// One client process as a member of every producer group, with a connection for each.
#[derive(Clone)]
pub struct Members {
    house: ClusterHouse,
    machine: usize,
    name: String,
    clock: Clock,
    tasks: TaskGroup,
    clients: Vec<remoting::Client>,
}

/// Hears the questions of brokers.
struct Ear {
    house: ClusterHouse,
    /// Who may ask.
    brokers: Vec<usize>,
    group: u64,
    questions: mpsc::UnboundedSender<Question>,
}

impl ClientRequests for Ear {
    fn on_request(&self, peer: &Peer, request: Command) {
        if request.code != request::CHECK_TRANSACTION_STATE {
            return;
        }
        match self.understand(peer, &request) {
            // The receiver lives as long as the process.
            Ok(question) => drop(self.questions.send(question)),
            Err(what) => self.house.court().check("transactions", Err(what)),
        }
    }
}

impl Ear {
    /// Errors: what is wrong with it.
    fn understand(&self, peer: &Peer, request: &Command) -> Result<Question, String> {
        let machine = self.brokers.iter().copied().find(|n| ip(*n) == peer.addr().ip());
        let machine = machine.ok_or("a question from no broker")?;
        let number = |name: &str| {
            let text = request.get(name).unwrap_or_default();
            text.parse::<u64>().map_err(|_| format!("a question with {name} {text:?}"))
        };
        let half = Half {
            machine,
            queue_offset: number("tranStateTableOffset")?,
            physical: number("commitLogOffset")?,
            unique: request.get("msgId").unwrap_or_default().to_owned(),
        };
        let record = files::split(&request.body)?.pop().ok_or("a question about nothing")?;
        let id = history::id_in(&record.properties).ok_or("a question about no message")?;
        if (record.physical, record.queue_offset) != (half.physical, half.queue_offset) {
            return Err(format!("a question about message {id} names another place"));
        }
        if property(&record, "UNIQ_KEY") != Some(half.unique.as_str()) {
            return Err(format!("a question about message {id} has id {:?}", half.unique));
        }
        let is_steady = !self.house.court().delays(machine).clock_steps;
        let timeout = {
            let progress = self.house.0.progress.lock();
            progress.check_terms.get(&machine).map_or(Duration::ZERO, |terms| terms.timeout)
        };
        self.house.court().history(|history| {
            judge::is_what_was_sent(&record, id, history)?;
            let one = history.transactions.get(&id);
            let one = one.ok_or_else(|| format!("a question about message {id}, a plain one"))?;
            if one.group != self.group {
                let (asked, group) = (self.group, one.group);
                return Err(format!("group {asked} is asked for message {id} of group {group}"));
            }
            let waited = trace::now_us() - one.sent_us;
            let least = match one.immune_us {
                0 => timeout.as_micros() as u64,
                immune => immune,
            };
            if is_steady && waited + 1_000 < least {
                return Err(format!(
                    "message {id} is asked for after {waited} us, {least} us is the least"
                ));
            }
            Ok(())
        })?;
        mark("transaction: a producer was asked");
        trace::event("tx", format_args!("asked for message {id}, {half:?}"));
        Ok(Question { half, id })
    }
}

impl Members {
    /// A member of every group at each of these brokers.
    pub fn start(
        house: &ClusterHouse,
        boot: &Boot,
        tasks: &TaskGroup,
        brokers: Vec<usize>,
    ) -> Members {
        let (questions, mut asked) = mpsc::unbounded_channel();
        let clients = (0..GROUPS).map(|group| {
            let (house, brokers) = (house.clone(), brokers.clone());
            let ear = Arc::new(Ear { house, brokers, group, questions: questions.clone() });
            let options = remoting::ClientOptions::default();
            remoting::Client::new(&boot.net, &boot.clock, tasks, options, Some(ear))
        });
        let members = Members {
            house: house.clone(),
            machine: boot.machine,
            name: boot.name.clone(),
            clock: boot.clock.clone(),
            tasks: tasks.clone(),
            clients: clients.collect(),
        };
        for group in 0..GROUPS {
            for broker in &brokers {
                tasks.spawn(members.clone().stay(group, *broker));
            }
        }
        let answering = members.clone();
        tasks.spawn(async move {
            while let Some(question) = asked.recv().await {
                let members = answering.clone();
                answering.tasks.spawn(async move { members.answer(question).await });
            }
        });
        members
    }

    async fn pause(&self, ms: u64) {
        self.clock.sleep_until(self.clock.mono() + Duration::from_millis(ms)).await;
    }

    /// Heartbeats of one group to one broker.
    async fn stay(self, group: u64, broker: usize) {
        let (machine, name) = (self.machine, group_name(group));
        loop {
            let body = format!(
                "{{\"clientID\":\"tx-{machine}-{group}\",\"consumerDataSet\":[],\
                 \"producerDataSet\":[{{\"groupName\":\"{name}\"}}]}}"
            );
            let beat = Command::request(request::HEART_BEAT).with_body(body);
            let told = self.clients[group as usize].invoke(&addr(broker), beat, TIMEOUT).await;
            self.pause(if told.is_ok() { 1_000 } else { 200 }).await;
        }
    }

    /// The half message was sent; now its transaction is ended, or not.
    pub fn on_fate(&self, id: Id, fate: Fate, (queue, unique): (u32, String), dice: &mut Rng) {
        let house = &self.house;
        let Fate::Acked { place, .. } = fate else {
            // Its local transaction does not run.
            house
                .court()
                .history(|h| h.transactions.get_mut(&id).map(|t| t.decision = Some(false)));
            return;
        };
        let half = Half {
            machine: place.machine,
            queue_offset: place.queue_offset,
            physical: place.physical,
            unique,
        };
        let (members, dice) = (self.clone(), Rng::from_seed(dice.next_u64()));
        self.tasks.spawn(async move { members.finish(id, half, dice).await });
        let (house, topic) =
            (house.clone(), house.court().history(|h| h.sent[id as usize].topic.clone()));
        self.tasks.spawn(is_resolved_soon(house, id, topic, Place { queue, ..place }));
    }

    async fn finish(&self, id: Id, half: Half, mut dice: Rng) {
        let house = &self.house;
        let wish = house.court().history(|h| h.transactions[&id].wish);
        let decide = |commit| {
            house
                .court()
                .history(|h| h.transactions.get_mut(&id).map(|one| one.decision = Some(commit)));
        };
        match wish {
            Wish::Commit | Wish::CommitAsked => decide(true),
            Wish::Rollback | Wish::RollbackAsked => decide(false),
            Wish::Never | Wish::CommitLate | Wish::Both => {}
        }
        match wish {
            Wish::Commit => self.end(id, &half, true, &mut dice).await,
            Wish::Rollback => self.end(id, &half, false, &mut dice).await,
            Wish::CommitAsked | Wish::RollbackAsked | Wish::Never => {}
            Wish::CommitLate => {
                let terms = house.0.progress.lock().check_terms.get(&half.machine).cloned();
                let terms = terms.unwrap_or_default();
                let wait = terms.timeout + terms.check_interval;
                let spread = dice.between(0, 2 * terms.check_interval.as_millis() as u64);
                self.pause(wait.as_millis() as u64 + spread).await;
                mark("transaction: a late end");
                decide(true);
                self.end(id, &half, true, &mut dice).await;
            }
            Wish::Both => {
                let first = dice.chance(0.5);
                decide(first);
                self.end(id, &half, first, &mut dice).await;
                self.pause(dice.below(300)).await;
                self.end(id, &half, !first, &mut dice).await;
            }
        }
    }

    async fn answer(&self, question: Question) {
        let Question { half, id } = question;
        let decision = self.house.court().history(|h| h.transactions[&id].decision);
        match decision {
            Some(commit) => {
                let mut dice = Rng::from_seed(half.physical ^ id);
                self.end(id, &half, commit, &mut dice).await;
            }
            // An unknown state: it gets no answer.
            None => {
                let group = self.house.court().history(|h| h.transactions[&id].group);
                let unknown = end_request(group, &half, 0).oneway();
                let client = &self.clients[group as usize];
                let _ = client.oneway(&addr(half.machine), unknown, TIMEOUT).await;
            }
        }
    }

    /// Asks once, or once more when no answer comes.
    async fn end(&self, id: Id, half: &Half, commit: bool, dice: &mut Rng) {
        let house = &self.house;
        let tries = if dice.chance(0.5) { 2 } else { 1 };
        for _ in 0..tries {
            let group = house.court().history(|history| {
                let one = history.transactions.get_mut(&id).expect("it was begun");
                one.commit_asked |= commit;
                one.rollback_asked |= !commit;
                one.group
            });
            let since = Since::now(house, half.machine);
            let state = if commit { 8 } else { 12 };
            let request = end_request(group, half, state);
            let client = &self.clients[group as usize];
            match client.invoke(&addr(half.machine), request, TIMEOUT).await {
                Ok(answer) => {
                    let (code, remark) = (answer.code, answer.remark.unwrap_or_default());
                    let told = format_args!("end of {id}, commit {commit}: {code} {remark}");
                    trace::event(&self.name, told);
                    if code == code::SUCCESS {
                        self.on_ended(id, half.machine, commit, since);
                    }
                    return;
                }
                Err(error) => {
                    let told = format_args!("end of {id}, commit {commit}: {error}");
                    trace::event(&self.name, told);
                }
            }
            self.pause(dice.between(50, 400)).await;
        }
    }

    fn on_ended(&self, id: Id, machine: usize, commit: bool, since: Since) {
        let house = &self.house;
        let sync = house.0.plan.machines[machine].sync_flush;
        let grade = if sync { Grade::Synced } else { Grade::Written };
        if grade == Grade::Written && since != Since::now(house, machine) {
            // A crash overtook the answer: it promises nothing any more.
            return;
        }
        mark("transaction: an end was acked");
        house.world().note_ack(machine);
        if house.court().wants(Oracle::Reigns) {
            // The next master may not have it, and asks for it then.
            return;
        }
        let Since { power_losses, generation } = since;
        let promise = Some(Promise { machine, grade, power_losses, generation });
        house.court().history(|history| {
            let Some(one) = history.transactions.get_mut(&id) else { return };
            let slot = if commit { &mut one.committed } else { &mut one.rolled_back };
            *slot = promise;
        });
        house.court().moved();
    }
}

fn addr(machine: usize) -> String {
    format!("{}:{BROKER_PORT}", ip(machine))
}

fn end_request(group: u64, half: &Half, state: i32) -> Command {
    Command::request(request::END_TRANSACTION)
        .with_ext("producerGroup", group_name(group))
        .with_ext("tranStateTableOffset", half.queue_offset)
        .with_ext("commitLogOffset", half.physical)
        .with_ext("commitOrRollback", state)
        .with_ext("fromTransactionCheck", true)
        .with_ext("msgId", &half.unique)
}

/// Once nothing is wrong any more, a commit that waits for a question comes with the second round
/// at the latest. Who has not found the queue yet has no reader.
async fn is_resolved_soon(house: ClusterHouse, id: Id, topic: String, place: Place) {
    let (is_calm, immune_us) = house.court().history(|h| {
        let one = &h.transactions[&id];
        (one.is_calm, one.immune_us)
    });
    if !is_calm {
        return;
    }
    let mut clients = house.machines(Role::Client);
    let terms = {
        let progress = house.0.progress.lock();
        clients.retain(|client| {
            let reading = (*client, place.machine, topic.clone(), place.queue);
            progress.read_to.contains_key(&reading)
        });
        progress.check_terms.get(&place.machine).cloned().unwrap_or_default()
    };
    let immune = Duration::from_micros(immune_us);
    let wait = terms.timeout + immune + terms.check_interval * 2 + ASKED_SLACK;
    madsim::time::sleep(wait).await;
    for client in clients {
        if !house.court().history(|h| h.delivered.contains(&(client, id))) {
            let ms = wait.as_millis();
            let what = format!("transaction {id} did not come to client {client} within {ms} ms");
            house.court().check("liveness", Err(what));
            return;
        }
    }
}
