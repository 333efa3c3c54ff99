//! How a command ends when it does not end well.

use crate::config;

/// What to print on standard error, and the exit code.
#[derive(Debug)]
pub struct Failure {
    pub code: u8,
    pub text: String,
}

impl Failure {
    /// It ran, and the answer is no.
    pub const NO: u8 = 1;
    /// Wrong use.
    pub const USAGE: u8 = 2;
    /// The store or the network refused.
    pub const REFUSED: u8 = 3;
    /// -3: the configuration or what is on disk is refused. Source: BrokerStartup (4.9.3).
    pub const NOT_INITIALIZED: u8 = 253;
    /// -1: the start failed. Source: BrokerStartup#start (4.9.3).
    pub const NOT_STARTED: u8 = 255;

    pub fn new(code: u8, text: impl Into<String>) -> Self {
        Failure { code, text: text.into() }
    }
}

impl From<config::Error> for Failure {
    fn from(error: config::Error) -> Self {
        Failure::new(Failure::NOT_INITIALIZED, error.to_string())
    }
}
