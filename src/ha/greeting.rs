//! What two Hotfires say to each other before bytes flow, and what a slave makes of it. A Java
//! broker knows no greeting: its stream is followed as 4.9 does.

use crate::format::epochs::Epochs;
use crate::net::BoxFuture;

/// What a broker says of its log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    pub epochs: Epochs,
    /// Where the log begins, and up to where it is stored as the flush mode says.
    pub min: u64,
    pub end: u64,
    /// The newest record, and the CRC-32 of its bytes.
    pub last: Option<(u64, u32)>,
}

/// What a master answers to a slave's position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    pub epochs: Epochs,
    /// Where the master's log begins, and up to where it is written.
    pub min: u64,
    pub end: u64,
    /// The CRC-32 of the record that lies where the slave's newest does.
    pub sum: Option<u32>,
    /// Opens the HA connection, once.
    pub token: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Greeted {
    Welcome(Welcome),
    /// It is a broker of 4.9.
    Unknown,
}

/// Speaks with the master on its main port.
pub trait Greeter: Send + Sync {
    /// `ha_addr` is the master's HA address. Errors: why it cannot be followed for now.
    fn greet(
        &self,
        ha_addr: &str,
        position: Position,
    ) -> BoxFuture<'static, Result<Greeted, String>>;
}

/// What a slave does after a greeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Course {
    Follow,
    /// What lies behind was never its master's: it is cut off before anything is followed. At the
    /// log's begin all of it goes, and the log begins where the master says.
    CutTo(u64),
    /// Nothing is merged, and nothing followed: why.
    Stop(String),
}

