//! What each group registered for each topic besides tags, by heartbeat, and consumerFilter.json.
//!
//! Source: ConsumerFilterManager, ConsumerFilterData (4.9.3). A filter outlives its group by a day,
//! so that a group which comes back with the same version need not be compiled again.

use super::super::clients::{Subscription, is_tag_type};
use super::super::json_writer::JsonWriter;
use super::bloom::Bloom;
use super::compiled::Compiled;
use super::sql92::Expression;
use crate::rt::time::{Duration, WallMillis};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A filter loaded from the file counts as dead since this long ago.
const DEAD_BEFORE_LOAD_MS: i64 = 30_000;

/// What a heartbeat says of one topic.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    pub topic: &'a str,
    pub expression: &'a str,
    pub expression_type: &'a str,
    /// The version of the client's subscription. Units: epoch milliseconds of the client.
    pub version: i64,
}

impl<'a> Wish<'a> {
    pub fn of(wanted: &'a Subscription) -> Self {
        Wish {
            topic: &wanted.topic,
            expression: &wanted.sub_string,
            expression_type: &wanted.expression_type,
            version: wanted.version,
        }
    }

    fn is_tag_type(&self) -> bool {
        is_tag_type(self.expression_type)
    }
}

/// One group's filter for one topic. Source: ConsumerFilterData (4.9.3).
#[derive(Clone, Debug)]
pub struct Filter {
    pub expression: String,
    pub expression_type: String,
    pub version: i64,
    born: i64,
    /// 0 while its group is alive.
    dead: i64,
    pub compiled: Arc<Expression>,
}

impl Filter {
    pub fn is_dead(&self) -> bool {
        self.dead >= self.born
    }
}

/// All filters, by group and topic.
#[derive(Debug)]
pub struct ConsumerFilters {
    rows_max: usize,
    rows: usize,
    keep_dead: Duration,
    table: BTreeMap<String, BTreeMap<String, Filter>>,
    changes: u64,
    saved: u64,
}

impl ConsumerFilters {
    /// A filter that is dead for `keep_dead` is forgotten.
    pub fn new(rows_max: usize, keep_dead: Duration) -> Self {
        ConsumerFilters {
            rows_max,
            rows: 0,
            keep_dead,
            table: BTreeMap::new(),
            changes: 0,
            saved: 0,
        }
    }

    /// Takes what the file holds; who was alive is dead until its next heartbeat.
    /// Source: ConsumerFilterManager#decode (4.9.3).
    /// Differs: 4.9.3 drops the whole file when its bloom filters have another geometry; the
    /// positions are calculated again here. A row that does not compile is left out, where 4.9.3
    /// keeps it and then delivers everything.
    pub fn restore(&mut self, now: WallMillis, file: FilterFile, compiled: &mut Compiled) {
        for (topic, of_topic) in file.filter_data_by_topic {
            for (group, row) in of_topic.group_filter_data {
                let outcome = compiled.compile(&row.expression_type, &row.expression);
                let expression = match outcome {
                    Ok(expression) => expression,
                    Err(error) => {
                        tracing::error!("the filter of {group} for {topic} is left out: {error}");
                        continue;
                    }
                };
                let dead = match row.dead_time {
                    0 => (now.0 - DEAD_BEFORE_LOAD_MS).max(row.born_time),
                    dead => dead,
                };
                let filter = Filter {
                    expression: row.expression,
                    expression_type: row.expression_type,
                    version: row.client_version,
                    born: row.born_time,
                    dead,
                    compiled: expression,
                };
                self.put(&group, &topic, filter);
            }
        }
    }

    pub fn get(&self, group: &str, topic: &str) -> Option<&Filter> {
        self.table.get(group)?.get(topic)
    }

    /// The filters of a group by topic.
    pub fn of_group(&self, group: &str) -> impl Iterator<Item = (&str, &Filter)> {
        let topics = self.table.get(group).into_iter().flatten();
        topics.map(|(topic, filter)| (topic.as_str(), filter))
    }

