//! What a client knows of topics: which queues they have, and where the brokers are.
//!
//! Source: MQClientInstance#topicRouteData2TopicPublishInfo, #topicRouteData2TopicSubscribeInfo,
//! #updateTopicRouteInfoFromNameServer (4.9.3).

use crate::model::{BrokerId, QueueId, TopicName};
use crate::rt::time::{Duration, Mono};
use std::collections::BTreeMap;
use std::sync::Arc;

const PERM_WRITE: i32 = 2;
const PERM_READ: i32 = 4;
const MASTER: BrokerId = 0;

/// One queue of a topic on one broker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageQueue {
    pub topic: TopicName,
    pub broker: Arc<str>,
    pub queue: QueueId,
}

/// The queues of a topic on one broker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueueData {
    pub broker: Arc<str>,
    pub read_queues: u32,
    pub write_queues: u32,
    pub perm: i32,
}

/// Where a topic is, as a name server told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// `brokerA:4;brokerB:4` of an ordered topic: its queues stay, even when a broker is down.
    pub order_conf: Option<String>,
    pub queues: Vec<QueueData>,
    /// Broker name → broker id → address.
    pub brokers: BTreeMap<Arc<str>, BTreeMap<BrokerId, String>>,
}

impl Route {
    /// The queues a producer may choose from, on brokers that have a master.
    pub fn publish_queues(&self, topic: &TopicName) -> Vec<MessageQueue> {
        if let Some(conf) = self.order_conf.as_deref().filter(|conf| !conf.is_empty()) {
            return ordered_queues(conf, topic);
        }
        let mut writable: Vec<&QueueData> = self
            .queues
            .iter()
            .filter(|data| data.perm & PERM_WRITE != 0 && self.master(&data.broker).is_some())
            .collect();
        writable.sort();
        let queues = writable.into_iter().map(|data| (data.broker.clone(), data.write_queues));
        spread(topic, queues)
    }

    /// The queues a consumer may read.
    pub fn subscribe_queues(&self, topic: &TopicName) -> Vec<MessageQueue> {
        let readable = self.queues.iter().filter(|data| data.perm & PERM_READ != 0);
        let mut all = spread(topic, readable.map(|data| (data.broker.clone(), data.read_queues)));
        all.sort();
        all
    }

    pub fn master(&self, broker: &str) -> Option<&str> {
        self.brokers.get(broker)?.get(&MASTER).map(String::as_str)
    }

    /// The master, or else the slave with the smallest id.
    pub fn reader(&self, broker: &str) -> Option<&str> {
        self.brokers.get(broker)?.values().next().map(String::as_str)
    }

    /// The route of the template topic as the route of a topic that is to be made from it.
    fn as_template(&self, queues_max: u32) -> Route {
        let mut route = self.clone();
        for data in &mut route.queues {
            let queues = data.read_queues.min(queues_max);
            data.read_queues = queues;
            data.write_queues = queues;
        }
        route.order_conf = None;
        route
    }
}

fn ordered_queues(conf: &str, topic: &TopicName) -> Vec<MessageQueue> {
    let parts = conf.split(';').filter_map(|part| {
        let (broker, count) = part.split_once(':')?;
        Some((Arc::from(broker), count.trim().parse().ok()?))
    });
    spread(topic, parts)
}

/// Units: queues of one topic that a client looks at; more in a route are not used.
const QUEUES_MAX: usize = 65_536;

fn spread(topic: &TopicName, brokers: impl Iterator<Item = (Arc<str>, u32)>) -> Vec<MessageQueue> {
    brokers
        .flat_map(|(broker, count)| (0..count).map(move |queue| (broker.clone(), queue)))
        .take(QUEUES_MAX)
        .map(|(broker, queue)| MessageQueue { topic: topic.clone(), broker, queue: QueueId(queue) })
        .collect()
}

/// One topic's route and what follows from it.
#[derive(Debug)]
pub struct Entry {
    pub route: Route,
    pub publish: Vec<MessageQueue>,
    /// True when the topic is not known yet and the template's brokers stand in.
    pub is_template: bool,
}

/// The routes of the topics that a client uses.
#[derive(Debug)]
pub struct RouteCache {
    topics_max: usize,
    interval: Duration,
    template_interval: Duration,
    entries: BTreeMap<TopicName, Cached>,
}

#[derive(Debug)]
struct Cached {
    entry: Arc<Entry>,
    refresh_at: Mono,
}

impl RouteCache {
    /// At most `topics_max` topics; a route is asked for again after `interval`, that of a topic
    /// that only the template stands for after `template_interval`.
    pub fn new(topics_max: usize, interval: Duration, template_interval: Duration) -> Self {
        RouteCache { topics_max, interval, template_interval, entries: BTreeMap::new() }
    }

    pub fn get(&self, topic: &TopicName) -> Option<Arc<Entry>> {
        self.entries.get(topic).map(|cached| cached.entry.clone())
    }

    /// Whether there is no room for another topic. Units of the error: topics held.
    pub fn check_room(&self, topic: &TopicName) -> Result<(), usize> {
        match self.entries.len() {
            count if count >= self.topics_max && !self.entries.contains_key(topic) => Err(count),
            _ => Ok(()),
        }
    }

    /// A name server told the topic's route.
    pub fn on_route(&mut self, now: Mono, topic: &TopicName, route: Route) -> Arc<Entry> {
        self.put(now, topic, route, false)
    }

    /// The topic has no route, but the template has.
    pub fn on_template(
        &mut self,
        now: Mono,
        topic: &TopicName,
        template: &Route,
        queues_max: u32,
    ) -> Arc<Entry> {
        self.put(now, topic, template.as_template(queues_max), true)
    }

