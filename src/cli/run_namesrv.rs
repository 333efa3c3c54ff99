//! `hotfire namesrv`, `mqnamesrv`.

use super::args::Namesrv;
use super::failure::Failure;
use super::logging;
use super::settings::Settings;
use crate::config::Program;

/// Runs a name server until a signal stops it. Errors: RocketMQ's own exit codes.
pub fn run(args: &Namesrv) -> Result<(), Failure> {
    let settings = Settings::read(Program::Namesrv, args.config.as_deref())?;
    if let Some(path) = &args.config {
        println!("load config properties file OK, {path}");
    }
    if args.print {
        settings.print(false);
        return Ok(());
    }
    logging::start(&logging::level(&settings.raw));
    settings.tell()?;
    Err(Failure::new(Failure::NOT_STARTED, "the name server is being built"))
}
