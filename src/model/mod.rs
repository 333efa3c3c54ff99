//! The nouns and numbers of RocketMQ as types that cannot be mixed up.

mod group;
mod offset;
mod properties;
mod time;
mod topic;

pub mod sys_flag;

pub use group::GroupName;
pub use offset::{PhysicalOffset, QueueId, QueueOffset};
pub use properties::names as property;
pub use time::WallMillis;
pub use topic::{QueueKey, TopicName, is_directory_name};
/// Units: 0 is the master, 1 and up are slaves.
pub type BrokerId = i64;
