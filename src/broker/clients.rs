//! Which producers and consumers are alive, on which connection, subscribed to what.

use super::stats::RowCell;
use crate::protocol::body::client::{
    ConsumeFromWhere, ConsumeType, MessageModel, SubscriptionData,
};
use crate::rt::time::{Duration, Mono};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

/// The connection a client speaks over. Units: the id of a `remoting::Peer`.
pub type ChannelId = u64;

/// What a group wants of one topic. Source: SubscriptionData (4.9.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub topic: String,
    pub sub_string: String,
    pub tags: Vec<String>,
    /// Java hash codes of `tags`, sorted.
    pub codes: Vec<i32>,
    pub version: i64,
    /// `TAG` when empty.
    pub expression_type: String,
    pub class_filter: bool,
    /// Where what the group gets of it is counted.
    pub counted_at: RowCell,
}

impl Subscription {
    /// A tag expression as a pull request carries it. Source: FilterAPI#buildSubscriptionData.
    pub fn from_tags(topic: &str, expression: &str, hash: impl Fn(&str) -> i32) -> Self {
        let mut tags = Vec::new();
        if !expression.is_empty() && expression != "*" {
            let parts = expression.split("||").map(str::trim).filter(|part| !part.is_empty());
            tags.extend(parts.map(str::to_owned));
        }
        let mut codes: Vec<i32> = tags.iter().map(|tag| hash(tag)).collect();
        codes.sort_unstable();
        Subscription {
            topic: topic.to_owned(),
            sub_string: if expression.is_empty() { "*" } else { expression }.to_owned(),
            tags,
            codes,
            version: 0,
            expression_type: String::new(),
            class_filter: false,
            counted_at: RowCell::default(),
        }
    }

    /// As the wire carries it.
    pub fn to_data(&self) -> SubscriptionData {
        let kind = if self.is_tag_type() { "TAG" } else { &self.expression_type };
        SubscriptionData {
            class_filter_mode: self.class_filter,
            code_set: self.codes.iter().copied().collect(),
            expression_type: kind.to_owned(),
            sub_string: self.sub_string.clone(),
            sub_version: self.version,
            tags_set: self.tags.iter().cloned().collect(),
            topic: self.topic.clone(),
        }
    }

    pub fn is_tag_type(&self) -> bool {
        is_tag_type(&self.expression_type)
    }

    /// Whether an entry with this tags code may be wanted; the client compares the exact tag.
    pub fn matches(&self, tags_code: i64) -> bool {
        self.class_filter
            || !self.is_tag_type()
            || self.sub_string == "*"
            || self.codes.binary_search(&(tags_code as i32)).is_ok()
    }
}

/// Source: ExpressionType#isTagType (4.9.3).
pub fn is_tag_type(expression_type: &str) -> bool {
    expression_type.is_empty() || expression_type == "TAG"
}

impl From<SubscriptionData> for Subscription {
    fn from(data: SubscriptionData) -> Self {
        Subscription {
            topic: data.topic,
            sub_string: data.sub_string,
            tags: data.tags_set.into_iter().collect(),
            // A set gives its elements in order.
            codes: data.code_set.into_iter().collect(),
            version: data.sub_version,
            expression_type: data.expression_type,
            class_filter: data.class_filter_mode,
            counted_at: RowCell::default(),
        }
    }
}

/// The same for the same topics and expressions, in whatever order and version.
fn fingerprint(subscriptions: &[Subscription]) -> u64 {
    let of = |sub: &Subscription| {
        let parts = [sub.topic.as_str(), &sub.sub_string, &sub.expression_type];
        let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
        // FNV-1a.
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    };
    subscriptions.iter().map(of).fold(0, u64::wrapping_add)
}

/// What a heartbeat says of one consumer group.
#[derive(Clone, Debug)]
pub struct ConsumerBeat {
    pub group: String,
    pub consume_type: Option<ConsumeType>,
    pub model: Option<MessageModel>,
    pub consume_from: Option<ConsumeFromWhere>,
    pub subscriptions: Vec<Subscription>,
    pub notify: bool,
}

