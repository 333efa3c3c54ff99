//! Samples the statistics every ten seconds.

use super::super::driver::Shared;
use super::super::stats::SAMPLE_INTERVAL;
use crate::rt::task::{Stop, yield_now};
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
        let tick = shared.core.lock().stats.sample(wall, ahead);
        let (mut groups, mut topics) = (Some(0), Some(0));
        while groups.is_some() || topics.is_some() {
            {
                let mut core = shared.core.lock();
                groups = groups.and_then(|from| core.stats.groups.sample(wall, tick, from));
                topics = topics.and_then(|from| core.topics.sample_puts(wall, tick, from));
            }
            yield_now().await;
        }
        due = due + SAMPLE_INTERVAL;
    }
}
