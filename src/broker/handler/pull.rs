//! Pulling: requests 11 and 361, parked pulls, and what wakes them.

use super::super::clients::{Subscription, is_tag_type};
use super::super::driver::{Core, NOBODY, Shared};
use super::super::filter::wanted::Wanted;
use super::super::hold::{self, PullTicket};
use super::super::reply::{self, Answer, Refusal};
use super::super::stats::Row;
use super::super::topics::{OFFSET_MOVED_TOPIC, RETRY_PREFIX, perm};
use super::{ReplyTo, Request};
use crate::format::properties;
use crate::model::{QueueId, QueueKey, QueueOffset, property};
use crate::protocol::body::client::MessageModel;
use crate::protocol::code::response_code as code;
use crate::protocol::header::pull::{PullMessageHeader, flag as pull_flag};
use crate::protocol::reply::{PullReply, encode_pull_reply};
use crate::rt::time::{Duration, Mono};
use crate::store::{Append, ColdRead, Read, ReadLimits, ReadResult, ReadStatus};
use std::sync::Arc;

/// A pull whose answer is not known yet.
pub(in super::super) struct ParkedPull {
    to: ReplyTo,
    key: QueueKey,
    group: Arc<str>,
    /// The offset in the request.
    asked: i64,
    /// Where the next read begins: past what the filter did not let through.
    from: QueueOffset,
    count: usize,
    wanted: Wanted,
    /// Where what is given is counted.
    counted_at: Row,
    /// The group's heartbeats say what is wanted.
    is_registered: bool,
    /// Messages that may still be looked at while none matches.
    scan_left: usize,
    /// Until when it may wait; `None` when it may not.
    deadline: Option<Mono>,
    /// It has waited already.
    was_parked: bool,
    /// The last park ended at once.
    was_rushed: bool,
}

/// Answers a pull, now or when a message arrives.
/// Source: PullMessageProcessor#processRequest (4.9.3). The lite consumer of 5.x sends it as 361.
pub(in super::super) fn on_pull(shared: &Arc<Shared>, core: &mut Core, request: &Request) {
    match accept(shared, core, request) {
        Ok((pull, header)) => {
            run(shared, core, pull);
            // Source: PullMessageProcessor: a slave leaves this to its master.
            let is_slave = shared.replication.role.is_slave();
            if header.sys_flag & pull_flag::COMMIT_OFFSET != 0 && !is_slave {
                let queue = QueueId(header.queue_id.max(0) as u32);
                let (group, topic) = (&header.consumer_group, &header.topic);
                let by = request.peer.id();
                core.offsets.commit(by, group, topic, queue, header.commit_offset);
            }
            run_hold_effects(shared, core);
        }
        Err(refusal) => request.reply_to().refuse(&refusal),
    }
}

fn accept<'a>(
    shared: &Shared,
    core: &mut Core,
    request: &Request<'a>,
) -> Answer<(ParkedPull, PullMessageHeader<'a>)> {
    let header = PullMessageHeader::decode(&request.header.ext)
        .map_err(|error| Refusal::system_error(error.to_string()))?;
    check_group(shared, core, &header)?;
    let Some(topic) = core.topics.get(&header.topic) else {
        return Err(Refusal::pull_topic_not_exist(&header.topic));
    };
    if !topic.config.is_readable() {
        let remark = format!("the topic[{}] pulling message is forbidden", header.topic);
        return Err(Refusal::new(code::NO_PERMISSION, remark));
    }
    let queue = u32::try_from(header.queue_id).unwrap_or(u32::MAX);
    if queue >= topic.config.read_queue_nums {
        return Err(Refusal::system_error(format!(
            "queueId[{}] is illegal, topic:[{}] topicConfig.readQueueNums:[{}] consumer:[/{}]",
            header.queue_id,
            header.topic,
            topic.config.read_queue_nums,
            request.peer.addr()
        )));
    }
    let key = QueueKey { topic: topic.name.clone(), queue: QueueId(queue) };
    let (wanted, counted_at) = wanted(shared, core, &header)?;
    let suspends = header.sys_flag & pull_flag::SUSPEND != 0;
    let wait = match core.live.long_polling {
        true => Duration::from_millis(header.suspend_timeout_millis.max(0) as u64),
        false => shared.options.short_polling,
    };
    let wait = wait.min(shared.options.limits.pull_suspend_max);
    let pull = ParkedPull {
        to: request.reply_to(),
        key,
        group: header.consumer_group.as_ref().into(),
        asked: header.queue_offset,
        from: QueueOffset(header.queue_offset.max(0) as u64),
        count: header.max_msg_nums.max(1) as usize,
        wanted,
        counted_at,
        is_registered: header.sys_flag & pull_flag::SUBSCRIPTION == 0,
        scan_left: shared.options.filters.scan_max,
        deadline: suspends.then(|| shared.clock.mono() + wait),
        was_parked: false,
        was_rushed: false,
    };
    Ok((pull, header))
}

