//! `millpond transform replay`: records that a transform failed on go back to where they came from,
//! as they were: the headers that tell of the failure are taken off. The position is a consumer
//! group's, so that a second replay goes on where the first one ended. A record whose replay is
//! interrupted between its write and the commit of the position is written twice by the next one.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use millpond_client::{Consumer, OffsetReset, Producer, Record};
use millpond_transform::Sha256;
use serde_json::json;
use tokio::time::Instant;

use super::super::json_record::JsonRecord;
use super::super::{Bootstrap, CliError, text};

/// How long one question for records waits.
const POLL: Duration = Duration::from_millis(500);
/// Names of headers that the host adds begin so.
const OURS: &[u8] = b"millpond.";

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  millpond transform replay readings.dead-letter --dry-run
  millpond transform replay readings.dead-letter
  millpond transform replay readings.dead-letter --transform hot --error 'no `temperature`'
  millpond transform replay readings.dead-letter --to inspected")]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    bootstrap: Bootstrap,
    /// The dead-letter topic.
    topic: String,
    /// Only records that this transform failed on.
    #[arg(long)]
    transform: Option<String>,
    /// Only records that this version failed on.
    #[arg(long)]
    of_version: Option<String>,
    /// Only records whose error has this text in it.
    #[arg(long)]
    error: Option<String>,
    /// Write them here [default: the topic and partition that each came to].
    #[arg(long, value_name = "TOPIC")]
    to: Option<String>,
    /// So many records at most.
    #[arg(long, short = 'n', value_name = "RECORDS")]
    count: Option<usize>,
    /// Only show what would be written; the position stays.
    #[arg(long)]
    dry_run: bool,
    /// The consumer group that remembers the position [default: one for each choice of records].
    #[arg(long)]
    group: Option<String>,
}

impl ReplayArgs {
    /// What one choice of records passes over, another one still finds.
    fn group(&self) -> String {
        let choice = [&self.transform, &self.of_version, &self.error];
        match (&self.group, choice.iter().any(|part| part.is_some())) {
            (Some(group), _) => group.clone(),
            (None, false) => "millpond-replay".to_owned(),
            (None, true) => {
                let hash = Sha256::of(format!("{choice:?}").as_bytes()).to_string();
                format!("millpond-replay-{}", hash.get(..12).unwrap_or_default())
            }
        }
    }
}

/// A dead letter, opened.
struct Letter {
    transform: String,
    version: String,
    error: String,
    topic: String,
    partition: i32,
    /// Without our headers.
    record: JsonRecord,
}

pub(super) async fn run(args: ReplayArgs, json: bool) -> Result<(), CliError> {
    let explain = |e: &millpond_client::ClientError| args.bootstrap.explain(e);
    let builder = Consumer::builder().offset_reset(OffsetReset::Earliest).topic(&*args.topic);
    // Looking leaves no trace, but begins where a replay would.
    let builder = builder.group(args.group());
    let mut consumer = builder.connect(args.bootstrap.config()?).await.map_err(|e| explain(&e))?;
    let producer = Producer::builder().connect(args.bootstrap.config()?).await;
    let producer = producer.map_err(|e| explain(&e))?;
    let done = replay(&args, &mut consumer, &producer, json).await;
    producer.close().await;
    let closed = consumer.close().await.map_err(|e| explain(&e));
    let (written, passed) = done?;
    closed?;
    if json {
        return Ok(());
    }
    let verb = if args.dry_run { "would be written" } else { "written" };
    text::print(&format!("{written} records {verb}, {passed} passed over\n"))
}

