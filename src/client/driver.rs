//! Where the client meets the network: every request that it makes.

use super::error::Error;
use super::identity::Identity;
use super::message::Message;
use super::options::Options;
use super::producer::{SendResult, SendStatus, Turn, is_worth_another_try};
use super::pull::{PullRequest, PullResult, PullStatus};
use super::route_cache::{Entry, MessageQueue, Route, RouteCache};
use super::subscription::Subscription;
use super::{task, wire};
use crate::model::{GroupName, PhysicalOffset, QueueOffset, TopicName, WallMillis};
use crate::net::Net;
use crate::protocol::Command;
use crate::protocol::code::{request_code, response_code};
use crate::remoting::{self, ClientRequests, Peer};
use crate::rt::rng::Rng;
use crate::rt::sync::{Mutex, Notify, watch};
use crate::rt::task::TaskGroup;
use crate::rt::time::{Clock, Duration, Mono};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A producer and pull consumer. Cloning is cheap; it ends with the task group it was started in.
///
/// Source: DefaultMQProducerImpl, DefaultMQPullConsumerImpl, MQClientInstance (4.9.3).
#[derive(Clone)]
pub struct Client {
    pub(super) inner: Arc<Inner>,
}

/// What a member of a group wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interest {
    pub subscriptions: Vec<Subscription>,
    /// Whether a new group begins at the first message; else at the last.
    pub from_first: bool,
}

pub(super) struct Inner {
    pub clock: Clock,
    pub options: Options,
    pub remoting: remoting::Client,
    pub state: Mutex<State>,
    /// Rung when a deadline of the housekeeping may have come nearer.
    pub wake: Notify,
    members: Arc<watch::Sender<u64>>,
}

pub(super) struct State {
    identity: Identity,
    rng: Rng,
    pub routes: RouteCache,
    /// The name server that answered last.
    name_server: usize,
    name_servers: Vec<String>,
    turns: BTreeMap<TopicName, Turn>,
    pub interests: BTreeMap<GroupName, Interest>,
    /// Whether this client sends, and so heartbeats as a producer.
    pub is_producer: bool,
    pub heartbeat_at: Option<Mono>,
}

/// Counts the notices of brokers that a group of ours has other members now.
struct Notices(Arc<watch::Sender<u64>>);

impl ClientRequests for Notices {
    fn on_request(&self, _peer: &Peer, request: Command) {
        if request.code == request_code::NOTIFY_CONSUMER_IDS_CHANGED {
            self.0.send(self.0.get().wrapping_add(1));
        } else {
            tracing::debug!(code = request.code, "a broker asked what this client does not answer");
        }
    }
}

impl Client {
    /// Starts a client; its one background task refreshes routes and heartbeats.
    pub fn start(
        net: &Arc<dyn Net>,
        clock: &Clock,
        group: &TaskGroup,
        options: Options,
        identity: Identity,
        mut rng: Rng,
    ) -> Client {
        let members = Arc::new(watch::channel(0).0);
        let notices: Arc<dyn ClientRequests> = Arc::new(Notices(members.clone()));
        let remoting =
            remoting::Client::new(net, clock, group, options.remoting.clone(), Some(notices));
        let mut name_servers = options.name_servers.clone();
        rng.shuffle(&mut name_servers);
        let state = State {
            identity,
            rng,
            routes: RouteCache::new(
                options.topics_max,
                options.route_interval,
                options.template_interval,
            ),
            name_server: 0,
            name_servers,
            turns: BTreeMap::new(),
            interests: BTreeMap::new(),
            is_producer: false,
            heartbeat_at: None,
        };
        let inner = Arc::new(Inner {
            clock: clock.clone(),
            options,
            remoting,
            state: Mutex::new(state),
            wake: Notify::new(),
            members,
        });
        group.spawn(task::housekeeping::run(inner.clone(), group.stop_signal()));
        Client { inner }
    }

    /// The id that this client has among the members of a group.
    pub fn client_id(&self) -> String {
        self.inner.client_id()
    }

