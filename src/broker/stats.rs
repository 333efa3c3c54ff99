//! What was put and got, by topic and by group, in windows of a minute, an hour and a day.
//!
//! Counting is plain addition to a field that the caller has at hand. Every ten seconds each item
//! that was ever counted is sampled, and a window is the difference of its samples.
//!
//! Source: BrokerStatsManager, StatsItem, StoreStatsService, BrokerStats (4.9.3).

use crate::model::{QueueId, WallMillis};
use crate::rt::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

/// Between two samples of the shortest window.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(10);

/// Samples of the shortest window between two of the hour's and of the day's.
const TICKS_PER_HOUR_SAMPLE: u64 = 60;
const TICKS_PER_DAY_SAMPLE: u64 = 360;

const MINUTE_SAMPLES_MAX: usize = 7;
const HOUR_SAMPLES_MAX: usize = 7;
const DAY_SAMPLES_MAX: usize = 25;

const MILLIS_PER_DAY: i64 = 86_400_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sample {
    at: WallMillis,
    value: u64,
    times: u64,
}

/// One number that only grows.
#[derive(Clone, Debug, Default)]
pub struct Item {
    value: u64,
    times: u64,
    samples: Option<Box<Samples>>,
}

#[derive(Clone, Debug, Default)]
struct Samples {
    minute: VecDeque<Sample>,
    hour: VecDeque<Sample>,
    day: VecDeque<Sample>,
}

/// What happened within a window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Window {
    pub sum: u64,
    /// Units: per second.
    pub tps: f64,
    /// Per time that it was counted.
    pub average: f64,
}

impl Item {
    /// Counts `value` in one go.
    pub fn add(&mut self, value: u64) {
        self.value += value;
        self.times += 1;
    }

    /// Nothing was ever counted: tools are told that the item does not exist.
    pub fn is_unused(&self) -> bool {
        self.times == 0
    }

    fn sample(&mut self, now: WallMillis, tick: u64) {
        if self.is_unused() {
            return;
        }
        let sample = Sample { at: now, value: self.value, times: self.times };
        let samples = self.samples.get_or_insert_default();
        let seconds = SAMPLE_INTERVAL.as_secs();
        push(&mut samples.minute, sample, seconds, MINUTE_SAMPLES_MAX);
        if tick.is_multiple_of(TICKS_PER_HOUR_SAMPLE) {
            push(&mut samples.hour, sample, seconds * TICKS_PER_HOUR_SAMPLE, HOUR_SAMPLES_MAX);
        }
        if tick.is_multiple_of(TICKS_PER_DAY_SAMPLE) {
            push(&mut samples.day, sample, seconds * TICKS_PER_DAY_SAMPLE, DAY_SAMPLES_MAX);
        }
    }

    pub fn minute(&self) -> Window {
        self.samples.as_ref().map(|samples| window(&samples.minute)).unwrap_or_default()
    }

    pub fn hour(&self) -> Window {
        self.samples.as_ref().map(|samples| window(&samples.hour)).unwrap_or_default()
    }

    pub fn day(&self) -> Window {
        self.samples.as_ref().map(|samples| window(&samples.day)).unwrap_or_default()
    }
}

/// The first sample has a zero before it, so that what came before it counts.
fn push(samples: &mut VecDeque<Sample>, sample: Sample, seconds: u64, count_max: usize) {
    if samples.is_empty() {
        let at = WallMillis(sample.at.0 - seconds as i64 * 1000);
        samples.push_back(Sample { at, value: 0, times: 0 });
    }
    samples.push_back(sample);
    if samples.len() > count_max {
        samples.pop_front();
    }
}

fn window(samples: &VecDeque<Sample>) -> Window {
    let (Some(first), Some(last)) = (samples.front(), samples.back()) else {
        return Window::default();
    };
    let sum = last.value - first.value;
    let (times, millis) = (last.times - first.times, last.at.0 - first.at.0);
    Window {
        sum,
        // A clock that stepped back makes no rate.
        tps: if millis > 0 { sum as f64 * 1000.0 / millis as f64 } else { 0.0 },
        average: if times > 0 { sum as f64 / times as f64 } else { 0.0 },
    }
}

/// What was put or got, as messages and bytes.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub nums: Item,
    /// Units: bytes of whole records.
    pub size: Item,
}

impl Counts {
    fn add(&mut self, count: u64, bytes: u64) {
        self.nums.add(count);
        self.size.add(bytes);
    }

    fn sample(&mut self, now: WallMillis, tick: u64) {
        self.nums.sample(now, tick);
        self.size.sample(now, tick);
    }
}

