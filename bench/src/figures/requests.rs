//! What the broker's own work for small requests comes to: how many of each kind it answers in a
//! second, and the processor time that each takes it.

use millpond_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use millpond_wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millpond_wire::messages::{
    FetchRequest, HeartbeatRequest, OffsetCommitRequest, Request, Response,
};

use crate::broker::Broker;
use crate::error::{BenchError, Context, Outcome};
use crate::figures::{Bench, progress};
use crate::load::conversation::{Conversation, accepted, other_answer};
use crate::load::frames::{Expected, Frames, Shape, expect_taken};
use crate::load::member::ClassicMember;
use crate::load::saturate::saturate;
use crate::report::Figure;
use crate::spread::Spread;

const TOPIC: &str = "requests";
const PARTITIONS: usize = 8;
const GROUP: &str = "requests";
/// One record of a size that telemetry has.
const SHAPE: Shape = Shape { records: 1, value_bytes: 200 };
const FETCH: Expected = Expected { version: 12, check: is_fetched };
const HEARTBEAT: Expected = Expected { version: 4, check: is_alive };
const OFFSET_COMMIT: Expected = Expected { version: 8, check: is_committed };

/// Measures.
pub(crate) fn figure(bench: &Bench) -> Outcome<Figure> {
    let (broker, _home) = bench.broker()?;
    broker.create_topic(TOPIC, PARTITIONS)?;
    let mut member = ClassicMember::connect(broker.kafka(), GROUP, PARTITIONS)?;
    let generation_id = member.beat()?.epoch;
    let kinds = [
        ("Produce, one record of 200 B", Frames::build(TOPIC, PARTITIONS, 512, SHAPE)?),
        ("Fetch, one record of 200 B", Frames::of_requests(&fetches()?, FETCH)?),
        ("Heartbeat", Frames::of_requests(&[heartbeat(&member, generation_id)], HEARTBEAT)?),
        ("OffsetCommit, one partition", Frames::of_requests(&commits()?, OFFSET_COMMIT)?),
    ];
    fill(&broker, &kinds[0].1)?;
    let pressure = bench.pressure;
    let mut figure = Figure::new(
        "requests",
        format!(
            "{} TCP connections with {} requests in flight each; every Produce and OffsetCommit is \
             synced before its answer; CPU is the broker's, kernel included; the generator shares \
             the processors",
            pressure.connections, pressure.in_flight
        ),
    );
    let mut found = vec![(Vec::new(), Vec::new()); kinds.len()];
    for round in 1..=bench.rounds {
        for ((name, frames), (rates, costs)) in kinds.iter().zip(&mut found) {
            progress(&format!("requests, {name}, round {round}"));
            let before = broker.cpu_seconds()?;
            let run = saturate(broker.kafka(), frames, pressure, bench.seconds(3.0))?;
            let cpu_seconds = broker.cpu_seconds()? - before;
            broker.wait_until_quiet()?;
            rates.push(run.requests_per_second());
            #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
            costs.push(cpu_seconds * 1e6 / run.requests_in_all.max(1) as f64);
        }
    }
    for ((name, _), (rates, costs)) in kinds.iter().zip(found) {
        figure.line(*name, Spread::of(&rates), "/s");
        figure.line(format!("{name}: CPU for each"), Spread::of(&costs), "us");
    }
    broker.stop()?;
    Ok(figure)
}

/// Something in every partition to be fetched.
fn fill(broker: &Broker, produces: &Frames) -> Outcome<()> {
    let mut line = Conversation::with(broker.kafka())?;
    for partition in 0..PARTITIONS {
        expect_taken(line.exchange(produces.get(partition).context("a request")?)?)?;
    }
    Ok(())
}

/// Each asks for the first batch of a partition.
fn fetches() -> Outcome<Vec<Request>> {
    let of = |partition: usize| {
        Ok(FetchRequest {
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 1,
            topics: vec![FetchTopic {
                topic: TOPIC.into(),
                partitions: vec![FetchPartition {
                    partition: i32::try_from(partition).context("a partition")?,
                    current_leader_epoch: -1,
                    partition_max_bytes: 1,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        }
        .into())
    };
    (0..PARTITIONS).map(of).collect()
}

fn heartbeat(member: &ClassicMember, generation_id: i32) -> Request {
    HeartbeatRequest {
        group_id: GROUP.into(),
        generation_id,
        member_id: member.id().into(),
        ..Default::default()
    }
    .into()
}

/// Commits of a group without members, as tools and stream processors make them.
fn commits() -> Outcome<Vec<Request>> {
    let of = |partition: usize| {
        Ok(OffsetCommitRequest {
            group_id: "requests-alone".into(),
            generation_id_or_member_epoch: -1,
            topics: vec![OffsetCommitRequestTopic {
                name: TOPIC.into(),
                partitions: vec![OffsetCommitRequestPartition {
                    partition_index: i32::try_from(partition).context("a partition")?,
                    committed_offset: 1,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        }
        .into())
    };
    (0..PARTITIONS).map(of).collect()
}

fn is_fetched(answer: Response) -> Outcome<()> {
    let Response::Fetch(answer) = answer else { return Err(other_answer(&answer)) };
    let mut parts = answer.responses.iter().flat_map(|topic| &topic.partitions);
    let part = parts.next().context("a partition in the answer to a fetch")?;
    let bytes = part.records.as_ref().map_or(0, |records| records.to_bytes().len());
    match bytes {
        0 => Err(BenchError::new("a fetch", format!("nothing, error {}", part.error_code))),
        _ => Ok(()),
    }
}

fn is_alive(answer: Response) -> Outcome<()> {
    let Response::Heartbeat(answer) = answer else { return Err(other_answer(&answer)) };
    accepted("a heartbeat", answer.error_code)
}

fn is_committed(answer: Response) -> Outcome<()> {
    let Response::OffsetCommit(answer) = answer else { return Err(other_answer(&answer)) };
    let mut parts = answer.topics.iter().flat_map(|topic| &topic.partitions);
    accepted("a commit", parts.next().context("a partition in the answer")?.error_code)
}
