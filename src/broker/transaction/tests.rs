use super::*;

fn at(offset: u64) -> QueueOffset {
    QueueOffset(offset)
}

fn bounds(saved: i64, min: u64, end: u64) -> Bounds {
    Bounds { saved: (saved >= 0).then_some(saved), min: at(min), end: at(end) }
}

fn restored(half: Bounds, op: Bounds, ops: &[Option<u64>]) -> Transactions {
    let mut all = Transactions::new(&TransactionOptions::default());
    all.restore(&half, &op);
    for half in ops {
        all.on_op(half.map(QueueOffset));
    }
    all
}

fn send(all: &mut Transactions, aim: Aim, half: u64, first: u64, op: u64) -> u64 {
    let ticket = all.next_ticket();
    all.on_sent(aim, at(half), first, at(op));
    ticket
}

fn copy(half: u64) -> Aim {
    let copy = Copied { half: at(half), physical: PhysicalOffset(half * 100) };
    Aim::Renew { copy, asks: true }
}

#[test]
fn progress_follows_what_is_resolved_from_the_oldest_on() {
    let mut all = restored(bounds(2, 0, 8), bounds(1, 0, 5), &[Some(1), Some(4), None, Some(2)]);
    assert_eq!(all.progress(), Progress { half: 3, op: 2 });
    assert_eq!(all.next_open(0, at(8)), Next::Open(at(3)));
    assert_eq!(all.stand(at(2), 2), Standing::Resolved);
    assert_eq!(all.stand(at(4), 4), Standing::Resolved);
    let ticket = send(&mut all, Aim::End, 3, 3, 5);
    assert_eq!(all.stand(at(3), 3), Standing::Ending);
    assert_eq!(all.next_open(0, at(8)), Next::Open(at(5)));
    assert_eq!(all.progress().half, 3);
    assert_eq!(all.on_outcome(ticket, Kept::Yes), Some(Aim::End));
    assert_eq!(all.progress(), Progress { half: 5, op: 6 }, "the op messages count too");
    assert_eq!(all.on_outcome(ticket, Kept::Yes), None);
}

#[test]
fn an_op_message_past_the_recovered_end_resolves_nothing() {
    let all = restored(bounds(0, 0, 2), bounds(0, 0, 1), &[Some(5)]);
    assert_eq!(all.progress(), Progress { half: 0, op: 1 });
    assert_eq!(all.stand(at(5), 5), Standing::Open(at(5)));
}

#[test]
fn what_the_store_refused_is_open_again() {
    let mut all = restored(bounds(-1, 0, 2), bounds(-1, 0, 0), &[]);
    let ticket = send(&mut all, Aim::End, 0, 0, 0);
    all.on_outcome(ticket, Kept::No);
    assert_eq!(all.stand(at(0), 0), Standing::Open(at(0)));
    let ticket = send(&mut all, Aim::End, 0, 0, 0);
    all.on_outcome(ticket, Kept::Unknown);
    assert_eq!(all.stand(at(0), 0), Standing::Ending, "a poisoned log says nothing");
}

#[test]
fn a_late_end_of_an_old_copy_ends_the_newest_one() {
    let mut all = restored(bounds(-1, 0, 1), bounds(-1, 0, 0), &[]);
    let ticket = send(&mut all, copy(1), 0, 0, 0);
    assert_eq!((all.stand(at(0), 0), all.own_flights()), (Standing::Ending, 1));
    all.on_outcome(ticket, Kept::Yes);
    assert_eq!((all.take_asks().len(), all.own_flights()), (1, 0));
    assert_eq!(all.stand(at(0), 0), Standing::Open(at(1)));
    let ticket = send(&mut all, copy(2), 1, 0, 1);
    all.on_outcome(ticket, Kept::Yes);
    assert_eq!(all.stand(at(0), 0), Standing::Open(at(2)));
    assert_eq!(all.stand(at(1), 0), Standing::Open(at(2)));
    let ticket = send(&mut all, Aim::End, 2, 0, 2);
    assert_eq!(all.stand(at(0), 0), Standing::Ending);
    all.on_outcome(ticket, Kept::Yes);
    assert_eq!(all.stand(at(0), 0), Standing::Resolved);
    assert_eq!(all.stand(at(2), 0), Standing::Resolved);
    assert_eq!((all.copies.len(), all.progress()), (0, Progress { half: 3, op: 3 }));
}

#[test]
fn op_messages_may_be_kept_in_any_order() {
    let mut all = restored(bounds(-1, 0, 2), bounds(-1, 0, 0), &[]);
    let first = send(&mut all, Aim::End, 0, 0, 0);
    let second = send(&mut all, Aim::End, 1, 1, 1);
    all.on_outcome(second, Kept::Yes);
    assert_eq!(all.progress(), Progress { half: 0, op: 0 });
    all.on_outcome(first, Kept::Yes);
    assert_eq!(all.progress(), Progress { half: 2, op: 2 });
}

#[test]
fn saved_progress_waits_for_the_disk() {
    let mut all = restored(bounds(-1, 0, 2), bounds(-1, 0, 0), &[]);
    assert_eq!(all.to_save(100, 0), None, "no news");
    let ticket = send(&mut all, Aim::End, 0, 0, 0);
    all.on_outcome(ticket, Kept::Yes);
    assert_eq!(all.to_save(200, 100), None);
    let ticket = send(&mut all, Aim::End, 1, 1, 1);
    all.on_outcome(ticket, Kept::Yes);
    assert_eq!(all.to_save(300, 250), Some(Progress { half: 1, op: 1 }), "what was synced");
    assert_eq!(all.to_save(300, 300), Some(Progress { half: 2, op: 2 }));
    assert_eq!(all.to_save(300, 300), None);
}

#[test]
fn what_a_crash_left_without_an_op_message_is_owed_one() {
    let mut all = restored(bounds(-1, 0, 2), bounds(-1, 0, 0), &[]);
    all.on_owed(at(1));
    assert_eq!(all.stand(at(1), 1), Standing::Ending);
    assert_eq!((all.take_owed(), all.is_owing()), (Some(at(1)), false));
    let ticket = send(&mut all, Aim::Repair, 1, 1, 0);
    all.on_outcome(ticket, Kept::No);
    assert!(all.is_owing());
    assert_eq!(all.take_owed(), Some(at(1)));
    let ticket = send(&mut all, Aim::Repair, 1, 1, 0);
    all.on_outcome(ticket, Kept::Yes);
    assert_eq!(all.stand(at(1), 1), Standing::Resolved);
}

#[test]
fn the_window_is_bounded_and_what_cannot_be_read_does_not_hold_it() {
    let options = TransactionOptions { window_max: 4, ..TransactionOptions::default() };
    let mut all = Transactions::new(&options);
    assert!(all.has_room());
    (0..4).for_each(|half| all.on_half(at(half)));
    assert!(!all.has_room());
    for tries in 1..options.read_tries_max {
        let became = if tries == 1 { Unreadable::First } else { Unreadable::Again };
        assert_eq!((all.on_unreadable(at(0)), all.on_unreadable(at(2))), (became, became));
    }
    assert_eq!(all.on_unreadable(at(0)), Unreadable::LeftBehind, "new ones need its place");
    assert!(all.has_room());
    assert_eq!(all.on_unreadable(at(2)), Unreadable::Again, "it is in nobody's way");
    assert_eq!(all.stand(at(2), 2), Standing::Open(at(2)));
    assert_eq!(all.on_deleted(at(4)), 3);
    assert_eq!(all.progress().half, 4);
}
