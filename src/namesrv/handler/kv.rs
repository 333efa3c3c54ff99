//! Key-value configuration: requests 100, 101, 102, 219.

use super::{Answer, Refusal, Shared, done, reply};
use crate::disk::{self, replace_small};
use crate::namesrv::kv_config::{KvConfig, ORDER_TOPICS};
use crate::protocol::Command;
use crate::protocol::body::list::KvTable;
use crate::protocol::body::{self, Dialect};
use crate::protocol::code::{request_code, response_code};
use crate::protocol::frame::Frame;
use crate::protocol::header::kv_config::{
    GetKvConfigReplyHeader, KvConfigKeyHeader, KvNamespaceHeader, PutKvConfigHeader,
};
use crate::remoting::Peer;
use bytes::Bytes;
use std::io;

impl Shared {
    pub(super) fn get_kv(&self, request: &Command) -> Answer {
        let KvConfigKeyHeader { namespace, key } = KvConfigKeyHeader::decode(&request.fields())?;
        let value = self.kv.lock().get(&namespace, &key).map(str::to_owned);
        match value {
            Some(_) => Ok(done().with_fields(GetKvConfigReplyHeader { value }.to_ext())),
            None => {
                let remark = format!("No config item, Namespace: {namespace} Key: {key}");
                Err(Refusal::new(response_code::QUERY_NOT_FOUND, remark))
            }
        }
    }

    pub(super) fn list_kv(&self, request: &Command) -> Answer {
        let KvNamespaceHeader { namespace } = KvNamespaceHeader::decode(&request.fields())?;
        self.kv_body(&namespace).map(|body| done().with_body(body)).ok_or_else(|| {
            let remark = format!("No config item, Namespace: {namespace}");
            Refusal::new(response_code::QUERY_NOT_FOUND, remark)
        })
    }

    /// The keys of a namespace as a body, or nothing when it was never written.
    fn kv_body(&self, namespace: &str) -> Option<Bytes> {
        let kv = self.kv.lock();
        let table = kv.namespace(namespace)?.clone();
        Some(body::encode(&KvTable { table }, Dialect::Fastjson))
    }

    /// What every broker learns when it registers.
    pub(super) fn order_topics_body(&self) -> Option<Bytes> {
        self.kv_body(ORDER_TOPICS)
    }

    pub(super) fn order_topic(&self, topic: &str) -> Option<String> {
        self.kv.lock().get(ORDER_TOPICS, topic).map(str::to_owned)
    }

    /// Answers when the file is durable, in a task of its own.
    pub(super) fn change_kv_later(&self, peer: &Peer, frame: &Frame, request: Command) {
        let Some(shared) = self.own.upgrade() else { return };
        let (frame, size) = (frame.clone(), frame.header.len() + frame.body.len());
        let (asker, panicked) = (peer.clone(), (frame.clone(), request.clone()));
        let work = async move {
            let answer = shared.change_kv(&request).await;
            reply(&asker, &frame, &request, answer);
        };
        peer.spawn(size, work, move |peer, panic| {
            let (frame, request) = panicked;
            let answer = Err(Refusal::new(response_code::SYSTEM_ERROR, panic));
            reply(peer, &frame, &request, answer);
        });
    }

    async fn change_kv(&self, request: &Command) -> Answer {
        let closed = |_| Refusal::new(response_code::SYSTEM_ERROR, "the name server stops");
        let _turn = self.kv_writer.acquire().await.map_err(closed)?;
        let mut changed = self.kv.lock().clone();
        if request.code == request_code::PUT_KV_CONFIG {
            let said = PutKvConfigHeader::decode(&request.fields())?;
            changed.put(&said.namespace, &said.key, &said.value);
        } else {
            let said = KvConfigKeyHeader::decode(&request.fields())?;
            changed.delete(&said.namespace, &said.key);
        }
        // Differs: 4.9.3 answers success before, and when, the file could not be written.
        self.save_kv(&changed).await.map_err(|error| {
            let path = &self.options.kv_config_path;
            tracing::error!("write {path}: {error}");
            Refusal::new(response_code::SYSTEM_ERROR, format!("write {path}: {error}"))
        })?;
        *self.kv.lock() = changed;
        Ok(done())
    }

    /// Durable on return: the whole table.
    async fn save_kv(&self, kv: &KvConfig) -> io::Result<()> {
        let path = &self.options.kv_config_path;
        let content = kv.encode();
        if content.len() > self.options.kv_size_max {
            let (size, max) = (content.len(), self.options.kv_size_max);
            let what = format!("the table has {size} bytes, at most {max} are allowed");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let dir = disk::parent(path);
        self.disk.make_dir(dir)?;
        self.disk.sync_dir(disk::parent(dir)).await?;
        crate::rt::fault::point("namesrv: before the kv file is replaced").await;
        replace_small(&*self.disk, path, &content).await
    }
}