    /// A heartbeat of the group: what it says of each topic, and what it no longer speaks of dies.
    /// Source: ConsumerFilterManager#register (4.9.3).
    pub fn on_heartbeat(
        &mut self,
        now: WallMillis,
        group: &str,
        wishes: &[Wish],
        compiled: &mut Compiled,
    ) {
        for wish in wishes.iter().filter(|wish| !wish.is_tag_type()) {
            if !wish.expression.is_empty() {
                self.register(now, group, wish, compiled);
            }
        }
        let Some(topics) = self.table.get_mut(group) else { return };
        for (topic, filter) in topics.iter_mut().filter(|(_, filter)| !filter.is_dead()) {
            if !wishes.iter().any(|wish| wish.topic == topic) {
                filter.dead = now.0.max(filter.born);
                self.changes += 1;
            }
        }
    }

    /// Source: FilterDataMapByTopic#register (4.9.3): a version that is not newer changes nothing,
    /// and the same one brings a dead filter back.
    fn register(&mut self, now: WallMillis, group: &str, wish: &Wish, compiled: &mut Compiled) {
        let old = self.table.get_mut(group).and_then(|topics| topics.get_mut(wish.topic));
        if let Some(old) = old {
            if wish.version < old.version || (wish.version == old.version && !old.is_dead()) {
                return;
            }
            let is_same =
                old.expression == wish.expression && old.expression_type == wish.expression_type;
            if is_same || wish.version == old.version {
                old.version = wish.version;
                old.dead = 0;
                self.changes += 1;
                return;
            }
        }
        match compiled.compile(wish.expression_type, wish.expression) {
            Ok(expression) => {
                let filter = Filter {
                    expression: wish.expression.to_owned(),
                    expression_type: wish.expression_type.to_owned(),
                    version: wish.version,
                    born: now.0,
                    dead: 0,
                    compiled: expression,
                };
                self.put(group, wish.topic, filter);
            }
            // The pulls of the group are refused, so that its client says so.
            Err(error) => {
                tracing::warn!("the filter of {group} for {} is refused: {error}", wish.topic);
                self.remove(group, wish.topic);
            }
        }
    }

    /// The last member of the group left. Source: ConsumerFilterManager#unRegister (4.9.3).
    pub fn on_group_gone(&mut self, now: WallMillis, group: &str) {
        let Some(topics) = self.table.get_mut(group) else { return };
        for filter in topics.values_mut().filter(|filter| !filter.is_dead()) {
            filter.dead = now.0.max(filter.born);
            self.changes += 1;
        }
    }

    fn put(&mut self, group: &str, topic: &str, filter: Filter) {
        let is_new = self.get(group, topic).is_none();
        if is_new && self.rows >= self.rows_max {
            tracing::warn!("the filter of {group} for {topic} is not kept: {} are", self.rows);
            return;
        }
        self.rows += usize::from(is_new);
        self.changes += 1;
        self.table.entry(group.to_owned()).or_default().insert(topic.to_owned(), filter);
    }

    fn remove(&mut self, group: &str, topic: &str) {
        let Some(topics) = self.table.get_mut(group) else { return };
        if topics.remove(topic).is_some() {
            self.rows -= 1;
            self.changes += 1;
        }
        if topics.is_empty() {
            self.table.remove(group);
        }
    }

    /// Forgets who died long ago. Source: ConsumerFilterManager#clean (4.9.3).
    pub fn clean(&mut self, now: WallMillis) {
        let keep_ms = i64::try_from(self.keep_dead.as_millis()).unwrap_or(i64::MAX);
        let is_old = |filter: &Filter| filter.is_dead() && now.0 - filter.dead >= keep_ms;
        let mut gone = Vec::new();
        for (group, topics) in &self.table {
            let old = topics.iter().filter(|(_, filter)| is_old(filter));
            gone.extend(old.map(|(topic, _)| (group.clone(), topic.clone())));
        }
        for (group, topic) in gone {
            self.remove(&group, &topic);
        }
    }

    pub fn unsaved(&self) -> Option<u64> {
        (self.saved < self.changes).then_some(self.changes)
    }

    pub fn on_saved(&mut self, changes: u64) {
        self.saved = self.saved.max(changes);
    }

