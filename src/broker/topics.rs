//! Which topics this broker has, and the rules by which new ones appear.

use super::json_writer::JsonWriter;
use super::options::TopicOptions;
use super::stats::{Counts, Puts};
use super::timer::TIMER_TOPIC;
use super::transaction::{DISCARD_TOPIC, HALF_TOPIC, OP_TOPIC};
use crate::model::{QueueId, TopicName};
use crate::protocol::body::DataVersion;
use crate::rt::time::WallMillis;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Bits of a topic's permission. Source: PermName (4.9.3).
pub mod perm {
    pub const INHERIT: u32 = 1;
    pub const WRITE: u32 = 2;
    pub const READ: u32 = 4;

    /// `RW-` and so on. Source: PermName#perm2String.
    pub fn text(perm: u32) -> String {
        let mark = |bit, on| if perm & bit != 0 { on } else { '-' };
        [mark(READ, 'R'), mark(WRITE, 'W'), mark(INHERIT, 'X')].iter().collect()
    }
}

pub const TEMPLATE_TOPIC: &str = "TBW102";
pub use crate::store::SCHEDULE_TOPIC;
pub const OFFSET_MOVED_TOPIC: &str = "OFFSET_MOVED_EVENT";
pub const RETRY_PREFIX: &str = "%RETRY%";
pub const DEAD_LETTER_PREFIX: &str = "%DLQ%";
const SCHEDULE_QUEUES: u32 = 18;
/// Units: characters. A stored record's topic length is one signed byte.
pub const NAME_LENGTH_MAX: usize = 127;

/// Source: TopicValidator#SYSTEM_TOPIC_SET (4.9.3).
const RESERVED: [&str; 9] = [
    "BenchmarkTest",
    OFFSET_MOVED_TOPIC,
    "RMQ_SYS_TRACE_TOPIC",
    HALF_TOPIC,
    OP_TOPIC,
    SCHEDULE_TOPIC,
    "SELF_TEST_TOPIC",
    TEMPLATE_TOPIC,
    DISCARD_TOPIC,
];

/// Topics that only the broker itself writes to. Source: TopicValidator#NOT_ALLOWED_SEND_TOPIC_SET
/// (4.9.3), where only the first one is. Differs: a client could end the transactions of others.
pub fn is_closed_to_sends(topic: &str) -> bool {
    // All of them are longer than most names.
    topic.len() >= SCHEDULE_TOPIC.len()
        && [SCHEDULE_TOPIC, TIMER_TOPIC, HALF_TOPIC, OP_TOPIC, DISCARD_TOPIC].contains(&topic)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FilterType {
    #[default]
    #[serde(rename = "SINGLE_TAG")]
    SingleTag,
    #[serde(rename = "MULTI_TAG")]
    MultiTag,
}

impl FilterType {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "SINGLE_TAG" => Some(FilterType::SingleTag),
            "MULTI_TAG" => Some(FilterType::MultiTag),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            FilterType::SingleTag => "SINGLE_TAG",
            FilterType::MultiTag => "MULTI_TAG",
        }
    }
}

/// One topic. Source: TopicConfig (4.9.3); the fields a file leaves out have its defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopicConfig {
    pub order: bool,
    pub perm: u32,
    pub read_queue_nums: u32,
    pub topic_filter_type: FilterType,
    pub topic_name: String,
    pub topic_sys_flag: i32,
    pub write_queue_nums: u32,
}

impl Default for TopicConfig {
    fn default() -> Self {
        TopicConfig::new("", 16, perm::READ | perm::WRITE)
    }
}

impl TopicConfig {
    pub fn new(name: &str, queues: u32, perm: u32) -> Self {
        TopicConfig {
            order: false,
            perm,
            read_queue_nums: queues,
            topic_filter_type: FilterType::SingleTag,
            topic_name: name.to_owned(),
            topic_sys_flag: 0,
            write_queue_nums: queues,
        }
    }

    pub fn is_readable(&self) -> bool {
        self.perm & perm::READ != 0
    }

    pub fn is_writable(&self) -> bool {
        self.perm & perm::WRITE != 0
    }
}

/// As Java prints it inside remarks. Source: TopicConfig#toString.
impl fmt::Display for TopicConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "TopicConfig [topicName={}, readQueueNums={}, writeQueueNums={}, perm={}, \
             topicFilterType={}, topicSysFlag={}, order={}]",
            self.topic_name,
            self.read_queue_nums,
            self.write_queue_nums,
            perm::text(self.perm),
            self.topic_filter_type.name(),
            self.topic_sys_flag,
            self.order
        )
    }
}

