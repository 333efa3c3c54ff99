//! Which broker serves which topic, and until when that is believed.
//!
//! Source: RouteInfoManager (4.9.3). Differs: expiry is a deadline per broker instead of a scan
//! every 10 s; everything is under one owner, so no iteration meets a change (W-74); a closing
//! connection takes all brokers that registered over it, not the first found.

use super::options::Options;
use crate::model::BrokerId;
use crate::protocol::body::DataVersion;
use crate::protocol::body::route::{BrokerData, QueueData, TopicRouteData};
use crate::protocol::body::topic::TopicConfig;
use crate::rt::time::Mono;
use std::collections::{BTreeMap, BTreeSet};

/// Identifies a connection; never used twice.
pub type ConnectionId = u64;

const MASTER: BrokerId = 0;
const PERM_WRITE: i32 = 2;
const PERM_READ_WRITE: i32 = 6;

/// What a broker says of itself.
#[derive(Clone, Debug)]
pub struct Registration {
    pub cluster: String,
    pub name: String,
    pub id: BrokerId,
    pub addr: String,
    pub ha_addr: String,
    pub version: DataVersion,
    /// All topics, or only those that changed.
    pub topics: Vec<TopicConfig>,
    /// `None` leaves what is known; empty forgets it.
    pub filter_servers: Option<Vec<String>>,
}

/// What a slave learns from its registration; nothing for a master.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registered {
    pub master_addr: Option<String>,
    pub ha_addr: Option<String>,
}

/// Carried out by the driver in order of appearance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The broker at `addr` was silent for too long: close the connection it registered over.
    Close { connection: ConnectionId, addr: String },
}

/// A bound that a registration would break.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name server holds {max} {what}, which is the most allowed")]
pub struct Full {
    pub what: &'static str,
    pub max: usize,
}

struct Live {
    deadline: Mono,
    version: DataVersion,
    connection: ConnectionId,
    ha_addr: String,
}

/// The routes of one name server. Nothing here is kept on disk.
pub struct RouteTable {
    queues: BTreeMap<String, Vec<QueueData>>,
    brokers: BTreeMap<String, BrokerData>,
    clusters: BTreeMap<String, BTreeSet<String>>,
    live: BTreeMap<String, Live>,
    deadlines: BTreeSet<(Mono, String)>,
    filter_servers: BTreeMap<String, Vec<String>>,
    options: Options,
}

impl RouteTable {
    pub fn new(options: &Options) -> Self {
        RouteTable {
            queues: BTreeMap::new(),
            brokers: BTreeMap::new(),
            clusters: BTreeMap::new(),
            live: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            filter_servers: BTreeMap::new(),
            options: options.clone(),
        }
    }

    /// Takes a broker's word for its topics and starts its deadline anew.
    /// Source: RouteInfoManager#registerBroker.
    /// Errors: `Full`, and then nothing changed.
    pub fn on_register(
        &mut self,
        now: Mono,
        connection: ConnectionId,
        said: Registration,
    ) -> Result<Registered, Full> {
        self.check_bounds(&said)?;
        let Registration { cluster, name, id, addr, ha_addr, version, topics, filter_servers } =
            said;
        self.clusters.entry(cluster.clone()).or_default().insert(name.clone());
        let mut is_first = !self.brokers.contains_key(&name);
        let broker = self.brokers.entry(name.clone()).or_insert_with(|| BrokerData {
            cluster,
            broker_name: name.clone(),
            broker_addrs: BTreeMap::new(),
        });
        // A slave that became master: one address has one id.
        broker.broker_addrs.retain(|&known, at| known == id || *at != addr);
        is_first |= broker.broker_addrs.insert(id, addr.clone()).is_none();
        let is_changed = self.is_changed(&addr, version);
        if id == MASTER && (is_changed || is_first) {
            for topic in topics {
                self.put_queues(&name, topic);
            }
        }
        let deadline = now + self.options.broker_silence_max;
        let live = Live { deadline, version, connection, ha_addr };
        if let Some(before) = self.live.insert(addr.clone(), live) {
            self.deadlines.remove(&(before.deadline, addr.clone()));
        } else {
            tracing::info!("new broker registered, {addr}");
        }
        self.deadlines.insert((deadline, addr.clone()));
        match filter_servers {
            Some(list) if list.is_empty() => drop(self.filter_servers.remove(&addr)),
            Some(list) => drop(self.filter_servers.insert(addr, list)),
            None => {}
        }
        Ok(self.master_of(&name, id))
    }

