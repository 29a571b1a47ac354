//! From a snapshot and the counters to the text of a scrape: the one list of metric names.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::activity::activity;
use super::certificates;
use super::counters::{ConnectionKind, Counters, EarlyCounters, Refusal, TelemetryCounters};
use super::exposition::Exposition;
use super::process;
use super::snapshot::{EngineCounts, GroupState, NetCounts, PartitionState, Snapshot};
use super::storage::{space, storage, wear};
use super::transforms;
use crate::transforms::TransformReport;

/// Renders one scrape.
pub(crate) fn render(
    snapshot: &Snapshot,
    counters: &Counters,
    net: &NetCounts,
    reports: &[TransformReport],
    uptime: Duration,
    card_endurance_bytes: u64,
) -> Result<String, prometheus::Error> {
    let mut out = Exposition::default();
    brokers(&mut out, snapshot);
    topics(&mut out, snapshot);
    groups(&mut out, &snapshot.groups);
    engine(&mut out, &snapshot.engine);
    activity(&mut out, &snapshot.engine, &snapshot.groups);
    storage(&mut out, &snapshot.storage);
    wear(&mut out, &snapshot.storage, uptime, card_endurance_bytes);
    space(&mut out, &snapshot.space);
    connections(&mut out, counters);
    certificates::render(&mut out, &counters.certificates);
    doors(&mut out, &snapshot.engine, counters, net);
    transforms::render(&mut out, reports);
    super::derive::render(&mut out, &snapshot.derives, &snapshot.engine);
    process_state(&mut out, uptime);
    out.encode()
}

/// Who was let in, who was refused what, and what waits to be taken.
fn doors(out: &mut Exposition, engine: &EngineCounts, counters: &Counters, net: &NetCounts) {
    let mut logins = out.counter("millpond_logins_total", "Log-ins, by mechanism and outcome.");
    for (mechanism, result, n) in &net.logins {
        logins.add_count(&[("mechanism", mechanism), ("result", result)], *n);
    }
    let mut denials = out
        .counter("millpond_access_denied_total", "Requests refused something by a rule, by API.");
    for (api, n) in &engine.denials {
        denials.add_count(&[("api", api)], *n);
    }
    denials.add_count(&[("api", "HTTP")], counters.http_denials.load(Relaxed));
    out.gauge(
        "millpond_answer_bytes",
        "Bytes of answers on their way out, room asked for included.",
    )
    .count(net.answer_bytes);
    out.gauge(
        "millpond_telemetry_waiting_bytes",
        "Telemetry datagrams that came and are not committed yet.",
    )
    .count(net.telemetry_waiting_bytes);
    out.counter(
        "millpond_answers_shed_total",
        "Fetches answered without records for want of room.",
    )
    .count(net.answers_shed);
}

fn brokers(out: &mut Exposition, snapshot: &Snapshot) {
    out.gauge("kafka_brokers", "Number of brokers in the cluster.").count(1);
    let id = snapshot.node_id.to_string();
    out.gauge("kafka_broker_info", "Information about a broker.")
        .add(&[("id", &id), ("address", &snapshot.address)], 1.0);
}

