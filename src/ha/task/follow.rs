//! A slave's side: dials its master, says where its log ends, and takes in what comes.
//!
//! Source: HAService.HAClient (4.9.3).
//! Differs: the first report goes out at once (W-45); silence of the master ends the connection
//! (W-46); a log that is full stops the reading (W-49).

use super::super::driver::{Followed, Shared};
use super::super::greeting::{self, Course, Greeted, Position};
use super::super::transfer_frame::{self, HEADER_SIZE, Header};
use super::wire::{self, Unsent};
use crate::format::epochs::Epochs;
use crate::model::PhysicalOffset;
use crate::net::Stream;
use crate::rt::sync::watch;
use crate::rt::task::Stop;
use crate::rt::time::{Alarm, Duration, Mono};
use crate::store::{AppendError, Intake, IntakeError};
use bytes::{Buf, Bytes, BytesMut};
use std::sync::Arc;

/// Read at a time. Units: bytes.
const READ_SIZE: usize = 256 << 10;

/// The pause after the first lost connection; doubled by each further one.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// An empty log that shall begin elsewhere is given up after this.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(5);

enum End {
    Stop,
    /// The master has another address, or none.
    Moved,
    Lost(String),
}

pub async fn run(shared: Arc<Shared>, mut stop: Stop) {
    let mut follows = shared.follows.subscribe();
    let mut failures = 0u32;
    loop {
        let Some(addr) = follows.get() else {
            crate::rt::select! {
                _ = stop.wait() => return,
                _ = follows.until(Option::is_some) => continue,
            }
        };
        let began = shared.deps.clock.mono();
        match follow(&shared, &addr, &mut stop, &mut follows).await {
            End::Stop => return,
            End::Moved => failures = 0,
            End::Lost(why) => {
                if began + shared.options.silence_max < shared.deps.clock.mono() {
                    failures = 0;
                }
                failures += 1;
                if failures.is_power_of_two() {
                    tracing::warn!("the connection to master {addr} is lost: {why}");
                }
                let followed =
                    Followed { is_connected: false, fault: Some(why), ..shared.followed() };
                *shared.followed.lock() = followed;
                if shared.restart.get().is_some() {
                    stop.wait().await;
                    return;
                }
                let pause = PAUSE_MIN * (1 << (failures - 1).min(8));
                let until = shared.deps.clock.mono() + pause.min(shared.options.dial_pause_max);
                crate::rt::select! {
                    _ = stop.wait() => return,
                    _ = shared.deps.clock.sleep_until(until) => {}
                }
            }
        }
    }
}

impl Shared {
    fn followed(&self) -> Followed {
        self.followed.lock().clone()
    }
}

async fn follow(
    shared: &Arc<Shared>,
    addr: &str,
    stop: &mut Stop,
    follows: &mut watch::Receiver<Option<String>>,
) -> End {
    let token = crate::rt::select! {
        _ = stop.wait() => return End::Stop,
        greeted = greet(shared, addr) => match greeted {
            Ok(token) => token,
            Err(why) => return End::Lost(why),
        },
    };
    let dialled = crate::rt::select! {
        _ = stop.wait() => return End::Stop,
        dialled = shared.deps.net.dial(addr, shared.options.dial_timeout) => dialled,
    };
    let stream = match dialled {
        Ok(stream) => stream,
        Err(error) => return End::Lost(error.to_string()),
    };
    let now = shared.deps.clock.mono();
    let mut unsent = Unsent::default();
    if let Some(token) = token {
        unsent.push(Bytes::copy_from_slice(&transfer_frame::encode_token(token)));
    }
    let mut follow = Follow {
        shared: shared.clone(),
        stream,
        intake: shared.deps.store.intake(),
        received: BytesMut::new(),
        unsent,
        body_left: 0,
        reported: None,
        retry_at: None,
        heard: now,
        spoke: now,
    };
    let master = Some(addr.to_owned());
    let heard = shared.followed().heard;
    *shared.followed.lock() = Followed { master, is_connected: true, heard, fault: None };
    tracing::info!("following master {addr} from {} on", follow.intake.received());
    let is_moved = |now: &Option<String>| now.as_deref() != Some(addr);
    let mut heard_of = shared.heard_of.subscribe();
    let is_replaced = |list: &Epochs| shared.deps.store.epochs().is_replaced_in(list);
    crate::rt::select! {
        _ = stop.wait() => End::Stop,
        _ = follows.until(is_moved) => End::Moved,
        list = heard_of.until(is_replaced) => End::Lost(replaced_by(&list)),
        why = follow.run() => End::Lost(why),
    }
}

