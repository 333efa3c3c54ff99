//! The binary `hotfire`, also called as `mqbroker`, `mqnamesrv` and `mqshutdown`.

fn main() -> std::process::ExitCode {
    hotfire::cli::main()
}