/// Who sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientInfo {
    pub id: String,
    pub language: String,
    pub version: i32,
}

/// Carried out by the driver in order of appearance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Tell these channels that the members of the group changed.
    Notify { group: String, channels: Vec<ChannelId> },
    /// The last member of the group left.
    Gone { group: String },
    /// Its members want different things, or agree again: 4.9 clients then get each other's
    /// messages, or none.
    Mixed { group: String, is_mixed: bool },
    /// The client went silent: close its connection.
    Close(ChannelId),
}

#[derive(Debug)]
struct Member {
    client: ClientInfo,
    expires: Mono,
    /// Stands for all that it subscribes to.
    wants: u64,
}

/// The live members of one consumer group.
#[derive(Debug)]
pub struct ConsumerGroup {
    pub consume_type: Option<ConsumeType>,
    pub model: Option<MessageModel>,
    pub consume_from: Option<ConsumeFromWhere>,
    subscriptions: BTreeMap<String, Arc<Subscription>>,
    members: BTreeMap<ChannelId, Member>,
    notify: bool,
    is_mixed: bool,
    /// Members for which this broker has no queue.
    idle: usize,
}

impl ConsumerGroup {
    pub fn subscription(&self, topic: &str) -> Option<&Arc<Subscription>> {
        self.subscriptions.get(topic)
    }

    /// The first one whose topic is not less than this.
    pub fn subscription_from(&self, topic: &str) -> Option<&Arc<Subscription>> {
        let range = (Bound::Included(topic), Bound::Unbounded);
        self.subscriptions.range::<str, _>(range).next().map(|(_, subscription)| subscription)
    }

    pub fn subscriptions(&self) -> impl Iterator<Item = &Arc<Subscription>> {
        self.subscriptions.values()
    }

    pub fn members(&self) -> impl Iterator<Item = (ChannelId, &ClientInfo)> {
        self.members.iter().map(|(channel, member)| (*channel, &member.client))
    }

    /// Says so when members begin or cease to want different things.
    fn note_mixed(&mut self, name: &str, out: &mut Vec<Effect>) {
        let mut wants = self.members.values().map(|member| member.wants);
        let first = wants.next();
        let is_mixed = wants.any(|wants| Some(wants) != first);
        if is_mixed != self.is_mixed {
            self.is_mixed = is_mixed;
            out.push(Effect::Mixed { group: name.to_owned(), is_mixed });
        }
    }

    fn channels(&self) -> Vec<ChannelId> {
        self.members.keys().copied().collect()
    }

    /// Source: ConsumerGroupInfo#updateSubscription (4.9.3): the newest heartbeat's set wins, a
    /// newer version of a topic alone is not a change of the group.
    fn replace_subscriptions(&mut self, wanted: Vec<Subscription>) -> bool {
        let topics: BTreeSet<String> = wanted.iter().map(|sub| sub.topic.clone()).collect();
        let before = self.subscriptions.len();
        self.subscriptions.retain(|topic, _| topics.contains(topic));
        let mut changed = self.subscriptions.len() != before;
        for sub in wanted {
            match self.subscriptions.get(&sub.topic) {
                Some(old) if old.version >= sub.version => {}
                old => {
                    changed |= old.is_none();
                    self.subscriptions.insert(sub.topic.clone(), Arc::new(sub));
                }
            }
        }
        changed
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Consumer,
    Producer,
}

/// All live clients. Every membership has a deadline that each heartbeat moves.
#[derive(Debug)]
pub struct Clients {
    silence_max: Duration,
    memberships_max: usize,
    consumers: BTreeMap<String, ConsumerGroup>,
    producers: BTreeMap<String, BTreeMap<ChannelId, Member>>,
    /// The channels of each producing client, and in how many groups they are.
    producer_ids: BTreeMap<String, BTreeMap<ChannelId, usize>>,
    deadlines: BTreeSet<(Mono, Role, String, ChannelId)>,
}

impl Clients {
    pub fn new(silence_max: Duration, memberships_max: usize) -> Self {
        Clients {
            silence_max,
            memberships_max,
            consumers: BTreeMap::new(),
            producers: BTreeMap::new(),
            producer_ids: BTreeMap::new(),
            deadlines: BTreeSet::new(),
        }
    }

