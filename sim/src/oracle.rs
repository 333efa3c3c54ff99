//! What must hold, judged from the clients' history and the files alone.

pub mod acquaintance;
pub mod calls;
pub mod comeback;
pub mod court;
pub mod delay;
pub mod files;
pub mod index;
pub mod judge;
pub mod progress;
pub mod questions;
pub mod reign;
pub mod replica;
pub mod retention;
pub mod retry;
pub mod timer;
pub mod transaction;
