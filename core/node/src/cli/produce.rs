//! `millpond produce`: lines become records. Acknowledgements are awaited, so that what is reported
//! is on flash.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use millpond_client::producer::{DeliveryFuture, Producer, Record};
use millpond_wire::record::Codec;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};

use super::{Bootstrap, CliError, text};

/// Lines longer than this are refused: a record must fit a batch.
const LINE_BYTES_MAX: usize = 8 << 20;
/// Deliveries awaited at once.
const IN_FLIGHT_MAX: usize = 10_000;

/// `millpond produce`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  echo hello | millpond produce greetings
  millpond produce readings --key-separator ':' < readings.txt       lines such as device-7:21.5
  millpond produce readings --file log.json --compression zstd
  millpond produce readings --bootstrap quic://127.0.0.1:9092 --fingerprint AA:BB:...")]
pub(super) struct ProduceArgs {
    #[command(flatten)]
    bootstrap: Bootstrap,
    /// The topic.
    topic: String,
    /// Read this file instead of standard input.
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What stands between key and value on a line; without it a line is all value.
    #[arg(long, short, value_name = "TEXT")]
    key_separator: Option<String>,
    /// The partition [default: by key, else spread].
    #[arg(long, short)]
    partition: Option<i32>,
    /// A header of every record, NAME=VALUE; may be repeated.
    #[arg(long = "header", short = 'H', value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Compress batches.
    #[arg(long, short = 'z', value_enum, default_value_t = Compression::None)]
    compression: Compression,
    /// Say nothing about the records that were written.
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl From<Compression> for Codec {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::None => Self::None,
            Compression::Gzip => Self::Gzip,
            Compression::Snappy => Self::Snappy,
            Compression::Lz4 => Self::Lz4,
            Compression::Zstd => Self::Zstd,
        }
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Runs the command.
pub(super) async fn run(args: ProduceArgs, json: bool) -> Result<(), CliError> {
    let config = args.bootstrap.config()?;
    let producer = Producer::builder().compression(args.compression.into()).connect(config).await;
    let producer = producer.map_err(|e| args.bootstrap.explain(&e))?;
    let written = match &args.file {
        Some(path) => {
            let file = tokio::fs::File::open(path).await;
            let file =
                file.map_err(|e| CliError::usage(format!("cannot read {}: {e}", path.display())))?;
            send_lines(&args, &producer, BufReader::new(file), json).await
        }
        None => send_lines(&args, &producer, BufReader::new(standard_input()?), json).await,
    };
    producer.close().await;
    let written = written?;
    match (json, args.quiet) {
        (true, _) | (_, true) => Ok(()),
        (false, false) => {
            eprintln!("{written} records written to {}", args.topic);
            Ok(())
        }
    }
}

/// Standard input as a file that can be awaited.
fn standard_input() -> Result<tokio::fs::File, CliError> {
    let input = std::io::stdin().as_fd().try_clone_to_owned()?;
    Ok(tokio::fs::File::from_std(input.into()))
}

/// Sends each line and awaits every delivery; gives how many there were.
async fn send_lines(
    args: &ProduceArgs,
    producer: &Producer,
    mut input: impl AsyncBufRead + Unpin,
    json: bool,
) -> Result<u64, CliError> {
    let mut deliveries = VecDeque::new();
    let mut written = 0;
    let mut line = Vec::new();
    while read_line(&mut input, &mut line).await? {
        let record = record(args, &line)?;
        let delivery = producer.send(record).await.map_err(|e| CliError::failed(e.to_string()))?;
        deliveries.push_back(delivery);
        while deliveries.len() >= IN_FLIGHT_MAX {
            written += settle(args, deliveries.pop_front(), json).await?;
        }
    }
    producer.flush().await;
    while let Some(delivery) = deliveries.pop_front() {
        written += settle(args, Some(delivery), json).await?;
    }
    Ok(written)
}

async fn settle(
    args: &ProduceArgs,
    delivery: Option<DeliveryFuture>,
    json: bool,
) -> Result<u64, CliError> {
    let Some(delivery) = delivery else { return Ok(0) };
    let delivered = delivery.await.map_err(|e| CliError::failed(e.to_string()))?;
    if json && !args.quiet {
        let line = serde_json::json!({
            "topic": &*delivered.topic,
            "partition": delivered.partition,
            "offset": delivered.offset,
            "timestamp_ms": delivered.timestamp_ms,
        });
        text::print(&format!("{line}\n"))?;
    }
    Ok(1)
}

/// The next line without its end; false at the end of the input.
async fn read_line(
    input: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
) -> Result<bool, CliError> {
    line.clear();
    loop {
        let available = input.fill_buf().await?;
        if available.is_empty() {
            return Ok(!line.is_empty());
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let taken = end.unwrap_or(available.len());
        if line.len() + taken > LINE_BYTES_MAX {
            return Err(CliError::failed(format!("a line has more than {LINE_BYTES_MAX} bytes")));
        }
        line.extend_from_slice(available.get(..taken).unwrap_or_default());
        input.consume(taken + usize::from(end.is_some()));
        if end.is_some() {
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            return Ok(true);
        }
    }
}

fn record(args: &ProduceArgs, line: &[u8]) -> Result<Record, CliError> {
    let mut record = Record::to(args.topic.as_str());
    record = match &args.key_separator {
        None => record.value(line.to_vec()),
        Some(separator) => {
            let (key, value) = split(line, separator.as_bytes()).ok_or_else(|| {
                let shown = String::from_utf8_lossy(line).chars().take(80).collect::<String>();
                CliError::failed(format!(
                    "the line {shown:?} has no {separator:?} between key and value"
                ))
            })?;
            record.key(key.to_vec()).value(value.to_vec())
        }
    };
    record = args.partition.into_iter().fold(record, Record::partition);
    Ok(args.headers.iter().fold(record, |record, (name, value)| {
        record.header(name.clone().into_bytes(), value.clone().into_bytes())
    }))
}

fn split<'a>(line: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    if separator.is_empty() {
        return None;
    }
    let at = line.windows(separator.len()).position(|window| window == separator)?;
    Some((line.get(..at)?, line.get(at + separator.len()..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_splits_at_its_first_separator() {
        assert_eq!(split(b"k::v::w", b"::"), Some((&b"k"[..], &b"v::w"[..])));
        assert_eq!(split(b":v", b":"), Some((&b""[..], &b"v"[..])));
        assert_eq!(split(b"v", b":"), None);
        assert_eq!(split(b"v", b""), None);
    }

    #[tokio::test]
    async fn lines_end_with_or_without_a_carriage_return_and_the_last_needs_no_end() {
        let mut input = &b"one\r\n\ntwo"[..];
        let mut lines = Vec::new();
        let mut line = Vec::new();
        while read_line(&mut input, &mut line).await.unwrap() {
            lines.push(String::from_utf8(line.clone()).unwrap());
        }
        assert_eq!(lines, ["one", "", "two"]);
    }
}
