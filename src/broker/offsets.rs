//! How far each consumer group has got in each queue.

use super::clients::ChannelId;
use super::json_writer::JsonWriter;
use crate::model::QueueId;
use serde::Deserialize;
use std::collections::BTreeMap;

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Units: the next offset to consume.
    pub offset: i64,
    /// The connection that committed last since the start; 0 is none.
    by: ChannelId,
}

/// Committed offsets by `topic@group` and queue. Units: the next offset to consume.
///
/// Source: ConsumerOffsetManager (4.9.3). A commit is stored as it comes, also a smaller one.
#[derive(Debug)]
pub struct Offsets {
    rows_max: usize,
    rows: usize,
    table: BTreeMap<String, BTreeMap<u32, Committed>>,
    changes: u64,
    saved: u64,
    /// Reused for lookups, so that a commit allocates nothing.
    key: String,
    /// On a slave: rows that clients committed here and the master does not know yet.
    own: Option<BTreeMap<String, BTreeMap<u32, i64>>>,
    /// Of those: what a master was told last. It has them as its own from then on.
    handed_over: BTreeMap<String, BTreeMap<u32, i64>>,
    /// How often one was told.
    hand_overs: u64,
}

impl Offsets {
    pub fn new(rows_max: usize) -> Self {
        Offsets {
            rows_max,
            rows: 0,
            table: BTreeMap::new(),
            changes: 0,
            saved: 0,
            key: String::new(),
            own: None,
            handed_over: BTreeMap::new(),
            hand_overs: 0,
        }
    }

    /// From now on commits of clients are remembered until a master has them (`take_over`).
    pub fn of_slave(mut self) -> Self {
        self.own = Some(BTreeMap::new());
        self
    }

    /// The rows of a master in place of these, but for what clients committed here and is further
    /// than there: they did that while the master was away (apache/rocketmq#1094).
    /// `hand_overs` is what `hand_overs()` said when the master was asked: of what it was told
    /// before that it has the last word.
    /// Source: SlaveSynchronize#syncConsumerOffset (4.9.3). Differs: rows that are gone there go.
    pub fn take_over(&mut self, file: OffsetFile, hand_overs: u64) {
        let before = std::mem::take(&mut self.table);
        self.rows = 0;
        self.restore(file);
        let mut own = self.own.take().unwrap_or_default();
        let handed_over = match hand_overs == self.hand_overs {
            true => std::mem::take(&mut self.handed_over),
            false => BTreeMap::new(),
        };
        own.retain(|key, queues| {
            let handed_over = handed_over.get(key);
            queues.retain(|queue, offset| {
                let is_told = handed_over.and_then(|queues| queues.get(queue)) == Some(offset);
                let row = self.table.get(key).and_then(|queues| queues.get(queue));
                !is_told && row.is_none_or(|known| known.offset < *offset)
            });
            !queues.is_empty()
        });
        for (key, queues) in &own {
            let rows = self.table.entry(key.clone()).or_default();
            for (queue, offset) in queues {
                let row = rows.insert(*queue, Committed { offset: *offset, by: 0 });
                self.rows += usize::from(row.is_none());
            }
        }
        self.own = Some(own);
        self.changes += u64::from(self.table != before);
    }

    pub fn restore(&mut self, file: OffsetFile) {
        for (key, queues) in file.offset_table {
            // The key is split at `@` as Java does; a row that does not fit is kept as it is.
            let row = |offset| Committed { offset, by: 0 };
            let rows = queues.iter();
            let queues: BTreeMap<u32, Committed> =
                rows.filter_map(|(id, at)| Some((id.trim().parse().ok()?, row(*at)))).collect();
            self.rows += queues.len();
            self.table.insert(key, queues);
        }
    }

