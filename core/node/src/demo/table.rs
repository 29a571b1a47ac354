//! What a person watches while it runs: a table that is drawn anew each second, or a line now and then where there is
//! no terminal. Pure: from figures to text.

use std::fmt::Write;
use std::time::Duration;

use super::board::Quantiles;
use super::figures::{Figures, Interval};
use super::units::{bar, grouped, percent, ratio, ratio_text, sparkline, time_or_dash};
use crate::cli::bytes;

/// Seconds that a sparkline tells of.
const HISTORY: usize = 26;

/// Everything that one drawing of the table shows.
pub(crate) struct Frame<'a> {
    pub(crate) elapsed: Duration,
    pub(crate) planned: Duration,
    pub(crate) devices: u64,
    /// Since the start.
    pub(crate) total: &'a Figures,
    /// Since the last frame.
    pub(crate) now: &'a Interval,
    pub(crate) ack: Quantiles,
    pub(crate) end_to_end: Quantiles,
    pub(crate) history: &'a History,
}

/// The last seconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    incoming: Vec<u64>,
    consumed: Vec<u64>,
    written: Vec<u64>,
}

impl History {
    /// One more frame.
    pub(crate) fn push(&mut self, now: &Interval) {
        let series = [
            (&mut self.incoming, now.acknowledged()),
            (&mut self.consumed, now.consumed()),
            (&mut self.written, now.written()),
        ];
        for (series, value) in series {
            series.push(value);
            if series.len() > HISTORY {
                series.remove(0);
            }
        }
    }
}

/// The table, each line ended. It fits a terminal of 80 by 24.
pub(crate) fn table(frame: &Frame<'_>) -> String {
    let (total, now, history) = (frame.total, frame.now, frame.history);
    let mut out = String::new();
    let planned = frame.planned.as_secs();
    let elapsed = frame.elapsed.as_secs().min(planned);
    let _ = writeln!(out, "  {} {elapsed} of {planned} s", bar(elapsed, planned, 40));
    let _ = writeln!(
        out,
        "  {} of {} devices over QUIC, two consumers over TCP, disk by {}\n",
        total.devices_connected, frame.devices, total.backend
    );

    row(&mut out, "records", ["a second", "in all"], "");
    let mut records = |label: &str, a_second: u64, in_all: u64, tail: &str| {
        row(&mut out, label, [&grouped(a_second), &grouped(in_all)], tail);
    };
    let share = |n: u64| format!("{:.1} %", percent(n, total.kept + total.dropped));
    let (came, went) =
        (sparkline(&history.incoming, HISTORY), sparkline(&history.consumed, HISTORY));
    records("acknowledged, on flash", now.acknowledged(), total.acknowledged, &came);
    records("kept by the filter", now.kept(), total.kept, &share(total.kept));
    records("dropped by the filter", now.dropped(), total.dropped, &share(total.dropped));
    records("consumed by the group", now.consumed(), total.consumed, &went);
    out.push('\n');

    row(&mut out, "latency", ["p50", "p99"], "");
    let mut latency = |label: &str, (p50, p99): (Option<u64>, Option<u64>)| {
        row(&mut out, label, [&time_or_dash(p50), &time_or_dash(p99)], "");
    };
    latency("device to ack", (frame.ack.p50(), frame.ack.p99()));
    latency("commit on flash, up to", now.commit_us());
    latency("device to consumer", (frame.end_to_end.p50(), frame.end_to_end.p99()));
    out.push('\n');
    flash(&mut out, frame);
    out
}

/// Bytes and syncs, and what they cost.
fn flash(out: &mut String, frame: &Frame<'_>) {
    let (total, now) = (frame.total, frame.now);
    row(out, "flash", ["a second", "in all"], "");
    let written = [now.written(), total.written()].map(bytes);
    let pace = sparkline(&frame.history.written, HISTORY);
    row(out, "written", [&written[0], &written[1]], &pace);
    let causes =
        now.written_by_cause().into_iter().filter(|(cause, _)| total.written_of(cause) > 0);
    let causes: Vec<String> =
        causes.map(|(cause, a_second)| format!("{cause} {}/s", bytes(a_second))).collect();
    let _ = writeln!(out, "    {}", causes.join(", "));
    row(
        out,
        "  per byte stored",
        ["", &ratio_text(ratio(total.written(), total.payload_bytes))],
        "",
    );
    row(out, "  per byte sent", ["", &ratio_text(ratio(total.written(), total.sent_bytes))], "");
    row(out, "commits", [&grouped(now.commits()), &grouped(total.commits)], "");
    let per_sync = ratio_text(ratio(now.acknowledged(), now.syncs()));
    let tail = format!("{per_sync} records a sync");
    row(out, "syncs", [&grouped(now.syncs()), &grouped(total.syncs())], &tail);
    row(out, "memory of it all", ["", &bytes(total.resident_bytes)], "devices included");
}