/// A row of the table.
#[derive(Clone, Debug)]
pub struct Topic {
    pub name: TopicName,
    pub config: TopicConfig,
    /// Where its puts are counted.
    pub slot: u32,
    /// The change of the table that last touched this row.
    change: u64,
}

/// Why a send to an unknown topic does not create it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    #[error("the template topic does not allow others to be made from it")]
    NotInherited,
    #[error("the template topic does not exist")]
    NoTemplate,
    #[error("the broker holds {0} topics, which is its bound")]
    TooMany(usize),
}

/// What a send says about a topic that does not exist.
#[derive(Clone, Copy, Debug)]
pub struct FirstSend<'a> {
    pub topic: &'a str,
    pub template: &'a str,
    pub queues_wanted: i32,
    pub unit_mode: bool,
}

/// How far the table has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The number of the newest change.
    pub changes: u64,
    pub version: DataVersion,
}

/// The table of topics. A change counts up `changes`; a row is durable when a save that began at
/// or after its change has finished.
#[derive(Debug)]
pub struct Topics {
    options: TopicOptions,
    table: BTreeMap<TopicName, Topic>,
    reserved: BTreeSet<String>,
    puts: Puts,
    version: DataVersion,
    changes: u64,
    saved: u64,
    /// The version that is durable, and what the rows that changed since are there; `None` is not
    /// there. Boot topics are made anew by every start.
    durable_version: DataVersion,
    durable: BTreeMap<TopicName, Option<TopicConfig>>,
    /// On a slave: topics that it made by itself, for its own consumers, and that its master does
    /// not know. No more than topics.
    own: Option<BTreeSet<TopicName>>,
}

impl Topics {
    /// The topics every broker has at boot. Source: TopicConfigManager (4.9.3).
    pub fn new(options: &TopicOptions, now: WallMillis) -> Self {
        let mut reserved: BTreeSet<String> = RESERVED.iter().map(ToString::to_string).collect();
        let mut table = BTreeMap::new();
        let mut puts = Puts::new(options.counted_queues_max);
        for config in boot_topics(options) {
            reserved.insert(config.topic_name.clone());
            let name = TopicName::new(&config.topic_name);
            table.insert(name.clone(), Topic { name, config, slot: puts.take(), change: 1 });
        }
        let version = DataVersion::new(now);
        Topics {
            options: options.clone(),
            table,
            reserved,
            puts,
            version,
            changes: 1,
            saved: 0,
            durable_version: version,
            durable: BTreeMap::new(),
            own: None,
        }
    }

    /// From now on a topic that a request makes stays beside the master's table until the master
    /// has it. What an administrator makes, or what is made of records, does not.
    pub fn of_slave(mut self) -> Self {
        self.own = Some(BTreeSet::new());
        self
    }

    /// A slave made it by itself, and its master does not know it.
    pub fn is_own(&self, name: &TopicName) -> bool {
        self.own.as_ref().is_some_and(|own| own.contains(name))
    }

    /// Puts what a state file holds over the boot topics, row by row. Those rows are durable.
    pub fn restore(&mut self, file: TopicFile) {
        for (name, mut config) in file.topic_config_table {
            if config.topic_name.is_empty() {
                config.topic_name.clone_from(&name);
            }
            let name = TopicName::new(&name);
            let old = self.table.get(&name).map(|old| old.slot);
            let slot = old.unwrap_or_else(|| self.puts.take());
            self.table.insert(name.clone(), Topic { name, config, slot, change: 0 });
        }
        self.version = file.data_version;
        self.durable_version = self.version;
        if self.table.values().all(|topic| topic.change == 0) {
            self.saved = self.changes;
        }
    }

