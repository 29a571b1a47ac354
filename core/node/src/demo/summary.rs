//! What remains of a demonstration: the numbers as one value, and as a text that a person shows to a colleague. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::board::{Board, Quantiles};
use super::drain::MEMBERS;
use super::figures::Figures;
use super::ledger::Tally;
use super::units::{grouped, percent, ratio, ratio_text, time_or_dash, time_us};
use crate::cli::bytes;

/// Names of missing records that are shown.
const MISSING_SHOWN: usize = 5;

/// What was measured, from the moment at which the node was ready to the last record.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Summary {
    version: &'static str,
    /// Every acknowledged record that the filter keeps was consumed exactly once, in order, and no other was.
    pub(crate) verified: bool,
    interrupted: bool,
    seconds: f64,
    node_ready_ms: u64,
    disk_backend: String,
    /// The data lay in memory: nothing here tells of flash.
    data_in_memory: bool,
    devices: u64,
    devices_connected: u64,
    machine_sources: u64,
    records: Tally,
    redelivered: u64,
    missing: Vec<String>,
    filter: Filter,
    latency: Latencies,
    disk: Disk,
    process: Process,
    troubles: Vec<String>,
    /// Where the node's data is, if it was kept.
    pub(crate) data_dir: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Filter {
    kept: u64,
    dropped: u64,
    failed: u64,
    dropped_percent: f64,
    cpu_us_per_record: Option<f64>,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Latencies {
    ack: Quantiles,
    /// From the record's timestamp (whole milliseconds) to the consumer.
    end_to_end: Quantiles,
    commit_p50_us_at_most: Option<u64>,
    commit_p99_us_at_most: Option<u64>,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Disk {
    sent_bytes: u64,
    payload_bytes: u64,
    written_bytes: u64,
    written_bytes_by_cause: BTreeMap<String, u64>,
    syncs: u64,
    syncs_by_cause: BTreeMap<String, u64>,
    commits: u64,
    records_per_sync: Option<f64>,
    written_per_payload_byte: Option<f64>,
    written_per_sent_byte: Option<f64>,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Process {
    resident_bytes: u64,
    cpu_percent_of_a_core: f64,
}

/// What the run knows besides the figures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) devices: u64,
    pub(crate) devices_connected: u64,
    pub(crate) machine_sources: u64,
    pub(crate) elapsed: Duration,
    pub(crate) node_ready: Duration,
    pub(crate) interrupted: bool,
    pub(crate) data_in_memory: bool,
}

impl Summary {
    pub(crate) fn new(run: Run, figures: &Figures, board: &Board) -> Self {
        let records = board.tally();
        let missing = board.ledger().missing(MISSING_SHOWN);
        let (commit_p50_us_at_most, commit_p99_us_at_most) = figures.commit_us();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            verified: records.adds_up(),
            interrupted: run.interrupted,
            seconds: run.elapsed.as_secs_f64(),
            node_ready_ms: u64::try_from(run.node_ready.as_millis()).unwrap_or(u64::MAX),
            disk_backend: figures.backend.clone(),
            data_in_memory: run.data_in_memory,
            devices: run.devices,
            devices_connected: run.devices_connected,
            machine_sources: run.machine_sources,
            redelivered: board.redelivered_so_far(),
            missing,
            filter: Filter::of(figures),
            latency: Latencies {
                ack: board.ack.whole(),
                end_to_end: board.end_to_end.whole(),
                commit_p50_us_at_most,
                commit_p99_us_at_most,
            },
            disk: Disk::of(figures, records.acknowledged),
            process: Process {
                resident_bytes: figures.resident_bytes,
                cpu_percent_of_a_core: cpu_percent(figures.cpu_us, run.elapsed),
            },
            troubles: board.troubles(),
            records,
            data_dir: None,
        }
    }

    /// Why it was not verified, in one sentence.
    pub(crate) fn complaint(&self) -> String {
        let records = &self.records;
        let mut parts = Vec::new();
        let mut part = |n: u64, what: &str| {
            if n > 0 {
                parts.push(format!("{} {what}", grouped(n)));
            }
        };
        part(records.missing(), "acknowledged records were never consumed");
        part(records.twice, "records were consumed twice at different offsets");
        part(records.leaked, "records were consumed that the filter must drop");
        part(records.out_of_order, "records were consumed out of order");
        part(records.unknown, "records were consumed that nobody sent");
        if records.acknowledged == 0 {
            parts.push("no record was acknowledged".to_owned());
        }
        let missing = match self.missing.is_empty() {
            true => String::new(),
            false => format!(" (missing, among others: {})", self.missing.join(", ")),
        };
        format!("the records do not add up: {}{missing}", parts.join("; "))
    }

    /// For a person.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        let seconds = self.seconds.round();
        let early = if self.interrupted { ", ended early" } else { "" };
        let _ = writeln!(
            out,
            "Millpond {} on this machine for {seconds} s{early}; every figure is measured.\n",
            self.version
        );
        self.records_text(&mut out);
        self.latency_text(&mut out);
        self.disk_text(&mut out);
        let mut line = |label: &str, text: String| {
            let _ = writeln!(out, "  {label:<12}{text}");
        };
        line(
            "process",
            format!(
                "{} resident, {:.0} % of a core; node, {} devices and {MEMBERS} consumers together",
                bytes(self.process.resident_bytes),
                self.process.cpu_percent_of_a_core,
                self.devices
            ),
        );
        line("start", format!("{} ms from nothing to serving", self.node_ready_ms));
        for trouble in &self.troubles {
            line("trouble", trouble.clone());
        }
        out.push_str(NEXT);
        if let Some(dir) = &self.data_dir {
            let serve = format!("millpond serve --data-dir {}", dir.display());
            let _ = writeln!(out, "  {serve:<51}the data of this run, which was kept");
        }
        out
    }

    fn records_text(&self, out: &mut String) {
        let records = &self.records;
        let mut line = |label: &str, text: String| {
            let _ = writeln!(out, "  {label:<12}{text}");
        };
        line(
            "sent",
            format!(
                "{} records by {} of {} devices, each with its own QUIC connection, and by {} sources of this machine",
                grouped(records.sent),
                self.devices_connected,
                self.devices,
                self.machine_sources
            ),
        );
        let failed = match records.failed {
            0 => String::new(),
            failed => format!("; {} were not", grouped(failed)),
        };
        line(
            "on flash",
            format!(
                "{} acknowledged, each only after its sync{failed}",
                grouped(records.acknowledged)
            ),
        );
        let filter = &self.filter;
        let each = filter
            .cpu_us_per_record
            .map_or_else(String::new, |us| format!(", {us:.1} µs of CPU each"));
        line(
            "filter",
            format!(
                "{} of {} readings dropped before storage ({:.1} %) by a WebAssembly module{each}",
                grouped(filter.dropped),
                grouped(filter.kept + filter.dropped),
                filter.dropped_percent
            ),
        );
        line(
            "consumed",
            format!("{} by {MEMBERS} members of a group over TCP", grouped(records.arrived)),
        );
        let verdict = match self.verified {
            true => {
                "every acknowledged record that the filter keeps came out exactly once, in order"
                    .to_owned()
            }
            false => format!("NOT: {}", self.complaint()),
        };
        line("verified", format!("{verdict}\n"));
    }

    fn latency_text(&self, out: &mut String) {
        let latency = &self.latency;
        let _ = writeln!(out, "  {:<22}{:>10}{:>10}{:>10}", "latency", "p50", "p99", "max");
        let mut row = |label: &str, p50: Option<u64>, p99: Option<u64>, max: &str| {
            let line =
                format!("  {label:<22}{:>10}{:>10}{max:>10}", time_or_dash(p50), time_or_dash(p99));
            let _ = writeln!(out, "{}", line.trim_end());
        };
        let max = |of: &Quantiles| if of.count > 0 { time_us(of.max_us) } else { "-".to_owned() };
        row("device to ack", latency.ack.p50(), latency.ack.p99(), &max(&latency.ack));
        row("commit, at most", latency.commit_p50_us_at_most, latency.commit_p99_us_at_most, "");
        row(
            "device to consumer",
            latency.end_to_end.p50(),
            latency.end_to_end.p99(),
            &max(&latency.end_to_end),
        );
        out.push('\n');
    }

    fn disk_text(&self, out: &mut String) {
        let disk = &self.disk;
        let mut line = |label: &str, text: String| {
            let _ = writeln!(out, "  {label:<12}{text}");
        };
        let note = if self.data_in_memory {
            "; the data lay in memory (tmpfs), so this is not flash"
        } else {
            ""
        };
        line("disk", format!("{}{note}", self.disk_backend));
        line(
            "syncs",
            format!(
                "{}, {} records and {} each",
                grouped(disk.syncs),
                ratio_text(disk.records_per_sync),
                bytes(disk.written_bytes / disk.syncs.max(1))
            ),
        );
        let causes = disk.written_bytes_by_cause.iter().filter(|(_, n)| **n > 0);
        let causes: Vec<String> =
            causes.map(|(cause, n)| format!("{cause} {}", bytes(*n))).collect();
        line("written", format!("{} ({})", bytes(disk.written_bytes), causes.join(", ")));
        line(
            "",
            format!(
                "{} bytes per byte stored ({}), {} per byte sent ({})",
                ratio_text(disk.written_per_payload_byte),
                bytes(disk.payload_bytes),
                ratio_text(disk.written_per_sent_byte),
                bytes(disk.sent_bytes)
            ),
        );
    }
}