    /// The text of `consumerFilter.json`.
    pub fn to_json(&self, bloom: &Bloom) -> String {
        let mut by_topic: BTreeMap<&str, BTreeMap<&str, &Filter>> = BTreeMap::new();
        for (group, topics) in &self.table {
            for (topic, filter) in topics {
                by_topic.entry(topic).or_default().insert(group, filter);
            }
        }
        let mut out = JsonWriter::new();
        out.open(None);
        out.open(Some("filterDataByTopic"));
        for (topic, groups) in by_topic {
            out.open(Some(topic));
            out.open(Some("groupFilterData"));
            for (group, filter) in groups {
                write_row(&mut out, bloom, topic, group, filter);
            }
            out.close();
            out.text("topic", topic);
            out.close();
        }
        out.close();
        out.close();
        out.finish()
    }
}

fn write_row(out: &mut JsonWriter, bloom: &Bloom, topic: &str, group: &str, filter: &Filter) {
    out.open(Some(group));
    out.open(Some("bloomFilterData"));
    out.int("bitNum", i64::from(bloom.bits));
    out.ints("bitPos", bloom.positions(group, topic).into_iter().map(i64::from));
    out.close();
    out.int("bornTime", filter.born);
    out.int("clientVersion", filter.version);
    out.text("consumerGroup", group);
    out.bool("dead", filter.is_dead());
    out.int("deadTime", filter.dead);
    out.text("expression", &filter.expression);
    out.text("expressionType", &filter.expression_type);
    out.text("topic", topic);
    out.close();
}

