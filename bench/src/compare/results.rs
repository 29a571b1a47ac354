//! What a comparison found, as it is kept in a file and shown: rows of measures, each with a value for
//! every contender, its spread, and Millpond's ratio to it of neighbouring turns. Must never leave
//! out a row because Millpond lost it.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::compare::Workload;
use crate::error::{Context, Outcome};
use crate::machine::Machine;
use crate::peers::{Peer, Promise};
use crate::report::Target;
use crate::spread::Spread;

/// The file that comparisons are kept in.
const FILE: &str = "results.json";

/// Whose ratios to all others are told.
pub(crate) const BASE: &str = "millpond";

/// Whether much or little of it is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Better {
    More,
    Less,
    /// Neither: it explains others.
    Neither,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Measure {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    /// Whether it has a plot.
    pub(crate) is_plotted: bool,
}

impl Measure {
    pub(crate) const fn more(name: &'static str, unit: &'static str) -> Self {
        Self { name, unit, better: Better::More, is_plotted: false }
    }

    pub(crate) const fn less(name: &'static str, unit: &'static str) -> Self {
        Self { name, unit, better: Better::Less, is_plotted: false }
    }

    pub(crate) const fn aside(name: &'static str, unit: &'static str) -> Self {
        Self { name, unit, better: Better::Neither, is_plotted: false }
    }

    pub(crate) const fn plotted(self) -> Self {
        Self { is_plotted: true, ..self }
    }
}

/// What somebody reached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Value {
    /// A peer, or what else is measured beside them.
    pub(crate) label: String,
    pub(crate) spread: Spread,
    /// Millpond's value by this one, of neighbouring turns.
    pub(crate) ratio: Option<Spread>,
    /// What that should reach.
    pub(crate) ratio_goal: Option<Target>,
    /// What the value itself should reach.
    pub(crate) goal: Option<Target>,
}

/// One measure of one case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) case: String,
    pub(crate) measure: String,
    pub(crate) unit: String,
    pub(crate) better: Better,
    pub(crate) is_plotted: bool,
    pub(crate) values: Vec<Value>,
}

/// Who took part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Contestant {
    pub(crate) peer: Peer,
    pub(crate) version: String,
    pub(crate) promise: Promise,
}

/// Who could not be measured in a case, and why.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) case: String,
    pub(crate) label: String,
    pub(crate) why: String,
}

/// One workload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Comparison {
    pub(crate) workload: Workload,
    pub(crate) what: String,
    pub(crate) machine: Machine,
    pub(crate) command: String,
    /// Whether it was only a look.
    pub(crate) is_quick: bool,
    /// Whether the generator was built without the release profile.
    #[serde(default)]
    pub(crate) is_debug: bool,
    pub(crate) contestants: Vec<Contestant>,
    pub(crate) rows: Vec<Row>,
    pub(crate) failures: Vec<Failure>,
}

/// All workloads that were compared.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) comparisons: Vec<Comparison>,
}

impl Results {
    /// Those kept in a directory; none if there is no file.
    pub(crate) fn read(dir: &Path) -> Outcome<Self> {
        let path = dir.join(FILE);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).context(path.display().to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).context(path.display().to_string()),
        }
    }

    /// Takes in newer ones, each in the place of what was there of its workload.
    pub(crate) fn renew(&mut self, newer: Vec<Comparison>) {
        for comparison in newer {
            self.comparisons.retain(|older| older.workload != comparison.workload);
            self.comparisons.push(comparison);
        }
        self.comparisons.sort_by_key(|comparison| comparison.workload);
    }

    /// Keeps them in a directory.
    pub(crate) fn write(&self, dir: &Path) -> Outcome<()> {
        let path = dir.join(FILE);
        let mut text = serde_json::to_string_pretty(self).context("writing JSON")?;
        text.push('\n');
        fs::write(&path, text).context(path.display().to_string())
    }
}

/// What a ratio or a value should reach, if anything.
pub(crate) type Goal = Option<Target>;

