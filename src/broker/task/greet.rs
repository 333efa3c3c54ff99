//! A slave's word to its master before it follows, and a master's question who its slaves may be.

use super::super::driver::Shared;
use super::super::options::Options;
use super::super::replication::peers::{KnownPeers, ip_of};
use super::super::replication::wire::{Answer, Question};
use super::others;
use crate::ha::{Greeted, Greeter, Position, Welcome};
use crate::net::BoxFuture;
use crate::remoting::Client;
use crate::rt::sync::watch;
use crate::rt::task::Stop;
use crate::rt::time::Duration;
use std::io;
use std::sync::Arc;

/// The question is given up after this.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Name servers are not asked more often for addresses that are not known.
const ASK_PAUSE: Duration = Duration::from_millis(200);

/// Asks the master on its main port.
pub struct MasterGreeter {
    pub client: Client,
    pub broker_name: String,
    /// Where this slave can be asked.
    pub addr: String,
    /// What clients dial to reach the master, once name servers have said it.
    pub master: watch::Receiver<Option<String>>,
    pub peers: Arc<KnownPeers>,
}

impl MasterGreeter {
    /// Without a word of name servers: one below the HA port.
    fn main_addr(&self, ha_addr: &str) -> String {
        let below = || {
            let (host, port) = ha_addr.rsplit_once(':')?;
            Some(format!("{host}:{}", port.parse::<u16>().ok()?.checked_sub(1)?))
        };
        self.master.get().or_else(below).unwrap_or_else(|| ha_addr.to_owned())
    }
}

/// Those that the master names. Durable on return, or it is logged that it is not.
pub async fn remember_others(peers: &KnownPeers, own: &str, addrs: &[String]) {
    for addr in addrs.iter().filter(|addr| *addr != own) {
        remember(peers, addr).await;
    }
}

/// One of this name follows, or is followed. Durable on return, or it is logged that it is not.
pub async fn remember(peers: &KnownPeers, addr: &str) {
    if !peers.note(addr) {
        return;
    }
    if let Err(error) = save(peers).await {
        tracing::warn!("{addr} will be known by name servers alone: {error}");
    }
}

async fn save(peers: &KnownPeers) -> io::Result<()> {
    let _turn = peers.writing.acquire().await.map_err(io::Error::other)?;
    let text = peers.text();
    peers.save(&text).await
}

impl Greeter for MasterGreeter {
    fn greet(
        &self,
        ha_addr: &str,
        position: Position,
    ) -> BoxFuture<'static, Result<Greeted, String>> {
        let (client, master) = (self.client.clone(), self.main_addr(ha_addr));
        let peers = self.peers.clone();
        let question = Question {
            broker_name: self.broker_name.clone(),
            addr: self.addr.clone(),
            follows: true,
            position,
        };
        Box::pin(async move {
            let asked = others::ask_position(&client, &master, &question, TIMEOUT).await;
            let Some(answer) = asked.map_err(|silence| format!("{master}: {}", silence.why))?
            else {
                return Ok(Greeted::Unknown);
            };
            let Answer { position, written, sum, token, peers: others, .. } = answer;
            let token = token.ok_or_else(|| format!("{master} gave no token"))?;
            remember(&peers, &master).await;
            // One of them may be the next master, and may have to read this log.
            remember_others(&peers, &question.addr, &others).await;
            Ok(Greeted::Welcome(Welcome {
                epochs: position.epochs,
                min: position.min,
                end: written,
                sum,
                token,
            }))
        })
    }
}

/// Asks name servers for the addresses of this broker's name: at once, as often as it registers,
/// for they forget one that is down and may not be asked any more when it is back, and when one
/// came that is not known.
pub async fn learn_peers(shared: Arc<Shared>, mut stop: Stop) {
    loop {
        let asked = shared.clock.mono();
        let named = crate::rt::select! {
            _ = stop.wait() => return,
            named = addresses(&shared.client, &shared.options) => named,
        };
        shared.replication.admission.learn(named);
        crate::rt::select! {
            _ = stop.wait() => return,
            _ = shared.clock.sleep_until(asked + ASK_PAUSE) => {}
        }
        crate::rt::select! {
            _ = stop.wait() => return,
            _ = shared.clock.sleep_until(asked + shared.options.register_interval) => {}
            _ = shared.replication.admission.unknown.notified() => {}
        }
    }
}

async fn addresses(client: &Client, options: &Options) -> Vec<std::net::IpAddr> {
    let mut all = Vec::new();
    for server in &options.name_servers {
        match others::of_name(client, server, options).await {
            Ok(found) => all.extend(found.iter().filter_map(|addr| ip_of(addr))),
            Err(silence) => {
                tracing::debug!("name server {server} does not say who is there: {}", silence.why)
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::super::replication::peers::FILE_SIZE_MAX;
    use super::*;
    use crate::disk::real::RealDisk;
    use crate::disk::{BoxFuture, Disk, read_small};
    use crate::rt::{block_on, task};

    #[test]
    fn peers_that_come_at_once_are_all_known_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("hotfire")).unwrap();
        let root = dir.path().to_string_lossy();
        let known = || {
            let disk: Arc<dyn Disk> = Arc::new(RealDisk::new());
            let read = read_small(&*disk, &KnownPeers::path(&root), FILE_SIZE_MAX);
            Arc::new(KnownPeers::new(&disk, &root, read))
        };
        let before = known();
        let remembered = (1..9).map(|n| {
            let peers = before.clone();
            let remembering = async move { remember(&peers, &format!("10.0.0.{n}:10911")).await };
            Box::pin(remembering) as BoxFuture<'static, ()>
        });
        block_on(task::all(remembered.collect()));
        assert_eq!(known().count(), 8);
    }
}