/// What was put or got of each queue, by its id, while there is room for more.
#[derive(Clone, Debug, Default)]
struct QueueCounts(Vec<Counts>);

impl QueueCounts {
    /// `room` is how many more queues may be counted anywhere.
    fn add(&mut self, queue: QueueId, count: u64, bytes: u64, room: &mut usize) {
        let at = queue.0 as usize;
        if at >= self.0.len() {
            let more = at + 1 - self.0.len();
            if more > *room {
                return;
            }
            *room -= more;
            self.0.resize_with(at + 1, Counts::default);
        }
        self.0[at].add(count, bytes);
    }

    fn get(&self, queue: QueueId) -> Option<&Counts> {
        self.0.get(queue.0 as usize)
    }

    fn sample(&mut self, now: WallMillis, tick: u64) {
        self.0.iter_mut().for_each(|counts| counts.sample(now, tick));
    }
}

/// What was put into one topic.
#[derive(Clone, Debug, Default)]
struct TopicPuts {
    all: Counts,
    queues: QueueCounts,
}

/// One row per topic; those of topics that are gone are used again.
#[derive(Debug)]
pub struct Puts {
    rows: Vec<TopicPuts>,
    free: Vec<u32>,
    /// Queues that may still be counted.
    room: usize,
}

impl Puts {
    /// At most so many queues are counted; the topics are as many as there may be.
    pub fn new(queues_max: usize) -> Self {
        Puts { rows: Vec::new(), free: Vec::new(), room: queues_max }
    }

    pub fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.rows.push(TopicPuts::default());
            (self.rows.len() - 1) as u32
        })
    }

    pub fn give_back(&mut self, slot: u32) {
        let gone = std::mem::take(&mut self.rows[slot as usize]);
        self.room += gone.queues.0.len();
        self.free.push(slot);
    }

    pub fn add(&mut self, slot: u32, queue: QueueId, count: u64, bytes: u64) {
        let row = &mut self.rows[slot as usize];
        row.all.add(count, bytes);
        row.queues.add(queue, count, bytes, &mut self.room);
    }

    pub fn of_topic(&self, slot: u32) -> Option<&Counts> {
        self.rows.get(slot as usize).map(|row| &row.all)
    }

    pub fn of_queue(&self, slot: u32, queue: QueueId) -> Option<&Counts> {
        self.rows.get(slot as usize)?.queues.get(queue)
    }

    /// Samples some rows from `from` on. Returns where to go on.
    pub fn sample(&mut self, now: WallMillis, tick: u64, from: usize) -> Option<usize> {
        sample_rows(&mut self.rows, from, |row| {
            row.all.sample(now, tick);
            row.queues.sample(now, tick);
            1 + row.queues.0.len()
        })
    }
}

/// Samples of one turn: well below 1 ms. Units: items of two numbers.
const TURN_MAX: usize = 256;

fn sample_rows<T>(
    rows: &mut [T],
    from: usize,
    mut sample: impl FnMut(&mut T) -> usize,
) -> Option<usize> {
    let mut work = 0;
    for (at, row) in rows.iter_mut().enumerate().skip(from) {
        work += sample(row);
        if work >= TURN_MAX {
            return Some(at + 1);
        }
    }
    None
}

/// A row of `Groups`, as those who pull remember it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    at: u32,
    generation: u32,
}

impl Row {
    /// Not looked up yet, or the table was full.
    pub const NONE: Row = Row { at: u32::MAX, generation: 0 };
}

/// Remembers a row beside what names it, so that it is looked up once.
#[derive(Debug)]
pub struct RowCell(AtomicU64);

impl Default for RowCell {
    fn default() -> Self {
        let cell = RowCell(AtomicU64::new(0));
        cell.set(Row::NONE);
        cell
    }
}

impl Clone for RowCell {
    fn clone(&self) -> Self {
        let cell = RowCell::default();
        cell.set(self.get());
        cell
    }
}

/// Where something is counted says nothing of what it is.
impl PartialEq for RowCell {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for RowCell {}

impl RowCell {
    pub fn get(&self) -> Row {
        let packed = self.0.load(Ordering::Relaxed);
        Row { at: (packed >> 32) as u32, generation: packed as u32 }
    }