    fn check_bounds(&self, said: &Registration) -> Result<(), Full> {
        if !self.live.contains_key(&said.addr) && self.live.len() >= self.options.brokers_max {
            return Err(Full { what: "brokers", max: self.options.brokers_max });
        }
        let is_new = |row: &&TopicConfig| !self.queues.contains_key(&row.topic_name);
        if self.queues.len() + said.topics.iter().filter(is_new).count() > self.options.topics_max {
            return Err(Full { what: "topics", max: self.options.topics_max });
        }
        Ok(())
    }

    fn master_of(&self, name: &str, id: BrokerId) -> Registered {
        let master = || {
            let addr = self.brokers.get(name)?.broker_addrs.get(&MASTER)?;
            let ha_addr = self.live.get(addr)?.ha_addr.clone();
            Some(Registered { master_addr: Some(addr.clone()), ha_addr: Some(ha_addr) })
        };
        if id == MASTER { Registered::default() } else { master().unwrap_or_default() }
    }

    /// Source: RouteInfoManager#createAndUpdateQueueData: an unchanged row keeps its place, a
    /// changed one moves to the end.
    fn put_queues(&mut self, broker_name: &str, topic: TopicConfig) {
        let row = QueueData {
            broker_name: broker_name.to_owned(),
            perm: topic.perm,
            read_queue_nums: topic.read_queue_nums,
            topic_sys_flag: topic.topic_sys_flag,
            write_queue_nums: topic.write_queue_nums,
        };
        let rows = self.queues.entry(topic.topic_name).or_default();
        if !rows.contains(&row) {
            rows.retain(|known| known.broker_name != broker_name);
            rows.push(row);
        }
    }

    /// Source: RouteInfoManager#unregisterBroker: the live entry goes by address, the id by name.
    pub fn on_unregister(&mut self, cluster: &str, name: &str, id: BrokerId, addr: &str) {
        self.forget_live(addr);
        let Some(broker) = self.brokers.get_mut(name) else { return };
        broker.broker_addrs.remove(&id);
        if broker.broker_addrs.is_empty() {
            self.forget_name(name, Some(cluster));
        }
        tracing::info!("broker unregistered, {name} {id} {addr}");
    }

    /// A connection ended, for whatever reason: what was registered over it is gone at once.
    /// Source: RouteInfoManager#onChannelDestroy.
    pub fn on_close(&mut self, connection: ConnectionId) {
        let is_of =
            |(addr, live): (&String, &Live)| (live.connection == connection).then(|| addr.clone());
        let gone: Vec<String> = self.live.iter().filter_map(is_of).collect();
        for addr in gone {
            tracing::info!("the broker's connection closed, {addr}");
            self.forget_addr(&addr);
        }
    }

    /// The moment at which the next broker is forgotten unless it is heard of.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Forgets every broker whose deadline has come.
    pub fn on_deadline(&mut self, now: Mono, out: &mut Vec<Effect>) {
        while let Some((at, addr)) = self.deadlines.first().cloned() {
            if at > now {
                return;
            }
            crate::rt::probe!("namesrv: a silent broker was forgotten");
            tracing::warn!("the broker was silent for too long, {addr}");
            if let Some(live) = self.live.get(&addr) {
                out.push(Effect::Close { connection: live.connection, addr: addr.clone() });
            }
            self.deadlines.pop_first();
            self.forget_addr(&addr);
        }
    }

    fn forget_live(&mut self, addr: &str) {
        if let Some(live) = self.live.remove(addr) {
            self.deadlines.remove(&(live.deadline, addr.to_owned()));
        }
        self.filter_servers.remove(addr);
    }

    fn forget_addr(&mut self, addr: &str) {
        self.forget_live(addr);
        let found = self.brokers.values_mut().find_map(|broker| {
            let id = broker.broker_addrs.iter().find(|(_, at)| *at == addr).map(|(&id, _)| id)?;
            broker.broker_addrs.remove(&id);
            Some((broker.broker_name.clone(), broker.broker_addrs.is_empty()))
        });
        if let Some((name, true)) = found {
            self.forget_name(&name, None);
        }
    }

    /// `cluster` is the one that the request names; without it, every cluster is looked at.
    fn forget_name(&mut self, name: &str, cluster: Option<&str>) {
        self.brokers.remove(name);
        self.clusters.retain(|known, names| {
            if cluster.is_none_or(|cluster| cluster == known) {
                names.remove(name);
            }
            !names.is_empty()
        });
        self.queues.retain(|_, rows| {
            rows.retain(|row| row.broker_name != name);
            !rows.is_empty()
        });
    }

