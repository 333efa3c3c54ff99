//! Who looks at slaves: readers, and an audit of what they keep beside the log.

use super::super::client::Since;
use super::super::cluster::{BROKER_PORT, ClusterHouse, Phase, ip, topic_name};
use crate::history::{self, Fate, Grade, Reading, Seen};
use crate::oracle::court::ROOT;
use crate::oracle::{files, judge};
use crate::plan::Role;
use crate::trace;
use crate::world::Boot;
use hotfire::protocol::Command;
use hotfire::protocol::body;
use hotfire::protocol::code::{request_code as request, response_code as code};
use hotfire::remoting::{Client, ClientOptions};
use hotfire::rt::rng::Rng;
use hotfire::rt::sim::mark;
use hotfire::rt::task::TaskGroup;
use hotfire::rt::time::{Clock, Duration};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(6);
/// How long a pull at a slave waits. Units: milliseconds.
const SUSPEND_MS: u64 = 3_000;

/// Tables of a master are at its slave this long after the slave last looked.
const COPY_SLACK: Duration = Duration::from_secs(4);

/// A healthy slave refuses no reader for so long, whatever its master does. Units: microseconds.
const REFUSED_US: u64 = 2_000_000;

const GROUP: &str = "slave-readers";
/// Commits at the master alone: what a slave says of it comes from there.
const MASTERS_GROUP: &str = "master-readers";

/// Starts what looks at every slave.
pub fn start(house: &ClusterHouse, boot: &Boot, group: &TaskGroup) {
    for slave in house.machines(Role::Slave) {
        let swarm = house.0.plan.machines[slave].swarm;
        let mut rng = Rng::from_seed(swarm ^ (boot.generation << 24) ^ 0x51a7e);
        let options = ClientOptions::swarm(&mut rng);
        let client = Client::new(&boot.net, &boot.clock, group, options, None);
        let Some(pair) = house.court().pair(slave) else { continue };
        let look = Look {
            house: house.clone(),
            machine: boot.machine,
            name: boot.name.clone(),
            slave,
            master: pair.master,
            client,
            clock: boot.clock.clone(),
        };
        for topic in (0..house.0.plan.load.topics).map(topic_name) {
            for queue in 0..house.0.plan.load.queues as u32 {
                let dice = Rng::from_seed(rng.next_u64());
                group.spawn(look.clone().read(topic.clone(), queue, dice));
            }
        }
        group.spawn(look.audit(Rng::from_seed(rng.next_u64())));
    }
}

/// How a slave serves one reader.
#[derive(Default)]
struct Serving {
    /// The process that did; 0 is none.
    by: u64,
    /// Since when it does not. Units: microseconds.
    refused_us: Option<u64>,
}

/// Somebody who looks at one slave.
#[derive(Clone)]
struct Look {
    house: ClusterHouse,
    machine: usize,
    name: String,
    slave: usize,
    master: usize,
    client: Client,
    clock: Clock,
}

impl Look {
    async fn ask(&self, machine: usize, request: Command) -> Option<Command> {
        let addr = format!("{}:{BROKER_PORT}", ip(machine));
        self.client.invoke(&addr, request, TIMEOUT).await.ok()
    }

    async fn pause(&self, ms: u64) {
        self.clock.sleep_until(self.clock.mono() + Duration::from_millis(ms)).await;
    }

    fn recoveries(&self) -> usize {
        self.house.0.progress.lock().recoveries(self.slave)
    }

    fn reread(&self) -> u64 {
        self.house.0.progress.lock().reread
    }