/// A label, two figures to the right, and something behind.
fn row(out: &mut String, label: &str, [first, second]: [&str; 2], tail: &str) {
    let line = format!("  {label:<24}{first:>12}{second:>14}  {tail}");
    out.push_str(line.trim_end());
    out.push('\n');
}

/// One line for where there is no terminal.
pub(crate) fn line(frame: &Frame<'_>) -> String {
    let (total, now) = (frame.total, frame.now);
    format!(
        "{:>4} s  {}/{} devices  {} records/s in  {:.0} % dropped  {} records/s consumed  ack p50 {} p99 {}  \
         end to end p50 {} p99 {}  {} syncs/s  {}/s written  {} resident\n",
        frame.elapsed.as_secs(),
        total.devices_connected,
        frame.devices,
        grouped(now.acknowledged()),
        percent(now.dropped(), now.kept() + now.dropped()),
        grouped(now.consumed()),
        time_or_dash(frame.ack.p50()),
        time_or_dash(frame.ack.p99()),
        time_or_dash(frame.end_to_end.p50()),
        time_or_dash(frame.end_to_end.p99()),
        grouped(now.syncs()),
        bytes(now.written()),
        bytes(total.resident_bytes),
    )
}

/// What a terminal must be sent so that `text` stands where a text of `previous_lines` stood.
pub(crate) fn redraw(previous_lines: usize, text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 256);
    if previous_lines > 0 {
        let _ = write!(out, "\x1b[{previous_lines}A");
    }
    // Long lines are cut, not wrapped: a wrapped one would shift the next drawing.
    out.push_str("\r\x1b[?7l");
    for line in text.lines() {
        let _ = writeln!(out, "{line}\x1b[K");
    }
    // What is left of a longer drawing goes.
    out.push_str("\x1b[J\x1b[?7h");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::figures::tests::figures;

    fn with_frame<T>(show: impl FnOnce(&Frame<'_>) -> T) -> T {
        let (before, total) = (figures(1), figures(3));
        let now = Interval::between(&before, &total, Duration::from_secs(2));
        let mut history = History::default();
        history.push(&now);
        let quantiles = Quantiles { count: 9, p50_us: 1_900, p99_us: 6_300, max_us: 9_000 };
        show(&Frame {
            elapsed: Duration::from_secs(15),
            planned: Duration::from_secs(60),
            devices: 300,
            total: &total,
            now: &now,
            ack: quantiles,
            end_to_end: Quantiles::default(),
            history: &history,
        })
    }

    #[test]
    fn the_table_shows_rates_and_sums_and_fits_a_terminal() {
        let text = with_frame(table);
        for part in [
            "15 of 60 s",
            "290 of 300 devices over QUIC",
            "disk by io_uring",
            "acknowledged, on flash         1,000         3,000",
            "kept by the filter               100           300  10.0 %",
            "dropped by the filter            900         2,700  90.0 %",
            "device to ack                 1.9 ms        6.3 ms",
            "device to consumer                 -             -",
            "syncs                            200           600  5.00 records a sync",
            "    journal 1000 KiB/s\n",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
        assert!(!text.contains("segment"), "a cause without bytes needs no line\n{text}");
        for line in text.lines() {
            assert!(line.chars().count() <= 80 && line == line.trim_end(), "{line:?}");
        }
        assert!(
            text.lines().count() <= 22,
            "it fits a terminal of 24 lines with what stands above"
        );
    }

    #[test]
    fn a_line_tells_the_same_in_short() {
        let text = with_frame(line);
        for part in [
            "  15 s",
            "290/300 devices",
            "1,000 records/s in",
            "90 % dropped",
            "ack p50 1.9 ms p99 6.3 ms",
            "200 syncs/s",
        ] {
            assert!(text.contains(part), "{part:?} is missing in {text}");
        }
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn a_drawing_takes_the_place_of_the_last_one() {
        assert_eq!(redraw(0, "a\nb\n"), "\r\x1b[?7la\x1b[K\nb\x1b[K\n\x1b[J\x1b[?7h");
        assert!(redraw(2, "a\n").starts_with("\x1b[2A"));
    }

    #[test]
    fn history_is_bounded() {
        let mut history = History::default();
        let (a, b) = (figures(1), figures(2));
        let now = Interval::between(&a, &b, Duration::from_secs(1));
        (0..100).for_each(|_| history.push(&now));
        assert_eq!(history.incoming.len(), HISTORY);
    }
}
