//! Who else has this broker's name: whose connections are taken as a slave's, and whom a master
//! asks before it writes.

use crate::disk::{Disk, replace_small};
use crate::rt::sync::{Mutex, Notify, Semaphore};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

/// Peers that are remembered; more are not asked. Each is a line of a small file.
pub const KNOWN_MAX: usize = 16;

/// Units: bytes of the file of known peers.
pub const FILE_SIZE_MAX: u64 = 4096;

/// So many addresses are remembered of those that name servers name. More than that are no set of
/// replicas: only those that they name now count then.
const LEARNED_MAX: usize = 64;

/// Which addresses may open an HA connection: `haAllowedPeers`, or else those that name servers
/// have named for this broker name since the start, and those of known peers. This machine's own
/// always may.
pub struct Admission {
    allowed: Vec<IpAddr>,
    peers: Arc<KnownPeers>,
    learned: Mutex<BTreeSet<IpAddr>>,
    /// An unknown address came: name servers should be asked.
    pub unknown: Notify,
}

impl Admission {
    pub fn new(allowed: &[IpAddr], peers: Arc<KnownPeers>) -> Self {
        let (learned, unknown) = (Mutex::default(), Notify::new());
        Admission { allowed: allowed.to_vec(), peers, learned, unknown }
    }

    pub fn admits(&self, ip: IpAddr) -> bool {
        let is_known = ip.is_loopback() || self.allowed.contains(&ip);
        let is_learned = || self.learned.lock().contains(&ip) || self.peers.has(ip);
        if is_known || (self.allowed.is_empty() && is_learned()) {
            return true;
        }
        crate::rt::probe!("ha: an unknown address was not admitted");
        self.unknown.notify_one();
        false
    }

    /// Name servers know these. They forget a broker that is down, and one that comes back asks for
    /// what it lacks: who was named stays admitted.
    pub fn learn(&self, addrs: impl IntoIterator<Item = IpAddr>) {
        let named: BTreeSet<_> = addrs.into_iter().collect();
        let mut learned = self.learned.lock();
        learned.extend(&named);
        if learned.len() > LEARNED_MAX {
            *learned = named;
        }
    }
}

/// The host of `host:port`, when it is an address.
pub fn ip_of(addr: &str) -> Option<IpAddr> {
    addr.rsplit_once(':').and_then(|(host, _)| host.parse().ok())
}

/// Whether it can stand in a line of the file and in a list of such.
fn is_addr(text: &str) -> bool {
    let (host, port) = text.rsplit_once(':').unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_graphic() && c != ',';
    !host.is_empty() && host.chars().all(is_plain) && port.parse::<u16>().is_ok()
}

/// Where others of this name can be asked that this broker has followed, that have followed it, or
/// that have followed the master that it follows: `hotfire/peers`, a line each. Name servers forget
/// a broker that is down.
pub struct KnownPeers {
    disk: Arc<dyn Disk>,
    path: String,
    addrs: Mutex<BTreeSet<String>>,
    /// Whoever writes the file has it: two greetings may come at once.
    pub writing: Semaphore,
}

impl KnownPeers {
    pub fn path(root: &str) -> String {
        format!("{root}/hotfire/peers")
    }

    /// Takes what reading `path` gave. Without the file nobody is known; when it cannot be read
    /// that is so too, and is said.
    pub fn new(disk: &Arc<dyn Disk>, root: &str, read: io::Result<Bytes>) -> Self {
        let path = KnownPeers::path(root);
        if let Err(error) = &read
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::error!("failed to read {path}: {error}; the slaves named there are not asked");
        }
        let bytes = read.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let addrs = text.lines().filter(|line| !line.is_empty()).take(KNOWN_MAX);
        let addrs = Mutex::new(addrs.map(str::to_owned).collect());
        KnownPeers { disk: disk.clone(), path, addrs, writing: Semaphore::new(1) }
    }

    pub fn all(&self) -> Vec<String> {
        self.addrs.lock().iter().cloned().collect()
    }

    pub fn has(&self, ip: IpAddr) -> bool {
        self.addrs.lock().iter().any(|addr| ip_of(addr) == Some(ip))
    }

    pub fn count(&self) -> usize {
        self.addrs.lock().len()
    }

    /// One follows, or is followed, or follows the same master. What is no `host:port` is none.
    /// Returns whether it is a new one.
    pub fn note(&self, addr: &str) -> bool {
        let mut addrs = self.addrs.lock();
        addrs.len() < KNOWN_MAX && is_addr(addr) && addrs.insert(addr.to_owned())
    }

    /// The file's text.
    pub fn text(&self) -> String {
        self.addrs.lock().iter().map(|addr| format!("{addr}\n")).collect()
    }

    /// Writes the file, by one at a time (`writing`). Durable on return.
    pub fn save<'a>(&'a self, text: &'a str) -> impl Future<Output = io::Result<()>> + Send + 'a {
        replace_small(&*self.disk, &self.path, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::read_small;
    use crate::disk::real::RealDisk;
    use crate::rt::block_on;

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    fn known(dir: &tempfile::TempDir) -> Arc<KnownPeers> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::new());
        let root = dir.path().to_string_lossy();
        let read = read_small(&*disk, &KnownPeers::path(&root), FILE_SIZE_MAX);
        Arc::new(KnownPeers::new(&disk, &root, read))
    }

    #[test]
    fn only_addresses_of_this_name_are_admitted_unless_some_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let learned = Admission::new(&[], known(&dir));
        assert!(learned.admits(IpAddr::from([127, 0, 0, 1])));
        assert!(!learned.admits(ip(2)));
        learned.learn([ip(2)]);
        assert!(learned.admits(ip(2)) && !learned.admits(ip(3)));
        learned.learn([ip(3)]);
        assert!(learned.admits(ip(2)), "it is down, and name servers forgot it");
        learned.learn((10..75).map(ip));
        assert!(learned.admits(ip(74)) && !learned.admits(ip(2)), "the table has an end");
        let named = Admission::new(&[ip(3)], known(&dir));
        named.learn([ip(2)]);
        assert!(named.admits(ip(3)) && !named.admits(ip(2)));
        assert_eq!(ip_of("10.0.0.2:10911"), Some(ip(2)));
        assert_eq!(ip_of("host:1"), None);
    }

    #[test]
    fn a_peer_is_known_after_a_restart_whatever_name_servers_say() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("hotfire")).unwrap();
        let before = known(&dir);
        assert!(before.note("10.0.0.2:10911") && !before.note("10.0.0.2:10911"));
        block_on(before.save(&before.text())).unwrap();
        for no_addr in ["", "10.0.0.3", "10.0.0.3:", ":1", "a:1,b:2", "a:1\nb:2", "a b:1"] {
            assert!(!before.note(no_addr), "{no_addr:?}");
        }
        let after = known(&dir);
        assert_eq!(after.all(), ["10.0.0.2:10911"]);
        let admission = Admission::new(&[], after);
        assert!(admission.admits(ip(2)) && !admission.admits(ip(3)));
    }
}