impl Filter {
    #[allow(clippy::cast_precision_loss)] // It is rounded anyway.
    fn of(figures: &Figures) -> Self {
        let judged = figures.kept + figures.dropped;
        Self {
            kept: figures.kept,
            dropped: figures.dropped,
            failed: figures.filter_failed,
            dropped_percent: percent(figures.dropped, judged),
            cpu_us_per_record: ratio(figures.filter_cpu_us, judged),
        }
    }
}

impl Disk {
    fn of(figures: &Figures, acknowledged: u64) -> Self {
        Self {
            sent_bytes: figures.sent_bytes,
            payload_bytes: figures.payload_bytes,
            written_bytes: figures.written(),
            written_bytes_by_cause: figures.written.iter().cloned().collect(),
            syncs: figures.syncs(),
            syncs_by_cause: figures.syncs.iter().cloned().collect(),
            commits: figures.commits,
            records_per_sync: ratio(acknowledged, figures.syncs()),
            written_per_payload_byte: ratio(figures.written(), figures.payload_bytes),
            written_per_sent_byte: ratio(figures.written(), figures.sent_bytes),
        }
    }
}

#[allow(clippy::cast_precision_loss)]
fn cpu_percent(cpu_us: u64, elapsed: Duration) -> f64 {
    let elapsed_us = elapsed.as_micros().max(1);
    cpu_us as f64 * 100.0 / elapsed_us as f64
}

