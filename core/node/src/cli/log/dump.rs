//! `millpond log dump`: what is stored, in tables. Each has a limit; where it cuts, it says so.

use clap::Args;
use millpond_engine::PartitionKey;
use millpond_storage::disk::RealDisk;
use millpond_storage::offline::{
    BatchFacts, Checkpoint, CommitFacts, DataDir, EntryView, SegmentMeta, SegmentPiece,
    SegmentScan, TopicNames,
};
use millpond_wire::limits::DECOMPRESSED_BYTES_MAX;
use millpond_wire::record::LogBatch;
use serde_json::{Value, json};

use super::super::table::Table;
use super::super::{CliError, text};
use super::explain;
use crate::hex::hex;

/// Bytes of a key or value that a table shows.
const CELL_BYTES: usize = 60;

/// `millpond log dump`.
#[derive(Debug, Args)]
pub(super) struct DumpArgs {
    /// Only this topic.
    #[arg(long, short)]
    topic: Option<String>,
    /// Only this partition.
    #[arg(long, short)]
    partition: Option<i32>,
    /// Show the journal: commits and their entries.
    #[arg(long)]
    journal: bool,
    /// Show the batches of the segments.
    #[arg(long)]
    segments: bool,
    /// Show the checkpoint, with its topics and segments [default].
    #[arg(long)]
    checkpoint: bool,
    /// Show the records of the segments.
    #[arg(long)]
    records: bool,
    /// Begin with this offset.
    #[arg(long, default_value_t = 0, value_name = "OFFSET")]
    from_offset: i64,
    /// Most rows of a table.
    #[arg(long, default_value_t = 1_000, value_name = "ROWS")]
    limit: usize,
}

/// Rows for a table and for JSON at once, no more than the limit.
struct Rows<const N: usize> {
    title: &'static str,
    header: [&'static str; N],
    rows: Vec<([String; N], Value)>,
    limit: usize,
    is_cut: bool,
}

impl<const N: usize> Rows<N> {
    fn new(title: &'static str, header: [&'static str; N], args: &DumpArgs) -> Self {
        Self { title, header, rows: Vec::new(), limit: args.limit, is_cut: false }
    }

    /// False once the limit is met.
    fn add(&mut self, cells: [String; N], value: Value) -> bool {
        self.is_cut |= self.rows.len() >= self.limit;
        if !self.is_cut {
            self.rows.push((cells, value));
        }
        !self.is_cut
    }

    fn finish(self, out: &mut Output) {
        let mut table = Table::new(self.header);
        let mut values = Vec::new();
        for (cells, value) in self.rows {
            table.row(cells);
            values.push(value);
        }
        let mut text = format!("{}\n{}", self.title, table.render());
        if self.is_cut {
            text.push_str("... and more: raise --limit, or begin later with --from-offset\n");
        }
        out.add(self.title, text, json!(values));
    }
}

/// What is printed at the end.
#[derive(Default)]
struct Output {
    text: String,
    json: serde_json::Map<String, Value>,
}

impl Output {
    fn add(&mut self, name: &str, text: String, value: Value) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(&text);
        self.json.insert(name.to_lowercase(), value);
    }
}

/// Which partitions are shown.
struct Wanted<'a> {
    args: &'a DumpArgs,
    names: &'a TopicNames,
}

impl Wanted<'_> {
    fn is_wanted(&self, key: PartitionKey) -> bool {
        let topic = self.args.topic.as_deref();
        topic.is_none_or(|topic| self.names.name(key.topic_id) == topic)
            && self.args.partition.is_none_or(|partition| partition == key.partition)
    }

    fn is_all(&self) -> bool {
        self.args.topic.is_none() && self.args.partition.is_none()
    }
}

/// Runs the command.
pub(super) async fn run(
    dir: &DataDir<RealDisk>,
    args: &DumpArgs,
    as_json: bool,
) -> Result<(), CliError> {
    let checkpoint = dir.checkpoint().await.map_err(|e| explain(&e))?;
    let names = TopicNames::of_snapshot(checkpoint.snapshot.clone())
        .map_err(|e| CliError::failed(e.to_string()).hint("`millpond log verify` says more"))?;
    let names = newest_names(dir, &checkpoint, names).await;
    let wanted = Wanted { args, names: &names };
    let mut out = Output::default();
    let is_default = !(args.journal || args.segments || args.records);
    if args.checkpoint || is_default {
        show_checkpoint(&checkpoint, &wanted, &mut out);
    }
    if args.journal {
        show_journal(dir, &checkpoint, &wanted, &mut out).await?;
    }
    if args.segments {
        show_batches(dir, &checkpoint, &wanted, &mut out).await?;
    }
    if args.records {
        show_records(dir, &checkpoint, &wanted, &mut out).await?;
    }
    match as_json {
        true => text::print_json(&out.json),
        false => text::print(&out.text),
    }
}

