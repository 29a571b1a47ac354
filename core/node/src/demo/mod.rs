//! `millpond demo`: the whole pipeline on this machine, to look at. A real node in this process, devices and this
//! machine's counters over QUIC, a WebAssembly filter inline, a consumer group, and a table of what happens. It
//! measures and never invents, and leaves nothing behind.

mod board;
mod device;
mod drain;
mod figures;
mod fleet;
mod ledger;
mod machine;
mod node;
mod summary;
mod table;
mod units;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use millpond_client::{Admin, Client, NewTopic};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use crate::cli::{self, CliError};
use board::Board;
use drain::Drain;
use figures::{Figures, Interval};
use fleet::Fleet;
use machine::{Root, Source};
use node::{DataDir, DemoNode, MACHINE, SCRAPE_WITHIN, TELEMETRY, TELEMETRY_PARTITIONS};
use summary::{Run, Summary};
use table::{Frame, History};

/// How long consumers may take for what is left, counted from the last record that came.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);
/// Between two drawings of the table.
const REFRESH: Duration = Duration::from_secs(1);
/// Lines without a terminal: about so many in a run.
const LINES_PER_RUN: u64 = 12;

/// `millpond demo`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  millpond demo
  millpond demo --seconds 20 --devices 1000
  millpond demo --json

Starts a node of its own on free ports of 127.0.0.1. Its data is in a new directory under TMPDIR, which is \
removed at the end. Ctrl-C ends it early with a summary; a second one ends it at once.")]
pub(crate) struct DemoArgs {
    /// How long it runs.
    #[arg(long, default_value_t = 60, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Simulated devices, each with a QUIC connection of its own and a reading a second.
    #[arg(long, default_value_t = 300, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=2_000))]
    devices: u64,
    /// What the devices measure follows from this number.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Keep the node's data and say where it is.
    #[arg(long)]
    keep: bool,
}

/// Runs the demonstration.
///
/// # Errors
/// What failed, or that the records do not add up.
pub(crate) fn run(args: &DemoArgs, json: bool) -> Result<(), CliError> {
    let data_dir = DataDir::new()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let outcome = runtime.block_on(attended(args, json, &data_dir));
    runtime.shutdown_timeout(Duration::from_secs(1));
    let kept = match args.keep {
        true => Some(data_dir.keep()),
        false => data_dir.remove().map(|()| None)?,
    };
    let mut summary = outcome?;
    summary.data_dir = kept;
    match json {
        true => cli::print_json(&summary)?,
        false => cli::print(&summary.text())?,
    }
    match summary.verified {
        true => Ok(()),
        false => Err(CliError::failed(summary.complaint())),
    }
}

/// The demonstration, ended at once by a second signal.
async fn attended(args: &DemoArgs, json: bool, data_dir: &DataDir) -> Result<Summary, CliError> {
    // The end of the terminal is a signal, too: the data must not outlive it.
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let [interrupt, terminate, hangup] = kinds.map(signal);
    let mut signals = [interrupt?, terminate?, hangup?];
    let (interrupt, interrupted) = watch::channel(false);
    let watching = async {
        next(&mut signals).await;
        interrupt.send_replace(true);
        next(&mut signals).await;
    };
    tokio::select! {
        outcome = demonstrate(args, json, data_dir, interrupted) => outcome,
        () = watching => Err(CliError::failed("ended at once by a second signal")),
    }
}

async fn next([interrupt, terminate, hangup]: &mut [Signal; 3]) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}

async fn demonstrate(
    args: &DemoArgs,
    json: bool,
    data_dir: &DataDir,
    interrupted: watch::Receiver<bool>,
) -> Result<Summary, CliError> {
    let mut screen = Screen::new(json);
    screen.say(&format!(
        "Millpond {}: a node in {}, {} devices, a filter, two consumers\n",
        env!("CARGO_PKG_VERSION"),
        data_dir.path().display(),
        args.devices
    ));
    let node = DemoNode::start(data_dir.path()).await?;
    let outcome = with_node(args, &node, &mut screen, interrupted, data_dir).await;
    // Whatever happened, the node stops in order before its data goes.
    let stopped = node.stop().await;
    // If the node failed, that is why everything else did.
    stopped.and(outcome)
}

async fn with_node(
    args: &DemoArgs,
    node: &DemoNode,
    screen: &mut Screen,
    interrupted: watch::Receiver<bool>,
    data_dir: &DataDir,
) -> Result<Summary, CliError> {
    prepare(node).await?;
    let board = Arc::new(Board::new().map_err(|e| CliError::failed(e.to_string()))?);
    let (stop_consumers, consumers_stopped) = watch::channel(false);
    let drain = Drain::start(node, &board, &consumers_stopped).await?;
    let machine_sources =
        Source::ALL.iter().filter(|source| source.read(&Root::machine()).is_some()).count();

    let start = Figures::of(&scrape(node).await?, &board);
    let (stop_fleet, fleet_stopped) = watch::channel(false);
    let devices = usize::try_from(args.devices).unwrap_or(usize::MAX);
    let began = Instant::now();
    let fleet = Fleet::launch(node, &board, (devices, args.seed), &fleet_stopped)?;
    let mut watched = Watched::new(args, start, began);
    watched.watch(node, &board, screen, interrupted.clone()).await?;
    let devices_connected = board.connected_now();

    stop_fleet.send_replace(true);
    fleet.come_home().await;
    board.drained(DRAIN_PATIENCE).await;
    let elapsed = began.elapsed();
    let figures = Figures::of(&scrape(node).await?, &board).since(&watched.start);
    stop_consumers.send_replace(true);
    drain.come_home().await;
    let run = Run {
        devices: args.devices,
        devices_connected,
        machine_sources: machine_sources as u64,
        elapsed,
        node_ready: node.reached.startup,
        interrupted: *interrupted.borrow(),
        data_in_memory: data_dir.is_memory(),
    };
    screen.say("\n");
    Ok(Summary::new(run, &figures, &board))
}

