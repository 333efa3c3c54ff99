//! One background loop per file: registration, saving state, deadlines.

pub(super) mod calls;
pub(super) mod catch_up;
pub(super) mod check_back;
pub(super) mod copy_master;
pub(super) mod deliver;
pub(super) mod expire;
pub(super) mod fence;
pub(super) mod greet;
pub(super) mod heir;
pub(super) mod losses;
pub(super) mod others;
mod patient;
pub(super) mod persist;
pub(super) mod register;
pub(super) mod sample;
pub(super) mod state_file;
pub(super) mod stuck;
pub(super) mod timer;
pub(super) mod transactions;