#[allow(clippy::cast_precision_loss)] // Prometheus has nothing but doubles.
fn topics(out: &mut Exposition, snapshot: &Snapshot) {
    let mut count: BTreeMap<&str, u64> = BTreeMap::new();
    for partition in &snapshot.partitions {
        *count.entry(&partition.topic).or_default() += 1;
    }
    let mut family = out.gauge("kafka_topic_partitions", "Number of partitions of the topic.");
    for (topic, partitions) in count {
        family.add_count(&[("topic", topic)], partitions);
    }
    let leader = f64::from(snapshot.node_id);
    type Value = fn(&PartitionState, f64) -> f64;
    let per_partition: [(&str, &str, Value); 9] = [
        ("kafka_topic_partition_current_offset", "Next offset that consumers will see.", |p, _| {
            p.high_watermark as f64
        }),
        ("kafka_topic_partition_oldest_offset", "Oldest offset still there.", |p, _| {
            p.log_start as f64
        }),
        ("kafka_topic_partition_leader", "Leader's broker id.", |_, leader| leader),
        ("kafka_topic_partition_replicas", "Number of replicas.", |_, _| 1.0),
        ("kafka_topic_partition_in_sync_replica", "Number of in-sync replicas.", |_, _| 1.0),
        (
            "kafka_topic_partition_leader_is_preferred",
            "1 if the leader is the preferred one.",
            |_, _| 1.0,
        ),
        ("kafka_topic_partition_under_replicated_partition", "1 if under-replicated.", |_, _| 0.0),
        ("millpond_partition_tail_bytes", "Bytes of its batches in memory.", |p, _| {
            p.tail_bytes as f64
        }),
        ("millpond_partition_records", "Offsets from the oldest to the next.", |p, _| {
            (p.high_watermark - p.log_start) as f64
        }),
    ];
    for (name, help, value) in per_partition {
        let mut family = out.gauge(name, help);
        for partition in &snapshot.partitions {
            let number = partition.partition.to_string();
            family.add(
                &[("topic", &partition.topic), ("partition", &number)],
                value(partition, leader),
            );
        }
    }
}

#[allow(clippy::cast_precision_loss)]
fn groups(out: &mut Exposition, groups: &[GroupState]) {
    let mut members = out.gauge("kafka_consumergroup_members", "Members of the consumer group.");
    for group in groups {
        members.add_count(&[("consumergroup", &group.group)], group.members);
    }
    type Value = fn(&super::snapshot::GroupOffset) -> i64;
    let per_offset: [(&str, &str, Value); 2] = [
        ("kafka_consumergroup_current_offset", "Committed offset of the group.", |o| o.committed),
        (
            "kafka_consumergroup_lag",
            "Offsets between the committed one and the partition's end.",
            |o| o.lag,
        ),
    ];
    for (name, help, value) in per_offset {
        let mut family = out.gauge(name, help);
        for (group, offset) in groups.iter().flat_map(|g| g.offsets.iter().map(move |o| (g, o))) {
            let partition = offset.partition.to_string();
            let labels = [
                ("consumergroup", &*group.group),
                ("topic", &offset.topic),
                ("partition", &partition),
            ];
            family.add(&labels, value(offset) as f64);
        }
        let mut family =
            out.gauge(&format!("{name}_sum"), "The same, summed over the topic's partitions.");
        for group in groups {
            let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
            for offset in &group.offsets {
                *sums.entry(&offset.topic).or_default() += value(offset);
            }
            for (topic, sum) in sums {
                family.add(&[("consumergroup", &group.group), ("topic", topic)], sum as f64);
            }
        }
    }
}

fn engine(out: &mut Exposition, engine: &EngineCounts) {
    let counters = [
        ("millpond_records_in_total", "Records sent by producers.", engine.records_in),
        ("millpond_bytes_in_total", "Bytes of record batches sent by producers.", engine.bytes_in),
        (
            "millpond_records_appended_total",
            "Records appended, after transforms.",
            engine.records_appended,
        ),
        (
            "millpond_bytes_appended_total",
            "Bytes of record batches appended.",
            engine.bytes_appended,
        ),
        (
            "millpond_bytes_out_total",
            "Bytes of record batches given to consumers.",
            engine.bytes_out,
        ),
        (
            "millpond_duplicates_total",
            "Batches that were sent again and not stored again.",
            engine.duplicates,
        ),
        ("millpond_produce_refusals_total", "Batches that were refused.", engine.produce_refusals),
        ("millpond_rebalances_total", "Rebalances of consumer groups.", engine.rebalances),
    ];
    for (name, help, value) in counters {
        out.counter(name, help).count(value);
    }
    let gauges = [
        ("millpond_tail_bytes", "Bytes of record batches in memory.", engine.tail_bytes),
        ("millpond_fetches_waiting", "Fetches that wait for records.", engine.waiting_fetches),
        (
            "millpond_batches_transforming",
            "Batches that transforms have in hand.",
            engine.transforming_batches,
        ),
    ];
    for (name, help, value) in gauges {
        out.gauge(name, help).count(value);
    }
}

