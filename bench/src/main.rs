//! `millpond-bench`: measures the real broker and, in the same run and interleaved with it, the
//! bound that the machine sets. It reports ratios with their spread, and misses as misses.

mod broker;
mod compare;
mod drive;
mod error;
mod figures;
mod latency;
mod load;
mod machine;
mod payload;
mod peers;
mod process;
mod procfs;
mod raw;
mod report;
mod scrape;
mod spread;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use millpond_storage::disk::{BackendChoice, Disk, RealDisk};

use compare::{CompareArgs, ResultsArgs};
use drive::LoadArgs;
use error::{Context, Outcome};
use figures::{Bench, scratch};
use load::saturate::Pressure;
use load::sink::{self, Transport};
use machine::Machine;
use report::{Figure, Report};

/// Measures Millpond and the machine's bound in one run.
#[derive(Debug, Parser)]
#[command(name = "millpond-bench", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// The broker's program [default: the release build beside this one, built now under cargo].
    #[arg(long, global = true, value_name = "FILE")]
    bin: Option<PathBuf>,
    /// A directory on the file system to measure [default: beside this program].
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long, global = true)]
    json: bool,
    /// Everything shorter: a look, not a measurement.
    #[arg(long, global = true)]
    quick: bool,
    /// How often each pair is measured; with --quick twice at most.
    #[arg(long, global = true, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=50))]
    rounds: u8,
    /// TCP connections of the saturating load.
    #[arg(long, global = true, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    connections: u16,
    /// Requests under way on each of them.
    #[arg(long, global = true, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=64))]
    in_flight: u16,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Millpond beside other brokers (bench/peers/setup fetches them).
    Compare(CompareArgs),
    /// RESULTS.md and plots anew from the results.json that `compare --out` kept.
    Results(ResultsArgs),
    /// A load of one's own on any broker that speaks Kafka's protocol.
    Load(LoadArgs),
    /// All figures.
    Figures,
    /// Saturated durable produce against the raw write loop.
    Produce,
    /// Acknowledgement latency at 2,000 records/s against the raw write and sync.
    AckLatency,
    /// Bytes written and syncs for each byte of payload, 500 devices over QUIC.
    Wear,
    /// Bytes written for each byte of large batches that are compressed already.
    Bulk,
    /// Bytes stored for each byte of JSON telemetry, after packing.
    Packing,
    /// Sequential read of history by a consumer against reading the files.
    History,
    /// Start after kill -9 with little and with much stored.
    Recovery,
    /// The threshold filter inline against native, and a produce with it against one without.
    Transform,
    /// From a module's upload to the first record through it.
    Deploy,
    /// Acknowledgements of one topic while hostile modules run on others.
    Hostile,
    /// Requests a second, and the broker's processor time for each.
    Requests,
    /// Many groups, and the rebalance of a large one.
    Groups,
    /// From the end of a transaction to its records at a consumer.
    Visible,
    /// QUIC against TLS over TCP where packets are lost. Needs root and /dev/net/tun; not in `figures`.
    Path,
    /// Memory, size, start to first acknowledgement.
    Footprint,
    /// Memory and processor time of 10,000 idle devices over QUIC.
    Devices,
    /// QUIC handshakes: full, resumed, 0-RTT; 2,000 of them beside an ingest.
    Handshakes,
    /// Throughput and processor time over QUIC, against bare quinn and TLS.
    Quic,
    /// Is the receiver that `quic` compares with.
    #[command(hide = true)]
    Sink { transport: Transport },
}

type Measure = fn(&Bench) -> Outcome<Figure>;

