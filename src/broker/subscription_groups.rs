//! What is known of each consumer group besides its live members.

use super::json_writer::JsonWriter;
use super::options::GroupOptions;
use crate::protocol::body::DataVersion;
use crate::rt::time::WallMillis;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Groups every broker has. Source: SubscriptionGroupManager#init (4.9.3).
const BUILT_IN: [&str; 7] = [
    "CID_ONS-HTTP-PROXY",
    "CID_ONSAPI_OWNER",
    "CID_ONSAPI_PERMISSION",
    "CID_ONSAPI_PULL",
    "FILTERSRV_CONSUMER",
    "SELF_TEST_C_GROUP",
    "TOOLS_CONSUMER",
];
const SYSTEM_PREFIX: &str = "CID_RMQ_SYS_";

/// One group. Source: SubscriptionGroupConfig (4.9.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GroupConfig {
    pub broker_id: i64,
    pub consume_broadcast_enable: bool,
    pub consume_enable: bool,
    pub consume_from_min_enable: bool,
    pub group_name: String,
    pub notify_consumer_ids_changed_enable: bool,
    pub retry_max_times: i32,
    pub retry_queue_nums: i32,
    pub which_broker_when_consume_slowly: i64,
}

impl Default for GroupConfig {
    fn default() -> Self {
        GroupConfig {
            broker_id: 0,
            consume_broadcast_enable: true,
            consume_enable: true,
            consume_from_min_enable: true,
            group_name: String::new(),
            notify_consumer_ids_changed_enable: true,
            retry_max_times: 16,
            retry_queue_nums: 1,
            which_broker_when_consume_slowly: 1,
        }
    }
}

impl GroupConfig {
    pub fn named(name: &str) -> Self {
        GroupConfig { group_name: name.to_owned(), ..GroupConfig::default() }
    }
}

/// The table of groups; see `Topics` for `changes` and `saved`.
#[derive(Debug)]
pub struct SubscriptionGroups {
    options: GroupOptions,
    table: BTreeMap<String, GroupConfig>,
    version: DataVersion,
    changes: u64,
    saved: u64,
    /// On a slave: groups that its own consumers made and its master does not know. No more than
    /// groups.
    own: Option<BTreeSet<String>>,
}

impl SubscriptionGroups {
    pub fn new(options: &GroupOptions, now: WallMillis) -> Self {
        let mut groups = SubscriptionGroups {
            options: options.clone(),
            table: BTreeMap::new(),
            version: DataVersion::new(now),
            changes: 1,
            saved: 0,
            own: None,
        };
        groups.add_built_in();
        groups
    }

    /// From now on a group that is made stays beside the master's table until the master has it.
    pub fn of_slave(mut self) -> Self {
        self.own = Some(BTreeSet::new());
        self
    }

    fn add_built_in(&mut self) {
        for name in BUILT_IN {
            self.table.entry(name.to_owned()).or_insert_with(|| GroupConfig::named(name));
        }
    }

    pub fn restore(&mut self, file: GroupFile) {
        for (name, mut config) in file.subscription_group_table {
            if config.group_name.is_empty() {
                config.group_name.clone_from(&name);
            }
            self.table.insert(name, config);
        }
        self.version = file.data_version;
        // Built-in groups are made at every boot: that a file lacks them does not matter.
        self.saved = self.changes;
    }

    /// The table of a master in place of this one, but for groups that were made here and that it
    /// has never had: without them they went with each copy and came back with the next pull, and
    /// each time the file was written.
    /// Source: SlaveSynchronize#syncSubscriptionGroupConfig (4.9.3).
    /// False: it is this table already. Versions alone do not say so: a group that was made here in
    /// the same millisecond counts as one there.
    pub fn replace(&mut self, file: GroupFile) -> bool {
        let rows = &file.subscription_group_table;
        let mut own = self.own.take();
        own.iter_mut().for_each(|own| own.retain(|name| !rows.contains_key(name)));
        let is_same = |(name, config)| self.table.get(name) == Some(config);
        let is_changed = file.data_version != self.version || !rows.iter().all(is_same);
        if is_changed {
            let mut before = std::mem::take(&mut self.table);
            self.restore(file);
            self.add_built_in();
            for name in own.iter().flatten() {
                let has_room = self.table.len() < self.options.groups_max;
                if let Some(config) = before.remove(name).filter(|_| has_room) {
                    self.table.insert(name.clone(), config);
                }
            }
            self.changes += 1;
        }
        own.iter_mut().for_each(|own| own.retain(|name| self.table.contains_key(name)));
        self.own = own;
        is_changed
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.table.keys().map(|name| &**name)
    }

    /// `autoCreateSubscriptionGroup`, from now on.
    pub fn set_auto_create(&mut self, is_on: bool) {
        self.options.auto_create = is_on;
    }

    pub fn get(&self, name: &str) -> Option<&GroupConfig> {
        self.table.get(name)
    }

    /// The group, made now when it is missing and groups may appear by themselves.
    /// Source: SubscriptionGroupManager#findSubscriptionGroupConfig (4.9.3).
    pub fn find_or_create(&mut self, now: WallMillis, name: &str) -> Option<&GroupConfig> {
        if !self.table.contains_key(name) {
            let allowed = self.options.auto_create || name.starts_with(SYSTEM_PREFIX);
            if !allowed || name.is_empty() || self.table.len() >= self.options.groups_max {
                return None;
            }
            if let Some(own) = &mut self.own {
                // The version stays the master's: it says that nothing changed there.
                own.insert(name.to_owned());
                self.table.insert(name.to_owned(), GroupConfig::named(name));
                self.changes += 1;
            } else {
                self.update(now, GroupConfig::named(name));
            }
        }
        self.table.get(name)
    }