fn check_group(shared: &Shared, core: &mut Core, header: &PullMessageHeader) -> Answer<()> {
    if core.live.permission & perm::READ == 0 {
        let remark =
            format!("the broker[{}] pulling message is forbidden", shared.options.advertised_ip);
        return Err(Refusal::new(code::NO_PERMISSION, remark));
    }
    let name = &header.consumer_group;
    let is_new = core.groups.get(name).is_none();
    let Some(group) = core.groups.find_or_create(shared.clock.wall(), name) else {
        return Err(Refusal::group_not_exist(name));
    };
    if !group.consume_enable {
        let remark = format!("subscription group no permission, {name}");
        return Err(Refusal::new(code::NO_PERMISSION, remark));
    }
    if is_new {
        shared.unsaved.notify_one();
    }
    Ok(())
}

/// What the puller wants.
fn wanted(shared: &Shared, core: &mut Core, header: &PullMessageHeader) -> Answer<(Wanted, Row)> {
    let options = &shared.options.filters;
    let (wanted, row) = match header.sys_flag & pull_flag::SUBSCRIPTION {
        0 => wanted_by_group(core, header, options.by_property)?,
        _ => {
            let wanted = wanted_by_request(core, header, options.by_property)?;
            (wanted, core.stats.groups.row(&header.topic, &header.consumer_group))
        }
    };
    let Some(group) = header.topic.strip_prefix(RETRY_PREFIX).filter(|_| options.of_retries) else {
        return Ok((wanted, row));
    };
    let filters = core.filters.of_group(group);
    let by_topic = filters.map(|(topic, filter)| (topic.to_owned(), filter.compiled.clone()));
    let tags = match wanted {
        Wanted::Tags(tags) => Some(tags),
        Wanted::Sql92(_) | Wanted::Retried { .. } => None,
    };
    Ok((Wanted::Retried { tags, by_topic: by_topic.collect() }, row))
}

/// As the group's last heartbeat says.
fn wanted_by_group(
    core: &mut Core,
    header: &PullMessageHeader,
    allowed: bool,
) -> Answer<(Wanted, Row)> {
    let subscription = registered(core, header)?;
    let (topic, group) = (&header.topic, &header.consumer_group);
    let row = core.stats.groups.row_by(&subscription.counted_at, topic, group);
    if subscription.is_tag_type() {
        return Ok((Wanted::Tags(subscription), row));
    }
    let filter = core.filters.get(&header.consumer_group, &header.topic);
    let filter = filter.ok_or_else(Refusal::filter_not_exist)?;
    if filter.version < header.sub_version {
        return Err(Refusal::filter_not_latest());
    }
    if !allowed {
        return Err(Refusal::no_such_filter(&subscription.expression_type));
    }
    Ok((Wanted::Sql92(filter.compiled.clone()), row))
}