fn replaced_by(list: &Epochs) -> String {
    format!("it was replaced: another master has begun epoch {}", list.number())
}

/// Finds out what this log and the master's have in common. Returns the token that opens the
/// connection; `None` for a master of 4.9. Errors: nothing is followed now.
async fn greet(shared: &Shared, addr: &str) -> Result<Option<u64>, String> {
    let Some(greeter) = &shared.greeter else { return Ok(None) };
    let store = &shared.deps.store;
    let mine = Position::of(store).await.map_err(|e| format!("this log cannot be read: {e}"))?;
    let Greeted::Welcome(welcome) = greeter.greet(addr, mine.clone()).await? else {
        return Ok(None);
    };
    let heard_of = shared.heard_of.get();
    if welcome.epochs.is_replaced_in(&heard_of) {
        // Nobody else may know both: it ends when it hears of it.
        let told = Position { epochs: heard_of.clone(), ..mine };
        let _ = greeter.greet(addr, told).await;
        return Err(replaced_by(&heard_of));
    }
    match greeting::course(&mine, &welcome, store.cut_size_max()) {
        Course::Follow => {
            let adopted = store.adopt_epochs(welcome.epochs).await;
            adopted.map_err(|error| error.to_string())?;
            Ok(Some(welcome.token))
        }
        Course::Stop(why) => Err(why),
        Course::CutTo(to) => {
            crate::rt::probe!("ha: a log went another way than its master's");
            let asked = store.cut_back_at_next_start(PhysicalOffset(to)).await;
            asked.map_err(|error| error.to_string())?;
            let why = format!(
                "the log here ends at {}, and its master went another way at {to}: what lies \
                 behind is cut off and kept in hotfire/cut",
                mine.end
            );
            tracing::error!("{why}");
            shared.restart.send(Some(why.clone()));
            Err(why)
        }
    }
}

struct Follow {
    shared: Arc<Shared>,
    stream: Box<dyn Stream>,
    intake: Intake,
    received: BytesMut,
    unsent: Unsent,
    /// Bytes of the log that are still to come of the frame that is being read.
    body_left: usize,
    /// What the master was told last.
    reported: Option<u64>,
    /// What was fed could not be taken: it is tried again then, and nothing is read before.
    retry_at: Option<Mono>,
    heard: Mono,
    spoke: Mono,
}

impl Follow {
    /// Returns why it ended.
    async fn run(&mut self) -> String {
        let mut alarm = Alarm::new(&self.shared.deps.clock);
        let mut moved = self.shared.log_moved.subscribe();
        loop {
            let seen = moved.get();
            self.report();
            alarm.set(Some(self.next_deadline()));
            let read_max = if self.retry_at.is_none() { READ_SIZE } else { 0 };
            // A read takes what there is room for.
            self.received.reserve(read_max);
            let io = crate::rt::select! {
                _ = alarm.ring() => None,
                _ = moved.until(|now| *now != seen) => None,
                io = wire::progress(
                    &mut *self.stream, &mut self.received, read_max, &mut self.unsent,
                ) => Some(io),
            };
            let now = self.shared.deps.clock.mono();
            let done = match io {
                Some(Err(error)) => Err(error.to_string()),
                Some(Ok(0)) | None => self.retry(now).await,
                Some(Ok(_)) => {
                    self.heard = now;
                    self.on_received().await
                }
            };
            if let Err(why) = done {
                return why;
            }
            // While it does not read it cannot hear.
            if self.retry_at.is_none() && now >= self.heard + self.shared.options.silence_max {
                let ms = self.shared.options.silence_max.as_millis();
                return format!("it sent nothing for {ms} ms");
            }
        }
    }

