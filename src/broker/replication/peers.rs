//! Who else has this broker's name: whose connections are taken as a slave's, and whom a master
//! asks before it writes.

use crate::disk::{Disk, read_small, replace_small};
use crate::rt::sync::{Mutex, Notify};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Slaves that are remembered; more are not asked. Each is a line of a small file.
pub const KNOWN_MAX: usize = 16;

/// Units: bytes of the file of known slaves.
const FILE_SIZE_MAX: u64 = 4096;

/// Which addresses may open an HA connection: `haAllowedPeers`, or else those that name servers
/// know for this broker name. This machine's own always may.
pub struct Admission {
    allowed: Vec<IpAddr>,
    learned: Mutex<BTreeSet<IpAddr>>,
    /// An unknown address came: name servers should be asked.
    pub unknown: Notify,
}

impl Admission {
    pub fn new(allowed: &[IpAddr]) -> Self {
        let (learned, unknown) = (Mutex::default(), Notify::new());
        Admission { allowed: allowed.to_vec(), learned, unknown }
    }

    pub fn admits(&self, ip: IpAddr) -> bool {
        let is_known = ip.is_loopback() || self.allowed.contains(&ip);
        if is_known || (self.allowed.is_empty() && self.learned.lock().contains(&ip)) {
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

/// Where the slaves that followed this master can be asked: `hotfire/slaves`, a line each.
pub struct KnownSlaves {
    path: String,
    addrs: Mutex<BTreeSet<String>>,
}

impl KnownSlaves {
    pub fn load(disk: &dyn Disk, root: &str) -> Self {
        let path = format!("{root}/hotfire/slaves");
        let bytes = read_small(disk, &path, FILE_SIZE_MAX).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let addrs = text.lines().filter(|line| !line.is_empty()).take(KNOWN_MAX);
        let addrs = Mutex::new(addrs.map(str::to_owned).collect());
        KnownSlaves { path, addrs }
    }

    pub fn all(&self) -> Vec<String> {
        self.addrs.lock().iter().cloned().collect()
    }

    /// A slave follows. Returns the file's text when it is a new one.
    pub fn on_greeted(&self, addr: &str) -> Option<String> {
        let mut addrs = self.addrs.lock();
        let has_room = addrs.len() < KNOWN_MAX && !addr.is_empty();
        let is_new = has_room && addrs.insert(addr.to_owned());
        is_new.then(|| addrs.iter().map(|addr| format!("{addr}\n")).collect())
    }

    /// Writes what `on_greeted` gave. Durable on return.
    pub fn save<'a>(
        &'a self,
        disk: &'a dyn Disk,
        text: &'a str,
    ) -> impl Future<Output = std::io::Result<()>> + Send + 'a {
        replace_small(disk, &self.path, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_this_name_are_admitted_unless_some_are_named() {
        let ip = |n| IpAddr::from([10, 0, 0, n]);
        let learned = Admission::new(&[]);
        assert!(learned.admits(IpAddr::from([127, 0, 0, 1])));
        assert!(!learned.admits(ip(2)));
        learned.learn([ip(2)]);
        assert!(learned.admits(ip(2)) && !learned.admits(ip(3)));
        let named = Admission::new(&[ip(3)]);
        named.learn([ip(2)]);
        assert!(named.admits(ip(3)) && !named.admits(ip(2)));
        assert_eq!(ip_of("10.0.0.2:10911"), Some(ip(2)));
        assert_eq!(ip_of("host:1"), None);
    }
}
