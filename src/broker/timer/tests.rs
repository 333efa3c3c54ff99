use super::*;

const T0: WallMillis = WallMillis(1_000_000);

fn options() -> TimerOptions {
    TimerOptions {
        waiting_count_max: 4,
        span_max: 16,
        turn_count_max: 3,
        ..TimerOptions::default()
    }
}

fn at(secs: u64) -> Mono {
    Mono::default() + Duration::from_secs(secs)
}

fn one(offset: u64, after_ms: i64) -> Waiting {
    Waiting {
        due: WallMillis(T0.0 + after_ms),
        offset: QueueOffset(offset),
        physical: PhysicalOffset(offset * 100),
    }
}

/// Messages that are visible and read, due after so many milliseconds.
fn with(due_ms: &[i64]) -> Timers {
    let mut timers = Timers::new(&options(), QueueOffset(0));
    timers.open();
    for (offset, after_ms) in (0..).zip(due_ms) {
        timers.on_put(QueueOffset(offset));
        assert!(timers.on_arrival(QueueOffset(offset + 1)));
        timers.on_read(QueueOffset(offset), Some(one(offset, *after_ms)));
    }
    timers
}

fn send_all(timers: &mut Timers, all: &[Waiting], kept: Kept, now: Mono) {
    let tickets: Vec<u64> = all
        .iter()
        .map(|one| {
            let ticket = timers.next_ticket();
            timers.on_sent(one);
            ticket
        })
        .collect();
    for ticket in tickets {
        timers.on_outcome(ticket, kept, now);
    }
}

#[test]
fn what_is_due_first_goes_first_and_nothing_early() {
    let mut timers = with(&[30, 10, 20]);
    assert_eq!(timers.next_step(at(0), WallMillis(T0.0 + 9)), None);
    let wait = Duration::from_millis(1);
    assert_eq!(timers.next_deadline(at(0), WallMillis(T0.0 + 9)), Some(at(0) + wait));
    let due = vec![one(1, 10), one(2, 20)];
    assert_eq!(timers.next_step(at(0), WallMillis(T0.0 + 20)), Some(Step::Deliver(due.clone())));
    send_all(&mut timers, &due, Kept::Yes, at(0));
    assert_eq!(timers.base(), QueueOffset(0), "the first one waits still");
    send_all(&mut timers, &[one(0, 30)], Kept::Yes, at(0));
    assert_eq!((timers.base(), timers.waiting()), (QueueOffset(3), 0));
}

#[test]
fn nothing_is_sent_while_something_is_under_way_and_what_was_refused_goes_again() {
    let mut timers = with(&[1, 2]);
    let (now, wall) = (at(5), WallMillis(T0.0 + 5));
    let ticket = timers.next_ticket();
    timers.on_sent(&one(0, 1));
    assert_eq!(timers.next_step(now, wall), None);
    assert!(timers.on_outcome(ticket, Kept::No, now));
    assert_eq!(timers.next_step(now, wall), None, "after a pause");
    assert_eq!(timers.next_deadline(now, wall), Some(now + options().retry_pause));
    let both = Step::Deliver(vec![one(0, 1), one(1, 2)]);
    assert_eq!(timers.next_step(at(6), wall), Some(both));
    assert_eq!(timers.base(), QueueOffset(0));
}

#[test]
fn what_the_store_refuses_is_no_sign_of_a_bad_sector() {
    let mut timers = with(&[1]);
    for _ in 0..9 {
        timers.on_refused(at(5));
    }
    assert_eq!(timers.due_failures(), 0);
    assert_eq!((timers.on_unreadable(at(5)), timers.due_failures()), (10, 1));
    timers.on_refused(at(5));
    assert_eq!(timers.due_failures(), 0, "it was read meanwhile");
}

#[test]
fn that_messages_wait_longer_than_files_are_kept_is_said_now_and_then() {
    let mut timers = with(&[]);
    let mut said = |ms| timers.is_too_far(&one(0, ms), T0, Duration::from_secs(1));
    assert!(!said(1_000));
    assert_eq!([said(1_001), said(1_001), said(1_001), said(1_001)], [true, true, false, true]);
}

#[test]
fn what_a_poisoned_log_took_is_neither_done_nor_sent_again() {
    let mut timers = with(&[1]);
    send_all(&mut timers, &[one(0, 1)], Kept::Unknown, at(5));
    assert_eq!(timers.next_step(at(9), WallMillis(T0.0 + 5)), None);
    assert_eq!(timers.base(), QueueOffset(0));
}

#[test]
fn a_start_reads_only_what_is_not_done() {
    let mut timers = Timers::new(&options(), QueueOffset(9));
    assert_eq!(timers.next_step(at(0), T0), None, "not before the done messages were read");
    assert!(!timers.on_arrival(QueueOffset(9)));
    timers.restore(QueueOffset(5));
    for done in [3, 5, 7] {
        timers.on_done(QueueOffset(done));
    }
    timers.open();
    assert_eq!((timers.base(), timers.waiting()), (QueueOffset(6), 2));
    let step = timers.next_step(at(0), T0);
    assert_eq!(step, Some(Step::Read { from: QueueOffset(6), count: 3 }));
    let unread = |timers: &Timers| (6..9).map(|n| timers.is_unread(QueueOffset(n))).collect();
    let found: Vec<bool> = unread(&timers);
    assert_eq!(found, [true, false, true]);
    timers.on_read(QueueOffset(6), Some(one(6, 50)));
    timers.on_read(QueueOffset(7), None);
    timers.on_read(QueueOffset(8), None);
    assert_eq!((timers.base(), timers.waiting()), (QueueOffset(6), 1));
    assert_eq!(timers.next_step(at(0), T0), None);
}