    /// Reads a queue at the slave, whether its master is up or not.
    async fn read(self, topic: String, queue: u32, mut dice: Rng) {
        let (mut at, mut reread, mut recoveries) = (0u64, 0, self.recoveries());
        let mut serving = Serving::default();
        let key = (self.machine, self.slave, topic.clone(), queue);
        loop {
            if self.recoveries() != recoveries {
                let progress = self.house.0.progress.lock();
                let end = progress.lowest_end(&key, recoveries);
                (recoveries, at) = (progress.recoveries(self.slave), at.min(end.unwrap_or(0)));
            }
            if self.reread() != reread {
                (reread, at) = (self.reread(), 0);
            }
            let since = Since::now(&self.house, self.slave);
            let (may_wait, asked_us) = (dice.chance(0.7), trace::now_us());
            let request = Command::request(request::PULL_MESSAGE)
                .with_ext("consumerGroup", GROUP)
                .with_ext("topic", &topic)
                .with_ext("queueId", queue)
                .with_ext("queueOffset", at)
                .with_ext("maxMsgNums", dice.between(1, 32))
                .with_ext("sysFlag", 4 | if may_wait { 2 } else { 0 })
                .with_ext("commitOffset", 0)
                .with_ext("suspendTimeoutMillis", SUSPEND_MS)
                .with_ext("subscription", "*")
                .with_ext("subVersion", 0)
                .with_ext("expressionType", "TAG");
            let answer = self.ask(self.slave, request).await;
            if self.recoveries() != recoveries {
                continue;
            }
            self.judge_serving(&mut serving, (&topic, queue), asked_us, &answer);
            match answer {
                Some(answer) if answer.code == code::SUCCESS => {
                    let taken = self.take((&topic, queue), at, since, &answer.body);
                    let Ok(next) = taken else {
                        self.house.court().check("slave_reading", taken.map(|_| ()));
                        return;
                    };
                    at = next;
                    if !self.house.world().is_up(self.master) {
                        mark("ha: a slave served while its master was away");
                    }
                    self.on_read_to(&key, at);
                    if dice.chance(0.2) {
                        self.commit(&topic, queue, at).await;
                    }
                }
                Some(answer) if answer.code == code::PULL_OFFSET_MOVED => {
                    let next = answer.get("nextBeginOffset").and_then(|at| at.parse().ok());
                    at = next.unwrap_or(at);
                    self.pause(dice.between(20, 200)).await;
                }
                _ => self.pause(dice.between(50, 400)).await,
            }
        }
    }

    /// Reads go on while a master is away: a healthy slave that has served a reader serves it
    /// still.
    fn judge_serving(
        &self,
        serving: &mut Serving,
        (topic, queue): (&str, u32),
        asked_us: u64,
        answer: &Option<Command>,
    ) {
        let told = answer.as_ref().map(|answer| answer.code);
        let pulls = [
            code::SUCCESS,
            code::PULL_NOT_FOUND,
            code::PULL_RETRY_IMMEDIATELY,
            code::PULL_OFFSET_MOVED,
        ];
        let court = self.house.court();
        let generation = self.house.world().generation(self.slave);
        if told.is_some_and(|code| pulls.contains(&code)) {
            *serving = Serving { by: generation, refused_us: None };
            return;
        }
        let began_again = self.house.world().generation(self.master) > 1;
        if told == Some(code::TOPIC_NOT_EXIST) && began_again && !self.had_message(topic) {
            mark("ha: a topic went with its master's process before its first message");
            *serving = Serving::default();
            return;
        }
        if serving.by != generation || !court.is_in_reach(self.machine, self.slave, asked_us) {
            *serving = Serving::default();
            return;
        }
        let since_us = *serving.refused_us.get_or_insert(asked_us);
        if since_us + REFUSED_US < trace::now_us() {
            let remark = answer.as_ref().and_then(|answer| answer.remark.clone());
            let what = format!(
                "{topic}/{queue} of machine {} cannot be read since {:.3} s: {told:?} {remark:?}",
                self.slave,
                since_us as f64 / 1e6
            );
            court.check("slave_serves", Err(what));
        }
    }

    /// Whether the master acked a message of a topic: before that the topic need not be durable.
    fn had_message(&self, topic: &str) -> bool {
        self.house.court().history(|history| {
            let mut all = history.sent.iter().filter(|sent| sent.topic == topic);
            all.any(|sent| match sent.fate {
                Fate::Acked { place, .. } => place.machine == self.master,
                Fate::LostLegally | Fate::Deleted => true,
                Fate::Unknown | Fate::Refused => false,
            })
        })
    }

    fn on_read_to(&self, key: &Reading, at: u64) {
        let mut progress = self.house.0.progress.lock();
        let to = progress.read_to.entry(key.clone()).or_default();
        *to = (*to).max(at);
        drop(progress);
        self.house.court().moved();
    }

