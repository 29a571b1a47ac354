//! `millpond log verify`: everything read, everything checked, nothing changed.

use std::io::{IsTerminal, Write};

use millpond_storage::disk::RealDisk;
use millpond_storage::offline::{DataDir, Finding, Progress, Report, verify};
use serde_json::{Value, json};

use super::super::table::Table;
use super::super::{CliError, text};
use super::explain;

/// Runs the command; fails if anything is damaged.
pub(super) async fn run(dir: &DataDir<RealDisk>, as_json: bool) -> Result<(), CliError> {
    let is_shown = std::io::stderr().is_terminal() && !as_json;
    let report = verify(dir, |progress| show_progress(is_shown, progress)).await;
    if is_shown {
        eprint!("\r\x1b[K");
    }
    let report = report.map_err(|e| explain(&e))?;
    match as_json {
        true => text::print_json(&to_json(&report))?,
        false => text::print(&render(&report))?,
    }
    match report.findings.damages() {
        0 => Ok(()),
        1 => Err(CliError::failed("1 damage was found")),
        n => Err(CliError::failed(format!("{n} damages were found"))),
    }
}

fn show_progress(is_shown: bool, progress: &Progress) {
    if is_shown {
        let (done, total) = (text::bytes(progress.done_bytes), text::bytes(progress.total_bytes));
        eprint!("\r\x1b[Ksegments: {done} of {total}");
        let _ = std::io::stderr().flush();
    }
}

fn render(report: &Report) -> String {
    let mut out = summary(report);
    if report.findings.kept().is_empty() {
        out.push_str("\nEverything is in order.\n");
        return out;
    }
    let mut table = Table::new(["", "PARTITION", "OFFSETS", "WHERE", "WHAT"]);
    for finding in report.findings.kept() {
        table.row([
            finding.severity.name().to_owned(),
            partition(report, finding).unwrap_or_else(|| "-".to_owned()),
            offsets(finding).unwrap_or_else(|| "-".to_owned()),
            place(finding),
            finding.what.clone(),
        ]);
    }
    out.push('\n');
    out.push_str(&table.render());
    let hidden =
        report.findings.damages() + report.findings.notes() - report.findings.kept().len() as u64;
    if hidden > 0 {
        out.push_str(&format!("and {hidden} more\n"));
    }
    out.push_str("\nWhat to do:\n");
    let mut remedies: Vec<_> = report
        .findings
        .kept()
        .iter()
        .filter(|finding| !finding.remedy.is_empty())
        .map(|finding| (finding.severity.name(), finding.remedy))
        .collect();
    remedies.sort_unstable();
    remedies.dedup();
    for (severity, remedy) in remedies {
        out.push_str(&format!("  {severity}: {remedy}\n"));
    }
    out
}

fn summary(report: &Report) -> String {
    let checkpoint = report.checkpoint.map_or("unreadable".to_owned(), |n| n.to_string());
    let journal = match &report.journal {
        Some(found) => {
            let bytes = text::bytes(found.bytes);
            format!("{} commits, {} entries, {bytes} to replay", found.commits, found.entries)
        }
        None => "cannot be replayed".to_owned(),
    };
    format!(
        "checkpoint  {checkpoint}\njournal     {journal}\nsegments    {} files, {}, {} batches, {} \
         records\n",
        report.segments,
        text::bytes(report.segment_bytes),
        report.batches,
        report.records
    )
}

pub(super) fn partition(report: &Report, finding: &Finding) -> Option<String> {
    finding.concern.partition.map(|key| report.names.partition(key))
}

/// A range of offsets, both ends included.
pub(super) fn offsets(finding: &Finding) -> Option<String> {
    let (from, upto) = finding.concern.offsets?;
    Some(match upto - from {
        ..=0 => "none".to_owned(),
        1 => from.to_string(),
        _ => format!("{from} to {}", upto - 1),
    })
}

fn place(finding: &Finding) -> String {
    let concern = &finding.concern;
    match (concern.file.as_str(), concern.offset_bytes) {
        ("", _) => "-".to_owned(),
        (file, None) => file.to_owned(),
        (file, Some(at)) => format!("{file} at byte {at}"),
    }
}

fn to_json(report: &Report) -> Value {
    let finding = |finding: &Finding| {
        let key = finding.concern.partition;
        json!({
            "severity": finding.severity.name(),
            "what": finding.what,
            "remedy": finding.remedy,
            "file": finding.concern.file,
            "offset_bytes": finding.concern.offset_bytes,
            "topic": key.map(|key| report.names.name(key.topic_id)),
            "topic_id": key.map(|key| key.topic_id.to_string()),
            "partition": key.map(|key| key.partition),
            "from_offset": finding.concern.offsets.map(|(from, _)| from),
            "upto_offset": finding.concern.offsets.map(|(_, upto)| upto),
        })
    };
    json!({
        "clean": report.is_clean(),
        "damages": report.findings.damages(),
        "notes": report.findings.notes(),
        "checkpoint": report.checkpoint,
        "journal": report.journal.as_ref().map(|found| json!({
            "commits": found.commits,
            "entries": found.entries,
            "bytes": found.bytes,
            "torn_tail": found.torn_tail,
        })),
        "segments": report.segments,
        "segment_bytes": report.segment_bytes,
        "batches": report.batches,
        "records": report.records,
        "findings": report.findings.kept().iter().map(finding).collect::<Vec<_>>(),
    })
}