/// `cut_max`: of what is cut off so much is kept. Units: bytes.
///
/// Source: none; 4.9 follows whatever it finds (W-40).
pub fn course(mine: &Position, master: &Welcome, cut_max: u64) -> Course {
    if mine.end == 0 {
        return Course::Follow;
    }
    if master.epochs.is_replaced_in(&mine.epochs) {
        return Course::Stop(format!(
            "this log has been that of another master since epoch {}, and this one's newest is {}: \
             it was replaced",
            mine.epochs.number(),
            master.epochs.number()
        ));
    }
    if mine.end < master.min {
        return Course::Stop(format!(
            "this log ends at {}, and the master's begins at {}: start with an empty store",
            mine.end, master.min
        ));
    }
    let is_same_record = mine.last.is_some_and(|(_, sum)| master.sum == Some(sum));
    if is_same_record && mine.end <= master.end {
        // Nobody writes the same record at the same place twice: whatever the lists say, which one
        // of both may have lost.
        return Course::Follow;
    }
    let common = mine.epochs.common(mine.end, &master.epochs, master.end);
    if common.end < mine.end && common.is_same {
        return Course::Stop(format!(
            "this log ends at {} and the master's at {}, although both have the same epochs",
            mine.end, master.end
        ));
    }
    if common.end < mine.end && mine.epochs.is_of_another(&master.epochs) {
        return Course::Stop(format!(
            "the master's log is a new one, in epoch {}, and shares none with this one up to {}, \
             in epoch {}: make this broker the master, or start it with an empty store",
            master.epochs.number(),
            mine.end,
            mine.epochs.number()
        ));
    }
    // A slave that began at the last file of a master that lost more than that: all of it goes.
    if common.end < mine.min && mine.end - mine.min > cut_max {
        return Course::Stop(format!(
            "this log begins at {}, and has nothing in common with the master's behind {}; it has \
             more than cutBytesMax, {cut_max} bytes, to be kept: start with an empty store",
            mine.min, common.end
        ));
    }
    if common.end < mine.end {
        return Course::CutTo(common.end.max(mine.min));
    }
    match mine.last {
        Some((at, _)) if !is_same_record => Course::Stop(format!(
            "the record at {at} is another one at the master, although the epochs agree"
        )),
        _ => Course::Follow,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(mine: &Position, master: &Welcome) -> Course {
        super::course(mine, master, 64)
    }

    fn position(epochs: &str, min: u64, end: u64) -> Position {
        let epochs = Epochs::parse(epochs).expect("a list");
        Position { epochs, min, end, last: Some((end.saturating_sub(50), 7)) }
    }
    #[test]
    fn the_same_newest_record_says_more_than_a_list_that_was_lost() {
        let (mine, master) = (position("1:0:a,2:300:b", 0, 500), welcome("1:500:c", 900, 7));
        assert_eq!(course(&mine, &master), Course::Follow);
        let other = course(&mine, &welcome("1:500:c", 900, 8));
        assert!(matches!(other, Course::Stop(why) if why.contains("a new one, in epoch 1")));
    }

    #[test]
    fn a_master_that_began_anew_with_an_empty_disk_is_not_followed() {
        let mine = position("1:0:a,2:300:b", 0, 500);
        for epochs in ["1:0:c", "2:0:c"] {
            let course = course(&mine, &welcome(epochs, 900, 8));
            assert!(matches!(course, Course::Stop(why) if why.contains("is a new one")));
        }
        // It lost a young log with its power, and says so: it began after this one's newest.
        assert_eq!(course(&mine, &welcome("3:0:c", 900, 8)), Course::CutTo(0));
        // A slave that became the master comes before whoever it replaced.
        assert_eq!(course(&mine, &welcome("1000001:0:c", 900, 8)), Course::CutTo(0));
    }

    fn welcome(epochs: &str, end: u64, sum: u32) -> Welcome {
        let epochs = Epochs::parse(epochs).expect("a list");
        Welcome { epochs, min: 0, end, sum: Some(sum), token: 1 }
    }

    #[test]
    fn a_slave_of_this_master_follows() {
        let (mine, master) = (position("1:0:a", 0, 500), welcome("1:0:a,2:500:b", 900, 7));
        assert_eq!(course(&mine, &master), Course::Follow);
        let empty = Position::default();
        assert_eq!(course(&empty, &master), Course::Follow);
    }

    #[test]
    fn a_slave_that_ends_before_its_masters_log_begins_does_not_follow() {
        let (mine, mut master) = (position("1:0:a", 0, 500), welcome("1:0:a", 900, 7));
        master.min = 600;
        assert!(matches!(course(&mine, &master), Course::Stop(why) if why.contains("at 600")));
    }

    #[test]
    fn a_master_that_was_replaced_is_not_followed() {
        let (mine, master) = (position("1:0:a,2:500:b", 0, 500), welcome("1:0:a", 500, 7));
        assert!(matches!(course(&mine, &master), Course::Stop(why) if why.contains("replaced")));
        // Another that began since knows of it.
        assert_eq!(course(&mine, &welcome("1:0:a,3:500:c", 500, 7)), Course::Follow);
    }

    #[test]
    fn an_old_master_is_cut_back_to_where_the_new_one_began() {
        let (mine, master) = (position("1:0:a", 0, 700), welcome("1:0:a,2:500:b", 900, 8));
        assert_eq!(course(&mine, &master), Course::CutTo(500));
    }

    #[test]
    fn a_log_without_anything_in_common_goes_when_all_of_it_can_be_kept() {
        let (mine, master) = (position("1:0:a", 600, 665), welcome("1:0:a,2:500:b", 900, 8));
        assert!(matches!(course(&mine, &master), Course::Stop(why) if why.contains("cutBytesMax")));
        let mine = Position { end: 664, ..mine };
        assert_eq!(course(&mine, &master), Course::CutTo(600));
        let empty = Position { end: 600, last: None, ..mine };
        assert_eq!(course(&empty, &master), Course::CutTo(600));
    }

    #[test]
    fn other_bytes_in_the_same_epoch_stop_the_slave() {
        let (mine, master) = (position("1:0:a", 0, 500), welcome("1:0:a", 900, 8));
        assert!(matches!(course(&mine, &master), Course::Stop(why) if why.contains("450")));
        let ahead = position("1:0:a", 0, 1000);
        assert!(
            matches!(course(&ahead, &master), Course::Stop(why) if why.contains("same epochs"))
        );
    }
}
