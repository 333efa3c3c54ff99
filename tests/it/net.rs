//! The socket suite on the kernel's loopback.

use hotfire::net::conformance::{self, Ends};
use hotfire::net::tcp::TcpNet;
use hotfire::rt::block_on;
use hotfire::rt::time::Clock;
use std::sync::Arc;

fn ends(addr: &str) -> Ends {
    let (near, far) = (Arc::new(TcpNet::default()), Arc::new(TcpNet::default()));
    Ends { near, far, addr: addr.parse().unwrap(), clock: Clock::new() }
}

#[test]
fn tcp_keeps_the_contract() {
    block_on(async { conformance::run(&ends("127.0.0.1:0")).await }).unwrap();
}

#[test]
fn tcp_keeps_the_contract_over_ipv6() {
    block_on(async { conformance::run(&ends("[::1]:0")).await }).unwrap();
}
