//! `millpond transform try`: what a module would do with real records, and at what cost, before it
//! touches any. It reads from a topic or a file, runs the module in this process and changes nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use millpond_client::{Consumer, OffsetReset};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::json_record::{JsonRecord, shown};
use super::super::{Bootstrap, CliError, text};
use super::local::{self, Local, Ran};
use millpond_http::Description;

/// How long one question for records waits.
const POLL: Duration = Duration::from_millis(500);
/// Records of a partition that go through the module together.
const BATCH_RECORDS: usize = 500;
/// Largest file of records that is read.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// A value is shown up to here.
const SHOWN_CHARS: usize = 160;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  millpond transform try --module hot.wasm --topic readings --set limit=70
  millpond transform try --module new.wasm --against old.wasm --topic readings --count 10000
  millpond consume readings -f -n 1000 --json > recorded.jsonl
  millpond transform try --module hot.wasm --records recorded.jsonl

The records of each partition go through the module in order, as in a node; the module's clock is
that of the records, so the same records give the same result here and there.")]
pub(super) struct TryArgs {
    #[command(flatten)]
    bootstrap: Bootstrap,
    /// The module, a .wasm file, or a project in which it was built.
    #[arg(long, short, default_value = ".", value_name = "MODULE")]
    module: PathBuf,
    /// Another module (the one in force, say): show only what differs between the two.
    #[arg(long, value_name = "MODULE")]
    against: Option<PathBuf>,
    /// Records of this topic.
    #[arg(long, short, required_unless_present = "records")]
    topic: Option<String>,
    /// Recorded records: what `millpond consume --json` wrote.
    #[arg(long, value_name = "FILE", conflicts_with = "topic")]
    records: Option<PathBuf>,
    /// So many records at most.
    #[arg(long, short = 'n', default_value_t = 1000)]
    count: usize,
    /// Wait for new records instead of beginning with the oldest.
    #[arg(long, conflicts_with = "records")]
    live: bool,
    /// Another topic that it may send records to; may be repeated.
    #[arg(long = "output", value_name = "TOPIC")]
    outputs: Vec<String>,
    /// A setting for the module, KEY=VALUE; may be repeated.
    #[arg(long = "set", short, value_name = "KEY=VALUE", value_parser = super::key_value)]
    settings: Vec<(String, String)>,
    /// A limit, NAME=NUMBER; may be repeated.
    #[arg(long = "limit", value_name = "NAME=NUMBER", value_parser = super::key_number)]
    limits: Vec<(String, u64)>,
    /// Its name on the node: the module's randomness depends on it.
    #[arg(long, default_value = "try")]
    name: String,
    /// Records that each partition gave to transforms before these: the randomness depends on it.
    #[arg(long, default_value_t = 0, value_name = "RECORDS")]
    first_input: u64,
    /// So many differences are shown.
    #[arg(long, default_value_t = 20)]
    show: usize,
}

/// What was done with all records.
#[derive(Default)]
struct Total {
    records: u64,
    kept: u64,
    dropped: u64,
    emitted: u64,
    failed: u64,
    refused: u64,
    cpu: Duration,
    to: BTreeMap<String, u64>,
    differences: Vec<Difference>,
    more: u64,
}

/// A record that does not come out as it went in, or as it comes out of the other module.
struct Difference {
    record: JsonRecord,
    before: Vec<JsonRecord>,
    after: Vec<JsonRecord>,
    why: Option<String>,
}

pub(super) async fn run(args: TryArgs, json: bool) -> Result<(), CliError> {
    let records = match &args.records {
        Some(file) => recorded(file, args.count)?,
        None => consumed(&args).await?,
    };
    if records.is_empty() {
        return Err(CliError::failed("there are no records to try it on"));
    }
    let topic = args.topic.clone().or_else(|| records.first().and_then(|r| r.topic.clone()));
    let topic = topic.unwrap_or_else(|| "test".to_owned());
    let description = Description {
        name: args.name.clone(),
        topics: vec![topic.clone()],
        outputs: args.outputs.clone(),
        settings: args.settings.iter().cloned().collect(),
        limits: args.limits.iter().cloned().collect(),
        ..Description::default()
    };
    let total = measure(&args, &description, &topic, records).await?;
    if json {
        return text::print_json(&total.to_json());
    }
    text::print(&total.to_text(&topic))
}