    pub fn get(&self, name: &str) -> Option<&Topic> {
        self.table.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.table.values()
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    pub fn version(&self) -> DataVersion {
        self.version
    }

    /// What name servers may know: the durable table, and its version. A topic that a power loss
    /// may take would leave readers with queues that nobody has.
    /// Source: TopicConfigManager#createTopicInSendMessageMethod (4.9.3), which writes the file
    /// before it registers.
    pub fn announced(&self) -> (DataVersion, impl Iterator<Item = (&TopicName, &TopicConfig)>) {
        let version = if self.durable.is_empty() { self.version } else { self.durable_version };
        let rows = self.table.values().filter_map(|topic| match self.durable.get(&topic.name) {
            Some(durable) => Some((&topic.name, durable.as_ref()?)),
            None => Some((&topic.name, &topic.config)),
        });
        (version, rows)
    }

    /// Topics that administrators may neither make nor delete.
    pub fn is_reserved(&self, name: &str) -> bool {
        self.reserved.contains(name) || name.starts_with("rmq_sys_")
    }

    pub fn reserved(&self) -> impl Iterator<Item = &str> {
        self.reserved.iter().map(String::as_str)
    }

    /// Whether a power loss would keep this row.
    pub fn is_durable(&self, topic: &Topic) -> bool {
        topic.change <= self.saved
    }

    /// Whether a power loss would keep a row of this topic, if not its newest one.
    pub fn has_durable_row(&self, topic: &Topic) -> bool {
        let has_older = self.durable.get(&topic.name).is_some_and(Option::is_some);
        self.is_durable(topic) || has_older
    }

    /// Makes a topic because a message for it arrived.
    /// Source: TopicConfigManager#createTopicInSendMessageMethod and AbstractSendMessageProcessor
    /// #msgCheck (4.9.3). Differs: a disabled template is refused without changing its permission.
    pub fn create_on_send(&mut self, now: WallMillis, send: FirstSend) -> Result<(), CreateError> {
        if self.table.contains_key(send.topic) {
            return Ok(());
        }
        let is_retry = send.topic.starts_with(RETRY_PREFIX);
        let sys_flag = match (send.unit_mode, is_retry) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => 2,
        };
        match self.by_template(&send) {
            Ok(mut config) => {
                config.topic_sys_flag = sys_flag;
                self.make(now, config)
            }
            Err(_) if is_retry => self.create(now, send.topic, 1, sys_flag),
            Err(error) => Err(error),
        }
    }

    fn by_template(&self, send: &FirstSend) -> Result<TopicConfig, CreateError> {
        let template = self.get(send.template).ok_or(CreateError::NoTemplate)?;
        let disabled = send.template == TEMPLATE_TOPIC && !self.options.auto_create;
        if disabled || template.config.perm & perm::INHERIT == 0 {
            return Err(CreateError::NotInherited);
        }
        let wanted = u32::try_from(send.queues_wanted).unwrap_or(0);
        let queues = wanted.min(template.config.write_queue_nums);
        let mut config =
            TopicConfig::new(send.topic, queues, template.config.perm & !perm::INHERIT);
        config.topic_filter_type = template.config.topic_filter_type;
        Ok(config)
    }

    /// Makes a readable and writable topic of the broker's own (retry, dead letters) if missing.
    /// Source: TopicConfigManager#createTopicInSendMessageBackMethod (4.9.3).
    pub fn create(
        &mut self,
        now: WallMillis,
        name: &str,
        queues: u32,
        sys_flag: i32,
    ) -> Result<(), CreateError> {
        if self.table.contains_key(name) {
            return Ok(());
        }
        let mut config = TopicConfig::new(name, queues, perm::READ | perm::WRITE);
        config.topic_sys_flag = sys_flag;
        self.make(now, config)
    }

    /// A topic that no administrator asked for.
    fn make(&mut self, now: WallMillis, config: TopicConfig) -> Result<(), CreateError> {
        let Some(own) = &mut self.own else { return self.insert(now, config) };
        if self.table.len() >= self.options.topics_max {
            return Err(CreateError::TooMany(self.table.len()));
        }
        // The version stays the master's: it says that nothing changed there.
        own.insert(TopicName::new(&config.topic_name));
        self.changes += 1;
        self.set(config);
        Ok(())
    }

    fn insert(&mut self, now: WallMillis, config: TopicConfig) -> Result<(), CreateError> {
        if self.table.len() >= self.options.topics_max {
            return Err(CreateError::TooMany(self.table.len()));
        }
        self.put(now, config);
        Ok(())
    }

    /// Makes or replaces a topic as an administrator says.
    pub fn update(&mut self, now: WallMillis, mut config: TopicConfig) -> Result<(), CreateError> {
        match self.get(&config.topic_name) {
            // Order topics are named by the name servers, never by this request.
            Some(old) => config.order = old.config.order,
            None => return self.insert(now, config),
        }
        self.put(now, config);
        Ok(())
    }

