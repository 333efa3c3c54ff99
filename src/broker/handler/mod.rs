//! Requests by family: what they say, what the tables and the store make of it, what is answered.
//!
//! All frames of one read are taken under one lock of the broker's state. Sends and pulls answer
//! later through their `ReplyTo`; requests that must wait for files run as tasks of their peer.

pub(super) mod admin;
mod call;
pub(super) mod client;
mod config;
pub(super) mod offset;
mod opened_topic;
mod progress;
pub(super) mod pull;
pub(super) mod query;
mod replication;
mod reply_message;
pub(super) mod send;
mod send_back;
pub(super) mod topic;
pub(super) mod transaction;

use super::driver::{Connected, Core, Shared};
use super::reply::{Answer, Refusal};
use crate::protocol::code::request_code as request;
use crate::protocol::code::response_code as response;
use crate::protocol::frame::{Frame, Serialize};
use crate::protocol::header::{self, Header};
use crate::protocol::reply::encode_reply;
use crate::remoting::{Peer, Service};
use bytes::Bytes;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Where an answer goes, and how it must look.
#[derive(Clone)]
pub(crate) struct ReplyTo {
    pub peer: Peer,
    pub opaque: i32,
    pub serialize: Serialize,
    pub oneway: bool,
}

/// Response header fields.
pub(super) type Ext<'a> = &'a [(&'a str, &'a str)];

impl ReplyTo {
    /// Answers with success.
    pub fn done(&self, ext: Ext, body: Bytes) {
        self.answer(response::SUCCESS, None, ext, body);
    }

    pub fn refuse(&self, refusal: &Refusal) {
        self.answer(refusal.code, Some(&refusal.remark), &[], Bytes::new());
    }

    pub fn answer(&self, code: i32, remark: Option<&str>, ext: Ext, body: Bytes) {
        if self.oneway {
            return;
        }
        self.peer.with_out(|out| {
            let size = body.len();
            encode_reply(out.small(), self.serialize, self.opaque, code, remark, ext, size);
            out.push(body);
        });
    }
}

/// One request that is being looked at.
pub(super) struct Request<'a> {
    pub peer: &'a Peer,
    pub frame: &'a Frame,
    pub header: &'a Header<'a>,
}

impl Request<'_> {
    pub fn reply_to(&self) -> ReplyTo {
        ReplyTo {
            peer: self.peer.clone(),
            opaque: self.header.opaque,
            serialize: self.frame.serialize,
            oneway: self.header.is_oneway(),
        }
    }

    pub fn body(&self) -> &Bytes {
        &self.frame.body
    }
}

/// The broker as its connections see it.
pub(super) struct Door {
    shared: Arc<Shared>,
}

impl Door {
    pub fn new(shared: Arc<Shared>) -> Self {
        Door { shared }
    }
}

impl Service for Door {
    fn on_frames(&self, peer: &Peer, frames: &mut Vec<Frame>) {
        let mut core = self.shared.core.lock();
        for frame in frames.drain(..) {
            on_frame(&self.shared, &mut core, peer, frame);
        }
    }

    fn on_open(&self, peer: &Peer) {
        let connected = Connected { peer: peer.clone(), parked: BTreeSet::new() };
        self.shared.core.lock().peers.insert(peer.id(), connected);
    }

    fn on_close(&self, peer: &Peer) {
        let mut core = self.shared.core.lock();
        let core = &mut *core;
        let Some(connected) = core.peers.remove(&peer.id()) else { return };
        for ticket in connected.parked {
            core.hold.forget(ticket);
            core.pulls.remove(&ticket);
        }
        core.clients.on_close(peer.id(), &mut core.client_effects);
        self.shared.run_client_effects(core);
    }
}

