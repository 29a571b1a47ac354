//! `millpond log repair`: says what it would do; does it when told so.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use millpond_storage::disk::RealDisk;
use millpond_storage::offline::{DataDir, RepairPlan, RepairStep, plan_repair, repair};
use serde_json::{Value, json};

use super::super::table::Table;
use super::super::{CliError, text};
use super::explain;

/// `millpond log repair`.
#[derive(Debug, Args)]
pub(super) struct RepairArgs {
    /// Do it; without this it only says what it would do.
    #[arg(long)]
    yes: bool,
}

/// Runs the command; fails if damage is left.
pub(super) async fn run(
    dir: &DataDir<RealDisk>,
    args: &RepairArgs,
    as_json: bool,
) -> Result<(), CliError> {
    let plan = plan_repair(dir).await.map_err(|e| explain(&e))?;
    if !as_json {
        text::print(&render(&plan))?;
    }
    let is_acting = args.yes && !plan.is_empty();
    let kept_in = match is_acting {
        true => Some(repair(dir, &plan, &label()?).await.map_err(|e| explain(&e))?),
        false => None,
    };
    match as_json {
        true => text::print_json(&to_json(&plan, kept_in.as_deref()))?,
        false => text::print(&ending(&plan, kept_in.as_deref()))?,
    }
    match plan.refused.len() {
        0 => Ok(()),
        n => Err(CliError::failed(format!("{n} damages cannot be repaired here"))
            .hint("restore the directory from a backup or a replica, or keep it for an expert")),
    }
}

/// A name for this repair: the time, as part of a path.
fn label() -> Result<String, CliError> {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(|_| CliError::usage("the clock stands before 1970: set it first"))?;
    let ms = i64::try_from(since.as_millis()).unwrap_or(0);
    Ok(text::utc(ms).replace(' ', "T").replace(':', "-"))
}

fn render(plan: &RepairPlan) -> String {
    let mut out = String::new();
    if !plan.steps.is_empty() {
        let mut table = Table::new(["STEP", "PARTITION", "LOST OFFSETS", "FILE"]);
        for step in &plan.steps {
            table.row(cells(plan, step));
        }
        out.push_str(&table.render());
    }
    if !plan.refused.is_empty() {
        out.push_str("\nNot repaired by this command:\n");
        for finding in &plan.refused {
            out.push_str(&format!("  {}\n", finding.what));
        }
    }
    out
}

fn cells(plan: &RepairPlan, step: &RepairStep) -> [String; 4] {
    let dash = || "-".to_owned();
    match step {
        RepairStep::Rewrite { partition, file, lost, kept_batches } => [
            format!("write anew, keeping {kept_batches} batches"),
            plan.report.names.partition(*partition),
            ranges(lost),
            file.clone(),
        ],
        RepairStep::GiveUp { partition, lost } => [
            "go on without".to_owned(),
            plan.report.names.partition(*partition),
            ranges(&[*lost]),
            dash(),
        ],
        RepairStep::MoveAside { file } => ["move aside".to_owned(), dash(), dash(), file.clone()],
    }
}

/// Ranges with both ends included.
fn ranges(lost: &[(i64, i64)]) -> String {
    let one = |(from, upto): &(i64, i64)| match upto - from {
        1 => from.to_string(),
        _ => format!("{from}-{}", upto - 1),
    };
    match lost.is_empty() {
        true => "none".to_owned(),
        false => lost.iter().map(one).collect::<Vec<_>>().join(","),
    }
}

fn ending(plan: &RepairPlan, kept_in: Option<&str>) -> String {
    match kept_in {
        Some(dir) => format!(
            "\nDone. What was replaced is kept in {dir}; remove it when nobody needs it any more.\n\
             `millpond log verify` checks the result.\n"
        ),
        None if plan.is_empty() && plan.refused.is_empty() => {
            "There is nothing to repair.\n".into()
        }
        None if plan.is_empty() => String::new(),
        None => "\nNothing was changed. `millpond log repair --yes` does it. What it replaces is \
                 kept in quarantine/;\nthe lost offsets stay empty, and consumers pass over them.\n"
            .into(),
    }
}

fn to_json(plan: &RepairPlan, kept_in: Option<&str>) -> Value {
    let step = |step: &RepairStep| match step {
        RepairStep::Rewrite { partition, file, lost, kept_batches } => json!({
            "step": "rewrite", "topic": plan.report.names.name(partition.topic_id),
            "partition": partition.partition, "file": file, "lost": lost,
            "kept_batches": kept_batches,
        }),
        RepairStep::GiveUp { partition, lost } => json!({
            "step": "give_up", "topic": plan.report.names.name(partition.topic_id),
            "partition": partition.partition, "lost": [lost],
        }),
        RepairStep::MoveAside { file } => json!({ "step": "move_aside", "file": file }),
    };
    json!({
        "steps": plan.steps.iter().map(step).collect::<Vec<_>>(),
        "refused": plan.refused.iter().map(|f| f.what.as_str()).collect::<Vec<_>>(),
        "done": kept_in.is_some(),
        "kept_in": kept_in,
    })
}