    fn put(&mut self, now: WallMillis, config: TopicConfig) {
        self.touch(now);
        self.set(config);
    }

    fn set(&mut self, config: TopicConfig) {
        let (name, durable, slot) = match self.table.get(config.topic_name.as_str()) {
            Some(old) => (old.name.clone(), Some(old.config.clone()), old.slot),
            None => (TopicName::new(&config.topic_name), None, self.puts.take()),
        };
        self.durable.entry(name.clone()).or_insert(durable);
        let topic = Topic { name: name.clone(), config, slot, change: self.changes };
        self.table.insert(name, topic);
    }

    pub fn remove(&mut self, now: WallMillis, name: &str) -> bool {
        let removed = self.table.remove(name);
        if let Some(topic) = &removed {
            if let Some(own) = &mut self.own {
                own.remove(name);
            }
            self.puts.give_back(topic.slot);
            self.touch(now);
        }
        removed.is_some()
    }

    /// Topics that are here, that the master has not, and that were not made here alone.
    pub fn lacking(&self, file: &TopicFile) -> Vec<TopicName> {
        let is_there = |name: &TopicName| file.topic_config_table.contains_key(&**name);
        let is_lacking = |name: &&TopicName| !is_there(name) && !self.is_own(name);
        self.table.keys().filter(is_lacking).cloned().collect()
    }

    /// The table of a master in place of this one, but for topics that were made here and that it
    /// has never had: without them they went with each copy and came back with the next heartbeat,
    /// and each time the file was written. Returns the topics that are gone.
    /// Source: SlaveSynchronize#syncTopicConfig (4.9.3).
    pub fn replace(&mut self, mut file: TopicFile) -> Vec<TopicName> {
        let rows = &mut file.topic_config_table;
        rows.iter_mut().for_each(|(name, config)| config.topic_name.clone_from(name));
        let mut own = self.own.take();
        own.iter_mut().for_each(|own| own.retain(|name| !rows.contains_key(&**name)));
        let is_same = |(name, config): (&String, &TopicConfig)| {
            self.table.get(name.as_str()).is_some_and(|old| old.config == *config)
        };
        // Versions alone do not say so: what was made here may count as what was made there.
        let is_changed = file.data_version != self.version || !rows.iter().all(is_same);
        let mut gone = Vec::new();
        if is_changed {
            self.changes += 1;
            let room = self.options.topics_max.saturating_sub(rows.len());
            let kept: BTreeSet<TopicName> = own.iter().flatten().take(room).cloned().collect();
            gone = self.retain(|name| rows.contains_key(&**name) || kept.contains(name));
            for config in file.topic_config_table.into_values() {
                let old = self.table.get(config.topic_name.as_str());
                if old.is_none_or(|old| old.config != config) {
                    self.set(config);
                }
            }
            self.version = file.data_version;
            own = own.map(|_| kept);
        }
        self.own = own;
        gone.retain(|name| !self.is_reserved(name));
        gone
    }

    /// Returns the topics that went.
    fn retain(&mut self, stays: impl Fn(&TopicName) -> bool) -> Vec<TopicName> {
        let gone: Vec<TopicName> = self.table.keys().filter(|name| !stays(name)).cloned().collect();
        for name in &gone {
            if let Some(topic) = self.table.remove(name) {
                self.puts.give_back(topic.slot);
                self.durable.entry(name.clone()).or_insert(Some(topic.config));
            }
        }
        gone
    }

    /// Name servers said which topics are ordered. Source: #updateOrderTopicConfig (4.9.3).
    /// Differs: a slave has it from its master. What it changed by itself would count as news of
    /// the master's.
    pub fn set_ordered(&mut self, now: WallMillis, ordered: &BTreeSet<String>) {
        if self.own.is_some() {
            return;
        }
        let mut changed = false;
        for topic in self.table.values_mut() {
            let order = ordered.contains(&topic.config.topic_name);
            changed |= topic.config.order != order;
            topic.config.order = order;
        }
        if changed {
            self.touch(now);
        }
    }

    /// Messages went into a topic. Units: bytes of whole records.
    pub fn count_puts(&mut self, slot: u32, queue: QueueId, count: u64, bytes: u64) {
        self.puts.add(slot, queue, count, bytes);
    }