    pub fn set(&self, row: Row) {
        self.0.store(u64::from(row.at) << 32 | u64::from(row.generation), Ordering::Relaxed);
    }
}

/// What one group got of one topic.
#[derive(Clone, Debug, Default)]
pub struct Gets {
    pub nums: Item,
    /// Units: bytes of whole records.
    pub size: Item,
    pub sent_back: Item,
    queues: QueueCounts,
    generation: u32,
}

impl Gets {
    pub fn of_queue(&self, queue: QueueId) -> Option<&Counts> {
        self.queues.get(queue)
    }
}

/// The rows of topic and group.
#[derive(Debug)]
pub struct Groups {
    rows: Vec<Gets>,
    free: Vec<u32>,
    /// Topic, then group.
    names: BTreeMap<String, BTreeMap<String, u32>>,
    rows_max: usize,
    /// Queues that may still be counted.
    room: usize,
}

impl Groups {
    /// At most so many rows, and so many queues in all of them.
    pub fn new(rows_max: usize, queues_max: usize) -> Self {
        let (rows, free, names) = (Vec::new(), Vec::new(), BTreeMap::new());
        Groups { rows, free, names, rows_max, room: queues_max }
    }

    pub fn is_current(&self, row: Row) -> bool {
        self.rows.get(row.at as usize).is_some_and(|gets| gets.generation == row.generation)
    }

    /// The row of a topic and group, made now when it is missing; `Row::NONE` when there are as
    /// many as may be: then nothing of it is counted.
    pub fn row(&mut self, topic: &str, group: &str) -> Row {
        if let Some(at) = self.names.get(topic).and_then(|groups| groups.get(group)) {
            return self.row_at(*at);
        }
        let at = match self.free.pop() {
            Some(at) => at,
            None if self.rows.len() >= self.rows_max => {
                crate::rt::probe!("stats: there are as many rows as may be");
                return Row::NONE;
            }
            None => {
                self.rows.push(Gets::default());
                (self.rows.len() - 1) as u32
            }
        };
        self.names.entry(topic.to_owned()).or_default().insert(group.to_owned(), at);
        self.row_at(at)
    }

    fn row_at(&self, at: u32) -> Row {
        Row { at, generation: self.rows[at as usize].generation }
    }

    /// The same, remembered in `cell`.
    pub fn row_by(&mut self, cell: &RowCell, topic: &str, group: &str) -> Row {
        let known = cell.get();
        if self.is_current(known) {
            return known;
        }
        let row = self.row(topic, group);
        cell.set(row);
        row
    }

    /// `None` for a row that is gone.
    pub fn get_mut(&mut self, row: Row) -> Option<&mut Gets> {
        self.rows.get_mut(row.at as usize).filter(|gets| gets.generation == row.generation)
    }

    pub fn find(&self, topic: &str, group: &str) -> Option<&Gets> {
        let at = self.names.get(topic)?.get(group)?;
        self.rows.get(*at as usize)
    }

    /// Source: BrokerStatsManager#onTopicDeleted (4.9.3). Differs: without `autoDeleteUnusedStats`.
    pub fn on_topic_deleted(&mut self, topic: &str) {
        for (_, at) in self.names.remove(topic).unwrap_or_default() {
            self.give_back(at);
        }
    }

    /// Source: BrokerStatsManager#onGroupDeleted (4.9.3).
    pub fn on_group_deleted(&mut self, group: &str) {
        let mut gone = Vec::new();
        self.names.retain(|_, groups| {
            gone.extend(groups.remove(group));
            !groups.is_empty()
        });
        gone.into_iter().for_each(|at| self.give_back(at));
    }

    fn give_back(&mut self, at: u32) {
        let gets = &mut self.rows[at as usize];
        self.room += gets.queues.0.len();
        *gets = Gets { generation: gets.generation.wrapping_add(1), ..Gets::default() };
        self.free.push(at);
    }

    /// Samples some rows from `from` on. Returns where to go on.
    pub fn sample(&mut self, now: WallMillis, tick: u64, from: usize) -> Option<usize> {
        sample_rows(&mut self.rows, from, |gets| {
            for item in [&mut gets.nums, &mut gets.size, &mut gets.sent_back] {
                item.sample(now, tick);
            }
            gets.queues.sample(now, tick);
            2 + gets.queues.0.len()
        })
    }
}

/// What the whole broker put and got since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Units: messages, every record that went into the log: a delayed one counts twice.
    pub put: u64,
    /// Units: bytes of them.
    pub put_bytes: u64,
    /// Units: reads of a queue that found something, and that found nothing.
    pub found: u64,
    pub missed: u64,
    /// Units: messages given to those who pull.
    pub got: u64,
}

/// Source: MixAll.SCHEDULE_CONSUMER_GROUP (4.9.3).
const SCHEDULE_GROUP: &str = "SCHEDULE_CONSUMER";

/// Windows of rates. Units: samples back.
const RATE_SAMPLES: [usize; 3] = [1, 6, 60];