/// Topics that were made after the checkpoint stand in the journal only. One that cannot be read
/// names nothing.
async fn newest_names(
    dir: &DataDir<RealDisk>,
    checkpoint: &Checkpoint,
    names: TopicNames,
) -> TopicNames {
    let Ok(mut journal) = dir.journal(checkpoint, names.clone()).await else { return names };
    let _ = journal.commits(|_, _| true).await;
    journal.names().clone()
}

fn show_checkpoint(checkpoint: &Checkpoint, wanted: &Wanted<'_>, out: &mut Output) {
    let resume = &checkpoint.resume;
    let (segments, snapshot) = (checkpoint.segments.len(), checkpoint.snapshot.len());
    let text = format!(
        "CHECKPOINT {}\n  journal     {:016x}\n  resume      commit {}, entry {}, position {}, \
         incarnation {}\n  segments    {segments}\n  snapshot    {}\n",
        checkpoint.number,
        checkpoint.journal_id,
        resume.commit,
        resume.next_entry,
        resume.position,
        resume.incarnation,
        text::bytes(snapshot as u64)
    );
    let value = json!({
        "number": checkpoint.number,
        "journal_id": format!("{:016x}", checkpoint.journal_id),
        "resume_commit": resume.commit,
        "resume_entry": resume.next_entry,
        "resume_position": resume.position.0,
        "incarnation": resume.incarnation,
        "segments": segments,
        "snapshot_bytes": snapshot,
    });
    out.add("CHECKPOINT", text, value);
    show_logs(checkpoint, wanted, out);
    show_segments(checkpoint, wanted, out);
}

fn show_logs(checkpoint: &Checkpoint, wanted: &Wanted<'_>, out: &mut Output) {
    let header = ["TOPIC", "PARTITION", "FIRST", "NEXT", "SEGMENTS", "BYTES"];
    let mut rows = Rows::new("PARTITIONS", header, wanted.args);
    for (key, (start, end)) in wanted.names.logs().filter(|(key, _)| wanted.is_wanted(*key)) {
        let metas = checkpoint.segments.of(key);
        let bytes: u64 = metas.iter().map(|meta| meta.trusted_bytes).sum();
        let topic = wanted.names.name(key.topic_id);
        let value = json!({
            "topic": topic, "topic_id": key.topic_id.to_string(), "partition": key.partition,
            "log_start": start, "log_end": end, "segments": metas.len(), "bytes": bytes,
        });
        let numbers = [start, end].map(|n| n.to_string());
        let [start, end] = numbers;
        let (count, partition) = (metas.len().to_string(), key.partition.to_string());
        rows.add([topic, partition, start, end, count, bytes.to_string()], value);
    }
    rows.finish(out);
}

fn show_segments(checkpoint: &Checkpoint, wanted: &Wanted<'_>, out: &mut Output) {
    let header = ["TOPIC", "PARTITION", "BASE", "END", "BYTES", "NEWEST RECORD"];
    let mut rows = Rows::new("SEGMENTS", header, wanted.args);
    for (key, meta) in checkpoint.segments.iter().filter(|(key, _)| wanted.is_wanted(*key)) {
        let topic = wanted.names.name(key.topic_id);
        let value = json!({
            "topic": topic, "partition": key.partition, "base_offset": meta.base_offset,
            "end_offset": meta.end_offset, "trusted_bytes": meta.trusted_bytes,
            "max_timestamp_ms": meta.max_timestamp,
        });
        rows.add(
            [
                topic,
                key.partition.to_string(),
                meta.base_offset.to_string(),
                meta.end_offset.to_string(),
                meta.trusted_bytes.to_string(),
                text::utc(meta.max_timestamp),
            ],
            value,
        );
    }
    rows.finish(out);
}