/// In order of partitions, those of each in order.
async fn measure(
    args: &TryArgs,
    description: &Description,
    topic: &str,
    records: Vec<JsonRecord>,
) -> Result<Total, CliError> {
    let module = local::load(&super::project::module_of(&args.module)?, description).await?;
    let other = match &args.against {
        Some(other) => Some(local::load(&super::project::module_of(other)?, description).await?),
        None => None,
    };
    let mut partitions: BTreeMap<i32, Vec<JsonRecord>> = BTreeMap::new();
    for record in records {
        partitions.entry(record.partition.unwrap_or(0)).or_default().push(record);
    }
    let mut total = Total::default();
    for (partition, records) in partitions {
        let partition = |module| Local::new(module, topic, partition, args.first_input);
        let (mut whole, mut single) = (partition(&module)?, partition(&module)?);
        let mut before = other.as_ref().map(partition).transpose()?;
        for batch in records.chunks(BATCH_RECORDS) {
            total.add(batch.len(), &whole.run(batch).await?);
        }
        for record in records {
            let ran = single.run(std::slice::from_ref(&record)).await?;
            let before = match &mut before {
                Some(before) => before.run(std::slice::from_ref(&record)).await?.outputs,
                None if ran.is_untouched => continue,
                None => vec![JsonRecord { offset: None, partition: None, ..record.clone() }],
            };
            total.compare(record, before, ran, args.show);
        }
    }
    Ok(total)
}

impl Total {
    fn add(&mut self, records: usize, ran: &Ran) {
        self.records += records as u64;
        self.kept += ran.kept;
        self.dropped += ran.dropped;
        self.emitted += ran.emitted;
        self.failed += ran.failed;
        self.refused += u64::from(ran.refused.is_some());
        self.cpu += ran.cpu;
        for output in &ran.outputs {
            *self.to.entry(output.topic.clone().unwrap_or_default()).or_default() += 1;
        }
    }

    fn compare(&mut self, record: JsonRecord, before: Vec<JsonRecord>, ran: Ran, show: usize) {
        if before == ran.outputs && ran.refused.is_none() {
            return;
        }
        if self.differences.len() >= show {
            self.more += 1;
            return;
        }
        let why = ran.refused.or_else(|| ran.logs.first().map(|line| line.text.clone()));
        self.differences.push(Difference { record, before, after: ran.outputs, why });
    }

    fn cost_ns(&self) -> u128 {
        self.cpu.as_nanos() / u128::from(self.records.max(1))
    }

    fn to_json(&self) -> Value {
        let all = |records: &[JsonRecord]| -> Vec<Value> {
            records.iter().map(JsonRecord::to_json).collect()
        };
        let difference = |d: &Difference| {
            json!({ "record": d.record.to_json(), "before": all(&d.before),
                    "after": all(&d.after), "why": d.why })
        };
        json!({
            "records": self.records, "kept": self.kept, "dropped": self.dropped,
            "emitted": self.emitted, "failed": self.failed, "batches_refused": self.refused,
            "ns_per_record": u64::try_from(self.cost_ns()).unwrap_or(u64::MAX),
            "stored": self.to,
            "differences": self.differences.iter().map(difference).collect::<Vec<_>>(),
            "differences_not_shown": self.more,
        })
    }

