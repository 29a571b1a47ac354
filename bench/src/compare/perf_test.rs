//! Kafka's own load generator on all who speak its protocol: whether ours tells the same.

use crate::compare::Task;
use crate::compare::results::{Board, Goal, Measure};
use crate::error::{BenchError, Context, Outcome};
use crate::load::answers::Language;
use crate::peers::java;

pub(crate) const WHAT: &str = "kafka-producer-perf-test (org.apache.kafka.tools.ProducerPerformance) as it comes \
    with Kafka: one producer, records of 1 KiB that it makes up, acks=all, batch.size 65536, linger.ms \
    5, no limit to its rate; a JVM that starts anew each time and shares the processors with the broker";
const CLASS: &str = "org.apache.kafka.tools.ProducerPerformance";
const TOPIC: &str = "perf";
const RECORDS_A_SECOND: f64 = 50_000.0;

const RATE: Measure = Measure::more("acknowledged", "MiB/s").plotted();
const P50: Measure = Measure::less("ack p50, queue full", "ms");
const P99: Measure = Measure::less("ack p99, queue full", "ms");

pub(crate) fn goals(_case: &str, _measure: &str, _label: &str) -> (Goal, Goal) {
    (None, None)
}

pub(crate) fn run(task: &Task<'_>, board: &mut Board) -> Outcome<()> {
    let ring = &task.ring;
    for partitions in [1, 64] {
        let case = format!("{partitions} partition{}", if partitions == 1 { "" } else { "s" });
        if !task.wants(&case) {
            continue;
        }
        let takes_part = |peer: crate::peers::Peer| peer.language() == Language::Kafka;
        let mut contenders =
            ring.enter(&case, board, takes_part, |server, _| server.make_topic(TOPIC, partitions));
        ring.rounds(&case, board, &mut contenders, |round, contender, board| {
            let records = (ring.bench.seconds(10.0).as_secs_f64() * RECORDS_A_SECOND) as u64;
            let quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=error";
            let mut command = java(&ring.installed.peers, &[quiet], CLASS);
            command.args(["--topic", TOPIC, "--record-size", "1024", "--throughput", "-1"]);
            command.args(["--num-records", &records.to_string(), "--command-property"]);
            command.arg(format!("bootstrap.servers={}", contender.server.address()));
            command.args(["acks=all", "batch.size=65536", "linger.ms=5"]);
            let output = command.output().context("kafka-producer-perf-test")?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let told = Told::parse(&text).ok_or_else(|| {
                let errors = String::from_utf8_lossy(&output.stderr).into_owned();
                BenchError::new("kafka-producer-perf-test", text.clone() + &errors)
            })?;
            if round > 0 {
                let label = contender.peer.name();
                board.add(&case, RATE, label, told.mib_per_second);
                board.add(&case, P50, label, told.p50_ms);
                board.add(&case, P99, label, told.p99_ms);
            }
            Ok(())
        })?;
        ring.leave(&case, board, contenders);
    }
    Ok(())
}

/// What it says in its last line.
#[derive(Debug, PartialEq)]
struct Told {
    mib_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

impl Told {
    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().rfind(|line| line.contains("99th"))?;
        let before = |unit: &str| {
            let text = line.split(unit).next()?;
            text.rsplit([' ', '(']).next()?.parse::<f64>().ok()
        };
        Some(Self {
            mib_per_second: before(" MB/sec")?,
            p50_ms: before(" ms 50th")?,
            p99_ms: before(" ms 99th")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_the_whole_run() {
        let text = "9 records sent, 1.0 records/sec (0.00 MB/sec), 3.0 ms avg latency, 4.0 ms max latency.\n\
                    500000 records sent, 123456.789 records/sec (120.56 MB/sec), 12.3 ms avg latency, \
                    300.00 ms max latency, 5 ms 50th, 40 ms 95th, 99 ms 99th, 250 ms 99.9th.\n";
        let told = Told::parse(text).unwrap();
        assert_eq!(told, Told { mib_per_second: 120.56, p50_ms: 5.0, p99_ms: 99.0 });
        assert_eq!(Told::parse("no such thing\n"), None);
    }
}