/// `consumerFilter.json` as it is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct FilterFile {
    filter_data_by_topic: BTreeMap<String, TopicRows>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct TopicRows {
    group_filter_data: BTreeMap<String, Row>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Row {
    born_time: i64,
    client_version: i64,
    dead_time: i64,
    expression: String,
    expression_type: String,
}

#[cfg(test)]
mod tests {
    use super::super::sql92::Limits;
    use super::*;

    struct World {
        filters: ConsumerFilters,
        compiled: Compiled,
    }

    impl World {
        fn new() -> Self {
            World {
                filters: ConsumerFilters::new(10, Duration::from_secs(86_400)),
                compiled: Compiled::new(Limits::default(), 10),
            }
        }

        fn beat(&mut self, now: i64, wishes: &[(&str, &str, i64)]) {
            let wish = |(topic, expression, version): &(&'static str, &'static str, i64)| Wish {
                topic,
                expression,
                expression_type: if *expression == "*" { "TAG" } else { "SQL92" },
                version: *version,
            };
            let wishes: Vec<(&'static str, &'static str, i64)> =
                wishes.iter().map(|(t, e, v)| (leak(t), leak(e), *v)).collect();
            let wishes: Vec<Wish> = wishes.iter().map(wish).collect();
            self.filters.on_heartbeat(WallMillis(now), "g", &wishes, &mut self.compiled);
        }

        /// Version, expression, whether it is dead.
        fn seen(&self, topic: &str) -> Option<(i64, &str, bool)> {
            let filter = self.filters.get("g", topic)?;
            Some((filter.version, &filter.expression, filter.is_dead()))
        }
    }

    fn leak(text: &str) -> &'static str {
        Box::leak(text.to_owned().into_boxed_str())
    }

    #[test]
    fn a_newer_version_replaces_and_an_older_one_is_ignored() {
        let mut world = World::new();
        world.beat(1000, &[("T", "a = 1", 5)]);
        assert_eq!(world.seen("T"), Some((5, "a = 1", false)));
        world.beat(2000, &[("T", "a = 2", 5)]);
        assert_eq!(world.seen("T"), Some((5, "a = 1", false)), "the version is the same");
        world.beat(2000, &[("T", "a = 2", 4)]);
        assert_eq!(world.seen("T"), Some((5, "a = 1", false)));
        world.beat(3000, &[("T", "a = 2", 6)]);
        assert_eq!(world.seen("T"), Some((6, "a = 2", false)));
        world.beat(4000, &[("T", "a = 2", 7)]);
        assert_eq!(world.seen("T"), Some((7, "a = 2", false)));
        assert_eq!(world.filters.get("g", "T").unwrap().born, 3000, "the expression is the same");
    }

    #[test]
    fn an_expression_that_does_not_compile_takes_the_old_one_away() {
        let mut world = World::new();
        world.beat(1000, &[("T", "a = ", 5)]);
        assert_eq!(world.seen("T"), None);
        world.beat(1000, &[("T", "a = 1", 6)]);
        world.beat(1000, &[("T", "a = ", 7)]);
        assert_eq!(world.seen("T"), None);
    }

    #[test]
    fn a_topic_that_is_left_out_dies_and_the_same_version_brings_it_back() {
        let mut world = World::new();
        world.beat(1000, &[("T", "a = 1", 5), ("U", "a = 1", 5)]);
        world.beat(2000, &[("U", "a = 1", 5)]);
        assert_eq!(world.seen("T"), Some((5, "a = 1", true)));
        assert_eq!(world.seen("U"), Some((5, "a = 1", false)));
        world.beat(3000, &[("T", "a = 1", 5), ("U", "*", 6)]);
        assert_eq!(world.seen("T"), Some((5, "a = 1", false)));
        assert_eq!(world.seen("U"), Some((5, "a = 1", false)), "4.9.3 looks at the topic alone");
        world.filters.on_group_gone(WallMillis(4000), "g");
        assert_eq!(world.seen("T"), Some((5, "a = 1", true)));
    }

    #[test]
    fn the_dead_are_forgotten_after_their_time_and_the_table_has_a_bound() {
        let mut world = World::new();
        world.beat(1000, &[("T", "a = 1", 5)]);
        world.filters.clean(WallMillis(i64::MAX));
        assert!(world.seen("T").is_some(), "it is alive");
        world.filters.on_group_gone(WallMillis(2000), "g");
        world.filters.clean(WallMillis(2000 + 86_400_000 - 1));
        assert!(world.seen("T").is_some());
        world.filters.clean(WallMillis(2000 + 86_400_000));
        assert!(world.seen("T").is_none());
        for at in 0..20 {
            world.beat(1000, &[(leak(&format!("T{at}")), "a = 1", 5)]);
        }
        assert_eq!(world.filters.rows, 10);
    }

    #[test]
    fn the_file_has_javas_shape_and_what_was_alive_is_dead_after_a_load() {
        let bloom = Bloom::new(20, 32);
        let mut world = World::new();
        world.filters.on_heartbeat(
            WallMillis(100_000),
            "CGSQL",
            &[Wish {
                topic: "TopicTest",
                expression: "a > 3 AND TAGS IS NOT NULL",
                expression_type: "SQL92",
                version: 7,
            }],
            &mut world.compiled,
        );
        let text = world.filters.to_json(&bloom);
        let expected = "{\n\t\"filterDataByTopic\":{\n\t\t\"TopicTest\":{\n\t\t\t\
            \"groupFilterData\":{\n\t\t\t\t\"CGSQL\":{\n\t\t\t\t\t\"bloomFilterData\":{\n\t\t\t\t\t\t\
            \"bitNum\":112,\n\t\t\t\t\t\t\"bitPos\":[6,92,66]\n\t\t\t\t\t},\n\t\t\t\t\t\
            \"bornTime\":100000,\n\t\t\t\t\t\"clientVersion\":7,\n\t\t\t\t\t\
            \"consumerGroup\":\"CGSQL\",\n\t\t\t\t\t\"dead\":false,\n\t\t\t\t\t\"deadTime\":0,\n\
            \t\t\t\t\t\"expression\":\"a > 3 AND TAGS IS NOT NULL\",\n\t\t\t\t\t\
            \"expressionType\":\"SQL92\",\n\t\t\t\t\t\"topic\":\"TopicTest\"\n\t\t\t\t}\n\t\t\t},\n\
            \t\t\t\"topic\":\"TopicTest\"\n\t\t}\n\t}\n}";
        assert_eq!(text, expected);
        let mut back = World::new();
        let file = serde_json::from_str(&text).unwrap();
        back.filters.restore(WallMillis(200_000), file, &mut back.compiled);
        let filter = back.filters.get("CGSQL", "TopicTest").unwrap();
        assert_eq!((filter.dead, filter.is_dead(), filter.version), (170_000, true, 7));
        let empty = ConsumerFilters::new(1, Duration::from_secs(1)).to_json(&bloom);
        assert_eq!(empty, "{\n\t\"filterDataByTopic\":{}\n}");
    }
}