/// Makes the topics and puts the filter in force.
async fn prepare(node: &DemoNode) -> Result<(), CliError> {
    let failed = |e: millpond_client::ClientError| CliError::failed(e.to_string());
    let admin = Admin::new(Client::connect(node.over_tcp("demo")?).await.map_err(failed)?);
    admin
        .create_topic(NewTopic::new(TELEMETRY).partitions(TELEMETRY_PARTITIONS))
        .await
        .map_err(failed)?;
    admin.create_topic(NewTopic::new(MACHINE).partitions(1)).await.map_err(failed)?;
    node.deploy_filter().await?;
    Ok(())
}

async fn scrape(node: &DemoNode) -> Result<crate::metrics::scrape::Scrape, CliError> {
    match timeout(SCRAPE_WITHIN, node.scrape()).await {
        Ok(scrape) => scrape,
        Err(_) => Err(CliError::failed("the node does not answer over HTTP any more")),
    }
}

/// What is shown while it runs.
struct Watched<'a> {
    args: &'a DemoArgs,
    /// What the node had counted before the first device came.
    start: Figures,
    began: Instant,
    last: Figures,
    last_at: Instant,
    history: History,
}

impl<'a> Watched<'a> {
    fn new(args: &'a DemoArgs, start: Figures, began: Instant) -> Self {
        let last = start.clone().since(&start);
        Self { args, start, began, last, last_at: began, history: History::default() }
    }

    /// Draws until the time is over, somebody interrupts, or nobody looks any more.
    async fn watch(
        &mut self,
        node: &DemoNode,
        board: &Board,
        screen: &mut Screen,
        mut interrupted: watch::Receiver<bool>,
    ) -> Result<(), CliError> {
        let end = self.began + Duration::from_secs(self.args.seconds);
        let mut ticks = interval_at(self.began + REFRESH, REFRESH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(end) => return Ok(()),
                _ = interrupted.wait_for(|it| *it) => return Ok(()),
                _ = ticks.tick() => {}
            }
            if node.has_ended() {
                return Err(CliError::failed("the node ended by itself"));
            }
            let total = Figures::of(&scrape(node).await?, board).since(&self.start);
            self.draw(total, board, screen);
            if screen.is_gone {
                return Ok(());
            }
        }
    }

    fn draw(&mut self, total: Figures, board: &Board, screen: &mut Screen) {
        let elapsed = self.began.elapsed();
        let is_due = screen.is_terminal
            || elapsed.as_secs().is_multiple_of((self.args.seconds / LINES_PER_RUN).max(1));
        if !is_due {
            return;
        }
        let now = Interval::between(&self.last, &total, self.last_at.elapsed());
        self.last_at = Instant::now();
        self.history.push(&now);
        let frame = Frame {
            elapsed,
            planned: Duration::from_secs(self.args.seconds),
            devices: self.args.devices,
            total: &total,
            now: &now,
            ack: board.ack.take_recent(),
            end_to_end: board.end_to_end.take_recent(),
            history: &self.history,
        };
        screen.show(&frame);
        self.last = total;
    }
}

/// Standard output while it runs. Nothing with `--json`; and when nobody reads it any more, the demonstration ends.
struct Screen {
    is_silent: bool,
    is_terminal: bool,
    is_gone: bool,
    lines: usize,
}

impl Screen {
    fn new(json: bool) -> Self {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self {
            is_silent: json,
            is_terminal: !json && !is_dumb && io::stdout().is_terminal(),
            is_gone: false,
            lines: 0,
        }
    }

    fn say(&mut self, text: &str) {
        if self.is_silent || self.is_gone {
            return;
        }
        let mut out = io::stdout().lock();
        self.is_gone = out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err();
    }

    fn show(&mut self, frame: &Frame<'_>) {
        if !self.is_terminal {
            return self.say(&table::line(frame));
        }
        let text = table::table(frame);
        let drawing = table::redraw(self.lines, &text);
        self.lines = text.lines().count();
        self.say(&drawing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: DemoArgs,
    }

    #[test]
    fn a_short_run_adds_up_and_leaves_nothing_behind() {
        let args = DemoArgs { seconds: 2, devices: 12, seed: 7, keep: false };
        let data_dir = DataDir::new().unwrap();
        let path = data_dir.path().to_owned();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let summary = runtime.block_on(attended(&args, true, &data_dir)).unwrap();
        data_dir.remove().unwrap();
        assert!(summary.verified, "{}", summary.text());
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!(json["devices_connected"], 12, "{json}");
        assert!(json["filter"]["dropped"].as_u64().unwrap() > 0, "{json}");
        assert!(json["disk"]["syncs"].as_u64().unwrap() > 0, "{json}");
        assert!(json["latency"]["ack"]["p99_us"].as_u64().unwrap() > 0, "{json}");
        assert!(!path.exists());
    }

    #[test]
    fn a_minute_and_a_few_hundred_devices_unless_said_otherwise() {
        let args = Line::try_parse_from(["demo"]).unwrap().args;
        assert_eq!((args.seconds, args.devices, args.keep), (60, 300, false));
        for wrong in
            [["demo", "--seconds", "0"], ["demo", "--devices", "0"], ["demo", "--devices", "3000"]]
        {
            assert!(Line::try_parse_from(wrong).is_err(), "{wrong:?}");
        }
    }
}