    /// What was put into a topic; `None` for one that is not there.
    pub fn puts(&self, name: &str) -> Option<&Counts> {
        self.puts.of_topic(self.table.get(name)?.slot)
    }

    /// What was put into one queue of it.
    pub fn queue_puts(&self, name: &str, queue: QueueId) -> Option<&Counts> {
        self.puts.of_queue(self.table.get(name)?.slot, queue)
    }

    /// Samples some rows from `from` on. Returns where to go on.
    pub fn sample_puts(&mut self, now: WallMillis, tick: u64, from: usize) -> Option<usize> {
        self.puts.sample(now, tick, from)
    }

    /// `autoCreateTopicEnable`, from now on.
    pub fn set_auto_create(&mut self, is_on: bool) {
        self.options.auto_create = is_on;
    }

    pub fn touch(&mut self, now: WallMillis) {
        self.version.advance(now);
        self.changes += 1;
    }

    /// The state the next save will hold; pass it to `on_saved` when that save is durable.
    pub fn unsaved(&self) -> Option<Mark> {
        let mark = Mark { changes: self.changes, version: self.version };
        (self.saved < self.changes).then_some(mark)
    }

    /// The number of the newest change.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// How many changes are durable: all of them are in what is announced.
    pub fn saved(&self) -> u64 {
        self.saved
    }

    /// True when name servers may know more than before.
    pub fn on_saved(&mut self, mark: Mark) -> bool {
        let is_news = self.durable_version != mark.version;
        self.saved = self.saved.max(mark.changes);
        self.durable_version = mark.version;
        let (table, saved) = (&self.table, self.saved);
        self.durable.retain(|name, _| table.get(name).is_some_and(|row| row.change > saved));
        is_news
    }

    /// The text of `topics.json`.
    pub fn to_json(&self) -> String {
        let mut out = JsonWriter::new();
        out.open(None);
        out.version(&self.version);
        out.open(Some("topicConfigTable"));
        for topic in self.table.values() {
            write_topic(&mut out, &topic.config);
        }
        out.close();
        out.close();
        out.finish()
    }
}

/// `topics.json` as read.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopicFile {
    pub data_version: DataVersion,
    pub topic_config_table: BTreeMap<String, TopicConfig>,
}

fn write_topic(out: &mut JsonWriter, config: &TopicConfig) {
    out.open(Some(&config.topic_name));
    out.bool("order", config.order);
    out.int("perm", config.perm.into());
    out.int("readQueueNums", config.read_queue_nums.into());
    out.text("topicFilterType", config.topic_filter_type.name());
    out.text("topicName", &config.topic_name);
    out.int("topicSysFlag", config.topic_sys_flag.into());
    out.int("writeQueueNums", config.write_queue_nums.into());
    out.close();
}

fn boot_topics(options: &TopicOptions) -> Vec<TopicConfig> {
    let rw = perm::READ | perm::WRITE;
    let named = |enabled| if enabled { rw | perm::INHERIT } else { perm::INHERIT };
    let mut topics = vec![
        TopicConfig::new("SELF_TEST_TOPIC", 1, rw),
        TopicConfig::new("BenchmarkTest", 1024, rw),
        TopicConfig::new(&options.cluster_name, 16, named(options.cluster_topic)),
        TopicConfig::new(&options.broker_name, 1, named(options.broker_topic)),
        TopicConfig::new(OFFSET_MOVED_TOPIC, 1, rw),
        TopicConfig::new(SCHEDULE_TOPIC, SCHEDULE_QUEUES, rw),
        TopicConfig::new(&format!("{}_REPLY_TOPIC", options.cluster_name), 1, rw),
    ];
    if options.auto_create {
        let queues = options.default_queues;
        topics.push(TopicConfig::new(TEMPLATE_TOPIC, queues, rw | perm::INHERIT));
    }
    if let Some(trace) = &options.trace_topic {
        topics.push(TopicConfig::new(trace, 1, rw));
    }
    topics
}

/// What is wrong with a topic's name, in Java's words. Source: TopicValidator#validateTopic.
pub fn name_fault(topic: &str) -> Option<&'static str> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'%' | b'|' | b'-' | b'_');
    if topic.trim().is_empty() {
        Some("The specified topic is blank.")
    } else if !topic.bytes().all(legal) {
        Some("The specified topic contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$")
    } else if topic.len() > NAME_LENGTH_MAX {
        Some("The specified topic is longer than topic max length.")
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
