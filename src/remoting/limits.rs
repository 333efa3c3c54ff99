//! The time limits of one connection, as data. Pure.

use super::options::ConnectionOptions;
use crate::rt::time::Mono;
use std::sync::Arc;

/// When a connection has been silent, stuck or dripping for too long.
#[derive(Debug)]
pub struct Limits {
    options: Arc<ConnectionOptions>,
    last_io: Mono,
    /// Since when the peer has taken nothing of what waits for it.
    write_stalled: Option<Mono>,
    frame: Option<Progress>,
}

/// How a frame that has partly arrived moves on.
#[derive(Debug)]
struct Progress {
    since: Mono,
    /// What had arrived at `since`. Units: bytes.
    size: usize,
}

impl Limits {
    pub fn new(options: Arc<ConnectionOptions>, now: Mono) -> Self {
        Limits { options, last_io: now, write_stalled: None, frame: None }
    }

    pub fn on_read(&mut self, now: Mono) {
        self.last_io = now;
    }

    pub fn on_written(&mut self, now: Mono) {
        self.last_io = now;
        self.write_stalled = None;
    }

    /// The peer takes nothing at the moment.
    pub fn on_write_blocked(&mut self, now: Mono) {
        self.write_stalled.get_or_insert(now);
    }

    /// `size` bytes of an unfinished frame have arrived; `is_new` when it is another than before.
    pub fn on_partial(&mut self, now: Mono, size: usize, is_new: bool) {
        match &mut self.frame {
            Some(frame) if !is_new => {
                if size >= frame.size.saturating_add(self.options.frame_progress_size) {
                    *frame = Progress { since: now, size };
                }
            }
            _ => self.frame = Some(Progress { since: now, size }),
        }
    }

    /// Nothing is unfinished.
    pub fn on_whole(&mut self) {
        self.frame = None;
    }

    /// We are not reading: the peer is not to blame for a frame that does not move.
    pub fn on_paused(&mut self, now: Mono) {
        if let Some(frame) = &mut self.frame {
            frame.since = now;
        }
    }

    pub fn next_deadline(&self) -> Mono {
        let stall = self.write_stalled.map(|since| since + self.options.write_stall_max);
        let frame = self.frame.as_ref().map(|frame| frame.since + self.options.frame_stall_max);
        let idle = self.last_io + self.options.idle_max;
        [stall, frame].into_iter().flatten().fold(idle, Mono::min)
    }

    /// Why the connection must end now, if it must.
    pub fn on_deadline(&self, now: Mono) -> Option<&'static str> {
        let options = &self.options;
        if self.write_stalled.is_some_and(|since| since + options.write_stall_max <= now) {
            return Some("it took none of its replies for too long");
        }
        if self.frame.as_ref().is_some_and(|frame| frame.since + options.frame_stall_max <= now) {
            return Some("it began a frame and did not go on");
        }
        (self.last_io + options.idle_max <= now).then_some("it was idle for too long")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::time::Duration;

    fn limits() -> Limits {
        Limits::new(Arc::new(ConnectionOptions::default()), Mono(0))
    }

    fn at(seconds: u64) -> Mono {
        Mono(0) + Duration::from_secs(seconds)
    }

    #[test]
    fn a_silent_connection_ends_after_the_idle_time_and_io_puts_it_off() {
        let mut limits = limits();
        assert_eq!(limits.next_deadline(), at(120));
        limits.on_read(at(100));
        assert_eq!(limits.on_deadline(at(120)), None);
        assert_eq!(limits.next_deadline(), at(220));
        assert_eq!(limits.on_deadline(at(220)), Some("it was idle for too long"));
    }

    #[test]
    fn a_peer_that_drips_bytes_is_caught_though_it_is_never_idle() {
        let mut limits = limits();
        for second in 0..30 {
            limits.on_read(at(second));
            limits.on_partial(at(second), second as usize + 1, second == 0);
        }
        assert_eq!(limits.next_deadline(), at(30));
        assert_eq!(limits.on_deadline(at(30)), Some("it began a frame and did not go on"));
    }

    #[test]
    fn a_large_frame_may_take_its_time_while_it_moves_on() {
        let mut limits = limits();
        for turn in 0..10 {
            limits.on_read(at(turn * 20));
            limits.on_partial(at(turn * 20), turn as usize * 2_000, turn == 0);
            assert_eq!(limits.on_deadline(at(turn * 20 + 19)), None);
        }
        limits.on_whole();
        assert_eq!(limits.next_deadline(), at(180 + 120));
    }

    #[test]
    fn a_pause_of_ours_is_not_the_peers_fault() {
        let mut limits = limits();
        limits.on_partial(at(0), 10, true);
        limits.on_paused(at(29));
        assert_eq!(limits.on_deadline(at(30)), None);
        assert_eq!(limits.next_deadline(), at(59));
    }

    #[test]
    fn a_reader_that_takes_something_now_and_then_stays() {
        let mut limits = limits();
        limits.on_write_blocked(at(1));
        limits.on_write_blocked(at(20));
        assert_eq!(limits.next_deadline(), at(31));
        limits.on_written(at(30));
        limits.on_write_blocked(at(30));
        assert_eq!(limits.on_deadline(at(59)), None);
        assert_eq!(limits.on_deadline(at(60)), Some("it took none of its replies for too long"));
    }
}
