//! Millpond beside what its users would take instead: the same load by the same generator on each, in
//! turns (A B A B), as ratios with their spread. Must never quote a figure without what its setting
//! promises, nor leave out what Millpond lost.

mod bulk;
mod catch_up;
mod duel;
mod filter;
mod fleet;
mod latency;
mod pages;
mod perf_test;
mod plot;
mod results;
mod start;
mod table;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Outcome};
use crate::figures::Bench;
use crate::load::answers::Language;
use crate::load::frames::{Frames, Order};
use crate::machine::Machine;
use crate::peers::{Installed, Peer, present};
use duel::{Contender, Ring};
use results::{Board, Comparison, Contestant, Goal, Results};

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Workload {
    /// Batches of 64 KiB at saturation, to 1 and to 64 partitions.
    Bulk,
    /// Devices with a connection and a record each, at saturation and once a second.
    Fleet,
    /// Acknowledgements at even rates.
    Latency,
    /// A consumer that reads much of the past while others write.
    CatchUp,
    /// A filter inline, beside the broker, and in Kafka Streams.
    Filter,
    /// Start to first acknowledgement, idle memory, and recovery after kill -9.
    Start,
    /// Kafka's own load generator on all who speak its protocol.
    PerfTest,
}

/// `compare` on the command line.
#[derive(Args, Clone, Debug)]
pub(crate) struct CompareArgs {
    /// What to compare [default: all].
    #[arg(value_enum)]
    workloads: Vec<Workload>,
    /// With whom [default: all that are installed].
    #[arg(long, value_enum, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// Only cases whose name contains this.
    #[arg(long, default_value = "", value_name = "TEXT")]
    case: String,
    /// What recovery and catch-up have stored, in MiB [default: 4096, with --quick 256].
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=65_536))]
    stored_mib: Option<u64>,
    /// Where bench/peers/setup put the peers.
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/target"))]
    peers_dir: PathBuf,
    /// Also keep results.json, RESULTS.md and plots here; what is there of other workloads stays.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// `results` on the command line: pages and plots anew from what was kept.
#[derive(Args, Clone, Debug)]
pub(crate) struct ResultsArgs {
    /// Where results.json is.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// What one workload needs to know.
pub(crate) struct Task<'a> {
    pub(crate) ring: Ring<'a>,
    case: &'a str,
    /// Bytes that recovery and catch-up have stored.
    pub(crate) stored_bytes: u64,
}

impl Task<'_> {
    /// Whether a case is asked for.
    pub(crate) fn wants(&self, case: &str) -> bool {
        case.contains(self.case)
    }
}

/// Where a load goes: a topic and its partitions.
pub(crate) type Place<'a> = (&'a str, usize);

/// One case: all that take part start, make the topic, have their turns with requests that they understand, and end.
pub(crate) fn contest(
    ring: &Ring<'_>,
    (case, board): (&str, &mut Board),
    (phrases, place): (&Phrases, Place<'_>),
    takes_part: impl Fn(Peer) -> bool,
    mut turn: impl FnMut(usize, &mut Contender, &Frames, &mut Board) -> Outcome<()>,
) -> Outcome<()> {
    let mut contenders = ring.enter(case, board, takes_part, |server, peer| {
        bulk::ready(server, phrases.for_peer(peer)?, place, peer)
    });
    ring.rounds(case, board, &mut contenders, |round, contender, board| {
        let frames = phrases.for_peer(contender.peer)?;
        turn(round, contender, frames, board)
    })?;
    ring.leave(case, board, contenders);
    Ok(())
}

/// How a workload is measured and what is asked of it.
struct Spec {
    what: &'static str,
    run: fn(&Task<'_>, &mut Board) -> Outcome<()>,
    goals: fn(&str, &str, &str) -> (Goal, Goal),
}

impl Workload {
    /// Its name on the command line and in files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::Fleet => "fleet",
            Self::Latency => "latency",
            Self::CatchUp => "catch-up",
            Self::Filter => "filter",
            Self::Start => "start",
            Self::PerfTest => "perf-test",
        }
    }

    fn spec(self) -> Spec {
        match self {
            Self::Bulk => Spec { what: bulk::WHAT, run: bulk::run, goals: bulk::goals },
            Self::Fleet => Spec { what: fleet::WHAT, run: fleet::run, goals: fleet::goals },
            Self::Latency => Spec { what: latency::WHAT, run: latency::run, goals: latency::goals },
            Self::CatchUp => {
                Spec { what: catch_up::WHAT, run: catch_up::run, goals: catch_up::goals }
            }
            Self::Filter => Spec { what: filter::WHAT, run: filter::run, goals: filter::goals },
            Self::PerfTest => {
                Spec { what: perf_test::WHAT, run: perf_test::run, goals: perf_test::goals }
            }
            Self::Start => Spec { what: start::WHAT, run: start::run, goals: start::goals },
        }
    }
}

