//! A master that was replaced while nobody could reach it ends when it hears of its successor: two
//! of one name must not write for long (W-47).

use super::super::driver::Shared;
use super::super::replication::wire::Question;
use super::others;
use crate::format::epochs::Epochs;
use crate::ha::Position;
use crate::rt::task::Stop;
use crate::rt::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The question is given up after this.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Known peers are asked so often: while two write, one of both writes what will be cut off.
const INTERVAL: Duration = Duration::from_secs(2);

/// Asks known peers, and name servers as often as the broker registers.
pub async fn run(shared: Arc<Shared>, mut stop: Stop) {
    let every = shared.options.register_interval;
    let mut servers_next = shared.clock.mono() + every;
    loop {
        let next = shared.clock.mono() + INTERVAL.min(every);
        crate::rt::select! {
            _ = stop.wait() => return,
            _ = shared.clock.sleep_until(next) => {}
        }
        let asks_servers = shared.clock.mono() >= servers_next;
        if asks_servers {
            servers_next = shared.clock.mono() + every;
        }
        let found = crate::rt::select! {
            _ = stop.wait() => return,
            found = successor(&shared, asks_servers) => found,
        };
        if let Some(why) = found {
            crate::rt::probe!("ha: a master heard of its successor and ended");
            tracing::error!("{why}");
            shared.replication.fenced.send(Some(why));
            return;
        }
    }
}

/// Another master of this name that began a later epoch than this one's. Name servers keep one
/// address for a master, that of the last one to register, which may be this one: whoever followed
/// this broker is asked too.
async fn successor(shared: &Shared, asks_servers: bool) -> Option<String> {
    let own = shared.store_host().to_string();
    let mut addrs: BTreeSet<String> = shared.replication.known_peers.all().into_iter().collect();
    for server in shared.options.name_servers.iter().filter(|_| asks_servers) {
        addrs.extend(
            others::of_name(&shared.client, server, &shared.options).await.unwrap_or_default(),
        );
    }
    addrs.remove(&own);
    if addrs.is_empty() {
        return None;
    }
    let question = Question {
        broker_name: shared.options.topics.broker_name.clone(),
        addr: own,
        follows: false,
        position: Position::without_record(&shared.store),
    };
    for addr in addrs {
        let asked = others::ask_position(&shared.client, &addr, &question, TIMEOUT).await;
        let master = asked.ok().flatten().filter(|answer| !answer.is_slave);
        if let Some(theirs) = master.map(|answer| answer.position.epochs)
            && is_later(&theirs, &shared.store.epochs())
        {
            let number = theirs.number();
            return Some(format!(
                "{addr} is master of this name in epoch {number}, which began later than this \
                 one's: start this broker with brokerRole=SLAVE"
            ));
        }
    }
    None
}

/// Of two masters the one with the greater number goes on; of equal ones that with the greater id.
fn is_later(theirs: &Epochs, mine: &Epochs) -> bool {
    let newest = |list: &Epochs| list.rows().last().map(|epoch| (epoch.number, epoch.id));
    newest(theirs) > newest(mine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_masters_exactly_one_goes_on() {
        let list = |text: &str| Epochs::parse(text).expect("a list");
        let (old, new) = (list("1:0:a,2:10:b"), list("1:0:a,3:20:c"));
        assert!(is_later(&new, &old) && !is_later(&old, &new));
        let twin = list("1:0:a,3:20:d");
        assert!(is_later(&twin, &new) && !is_later(&new, &twin));
        assert!(!is_later(&new, &new));
    }
}