#[test]
fn an_outcome_while_entries_are_read_takes_none_of_them_away() {
    let mut timers = Timers::new(&options(), QueueOffset(3));
    timers.restore(QueueOffset(0));
    timers.on_done(QueueOffset(1));
    timers.open();
    timers.on_read(QueueOffset(0), Some(one(0, 0)));
    let ticket = timers.next_ticket();
    timers.on_sent(&one(0, 0));
    let step = timers.next_step(at(0), T0);
    assert_eq!(step, Some(Step::Read { from: QueueOffset(1), count: 3 }));
    timers.on_outcome(ticket, Kept::Yes, at(0));
    // The driver comes with what it found before.
    timers.on_read(QueueOffset(1), None);
    timers.on_read(QueueOffset(2), Some(one(2, 0)));
    assert_eq!((timers.base(), timers.waiting()), (QueueOffset(2), 1));
}

#[test]
fn an_entry_that_cannot_be_read_is_read_again_later() {
    let mut timers = with(&[]);
    timers.on_arrival(QueueOffset(1));
    assert_eq!((timers.on_not_read(true, at(1)), timers.on_not_read(true, at(1))), (1, 2));
    assert_eq!(timers.read_failures(), 2);
    assert_eq!(timers.next_step(at(1), T0), None);
    let until = at(1) + options().retry_pause * 2;
    assert_eq!(timers.next_deadline(at(1), T0), Some(until));
    let read = Step::Read { from: QueueOffset(0), count: 3 };
    assert_eq!(timers.next_step(until, T0), Some(read));
}

#[test]
fn so_many_may_wait_and_no_more() {
    let mut timers = with(&[10, 10, 10]);
    assert!(timers.has_room());
    timers.on_put(QueueOffset(3));
    assert!(!timers.has_room());
    send_all(&mut timers, &[one(1, 10)], Kept::Yes, at(1));
    assert!(timers.has_room());
}

#[test]
fn one_that_lies_far_behind_is_written_anew() {
    let mut timers = with(&[60_000]);
    for offset in 1..=16 {
        assert_eq!(timers.next_step(at(1), T0), None);
        timers.on_put(QueueOffset(offset));
        timers.on_arrival(QueueOffset(offset + 1));
        timers.on_read(QueueOffset(offset), Some(one(offset, 0)));
        send_all(&mut timers, &[one(offset, 0)], Kept::Yes, at(1));
    }
    let renew = Step::Renew { from: QueueOffset(0), count: 3 };
    assert_eq!(timers.next_step(at(1), T0), Some(renew));
    assert!(timers.is_waiting(QueueOffset(0)) && !timers.is_waiting(QueueOffset(1)));
    timers.on_put(QueueOffset(17));
    send_all(&mut timers, &[one(0, 60_000)], Kept::Yes, at(1));
    assert_eq!((timers.base(), timers.waiting()), (QueueOffset(17), 1));
    assert_eq!(timers.next_deadline(at(1), T0), None, "its copy is not visible yet");
}

#[test]
fn what_retention_took_is_counted_once_and_waits_no_more() {
    let mut timers = with(&[10, 10, 10]);
    send_all(&mut timers, &[one(1, 10)], Kept::Yes, at(1));
    assert_eq!((timers.on_min(QueueOffset(2)), timers.on_min(QueueOffset(2))), (1, 0));
    let last = Step::Deliver(vec![one(2, 10)]);
    assert_eq!(timers.next_step(at(1), WallMillis(T0.0 + 10)), Some(last));
}

#[test]
fn what_waits_is_counted_with_its_first_time_and_how_late_it_is() {
    let mut timers = Timers::new(&options(), QueueOffset(0));
    assert_eq!(timers.backlog(), None, "it is not known what waits");
    timers.open();
    let none = Backlog { waiting: 0, unread: 0, earliest: None };
    assert_eq!((timers.backlog(), none.late_ms(T0)), (Some(none), 0));
    let mut timers = with(&[30, 10]);
    timers.on_put(QueueOffset(2));
    timers.on_arrival(QueueOffset(3));
    let first = Backlog { waiting: 3, unread: 1, earliest: Some(WallMillis(T0.0 + 10)) };
    assert_eq!(timers.backlog(), Some(first));
    assert_eq!((first.late_ms(T0), first.late_ms(WallMillis(T0.0 + 1_500))), (0, 1_490));
    send_all(&mut timers, &[one(1, 10)], Kept::Yes, at(0));
    let next = Backlog { waiting: 2, earliest: Some(WallMillis(T0.0 + 30)), ..first };
    assert_eq!(timers.backlog(), Some(next));
}