    /// Judges what a pull at the slave returned; gives the next offset.
    fn take(
        &self,
        (topic, queue): (&str, u32),
        from: u64,
        since: Since,
        body: &[u8],
    ) -> Result<u64, String> {
        let sync = self.house.0.plan.machines[self.slave].sync_flush;
        let grade = if sync { Grade::Synced } else { Grade::Written };
        let counts = sync || since == Since::now(&self.house, self.slave);
        let Since { power_losses, generation } = since;
        let others: Vec<usize> = std::iter::once(self.master)
            .chain(self.house.court().slaves_of(self.master))
            .filter(|machine| *machine != self.slave)
            .collect();
        let mut at = from;
        self.house.court().history(|history| {
            for record in files::split(body)? {
                let id = history::id_in(&record.properties)
                    .ok_or_else(|| format!("a record without a number at {}", record.physical))?;
                judge::is_what_was_sent(&record, id, history)?;
                if record.queue_offset != at {
                    let offset = record.queue_offset;
                    return Err(format!("{topic}/{queue}: asked for {at}, got offset {offset}"));
                }
                let physical = record.physical;
                for other in &others {
                    let slot = (*other, topic.to_owned(), queue, at);
                    let Some(seen) = history.seen.get(&slot) else { continue };
                    let is_left = self.may_be_given_up(&[self.slave, *other], physical);
                    if !is_left && (seen.id, seen.physical) != (id, physical) {
                        return Err(format!(
                            "{topic}/{queue} {at}: machine {} gives message {id} at {physical}, \
                             machine {other} gave {} at {}",
                            self.slave, seen.id, seen.physical
                        ));
                    }
                }
                if let Fate::Acked { place, .. } = history.sent[id as usize].fate
                    && place.machine == self.master
                    && place.physical == physical
                    && (place.queue, place.queue_offset) != (queue, at)
                    && !self.may_be_given_up(&[self.slave], physical)
                {
                    return Err(format!(
                        "message {id} was acked at {place:?}, a slave has it at {at}"
                    ));
                }
                let seen = Seen { id, grade, power_losses, generation, physical };
                if counts {
                    history.on_read((self.slave, topic.to_owned(), queue, at), seen)?;
                }
                at += 1;
            }
            Ok(())
        })?;
        Ok(at)
    }

    /// Whether one of these slaves still has there what its master came back without.
    fn may_be_given_up(&self, slaves: &[usize], physical: u64) -> bool {
        let from = slaves.iter().filter_map(|slave| self.house.court().left_from(*slave));
        from.min().is_some_and(|from| physical >= from)
    }

    /// What is committed at a slave is not taken back by what its master says.
    async fn commit(&self, topic: &str, queue: u32, at: u64) {
        let generation = self.house.world().generation(self.slave);
        let of_queue = |code: i32| {
            Command::request(code)
                .with_ext("consumerGroup", GROUP)
                .with_ext("topic", topic)
                .with_ext("queueId", queue)
        };
        let request = of_queue(request::UPDATE_CONSUMER_OFFSET).with_ext("commitOffset", at);
        if self.ask(self.slave, request).await.is_none_or(|answer| answer.code != code::SUCCESS) {
            return;
        }
        mark("ha: a group committed at a slave");
        self.pause(700).await;
        let request = of_queue(request::QUERY_CONSUMER_OFFSET);
        let Some(answer) = self.ask(self.slave, request).await else { return };
        let has = answer.get("offset").and_then(|at| at.parse::<u64>().ok());
        // A master that died asks its slave for these; its first copy may still be an older one.
        let may_dip =
            self.house.0.plan.offsets_dip && !self.house.world().crashes_us(self.master).is_empty();
        let is_lost = !may_dip && has.is_none_or(|has| has < at);
        if self.house.world().generation(self.slave) == generation && is_lost {
            let what = format!(
                "offset {at} of {topic}/{queue} was committed at machine {}, which has {has:?}",
                self.slave
            );
            self.house.court().check("slave_offsets", Err(what));
        }
    }

    async fn table(&self, machine: usize, code: i32) -> Option<Value> {
        let answer = self.ask(machine, Command::request(code)).await?;
        (answer.code == code::SUCCESS).then(|| body::decode(&answer.body).ok())?
    }

    /// Somebody has consumed at the master what it has.
    async fn commit_at_master(&self, dice: &mut Rng) {
        let load = &self.house.0.plan.load;
        let (topic, queue) = (topic_name(dice.below(load.topics)), dice.below(load.queues));
        let of_queue = |code: i32| {
            Command::request(code)
                .with_ext("consumerGroup", MASTERS_GROUP)
                .with_ext("topic", &topic)
                .with_ext("queueId", queue)
        };
        let Some(answer) = self.ask(self.master, of_queue(request::GET_MAX_OFFSET)).await else {
            return;
        };
        let Some(end) = answer.get("offset").filter(|end| *end != "0") else { return };
        let commit = of_queue(request::UPDATE_CONSUMER_OFFSET).with_ext("commitOffset", end);
        let _ = self.ask(self.master, commit).await;
    }

    /// Looks at what the slave keeps beside its log: never ahead of the log, and its master's when
    /// all is quiet.
    async fn audit(self, mut dice: Rng) {
        loop {
            self.pause(dice.between(100, 800)).await;
            self.commit_at_master(&mut dice).await;
            if self.house.phase() == Phase::Quiet && self.house.0.plan.lost_master.is_none() {
                self.compare().await;
                return;
            }
            // An answer may be under way when its machine loses power; then the log is shorter.
            let since = Since::now(&self.house, self.slave);
            let offsets = self.table(self.slave, request::GET_ALL_CONSUMER_OFFSET).await;
            let Some(offsets) = offsets else { continue };
            if since == Since::now(&self.house, self.slave) {
                self.house.court().check("slave_progress", self.is_behind_its_log(&offsets));
            }
        }
    }