fn connections(out: &mut Exposition, counters: &Counters) {
    let mut open = out.gauge("millpond_connections", "Open Kafka connections.");
    for kind in ConnectionKind::ALL {
        open.add_count(&[("transport", kind.name())], counters.open_now(kind));
    }
    let mut accepted =
        out.counter("millpond_connections_accepted_total", "Kafka connections accepted.");
    for kind in ConnectionKind::ALL {
        accepted.add_count(&[("transport", kind.name())], counters.accepted_so_far(kind));
    }
    let mut refused = out.counter(
        "millpond_connections_refused_total",
        "Connections that the node refused or ended.",
    );
    for why in Refusal::ALL {
        refused.add_count(&[("reason", why.name())], counters.refused_so_far(why));
    }
    let mut requests = out.counter("millpond_requests_total", "Requests, by API.");
    for (api, n) in counters.requests() {
        requests.add_count(&[("api", api)], n);
    }
    telemetry(out, &counters.telemetry);
    early(out, &counters.early);
    out.counter("millpond_received_bytes_total", "Bytes of requests.")
        .count(counters.received_bytes.load(Relaxed));
    out.counter("millpond_sent_bytes_total", "Bytes of responses.")
        .count(counters.sent_bytes.load(Relaxed));
}

fn telemetry(out: &mut Exposition, counters: &TelemetryCounters) {
    let mut datagrams =
        out.counter("millpond_telemetry_datagrams_total", "Telemetry datagrams, by their fate.");
    for (fate, n) in [
        ("taken", &counters.datagrams),
        ("missing", &counters.missing),
        ("repeated", &counters.repeated),
        ("malformed", &counters.malformed),
    ] {
        datagrams.add_count(&[("fate", fate)], n.load(Relaxed));
    }
    let mut records =
        out.counter("millpond_telemetry_records_total", "Records of telemetry datagrams.");
    for (fate, n) in [("stored", &counters.stored), ("refused", &counters.refused)] {
        records.add_count(&[("fate", fate)], n.load(Relaxed));
    }
}

fn early(out: &mut Exposition, counters: &EarlyCounters) {
    let mut requests = out.counter(
        "millpond_early_requests_total",
        "Requests in the first flight of resumed QUIC connections (0-RTT), by their fate.",
    );
    for (fate, n) in
        [("served", &counters.served), ("held", &counters.held), ("dropped", &counters.dropped)]
    {
        requests.add_count(&[("fate", fate)], n.load(Relaxed));
    }
}

