//! Picks the command and turns its end into an exit code.

use super::args::{Args, Command, with_command_of_name};
use super::failure::Failure;
use super::{
    admin, bench, consume, doctor, machine, produce, run_broker, run_namesrv, shutdown, standalone,
};
use clap::Parser;
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs what the arguments of this process ask for.
pub fn main() -> ExitCode {
    machine::keep_freed_memory();
    let args = with_command_of_name(std::env::args_os().collect());
    let parsed = match Args::try_parse_from(&args) {
        Ok(parsed) => parsed,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(usage_code(&args, error.exit_code()));
        }
    };
    let ended = match parsed.command {
        Command::Standalone(args) => standalone::run(&args),
        Command::Namesrv(args) => run_namesrv::run(&args),
        Command::Broker(args) => run_broker::run(&args),
        Command::Shutdown(args) => shutdown::run(&args),
        Command::Produce(args) => produce::run(&args),
        Command::Consume(args) => consume::run(&args),
        Command::Admin(args) => admin::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Doctor(args) => doctor::run(&args),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, text }) => {
            eprintln!("{text}");
            ExitCode::from(code)
        }
    }
}

/// Source: ServerUtil#parseCmdLine (4.9.3): wrong flags of broker and name server end with 1.
fn usage_code(args: &[OsString], code: i32) -> u8 {
    let is_server = args.get(1).is_some_and(|command| command == "broker" || command == "namesrv");
    match code {
        0 => 0,
        _ if is_server => Failure::NO,
        _ => Failure::USAGE,
    }
}
