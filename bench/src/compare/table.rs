//! A comparison in words and columns: for a terminal, and as Markdown. Shows what Millpond lost as
//! plainly as what it won.

use std::fmt::Write;

use crate::compare::results::{BASE, Better, Comparison, Row, Value};
use crate::report::number;
use crate::spread::Spread;

/// For a terminal.
pub(crate) fn text(comparison: &Comparison) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "\n{}: {}", comparison.workload.name(), comparison.what);
    for contestant in &comparison.contestants {
        let promise = &contestant.promise;
        let _ = writeln!(
            out,
            "  {:18}  {} ({}). Acknowledged: {}. A power cut takes: {}.",
            contestant.peer.name(),
            contestant.version,
            promise.settings,
            promise.acknowledged,
            promise.lost,
        );
    }
    let _ = writeln!(
        out,
        "  {:18}  {:>10} {:>10} {:>10}  {:14} {:>3}  millpond / it",
        "", "min", "median", "max", "", "n"
    );
    for row in &comparison.rows {
        let _ = writeln!(out, "{}: {}", row.case, row.measure);
        for value in &row.values {
            let Spread { min, median, max, samples } = value.spread;
            let line = format!(
                "  {:18}  {:>10} {:>10} {:>10}  {:14} {samples:>3}  {}{}",
                value.label,
                number(min),
                number(median),
                number(max),
                row.unit,
                value.ratio.map(spread_text).unwrap_or_default(),
                verdict(comparison, value).map(|text| format!("  {text}")).unwrap_or_default(),
            );
            let _ = writeln!(out, "{}", line.trim_end());
        }
    }
    for failure in &comparison.failures {
        let _ = writeln!(out, "{}: {} FAILED: {}", failure.case, failure.label, failure.why);
    }
    out
}

/// As a section of a page, with a table for each case.
pub(crate) fn markdown(comparison: &Comparison) -> String {
    let mut out = format!("\n## {}\n\n{}.\n", comparison.workload.name(), comparison.what);
    let machine = &comparison.machine;
    let _ = writeln!(
        out,
        "\n`{}`\n\n{} cores ({}), {} MiB, {}, {}; in use by others: {:.0} % before, {:.0} % after.",
        comparison.command,
        machine.cores,
        machine.processor,
        machine.memory_mib,
        machine.kernel,
        machine.file_system,
        machine.busy_before * 100.0,
        machine.busy_after * 100.0,
    );
    if comparison.is_debug {
        out.push_str("**No release build: this shows that it works, and no more.**\n");
    }
    if comparison.is_quick {
        out.push_str("**A quick run: turns of about a second. A look, not a measurement.**\n");
    }
    if machine.was_busy() {
        out.push_str("**Something else used the processors: no goal is judged here.**\n");
    }
    let mut cases: Vec<&str> = comparison.rows.iter().map(|row| row.case.as_str()).collect();
    cases.dedup();
    for case in cases {
        let rows: Vec<&Row> = comparison.rows.iter().filter(|row| row.case == case).collect();
        let _ = writeln!(out, "\n### {}: {case}\n", comparison.workload.name());
        out.push_str(&case_table(&rows));
    }
    for failure in &comparison.failures {
        let why = failure.why.lines().next().unwrap_or_default();
        let _ = writeln!(
            out,
            "\n**{}, {}: could not be measured**: {why}",
            failure.case, failure.label
        );
    }
    out
}

/// A column for each contender, two lines for each measure: what it is, and Millpond's by it.
fn case_table(rows: &[&Row]) -> String {
    let mut labels: Vec<&str> = Vec::new();
    for value in rows.iter().flat_map(|row| &row.values) {
        if !labels.contains(&value.label.as_str()) {
            labels.push(&value.label);
        }
    }
    let mut out = format!("| | {} |\n", labels.join(" | "));
    let _ = writeln!(out, "|---|{}", "---:|".repeat(labels.len()));
    for row in rows {
        let find = |label: &&str| row.values.iter().find(|value| value.label == **label);
        let cells: Vec<String> = labels
            .iter()
            .map(|label| find(label).map(|value| spread_text(value.spread)).unwrap_or_default())
            .collect();
        let unit = if row.unit.is_empty() { String::new() } else { format!(", {}", row.unit) };
        let _ = writeln!(out, "| {}{unit} | {} |", row.measure, cells.join(" | "));
        if row.values.iter().any(|value| value.ratio.is_some()) {
            let cells: Vec<String> = labels
                .iter()
                .map(|label| find(label).and_then(|value| value.ratio))
                .map(|ratio| ratio.map(|ratio| format!("*{} ×*", spread_text(ratio))))
                .map(Option::unwrap_or_default)
                .collect();
            let _ = writeln!(out, "| *Millpond / it* | {} |", cells.join(" | "));
        }
    }
    out
}

