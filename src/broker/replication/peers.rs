//! Who else has this broker's name: whose connections are taken as a slave's, and whom a master
//! asks before it writes.

use crate::disk::{Disk, replace_small};
use crate::rt::sync::{Mutex, Notify};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

/// Peers that are remembered; more are not asked. Each is a line of a small file.
pub const KNOWN_MAX: usize = 16;

/// Units: bytes of the file of known peers.
pub const FILE_SIZE_MAX: u64 = 4096;

/// Which addresses may open an HA connection: `haAllowedPeers`, or else those that name servers
/// know for this broker name, and those of known peers. This machine's own always may.
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

    /// Name servers know these.
    pub fn learn(&self, addrs: impl IntoIterator<Item = IpAddr>) {
        *self.learned.lock() = addrs.into_iter().collect();
    }
}

/// The host of `host:port`, when it is an address.
pub fn ip_of(addr: &str) -> Option<IpAddr> {
    addr.rsplit_once(':').and_then(|(host, _)| host.parse().ok())
}

/// Where others of this name can be asked that this broker has followed, or that have followed it:
/// `hotfire/peers`, a line each. Name servers forget a broker that is down.
pub struct KnownPeers {
    disk: Arc<dyn Disk>,
    path: String,
    addrs: Mutex<BTreeSet<String>>,
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
        KnownPeers { disk: disk.clone(), path, addrs }
    }

    pub fn all(&self) -> Vec<String> {
        self.addrs.lock().iter().cloned().collect()
    }

    pub fn has(&self, ip: IpAddr) -> bool {
        self.addrs.lock().iter().any(|addr| ip_of(addr) == Some(ip))
    }

    /// One follows, or is followed. Returns the file's text when it is a new one.
    pub fn note(&self, addr: &str) -> Option<String> {
        let mut addrs = self.addrs.lock();
        let has_room = addrs.len() < KNOWN_MAX && !addr.is_empty();
        let is_new = has_room && addrs.insert(addr.to_owned());
        is_new.then(|| addrs.iter().map(|addr| format!("{addr}\n")).collect())
    }

    /// Writes what `note` gave. Durable on return.
    pub fn save<'a>(
        &'a self,
        text: &'a str,
    ) -> impl Future<Output = std::io::Result<()>> + Send + 'a {
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
        let text = before.note("10.0.0.2:10911").unwrap();
        block_on(before.save(&text)).unwrap();
        assert_eq!(before.note("10.0.0.2:10911"), None);
        let after = known(&dir);
        assert_eq!(after.all(), ["10.0.0.2:10911"]);
        let admission = Admission::new(&[], after);
        assert!(admission.admits(ip(2)) && !admission.admits(ip(3)));
    }
}