impl Command {
    fn figures(&self) -> Vec<Measure> {
        match self {
            Self::Compare(_) | Self::Results(_) | Self::Load(_) => Vec::new(),
            Self::Figures => vec![
                figures::produce::figure,
                figures::ack_latency::figure,
                figures::wear::figure,
                figures::bulk::figure,
                figures::packing::figure,
                figures::history::figure,
                figures::recovery::figure,
                figures::transform::figure,
                figures::deploy::figure,
                figures::hostile::figure,
                figures::requests::figure,
                figures::groups::figure,
                figures::visible::figure,
                figures::footprint::figure,
                figures::devices::figure,
                figures::handshakes::figure,
                figures::quic::figure,
            ],
            Self::Sink { .. } => Vec::new(),
            Self::Produce => vec![figures::produce::figure],
            Self::AckLatency => vec![figures::ack_latency::figure],
            Self::Wear => vec![figures::wear::figure],
            Self::Bulk => vec![figures::bulk::figure],
            Self::Packing => vec![figures::packing::figure],
            Self::History => vec![figures::history::figure],
            Self::Recovery => vec![figures::recovery::figure],
            Self::Transform => vec![figures::transform::figure],
            Self::Deploy => vec![figures::deploy::figure],
            Self::Hostile => vec![figures::hostile::figure],
            Self::Requests => vec![figures::requests::figure],
            Self::Groups => vec![figures::groups::figure],
            Self::Visible => vec![figures::visible::figure],
            Self::Path => vec![figures::path::figure],
            Self::Footprint => vec![figures::footprint::figure],
            Self::Devices => vec![figures::devices::figure],
            Self::Handshakes => vec![figures::handshakes::figure],
            Self::Quic => vec![figures::quic::figure],
        }
    }
}

fn main() -> ExitCode {
    match measure(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("millpond-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(cli: Cli) -> Outcome<()> {
    if let Command::Sink { transport } = cli.command {
        return sink::run(transport);
    }
    if cfg!(debug_assertions) {
        eprintln!("WARNING: this is no release build; its figures mean nothing.");
    }
    if let Command::Results(args) = &cli.command {
        return compare::render(args);
    }
    let dir = match &cli.dir {
        Some(dir) => dir.clone(),
        None => std::env::current_exe()
            .context("where this program is")?
            .parent()
            .context("the directory of this program")?
            .to_path_buf(),
    };
    let backend = backend(&dir)?;
    let look = || Machine::look(&dir, backend);
    if let Command::Load(args) = &cli.command {
        let machine = look()?;
        return show(cli.json, machine, vec![drive::figure(args)?]);
    }
    let bench = Bench {
        binary: broker::find_binary(cli.bin.as_deref())?,
        dir: dir.clone(),
        rounds: usize::from(if cli.quick { cli.rounds.min(2) } else { cli.rounds }),
        pressure: Pressure {
            connections: usize::from(cli.connections),
            in_flight: usize::from(cli.in_flight),
        },
        quick: cli.quick,
    };
    if let Command::Compare(args) = &cli.command {
        let results = compare::compare(args, &bench, &look, &command_line())?;
        let json = || serde_json::to_string_pretty(&results).context("writing JSON");
        print!("{}", if cli.json { json()? + "\n" } else { compare::text(&results) });
        return Ok(());
    }
    let machine = look()?;
    let measures = cli.command.figures();
    let figures = measures.iter().map(|figure| figure(&bench)).collect::<Outcome<_>>()?;
    show(cli.json, machine, figures)
}

fn show(is_json: bool, mut machine: Machine, figures: Vec<Figure>) -> Outcome<()> {
    machine.finished();
    let report = Report { machine, command: command_line(), figures };
    if is_json {
        println!("{}", serde_json::to_string_pretty(&report).context("writing JSON")?);
    } else {
        print!("{}", report.table());
    }
    Ok(())
}

/// How the disk is driven here: asked of it, in a directory that goes again.
fn backend(dir: &std::path::Path) -> Outcome<&'static str> {
    let scratch = scratch(dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("a runtime")?.block_on(async {
        let disk = RealDisk::open(scratch.path(), BackendChoice::Auto).context("the disk")?;
        Ok(disk.backend_name())
    })
}

/// What makes the report again.
fn command_line() -> String {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    format!("cargo run --release -p millpond-bench -- {}", arguments.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        let words = ["figures", "produce", "ack-latency", "wear", "bulk", "packing", "history"];
        for word in words.into_iter().chain(["recovery", "transform", "deploy", "hostile", "path"])
        {
            let line = format!("millpond-bench --quick {word} --json --rounds 2");
            assert!(Cli::try_parse_from(line.split(' ')).unwrap().json, "{word}");
        }
    }
}
