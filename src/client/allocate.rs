//! Which of a topic's queues belong to which member of a group.

/// The share of `member`: queues and members are taken in their sorted order, the first members
/// get one queue more when the number does not divide. Every member that sees the same lists comes
/// to the same division.
/// Source: AllocateMessageQueueAveragely (4.9.3).
pub fn averagely<'a, Q: Ord>(queues: &'a [Q], members: &[String], member: &str) -> Vec<&'a Q> {
    let mut sorted: Vec<&String> = members.iter().collect();
    sorted.sort();
    sorted.dedup();
    let Some(index) = sorted.iter().position(|name| *name == member) else { return Vec::new() };
    let mut queues: Vec<&Q> = queues.iter().collect();
    queues.sort();
    let (each, more) = (queues.len() / sorted.len(), queues.len() % sorted.len());
    let start = index * each + index.min(more);
    let count = each + usize::from(index < more);
    queues.into_iter().skip(start).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_queue_has_one_owner(queues in 0..40u32, count in 1..10usize) {
            let queues: Vec<u32> = (0..queues).collect();
            let members: Vec<String> = (0..count).map(|i| format!("c{i}")).collect();
            let mut all: Vec<&u32> = Vec::new();
            for member in &members {
                let share = averagely(&queues, &members, member);
                prop_assert!(share.len() <= queues.len() / count + 1);
                all.extend(share);
            }
            prop_assert_eq!(all, queues.iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_stranger_gets_nothing_and_the_remainder_goes_to_the_first() {
        let members = ["b".to_owned(), "a".to_owned()];
        assert!(averagely(&[1, 2, 3], &members, "x").is_empty());
        assert_eq!(averagely(&[3, 1, 2], &members, "a"), [&1, &2]);
        assert_eq!(averagely(&[3, 1, 2], &members, "b"), [&3]);
    }
}
