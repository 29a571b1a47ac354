//! RESULTS.md and its plots, of what was kept. Everything in them comes from results.json.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::compare::results::{Contestant, Results};
use crate::compare::{plot, table};
use crate::error::{Context, Outcome};

const PAGE: &str = "RESULTS.md";
const PLOTS: &str = "plots";

/// Writes the page and the plots into a directory.
pub(crate) fn write(dir: &Path, results: &Results) -> Outcome<()> {
    let plots = dir.join(PLOTS);
    fs::create_dir_all(&plots).context(format!("making {}", plots.display()))?;
    for comparison in &results.comparisons {
        if let Some(svg) = plot::svg(comparison) {
            let path = plots.join(format!("{}.svg", comparison.workload.name()));
            fs::write(&path, svg).context(path.display().to_string())?;
        }
    }
    let path = dir.join(PAGE);
    fs::write(&path, page(results)).context(path.display().to_string())
}

fn page(results: &Results) -> String {
    let mut out = String::from(
        "# Millpond beside others\n\n\
         Made by `millpond-bench compare` (bench/README.md says how it measures); `results.json` has all \
         numbers. One generator loads all contenders, which take turns; values are medians of the \
         turns with (least–greatest); ratios are of neighbouring turns. All on one machine, on \
         loopback, on the same file system, the generator included.\n\n",
    );
    if results.comparisons.iter().any(|comparison| comparison.is_quick) {
        out.push_str("**Parts of this are from a quick run; they say so.**\n\n");
    }
    out.push_str("## Who, and what each promises\n\n");
    out.push_str(
        "| | version | settings | acknowledged when | a power cut takes |\n|---|---|---|---|---|\n",
    );
    let mut told: Vec<&Contestant> = Vec::new();
    for contestant in results.comparisons.iter().flat_map(|comparison| &comparison.contestants) {
        if !told.iter().any(|other| other.peer == contestant.peer) {
            told.push(contestant);
        }
    }
    told.sort_by_key(|contestant| contestant.peer);
    for Contestant { peer, version, promise } in told {
        let _ = writeln!(
            out,
            "| {} | {version} | {} | {} | {} |",
            peer.name(),
            promise.settings,
            promise.acknowledged,
            promise.lost,
        );
    }
    let _ = write!(out, "\n## Goals\n\n{}", table::goals(&results.comparisons));
    out.push_str(
        "\n## Where others do better\n\nMillpond's median by theirs. Who loses as little as Millpond to a \
         power cut is in bold.\n\n",
    );
    out.push_str(&table::losses(&results.comparisons));
    for comparison in &results.comparisons {
        out.push_str(&table::markdown(comparison));
        if comparison.rows.iter().any(|row| row.is_plotted) {
            let name = comparison.workload.name();
            let _ = writeln!(out, "\n![{name}]({PLOTS}/{name}.svg)");
        }
    }
    out
}
