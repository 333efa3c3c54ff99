//! The simulator: it tries to break Hotfire, and tells how it did.

#[cfg(not(madsim))]
fn main() {
    eprintln!("sim was built without --cfg madsim and would touch the host: use the Justfile");
    std::process::exit(2);
}

#[cfg(madsim)]
mod cli;
#[cfg(madsim)]
mod corpus;
#[cfg(madsim)]
mod damage;
#[cfg(madsim)]
mod disk;
#[cfg(madsim)]
mod history;
#[cfg(madsim)]
mod mutants;
#[cfg(madsim)]
mod nemesis;
#[cfg(madsim)]
mod net;
#[cfg(madsim)]
mod oracle;
#[cfg(madsim)]
mod plan;
#[cfg(madsim)]
mod runner;
#[cfg(madsim)]
mod scenario;
#[cfg(madsim)]
mod shrink;
#[cfg(madsim)]
mod story;
#[cfg(madsim)]
mod sweep;
#[cfg(madsim)]
mod trace;
#[cfg(madsim)]
mod workload;
#[cfg(madsim)]
mod world;

#[cfg(madsim)]
fn main() -> std::process::ExitCode {
    cli::main()
}