    fn put(&mut self, now: Mono, topic: &TopicName, route: Route, is_template: bool) -> Arc<Entry> {
        let wait = if is_template { self.template_interval } else { self.interval };
        let refresh_at = now + wait;
        if let Some(cached) = self.entries.get_mut(topic) {
            cached.refresh_at = refresh_at;
            if cached.entry.route == route && cached.entry.is_template == is_template {
                return cached.entry.clone();
            }
        }
        let publish = route.publish_queues(topic);
        let entry = Arc::new(Entry { route, publish, is_template });
        self.entries.insert(topic.clone(), Cached { entry: entry.clone(), refresh_at });
        entry
    }

    /// The refresh of a topic did not work, or told nothing new: it is asked for again later, and
    /// what was known stays in use.
    pub fn on_no_news(&mut self, now: Mono, topic: &TopicName) {
        let refresh_at = now + self.interval;
        if let Some(cached) = self.entries.get_mut(topic) {
            cached.refresh_at = refresh_at;
        }
    }

    pub fn next_deadline(&self) -> Option<Mono> {
        self.entries.values().map(|cached| cached.refresh_at).min()
    }

    /// The topics whose route is to be asked for again.
    pub fn due(&self, now: Mono) -> Vec<TopicName> {
        let due = self.entries.iter().filter(|(_, cached)| cached.refresh_at <= now);
        due.map(|(topic, _)| topic.clone()).collect()
    }

    /// The address of a broker's master in any known route.
    pub fn master(&self, broker: &str) -> Option<String> {
        let mut routes = self.entries.values().map(|cached| &cached.entry.route);
        routes.find_map(|route| route.master(broker)).map(str::to_owned)
    }

    /// The address of a broker to read from in any known route.
    pub fn reader(&self, broker: &str) -> Option<String> {
        let mut routes = self.entries.values().map(|cached| &cached.entry.route);
        routes.find_map(|route| route.reader(broker)).map(str::to_owned)
    }

    /// Every known address, masters alone or all, each once.
    pub fn addresses(&self, masters_only: bool) -> Vec<String> {
        let mut all: Vec<String> = self
            .entries
            .values()
            .flat_map(|cached| cached.entry.route.brokers.values())
            .flat_map(|addrs| addrs.iter())
            .filter(|(id, _)| !masters_only || **id == MASTER)
            .map(|(_, addr)| addr.clone())
            .collect();
        all.sort();
        all.dedup();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn route(brokers: &[(&str, u32, i32)]) -> Route {
        let queues = brokers.iter().map(|(name, count, perm)| QueueData {
            broker: Arc::from(*name),
            read_queues: *count,
            write_queues: *count,
            perm: *perm,
        });
        let addrs = brokers
            .iter()
            .map(|(name, ..)| (Arc::from(*name), BTreeMap::from([(0, format!("{name}:1"))])));
        Route { order_conf: None, queues: queues.collect(), brokers: addrs.collect() }
    }

    fn names(queues: &[MessageQueue]) -> Vec<String> {
        queues.iter().map(|q| format!("{}{}", q.broker, q.queue)).collect()
    }

    #[test]
    fn only_writable_queues_of_brokers_with_a_master_are_written() {
        let topic = TopicName::new("T");
        let mut route = route(&[("b", 2, 6), ("a", 1, 6), ("c", 1, 4), ("d", 1, 6)]);
        let d = route.brokers.get_mut("d").unwrap();
        d.clear();
        d.insert(1, "d1:1".to_owned());
        assert_eq!(names(&route.publish_queues(&topic)), ["a0", "b0", "b1"]);
        assert_eq!(names(&route.subscribe_queues(&topic)), ["a0", "b0", "b1", "c0", "d0"]);
        assert_eq!(route.reader("d"), Some("d1:1"));
        route.order_conf = Some("c:2;a:1".to_owned());
        assert_eq!(names(&route.publish_queues(&topic)), ["c0", "c1", "a0"]);
    }

    #[test]
    fn a_template_gives_few_queues_and_is_replaced() {
        let (topic, mut cache) = (
            TopicName::new("T"),
            RouteCache::new(1, Duration::from_secs(30), Duration::from_secs(1)),
        );
        let entry = cache.on_template(Mono(0), &topic, &route(&[("a", 8, 7)]), 4);
        assert_eq!((entry.publish.len(), entry.is_template), (4, true));
        let entry = cache.on_route(Mono(5), &topic, route(&[("a", 2, 6)]));
        assert_eq!((entry.publish.len(), entry.is_template), (2, false));
        assert_eq!(cache.check_room(&topic), Ok(()));
        assert_eq!(cache.check_room(&TopicName::new("U")), Err(1));
    }

    #[test]
    fn routes_are_due_after_the_interval() {
        let topic = TopicName::new("T");
        let mut cache = RouteCache::new(10, Duration::from_nanos(100), Duration::from_nanos(9));
        assert_eq!(cache.next_deadline(), None);
        let first = cache.on_route(Mono(0), &topic, route(&[("a", 1, 6)]));
        assert_eq!((cache.next_deadline(), cache.due(Mono(99)).len()), (Some(Mono(100)), 0));
        assert_eq!(cache.due(Mono(100)), std::slice::from_ref(&topic));
        let same = cache.on_route(Mono(100), &topic, route(&[("a", 1, 6)]));
        assert!(Arc::ptr_eq(&first, &same), "an equal route keeps the entry");
        cache.on_no_news(Mono(200), &topic);
        assert_eq!(cache.next_deadline(), Some(Mono(300)));
    }
}
