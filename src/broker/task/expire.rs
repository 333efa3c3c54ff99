//! Ends the waits of parked pulls and drops silent clients, each at its deadline.

use super::super::driver::Shared;
use super::super::handler::pull;
use crate::rt::task::Stop;
use crate::rt::time::Alarm;
use std::sync::Arc;

pub async fn run(shared: Arc<Shared>, mut stop: Stop) {
    let mut alarm = Alarm::new(&shared.clock);
    loop {
        alarm.set(next_deadline(&shared));
        crate::rt::select! {
            _ = stop.wait() => break,
            _ = alarm.ring() => {}
            _ = shared.deadline_moved.notified() => {}
        }
        on_deadline(&shared);
    }
}

fn next_deadline(shared: &Shared) -> Option<crate::rt::time::Mono> {
    let core = shared.core.lock();
    let deadlines = [core.hold.next_deadline(), core.clients.next_deadline()];
    deadlines.into_iter().flatten().min()
}

fn on_deadline(shared: &Arc<Shared>) {
    let now = shared.clock.mono();
    let mut core = shared.core.lock();
    let core = &mut *core;
    core.hold.on_deadline(now, &mut core.hold_effects);
    pull::run_hold_effects(shared, core);
    core.clients.on_deadline(now, &mut core.client_effects);
    shared.run_client_effects(core);
}