    /// Whether the broker at this address would tell us something new.
    pub fn is_changed(&self, addr: &str, version: DataVersion) -> bool {
        self.live.get(addr).is_none_or(|live| live.version != version)
    }

    /// A broker asks with its version instead of registering (322); when nothing changed, that
    /// keeps it alive. Returns what we have of it.
    pub fn on_query_version(
        &mut self,
        now: Mono,
        addr: &str,
        version: DataVersion,
    ) -> (bool, Option<DataVersion>) {
        let is_changed = self.is_changed(addr, version);
        let Some(live) = self.live.get_mut(addr) else { return (is_changed, None) };
        if !is_changed {
            let deadline = now + self.options.broker_silence_max;
            self.deadlines.remove(&(live.deadline, addr.to_owned()));
            self.deadlines.insert((deadline, addr.to_owned()));
            live.deadline = deadline;
        }
        (is_changed, Some(live.version))
    }

    /// `None` unless there are both queues and a broker that serves them.
    /// Source: RouteInfoManager#pickupTopicRouteData.
    pub fn route(&self, topic: &str) -> Option<TopicRouteData> {
        let queues = self.queues.get(topic)?.clone();
        let names: BTreeSet<&String> = queues.iter().map(|row| &row.broker_name).collect();
        let brokers: Vec<BrokerData> =
            names.into_iter().filter_map(|name| self.brokers.get(name)).cloned().collect();
        if brokers.is_empty() {
            return None;
        }
        let addrs = brokers.iter().flat_map(|broker| broker.broker_addrs.values());
        let filter_servers = addrs
            .filter_map(|addr| Some((addr.clone(), self.filter_servers.get(addr)?.clone())))
            .collect();
        Some(TopicRouteData {
            broker_datas: brokers,
            filter_server_table: filter_servers,
            order_topic_conf: None,
            queue_datas: queues,
        })
    }

