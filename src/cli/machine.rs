//! What this machine and environment say about themselves.

use crate::config::resolve::Machine;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};

/// Looks around once, at boot.
pub fn look() -> Machine {
    let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    Machine {
        home: env("HOME").unwrap_or_else(|| "/".to_owned()),
        // Source: BrokerConfig#localHostName (4.9.3), DEFAULT_BROKER when there is no name.
        host_name: small_file("/proc/sys/kernel/hostname")
            .or_else(|| env("HOSTNAME"))
            .unwrap_or_else(|| "DEFAULT_BROKER".to_owned()),
        local_address: local_address().to_string(),
        namesrv_addr: env("NAMESRV_ADDR"),
        memory_size: memory_size(),
    }
}

/// Blocks of some 100 KiB come and go all the time. glibc gives the end of its heap back to the
/// kernel when more is free there than twice the largest block that was ever mapped alone and
/// freed; each page of it costs a fault when it is used again. After this that is 8 MiB. Another
/// allocator does as it likes.
/// Source: mallopt(3), M_MMAP_THRESHOLD.
pub fn keep_freed_memory() {
    const LARGEST_BLOCK: usize = 4 << 20;
    drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGEST_BLOCK)));
}

/// The encoding of our own requests. Source: RemotingCommand (4.9.3).
pub fn serialize_type() -> Option<String> {
    std::env::var("ROCKETMQ_SERIALIZE_TYPE").ok()
}

#[expect(clippy::disallowed_methods, reason = "a file of the kernel, read once at boot")]
fn small_file(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// The address that the kernel would send from; nothing is sent. Then any address of this machine
/// that is not loopback, then loopback.
/// Differs: 4.9.3 takes the first address of the first interface.
fn local_address() -> IpAddr {
    let routed = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    routed()
        .filter(|ip| !ip.is_unspecified())
        .or_else(|| local_of_table(&small_file("/proc/net/fib_trie")?))
        .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// The first address that the kernel's routing table marks as local to this machine.
fn local_of_table(table: &str) -> Option<IpAddr> {
    let mut last: Option<Ipv4Addr> = None;
    for line in table.lines() {
        if let Some(addr) = line.trim().strip_prefix("|-- ") {
            last = addr.parse().ok();
        } else if line.trim() == "/32 host LOCAL"
            && let Some(addr) = last.filter(|addr| !addr.is_loopback())
        {
            return Some(IpAddr::V4(addr));
        }
    }
    None
}

/// Units: bytes; 0 when the kernel does not say.
fn memory_size() -> u64 {
    let table = small_file("/proc/meminfo").unwrap_or_default();
    let total = table.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_local_address_is_taken_from_the_routing_table_when_there_is_no_route_out() {
        let table = "Local:\n  +-- 127.0.0.0/8\n     |-- 127.0.0.1\n        /32 host LOCAL\n\
            \x20    |-- 172.17.0.0\n        /16 link UNICAST\n     |-- 172.17.0.2\n\
            \x20       /32 host LOCAL\n";
        assert_eq!(local_of_table(table), Some(IpAddr::V4(Ipv4Addr::new(172, 17, 0, 2))));
        assert_eq!(local_of_table(""), None);
    }
}