    /// Nobody has consumed what is not there.
    fn is_behind_its_log(&self, offsets: &Value) -> judge::Verdict {
        let disk = &self.house.world().machines()[self.slave].disk;
        let log = files::log(disk, &format!("{ROOT}/commitlog"));
        for (key, queue, offset) in rows(offsets) {
            let Some((topic, MASTERS_GROUP)) = key.split_once('@') else { continue };
            let of_queue = |r: &&files::Record| r.topic == topic && r.queue == queue;
            let end = log.records.iter().rfind(of_queue).map_or(0, |r| r.queue_offset + 1);
            if end == 0 && log.start > 0 {
                continue; // what was consumed may lie before the file that it began with
            }
            if offset > end as i64 {
                return Err(format!(
                    "machine {} says that {key} has consumed queue {queue} up to {offset}, its log \
                     holds {end}",
                    self.slave
                ));
            }
        }
        Ok(())
    }

    /// Waits until the tables are those of the master.
    async fn compare(&self) {
        let terms = self.house.0.progress.lock().pairs.get(&self.slave).copied();
        let interval = terms.map_or(Duration::ZERO, |terms| terms.copy_interval);
        let patience = interval * 2 + COPY_SLACK;
        let (mut before, mut changed) = (None, self.clock.mono());
        loop {
            let theirs = self.tables(self.master).await;
            if theirs.is_some() && theirs != before {
                (before, changed) = (theirs.clone(), self.clock.mono());
            }
            let ours = self.tables(self.slave).await;
            let differs = match (&theirs, &ours) {
                (Some(theirs), Some(ours)) => difference(theirs, ours),
                _ => Some("no answer".to_owned()),
            };
            let Some(what) = differs else { break };
            if self.clock.mono().since(changed) > patience {
                let told = format!(
                    "{} ms after the last change at its master machine {} has other tables: {what}",
                    patience.as_millis(),
                    self.slave
                );
                self.house.court().check("slave_tables", Err(told));
                return;
            }
            self.pause(100).await;
        }
        trace::event(&self.name, format_args!("machine {} has its master's tables", self.slave));
        self.house.0.progress.lock().audited.insert(self.slave);
        self.house.court().moved();
    }

    /// Topics, groups, offsets.
    async fn tables(&self, machine: usize) -> Option<[Value; 3]> {
        Some([
            self.table(machine, request::GET_ALL_TOPIC_CONFIG).await?,
            self.table(machine, request::GET_ALL_SUBSCRIPTIONGROUP_CONFIG).await?,
            self.table(machine, request::GET_ALL_CONSUMER_OFFSET).await?,
        ])
    }
}

/// The rows of an offset table.
fn rows(table: &Value) -> Vec<(String, u32, i64)> {
    let mut rows = Vec::new();
    for (key, queues) in table["offsetTable"].as_object().into_iter().flatten() {
        for (queue, offset) in queues.as_object().into_iter().flatten() {
            if let (Ok(queue), Some(offset)) = (queue.parse(), offset.as_i64()) {
                rows.push((key.clone(), queue, offset));
            }
        }
    }
    rows
}

/// What the slave has not, or otherwise. Groups may commit at the slave alone.
fn difference(theirs: &[Value; 3], ours: &[Value; 3]) -> Option<String> {
    for (n, name) in [(0, "topicConfigTable"), (1, "subscriptionGroupTable")] {
        let (want, have) = (&theirs[n][name], &ours[n][name]);
        let wanted = want.as_object().into_iter().flatten();
        for (key, value) in wanted {
            if have.get(key) != Some(value) {
                let versions = (&theirs[n]["dataVersion"], &ours[n]["dataVersion"]);
                return Some(format!(
                    "{name}: {key} is {:?}, not {value}, versions {versions:?}",
                    have.get(key)
                ));
            }
        }
        if n == 0
            && let Some(more) =
                have.as_object().into_iter().flatten().find(|(key, _)| want.get(key).is_none())
        {
            return Some(format!("{name}: {} is there too much", more.0));
        }
    }
    // A group that went to the slave for a while may be further there.
    let have = rows(&ours[2]);
    let has = |(key, queue, want): &(String, u32, i64)| {
        let row = have.iter().find(|(k, q, _)| (k, q) == (key, queue));
        row.is_some_and(|(_, _, has)| has == want || (has > want && !key.ends_with(MASTERS_GROUP)))
    };
    let lacks = rows(&theirs[2]).into_iter().find(|row| !has(row))?;
    Some(format!("the offset {lacks:?} is not there, of {have:?}"))
}
