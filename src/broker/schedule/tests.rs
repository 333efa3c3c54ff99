use super::*;
use crate::model::PhysicalOffset;

const Q: QueueId = QueueId(0);

fn options() -> ScheduleOptions {
    ScheduleOptions { turn_count_max: 4, turn_bytes_max: 1_000, ..ScheduleOptions::default() }
}

fn unit(at: u64, deliver_ms: i64) -> QueueUnit {
    QueueUnit { physical_offset: PhysicalOffset(at), size: 100, tags_code: deliver_ms }
}

/// A schedule of one level of a second, and what its queue holds.
struct Place {
    schedule: Schedule,
    units: Vec<QueueUnit>,
    min: u64,
    now_ms: u64,
}

impl Place {
    fn new(deliver_ms: &[i64]) -> Self {
        let mut place = Place {
            schedule: Schedule::new(&options(), &[1_000, 5_000]),
            units: Vec::new(),
            min: 0,
            now_ms: 0,
        };
        for at in deliver_ms {
            place.arrive(*at);
        }
        place
    }

    fn arrive(&mut self, deliver_ms: i64) -> bool {
        self.units.push(unit(1_000 * self.units.len() as u64 + 7, deliver_ms));
        let end = QueueOffset(self.units.len() as u64);
        self.schedule.on_arrival(Q, end, self.mono())
    }

    fn mono(&self) -> Mono {
        Mono::default() + Duration::from_millis(self.now_ms)
    }

    fn wall(&self) -> WallMillis {
        WallMillis(self.now_ms as i64)
    }

    fn look(&mut self) -> Option<(Look, Turn)> {
        let look = loop {
            let look = self.schedule.next_look(self.mono(), self.wall())?;
            if look.queue == Q {
                break look;
            }
            self.schedule.on_turn_end(look.queue, self.mono());
        };
        let (from, end) = (look.from.0 as usize, self.units.len());
        let inside = from >= self.min as usize && from <= end;
        let units =
            if inside { self.units[from..end.min(from + look.count)].to_vec() } else { vec![] };
        let slice = QueueSlice { min: QueueOffset(self.min), end: QueueOffset(end as u64), units };
        let turn = self.schedule.on_entries(&look, &slice, self.mono(), self.wall());
        Some((look, turn))
    }

    /// Takes a whole turn: all that is due is sent. Returns the offsets and their tickets.
    fn turn(&mut self) -> Vec<(u64, u64)> {
        let Some((look, turn)) = self.look() else { return Vec::new() };
        let mut sent = Vec::new();
        for due in &turn.due {
            sent.push((due.offset.0, self.schedule.next_ticket()));
            self.schedule.on_sent(look.queue, due);
        }
        self.schedule.on_turn_end(look.queue, self.mono());
        sent
    }

    fn progress(&self) -> u64 {
        self.schedule.levels[&0].progress
    }
}

