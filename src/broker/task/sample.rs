//! Samples the statistics every ten seconds.

use super::super::driver::Shared;
use super::super::stats::SAMPLE_INTERVAL;
use crate::rt::task::Stop;
use crate::rt::time::Alarm;
use std::sync::Arc;

pub async fn run(shared: Arc<Shared>, mut stop: Stop) {
    let mut alarm = Alarm::new(&shared.clock);
    let mut due = shared.clock.mono() + SAMPLE_INTERVAL;
    loop {
        alarm.set(Some(due));
        crate::rt::select! {
            _ = stop.wait() => return,
            _ = alarm.ring() => {}
        }
        let wall = shared.clock.wall();
        let ahead = shared.clock.local_offset_ms(wall);
        let mut core = shared.core.lock();
        let tick = core.stats.sample(wall, ahead);
        core.topics.sample_puts(wall, tick);
        due = due + SAMPLE_INTERVAL;
    }
}
