//! Others of this broker's name: where they are, and where their logs end (ADR-0026).

use super::super::options::Options;
use super::super::replication::wire::{Answer, Question};
use crate::protocol::Command;
use crate::protocol::body::{self, cluster::ClusterInfo};
use crate::protocol::code::{request_code, response_code as code};
use crate::remoting::{Client, Error};
use crate::rt::time::Duration;
use std::io;

/// A name server is given up after this.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Why nothing was said.
#[derive(Debug)]
pub struct Silence {
    pub why: String,
    /// Its machine answers, and nothing runs there, or nothing that says it.
    pub is_down: bool,
}

impl Silence {
    fn refused(why: String) -> Self {
        Silence { why, is_down: true }
    }
}

impl From<Error> for Silence {
    fn from(error: Error) -> Self {
        use io::ErrorKind::{HostUnreachable, NetworkUnreachable, TimedOut};
        let unreachable = [HostUnreachable, NetworkUnreachable, TimedOut];
        let failed = match &error {
            Error::Dial { source, .. } => Some(source.kind()),
            Error::BackingOff { kind, .. } => Some(*kind),
            _ => None,
        };
        // A name that nobody knows will not answer either.
        let is_down = failed.is_some_and(|kind| !unreachable.contains(&kind));
        Silence { why: error.to_string(), is_down }
    }
}

/// Every address that a name server knows for this broker's name.
pub async fn of_name(
    client: &Client,
    server: &str,
    options: &Options,
) -> Result<Vec<String>, Silence> {
    let request = Command::request(request_code::GET_BROKER_CLUSTER_INFO);
    let answer = client.invoke(server, request, TIMEOUT).await?;
    let info: ClusterInfo =
        body::decode(&answer.body).map_err(|error| Silence::refused(error.to_string()))?;
    let named = info.broker_addr_table.get(&options.topics.broker_name);
    Ok(named.map(|data| data.broker_addrs.values().cloned().collect()).unwrap_or_default())
}

/// What the broker at `addr` says of its log; `None` when it is one of 4.9, which does not know the
/// question. Errors: why it did not say it.
pub async fn ask_position(
    client: &Client,
    addr: &str,
    question: &Question,
    timeout: Duration,
) -> Result<Option<Answer>, Silence> {
    let answer = client.invoke(addr, question.to_command(), timeout).await?;
    match answer.code {
        code::SUCCESS => Answer::decode(&answer).map(Some).map_err(Silence::refused),
        code::REQUEST_CODE_NOT_SUPPORTED => Ok(None),
        other => {
            let why = answer.remark.unwrap_or_default();
            Err(Silence::refused(format!("code {other}: {why}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_refuses_is_down_also_while_it_is_left_alone_and_a_silent_one_is_not() {
        let is_down = |kind: io::ErrorKind| {
            let addr = "a:1".to_owned();
            let again = Error::BackingOff { addr, wait_ms: 5, last: "x".to_owned(), kind };
            let first = Error::Dial { addr: "a:1".to_owned(), source: kind.into() };
            (Silence::from(first).is_down, Silence::from(again).is_down)
        };
        assert_eq!(is_down(io::ErrorKind::ConnectionRefused), (true, true));
        assert_eq!(is_down(io::ErrorKind::TimedOut), (false, false));
        assert_eq!(is_down(io::ErrorKind::HostUnreachable), (false, false));
        let late = Error::TimedOut { addr: "a:1".to_owned(), after: TIMEOUT };
        assert!(!Silence::from(late).is_down);
    }
}