    pub fn consumer_group(&self, group: &str) -> Option<&ConsumerGroup> {
        self.consumers.get(group)
    }

    /// The first group whose name is not less than this.
    pub fn consumer_group_from(&self, name: &str) -> Option<(&str, &ConsumerGroup)> {
        let mut rest = self.consumers.range::<str, _>((Bound::Included(name), Bound::Unbounded));
        rest.next().map(|(name, group)| (name.as_str(), group))
    }

    pub fn producer_group(
        &self,
        group: &str,
    ) -> Option<impl Iterator<Item = (ChannelId, &ClientInfo)>> {
        let members = self.producers.get(group)?;
        Some(members.iter().map(|(channel, member)| (*channel, &member.client)))
    }

    /// The newest channel of a client that produces.
    /// Source: ProducerManager#findChannel (4.9.3), which forgets a client when it leaves one of
    /// its groups.
    pub fn producer(&self, client: &str) -> Option<ChannelId> {
        self.producer_ids.get(client)?.keys().next_back().copied()
    }

    fn count_producer(&mut self, client: &str, channel: ChannelId) {
        if let Some(channels) = self.producer_ids.get_mut(client) {
            *channels.entry(channel).or_default() += 1;
        } else {
            self.producer_ids.insert(client.to_owned(), BTreeMap::from([(channel, 1)]));
        }
    }

    fn discount_producer(&mut self, client: &str, channel: ChannelId) {
        let Some(channels) = self.producer_ids.get_mut(client) else { return };
        if let Some(count) = channels.get_mut(&channel) {
            *count -= 1;
            if *count == 0 {
                channels.remove(&channel);
            }
        }
        if channels.is_empty() {
            self.producer_ids.remove(client);
        }
    }

    /// Members of the group for which there is no queue here. Returns how many it had before.
    pub fn set_idle(&mut self, group: &str, idle: usize) -> usize {
        let group = self.consumers.get_mut(group);
        group.map_or(idle, |group| std::mem::replace(&mut group.idle, idle))
    }

    /// Groups whose members want different things, and members without a queue here.
    pub fn troubles(&self) -> (usize, usize) {
        let groups = self.consumers.values();
        (
            groups.clone().filter(|group| group.is_mixed).count(),
            groups.map(|group| group.idle).sum(),
        )
    }

    /// Groups with a live member subscribed to `topic`.
    pub fn groups_of_topic(&self, topic: &str) -> Vec<&str> {
        let has = |group: &ConsumerGroup| group.subscriptions.contains_key(topic);
        self.consumers.iter().filter(|(_, g)| has(g)).map(|(name, _)| name.as_str()).collect()
    }

    /// False when the table is full; a membership that exists is always refreshed.
    #[must_use]
    pub fn on_consumer_beat(
        &mut self,
        now: Mono,
        channel: ChannelId,
        client: &ClientInfo,
        beat: ConsumerBeat,
        out: &mut Vec<Effect>,
    ) -> bool {
        let expires = now + self.silence_max;
        let full = self.deadlines.len() >= self.memberships_max;
        let known =
            self.consumers.get(&beat.group).is_some_and(|g| g.members.contains_key(&channel));
        if full && !known {
            return false;
        }
        let group = self.consumers.entry(beat.group.clone()).or_insert_with(|| ConsumerGroup {
            consume_type: None,
            model: None,
            consume_from: None,
            subscriptions: BTreeMap::new(),
            members: BTreeMap::new(),
            notify: true,
            is_mixed: false,
            idle: 0,
        });
        group.consume_type = beat.consume_type;
        group.model = beat.model;
        group.consume_from = beat.consume_from;
        group.notify = beat.notify;
        let wants = fingerprint(&beat.subscriptions);
        let member = Member { client: client.clone(), expires, wants };
        let old = group.members.insert(channel, member);
        let is_new = old.is_none();
        group.note_mixed(&beat.group, out);
        if let Some(old) = old {
            self.deadlines.remove(&(old.expires, Role::Consumer, beat.group.clone(), channel));
        }
        self.deadlines.insert((expires, Role::Consumer, beat.group.clone(), channel));
        let changed = group.replace_subscriptions(beat.subscriptions);
        if (is_new || changed) && beat.notify {
            out.push(Effect::Notify { channels: group.channels(), group: beat.group });
        }
        true
    }

