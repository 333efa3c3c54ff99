//! `hotfire standalone`: name server and broker in one process, without a configuration.

use super::args::Standalone;
use super::failure::Failure;

/// Runs both until a signal stops them.
pub fn run(_args: &Standalone) -> Result<(), Failure> {
    Err(Failure::new(Failure::NOT_STARTED, "standalone is being built"))
}
