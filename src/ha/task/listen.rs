//! Takes the connections of slaves.

use super::super::driver::Shared;
use super::serve;
use crate::net::{self, Listener};
use crate::rt::task::{Spawner, Stop};
use crate::rt::time::Duration;
use std::sync::Arc;

/// After an error of the port itself.
const PAUSE: Duration = Duration::from_millis(100);

pub async fn run(
    shared: Arc<Shared>,
    mut listener: Box<dyn Listener>,
    mut stop: Stop,
    spawner: Spawner,
) {
    loop {
        let accepted = crate::rt::select! {
            _ = stop.wait() => return,
            accepted = net::accept(&mut *listener) => accepted,
        };
        match accepted {
            Ok(stream) if shared.master.lock().count() >= shared.options.slaves_max => {
                let (peer, max) = (stream.peer_addr(), shared.options.slaves_max);
                tracing::warn!("{peer} is not taken as a slave: {max} are connected");
            }
            Ok(stream) if !(shared.admission)(stream.peer_addr().ip()) => {
                let peer = stream.peer_addr();
                tracing::warn!(
                    "{peer} is not taken as a slave: name servers do not know it as a broker of \
                     this name, and haAllowedPeers does not name it"
                );
            }
            Ok(stream) => spawner.spawn(serve::run(shared.clone(), stream, stop.clone())),
            Err(error) => {
                tracing::warn!("the HA port takes no connection: {error}");
                let pause = shared.deps.clock.mono() + PAUSE;
                shared.deps.clock.sleep_until(pause).await;
            }
        }
    }
}