    /// Takes offsets back that point past what is left of their queue: after a power loss under
    /// ASYNC_FLUSH they would skip the next messages sent there. Returns how many there were.
    pub fn cut(&mut self, end_of: impl Fn(&str, QueueId) -> i64) -> usize {
        let mut count = 0;
        for (key, queues) in &mut self.table {
            let Some((topic, _)) = key.split_once('@') else { continue };
            for (queue, row) in queues.iter_mut() {
                let end = end_of(topic, QueueId(*queue));
                if row.offset > end {
                    row.offset = end;
                    count += 1;
                }
            }
        }
        if count > 0 {
            self.changes += 1;
        }
        count
    }

    /// Stores what the connection `by` commits, 0 for the broker itself. False when the table is
    /// full and this would be a new row.
    pub fn commit(
        &mut self,
        by: ChannelId,
        group: &str,
        topic: &str,
        queue: QueueId,
        offset: i64,
    ) -> bool {
        self.set_key(topic, group);
        if self.own.is_some() && by != 0 {
            self.note_own(queue, offset);
        }
        if let Some(queues) = self.table.get_mut(self.key.as_str())
            && let Some(old) = queues.get_mut(&queue.0)
        {
            self.changes += u64::from(old.offset != offset);
            *old = Committed { offset, by };
            return true;
        }
        if self.rows >= self.rows_max {
            return false;
        }
        self.rows += 1;
        self.changes += 1;
        let queues = self.table.entry(self.key.clone()).or_default();
        queues.insert(queue.0, Committed { offset, by });
        true
    }

    /// A client committed at a slave; `key` is set. There are no more such rows than others.
    fn note_own(&mut self, queue: QueueId, offset: i64) {
        let is_row = self.table.get(&self.key).is_some_and(|rows| rows.contains_key(&queue.0));
        if let Some(own) = self.own.as_mut().filter(|_| is_row || self.rows < self.rows_max) {
            own.entry(self.key.clone()).or_default().insert(queue.0, offset);
        }
    }

    pub fn get(&self, group: &str, topic: &str, queue: QueueId) -> Option<i64> {
        Some(self.row(group, topic, queue)?.offset)
    }

    fn row(&self, group: &str, topic: &str, queue: QueueId) -> Option<&Committed> {
        self.table.get(format!("{topic}@{group}").as_str())?.get(&queue.0)
    }

    /// The connection that committed last.
    pub fn last_committer(&self, group: &str, topic: &str, queue: QueueId) -> Option<ChannelId> {
        self.row(group, topic, queue).map(|row| row.by).filter(|by| *by != 0)
    }

    fn set_key(&mut self, topic: &str, group: &str) {
        self.key.clear();
        self.key.push_str(topic);
        self.key.push('@');
        self.key.push_str(group);
    }

    /// Groups with a stored offset on `topic`.
    pub fn groups_of_topic(&self, topic: &str) -> Vec<&str> {
        self.split().filter(|(t, _)| *t == topic).map(|(_, group)| group).collect()
    }

    /// Every group with a stored offset on `topic`, and its offsets by queue.
    pub fn of_topic(&self, topic: &str) -> impl Iterator<Item = (&str, &BTreeMap<u32, Committed>)> {
        let from = format!("{topic}@");
        let rows = self.table.range(from.clone()..);
        rows.map_while(move |(key, queues)| Some((key.strip_prefix(&*from)?, queues)))
    }

    /// The topics of every group with a stored offset.
    pub fn topics_by_group(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut table: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (topic, group) in self.split() {
            table.entry(group).or_default().push(topic);
        }
        table
    }

    /// Gives a group the offsets that another has of a topic, in place of its own. False when the
    /// table would have too many rows.
    /// Source: ConsumerOffsetManager#cloneOffset (4.9.3).
    pub fn copy(&mut self, topic: &str, from: &str, to: &str) -> bool {
        let Some(queues) = self.table.get(&format!("{topic}@{from}")).cloned() else { return true };
        let key = format!("{topic}@{to}");
        let before = self.table.get(&key).map_or(0, BTreeMap::len);
        let rows = self.rows - before + queues.len();
        if rows > self.rows_max {
            return false;
        }
        self.rows = rows;
        self.changes += 1;
        self.table.insert(key, queues);
        true
    }

