//! One request in, one answer out, by family.
//!
//! Source: DefaultRequestProcessor (4.9.3, name server).

mod config;
mod kv;
mod register;
mod route;
mod topics;

use super::kv_config::KvConfig;
use super::options::Options;
use super::route_table::{ConnectionId, RouteTable};
use crate::disk::Disk;
use crate::protocol::body::BodyError;
use crate::protocol::code::{request_code, response_code};
use crate::protocol::frame::Frame;
use crate::protocol::{Command, HeaderError};
use crate::remoting::{Peer, Service};
use crate::rt::sync::{Mutex, Notify, Semaphore};
use crate::rt::time::Clock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What all connections and the expiry share.
pub struct Shared {
    pub routes: Mutex<RouteTable>,
    /// The expiry looks at the next deadline again.
    pub deadline_moved: Notify,
    kv: Mutex<KvConfig>,
    /// Route answers carry the order configuration of their topic.
    order_message_enable: AtomicBool,
    /// Held by the one that rewrites a file.
    kv_writer: Semaphore,
    /// Connections over which a broker registered.
    brokers: Mutex<BTreeMap<ConnectionId, Peer>>,
    disk: Arc<dyn Disk>,
    clock: Clock,
    options: Options,
    /// For requests whose answer has to wait.
    own: std::sync::Weak<Shared>,
}

/// Why a request gets an answer other than success.
struct Refusal {
    code: i32,
    remark: String,
}

impl Refusal {
    fn new(code: i32, remark: impl Into<String>) -> Self {
        Refusal { code, remark: remark.into() }
    }
}

impl From<HeaderError> for Refusal {
    fn from(error: HeaderError) -> Self {
        Refusal::new(response_code::SYSTEM_ERROR, error.to_string())
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        Refusal::new(response_code::SYSTEM_ERROR, error.to_string())
    }
}

type Answer = Result<Command, Refusal>;

impl Shared {
    pub fn new(disk: Arc<dyn Disk>, clock: &Clock, options: Options, kv: KvConfig) -> Arc<Self> {
        Arc::new_cyclic(|own| Shared {
            routes: Mutex::new(RouteTable::new(&options)),
            deadline_moved: Notify::new(),
            kv: Mutex::new(kv),
            order_message_enable: AtomicBool::new(options.order_message_enable),
            kv_writer: Semaphore::new(1),
            brokers: Mutex::new(BTreeMap::new()),
            disk,
            clock: clock.clone(),
            options,
            own: own.clone(),
        })
    }

    /// Closes the connection of a broker.
    pub fn close(&self, connection: ConnectionId, reason: &str) {
        if let Some(peer) = self.brokers.lock().get(&connection) {
            peer.close(reason);
        }
    }

    fn answer(&self, peer: &Peer, request: &Command) -> Answer {
        match request.code {
            request_code::REGISTER_BROKER => self.register(peer, request),
            request_code::UNREGISTER_BROKER => self.unregister(request),
            request_code::QUERY_DATA_VERSION => self.query_version(request),
            request_code::GET_ROUTEINFO_BY_TOPIC => self.route_of_topic(request),
            request_code::GET_BROKER_CLUSTER_INFO => self.cluster_info(),
            request_code::GET_KV_CONFIG => self.get_kv(request),
            request_code::GET_KVLIST_BY_NAMESPACE => self.list_kv(request),
            request_code::WIPE_WRITE_PERM_OF_BROKER => self.wipe_write(request),
            request_code::ADD_WRITE_PERM_OF_BROKER => self.add_write(request),
            request_code::GET_ALL_TOPIC_LIST_FROM_NAMESERVER => self.all_topics(),
            request_code::DELETE_TOPIC_IN_NAMESRV => self.delete_topic(request),
            request_code::GET_TOPICS_BY_CLUSTER => self.topics_of_cluster(request),
            request_code::GET_SYSTEM_TOPIC_LIST_FROM_NS => self.system_topics(),
            request_code::GET_UNIT_TOPIC_LIST => self.topics_by_flag(topics::UNIT),
            request_code::GET_HAS_UNIT_SUB_TOPIC_LIST => self.topics_by_flag(topics::UNIT_SUB),
            request_code::GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST => {
                self.topics_by_flag(topics::UNIT_SUB_WITHOUT_UNIT)
            }
            request_code::GET_NAMESRV_CONFIG => self.config(),
            // Differs: 4.9.3 does not answer at all, and the caller waits for its time-out.
            code => Err(Refusal::new(
                response_code::REQUEST_CODE_NOT_SUPPORTED,
                format!(" request type {code} not supported"),
            )),
        }
    }

    fn on_frame(&self, peer: &Peer, frame: &Frame) {
        let request = match Command::decode(frame) {
            Ok(request) => request,
            // As 4.9.3: nothing can be answered to what cannot be read.
            Err(error) => return peer.close(&format!("a header cannot be read: {error}")),
        };
        if request.is_reply() {
            return;
        }
        if matches!(request.code, request_code::PUT_KV_CONFIG | request_code::DELETE_KV_CONFIG) {
            return self.change_kv_later(peer, frame, request);
        }
        if request.code == request_code::UPDATE_NAMESRV_CONFIG {
            return self.change_config_later(peer, frame, request);
        }
        let answer = self.answer(peer, &request);
        reply(peer, frame, &request, answer);
    }
}

/// Pushes the answer, in the encoding of the request.
fn reply(peer: &Peer, frame: &Frame, request: &Command, answer: Answer) {
    if request.is_oneway() {
        return;
    }
    let mut answer = answer
        .unwrap_or_else(|refusal| Command::reply(0, refusal.code).with_remark(refusal.remark));
    answer.opaque = request.opaque;
    peer.with_outbox(|out| answer.encode(frame.serialize, out));
}

/// A success without anything in it.
fn done() -> Command {
    Command::reply(0, response_code::SUCCESS)
}

impl Service for Shared {
    fn on_frames(&self, peer: &Peer, frames: &mut Vec<Frame>) {
        for frame in frames.drain(..) {
            self.on_frame(peer, &frame);
        }
    }

    fn on_close(&self, peer: &Peer) {
        if self.brokers.lock().remove(&peer.id()).is_some() {
            self.routes.lock().on_close(peer.id());
        }
    }
}