#[test]
fn what_is_due_is_sent_in_order_and_what_is_not_waits_for_its_time() {
    let mut place = Place::new(&[1_000, 1_200, 1_900]);
    assert!(place.turn().is_empty(), "nothing is due at 0");
    assert_eq!(place.schedule.next_deadline(), Some(Mono::default() + LOOK_INTERVAL));
    place.now_ms = 1_000;
    assert_eq!(place.turn().iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0]);
    assert_eq!(place.progress(), 0, "no outcome yet");
    place.now_ms = 1_300;
    assert_eq!(place.turn(), [], "the first one is under way");
    assert!(place.schedule.on_outcome(0, true, place.mono()));
    assert_eq!(place.progress(), 1);
    assert_eq!(place.turn().iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_turn_is_bounded_in_messages_and_in_bytes() {
    let mut place = Place::new(&[0; 9]);
    assert_eq!(place.turn().len(), 4);
    let mut place = Place::new(&[0; 3]);
    place.units[0].size = 900;
    place.units[1].size = 200;
    assert_eq!(place.turn().len(), 1, "two of them are more than 1000 bytes");
    place.schedule.on_outcome(0, true, place.mono());
    place.units[1].size = 5_000;
    assert_eq!(place.turn().len(), 1, "one is always taken");
}

#[test]
fn progress_passes_what_is_kept_and_nothing_behind_a_refusal() {
    let mut place = Place::new(&[0; 4]);
    let sent = place.turn();
    place.schedule.on_outcome(sent[1].1, true, place.mono());
    assert_eq!(place.progress(), 0, "the first is not known to be kept");
    place.schedule.on_outcome(sent[0].1, true, place.mono());
    assert_eq!(place.progress(), 2);
    place.schedule.on_outcome(sent[2].1, false, place.mono());
    place.schedule.on_outcome(sent[3].1, false, place.mono());
    assert_eq!(place.progress(), 2);
    assert_eq!(place.turn(), [], "after a refusal there is a pause");
    place.now_ms += 5_000;
    let again: Vec<u64> = place.turn().iter().map(|(at, _)| *at).collect();
    assert_eq!(again, [2, 3]);
}

#[test]
fn an_arrival_wakes_a_level_that_has_nothing_to_do() {
    let mut place = Place::new(&[]);
    assert_eq!(place.turn(), []);
    assert_eq!(place.schedule.next_deadline(), None);
    assert!(place.arrive(500));
    assert!(!place.arrive(600), "it looks already");
    assert_eq!(place.turn(), []);
    place.now_ms = 600;
    assert_eq!(place.turn().len(), 2);
}

#[test]
fn an_arrival_during_a_look_is_not_lost() {
    let mut place = Place::new(&[0]);
    let (look, turn) = place.look().unwrap();
    place.schedule.on_stepped_over(look.queue);
    assert_eq!(turn.due.len(), 1);
    assert!(!place.arrive(0), "the driver is at it");
    assert!(place.schedule.on_turn_end(look.queue, place.mono()));
    assert_eq!(place.turn(), [(1, 0)]);
}

#[test]
fn a_level_does_not_look_on_and_on_for_what_the_store_does_not_show_any_more() {
    let mut place = Place::new(&[0, 0, 0]);
    place.schedule.on_stepped_over(Q);
    place.schedule.on_stepped_over(Q);
    place.schedule.on_turn_end(Q, place.mono());
    assert_eq!(place.progress(), 2);
    // A sync failed: the last one, which had arrived, is hidden.
    place.units.pop();
    let mut looks = 0;
    while place.now_ms < 60_000 && looks < 1_000 {
        match place.schedule.next_deadline() {
            Some(at) if at <= place.mono() => {
                looks += u32::from(place.look().is_some());
                place.schedule.on_turn_end(Q, place.mono());
            }
            _ => place.now_ms += 1,
        }
    }
    assert_eq!(looks, 1, "in a minute");
    assert!(place.arrive(0), "what comes is looked for at once");
    assert_eq!(place.turn().len(), 1);
}

#[test]
fn an_arrival_while_a_look_is_under_way_is_looked_for_although_the_look_did_not_show_it() {
    let mut place = Place::new(&[0]);
    let look = place.schedule.next_look(place.mono(), place.wall()).unwrap();
    let slice = QueueSlice { min: QueueOffset(0), end: QueueOffset(1), units: vec![unit(7, 0)] };
    assert!(!place.arrive(0), "the driver reads");
    place.schedule.on_entries(&look, &slice, place.mono(), place.wall());
    place.schedule.on_stepped_over(Q);
    assert!(place.schedule.on_turn_end(Q, place.mono()));
    assert_eq!(place.turn(), [(1, 0)]);
}

#[test]
fn a_deliver_time_of_another_clock_is_due_and_a_small_step_back_is_not() {
    let mut place = Place::new(&[2_000]);
    assert_eq!(place.turn(), [], "2 s ahead of a level of 1 s, a step back of 1 s");
    let mut place = Place::new(&[2_001]);
    assert_eq!(place.turn().len(), 1);
    let mut schedule = Schedule::new(&options(), &[]);
    let row = std::iter::once((Q, QueueOffset(0), QueueOffset(1)));
    schedule.restore(DelayOffsets::default(), row);
    assert_eq!(schedule.unknown_queues().collect::<Vec<_>>(), [Q]);
    assert!(!schedule.levels[&0].is_due(WallMillis(1 << 40), WallMillis(0)), "no level, no rule");
}

#[test]
fn retention_moves_the_cursor_and_says_how_much_was_lost() {
    let mut place = Place::new(&[0; 5]);
    place.min = 3;
    let (look, turn) = place.look().unwrap();
    assert_eq!((turn.lost, turn.due.len()), (3, 0));
    assert!(place.schedule.on_turn_end(look.queue, place.mono()));
    assert_eq!(place.turn().iter().map(|(at, _)| *at).collect::<Vec<_>>(), [3, 4]);
}

#[test]
fn a_record_that_is_stepped_over_moves_the_cursor_in_its_turn() {
    let mut place = Place::new(&[0; 3]);
    let (look, turn) = place.look().unwrap();
    let ticket = place.schedule.next_ticket();
    place.schedule.on_sent(look.queue, &turn.due[0]);
    place.schedule.on_stepped_over(look.queue);
    assert_eq!(place.schedule.on_refused(look.queue, place.mono()), 1);
    place.schedule.on_turn_end(look.queue, place.mono());
    assert_eq!(place.progress(), 0);
    place.schedule.on_outcome(ticket, true, place.mono());
    assert_eq!(place.progress(), 2);
    place.now_ms = 99;
    assert_eq!(place.turn(), []);
    place.now_ms = 100;
    assert_eq!(place.turn().len(), 1);
}

#[test]
fn what_the_store_refuses_is_no_sign_of_a_bad_sector() {
    let mut place = Place::new(&[0; 3]);
    let (look, _) = place.look().unwrap();
    for _ in 0..9 {
        place.schedule.on_read(look.queue);
        place.schedule.on_refused(look.queue, place.mono());
    }
    assert_eq!(place.schedule.read_failures(look.queue), 0);
    assert_eq!(place.schedule.on_unreadable(look.queue, place.mono()), 10);
    assert_eq!(place.schedule.read_failures(look.queue), 1);
    place.schedule.on_read(look.queue);
    assert_eq!(place.schedule.read_failures(look.queue), 0);
}

#[test]
fn pauses_grow_to_their_limit() {
    let options = ScheduleOptions::default();
    assert_eq!(pause(&options, 1), Duration::from_millis(100));
    assert_eq!(pause(&options, 3), Duration::from_millis(400));
    assert_eq!(pause(&options, 40), Duration::from_secs(5));
}

#[test]
fn the_file_holds_only_what_the_disk_has() {
    let mut place = Place::new(&[0; 2]);
    let sent = place.turn();
    place.schedule.on_outcome(sent[0].1, true, place.mono());
    assert_eq!(place.schedule.to_save(500, 400), None);
    assert!(place.schedule.is_held());
    place.schedule.on_outcome(sent[1].1, true, place.mono());
    assert_eq!(place.schedule.to_save(900, 499), None);
    let (changes, text) = place.schedule.to_save(900, 500).unwrap();
    assert_eq!(text, "{\n\t\"offsetTable\":{1:1\n\t}\n}", "of what was written below 500");
    place.schedule.on_saved(changes);
    let (changes, text) = place.schedule.to_save(900, 900).unwrap();
    assert_eq!(text, "{\n\t\"offsetTable\":{1:2\n\t}\n}");
    place.schedule.on_saved(changes);
    assert_eq!(place.schedule.to_save(900, 900), None);
    assert!(!place.schedule.is_held());
}

#[test]
fn a_file_of_java_is_read_and_cursors_are_moved_into_their_queues() {
    let text = b"{\n\t\"offsetTable\":{1:9,2:1,30:4\n\t}\n}";
    let file: DelayOffsets = crate::protocol::body::decode(text).unwrap();
    let mut schedule = Schedule::new(&options(), &[1_000, 5_000]);
    let queues = [(0, 0, 5), (1, 3, 8), (29, 0, 9)];
    let queues = queues.map(|(q, min, end)| (QueueId(q), QueueOffset(min), QueueOffset(end)));
    assert_eq!(schedule.restore(file, queues.into_iter()), 2);
    let rows: Vec<_> = schedule.rows().collect();
    assert_eq!(rows, [(1, 5, 5), (2, 3, 8), (30, 4, 9)]);
    assert_eq!(schedule.to_json(), "{\n\t\"offsetTable\":{1:5,2:3,30:4\n\t}\n}");
}