    /// False when the table is full.
    #[must_use]
    pub fn on_producer_beat(
        &mut self,
        now: Mono,
        channel: ChannelId,
        client: &ClientInfo,
        group: &str,
    ) -> bool {
        let expires = now + self.silence_max;
        let full = self.deadlines.len() >= self.memberships_max;
        let known = self.producers.get(group).is_some_and(|g| g.contains_key(&channel));
        if full && !known {
            return false;
        }
        let members = self.producers.entry(group.to_owned()).or_default();
        let member = Member { client: client.clone(), expires, wants: 0 };
        if let Some(old) = members.insert(channel, member) {
            self.deadlines.remove(&(old.expires, Role::Producer, group.to_owned(), channel));
            self.discount_producer(&old.client.id, channel);
        }
        self.count_producer(&client.id, channel);
        self.deadlines.insert((expires, Role::Producer, group.to_owned(), channel));
        true
    }

    /// A client says goodbye to one group. Source: ConsumerManager#unregisterConsumer (4.9.3).
    pub fn on_unregister_consumer(
        &mut self,
        channel: ChannelId,
        group: &str,
        out: &mut Vec<Effect>,
    ) {
        self.drop_consumer(channel, group, out);
    }

    pub fn on_unregister_producer(&mut self, channel: ChannelId, group: &str) {
        let Some(members) = self.producers.get_mut(group) else { return };
        let removed = members.remove(&channel);
        if members.is_empty() {
            self.producers.remove(group);
        }
        if let Some(old) = removed {
            self.deadlines.remove(&(old.expires, Role::Producer, group.to_owned(), channel));
            self.discount_producer(&old.client.id, channel);
        }
    }

    fn drop_consumer(&mut self, channel: ChannelId, name: &str, out: &mut Vec<Effect>) {
        let Some(group) = self.consumers.get_mut(name) else { return };
        let Some(old) = group.members.remove(&channel) else { return };
        self.deadlines.remove(&(old.expires, Role::Consumer, name.to_owned(), channel));
        if group.members.is_empty() {
            self.consumers.remove(name);
            out.push(Effect::Gone { group: name.to_owned() });
            return;
        }
        group.note_mixed(name, out);
        if group.notify {
            out.push(Effect::Notify { channels: group.channels(), group: name.to_owned() });
        }
    }

    /// A connection closed: its client left every group.
    pub fn on_close(&mut self, channel: ChannelId, out: &mut Vec<Effect>) {
        let mine = |g: &ConsumerGroup| g.members.contains_key(&channel);
        let groups: Vec<String> =
            self.consumers.iter().filter(|(_, g)| mine(g)).map(|(n, _)| n.clone()).collect();
        for group in groups {
            self.drop_consumer(channel, &group, out);
        }
        let groups: Vec<String> = self
            .producers
            .iter()
            .filter(|(_, members)| members.contains_key(&channel))
            .map(|(name, _)| name.clone())
            .collect();
        for group in groups {
            self.on_unregister_producer(channel, &group);
        }
    }

    pub fn next_deadline(&self) -> Option<Mono> {
        self.deadlines.first().map(|(at, ..)| *at)
    }

