//! What `hotfire bench` can be told.

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, ClapArgs)]
pub struct Bench {
    #[command(subcommand)]
    pub what: What,
}

#[derive(Debug, Subcommand)]
pub enum What {
    /// Sends messages
    Send(Load),
    /// Pulls what `bench send` has sent, over and over
    Pull(Load),
    /// Sends at a rate, waits for arrivals, and measures from end to end
    Tail(Load),
    /// Load against an echo server; with --listen, be that server
    Echo(Limit),
    /// With --listen, be the server that does the least an honest broker must; else as `send`
    Floor(Limit),
    /// Be the server that answers pulls with bytes of a commit log file
    Copy(Copy),
}

#[derive(Debug, ClapArgs)]
pub struct Copy {
    /// Serve on this address until a signal comes
    #[arg(long, value_name = "ADDR")]
    pub listen: String,
    /// A commit log file that `bench send` has filled, so that its records have one size
    #[arg(long, value_name = "FILE")]
    pub file: PathBuf,
    /// Messages of one answer
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub pull_count: u32,
}

#[derive(Debug, ClapArgs)]
pub struct Limit {
    /// Serve on this address until a signal comes
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// The file that the floor server appends to, emptied at start
    #[arg(long, value_name = "FILE", default_value = "./hotfire-floor.log")]
    pub file: PathBuf,
    #[command(flatten)]
    pub load: Load,
}

#[derive(Debug, ClapArgs)]
pub struct Load {
    /// The broker's address
    #[arg(short = 'b', long, value_name = "ADDR", default_value = "127.0.0.1:10911")]
    pub broker: String,
    #[arg(short = 't', long, default_value = "BenchmarkTest")]
    pub topic: String,
    /// Queues of the topic that are used, from 0
    #[arg(long, value_name = "N", default_value_t = 4)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=8))]
    pub queues: u32,
    #[arg(short = 'c', long, value_name = "N", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connections: u32,
    /// Requests in flight on each connection
    #[arg(short = 'i', long, value_name = "N", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub in_flight: u32,
    /// Messages of one send; more than 1 are a batch
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub batch: u32,
    /// Bytes of a body
    #[arg(short = 's', long, value_name = "BYTES", default_value_t = 1024)]
    #[arg(value_parser = clap::value_parser!(u32).range(..=4_000_000))]
    pub size: u32,
    /// How long to measure
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    pub seconds: f64,
    /// End after so many requests instead
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// Load before the measuring begins
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    pub warmup: f64,
    /// Requests per second, begun on time whether or not answers come (open loop)
    #[arg(short = 'r', long, value_name = "N")]
    pub rate: Option<f64>,
    /// Read the CPU seconds of this process, or of several, divided by commas, together
    #[arg(long, value_delimiter = ',')]
    pub pid: Vec<u32>,
    /// How headers are encoded
    #[arg(long, value_enum, default_value_t = HeaderKind::Json)]
    pub header: HeaderKind,
    /// Messages of one pull
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub pull_count: u32,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HeaderKind {
    Json,
    Binary,
}