/// As the request says.
/// Differs: 4.9.3 delivers everything when the expression of a request does not compile.
fn wanted_by_request(core: &mut Core, header: &PullMessageHeader, allowed: bool) -> Answer<Wanted> {
    let expression = header.subscription.as_deref().unwrap_or_default();
    let kind = header.expression_type.as_deref().unwrap_or_default();
    if is_tag_type(kind) {
        let hash = |tag: &str| properties::java_hash(tag.as_bytes());
        if names_no_tag(expression) {
            let remark = "parse the consumer's subscription failed";
            return Err(Refusal::new(code::SUBSCRIPTION_PARSE_FAILED, remark));
        }
        let subscription = Subscription::from_tags(&header.topic, expression, hash);
        return Ok(Wanted::Tags(Arc::new(subscription)));
    }
    if !allowed && !expression.is_empty() {
        return Err(Refusal::no_such_filter(kind));
    }
    let compiled = core.compiled.compile(kind, expression);
    compiled.map(Wanted::Sql92).map_err(|error| Refusal::filter_not_parsed(&error))
}

/// The one tag expression that Java does not take: nothing but `||`.
/// Source: FilterAPI#buildSubscriptionData (4.9.3).
fn names_no_tag(expression: &str) -> bool {
    !expression.is_empty() && expression.split("||").all(str::is_empty)
}

fn registered(core: &Core, header: &PullMessageHeader) -> Answer<Arc<Subscription>> {
    let name = &header.consumer_group;
    let Some(live) = core.clients.consumer_group(name) else {
        return Err(Refusal::no_live_consumer());
    };
    let allows_broadcast = core.groups.get(name).is_none_or(|g| g.consume_broadcast_enable);
    if !allows_broadcast && live.model == Some(MessageModel::Broadcasting) {
        let remark = format!("the consumer group[{name}] can not consume by broadcast way");
        return Err(Refusal::new(code::NO_PERMISSION, remark));
    }
    let Some(subscription) = live.subscription(&header.topic) else {
        return Err(Refusal::not_subscribed());
    };
    if subscription.version < header.sub_version {
        let remark = "the consumer's subscription not latest";
        return Err(Refusal::new(code::SUBSCRIPTION_NOT_LATEST, remark));
    }
    Ok(subscription.clone())
}

/// Reads for a pull and answers or parks it.
fn run(shared: &Arc<Shared>, core: &mut Core, mut pull: ParkedPull) {
    if pull.asked < 0 {
        let result = before_everything(shared, &pull.key);
        finish(shared, core, pull, result);
        return;
    }
    loop {
        let limits = ReadLimits { count: pull.count };
        let by_code = |tags| pull.wanted.wants_code(tags);
        match shared.store.read(&pull.key, pull.from, &limits, &by_code) {
            Read::Ready(result) => match sift(shared, core, pull, result) {
                Some(more) => pull = more,
                None => return,
            },
            Read::Cold(cold) => return read_later(shared, core, pull, cold),
        }
    }
}

/// Answers or parks a pull after a read; gives it back when nothing of it matched and the next
/// messages are to be looked at.
fn sift(
    shared: &Arc<Shared>,
    core: &mut Core,
    mut pull: ParkedPull,
    mut result: ReadResult,
) -> Option<ParkedPull> {
    let looked_at = result.count;
    pull.wanted.sift(&mut result);
    pull.scan_left = pull.scan_left.saturating_sub(looked_at);
    let none_of_some = looked_at > 0 && result.count == 0;
    if none_of_some && pull.scan_left > 0 && result.next < result.max {
        pull.from = result.next;
        return Some(pull);
    }
    pull.scan_left = shared.options.filters.scan_max;
    finish(shared, core, pull, result);
    None
}