    /// Sends a message: up to `send_tries_max` tries on different brokers within `send_timeout`.
    /// Errors: `Error::may_be_stored` says whether a broker may have it nevertheless.
    /// Source: DefaultMQProducerImpl#sendDefaultImpl (4.9.3).
    pub async fn send(&self, message: &Message) -> Result<SendResult, Error> {
        let options = &self.inner.options;
        let deadline = self.inner.clock.mono() + options.send_timeout;
        message.check(options.body_size_max)?;
        let entry = self.inner.publish_entry(&message.topic, deadline).await?;
        let message = self.inner.prepare(message);
        let mut tries = Tries::default();
        while tries.count < options.send_tries_max {
            let now = self.inner.clock.mono();
            if now > deadline {
                return tries.out_of_time(&message.topic, options.send_timeout);
            }
            let queue = self.inner.next_queue(&message.topic, &entry, tries.last_broker())?;
            tries.begin(&queue);
            match self.inner.send_once(&message, &queue, deadline.since(now)).await {
                Ok(mut result) => {
                    result.tries = tries.count;
                    if result.status == SendStatus::Ok || !options.retry_when_not_ok {
                        return Ok(result);
                    }
                    tries.weaker = Some(result);
                }
                Err(error) => {
                    let goes_on = is_worth_another_try(&error);
                    tries.failed(error);
                    if !goes_on {
                        break;
                    }
                }
            }
        }
        tries.end(&message.topic)
    }

    /// Sends a message to one queue, once.
    /// Errors: see `send`.
    pub async fn send_to(
        &self,
        queue: &MessageQueue,
        message: &Message,
    ) -> Result<SendResult, Error> {
        message.check(self.inner.options.body_size_max)?;
        let message = self.inner.prepare(message);
        self.inner.send_once(&message, queue, self.inner.options.send_timeout).await
    }

    /// Sends a message that no broker answers. Returns when it is on its way to one.
    pub async fn send_oneway(&self, message: &Message) -> Result<(), Error> {
        let options = &self.inner.options;
        message.check(options.body_size_max)?;
        let deadline = self.inner.clock.mono() + options.send_timeout;
        let entry = self.inner.publish_entry(&message.topic, deadline).await?;
        let message = self.inner.prepare(message);
        let queue = self.inner.next_queue(&message.topic, &entry, None)?;
        let addr = self.inner.master_of(&queue).await?;
        let request = wire::send_request(&message, &queue, options, self.inner.clock.wall());
        let left = deadline.since(self.inner.clock.mono());
        Ok(self.inner.remoting.oneway(&addr, request.oneway(), left).await?)
    }

    /// Where the topic is. Always asks a name server.
    /// Errors: `NoRoute` when no broker serves it.
    pub async fn route(&self, topic: &TopicName) -> Result<Route, Error> {
        let deadline = self.inner.clock.mono() + self.inner.options.request_timeout;
        self.inner.room_for(topic)?;
        let route = self.inner.fetch_route(topic, deadline).await?;
        let route = route.ok_or_else(|| Error::NoRoute(topic.clone()))?;
        self.inner.state.lock().routes.on_route(self.inner.clock.mono(), topic, route.clone());
        Ok(route)
    }

    /// The queues that a consumer of the topic reads. Always asks a name server.
    pub async fn subscribe_queues(&self, topic: &TopicName) -> Result<Vec<MessageQueue>, Error> {
        Ok(self.route(topic).await?.subscribe_queues(topic))
    }

    /// The queues that a producer of the topic chooses from.
    pub async fn publish_queues(&self, topic: &TopicName) -> Result<Vec<MessageQueue>, Error> {
        let deadline = self.inner.clock.mono() + self.inner.options.request_timeout;
        Ok(self.inner.publish_entry(topic, deadline).await?.publish.clone())
    }