/// All that was asked for, and what became of it.
pub(crate) fn goals(comparisons: &[Comparison]) -> String {
    let mut out = String::from("| | | median | goal |\n|---|---|---:|---|\n");
    for comparison in comparisons {
        for (row, value) in values(comparison) {
            let Some(verdict) = verdict(comparison, value) else { continue };
            let (name, median) = match (value.ratio, value.ratio_goal) {
                (Some(ratio), Some(_)) => (format!("millpond / {}", value.label), ratio.median),
                _ => (value.label.clone(), value.spread.median),
            };
            let _ = writeln!(
                out,
                "| {}, {}: {} | {name} | {} | {verdict} |",
                comparison.workload.name(),
                row.case,
                row.measure,
                number(median),
            );
        }
    }
    out
}

/// What another did better, by the medians: one line for each case and measure, those who promise as much as
/// Millpond in bold.
pub(crate) fn losses(comparisons: &[Comparison]) -> String {
    let mut out = String::new();
    for comparison in comparisons {
        for row in &comparison.rows {
            let lost: Vec<String> = row
                .values
                .iter()
                .filter_map(|value| Some((value, value.ratio?.median)))
                .filter(|(_, ratio)| match row.better {
                    Better::More => *ratio < 1.0,
                    Better::Less => *ratio > 1.0,
                    Better::Neither => false,
                })
                .map(|(value, ratio)| {
                    let mark = if promises_as_much(comparison, &value.label) { "**" } else { "" };
                    format!("{} × {mark}{}{mark}", number(ratio), value.label)
                })
                .collect();
            if !lost.is_empty() {
                let (workload, lost) = (comparison.workload.name(), lost.join(", "));
                let _ = writeln!(out, "- {workload}, {}: {}: {lost}", row.case, row.measure);
            }
        }
    }
    if out.is_empty() { "Nowhere in what was measured.\n".to_owned() } else { out }
}

/// Whether somebody loses as little to a power cut as Millpond does.
fn promises_as_much(comparison: &Comparison, label: &str) -> bool {
    let promise = |label: &str| {
        let found = comparison.contestants.iter().find(|other| other.peer.name() == label);
        found.map(|contestant| &contestant.promise.lost)
    };
    promise(label).is_some() && promise(label) == promise(BASE)
}

fn values(comparison: &Comparison) -> impl Iterator<Item = (&Row, &Value)> {
    comparison.rows.iter().flat_map(|row| row.values.iter().map(move |value| (row, value)))
}

/// Whether a goal was met, where there is one.
fn verdict(comparison: &Comparison, value: &Value) -> Option<String> {
    let is_busy = comparison.machine.was_busy();
    match (value.ratio_goal.zip(value.ratio), value.goal) {
        (Some((goal, ratio)), _) => Some(goal.text(ratio.median, is_busy)),
        (None, Some(goal)) => Some(goal.text(value.spread.median, is_busy)),
        (None, None) => None,
    }
}

/// The middle, and how far it goes.
fn spread_text(spread: Spread) -> String {
    match spread.samples {
        1 => number(spread.median),
        _ => format!("{} ({}–{})", number(spread.median), number(spread.min), number(spread.max)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Workload;
    use crate::compare::results::{Board, Measure};
    use crate::machine::Machine;
    use crate::report::Target;

    fn comparison(busy: f64) -> Comparison {
        let mut board = Board::default();
        for (label, rate, memory) in [(BASE, 20.0, 9.0), ("kafka", 10.0, 5.0)] {
            board.add("1 partition", Measure::more("rate", "1/s"), label, rate);
            board.add("1 partition", Measure::less("memory", "MiB"), label, memory);
            board.add("1 partition", Measure::aside("flushes", ""), label, 1.0);
        }
        let machine = Machine {
            cores: 2,
            processor: "p".to_owned(),
            memory_mib: 1,
            kernel: "k".to_owned(),
            file_system: "f".to_owned(),
            backend: "b".to_owned(),
            busy_before: busy,
            busy_after: 0.0,
        };
        Comparison {
            workload: Workload::Bulk,
            what: "w".to_owned(),
            machine,
            command: "c".to_owned(),
            is_quick: false,
            is_debug: false,
            contestants: Vec::new(),
            rows: board.rows(|_, measure, label| {
                let goal = (measure, label) == ("rate", "kafka");
                (Some(Target::AtLeast(1.5)).filter(|_| goal), None)
            }),
            failures: Vec::new(),
        }
    }

    #[test]
    fn a_loss_is_named_and_a_win_is_not_among_them() {
        let losses = losses(&[comparison(0.0)]);
        assert_eq!(losses, "- bulk, 1 partition: memory: 1.80 × kafka\n");
    }

    #[test]
    fn goals_are_judged_by_ratio_unless_the_machine_was_busy() {
        assert!(goals(&[comparison(0.0)]).contains("| millpond / kafka | 2.00 | >= 1.50: met |"));
        assert!(goals(&[comparison(0.5)]).contains("not judged"));
    }

    #[test]
    fn each_measure_has_a_line_and_a_ratio_below_it() {
        let text = markdown(&comparison(0.0));
        assert!(text.contains("| | millpond | kafka |\n|---|---:|---:|\n"), "{text}");
        assert!(text.contains("| rate, 1/s | 20.0 | 10.0 |\n| *Millpond / it* |  | *2.00 ×* |"));
        assert!(text.contains("| flushes | 1.00 | 1.00 |\n"));
    }
}