    /// Source: ConsumerManager#scanNotActiveChannel (4.9.3). Differs: the others of a group are
    /// told at once instead of at the close of the connection.
    pub fn on_deadline(&mut self, now: Mono, out: &mut Vec<Effect>) {
        while let Some((at, role, group, channel)) = self.deadlines.first().cloned() {
            if at > now {
                break;
            }
            match role {
                Role::Consumer => self.drop_consumer(channel, &group, out),
                Role::Producer => self.on_unregister_producer(channel, &group),
            }
            self.deadlines.remove(&(at, role, group, channel));
            out.push(Effect::Close(channel));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients() -> Clients {
        Clients::new(Duration::from_secs(120), 100)
    }

    fn client(id: &str) -> ClientInfo {
        ClientInfo { id: id.to_owned(), language: "JAVA".to_owned(), version: 399 }
    }

    fn at(seconds: u64) -> Mono {
        Mono::default() + Duration::from_secs(seconds)
    }

    fn beat(topics: &[(&str, i64)]) -> ConsumerBeat {
        let sub = |(topic, version): &(&str, i64)| Subscription {
            version: *version,
            ..Subscription::from_tags(topic, "*", |_| 0)
        };
        ConsumerBeat {
            group: "g".to_owned(),
            consume_type: Some(ConsumeType::Passively),
            model: Some(MessageModel::Clustering),
            consume_from: Some(ConsumeFromWhere::LastOffset),
            subscriptions: topics.iter().map(sub).collect(),
            notify: true,
        }
    }

    fn notify(channels: &[ChannelId]) -> Effect {
        Effect::Notify { group: "g".to_owned(), channels: channels.to_vec() }
    }

    #[test]
    fn members_are_told_of_a_join_a_leave_and_a_new_topic_but_not_of_each_heartbeat() {
        let (mut clients, mut out) = (clients(), Vec::new());
        assert!(clients.on_consumer_beat(at(0), 1, &client("a"), beat(&[("T", 1)]), &mut out));
        assert_eq!(std::mem::take(&mut out), [notify(&[1])]);
        assert!(clients.on_consumer_beat(at(1), 2, &client("b"), beat(&[("T", 1)]), &mut out));
        assert_eq!(std::mem::take(&mut out), [notify(&[1, 2])]);
        assert!(clients.on_consumer_beat(at(2), 2, &client("b"), beat(&[("T", 9)]), &mut out));
        assert_eq!(out, [], "a newer version alone is no change");
        assert_eq!(clients.consumer_group("g").unwrap().subscription("T").unwrap().version, 9);
        let two = beat(&[("T", 9), ("U", 1)]);
        assert!(clients.on_consumer_beat(at(3), 2, &client("b"), two, &mut out));
        let mixed = |is_mixed| Effect::Mixed { group: "g".to_owned(), is_mixed };
        assert_eq!(std::mem::take(&mut out), [mixed(true), notify(&[1, 2])]);
        clients.on_close(1, &mut out);
        assert_eq!(std::mem::take(&mut out), [mixed(false), notify(&[2])]);
        clients.on_unregister_consumer(2, "g", &mut out);
        assert_eq!(out, [Effect::Gone { group: "g".to_owned() }]);
        assert!(clients.consumer_group("g").is_none());
    }

    #[test]
    fn a_silent_client_is_dropped_at_its_deadline_and_its_group_told() {
        let (mut clients, mut out) = (clients(), Vec::new());
        assert!(clients.on_consumer_beat(at(0), 1, &client("a"), beat(&[("T", 1)]), &mut out));
        assert!(clients.on_consumer_beat(at(0), 2, &client("b"), beat(&[("T", 1)]), &mut out));
        assert!(clients.on_producer_beat(at(0), 1, &client("a"), "p"));
        assert!(clients.on_consumer_beat(at(60), 2, &client("b"), beat(&[("T", 1)]), &mut out));
        out.clear();
        assert_eq!(clients.next_deadline(), Some(at(120)));
        clients.on_deadline(at(119), &mut out);
        assert_eq!(out, []);
        clients.on_deadline(at(120), &mut out);
        assert_eq!(out, [notify(&[2]), Effect::Close(1), Effect::Close(1)]);
        assert!(clients.producer_group("p").is_none());
        assert_eq!(clients.next_deadline(), Some(at(180)));
    }

    #[test]
    fn the_table_is_bounded_but_members_are_always_refreshed() {
        let mut clients = Clients::new(Duration::from_secs(120), 1);
        let out = &mut Vec::new();
        assert!(clients.on_consumer_beat(at(0), 1, &client("a"), beat(&[]), out));
        assert!(!clients.on_consumer_beat(at(0), 2, &client("b"), beat(&[]), out));
        assert!(!clients.on_producer_beat(at(0), 1, &client("a"), "p"));
        assert!(clients.on_consumer_beat(at(1), 1, &client("a"), beat(&[]), out));
    }

    #[test]
    fn members_that_want_different_things_are_told_once_and_once_more_when_they_agree() {
        let (mut clients, mut out) = (clients(), Vec::new());
        let mixed = |out: &mut Vec<Effect>| {
            let all = std::mem::take(out).into_iter();
            all.filter(|effect| matches!(effect, Effect::Mixed { .. })).collect::<Vec<_>>()
        };
        let told = |is_mixed| vec![Effect::Mixed { group: "g".to_owned(), is_mixed }];
        let two = || beat(&[("U", 1), ("T", 1)]);
        assert!(clients.on_consumer_beat(at(0), 1, &client("a"), two(), &mut out));
        let same = beat(&[("T", 9), ("U", 8)]);
        assert!(clients.on_consumer_beat(at(0), 2, &client("b"), same, &mut out));
        assert_eq!((mixed(&mut out), clients.troubles()), (vec![], (0, 0)));
        for _ in 0..2 {
            let other = beat(&[("T", 9)]);
            assert!(clients.on_consumer_beat(at(1), 3, &client("c"), other, &mut out));
            assert!(clients.on_consumer_beat(at(1), 1, &client("a"), two(), &mut out));
        }
        assert_eq!((mixed(&mut out), clients.troubles()), (told(true), (1, 0)));
        assert_eq!((clients.set_idle("g", 2), clients.set_idle("g", 1)), (0, 2));
        assert_eq!(clients.troubles(), (1, 1));
        clients.on_close(3, &mut out);
        assert_eq!((mixed(&mut out), clients.troubles()), (told(false), (0, 1)));
        clients.on_close(2, &mut out);
        clients.on_close(1, &mut out);
        assert_eq!((mixed(&mut out), clients.troubles()), (vec![], (0, 0)));
    }

    #[test]
    fn a_producer_is_found_by_its_newest_connection_until_it_has_left_every_group() {
        let mut clients = clients();
        let out = &mut Vec::new();
        for group in ["p", "q"] {
            assert!(clients.on_producer_beat(at(0), 1, &client("a"), group));
            assert!(clients.on_producer_beat(at(1), 1, &client("a"), group));
        }
        assert_eq!(clients.producer("a"), Some(1));
        assert!(clients.on_producer_beat(at(0), 2, &client("a"), "p"));
        assert_eq!(clients.producer("a"), Some(2));
        clients.on_close(2, out);
        clients.on_unregister_producer(1, "p");
        assert_eq!(clients.producer("a"), Some(1), "it is still in the other group");
        clients.on_deadline(at(121), out);
        assert_eq!(clients.producer("a"), None);
        assert!(clients.producer_ids.is_empty());
    }

    #[test]
    fn tags_are_split_trimmed_and_matched_by_hash() {
        let hash = |tag: &str| i32::from(tag.as_bytes()[0]);
        let sub = Subscription::from_tags("T", " b || a ||", hash);
        assert_eq!((sub.tags.len(), sub.codes.as_slice()), (2, [97, 98].as_slice()));
        assert!(sub.matches(97) && !sub.matches(99));
        assert!(Subscription::from_tags("T", "*", hash).matches(5));
        assert!(Subscription::from_tags("T", "", hash).matches(5));
    }
}
