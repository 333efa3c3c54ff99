//! One name server: its port, its tables, its deadlines.

use super::error::Error;
use super::handler::Shared;
use super::kv_config::KvConfig;
use super::options::Options;
use super::route_table::Effect;
use crate::disk::{Disk, parent, read_small_again, settle_names};
use crate::net::Net;
use crate::remoting::Server;
use crate::rt::task::{Stop, TaskGroup};
use crate::rt::time::{Alarm, Clock};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// A running name server. It ends with the group it was started in, or by `shutdown`.
pub struct Namesrv {
    server: Server,
}

impl Namesrv {
    /// Reads the key-value configuration, opens the port and serves.
    /// Errors: `KvConfig` when the file is there and cannot be used; `Listen`.
    pub async fn start(
        disk: Arc<dyn Disk>,
        net: &Arc<dyn Net>,
        clock: &Clock,
        group: &TaskGroup,
        options: Options,
    ) -> Result<Namesrv, Error> {
        let kv = load(&*disk, clock, &options).await?;
        let addr = options.listen;
        let server_options = options.server.clone();
        let shared = Shared::new(disk, clock, options, kv);
        let server = Server::start(net, clock, group, &[addr], shared.clone(), server_options)
            .await
            .map_err(|source| Error::Listen { addr, source })?;
        group.spawn(expire(shared, Alarm::new(clock), clock.clone(), group.stop_signal()));
        Ok(Namesrv { server })
    }

    /// The address in use.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.server.local_addrs().first().copied()
    }

    /// Answers what was asked, then closes every connection and the port.
    pub async fn shutdown(&self) {
        self.server.shutdown().await;
    }
}

/// Forgets silent brokers at their deadline and closes their connections.
async fn expire(shared: Arc<Shared>, mut alarm: Alarm, clock: Clock, mut stop: Stop) {
    let mut out = Vec::new();
    loop {
        alarm.set(shared.routes.lock().next_deadline());
        crate::rt::select! {
            _ = stop.wait() => return,
            _ = alarm.ring() => {}
            _ = shared.deadline_moved.notified() => {}
        }
        shared.routes.lock().on_deadline(clock.mono(), &mut out);
        for Effect::Close { connection, addr } in out.drain(..) {
            shared.close(connection, &format!("the broker {addr} was silent for too long"));
        }
    }
}

/// The file, else its `.bak` (Java has a moment in which only that exists), else nothing. An error
/// of the disk is tried again before it counts.
async fn load(disk: &dyn Disk, clock: &Clock, options: &Options) -> Result<KvConfig, Error> {
    let path = &options.kv_config_path;
    let read = async |path: &str| -> Result<Option<KvConfig>, String> {
        match read_small_again(disk, clock, path, options.kv_size_max as u64).await {
            Ok(bytes) => KvConfig::decode(&bytes).map(Some).map_err(|e| e.to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    };
    if let Err(error) = settle_names(disk, parent(path)).await {
        return Err(Error::KvConfig { path: path.clone(), reason: error.to_string() });
    }
    let backup = format!("{path}.bak");
    match (read(path).await, read(&backup).await) {
        (Ok(Some(kv)), _) => Ok(kv),
        (Ok(None), Ok(None)) => Ok(KvConfig::default()),
        (found, Ok(Some(kv))) => {
            let why = found.err().unwrap_or_else(|| "it is missing".to_owned());
            tracing::warn!("{path}: {why}: {backup} is used instead");
            Ok(kv)
        }
        (Err(reason), _) => Err(Error::KvConfig { path: path.clone(), reason }),
        (Ok(None), Err(reason)) => Err(Error::KvConfig { path: backup, reason }),
    }
}