    /// Asks for messages.
    /// Errors: `Answer` with the broker's code when it refuses.
    pub async fn pull(&self, request: &PullRequest<'_>) -> Result<PullResult, Error> {
        let options = &self.inner.options;
        let addr = self.inner.reader_of(request.queue).await?;
        let command = wire::pull_request(request, options.pull_suspend);
        let timeout =
            if request.may_wait { options.pull_timeout_suspended } else { options.pull_timeout };
        let answer = self.inner.remoting.invoke(&addr, command, timeout).await?;
        let Some(status) = PullStatus::of_code(answer.code) else {
            return Err(wire::refused("pull", &addr, &answer));
        };
        let offset = |field| wire::offset("pull", &addr, &answer, field);
        Ok(PullResult {
            status,
            next: offset("nextBeginOffset")?,
            min: offset("minOffset")?,
            max: offset("maxOffset")?,
            body: answer.body.clone(),
        })
    }

    /// The offset that the group committed; `None` when there is none and the broker does not
    /// let it begin at 0.
    pub async fn committed_offset(
        &self,
        group: &GroupName,
        queue: &MessageQueue,
    ) -> Result<Option<QueueOffset>, Error> {
        let addr = self.inner.reader_of(queue).await?;
        let request = wire::of_queue(request_code::QUERY_CONSUMER_OFFSET, queue)
            .with_ext("consumerGroup", group);
        let timeout = self.inner.options.offset_timeout;
        let answer = self.inner.invoke(&addr, request, timeout).await?;
        match answer.code {
            response_code::SUCCESS => {
                wire::offset("query offset", &addr, &answer, "offset").map(Some)
            }
            response_code::QUERY_NOT_FOUND => Ok(None),
            _ => Err(wire::refused("query offset", &addr, &answer)),
        }
    }

    /// Sends a message back that the group could not consume: it comes again in the group's retry
    /// topic, later from time to time, and after `retries_max` retries in its dead letters.
    /// Level 0 lets the broker choose the delay, a negative one means the dead letters at once.
    /// Source: MQClientAPIImpl#consumerSendMessageBack (4.9.3).
    /// Errors: `Answer` with the broker's code when it refuses.
    pub async fn send_back(
        &self,
        group: &GroupName,
        queue: &MessageQueue,
        physical: PhysicalOffset,
        level: i32,
        retries_max: i32,
    ) -> Result<(), Error> {
        let addr = self.inner.master_of(queue).await?;
        let request = Command::request(request_code::CONSUMER_SEND_MSG_BACK)
            .with_ext("group", group)
            .with_ext("originTopic", &queue.topic)
            .with_ext("offset", physical)
            .with_ext("delayLevel", level)
            .with_ext("unitMode", false)
            .with_ext("maxReconsumeTimes", retries_max);
        let timeout = self.inner.options.send_timeout;
        let answer = self.inner.remoting.invoke(&addr, request, timeout).await?;
        match answer.code {
            response_code::SUCCESS => Ok(()),
            _ => Err(wire::refused("send back", &addr, &answer)),
        }
    }

    /// Commits: the group goes on at `offset`. The broker keeps it as its flush mode says.
    pub async fn commit_offset(
        &self,
        group: &GroupName,
        queue: &MessageQueue,
        offset: QueueOffset,
    ) -> Result<(), Error> {
        let addr = self.inner.reader_of(queue).await?;
        let request = wire::of_queue(request_code::UPDATE_CONSUMER_OFFSET, queue)
            .with_ext("consumerGroup", group)
            .with_ext("commitOffset", offset);
        let timeout = self.inner.options.offset_timeout;
        let answer = self.inner.invoke(&addr, request, timeout).await?;
        match answer.code {
            response_code::SUCCESS => Ok(()),
            _ => Err(wire::refused("commit offset", &addr, &answer)),
        }
    }

    /// One past the newest visible message.
    pub async fn max_offset(&self, queue: &MessageQueue) -> Result<QueueOffset, Error> {
        let request = wire::of_queue(request_code::GET_MAX_OFFSET, queue);
        self.ask_offset("query max offset", queue, request).await
    }

    /// The oldest message that is kept.
    pub async fn min_offset(&self, queue: &MessageQueue) -> Result<QueueOffset, Error> {
        let request = wire::of_queue(request_code::GET_MIN_OFFSET, queue);
        self.ask_offset("query min offset", queue, request).await
    }