    /// Topics on which `group` has a stored offset.
    pub fn topics_of_group(&self, group: &str) -> Vec<&str> {
        self.split().filter(|(_, g)| *g == group).map(|(topic, _)| topic).collect()
    }

    fn split(&self) -> impl Iterator<Item = (&str, &str)> {
        self.table.keys().filter_map(|key| key.split_once('@'))
    }

    pub fn remove_topic(&mut self, topic: &str) {
        let gone = |key: &str| key.split_once('@').is_some_and(|(t, _)| t == topic);
        let gone: Vec<String> = self.table.keys().filter(|key| gone(key)).cloned().collect();
        for key in gone {
            self.rows -= self.table.remove(&key).map_or(0, |queues| queues.len());
            self.changes += 1;
        }
    }

    pub fn remove_group(&mut self, group: &str) {
        let gone: Vec<String> = self
            .table
            .keys()
            .filter(|key| key.split_once('@').is_some_and(|(_, g)| g == group))
            .cloned()
            .collect();
        for key in gone {
            self.rows -= self.table.remove(&key).map_or(0, |queues| queues.len());
            self.changes += 1;
        }
    }

    /// The number of the newest change.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// How often a master was told what clients committed here.
    pub fn hand_overs(&self) -> u64 {
        self.hand_overs
    }

    /// What clients committed here and the master does not know, as a file of offsets, for a
    /// master.
    pub fn hand_over(&mut self) -> String {
        self.handed_over = self.own.clone().unwrap_or_default();
        self.hand_overs += 1;
        let mut out = JsonWriter::new();
        out.open(None);
        out.open(Some("offsetTable"));
        for (key, queues) in self.own.iter().flatten() {
            out.int_map(key, queues.iter().map(|(queue, offset)| (i64::from(*queue), *offset)));
        }
        out.close();
        out.close();
        out.finish()
    }

    /// What clients committed at a slave while this master was away: what is further than here,
    /// and not past the end of its queue. Returns how many rows moved.
    pub fn raise(&mut self, file: OffsetFile, end_of: impl Fn(&str, QueueId) -> i64) -> usize {
        let mut count = 0;
        for (key, queues) in file.offset_table {
            let Some((topic, group)) = key.split_once('@') else { continue };
            for (queue, offset) in queues {
                let Ok(queue) = queue.trim().parse().map(QueueId) else { continue };
                let known = self.get(group, topic, queue).unwrap_or(-1);
                if known < offset && offset <= end_of(topic, queue) {
                    count += usize::from(self.commit(0, group, topic, queue, offset));
                }
            }
        }
        count
    }

    pub fn unsaved(&self) -> Option<u64> {
        (self.saved < self.changes).then_some(self.changes)
    }

    pub fn on_saved(&mut self, changes: u64) {
        self.saved = self.saved.max(changes);
    }

    /// The text of `consumerOffset.json`: integer keys without quotes, as fastjson prints them.
    pub fn to_json(&self) -> String {
        let mut out = JsonWriter::new();
        out.open(None);
        out.open(Some("offsetTable"));
        for (key, queues) in &self.table {
            out.int_map(key, queues.iter().map(|(queue, row)| (i64::from(*queue), row.offset)));
        }
        out.close();
        out.close();
        out.finish()
    }
}