/// Compares, and gives what was found; keeps it where that is asked for.
pub(crate) fn compare(
    args: &CompareArgs,
    bench: &Bench,
    machine: &dyn Fn() -> Outcome<Machine>,
    command: &str,
) -> Outcome<Results> {
    let peers_dir = args.peers_dir.clone();
    let installed = Installed { millpond: bench.binary.clone(), peers: peers_dir };
    let peers = present(&installed, &args.peers)?;
    let workloads = match args.workloads.as_slice() {
        [] => Workload::value_variants(),
        named => named,
    };
    let mut fresh = Results::default();
    for workload in workloads {
        let mut machine = machine()?;
        let stored_mib = args.stored_mib.unwrap_or(if bench.quick { 256 } else { 4096 });
        let ring = Ring { bench, installed: &installed, peers: &peers };
        let task = Task { ring, case: &args.case, stored_bytes: stored_mib << 20 };
        let Spec { what, run, goals } = workload.spec();
        let mut board = Board::default();
        run(&task, &mut board)?;
        machine.finished();
        let took_part = peers.iter().filter(|peer| board.knows(peer.name()));
        let contestants = took_part.map(|peer| {
            let (version, promise) = (installed.version(*peer)?, peer.promise());
            Ok(Contestant { peer: *peer, version, promise })
        });
        let comparison = Comparison {
            workload: *workload,
            what: what.to_owned(),
            machine,
            command: command.to_owned(),
            is_quick: bench.quick,
            is_debug: cfg!(debug_assertions),
            contestants: contestants.collect::<Outcome<_>>()?,
            rows: board.rows(goals),
            failures: board.failures,
        };
        fresh.renew(vec![comparison]);
        if let Some(dir) = &args.out {
            // What was measured is kept even if the next workload fails.
            std::fs::create_dir_all(dir).context(format!("making {}", dir.display()))?;
            let mut kept = Results::read(dir)?;
            kept.renew(fresh.comparisons.clone());
            kept.write(dir)?;
            pages::write(dir, &kept)?;
        }
    }
    Ok(fresh)
}

/// The text of a comparison, for a person at a terminal.
pub(crate) fn text(results: &Results) -> String {
    results.comparisons.iter().map(table::text).collect()
}

/// Makes pages and plots anew.
pub(crate) fn render(args: &ResultsArgs) -> Outcome<()> {
    pages::write(&args.dir, &Results::read(&args.dir)?)
}

/// Requests for all languages that are spoken, made once.
pub(crate) struct Phrases {
    frames: Vec<(Language, Frames)>,
}

impl Phrases {
    /// For all these peers.
    pub(crate) fn of(
        peers: &[Peer],
        topic: &str,
        partitions: usize,
        order: Order,
    ) -> Outcome<Self> {
        let mut frames: Vec<(Language, Frames)> = Vec::new();
        for language in peers.iter().map(|peer| peer.language()) {
            if !frames.iter().any(|(known, _)| *known == language) {
                frames.push((language, Frames::in_language(language, topic, partitions, order)?));
            }
        }
        Ok(Self { frames })
    }

    /// Those that a peer understands.
    pub(crate) fn for_peer(&self, peer: Peer) -> Outcome<&Frames> {
        let found = self.frames.iter().find(|(language, _)| *language == peer.language());
        Ok(&found.context(format!("requests for {}", peer.name()))?.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: CompareArgs,
    }

    #[test]
    fn workloads_and_peers_are_named_as_tables_name_them() {
        let line = "x bulk latency --peers millpond,kafka-flush --out /x --stored-mib 64";
        let args = Cli::try_parse_from(line.split(' ')).unwrap().args;
        assert_eq!(args.workloads, [Workload::Bulk, Workload::Latency]);
        assert_eq!(args.peers, [Peer::Millpond, Peer::KafkaFlush]);
        assert!(Cli::try_parse_from(["x", "--peers", "rabbit"]).is_err());
        assert!(Cli::try_parse_from(["x", "--stored-mib", "0"]).is_err());
    }
}