async fn show_journal(
    dir: &DataDir<RealDisk>,
    checkpoint: &Checkpoint,
    wanted: &Wanted<'_>,
    out: &mut Output,
) -> Result<(), CliError> {
    let opened = dir.journal(checkpoint, wanted.names.clone()).await;
    let mut journal = opened.map_err(|e| explain(&e))?;
    let header = ["FILE", "AT", "COMMIT", "ENTRIES", "BYTES", "DURABLE", "START", "CHAIN"];
    let mut commits = Rows::new("COMMITS", header, wanted.args);
    let mut entries =
        Rows::new("ENTRIES", ["COMMIT", "ENTRY", "BYTES", "CRC", "WHAT"], wanted.args);
    let shown = journal.commits(|commit, found| {
        let mut goes_on = true;
        let is_of = |entry: &EntryView| {
            wanted.is_all() || entry.partitions.iter().any(|key| wanted.is_wanted(*key))
        };
        for entry in found.iter().filter(|entry| is_of(entry)) {
            goes_on &= add_entry(&mut entries, commit.header.number, entry);
        }
        goes_on | add_commit(&mut commits, commit)
    });
    shown.await.map_err(|e| explain(&e.into()))?;
    commits.finish(out);
    entries.finish(out);
    Ok(())
}

fn add_commit(rows: &mut Rows<8>, commit: &CommitFacts) -> bool {
    let header = &commit.header;
    let value = json!({
        "file": commit.file, "offset_bytes": commit.offset_bytes, "commit": header.number,
        "first_entry": header.first_entry, "entries": header.entry_count,
        "bytes": commit.len_bytes, "durable_commit": header.durable_number,
        "incarnation": header.incarnation, "fault": commit.fault,
    });
    let cells = [
        commit.file.clone(),
        commit.offset_bytes.to_string(),
        header.number.to_string(),
        header.entry_count.to_string(),
        commit.len_bytes.to_string(),
        header.durable_number.to_string(),
        header.incarnation.to_string(),
        commit.fault.unwrap_or("ok").to_owned(),
    ];
    rows.add(cells, value)
}

fn add_entry(rows: &mut Rows<5>, commit: u64, entry: &EntryView) -> bool {
    let value = json!({
        "commit": commit, "entry": entry.seq, "bytes": entry.len_bytes, "whole": entry.is_whole,
        "facts": entry.facts,
    });
    let is_whole = if entry.is_whole { "ok" } else { "BAD" };
    let cells = [
        commit.to_string(),
        entry.seq.to_string(),
        entry.len_bytes.to_string(),
        is_whole.to_owned(),
        entry.facts.join("; "),
    ];
    rows.add(cells, value)
}