const NEXT: &str = "
Next:
  millpond serve                                     a node that stays: Kafka on 127.0.0.1:9092, TCP and QUIC
  echo hello | millpond produce greetings            write to it, then: millpond consume greetings --from-beginning
  curl http://127.0.0.1:9644/metrics                 what it says of itself
  millpond transform deploy --help                   a filter of your own at its gate
  millpond doctor                                    how fast this machine's flash commits
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::figures::tests::figures;
    use crate::demo::ledger::Failure;

    const RUN: Run = Run {
        devices: 300,
        devices_connected: 300,
        machine_sources: 7,
        elapsed: Duration::from_secs(60),
        node_ready: Duration::from_millis(420),
        interrupted: false,
        data_in_memory: false,
    };

    fn board(seen: bool) -> Board {
        let board = Board::new().unwrap();
        let source = board.ledger().open("a");
        for seq in 0..3 {
            board.ledger().sent(source, true);
            board.ledger().acknowledged(source, seq);
            if seen {
                board.ledger().seen("a", seq);
            }
        }
        board.ledger().sent(source, true);
        board.ledger().failed(source, 3, Failure::NotWritten);
        board.ack.record(Duration::from_millis(2));
        board
    }

    #[test]
    fn a_good_run_is_told_in_full() {
        let summary = Summary::new(RUN, &figures(3), &board(true));
        assert!(summary.verified);
        let text = summary.text();
        for part in [
            "for 60 s; every figure",
            "4 records by 300 of 300 devices",
            "7 sources of this machine",
            "3 acknowledged, each only after its sync; 1 were not",
            "2,700 of 3,000 readings dropped before storage (90.0 %)",
            "came out exactly once, in order",
            "device to ack",
            "io_uring",
            "2.9 MiB (journal 2.9 MiB)",
            "42.7 bytes per byte stored",
            "8.53 per byte sent",
            "420 ms from nothing",
            "millpond serve",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
        assert!(
            !text.contains("NOT") && !text.contains("tmpfs") && !text.contains("trouble"),
            "{text}"
        );
    }

    #[test]
    fn a_run_that_does_not_add_up_says_what_is_missing() {
        let summary = Summary::new(RUN, &figures(1), &board(false));
        assert!(!summary.verified);
        let complaint = summary.complaint();
        assert!(complaint.contains("3 acknowledged records were never consumed"), "{complaint}");
        assert!(complaint.contains("a #0, a #1, a #2"), "{complaint}");
        assert!(summary.text().contains("NOT: the records do not add up"));
        let nothing = Summary::new(RUN, &figures(1), &Board::new().unwrap());
        assert!(nothing.complaint().contains("no record was acknowledged"));
    }

    #[test]
    fn json_has_every_figure_once() {
        let board = board(true);
        board.trouble("t".into());
        let json = serde_json::to_value(Summary::new(RUN, &figures(3), &board)).unwrap();
        assert_eq!(json["verified"], true);
        assert_eq!(json["records"]["arrived"], 3);
        assert_eq!(json["filter"]["dropped_percent"], 90.0);
        assert_eq!(json["disk"]["written_bytes_by_cause"]["journal"], 3_072_000);
        assert_eq!(json["latency"]["ack"]["count"], 1);
        assert_eq!(json["troubles"][0], "t");
    }

    #[test]
    fn data_in_memory_is_not_passed_off_as_flash() {
        let run = Run { data_in_memory: true, interrupted: true, ..RUN };
        let text = Summary::new(run, &figures(1), &board(true)).text();
        assert!(text.contains("this is not flash") && text.contains("ended early"), "{text}");
    }
}