/// Takes one frame: a request, or the answer to one of ours.
pub(super) fn on_frame(shared: &Arc<Shared>, core: &mut Core, peer: &Peer, frame: Frame) {
    let header = match header::scan(&frame) {
        Ok(header) => header,
        Err(error) => {
            peer.close(&format!("its request cannot be read: {error}"));
            return;
        }
    };
    if header.is_reply() {
        peer.on_reply(&frame);
        return;
    }
    let request = Request { peer, frame: &frame, header: &header };
    let is_pull = matches!(header.code, request::PULL_MESSAGE | request::LITE_PULL_MESSAGE);
    if is_pull && peer.local_addr().port() == shared.fast_port {
        // 4.9.3 serves pulls on its main port alone.
        request.reply_to().refuse(&Refusal::unknown_code(header.code));
        return;
    }
    let is_work = is_pull
        || matches!(
            header.code,
            request::SEND_MESSAGE
                | request::SEND_MESSAGE_V2
                | request::SEND_BATCH_MESSAGE
                | request::SEND_REPLY_MESSAGE
                | request::SEND_REPLY_MESSAGE_V2
                | request::CONSUMER_SEND_MSG_BACK
        );
    if core.stopping && is_work {
        request.reply_to().refuse(&Refusal::stopping());
        return;
    }
    if shared.replication.role.is_slave() && is_work && !is_pull {
        request.reply_to().refuse(&slave_refusal(shared, header.code));
        return;
    }
    match header.code {
        request::SEND_MESSAGE | request::SEND_MESSAGE_V2 | request::SEND_BATCH_MESSAGE => {
            if send::on_send(shared, core, &request) == send::Taken::MustWait {
                core.waiting_for_topic.push((peer.clone(), frame.clone()));
            }
        }
        request::PULL_MESSAGE | request::LITE_PULL_MESSAGE => {
            pull::on_pull(shared, core, &request);
        }
        request::SEND_REPLY_MESSAGE | request::SEND_REPLY_MESSAGE_V2 => {
            if reply_message::on_reply(shared, core, &request) == send::Taken::MustWait {
                core.waiting_for_topic.push((peer.clone(), frame.clone()));
            }
        }
        _ => on_rare(shared, core, &request),
    }
}

/// A slave stores nothing of its own. Source: DefaultMessageStore#checkStoreStatus,
/// SendMessageProcessor#asyncConsumerSendMsgBack (4.9.3).
fn slave_refusal(shared: &Shared, code: i32) -> Refusal {
    if code == request::CONSUMER_SEND_MSG_BACK {
        return Refusal::system_error("SERVICE_NOT_AVAILABLE");
    }
    Refusal::not_available("this broker is a slave", shared.disk_used())
}

fn on_rare(shared: &Arc<Shared>, core: &mut Core, request: &Request) {
    let to = request.reply_to();
    let answer = match request.header.code {
        request::CONSUMER_SEND_MSG_BACK => send_back::on_send_back(shared, core, request),
        request::END_TRANSACTION => transaction::on_end(shared, core, request),
        request::RESUME_CHECK_HALF_MESSAGE => transaction::on_resume(shared, request),
        request::QUERY_CONSUMER_OFFSET => offset::query(shared, core, request),
        request::UPDATE_CONSUMER_OFFSET => offset::update(core, request),
        request::SEARCH_OFFSET_BY_TIMESTAMP => offset::search(shared, request),
        request::GET_MAX_OFFSET => offset::max(shared, request),
        request::GET_MIN_OFFSET => offset::min(shared, request),
        request::GET_EARLIEST_MSG_STORETIME => offset::earliest_time(shared, request),
        request::HEART_BEAT => client::heartbeat(shared, core, request),
        request::UNREGISTER_CLIENT => client::unregister(shared, core, request),
        request::GET_CONSUMER_LIST_BY_GROUP => client::list(core, request),
        request::CHECK_CLIENT_CONFIG => client::check(shared, core, request),
        request::LOCK_BATCH_MQ => client::lock(shared, core, request),
        request::UNLOCK_BATCH_MQ => client::unlock(core, request),
        request::GET_CONSUMER_CONNECTION_LIST => client::consumers(core, request),
        request::GET_PRODUCER_CONNECTION_LIST => client::producers(core, request),
        request::UPDATE_AND_CREATE_TOPIC => topic::update(shared, core, request),
        request::DELETE_TOPIC_IN_BROKER => topic::delete(shared, core, request),
        request::GET_ALL_TOPIC_CONFIG => topic::all(core),
        request::GET_TOPIC_CONFIG => topic::one(core, request),
        request::GET_SYSTEM_TOPIC_LIST_FROM_BROKER => topic::system_list(core),
        request::GET_TOPIC_STATS_INFO => admin::topic_stats(shared, core, request),
        request::GET_BROKER_RUNTIME_INFO => admin::runtime_info(shared, core, request),
        request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP => admin::update_group(shared, core, request),
        request::GET_ALL_SUBSCRIPTIONGROUP_CONFIG => admin::all_groups(core),
        request::DELETE_SUBSCRIPTIONGROUP => admin::delete_group(shared, core, request),
        request::GET_CONSUME_STATS => progress::of_group(shared, core, request),
        request::GET_BROKER_CONSUME_STATS => progress::of_broker(shared, core, request),
        request::QUERY_CONSUME_TIME_SPAN => progress::time_span(shared, core, request),
        request::QUERY_CORRECTION_OFFSET => progress::correction(shared, core, request),
        request::CLONE_GROUP_OFFSET => progress::clone_offsets(core, request),
        request::VIEW_BROKER_STATS_DATA => progress::view_stats(shared, core, request),
        request::QUERY_CONSUME_QUEUE => progress::queue_entries(shared, core, request),
        request::QUERY_TOPIC_CONSUME_BY_WHO => admin::groups_of_topic(core, request),
        request::GET_ALL_CONSUMER_OFFSET => admin::all_offsets(core, request),
        request::GET_ALL_DELAY_OFFSET => admin::all_delay_offsets(core),
        request::UPDATE_BROKER_CONFIG => config::change(shared, request),
        request::GET_BROKER_CONFIG => config::print(shared),
        request::GET_CONSUMER_RUNNING_INFO => call::running_info(shared, core, request),
        request::CONSUME_MESSAGE_DIRECTLY => call::consume_directly(shared, core, request),
        request::INVOKE_BROKER_TO_RESET_OFFSET => call::reset_offsets(shared, core, request),
        request::INVOKE_BROKER_TO_GET_CONSUMER_STATUS => {
            call::consumer_status(shared, core, request)
        }
        request::QUERY_MESSAGE => query::by_key(shared, request),
        request::VIEW_MESSAGE_BY_ID => query::by_id(shared, request),
        request::CLEAN_EXPIRED_CONSUMEQUEUE => Ok(clean_queues(shared)),
        request::CLEAN_UNUSED_TOPIC => topic::clean_unused(shared, core, request),
        request::DELETE_EXPIRED_COMMITLOG => Ok(delete_expired(shared)),
        request::HOTFIRE_POSITION => replication::position(shared, core, request),
        request::HOTFIRE_READ_LOG => replication::read_log(shared, request),
        request::HOTFIRE_WAIT_CHANGE => replication::wait_change(shared, core, request),
        request::HOTFIRE_HA_STATUS => replication::status(shared),
        code => Err(Refusal::unknown_code(code)),
    };
    give(&to, answer);
}