    /// The message that was stored nearest to `time`.
    pub async fn search_offset(
        &self,
        queue: &MessageQueue,
        time: WallMillis,
    ) -> Result<QueueOffset, Error> {
        let request = wire::of_queue(request_code::SEARCH_OFFSET_BY_TIMESTAMP, queue)
            .with_ext("timestamp", time.0);
        self.ask_offset("search offset", queue, request).await
    }

    async fn ask_offset(
        &self,
        what: &'static str,
        queue: &MessageQueue,
        request: Command,
    ) -> Result<QueueOffset, Error> {
        let addr = self.inner.reader_of(queue).await?;
        let timeout = self.inner.options.offset_timeout;
        let answer = self.inner.invoke(&addr, request, timeout).await?;
        match answer.code {
            response_code::SUCCESS => wire::offset(what, &addr, &answer, "offset"),
            _ => Err(wire::refused(what, &addr, &answer)),
        }
    }

    /// Becomes a member of the group, on every broker of its topics, and stays one: heartbeats go
    /// on until `leave`. Another call replaces the interest.
    /// Errors: a topic without a route; a broker that does not answer is asked again later.
    pub async fn join(&self, group: &GroupName, interest: Interest) -> Result<(), Error> {
        for subscription in &interest.subscriptions {
            self.route(&subscription.topic).await?;
        }
        self.inner.state.lock().interests.insert(group.clone(), interest);
        self.inner.heartbeat().await;
        Ok(())
    }

    /// Ends the membership. Brokers that do not answer forget it after two minutes.
    pub async fn leave(&self, group: &GroupName) {
        let addrs = {
            let mut state = self.inner.state.lock();
            if state.interests.remove(group).is_none() {
                return;
            }
            state.routes.addresses(false)
        };
        for addr in addrs {
            let request = Command::request(request_code::UNREGISTER_CLIENT)
                .with_ext("clientID", self.client_id())
                .with_ext("consumerGroup", group);
            let timeout = self.inner.options.request_timeout;
            if let Err(error) = self.inner.invoke(&addr, request, timeout).await {
                tracing::debug!(%addr, %error, "a broker was not told that this client leaves");
            }
        }
    }