/// `consumerOffset.json` as read.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OffsetFile {
    pub offset_table: BTreeMap<String, BTreeMap<String, i64>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_kept_as_they_come_and_bounded() {
        let mut offsets = Offsets::new(2);
        assert!(offsets.commit(1, "g", "T", QueueId(0), 5));
        assert!(offsets.commit(1, "g", "T", QueueId(1), 7));
        assert!(!offsets.commit(1, "g", "T", QueueId(2), 7), "the table is full");
        assert!(offsets.commit(1, "g", "T", QueueId(0), 3), "a smaller offset is stored too");
        assert_eq!(offsets.get("g", "T", QueueId(0)), Some(3));
        assert_eq!(offsets.get("g", "T", QueueId(9)), None);
        assert_eq!(offsets.groups_of_topic("T"), ["g"]);
    }

    #[test]
    fn what_was_committed_at_a_slave_stays_until_a_master_that_was_told_says_otherwise() {
        let file = |at: i64| OffsetFile {
            offset_table: [("T@g".to_owned(), [("0".to_owned(), at)].into())].into(),
        };
        let get = |offsets: &Offsets| offsets.get("g", "T", QueueId(0));
        let mut offsets = Offsets::new(9).of_slave();
        offsets.take_over(file(5), 0);
        offsets.commit(7, "g", "T", QueueId(0), 12);
        offsets.take_over(file(5), 0);
        assert_eq!(get(&offsets), Some(12), "the master does not know it");
        let before = offsets.hand_overs();
        assert!(offsets.hand_over().contains("12"));
        offsets.take_over(file(6), before);
        assert_eq!(get(&offsets), Some(12), "a copy from before the master was told");
        offsets.commit(7, "g", "T", QueueId(0), 14);
        offsets.take_over(file(12), offsets.hand_overs());
        assert_eq!(get(&offsets), Some(14), "committed after the master was told");
        offsets.hand_over();
        offsets.take_over(file(3), offsets.hand_overs());
        assert_eq!(get(&offsets), Some(3), "an operator went back");
    }

    #[test]
    fn a_deleted_topic_takes_its_offsets_along() {
        let mut offsets = Offsets::new(2);
        offsets.commit(1, "g", "T", QueueId(0), 5);
        offsets.commit(1, "g", "T2", QueueId(0), 7);
        offsets.remove_topic("T");
        assert_eq!((offsets.get("g", "T", QueueId(0)), offsets.rows), (None, 1));
        assert_eq!(offsets.get("g", "T2", QueueId(0)), Some(7));
    }

    #[test]
    fn nothing_is_unsaved_when_nothing_changed() {
        let mut offsets = Offsets::new(9);
        assert_eq!(offsets.unsaved(), None);
        offsets.commit(1, "g", "T", QueueId(0), 5);
        let saving = offsets.unsaved().unwrap();
        offsets.commit(1, "g", "T", QueueId(0), 6);
        offsets.on_saved(saving);
        offsets.on_saved(offsets.unsaved().unwrap());
        offsets.commit(1, "g", "T", QueueId(0), 6);
        assert_eq!(offsets.unsaved(), None);
    }

    #[test]
    fn offsets_past_the_end_of_their_queue_are_cut_back_to_it() {
        let mut offsets = Offsets::new(9);
        offsets.commit(1, "g", "T", QueueId(0), 5);
        offsets.commit(1, "g", "T", QueueId(1), 7);
        assert_eq!(offsets.cut(|_, _| 6), 1);
        assert_eq!(offsets.get("g", "T", QueueId(0)), Some(5));
        assert_eq!(offsets.get("g", "T", QueueId(1)), Some(6));
    }

    #[test]
    fn the_file_has_apaches_shape() {
        let mut offsets = Offsets::new(9);
        offsets.commit(1, "CG1", "%RETRY%CG1", QueueId(0), 1);
        for (queue, offset) in [(0, 2), (1, 2), (2, 4), (3, 3)] {
            offsets.commit(1, "CG1", "TopicTest", QueueId(queue), offset);
        }
        let want = "{\n\t\"offsetTable\":{\n\t\t\"%RETRY%CG1@CG1\":{0:1\n\t\t},\n\
                    \t\t\"TopicTest@CG1\":{0:2,1:2,2:4,3:3\n\t\t}\n\t}\n}";
        assert_eq!(offsets.to_json(), want);
        assert_eq!(Offsets::new(1).to_json(), "{\n\t\"offsetTable\":{}\n}");
    }
}