/// Everything but what topics count of themselves.
#[derive(Debug)]
pub struct Stats {
    pub totals: Totals,
    pub groups: Groups,
    pub broker_put: Item,
    pub broker_get: Item,
    delivered: RowCell,
    tick: u64,
    history: VecDeque<(WallMillis, Totals)>,
    /// The day it is here, and the totals when it began and when the one before began.
    day: i64,
    this_morning: Totals,
    last_morning: Totals,
}

impl Stats {
    /// `ahead` is how far local time is ahead of UTC. Units: milliseconds.
    pub fn new(rows_max: usize, queues_max: usize, now: WallMillis, ahead: i64) -> Self {
        let none = Totals::default();
        Stats {
            totals: none,
            groups: Groups::new(rows_max, queues_max),
            broker_put: Item::default(),
            broker_get: Item::default(),
            delivered: RowCell::default(),
            tick: 0,
            history: VecDeque::from([(now, none)]),
            day: day_of(now, ahead),
            this_morning: none,
            last_morning: none,
        }
    }

    /// A record of `count` messages went into the log.
    pub fn on_put(&mut self, count: u64, bytes: u64) {
        self.totals.put += count;
        self.totals.put_bytes += bytes;
    }

    /// A delayed message of a level's queue was sent on: the schedule's own group got it, the only
    /// one of which queues are counted.
    /// Source: ScheduleMessageService.PutResultProcess (4.9.3), `enableScheduleMessageStats`.
    pub fn on_delivered(&mut self, topic: &str, queue: QueueId, bytes: u64) {
        self.broker_put.add(1);
        let row = self.groups.row_by(&self.delivered, topic, SCHEDULE_GROUP);
        let Groups { rows, room, .. } = &mut self.groups;
        let gets = rows.get_mut(row.at as usize);
        if let Some(gets) = gets.filter(|gets| gets.generation == row.generation) {
            gets.nums.add(1);
            gets.size.add(bytes);
            gets.queues.add(queue, 1, bytes, room);
        }
    }

    /// A queue was read for somebody who pulls.
    pub fn on_read(&mut self, count: u64) {
        match count {
            0 => self.totals.missed += 1,
            _ => self.totals.found += 1,
        }
        self.totals.got += count;
    }

    /// A pull was answered with messages.
    pub fn on_got(&mut self, row: Row, count: u64, bytes: u64) {
        self.broker_get.add(count);
        if let Some(gets) = self.groups.get_mut(row) {
            gets.nums.add(count);
            gets.size.add(bytes);
        }
    }

    /// Samples the totals; returns the tick for all that has rows.
    pub fn sample(&mut self, now: WallMillis, ahead: i64) -> u64 {
        let tick = self.tick;
        self.tick += 1;
        self.broker_put.sample(now, tick);
        self.broker_get.sample(now, tick);
        self.history.push_back((now, self.totals));
        if self.history.len() > RATE_SAMPLES[2] + 1 {
            self.history.pop_front();
        }
        let day = day_of(now, ahead);
        if day > self.day {
            (self.last_morning, self.this_morning) = (self.this_morning, self.totals);
        }
        self.day = self.day.max(day);
        tick
    }

    /// Totals when yesterday and when today began.
    pub fn mornings(&self) -> (Totals, Totals) {
        (self.last_morning, self.this_morning)
    }

    /// Rates over ten seconds, a minute and ten minutes up to now; over less while the broker is
    /// younger than that.
    pub fn rates(&self, now: WallMillis, of: impl Fn(&Totals) -> u64) -> [f64; 3] {
        RATE_SAMPLES.map(|back| {
            let at = self.history.len().saturating_sub(back);
            let Some((then, before)) = self.history.get(at) else { return 0.0 };
            // The newest sample may be a moment old.
            let enough = now.0 - then.0 >= SAMPLE_INTERVAL.as_millis() as i64 * back as i64;
            let earlier = if enough { None } else { self.history.get(at.wrapping_sub(1)) };
            let (then, before) = earlier.map_or((then, before), |(then, before)| (then, before));
            let millis = now.0 - then.0;
            let count = of(&self.totals) - of(before);
            if millis > 0 { count as f64 * 1000.0 / millis as f64 } else { 0.0 }
        })
    }
}