fn process_state(out: &mut Exposition, uptime: Duration) {
    out.gauge("millpond_uptime_seconds", "Since the start of the process.")
        .set(uptime.as_secs_f64());
    out.gauge("millpond_build_info", "The version that runs.")
        .add(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    if let Some(bytes) = process::resident_bytes() {
        out.gauge("process_resident_memory_bytes", "Resident memory.").count(bytes);
    }
    if let Some(files) = process::open_files() {
        out.gauge("process_open_fds", "Open file descriptors.").count(files);
    }
    if let Some(seconds) = process::cpu_seconds() {
        out.counter("process_cpu_seconds_total", "Processor time, user and system.").set(seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::snapshot::DeriveState;
    use crate::metrics::snapshot::{GroupOffset, SpaceState, StorageState};
    use millpond_transform::{StageStats, StageTotals};

    fn scrape() -> String {
        let partition = |partition| PartitionState {
            topic: "t".into(),
            partition,
            log_start: 3,
            high_watermark: 10,
            tail_bytes: 700,
        };
        let offset = |partition| GroupOffset { topic: "t".into(), partition, committed: 6, lag: 4 };
        let snapshot = Snapshot {
            node_id: 1,
            address: "127.0.0.1:9092".into(),
            partitions: vec![partition(0), partition(1)],
            groups: vec![GroupState {
                group: "g".into(),
                state: "Stable",
                protocol: "consumer",
                members: 2,
                offsets: vec![offset(0), offset(1)],
            }],
            derives: vec![DeriveState {
                transform: "mean".into(),
                topic: "t".into(),
                partition: 1,
                lag: 5,
                failures: 2,
                ..DeriveState::default()
            }],
            engine: EngineCounts {
                records_in: 10,
                throttle_seconds: 1.5,
                fetch_sessions_max: 1_000,
                transactional_ids: vec![("Ongoing", 3)],
                open_transactions: 3,
                ..EngineCounts::default()
            },
            storage: StorageState {
                backend: "io_uring".into(),
                payload_bytes: 100,
                written_bytes: vec![("journal", 200), ("segment", 100), ("metadata", 9000)],
                syncs: vec![("journal", 5)],
                commit_buckets: vec![(0.001, 4), (0.01, 5)],
                commit_seconds_sum: 0.004,
                commits: 5,
                journal_commits: 4,
                checkpoints: 1,
                journal_used_bytes: 4096,
                journal_size_bytes: 1 << 20,
                history_bytes: 0,
                history_faults: 0,
                ..StorageState::default()
            },
            space: SpaceState { used_bytes: 77, ..SpaceState::default() },
        };
        let report = TransformReport {
            name: "hot".into(),
            totals: StageTotals {
                stats: StageStats { kept: 1, dropped: 9, ..StageStats::default() },
                ..StageTotals::default()
            },
            ..TransformReport::default()
        };
        let uptime = Duration::from_secs(86_400);
        render(&snapshot, &Counters::default(), &NetCounts::default(), &[report], uptime, 3_000)
            .unwrap()
    }

    #[test]
    fn the_names_of_kafka_exporter_are_served() {
        let text = scrape();
        for line in [
            "kafka_brokers 1",
            "kafka_broker_info{id=\"1\",address=\"127.0.0.1:9092\"} 1",
            "kafka_topic_partitions{topic=\"t\"} 2",
            "kafka_topic_partition_current_offset{topic=\"t\",partition=\"1\"} 10",
            "kafka_topic_partition_oldest_offset{topic=\"t\",partition=\"0\"} 3",
            "kafka_topic_partition_leader{topic=\"t\",partition=\"0\"} 1",
            "kafka_topic_partition_under_replicated_partition{topic=\"t\",partition=\"0\"} 0",
            "kafka_consumergroup_members{consumergroup=\"g\"} 2",
            "kafka_consumergroup_current_offset{consumergroup=\"g\",topic=\"t\",partition=\"0\"} 6",
            "kafka_consumergroup_lag{consumergroup=\"g\",topic=\"t\",partition=\"1\"} 4",
            "kafka_consumergroup_lag_sum{consumergroup=\"g\",topic=\"t\"} 8",
            "kafka_consumergroup_current_offset_sum{consumergroup=\"g\",topic=\"t\"} 12",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn our_own_names_are_served() {
        let text = scrape();
        for line in [
            "millpond_disk_backend_info{backend=\"io_uring\"} 1",
            "millpond_disk_written_bytes_total{cause=\"journal\"} 200",
            "millpond_disk_syncs_total{cause=\"journal\"} 5",
            "millpond_write_amplification 3",
            "millpond_write_amplification_by_cause{cause=\"journal\"} 2",
            "millpond_card_life_days 10",
            "millpond_space_used_bytes 77",
            "millpond_records_in_total 10",
            "millpond_requests_throttled_total 0",
            "millpond_throttle_seconds_total 1.5",
            "millpond_fetch_sessions_max 1000",
            "millpond_transactions_open 3",
            "millpond_transactional_ids{state=\"Ongoing\"} 3",
            "millpond_groups{protocol=\"consumer\",state=\"Stable\"} 1",
            "millpond_producers 0",
            "millpond_commit_latency_seconds_bucket{le=\"0.001\"} 4",
            "millpond_commit_latency_seconds_count 5",
            "millpond_connections{transport=\"quic\"} 0",
            "millpond_requests_total{api=\"Produce\"} 0",
            "millpond_transform_records_total{transform=\"hot\",outcome=\"dropped\"} 9",
            "millpond_derive_lag{transform=\"mean\",topic=\"t\",partition=\"1\"} 5",
            "millpond_derive_failing{transform=\"mean\",topic=\"t\",partition=\"1\"} 2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn no_name_is_declared_twice() {
        let text = scrape();
        let mut names: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