/// Gives every piece of the wanted segments to `show`, until it says to stop.
async fn for_each_piece(
    dir: &DataDir<RealDisk>,
    checkpoint: &Checkpoint,
    wanted: &Wanted<'_>,
    mut show: impl AsyncFnMut(
        PartitionKey,
        &SegmentPiece,
        &mut SegmentScan<millpond_storage::disk::RealFile>,
    ) -> Result<bool, CliError>,
) -> Result<(), CliError> {
    let from = wanted.args.from_offset;
    let is_wanted =
        |key: PartitionKey, meta: &SegmentMeta| wanted.is_wanted(key) && meta.end_offset > from;
    for (key, meta) in checkpoint.segments.iter().filter(|(key, meta)| is_wanted(*key, meta)) {
        let opened = SegmentScan::open(dir.disk(), key, *meta).await;
        let Some(mut scan) = opened.map_err(|e| explain(&e.into()))? else {
            continue;
        };
        while let Some(piece) = scan.next().await.map_err(|e| explain(&e.into()))? {
            let last = match &piece {
                SegmentPiece::Batch(facts) => facts.header.last_offset(),
                SegmentPiece::Damage { offsets, .. } => offsets.1,
            };
            if last >= from && !show(key, &piece, &mut scan).await? {
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn show_batches(
    dir: &DataDir<RealDisk>,
    checkpoint: &Checkpoint,
    wanted: &Wanted<'_>,
    out: &mut Output,
) -> Result<(), CliError> {
    let header = [
        "PARTITION",
        "AT",
        "FIRST",
        "LAST",
        "RECORDS",
        "CODEC",
        "BYTES",
        "NEWEST RECORD",
        "PRODUCER",
        "CRC",
    ];
    let mut rows = Rows::new("BATCHES", header, wanted.args);
    let names = wanted.names;
    for_each_piece(dir, checkpoint, wanted, async |key, piece, _| {
        Ok(match piece {
            SegmentPiece::Batch(facts) => add_batch(&mut rows, names, key, facts),
            SegmentPiece::Damage { at_bytes, len_bytes, offsets, what } => {
                let value = json!({
                    "topic": names.name(key.topic_id), "partition": key.partition,
                    "at_bytes": at_bytes, "bytes": len_bytes, "from_offset": offsets.0,
                    "upto_offset": offsets.1, "fault": what,
                });
                let dash = || "-".to_owned();
                let cells = [
                    names.partition(key),
                    at_bytes.to_string(),
                    offsets.0.to_string(),
                    (offsets.1 - 1).to_string(),
                    dash(),
                    dash(),
                    len_bytes.to_string(),
                    dash(),
                    dash(),
                    format!("BAD: {what}"),
                ];
                rows.add(cells, value)
            }
        })
    })
    .await?;
    rows.finish(out);
    Ok(())
}

fn add_batch(
    rows: &mut Rows<10>,
    names: &TopicNames,
    key: PartitionKey,
    facts: &BatchFacts,
) -> bool {
    let header = &facts.header;
    let codec = header.attributes.codec().map_or("unknown", |codec| codec.name());
    let producer = match header.has_producer() {
        true => format!("{}/{}", header.producer_id, header.producer_epoch),
        false => "-".to_owned(),
    };
    let value = json!({
        "topic": names.name(key.topic_id), "partition": key.partition, "at_bytes": facts.at_bytes,
        "bytes": facts.size_bytes, "base_offset": header.base_offset,
        "last_offset": header.last_offset(), "records": header.records_count, "codec": codec,
        "leader_epoch": header.partition_leader_epoch, "base_timestamp_ms": header.base_timestamp,
        "max_timestamp_ms": header.max_timestamp, "producer_id": header.producer_id,
        "producer_epoch": header.producer_epoch, "base_sequence": header.base_sequence,
        "attributes": header.attributes.bits(),
    });
    let cells = [
        names.partition(key),
        facts.at_bytes.to_string(),
        header.base_offset.to_string(),
        header.last_offset().to_string(),
        header.records_count.to_string(),
        codec.to_owned(),
        facts.size_bytes.to_string(),
        text::utc(header.max_timestamp),
        producer,
        "ok".to_owned(),
    ];
    rows.add(cells, value)
}

async fn show_records(
    dir: &DataDir<RealDisk>,
    checkpoint: &Checkpoint,
    wanted: &Wanted<'_>,
    out: &mut Output,
) -> Result<(), CliError> {
    let header = ["PARTITION", "OFFSET", "TIME", "KEY", "VALUE"];
    let mut rows = Rows::new("RECORDS", header, wanted.args);
    for_each_piece(dir, checkpoint, wanted, async |key, piece, scan| {
        let SegmentPiece::Batch(facts) = piece else { return Ok(true) };
        let raw = scan.batch(facts).await.map_err(|e| explain(&e.into()))?;
        add_records(&mut rows, wanted, key, raw)
    })
    .await?;
    rows.finish(out);
    Ok(())
}

fn add_records(
    rows: &mut Rows<5>,
    wanted: &Wanted<'_>,
    key: PartitionKey,
    raw: bytes::Bytes,
) -> Result<bool, CliError> {
    let failed = |error: &dyn std::error::Error| CliError::failed(error.to_string());
    let log_batch = LogBatch::parse(raw).map_err(|e| failed(&e))?;
    let batch = log_batch.to_batch().map_err(|e| failed(&e))?;
    let section = batch.decompress(DECOMPRESSED_BYTES_MAX).map_err(|e| failed(&e))?;
    for record in batch.records(&section) {
        let record = record.map_err(|e| failed(&e))?;
        let offset = log_batch.base_offset() + i64::from(record.offset_delta);
        if offset < wanted.args.from_offset {
            continue;
        }
        let value = json!({
            "topic": wanted.names.name(key.topic_id), "partition": key.partition,
            "offset": offset, "timestamp_ms": record.timestamp,
            "key": record.key.map(as_json), "value": record.value.map(as_json),
        });
        let cells = [
            wanted.names.partition(key),
            offset.to_string(),
            text::utc(record.timestamp),
            record.key.map_or("-".to_owned(), cell),
            record.value.map_or("(none)".to_owned(), cell),
        ];
        if !rows.add(cells, value) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Text as a string; anything else as `{"hex": ...}`.
fn as_json(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "hex": hex(bytes) }),
    }
}

/// One line, no longer than a table can bear; control characters escaped.
fn cell(bytes: &[u8]) -> String {
    let shown = bytes.get(..CELL_BYTES).unwrap_or(bytes);
    let more = if shown.len() < bytes.len() { "..." } else { "" };
    format!("{}{more}", shown.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_one_printable_line() {
        assert_eq!(cell(b"a\nb\xff"), "a\\nb\\xff");
        assert_eq!(cell(&[b'x'; 200]).len(), CELL_BYTES + 3);
    }
}
