//! What is shown: one table for a person, or the same as JSON. Every line has its spread, and its
//! target where there is one. It must never round a miss into a hit.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::spread::Spread;

/// All that was measured in one run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Where.
    pub(crate) machine: Machine,
    /// The command that makes it again.
    pub(crate) command: String,
    /// What.
    pub(crate) figures: Vec<Figure>,
}

/// One figure: a few lines that belong together.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What was done, with the numbers that matter.
    pub(crate) what: String,
    /// What came out.
    pub(crate) lines: Vec<Line>,
}

/// One line.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    /// What it is.
    pub(crate) label: String,
    /// The samples.
    pub(crate) spread: Spread,
    /// Their unit; `x` for a ratio.
    pub(crate) unit: &'static str,
    /// What the median should reach.
    pub(crate) target: Option<Target>,
}

/// What a median should reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

impl Target {
    pub(crate) fn is_met(self, median: f64) -> bool {
        match self {
            Self::AtLeast(bound) => median >= bound,
            Self::AtMost(bound) => median <= bound,
        }
    }

    /// On a busy machine there is no verdict.
    pub(crate) fn text(self, median: f64, busy: bool) -> String {
        let met = match (busy, self.is_met(median)) {
            (true, _) => "not judged, the machine was busy",
            (false, true) => "met",
            (false, false) => "MISSED",
        };
        match self {
            Self::AtLeast(bound) => format!(">= {}: {met}", number(bound)),
            Self::AtMost(bound) => format!("<= {}: {met}", number(bound)),
        }
    }
}

impl Figure {
    pub(crate) fn new(name: &'static str, what: impl Into<String>) -> Self {
        Self { name, what: what.into(), lines: Vec::new() }
    }

    /// Adds a line, if there is something to show.
    pub(crate) fn line(
        &mut self,
        label: impl Into<String>,
        spread: Option<Spread>,
        unit: &'static str,
    ) {
        self.line_to(label, spread, unit, None);
    }

    /// Adds a line with a target.
    pub(crate) fn line_to(
        &mut self,
        label: impl Into<String>,
        spread: Option<Spread>,
        unit: &'static str,
        target: Option<Target>,
    ) {
        if let Some(spread) = spread {
            self.lines.push(Line { label: label.into(), spread, unit, target });
        }
    }
}

impl Report {
    /// The table.
    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        let machine = &self.machine;
        let _ = writeln!(
            out,
            "{} cores ({}), {} MiB, {}, {}, disk by {}; in use by others: {:.0} % before, {:.0} % after",
            machine.cores,
            machine.processor,
            machine.memory_mib,
            machine.kernel,
            machine.file_system,
            machine.backend,
            machine.busy_before * 100.0,
            machine.busy_after * 100.0,
        );
        if machine.was_busy() {
            out.push_str(
                "WARNING: something else used the processors; measure again on a quiet machine.\n",
            );
        }
        let labels = self.figures.iter().flat_map(|figure| &figure.lines);
        let width = labels.map(|line| line.label.chars().count()).max().unwrap_or(0);
        for figure in &self.figures {
            let _ = writeln!(out, "\n{}: {}", figure.name, figure.what);
            let _ = writeln!(
                out,
                "  {:width$}  {:>10} {:>10} {:>10}  {:<10} {:>3}",
                "", "min", "median", "max", "", "n"
            );
            for line in &figure.lines {
                let Spread { min, median, max, samples } = line.spread;
                let target = line.target.map(|target| target.text(median, machine.was_busy()));
                let target = target.unwrap_or_default();
                let _ = writeln!(
                    out,
                    "  {:width$}  {:>10} {:>10} {:>10}  {:<10} {samples:>3}  {target}",
                    line.label,
                    number(min),
                    number(median),
                    number(max),
                    line.unit,
                );
            }
        }
        let _ = writeln!(out, "\n{}", self.command);
        out.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    }
}

/// Three significant digits, or all before the point.
pub(crate) fn number(value: f64) -> String {
    let digits = match value.abs() {
        large if large >= 100.0 => 0,
        middle if middle >= 10.0 => 1,
        small if small >= 0.1 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_what_matters() {
        for (value, text) in [
            (123_456.7, "123457"),
            (99.44, "99.4"),
            (2.345, "2.35"),
            (0.0123, "0.012"),
            (0.0, "0.000"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_near_miss_is_a_miss() {
        assert!(Target::AtLeast(0.5).text(0.4999, false).contains("MISSED"));
        assert!(Target::AtLeast(0.5).text(0.5, false).contains(": met"));
        assert!(Target::AtMost(2.9).text(2.91, false).contains("MISSED"));
    }

    #[test]
    fn a_busy_machine_gives_no_verdict() {
        for median in [0.1, 0.9] {
            assert!(Target::AtLeast(0.5).text(median, true).contains("not judged"));
        }
    }

    #[test]
    fn a_line_without_samples_is_left_out() {
        let mut figure = Figure::new("x", "y");
        figure.line("nothing", Spread::of(&[]), "s");
        figure.line("something", Spread::of(&[1.0, 2.0]), "s");
        assert_eq!(figure.lines.len(), 1);
    }
}
