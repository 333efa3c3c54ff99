//! One background loop per file: registration, saving state, deadlines.

pub(super) mod calls;
pub(super) mod check_back;
pub(super) mod deliver;
pub(super) mod expire;
pub(super) mod losses;
pub(super) mod persist;
pub(super) mod register;
pub(super) mod sample;
pub(super) mod state_file;
pub(super) mod stuck;
pub(super) mod transactions;