    /// The ids of the group's members, as a broker of the topic knows them. Empty when it knows
    /// none.
    pub async fn members(
        &self,
        group: &GroupName,
        topic: &TopicName,
    ) -> Result<Vec<String>, Error> {
        let route = self.route(topic).await?;
        let mut last = Error::NoRoute(topic.clone());
        for broker in route.brokers.keys() {
            let Some(addr) = route.reader(broker) else { continue };
            let request = Command::request(request_code::GET_CONSUMER_LIST_BY_GROUP)
                .with_ext("consumerGroup", group);
            match self.inner.invoke(addr, request, self.inner.options.request_timeout).await {
                Ok(answer) if answer.code == response_code::SUCCESS => {
                    return wire::consumer_ids(addr, &answer);
                }
                // What 4.9.3 answers when the group has no member.
                Ok(answer) if answer.code == response_code::SYSTEM_ERROR => return Ok(Vec::new()),
                Ok(answer) => last = wire::refused("list members", addr, &answer),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Changes each time a broker says that a group of this client has other members now.
    pub fn member_changes(&self) -> watch::Receiver<u64> {
        self.inner.members.subscribe()
    }
}

/// The tries of one send.
#[derive(Default)]
struct Tries {
    count: u32,
    brokers: Vec<Arc<str>>,
    may_be_stored: bool,
    /// A try that was stored with a weaker promise.
    weaker: Option<SendResult>,
    last: Option<Error>,
}

impl Tries {
    fn begin(&mut self, queue: &MessageQueue) {
        self.count += 1;
        self.brokers.push(queue.broker.clone());
    }

    fn last_broker(&self) -> Option<&str> {
        self.brokers.last().map(|name| &**name)
    }

    fn failed(&mut self, error: Error) {
        self.may_be_stored |= error.may_be_stored();
        self.last = Some(error);
    }

    fn end(self, topic: &TopicName) -> Result<SendResult, Error> {
        match (self.weaker, self.last) {
            (Some(weaker), _) => Ok(weaker),
            (None, last) => Err(Error::Send {
                topic: topic.clone(),
                tries: self.count,
                brokers: self.brokers.join(", "),
                may_be_stored: self.may_be_stored,
                last: Box::new(last.unwrap_or_else(|| Error::NoRoute(topic.clone()))),
            }),
        }
    }

    fn out_of_time(self, topic: &TopicName, budget: Duration) -> Result<SendResult, Error> {
        if let Some(weaker) = self.weaker {
            return Ok(weaker);
        }
        let last = self.last.map_or_else(|| "no try was made".to_owned(), |e| e.to_string());
        Err(Error::SendTime {
            topic: topic.clone(),
            tries: self.count,
            budget_ms: budget.as_millis(),
            may_be_stored: self.may_be_stored,
            last,
        })
    }
}

impl Inner {
    pub fn client_id(&self) -> String {
        self.state.lock().identity.client_id()
    }

    fn room_for(&self, topic: &TopicName) -> Result<(), Error> {
        let room = self.state.lock().routes.check_room(topic);
        room.map_err(|count| Error::Topics { count, max: self.options.topics_max })
    }

    /// Gives the message its unique id, if it has none.
    fn prepare(&self, message: &Message) -> Message {
        let mut message = message.clone();
        if message.properties.get(crate::model::property::UNIQUE_KEY).is_none() {
            let id = self.state.lock().identity.next_unique_id(self.clock.wall());
            message.properties.set(crate::model::property::UNIQUE_KEY, id);
        }
        message
    }

    fn next_queue(
        &self,
        topic: &TopicName,
        entry: &Entry,
        avoid: Option<&str>,
    ) -> Result<MessageQueue, Error> {
        let mut state = self.state.lock();
        if !state.is_producer {
            state.is_producer = true;
            state.heartbeat_at = Some(self.clock.mono());
            self.wake.notify_one();
        }
        let State { turns, rng, .. } = &mut *state;
        let start = || Turn::starting_at(rng.next_u64());
        let turn = turns.entry(topic.clone()).or_insert_with(start);
        turn.next(&entry.publish, avoid).cloned().ok_or_else(|| Error::NoRoute(topic.clone()))
    }

    async fn send_once(
        &self,
        message: &Message,
        queue: &MessageQueue,
        timeout: Duration,
    ) -> Result<SendResult, Error> {
        let deadline = self.clock.mono() + timeout;
        let addr = self.master_of(queue).await?;
        let request = wire::send_request(message, queue, &self.options, self.clock.wall());
        let left = deadline.since(self.clock.mono());
        let answer = self.invoke(&addr, request, left).await?;
        wire::send_result(message, queue, &addr, &answer)
    }

    /// Sends a request and waits. A connection on which an answer did not come in time is given
    /// up, as 4.9.3 does (clientCloseSocketIfTimeout).
    pub async fn invoke(
        &self,
        addr: &str,
        request: Command,
        timeout: Duration,
    ) -> Result<Command, Error> {
        let answer = self.remoting.invoke(addr, request, timeout).await;
        if let Err(remoting::Error::TimedOut { .. }) = &answer {
            self.remoting.close(addr);
        }
        Ok(answer?)
    }

    /// The address of the queue's master; asks for the route once when it is not known.
    async fn master_of(&self, queue: &MessageQueue) -> Result<String, Error> {
        self.address_of(queue, RouteCache::master).await
    }

    async fn reader_of(&self, queue: &MessageQueue) -> Result<String, Error> {
        self.address_of(queue, RouteCache::reader).await
    }

    async fn address_of(
        &self,
        queue: &MessageQueue,
        find: fn(&RouteCache, &str) -> Option<String>,
    ) -> Result<String, Error> {
        let known = find(&self.state.lock().routes, &queue.broker);
        if let Some(addr) = known {
            return Ok(addr);
        }
        self.room_for(&queue.topic)?;
        let deadline = self.clock.mono() + self.options.request_timeout;
        let route = self.fetch_route(&queue.topic, deadline).await?;
        let mut state = self.state.lock();
        if let Some(route) = route {
            state.routes.on_route(self.clock.mono(), &queue.topic, route);
        }
        find(&state.routes, &queue.broker).ok_or_else(|| Error::NoBroker(queue.broker.to_string()))
    }

    /// The topic's queues to send to: what is known, else its route, else the template's.
    /// Source: DefaultMQProducerImpl#tryToFindTopicPublishInfo (4.9.3).
    async fn publish_entry(&self, topic: &TopicName, deadline: Mono) -> Result<Arc<Entry>, Error> {
        if let Some(entry) = self.state.lock().routes.get(topic).filter(|e| !e.publish.is_empty()) {
            return Ok(entry);
        }
        self.room_for(topic)?;
        let route = self.fetch_route(topic, deadline).await?;
        let entry = match route {
            Some(route) => self.state.lock().routes.on_route(self.clock.mono(), topic, route),
            None => {
                let template = TopicName::new(&self.options.default_topic);
                let Some(route) = self.fetch_route(&template, deadline).await? else {
                    return Err(Error::NoRoute(topic.clone()));
                };
                let queues_max = self.options.default_topic_queues;
                let now = self.clock.mono();
                self.state.lock().routes.on_template(now, topic, &route, queues_max)
            }
        };
        self.wake.notify_one();
        if entry.publish.is_empty() { Err(Error::NoRoute(topic.clone())) } else { Ok(entry) }
    }

    /// Asks the name servers, beginning with the one that answered last, until one answers.
    /// `None` when it says that the topic has no route.
    /// Errors: `Lookup`.
    pub async fn fetch_route(
        &self,
        topic: &TopicName,
        deadline: Mono,
    ) -> Result<Option<Route>, Error> {
        let lookup =
            |source: Error| Error::Lookup { topic: topic.clone(), source: Box::new(source) };
        let (servers, first) = {
            let state = self.state.lock();
            (state.name_servers.clone(), state.name_server)
        };
        let mut last = Error::NoNameServer;
        for step in 0..servers.len() {
            let at = (first + step) % servers.len();
            let left = deadline.since(self.clock.mono()).min(self.options.request_timeout);
            if left.is_zero() {
                break;
            }
            let request =
                Command::request(request_code::GET_ROUTEINFO_BY_TOPIC).with_ext("topic", topic);
            let answer = match self.invoke(&servers[at], request, left).await {
                Ok(answer) => answer,
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            self.state.lock().name_server = at;
            return match answer.code {
                response_code::SUCCESS => {
                    wire::route(&servers[at], &answer).map(Some).map_err(lookup)
                }
                response_code::TOPIC_NOT_EXIST => Ok(None),
                _ => Err(lookup(wire::refused("ask for a route", &servers[at], &answer))),
            };
        }
        Err(lookup(last))
    }

    /// Tells every known broker who this client is. Failures are logged: the next heartbeat comes.
    /// Source: MQClientInstance#sendHeartbeatToAllBroker (4.9.3).
    pub async fn heartbeat(&self) {
        let now = self.clock.mono();
        let (addrs, body) = {
            let mut state = self.state.lock();
            state.heartbeat_at = Some(now + self.options.heartbeat_interval);
            if state.interests.is_empty() && !state.is_producer {
                state.heartbeat_at = None;
                return;
            }
            let producer = state.is_producer.then_some(self.options.producer_group.as_str());
            let body = wire::heartbeat(&state.identity.client_id(), producer, &state.interests);
            (state.routes.addresses(state.interests.is_empty()), body)
        };
        for addr in addrs {
            let request = Command::request(request_code::HEART_BEAT).with_body(body.clone());
            match self.invoke(&addr, request, self.options.request_timeout).await {
                Ok(answer) if answer.code == response_code::SUCCESS => {}
                Ok(answer) => {
                    let error = wire::refused("heartbeat", &addr, &answer);
                    tracing::warn!(%error, "a heartbeat was refused");
                }
                Err(error) => tracing::debug!(%addr, %error, "a heartbeat failed"),
            }
        }
        self.wake.notify_one();
    }
}

#[cfg(test)]
mod tests;
