//! What the commands that act as clients share: a client, its name servers, its failures.

use super::failure::Failure;
use super::world::World;
use crate::client::{Client, Error, Identity, Options};
use clap::Args as ClapArgs;
use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs, UdpSocket};

/// Where the name servers are.
#[derive(Debug, ClapArgs)]
pub struct NameServers {
    /// Name server address list, eg: 192.168.0.1:9876;192.168.0.2:9876; NAMESRV_ADDR without it
    #[arg(short = 'n', long = "namesrvAddr", value_name = "ADDRS")]
    pub namesrv_addr: Option<String>,
}

/// A running client and what it lives in.
pub struct Member {
    pub client: Client,
    pub world: World,
}

/// Starts a client of these name servers. Nothing is dialed yet.
pub fn start(servers: &NameServers) -> Result<Member, Failure> {
    let given = servers.namesrv_addr.clone().or_else(|| std::env::var("NAMESRV_ADDR").ok());
    let options = Options::of_name_servers(&given.unwrap_or_default());
    let Some(first) = options.name_servers.first() else {
        return Err(Failure::new(Failure::USAGE, "-n: no name server address was given"));
    };
    let mut world = World::new();
    let identity = Identity::new(address_towards(first), std::process::id(), &mut world.rng);
    let rng = world.rng.clone();
    let client = Client::start(&world.net, &world.clock, &world.group, options, identity, rng);
    Ok(Member { client, world })
}

/// The address of this machine that the kernel would send from to reach `addr`; loopback when it
/// cannot say. Nothing is sent.
fn address_towards(addr: &str) -> IpAddr {
    let routed = || {
        let target = addr.to_socket_addrs().ok()?.next()?;
        let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(target).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    routed().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Message(_) | Error::NoNameServer | Error::Subscription(_) => Failure::USAGE,
            Error::NoRoute(_) => Failure::NO,
            _ if error.code().is_some() => Failure::NO,
            _ => Failure::REFUSED,
        };
        let what = error.to_string();
        Failure::new(code, what)
    }
}

/// A failure to write to standard output: the reader went away, which ends a command well.
pub enum Printed {
    Yes,
    ReaderIsGone,
}

/// Writes lines to standard output and flushes them.
pub fn print(lines: &str) -> Result<Printed, Failure> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(lines.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(Printed::Yes),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Printed::ReaderIsGone),
        Err(error) => Err(Failure::new(Failure::REFUSED, format!("standard output: {error}"))),
    }
}