/// Reads what is not in memory, as a task of the puller's connection.
fn read_later(shared: &Arc<Shared>, core: &Core, pull: ParkedPull, cold: ColdRead) {
    let (shared, peer, to) = (shared.clone(), pull.to.peer.clone(), pull.to.clone());
    let timeout = core.live.pull_read_timeout;
    let work = async move {
        let wanted = pull.wanted.clone();
        let began = shared.clock.mono();
        let until = began + timeout;
        let by_code = |tags| wanted.wants_code(tags);
        let Some(read) = shared.clock.before(until, cold.run(&by_code)).await else {
            let waited = shared.clock.mono().since(began);
            pull.to.refuse(&Refusal::read_stalled(waited));
            return;
        };
        match read {
            Ok(result) => {
                let mut core = shared.core.lock();
                if let Some(more) = sift(&shared, &mut core, pull, result) {
                    run(&shared, &mut core, more);
                }
                run_hold_effects(&shared, &mut core);
            }
            Err(error) => {
                tracing::error!(queue = ?pull.key, "failed to read for a pull: {error}");
                let remark = format!("failed to read messages: {error}");
                pull.to.refuse(&Refusal::system_error(remark));
            }
        }
    };
    peer.spawn(0, work, move |_, panic| {
        to.refuse(&Refusal::system_error(format!("the read failed: {panic}")));
    });
}

/// A negative offset is before the oldest message.
fn before_everything(shared: &Shared, key: &QueueKey) -> ReadResult {
    let (min, max) = (shared.store.min_offset(key), shared.store.max_offset(key));
    let is_empty = max == QueueOffset(0);
    ReadResult {
        status: if is_empty { ReadStatus::NoMessageInQueue } else { ReadStatus::OffsetTooSmall },
        next: min,
        min,
        max,
        messages: Vec::new(),
        count: 0,
        size: 0,
        suggest_slave: false,
    }
}

fn finish(shared: &Arc<Shared>, core: &mut Core, mut pull: ParkedPull, result: ReadResult) {
    let code = reply::of_read(result.status, pull.asked);
    core.stats.on_read(result.count as u64);
    let nothing_yet = match result.status {
        ReadStatus::OffsetFoundNull => false,
        // What arrived was not wanted: it waits on, past it. The first read of a request answers
        // at once instead, as 4.9.3 does.
        ReadStatus::NoMatchedMessage => pull.was_parked,
        _ => code == code::PULL_NOT_FOUND,
    };
    if nothing_yet {
        pull.from = result.next.max(pull.from);
        match park(shared, core, pull) {
            None => return,
            Some(back) => pull = back,
        }
    }
    if result.count > 0 {
        core.stats.on_got(pull.counted_at, result.count as u64, result.size as u64);
    }
    answer(&pull, code, &result, suggestion(core, &pull, &result));
    if code == code::PULL_OFFSET_MOVED {
        tell_offset_moved(shared, core, &pull, result.next);
    }
}

/// Parks a pull that may wait; gives it back when it may not.
fn park(shared: &Shared, core: &mut Core, mut pull: ParkedPull) -> Option<ParkedPull> {
    let Some(deadline) = pull.deadline.filter(|at| *at > shared.clock.mono()) else {
        return Some(pull);
    };
    let limits = &shared.options.limits;
    let Some(connected) = core.peers.get_mut(&pull.to.peer.id()) else { return Some(pull) };
    if core.hold.len() >= limits.parked_pulls_max
        || connected.parked.len() >= limits.parked_pulls_per_peer_max
    {
        crate::rt::probe!("broker: a pull was not parked because of a bound");
        return Some(pull);
    }
    let before = core.hold.next_deadline();
    let ticket = PullTicket(core.next_pull);
    core.next_pull += 1;
    let parked = hold::Parked { ticket, from: pull.from, deadline };
    let woken = core.hold_effects.len();
    let end = shared.store.max_offset(&pull.key);
    core.hold.park(&pull.key, parked, end, &mut core.hold_effects);
    if core.hold_effects.len() > woken {
        crate::rt::probe!("broker: a message came between read and park");
        if pull.was_rushed {
            core.hold_effects.truncate(woken);
            return Some(pull);
        }
        pull.was_rushed = true;
    } else {
        pull.was_rushed = false;
    }
    pull.was_parked = true;
    connected.parked.insert(ticket);
    core.pulls.insert(ticket, pull);
    if core.hold.next_deadline() != before {
        shared.deadline_moved.notify_one();
    }
    None
}

