//! `millpond consume`: records to standard output, alone or as a member of a group.

use std::time::Duration;

use clap::Args;
use millpond_client::{ConsumedRecord, Consumer, OffsetReset};

use super::json_record::JsonRecord;
use super::{Bootstrap, CliError, text};

/// How long one question for records waits.
const POLL: Duration = Duration::from_millis(500);
/// How often a group's position is committed.
const COMMIT_EVERY: Duration = Duration::from_secs(1);

/// `millpond consume`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  millpond consume readings --from-beginning
  millpond consume readings --from-beginning --count 10 --json
  millpond consume readings --group dashboards
  millpond consume readings --format '%t/%p@%o %k: %v\\n'

In --format: %t topic, %p partition, %o offset, %T timestamp in ms, %k key, %v value, %h headers,
%% a percent sign; \\n and \\t as usual. Without --count or --timeout-ms it goes on until Ctrl-C.")]
pub(super) struct ConsumeArgs {
    #[command(flatten)]
    bootstrap: Bootstrap,
    /// The topics.
    #[arg(required = true)]
    topics: Vec<String>,
    /// Begin with the oldest record, where no position is known [default: only what is new].
    #[arg(long, short = 'f')]
    from_beginning: bool,
    /// Join this group: its members share the partitions, and its position is remembered.
    #[arg(long, short)]
    group: Option<String>,
    /// Only this partition of each topic.
    #[arg(long, short, conflicts_with = "group")]
    partition: Option<i32>,
    /// Stop after so many records.
    #[arg(long, short = 'n', value_name = "RECORDS")]
    count: Option<u64>,
    /// Stop when nothing came for so long.
    #[arg(long, value_name = "MS")]
    timeout_ms: Option<u64>,
    /// How a record is printed.
    #[arg(long, value_name = "TEXT", default_value = "%v\\n", conflicts_with = "json")]
    format: String,
}

/// Runs the command.
pub(super) async fn run(args: ConsumeArgs, json: bool) -> Result<(), CliError> {
    let mut builder = Consumer::builder();
    let reset = if args.from_beginning { OffsetReset::Earliest } else { OffsetReset::Latest };
    builder = builder.offset_reset(reset);
    for topic in &args.topics {
        builder = match args.partition {
            Some(partition) => builder.partition(topic.as_str(), partition),
            None => builder.topic(topic.as_str()),
        };
    }
    if let Some(group) = &args.group {
        builder = builder.group(group).auto_commit(COMMIT_EVERY);
    }
    let config = args.bootstrap.config()?;
    let mut consumer = builder.connect(config).await.map_err(|e| args.bootstrap.explain(&e))?;
    let result = tokio::select! {
        result = print_records(&args, &mut consumer, json) => result,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    // Commits what was printed and leaves the group.
    let closed = consumer.close().await.map_err(|e| args.bootstrap.explain(&e));
    result.and(closed)
}

async fn print_records(
    args: &ConsumeArgs,
    consumer: &mut Consumer,
    json: bool,
) -> Result<(), CliError> {
    let patience = args.timeout_ms.map(Duration::from_millis);
    let mut last = tokio::time::Instant::now();
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let wait = patience.map_or(POLL, |p| p.min(POLL));
        let records = consumer.poll(wait).await.map_err(|e| args.bootstrap.explain(&e))?;
        if records.is_empty() {
            if patience.is_some_and(|p| last.elapsed() >= p) {
                return Ok(());
            }
            continue;
        }
        last = tokio::time::Instant::now();
        let mut out = Vec::new();
        for record in records.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
            match json {
                true => out.extend_from_slice(
                    format!("{}\n", JsonRecord::of(record).to_json()).as_bytes(),
                ),
                false => format(&args.format, record, &mut out),
            }
            left -= 1;
        }
        text::write_bytes(&out)?;
    }
    Ok(())
}

fn format(pattern: &str, record: &ConsumedRecord, out: &mut Vec<u8>) {
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' => match chars.next() {
                Some('t') => out.extend_from_slice(record.topic.as_bytes()),
                Some('p') => out.extend_from_slice(record.partition.to_string().as_bytes()),
                Some('o') => out.extend_from_slice(record.offset.to_string().as_bytes()),
                Some('T') => out.extend_from_slice(record.timestamp_ms.to_string().as_bytes()),
                Some('k') => out.extend_from_slice(record.key.as_deref().unwrap_or_default()),
                Some('v') => out.extend_from_slice(record.value.as_deref().unwrap_or_default()),
                Some('h') => headers(record, out),
                other => out.extend(other.into_iter().flat_map(|c| c.to_string().into_bytes())),
            },
            '\\' => match chars.next() {
                Some('n') => out.push(b'\n'),
                Some('t') => out.push(b'\t'),
                other => out.extend(other.into_iter().flat_map(|c| c.to_string().into_bytes())),
            },
            plain => out.extend_from_slice(plain.to_string().as_bytes()),
        }
    }
}

fn headers(record: &ConsumedRecord, out: &mut Vec<u8>) {
    for (index, (name, value)) in record.headers.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(name);
        out.push(b'=');
        out.extend_from_slice(value.as_deref().unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> ConsumedRecord {
        ConsumedRecord {
            topic: "t".into(),
            partition: 2,
            offset: 7,
            timestamp_ms: 1000,
            key: Some("k".into()),
            value: Some(vec![0xff, 0xfe].into()),
            headers: vec![("a".into(), Some("1".into())), ("b".into(), None)],
        }
    }

    #[test]
    fn a_format_shows_every_part_of_a_record() {
        let mut out = Vec::new();
        format("%t/%p@%o %T %k [%h] 100%%\\t%v\\n", &record(), &mut out);
        assert_eq!(out, b"t/2@7 1000 k [a=1,b=] 100%\t\xff\xfe\n");
    }
}
