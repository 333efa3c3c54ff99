//! The name server's own configuration: requests 318 and 319.

use super::{Answer, Refusal, Shared, done, reply};
use crate::disk::{self, replace_small};
use crate::namesrv::options::{Change, Configuration};
use crate::protocol::Command;
use crate::protocol::code::response_code;
use crate::protocol::frame::Frame;
use crate::remoting::Peer;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Longest configuration file. Units: bytes.
const FILE_SIZE_MAX: u64 = 1 << 20;

fn refuse(remark: impl Into<String>) -> Refusal {
    Refusal::new(response_code::SYSTEM_ERROR, remark)
}

impl Shared {
    fn configuration(&self) -> Result<Arc<dyn Configuration>, Refusal> {
        let none = || refuse("this name server was started without a configuration");
        self.options.configuration.clone().ok_or_else(none)
    }

    /// `key=value` lines. Source: Configuration#getAllConfigsFormatString (4.9.3).
    pub(super) fn config(&self) -> Answer {
        Ok(done().with_body(self.configuration()?.text()))
    }

    /// Answers when the change is durable, in a task of its own.
    pub(super) fn change_config_later(&self, peer: &Peer, frame: &Frame, request: Command) {
        let Some(shared) = self.own.upgrade() else { return };
        let (frame, size) = (frame.clone(), frame.header.len() + frame.body.len());
        let (asker, panicked) = (peer.clone(), (frame.clone(), request.clone()));
        let work = async move {
            let answer = shared.change_config(&request).await;
            reply(&asker, &frame, &request, answer);
        };
        peer.spawn(size, work, move |peer, panic| {
            let (frame, request) = panicked;
            reply(peer, &frame, &request, Err(refuse(panic)));
        });
    }

    /// Source: DefaultRequestProcessor#updateConfig (4.9.3).
    /// Differs: it is refused as a whole when one key is unknown, has a bad value or needs a
    /// restart; the file keeps its other lines (ADR-0020).
    async fn change_config(&self, request: &Command) -> Answer {
        if request.body.is_empty() {
            return Ok(done());
        }
        let configuration = self.configuration()?;
        let _turn = self.kv_writer.acquire().await.map_err(|_| refuse("the name server stops"))?;
        let text = String::from_utf8_lossy(&request.body);
        let change = configuration.prepare(&text).map_err(refuse)?;
        if let Some(path) = configuration.file() {
            let kept = self.keep_config(&*configuration, path, &change).await;
            kept.map_err(|error| refuse(format!("nothing was changed: write {path}: {error}")))?;
        }
        configuration.commit(&change);
        self.order_message_enable.store(change.order_message_enable, Ordering::Relaxed);
        tracing::info!("the configuration was changed: {:?}", change.said);
        Ok(done())
    }

    /// Durable on return: the file with the change in it.
    async fn keep_config(
        &self,
        configuration: &dyn Configuration,
        path: &str,
        change: &Change,
    ) -> io::Result<()> {
        let before = disk::read_small(&*self.disk, path, FILE_SIZE_MAX)?;
        let after = configuration.edited(&String::from_utf8_lossy(&before), change);
        if after.len() as u64 > FILE_SIZE_MAX {
            let what = format!("it would have {} bytes, at most {FILE_SIZE_MAX}", after.len());
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        replace_small(&*self.disk, path, after.as_bytes()).await
    }
}