/// Runs the reads of pulls that were woken or whose wait is over.
pub(in super::super) fn run_hold_effects(shared: &Arc<Shared>, core: &mut Core) {
    let mut position = 0;
    while let Some(effect) = core.hold_effects.get(position).copied() {
        position += 1;
        let (ticket, is_over) = match effect {
            hold::Effect::Wake(ticket) => (ticket, false),
            hold::Effect::Expire(ticket) => (ticket, true),
        };
        let Some(mut pull) = core.pulls.remove(&ticket) else { continue };
        if let Some(connected) = core.peers.get_mut(&pull.to.peer.id()) {
            connected.parked.remove(&ticket);
        }
        if is_over {
            pull.deadline = None;
        }
        renew(core, &mut pull);
        run(shared, core, pull);
    }
    core.hold_effects.clear();
}

/// A pull that waited goes by what its group registered meanwhile, from where it asked: 4.9.3 runs
/// the whole request again. Source: PullMessageProcessor#executeRequestWhenWakeup (4.9.3).
fn renew(core: &Core, pull: &mut ParkedPull) {
    let Wanted::Sql92(old) = &pull.wanted else { return };
    let Some(filter) = core.filters.get(&pull.group, &pull.key.topic) else { return };
    if pull.is_registered && !Arc::ptr_eq(old, &filter.compiled) {
        pull.wanted = Wanted::Sql92(filter.compiled.clone());
        pull.from = QueueOffset(pull.asked.max(0) as u64);
    }
}

/// The broker that this reader should ask next: 0 is the master.
/// Source: PullMessageProcessor#processRequest (4.9.3).
fn suggestion(core: &Core, pull: &ParkedPull, result: &ReadResult) -> i64 {
    if !core.live.slave_read {
        return 0;
    }
    match core.groups.get(&pull.group) {
        Some(group) if result.suggest_slave => group.which_broker_when_consume_slowly,
        group => group.map_or(0, |group| group.broker_id),
    }
}

fn answer(pull: &ParkedPull, code: i32, result: &ReadResult, suggest_which_broker_id: i64) {
    let to = &pull.to;
    if to.oneway {
        return;
    }
    let reply = PullReply {
        opaque: to.opaque,
        code,
        remark: Some(result.status.name()),
        suggest_which_broker_id,
        next_begin_offset: result.next.0 as i64,
        min_offset: result.min.0 as i64,
        max_offset: result.max.0 as i64,
        body_size: result.size,
    };
    to.peer.with_out(|out| {
        encode_pull_reply(out.small(), to.serialize, &reply);
        for part in &result.messages {
            out.push(part.clone());
        }
    });
}

/// A reader stood where no message is: an event says where it was sent instead.
/// Source: PullMessageProcessor#generateOffsetMovedEvent (4.9.3).
fn tell_offset_moved(shared: &Shared, core: &mut Core, pull: &ParkedPull, next: QueueOffset) {
    if shared.replication.role.is_slave() {
        return;
    }
    let body = serde_json::json!({
        "consumerGroup": &*pull.group,
        "messageQueue": {
            "brokerName": &shared.options.topics.broker_name,
            "queueId": pull.key.queue.0,
            "topic": &*pull.key.topic,
        },
        "offsetNew": next.0,
        "offsetRequest": pull.asked,
    })
    .to_string();
    let mut stored = Vec::new();
    for name in [property::KEYS, property::TAGS] {
        properties::append(&mut stored, name, pull.group.as_bytes());
    }
    properties::append(&mut stored, property::DELAY, b"0");
    let append = Append {
        topic: &crate::model::TopicName::new(OFFSET_MOVED_TOPIC),
        queue: QueueId(0),
        flag: 0,
        sys_flag: 0,
        born_timestamp: shared.clock.wall(),
        born_host: shared.store_host(),
        store_host: shared.store_host(),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body: body.as_bytes(),
        properties: &stored,
        tags_code: None,
        wait: false,
        ticket: NOBODY,
    };
    match shared.store.append(&append) {
        Ok(appended) => core.stats.on_put(1, appended.size as u64),
        Err(error) => tracing::warn!("failed to store an offset-moved event: {error}"),
    }
}