    pub fn update(&mut self, now: WallMillis, config: GroupConfig) {
        self.table.insert(config.group_name.clone(), config);
        self.version.advance(now);
        self.changes += 1;
    }

    pub fn remove(&mut self, now: WallMillis, name: &str) -> bool {
        let was_there = self.table.remove(name).is_some();
        if was_there {
            self.version.advance(now);
            self.changes += 1;
        }
        was_there
    }

    pub fn version(&self) -> DataVersion {
        self.version
    }

    pub fn unsaved(&self) -> Option<u64> {
        (self.saved < self.changes).then_some(self.changes)
    }

    /// The number of the newest change.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    pub fn on_saved(&mut self, changes: u64) {
        self.saved = self.saved.max(changes);
    }

    /// The text of `subscriptionGroup.json`.
    pub fn to_json(&self) -> String {
        let mut out = JsonWriter::new();
        out.open(None);
        out.version(&self.version);
        out.open(Some("subscriptionGroupTable"));
        for config in self.table.values() {
            write_group(&mut out, config);
        }
        out.close();
        out.close();
        out.finish()
    }
}

/// `subscriptionGroup.json` as read.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GroupFile {
    pub data_version: DataVersion,
    pub subscription_group_table: BTreeMap<String, GroupConfig>,
}

fn write_group(out: &mut JsonWriter, config: &GroupConfig) {
    out.open(Some(&config.group_name));
    out.int("brokerId", config.broker_id);
    out.bool("consumeBroadcastEnable", config.consume_broadcast_enable);
    out.bool("consumeEnable", config.consume_enable);
    out.bool("consumeFromMinEnable", config.consume_from_min_enable);
    out.text("groupName", &config.group_name);
    out.bool("notifyConsumerIdsChangedEnable", config.notify_consumer_ids_changed_enable);
    out.int("retryMaxTimes", config.retry_max_times.into());
    out.int("retryQueueNums", config.retry_queue_nums.into());
    out.int("whichBrokerWhenConsumeSlowly", config.which_broker_when_consume_slowly);
    out.close();
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallMillis = WallMillis(1_700_000_000_000);

    #[test]
    fn an_unknown_group_appears_when_allowed() {
        let mut groups = SubscriptionGroups::new(&GroupOptions::default(), NOW);
        assert_eq!(groups.find_or_create(NOW, "g").unwrap().retry_max_times, 16);
        assert_eq!(groups.version().counter, 1);
    }

    #[test]
    fn an_unknown_group_is_refused_when_auto_creation_is_off_except_system_ones() {
        let options = GroupOptions { auto_create: false, ..GroupOptions::default() };
        let mut groups = SubscriptionGroups::new(&options, NOW);
        assert!(groups.find_or_create(NOW, "g").is_none());
        assert!(groups.find_or_create(NOW, "CID_RMQ_SYS_TRANS").is_some());
        assert!(groups.find_or_create(NOW, "TOOLS_CONSUMER").is_some());
    }

    #[test]
    fn the_file_round_trips() {
        let mut groups = SubscriptionGroups::new(&GroupOptions::default(), NOW);
        groups.update(NOW, GroupConfig { retry_queue_nums: 3, ..GroupConfig::named("g") });
        let file: GroupFile = serde_json::from_str(&groups.to_json()).unwrap();
        let mut again = SubscriptionGroups::new(&GroupOptions::default(), WallMillis(1));
        again.restore(file);
        assert_eq!(again.to_json(), groups.to_json());
        assert_eq!(again.get("g").unwrap().retry_queue_nums, 3);
    }

    #[test]
    fn a_group_that_a_slave_made_stays_beside_its_masters_until_that_has_it() {
        let options = GroupOptions::default();
        let mut master = SubscriptionGroups::new(&options, WallMillis(1));
        let mut slave = SubscriptionGroups::new(&options, WallMillis(2)).of_slave();
        let file = |master: &SubscriptionGroups| serde_json::from_str(&master.to_json()).unwrap();
        master.find_or_create(WallMillis(5), "there");
        assert!(slave.replace(file(&master)));
        slave.find_or_create(WallMillis(6), "here");
        let changes = slave.changes();
        assert!(!slave.replace(file(&master)), "nothing changed there");
        assert_eq!(slave.changes(), changes);
        // What its master knew goes with it, what it never knew stays.
        master.remove(WallMillis(7), "there");
        assert!(slave.replace(file(&master)));
        assert!(slave.get("there").is_none() && slave.get("here").is_some());
        master.update(
            WallMillis(8),
            GroupConfig { retry_max_times: 3, ..GroupConfig::named("here") },
        );
        assert!(slave.replace(file(&master)));
        assert_eq!(slave.get("here").unwrap().retry_max_times, 3);
        assert_eq!(slave.version(), master.version());
        master.remove(WallMillis(9), "here");
        assert!(slave.replace(file(&master)));
        assert!(slave.get("here").is_none(), "the master had it");
    }

    #[test]
    fn a_masters_groups_come_although_versions_are_the_same_by_chance() {
        let options = GroupOptions::default();
        let (mut master, mut slave) = (
            SubscriptionGroups::new(&options, WallMillis(1)),
            SubscriptionGroups::new(&options, WallMillis(1)),
        );
        master.find_or_create(WallMillis(5), "there");
        slave.find_or_create(WallMillis(5), "here");
        assert_eq!(master.version(), slave.version());
        let file = || serde_json::from_str::<GroupFile>(&master.to_json()).unwrap();
        assert!(slave.replace(file()));
        assert!(slave.get("there").is_some());
        assert!(!slave.replace(file()));
    }
}