/// Gathers samples.
#[derive(Default)]
pub(crate) struct Board {
    entries: Vec<Entry>,
    pub(crate) failures: Vec<Failure>,
}

struct Entry {
    case: String,
    measure: Measure,
    label: String,
    samples: Vec<f64>,
}

impl Board {
    /// One more sample.
    pub(crate) fn add(&mut self, case: &str, measure: Measure, label: &str, sample: f64) {
        let found = self
            .entries
            .iter_mut()
            .find(|entry| entry.case == case && entry.measure == measure && entry.label == label);
        match found {
            Some(entry) => entry.samples.push(sample),
            None => self.entries.push(Entry {
                case: case.to_owned(),
                measure,
                label: label.to_owned(),
                samples: vec![sample],
            }),
        }
    }

    /// Whether anything is said of somebody.
    pub(crate) fn knows(&self, label: &str) -> bool {
        self.entries.iter().any(|entry| entry.label == label)
            || self.failures.iter().any(|failure| failure.label == label)
    }

    /// Somebody could not be measured.
    pub(crate) fn fail(&mut self, case: &str, label: &str, why: &dyn std::fmt::Display) {
        eprintln!("  {case}, {label}: {why}");
        let (case, label) = (case.to_owned(), label.to_owned());
        self.failures.push(Failure { case, label, why: why.to_string() });
    }

    /// The rows, with what `goals` asks of (case, measure, label): of the ratio, of the value.
    pub(crate) fn rows(&self, goals: impl Fn(&str, &str, &str) -> (Goal, Goal)) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        for entry in &self.entries {
            let Entry { case, measure, label, samples } = entry;
            let Some(spread) = Spread::of(samples) else { continue };
            let base = self
                .entries
                .iter()
                .find(|base| base.case == *case && base.measure == *measure && base.label == BASE);
            let ratio = base
                .filter(|_| label != BASE && measure.better != Better::Neither)
                .and_then(|base| Spread::of_ratios(&base.samples, samples));
            let (ratio_goal, goal) = goals(case, measure.name, label);
            let ratio_goal = ratio_goal.filter(|_| ratio.is_some());
            let value = Value { label: label.clone(), spread, ratio, ratio_goal, goal };
            match rows.iter_mut().find(|row| row.case == *case && row.measure == measure.name) {
                Some(row) => row.values.push(value),
                None => rows.push(Row {
                    case: case.clone(),
                    measure: measure.name.to_owned(),
                    unit: measure.unit.to_owned(),
                    better: measure.better,
                    is_plotted: measure.is_plotted,
                    values: vec![value],
                }),
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Measure = Measure::more("rate", "1/s");

    #[test]
    fn ratios_are_of_neighbouring_turns_and_not_of_medians() {
        let mut board = Board::default();
        for (ours, theirs) in [(10.0, 5.0), (40.0, 10.0), (90.0, 30.0)] {
            board.add("x", RATE, BASE, ours);
            board.add("x", RATE, "kafka", theirs);
        }
        let rows = board
            .rows(|_, _, label| (Some(Target::AtLeast(2.0)).filter(|_| label == "kafka"), None));
        let [row] = rows.as_slice() else { panic!("{rows:?}") };
        let [ours, theirs] = row.values.as_slice() else { panic!("{row:?}") };
        assert_eq!((ours.ratio, ours.ratio_goal), (None, None));
        assert_eq!(theirs.ratio, Spread::of(&[2.0, 4.0, 3.0]));
        assert_eq!(theirs.ratio_goal, Some(Target::AtLeast(2.0)));
    }

    #[test]
    fn who_missed_a_round_has_no_ratio_and_nothing_is_asked_of_it() {
        let mut board = Board::default();
        board.add("x", RATE, BASE, 1.0);
        board.add("x", RATE, BASE, 1.0);
        board.add("x", RATE, "nats", 1.0);
        let rows = board.rows(|_, _, _| (Some(Target::AtLeast(2.0)), None));
        assert_eq!(rows[0].values[1].ratio, None);
        assert_eq!(rows[0].values[1].ratio_goal, None);
    }
}