fn day_of(now: WallMillis, ahead: i64) -> i64 {
    now.0.saturating_add(ahead).div_euclid(MILLIS_PER_DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> WallMillis {
        WallMillis(1_700_000_000_000 + seconds * 1000)
    }

    #[test]
    fn a_window_counts_what_came_before_its_first_sample_and_forgets_what_is_older() {
        let mut item = Item::default();
        item.sample(at(0), 0);
        assert!(item.is_unused() && item.minute() == Window::default());
        for _ in 0..5 {
            item.add(4);
        }
        item.sample(at(10), 1);
        let window = item.minute();
        assert_eq!((window.sum, window.tps, window.average), (20, 2.0, 4.0));
        assert_eq!(item.hour(), Window::default(), "its first sample comes with the 60th");
        for tick in 2..=6 {
            item.sample(at(tick * 10), tick as u64);
        }
        assert_eq!(item.minute().sum, 20);
        item.sample(at(70), 7);
        assert_eq!(item.minute().sum, 0, "seven samples are 60 s");
        item.sample(at(600), 60);
        assert_eq!((item.hour().sum, item.day().sum), (20, 0));
        item.sample(at(3600), 360);
        assert_eq!((item.hour().sum, item.day().sum), (20, 20));
    }

    #[test]
    fn queues_are_counted_while_there_is_room_and_sampled_turn_by_turn() {
        let mut puts = Puts::new(300);
        let (one, two) = (puts.take(), puts.take());
        puts.add(one, QueueId(259), 2, 10);
        puts.add(two, QueueId(39), 3, 10);
        puts.add(two, QueueId(40), 1, 10);
        let value = |counts: Option<&Counts>| counts.map(|counts| counts.nums.value);
        assert_eq!(value(puts.of_queue(one, QueueId(259))), Some(2));
        assert_eq!(value(puts.of_queue(two, QueueId(40))), None, "260 and 40 are all");
        assert_eq!(value(puts.of_topic(two)), Some(4));
        assert_eq!(puts.sample(at(0), 0, 0), Some(1), "one row of 260 queues is a turn");
        assert_eq!(puts.sample(at(0), 0, 1), None);
        let sum = |counts: Option<&Counts>| counts.map(|counts| counts.nums.minute().sum);
        assert_eq!(sum(puts.of_queue(two, QueueId(39))), Some(3));
        puts.give_back(one);
        puts.add(two, QueueId(40), 1, 10);
        assert_eq!(value(puts.of_queue(two, QueueId(40))), Some(1), "there is room again");
    }

    #[test]
    fn rows_are_bounded_and_a_row_that_is_gone_counts_nothing() {
        let mut groups = Groups::new(2, 4);
        let (one, two) = (groups.row("T", "g"), groups.row("T", "h"));
        assert_eq!(groups.row("T", "g"), one);
        assert_eq!(groups.row("U", "g"), Row::NONE);
        groups.get_mut(one).expect("there").nums.add(3);
        assert_eq!(groups.find("T", "g").map(|gets| gets.nums.value), Some(3));
        groups.on_group_deleted("g");
        assert!(groups.get_mut(one).is_none() && groups.find("T", "g").is_none());
        let again = groups.row("U", "g");
        assert!(groups.is_current(again) && !groups.is_current(one));
        groups.on_topic_deleted("T");
        assert!(!groups.is_current(two) && groups.is_current(again));
        assert!(!groups.is_current(Row::NONE));
    }

    #[test]
    fn rates_look_back_and_a_day_ends_in_local_time() {
        // 1,700,000,000 is 22:13:20 in UTC; one hour ahead it is 46 minutes and 40 s to midnight.
        let mut stats = Stats::new(9, 9, at(0), 3_600_000);
        stats.on_put(10, 1000);
        stats.on_read(4);
        stats.on_read(0);
        assert_eq!(stats.rates(at(5), |totals| totals.put), [2.0, 2.0, 2.0]);
        for tick in 1..=6 {
            stats.sample(at(tick * 10), 3_600_000);
        }
        assert_eq!(stats.rates(at(60), |totals| totals.put), [0.0, 10.0 / 60.0, 10.0 / 60.0]);
        let put = |totals: Totals| totals.put;
        let (before, today) = stats.mornings();
        assert_eq!((put(before), put(today)), (0, 0));
        stats.sample(at(46 * 60 + 40), 3_600_000);
        stats.on_put(1, 1);
        let (before, today) = stats.mornings();
        assert_eq!((put(before), put(today), stats.totals.put), (0, 10, 11));
        stats.sample(at(46 * 60 + 40 + 86_400), 3_600_000);
        let (before, today) = stats.mornings();
        assert_eq!((put(before), put(today)), (10, 11));
        let want = Totals { put: 11, put_bytes: 1001, found: 1, missed: 1, got: 4 };
        assert_eq!(stats.totals, want);
    }
}