    pub fn brokers(&self) -> impl Iterator<Item = &BrokerData> {
        self.brokers.values()
    }
    pub fn clusters(&self) -> &BTreeMap<String, BTreeSet<String>> {
        &self.clusters
    }
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.queues.keys().map(String::as_str)
    }

    /// Topics with a queue on any broker of the cluster. Differs: 4.9.3 answers with a null
    /// pointer inside and an empty list for an unknown cluster; so do we, without the exception.
    pub fn topics_of_cluster(&self, cluster: &str) -> Vec<&str> {
        let Some(names) = self.clusters.get(cluster) else { return Vec::new() };
        let is_of = |rows: &Vec<QueueData>| rows.iter().any(|row| names.contains(&row.broker_name));
        self.queues.iter().filter(|(_, rows)| is_of(rows)).map(|(topic, _)| &**topic).collect()
    }

    /// Topics whose first row's system flag passes. Source: RouteInfoManager#getUnitTopics.
    pub fn topics_by_flag(&self, passes: impl Fn(i32) -> bool) -> Vec<&str> {
        let first =
            |rows: &Vec<QueueData>| rows.first().is_some_and(|row| passes(row.topic_sys_flag));
        self.queues.iter().filter(|(_, rows)| first(rows)).map(|(topic, _)| &**topic).collect()
    }

    /// Forgets a topic until a broker registers it with another data version.
    pub fn on_delete_topic(&mut self, topic: &str) {
        self.queues.remove(topic);
    }

    /// Takes the write permission from every topic of a broker name. Returns how many rows.
    pub fn on_wipe_write(&mut self, broker_name: &str) -> i32 {
        self.on_permission(broker_name, |perm| perm & !PERM_WRITE)
    }
    /// Gives read and write to every topic of a broker name. Returns how many rows.
    pub fn on_add_write(&mut self, broker_name: &str) -> i32 {
        self.on_permission(broker_name, |_| PERM_READ_WRITE)
    }
    fn on_permission(&mut self, broker_name: &str, change: impl Fn(i32) -> i32) -> i32 {
        let mut count = 0;
        for row in self.queues.values_mut().flatten() {
            if row.broker_name == broker_name {
                row.perm = change(row.perm);
                count += 1;
            }
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::time::Duration;

    const SILENCE: Duration = Duration::from_secs(120);

    fn at(seconds: u64) -> Mono {
        Mono::default() + Duration::from_secs(seconds)
    }
    fn table() -> RouteTable {
        RouteTable::new(&Options { broker_silence_max: SILENCE, ..Options::default() })
    }
    fn topic(name: &str, queues: i32) -> TopicConfig {
        TopicConfig {
            topic_name: name.to_owned(),
            read_queue_nums: queues,
            write_queue_nums: queues,
            ..TopicConfig::default()
        }
    }
    fn broker(name: &str, id: BrokerId, addr: &str, topics: &[(&str, i32)]) -> Registration {
        Registration {
            cluster: "C".into(),
            name: name.into(),
            id,
            addr: addr.into(),
            ha_addr: format!("{addr}-ha"),
            version: DataVersion { timestamp: 1, counter: 1 },
            topics: topics.iter().map(|(name, queues)| topic(name, *queues)).collect(),
            filter_servers: Some(Vec::new()),
        }
    }
    fn newer(mut said: Registration) -> Registration {
        said.version.counter += 1;
        said
    }
    fn register(table: &mut RouteTable, seconds: u64, connection: u64, said: Registration) {
        table.on_register(at(seconds), connection, said).expect("not full");
    }
    fn names(table: &RouteTable, topic: &str) -> Vec<String> {
        let route = table.route(topic);
        route
            .map(|r| r.broker_datas.into_iter().map(|b| b.broker_name).collect())
            .unwrap_or_default()
    }

    #[test]
    fn a_topic_spans_brokers_and_a_slave_learns_its_master() {
        let mut table = table();
        register(&mut table, 0, 1, broker("a", 0, "a0", &[("T", 4)]));
        register(&mut table, 0, 2, broker("b", 0, "b0", &[("T", 2)]));
        let slave = table.on_register(at(0), 3, broker("a", 1, "a1", &[("Ghost", 1)]));
        assert_eq!(
            slave,
            Ok(Registered { master_addr: Some("a0".into()), ha_addr: Some("a0-ha".into()) })
        );
        let route = table.route("T").expect("a route");
        assert_eq!(
            route.queue_datas.iter().map(|q| q.write_queue_nums).collect::<Vec<_>>(),
            [4, 2]
        );
        assert_eq!(route.broker_datas[0].broker_addrs.values().collect::<Vec<_>>(), ["a0", "a1"]);
        assert_eq!(table.route("Ghost"), None, "slaves never contribute topics");
    }

    #[test]
    fn an_equal_data_version_leaves_topics_alone_and_missing_topics_stay() {
        let mut table = table();
        register(&mut table, 0, 1, broker("a", 0, "a0", &[("T", 4), ("U", 1)]));
        register(&mut table, 1, 1, broker("a", 0, "a0", &[("T", 8)]));
        assert_eq!(table.route("T").map(|r| r.queue_datas[0].read_queue_nums), Some(4));
        register(&mut table, 2, 1, newer(broker("a", 0, "a0", &[("T", 8)])));
        assert_eq!(table.route("T").map(|r| r.queue_datas[0].read_queue_nums), Some(8));
        assert!(table.route("U").is_some());
    }

    #[test]
    fn a_silent_broker_is_forgotten_at_its_deadline_and_its_connection_closed() {
        let mut table = table();
        register(&mut table, 0, 1, broker("a", 0, "a0", &[("T", 4)]));
        register(&mut table, 10, 2, broker("b", 0, "b0", &[("T", 4)]));
        assert_eq!(table.next_deadline(), Some(at(120)));
        let mut out = Vec::new();
        table.on_deadline(at(119), &mut out);
        assert_eq!(out, []);
        table.on_deadline(at(120), &mut out);
        assert_eq!(out, [Effect::Close { connection: 1, addr: "a0".into() }]);
        assert_eq!(names(&table, "T"), ["b"]);
        assert_eq!(table.next_deadline(), Some(at(130)));
        register(&mut table, 125, 2, broker("b", 0, "b0", &[]));
        assert_eq!(table.next_deadline(), Some(at(245)));
    }

    #[test]
    fn a_version_query_keeps_an_unchanged_broker_alive() {
        let mut table = table();
        let version = DataVersion { timestamp: 1, counter: 1 };
        assert_eq!(table.on_query_version(at(0), "a0", version), (true, None));
        register(&mut table, 0, 1, broker("a", 0, "a0", &[("T", 4)]));
        assert_eq!(table.on_query_version(at(60), "a0", version), (false, Some(version)));
        assert_eq!(table.next_deadline(), Some(at(180)));
        let other = DataVersion { timestamp: 1, counter: 9 };
        assert_eq!(table.on_query_version(at(90), "a0", other), (true, Some(version)));
        assert_eq!(table.next_deadline(), Some(at(180)));
    }

    #[test]
    fn a_closed_connection_takes_its_broker_but_not_one_that_registered_again_elsewhere() {
        let mut table = table();
        register(&mut table, 0, 1, broker("a", 0, "a0", &[("T", 4)]));
        register(&mut table, 1, 2, broker("a", 0, "a0", &[("T", 4)]));
        table.on_close(1);
        assert_eq!(names(&table, "T"), ["a"]);
        table.on_close(2);
        assert_eq!(table.route("T"), None);
        assert!(table.clusters().is_empty() && table.next_deadline().is_none());
    }

    #[test]
    fn queues_stay_while_a_slave_is_left_and_go_with_the_last_id() {
        let mut table = table();
        register(&mut table, 0, 1, broker("a", 0, "a0", &[("T", 4)]));
        register(&mut table, 0, 2, broker("a", 1, "a1", &[]));
        table.on_unregister("C", "a", 0, "a0");
        let route = table.route("T").expect("read from the slave");
        assert_eq!(route.broker_datas[0].broker_addrs, BTreeMap::from([(1, "a1".to_owned())]));
        table.on_unregister("C", "a", 1, "a1");
        assert_eq!(table.topics().count(), 0);
    }

    #[test]
    fn a_slave_that_becomes_master_keeps_one_row() {
        let mut table = table();
        register(&mut table, 0, 1, broker("a", 1, "a1", &[]));
        register(&mut table, 5, 1, broker("a", 0, "a1", &[("T", 4)]));
        let route = table.route("T").expect("it is master now");
        assert_eq!(route.broker_datas[0].broker_addrs, BTreeMap::from([(0, "a1".to_owned())]));
    }

    #[test]
    fn wiped_write_permission_survives_plain_registrations() {
        let mut table = table();
        register(&mut table, 0, 1, broker("a", 0, "a0", &[("T", 4), ("U", 4)]));
        assert_eq!(table.on_wipe_write("a"), 2);
        assert_eq!(table.on_wipe_write("nobody"), 0);
        register(&mut table, 30, 1, broker("a", 0, "a0", &[("T", 4), ("U", 4)]));
        assert_eq!(table.route("T").map(|r| r.queue_datas[0].perm), Some(4));
        assert_eq!(table.on_add_write("a"), 2);
        assert_eq!(table.route("U").map(|r| r.queue_datas[0].perm), Some(6));
    }

    #[test]
    fn a_deleted_topic_is_back_when_its_owner_changes() {
        let mut table = table();
        register(&mut table, 0, 1, broker("a", 0, "a0", &[("T", 4)]));
        table.on_delete_topic("T");
        register(&mut table, 30, 1, broker("a", 0, "a0", &[("T", 4)]));
        assert_eq!(table.route("T"), None);
        register(&mut table, 60, 1, newer(broker("a", 0, "a0", &[("T", 4)])));
        assert!(table.route("T").is_some());
    }

    #[test]
    fn a_registration_over_a_bound_changes_nothing() {
        let options = Options { topics_max: 2, brokers_max: 1, ..Options::default() };
        let mut table = RouteTable::new(&options);
        let said = broker("a", 0, "a0", &[("T", 1), ("U", 1), ("V", 1)]);
        assert_eq!(table.on_register(at(0), 1, said), Err(Full { what: "topics", max: 2 }));
        assert!(table.clusters().is_empty());
        register(&mut table, 0, 1, broker("a", 0, "a0", &[("T", 1), ("U", 1)]));
        let said = broker("b", 0, "b0", &[]);
        assert_eq!(table.on_register(at(0), 2, said), Err(Full { what: "brokers", max: 1 }));
        register(&mut table, 1, 1, newer(broker("a", 0, "a0", &[("U", 2)])));
    }

    #[test]
    fn topics_are_listed_by_cluster_and_by_flag() {
        let mut table = table();
        let mut said = broker("a", 0, "a0", &[("T", 4), ("U", 4)]);
        said.topics[1].topic_sys_flag = 1;
        register(&mut table, 0, 1, said);
        register(
            &mut table,
            0,
            2,
            Registration { cluster: "D".into(), ..broker("b", 0, "b0", &[("V", 1)]) },
        );
        assert_eq!(table.topics_of_cluster("C"), ["T", "U"]);
        assert_eq!(table.topics_of_cluster("nowhere"), Vec::<&str>::new());
        assert_eq!(table.topics_by_flag(|flag| flag & 1 != 0), ["U"]);
    }
}