/// Source: AdminBrokerProcessor#cleanExpiredConsumeQueue (4.9.3).
/// Differs: each queue keeps its last file, so that its offsets do not begin at 0 again (ADR-0014).
fn clean_queues(shared: &Shared) -> Done {
    shared.store.clean_queues();
    Done::Empty
}

/// Source: AdminBrokerProcessor#deleteExpiredCommitLog (4.9.4).
fn delete_expired(shared: &Shared) -> Done {
    shared.store.delete_expired();
    Done::Empty
}

/// What a rare request is answered with.
pub(super) enum Done {
    Empty,
    Body(Bytes),
    /// Everything; an empty remark is none.
    Full {
        code: i32,
        remark: Cow<'static, str>,
        ext: Vec<(&'static str, String)>,
        body: Bytes,
    },
    /// One header field.
    Number(&'static str, i64),
    /// A task answers.
    Later,
}

fn give(to: &ReplyTo, answer: Answer<Done>) {
    match answer {
        Ok(Done::Empty) => to.done(&[], Bytes::new()),
        Ok(Done::Body(body)) => to.done(&[], body),
        Ok(Done::Full { code, remark, ext, body }) => {
            let ext: Vec<_> = ext.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let remark = Some(&*remark).filter(|remark| !remark.is_empty());
            to.answer(code, remark, &ext, body);
        }
        Ok(Done::Number(name, value)) => to.done(&[(name, &value.to_string())], Bytes::new()),
        Ok(Done::Later) => {}
        Err(refusal) => to.refuse(&refusal),
    }
}

/// Runs `work` as a task of the request's peer and answers with what it returns.
pub(super) fn later(
    request: &Request,
    work: impl Future<Output = Answer<Done>> + Send + 'static,
) -> Answer<Done> {
    let to = request.reply_to();
    let on_panic = request.reply_to();
    let task = async move {
        give(&to, work.await);
    };
    request.peer.spawn(request.frame.body.len(), task, move |_, panic| {
        on_panic.refuse(&Refusal::system_error(format!("the request's handler failed: {panic}")));
    });
    Ok(Done::Later)
}