    fn to_text(&self, topic: &str) -> String {
        let mut out = format!(
            "{} records of {topic}: {} kept as they are, {} dropped, {} made, {} failed\n",
            self.records, self.kept, self.dropped, self.emitted, self.failed
        );
        for (topic, count) in &self.to {
            out.push_str(&format!("  {count} would be stored in {topic}\n"));
        }
        if self.refused > 0 {
            out.push_str(&format!("  {} batches would be refused\n", self.refused));
        }
        let ns = self.cost_ns();
        out.push_str(&format!("  {}.{:03} us of processor time a record\n", ns / 1000, ns % 1000));
        for difference in &self.differences {
            difference.write(topic, &mut out);
        }
        if self.more > 0 {
            out.push_str(&format!("... and {} more; --show N shows them\n", self.more));
        }
        out
    }
}

impl Difference {
    /// What goes with `-`, what comes with `+`.
    fn write(&self, topic: &str, out: &mut String) {
        let record = &self.record;
        let place = match (record.partition, record.offset) {
            (Some(partition), Some(offset)) => format!("{topic}-{partition} at {offset}"),
            _ => topic.to_owned(),
        };
        out.push_str(&format!("\n{place}\n"));
        for (sign, records) in [('-', &self.before), ('+', &self.after)] {
            for record in records {
                out.push_str(&format!("  {sign} {}\n", line(record, topic)));
            }
        }
        if let Some(why) = &self.why {
            out.push_str(&format!("  ! {why}\n"));
        }
    }
}

/// Topic if it is another one, key, value.
fn line(record: &JsonRecord, topic: &str) -> String {
    let mut line = match record.topic.as_deref() {
        Some(other) if other != topic => format!("({other}) "),
        _ => String::new(),
    };
    if record.key.is_some() {
        line.push_str(&format!("{}: ", shown(record.key.as_deref())));
    }
    let value = shown(record.value.as_deref()).to_string();
    line.extend(value.chars().take(SHOWN_CHARS));
    if value.chars().nth(SHOWN_CHARS).is_some() {
        line.push_str("...");
    }
    line
}

fn recorded(file: &std::path::Path, count: usize) -> Result<Vec<JsonRecord>, CliError> {
    let wrong = |error: String| CliError::usage(format!("{}: {error}", file.display()));
    let size = std::fs::metadata(file).map_err(|e| wrong(e.to_string()))?.len();
    if size > FILE_BYTES_MAX {
        return Err(wrong(format!("more than {FILE_BYTES_MAX} bytes")));
    }
    let text = std::fs::read_to_string(file).map_err(|e| wrong(e.to_string()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).take(count);
    let read = |(index, line): (usize, &str)| {
        let value = serde_json::from_str(line).map_err(|e| e.to_string());
        let record = value.and_then(|value| JsonRecord::parse(&value));
        record.map_err(|e| wrong(format!("line {}: {e}", index + 1)))
    };
    lines.map(read).collect()
}

async fn consumed(args: &TryArgs) -> Result<Vec<JsonRecord>, CliError> {
    let topic = args.topic.as_deref().unwrap_or_default();
    let reset = if args.live { OffsetReset::Latest } else { OffsetReset::Earliest };
    let builder = Consumer::builder().offset_reset(reset).topic(topic);
    let config = args.bootstrap.config()?;
    let mut consumer = builder.connect(config).await.map_err(|e| args.bootstrap.explain(&e))?;
    let mut records = Vec::new();
    let mut last = Instant::now();
    while records.len() < args.count {
        let polled = tokio::select! {
            polled = consumer.poll(POLL) => polled.map_err(|e| args.bootstrap.explain(&e))?,
            _ = tokio::signal::ctrl_c() => break,
        };
        // Nothing for a while: that is all there is, unless new ones are awaited.
        if polled.is_empty() && !args.live && last.elapsed() > 3 * POLL {
            break;
        }
        if !polled.is_empty() {
            last = Instant::now();
        }
        let room = args.count - records.len();
        records.extend(polled.iter().take(room).map(JsonRecord::of));
    }
    consumer.close().await.map_err(|e| args.bootstrap.explain(&e))?;
    Ok(records)
}