    fn next_deadline(&self) -> Mono {
        let options = &self.shared.options;
        let (report, silence) =
            (self.spoke + options.heartbeat_interval, self.heard + options.silence_max);
        self.retry_at.map_or(report.min(silence), |at| at.min(report))
    }

    /// What this slave has, as its own flush mode says. The first word is also where the master
    /// goes on: it waits until all of the log counts.
    fn report(&mut self) {
        let stats = self.shared.deps.store.stats();
        let has = if self.shared.reports_synced { stats.synced.0 } else { stats.written.0 };
        let now = self.shared.deps.clock.mono();
        let is_due = match self.reported {
            None => has == self.intake.received().0,
            Some(reported) => {
                has > reported || now >= self.spoke + self.shared.options.heartbeat_interval
            }
        };
        // What was not yet sent need not be said: the next report says more.
        let is_free = self.unsent.size() == 0 || self.reported.is_none();
        if is_due && is_free {
            self.unsent.push(Bytes::copy_from_slice(&has.to_be_bytes()));
            (self.reported, self.spoke) = (Some(has), now);
        }
    }

    async fn retry(&mut self, now: Mono) -> Result<(), String> {
        match self.retry_at {
            Some(at) if now >= at => {
                self.retry_at = None;
                self.heard = now;
                self.take_in().await
            }
            _ => Ok(()),
        }
    }

    /// All that was read goes to the store at once: it is written with one call.
    async fn on_received(&mut self) -> Result<(), String> {
        let fed = self.feed().await;
        self.take_in().await?;
        fed
    }

    /// Hands the bodies of frames to the intake. Errors: those before a bad frame were handed over.
    async fn feed(&mut self) -> Result<(), String> {
        while !self.received.is_empty() {
            if self.body_left > 0 {
                let size = self.body_left.min(self.received.len());
                self.intake.feed(&self.received[..size]);
                self.received.advance(size);
                self.body_left -= size;
            } else {
                let Some(header) = Header::decode(&self.received) else { return Ok(()) };
                self.received.advance(HEADER_SIZE);
                self.on_header(header?).await?;
            }
        }
        Ok(())
    }

    async fn on_header(&mut self, header: Header) -> Result<(), String> {
        let Header { at, size } = header;
        let max = self.shared.options.frame_size_max;
        if size as usize > max {
            return Err(format!("it sent a frame of {size} bytes, at most {max} are possible"));
        }
        let mut received = self.intake.received().0;
        if received == 0 && at > 0 && size > 0 {
            self.begin_at(at).await?;
            received = at;
        }
        if received != at && received != 0 {
            return Err(format!("it goes on at {at}, and the log here at {received}"));
        }
        self.body_left = size as usize;
        self.shared.followed.lock().heard = at + u64::from(size);
        Ok(())
    }

    /// This log is empty, and the master's begins later.
    async fn begin_at(&mut self, at: u64) -> Result<(), String> {
        let store = self.shared.deps.store.clone();
        if !store.is_file_start(PhysicalOffset(at)) {
            return Err(format!("its log begins at {at}, where no file of this one can begin"));
        }
        let give_up_at = self.shared.deps.clock.mono() + BEGIN_TIMEOUT;
        crate::rt::select! {
            _ = self.shared.deps.clock.sleep_until(give_up_at) => {
                return Err(format!("the log here did not begin at {at} in time"));
            }
            began = store.begin_at(PhysicalOffset(at)) => began.map_err(|e| e.to_string())?,
        }
        self.intake = store.intake();
        Ok(())
    }

    /// Gives the store what was fed, as far as it takes it.
    async fn take_in(&mut self) -> Result<(), String> {
        match self.shared.deps.store.take_in(&mut self.intake).await {
            Err(IntakeError::Append(AppendError::Poisoned(why))) => Err(why.to_string()),
            Err(IntakeError::Append(error)) => {
                tracing::debug!("the master's log is not taken for now: {error}");
                let now = self.shared.deps.clock.mono();
                self.retry_at = Some(now + self.shared.options.retry_interval);
                Ok(())
            }
            taken => taken.map_err(|error| error.to_string()),
        }
    }
}