/// How many were written, and how many passed over.
async fn replay(
    args: &ReplayArgs,
    consumer: &mut Consumer,
    producer: &Producer,
    json: bool,
) -> Result<(u64, u64), CliError> {
    let explain = |e: millpond_client::ClientError| args.bootstrap.explain(&e);
    let (mut written, mut passed, mut last) = (0, 0, Instant::now());
    let mut left = args.count.unwrap_or(usize::MAX);
    while left > 0 {
        let records = consumer.poll(POLL).await.map_err(explain)?;
        if records.is_empty() {
            // Nothing for a while, once there are partitions: that is all.
            if last.elapsed() > 4 * POLL && !consumer.assignment().is_empty() {
                break;
            }
            continue;
        }
        last = Instant::now();
        let mut deliveries = Vec::new();
        let mut untouched = BTreeMap::new();
        for record in &records {
            if left == 0 {
                let place = (record.topic.clone(), record.partition);
                untouched.entry(place).or_insert(record.offset);
                continue;
            }
            let Some(letter) = Letter::open(record).filter(|letter| letter.is_wanted(args)) else {
                passed += 1;
                continue;
            };
            left -= 1;
            written += 1;
            show(&letter, args, json)?;
            if !args.dry_run {
                let sent = producer.send(letter.into_record(args.to.as_deref())).await;
                deliveries.push(sent.map_err(|e| CliError::failed(e.to_string()))?);
            }
        }
        producer.flush().await;
        for delivery in deliveries {
            delivery.await.map_err(|e| CliError::failed(e.to_string()))?;
        }
        for ((topic, partition), offset) in untouched {
            consumer.seek(topic, partition, offset).map_err(explain)?;
        }
        if !args.dry_run {
            consumer.commit().await.map_err(explain)?;
        }
    }
    Ok((written, passed))
}

fn show(letter: &Letter, args: &ReplayArgs, json: bool) -> Result<(), CliError> {
    let topic = args.to.as_deref().unwrap_or(&letter.topic);
    if json {
        let line = json!({
            "transform": letter.transform, "version": letter.version, "error": letter.error,
            "to": topic, "partition": letter.partition, "record": letter.record.to_json(),
        });
        return text::print(&format!("{line}\n"));
    }
    let value = super::super::json_record::shown(letter.record.value.as_deref());
    let value: String = value.to_string().chars().take(120).collect();
    text::print(&format!(
        "{topic}-{}  {}  ({} {}: {})\n",
        letter.partition, value, letter.transform, letter.version, letter.error
    ))
}

impl Letter {
    /// None if it is no dead letter of ours.
    fn open(record: &millpond_client::ConsumedRecord) -> Option<Self> {
        let mut record = JsonRecord::of(record);
        let headers = record.headers.take()?;
        // The host adds its own behind the record's: the last one counts.
        let said = |name: &str| {
            let found = headers.iter().rev().find(|(own, _)| own == name.as_bytes())?;
            String::from_utf8(found.1.clone()?).ok()
        };
        let letter = Self {
            transform: said("millpond.transform")?,
            version: said("millpond.version")?,
            error: said("millpond.error")?,
            topic: said("millpond.topic")?,
            partition: said("millpond.partition")?.parse().ok()?,
            record: JsonRecord::default(),
        };
        let own = headers.into_iter().filter(|(name, _)| !name.starts_with(OURS)).collect();
        record.headers = Some(own);
        (record.offset, record.partition, record.topic) = (None, None, None);
        Some(Self { record, ..letter })
    }

    fn is_wanted(&self, args: &ReplayArgs) -> bool {
        args.transform.as_ref().is_none_or(|name| *name == self.transform)
            && args.of_version.as_ref().is_none_or(|version| *version == self.version)
            && args.error.as_ref().is_none_or(|error| self.error.contains(error))
    }

    fn into_record(self, to: Option<&str>) -> Record {
        let mut record = match to {
            Some(topic) => Record::to(topic),
            None => Record::to(self.topic.as_str()).partition(self.partition),
        };
        record = self.record.key.into_iter().fold(record, Record::key);
        record = self.record.value.into_iter().fold(record, Record::value);
        record = self.record.timestamp_ms.into_iter().fold(record, Record::timestamp_ms);
        let headers = self.record.headers.unwrap_or_default();
        headers
            .into_iter()
            .fold(record, |record, (name, value)| record.header(name, value.unwrap_or_default()))
    }
}
