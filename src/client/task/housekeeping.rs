//! Keeps routes fresh and memberships alive.

use crate::client::driver::Inner;
use crate::rt;
use crate::rt::task::Stop;
use crate::rt::time::{Alarm, Mono};
use std::sync::Arc;

/// Runs until the group stops.
pub async fn run(client: Arc<Inner>, mut stop: Stop) {
    let mut alarm = Alarm::new(&client.clock);
    loop {
        alarm.set(next_deadline(&client));
        rt::select! {
            _ = stop.wait() => return,
            _ = alarm.ring() => {}
            _ = client.wake.notified() => {}
        }
        let now = client.clock.mono();
        rt::select! {
            _ = stop.wait() => return,
            _ = refresh_routes(&client, now) => {}
        }
        let is_due = client.state.lock().heartbeat_at.is_some_and(|at| at <= now);
        if is_due {
            rt::select! {
                _ = stop.wait() => return,
                _ = client.heartbeat() => {}
            }
        }
    }
}

fn next_deadline(inner: &Inner) -> Option<Mono> {
    let state = inner.state.lock();
    [state.routes.next_deadline(), state.heartbeat_at].into_iter().flatten().min()
}

/// Asks for the routes that are due. When no name server answers, the others wait too.
async fn refresh_routes(inner: &Inner, now: Mono) {
    let due = inner.state.lock().routes.due(now);
    let mut is_silent = false;
    for topic in due {
        if !is_silent {
            let deadline = inner.clock.mono() + inner.options.request_timeout;
            match inner.fetch_route(&topic, deadline).await {
                Ok(Some(route)) => {
                    inner.state.lock().routes.on_route(inner.clock.mono(), &topic, route);
                    continue;
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(%topic, %error, "a route was not refreshed");
                    is_silent = true;
                }
            }
        }
        inner.state.lock().routes.on_no_news(inner.clock.mono(), &topic);
    }
}
