//! Retention, DeleteRecords and changed settings: what goes, when, and what must not.

use super::rig::{Rig, batch_at};
use crate::{Event, StoredPartition, StoredSegment};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig};
use millpond_wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use millpond_wire::messages::{
    AlterConfigsRequest, DeleteRecordsRequest, IncrementalAlterConfigsRequest, Request, Response,
    incremental_alter_configs_request,
};

const DAY_MS: i64 = 86_400_000;
/// The rig's wall clock at its start.
const START_MS: i64 = 1_700_000_000_000;

fn segment(base_offset: i64, end_offset: i64, max_timestamp: i64) -> StoredSegment {
    StoredSegment { base_offset, end_offset, bytes: 1_000, max_timestamp }
}

/// Ten records of a time, which a checkpoint then puts into a segment of their own.
fn fill(rig: &mut Rig, stored: &mut Vec<StoredSegment>, time_ms: i64) {
    let base = stored.last().map_or(0, |segment| segment.end_offset);
    let id = rig.send_batch("t", 0, batch_at(time_ms - 9, &["v"; 10], None));
    assert_eq!(rig.produced(id).base_offset, base);
    stored.push(segment(base, base + 10, time_ms));
    tell(rig, stored);
}

fn tell(rig: &mut Rig, stored: &[StoredSegment]) {
    let partition = rig.key("t", 0);
    rig.handle(Event::Stored(vec![StoredPartition { partition, segments: stored.to_vec() }]));
}

fn log_start(rig: &Rig) -> i64 {
    rig.engine.catalog().partition(rig.key("t", 0)).expect("a partition").log_start()
}

fn alter(rig: &mut Rig, name: &str, value: &str) -> i16 {
    let config = AlterableConfig { name: name.to_owned(), value: Some(value.to_owned()) };
    let resource = AlterConfigsResource {
        resource_type: 2,
        resource_name: "t".to_owned(),
        configs: vec![config],
    };
    let request = AlterConfigsRequest { resources: vec![resource], validate_only: false };
    match rig.call(Request::AlterConfigs(request), 2) {
        Response::AlterConfigs(response) => response.responses[0].error_code,
        other => panic!("{other:?}"),
    }
}

fn delete_records(rig: &mut Rig, offset: i64) -> (i64, Option<ErrorCode>) {
    let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset }];
    let topics = vec![DeleteRecordsTopic { name: "t".to_owned(), partitions }];
    let request = DeleteRecordsRequest { topics, ..DeleteRecordsRequest::default() };
    match rig.call(Request::DeleteRecords(request), 2) {
        Response::DeleteRecords(response) => {
            let part = &response.topics[0].partitions[0];
            (part.low_watermark, ErrorCode::from_code(part.error_code))
        }
        other => panic!("{other:?}"),
    }
}

/// A rig with a topic, after the clock has settled; and the time it shows.
fn settled() -> (Rig, i64) {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    rig.pass_ms(700_000);
    rig.handle(Event::Tick);
    let wall_ms = rig.now.wall_ms;
    (rig, wall_ms)
}

#[test]
fn segments_older_than_the_retention_time_go_and_their_offsets_are_out_of_range() {
    let (mut rig, wall_ms) = settled();
    let mut stored = Vec::new();
    for age_days in [9, 8, 6, 0] {
        fill(&mut rig, &mut stored, wall_ms - age_days * DAY_MS);
    }
    assert_eq!(log_start(&rig), 20, "two segments are older than seven days");
    assert!(rig.reclaims > 0, "storage is asked for the space");
    assert_eq!(rig.fetch("t", 0, 5).error_code, ErrorCode::OffsetOutOfRange.code());
    assert_eq!(rig.read("t", 0, 20).len(), 20);
    let dropped = rig.engine.catalog().by_name("t").expect("a topic").dropped();
    assert_eq!((dropped.retention_records, dropped.retention_bytes), (20, 2_000));
    assert_eq!(log_start(&rig.reborn(None)), 20, "it is a fact of the journal");
    let snapshot = rig.engine.snapshot();
    assert_eq!(log_start(&rig.reborn(Some(snapshot))), 20, "and of the snapshot");
}

#[test]
fn what_grows_old_goes_at_the_next_check() {
    let (mut rig, wall_ms) = settled();
    let mut stored = Vec::new();
    fill(&mut rig, &mut stored, wall_ms);
    for _ in 0..8 {
        rig.pass_ms(DAY_MS as u64);
    }
    assert_eq!(log_start(&rig), 0, "nothing newer has come: the clock alone decides nothing");
    fill(&mut rig, &mut stored, wall_ms + 8 * DAY_MS);
    assert_eq!(log_start(&rig), 10);
}

#[test]
fn bytes_beyond_the_limit_go_whole_segments_at_a_time_whatever_the_clock_says() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    assert_eq!(alter(&mut rig, "retention.bytes", "2500"), 0);
    let mut stored = Vec::new();
    for index in 0..3 {
        fill(&mut rig, &mut stored, 1_000 + index);
    }
    assert_eq!(log_start(&rig), 0, "2,000 bytes would be too few");
    fill(&mut rig, &mut stored, 2_000);
    assert_eq!(log_start(&rig), 10);
}

#[test]
fn compacted_topics_keep_their_old_segments() {
    let (mut rig, wall_ms) = settled();
    // Written before the topic was compacted: its records need no keys then.
    assert_eq!(alter(&mut rig, "retention.ms", "-1"), 0);
    let mut stored = Vec::new();
    fill(&mut rig, &mut stored, wall_ms - 30 * DAY_MS);
    fill(&mut rig, &mut stored, wall_ms);
    assert_eq!(alter(&mut rig, "cleanup.policy", "compact"), 0);
    tell(&mut rig, &stored);
    assert_eq!(log_start(&rig), 0);
    assert_eq!(delete_records(&mut rig, 5), (-1, Some(ErrorCode::PolicyViolation)));
    assert_eq!(alter(&mut rig, "cleanup.policy", "compact,delete"), 0);
    tell(&mut rig, &stored);
    assert_eq!(log_start(&rig), 10);
}

#[test]
fn a_board_that_boots_in_1970_deletes_nothing_until_ntp_has_come_and_settled() {
    let mut rig = Rig::new();
    rig.now.wall_ms = 5_000;
    rig.create_topic("t", 1);
    let mut stored = Vec::new();
    fill(&mut rig, &mut stored, START_MS - 30 * DAY_MS);
    fill(&mut rig, &mut stored, 6_000);
    rig.pass_ms(3_600_000);
    assert_eq!(log_start(&rig), 0, "1970 ages nothing");
    rig.now.wall_ms = START_MS;
    fill(&mut rig, &mut stored, START_MS);
    rig.pass_ms(540_000);
    assert_eq!(log_start(&rig), 0, "NTP has come, but not for long enough");
    rig.pass_ms(540_000);
    assert_eq!(log_start(&rig), 0, "what came before NTP counts as come when it did");
    for _ in 0..8 {
        rig.pass_ms(DAY_MS as u64);
    }
    let wall_ms = rig.now.wall_ms;
    fill(&mut rig, &mut stored, wall_ms);
    assert_eq!(log_start(&rig), 30, "and goes when it is seven days old by that");
}

#[test]
fn a_clock_that_jumps_to_2040_and_back_deletes_nothing() {
    let (mut rig, wall_ms) = settled();
    let mut stored = Vec::new();
    fill(&mut rig, &mut stored, wall_ms);
    let far_ms = 14 * 365 * DAY_MS;
    rig.now.wall_ms += far_ms;
    let in_2040 = rig.now.wall_ms;
    fill(&mut rig, &mut stored, in_2040);
    rig.pass_ms(540_000);
    assert_eq!(log_start(&rig), 0, "not settled");
    rig.now.wall_ms -= far_ms;
    let now = rig.now.wall_ms;
    fill(&mut rig, &mut stored, now);
    rig.pass_ms(3_600_000);
    assert_eq!(log_start(&rig), 0, "a timestamp of 2040 ages nobody");
    for _ in 0..8 {
        rig.pass_ms(DAY_MS as u64);
    }
    let now = rig.now.wall_ms;
    fill(&mut rig, &mut stored, now);
    assert_eq!(log_start(&rig), 30, "and keeps nobody for ever");
}

#[test]
fn records_that_came_while_the_clock_was_behind_are_not_older_than_that() {
    // A board without a clock starts at the time of its last shutdown, a month ago.
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let mut stored = Vec::new();
    fill(&mut rig, &mut stored, START_MS);
    rig.now.wall_ms += 30 * DAY_MS;
    let wall_ms = rig.now.wall_ms;
    fill(&mut rig, &mut stored, wall_ms);
    rig.pass_ms(1_800_000);
    assert_eq!(log_start(&rig), 0);
}

#[test]
fn one_poisoned_timestamp_neither_ages_nor_preserves_the_others() {
    let (mut rig, wall_ms) = settled();
    let mut stored = Vec::new();
    fill(&mut rig, &mut stored, wall_ms - 9 * DAY_MS);
    fill(&mut rig, &mut stored, wall_ms + 4_000 * DAY_MS);
    fill(&mut rig, &mut stored, wall_ms - 8 * DAY_MS);
    fill(&mut rig, &mut stored, wall_ms - 5 * DAY_MS);
    assert_eq!(log_start(&rig), 0, "the newest plausible record is five days old");
    fill(&mut rig, &mut stored, wall_ms);
    assert_eq!(log_start(&rig), 30);
}

#[test]
fn an_idle_partition_ages_by_the_records_of_others() {
    let (mut rig, wall_ms) = settled();
    rig.create_topic("other", 1);
    let mut stored = Vec::new();
    fill(&mut rig, &mut stored, wall_ms);
    for _ in 0..8 {
        rig.pass_ms(DAY_MS as u64);
    }
    assert_eq!(log_start(&rig), 0);
    let now = rig.now.wall_ms;
    let id = rig.send_batch("other", 0, batch_at(now, &["v"], None));
    rig.produced(id);
    rig.pass_ms(300_000);
    assert_eq!(log_start(&rig), 10);
}

#[test]
fn records_are_deleted_on_request_up_to_the_high_watermark_when_that_is_durable() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let mut stored = Vec::new();
    fill(&mut rig, &mut stored, START_MS);
    fill(&mut rig, &mut stored, START_MS);
    assert_eq!(delete_records(&mut rig, 15), (15, Some(ErrorCode::None)));
    assert_eq!(delete_records(&mut rig, 3), (15, Some(ErrorCode::None)), "it never goes back");
    assert_eq!(delete_records(&mut rig, 21), (-1, Some(ErrorCode::OffsetOutOfRange)));
    assert_eq!(delete_records(&mut rig, -2), (-1, Some(ErrorCode::OffsetOutOfRange)));
    assert_eq!(rig.fetch("t", 0, 14).error_code, ErrorCode::OffsetOutOfRange.code());
    assert_eq!(rig.read("t", 0, 15).len(), 5, "the batch is cut in the middle");
    assert_eq!(delete_records(&mut rig, -1), (20, Some(ErrorCode::None)));
    assert_eq!(rig.read("t", 0, 20), []);
    assert_eq!(log_start(&rig.reborn(None)), 20);
    assert!(rig.reclaims >= 2);
}

#[test]
fn memory_below_the_log_start_is_given_back_when_the_deletion_is_durable() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let mut stored = Vec::new();
    fill(&mut rig, &mut stored, START_MS);
    fill(&mut rig, &mut stored, START_MS);
    let before = rig.engine.tail_bytes();
    rig.is_instant = false;
    let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset: 12 }];
    let topics = vec![DeleteRecordsTopic { name: "t".to_owned(), partitions }];
    let request = DeleteRecordsRequest { topics, ..DeleteRecordsRequest::default() };
    let id = rig.send(Request::DeleteRecords(request), 2);
    assert!(!rig.is_answered(id));
    assert_eq!(rig.engine.tail_bytes(), before, "a power cut would bring it back");
    rig.sync();
    assert!(rig.is_answered(id));
    assert_eq!(rig.engine.tail_bytes(), before / 2);
    let key = rig.key("t", 0);
    assert_eq!(rig.engine.unflushed(rig.engine.last_seq()).count(), 1);
    assert_eq!(rig.engine.catalog().partition(key).expect("it").flushed(), 10);
}

#[test]
fn settings_are_changed_one_by_one_or_all_at_once_and_checked_as_at_creation() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    assert_eq!(alter(&mut rig, "retention.ms", "1000"), 0);
    assert_eq!(alter(&mut rig, "retention.ms", "soon"), ErrorCode::InvalidConfig.code());
    assert_eq!(alter(&mut rig, "no.such", "1"), ErrorCode::InvalidConfig.code());
    let mut change = |name: &str, operation, value: Option<&str>| {
        let config = incremental_alter_configs_request::AlterableConfig {
            name: name.to_owned(),
            config_operation: operation,
            value: value.map(str::to_owned),
        };
        let resource = incremental_alter_configs_request::AlterConfigsResource {
            resource_type: 2,
            resource_name: "t".to_owned(),
            configs: vec![config],
        };
        let request = IncrementalAlterConfigsRequest {
            resources: vec![resource],
            ..IncrementalAlterConfigsRequest::default()
        };
        match rig.call(Request::IncrementalAlterConfigs(request), 1) {
            Response::IncrementalAlterConfigs(response) => response.responses[0].error_code,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(change("segment.bytes", 0, Some("1048576")), 0);
    assert_eq!(change("cleanup.policy", 2, Some("compact")), 0);
    assert_eq!(change("retention.ms", 2, Some("1")), ErrorCode::InvalidConfig.code());
    assert_eq!(change("retention.ms", 1, None), 0);
    assert_eq!(change("retention.ms", 9, Some("1")), ErrorCode::InvalidRequest.code());
    let topic = rig.engine.catalog().by_name("t").expect("a topic");
    assert_eq!(topic.config("cleanup.policy"), "delete,compact");
    assert_eq!(topic.config("retention.ms"), "604800000");
    assert_eq!(topic.config("segment.bytes"), "1048576");
    assert_eq!(topic.configs.len(), 2);
}

#[test]
fn a_segment_is_closed_by_size_by_age_and_in_time_for_a_short_retention() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let key = rig.key("t", 0);
    assert!(!rig.engine.wants_new_segment(key), "there is none");
    let mut stored = Vec::new();
    fill(&mut rig, &mut stored, START_MS);
    assert!(!rig.engine.wants_new_segment(key));
    assert_eq!(alter(&mut rig, "segment.bytes", "1000"), 0);
    assert!(rig.engine.wants_new_segment(key), "it has as many");
    assert_eq!(alter(&mut rig, "segment.ms", "7200000"), 0);
    assert!(!rig.engine.wants_new_segment(key));
    rig.pass_ms(7_300_000);
    rig.handle(Event::Tick);
    assert!(rig.engine.wants_new_segment(key), "it is old");
    assert_eq!(alter(&mut rig, "retention.ms", "14400000"), 0);
    fill(&mut rig, &mut stored, START_MS);
    assert!(!rig.engine.wants_new_segment(key));
    rig.pass_ms(3_700_000);
    rig.handle(Event::Tick);
    assert!(rig.engine.wants_new_segment(key), "a quarter of its retention has passed");
}

#[test]
fn the_largest_timestamp_is_found_although_the_batch_that_had_it_is_gone() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let mut stored = Vec::new();
    for time_ms in [9_000, 3_000, 5_000] {
        fill(&mut rig, &mut stored, time_ms);
    }
    assert_eq!(delete_records(&mut rig, 10), (10, Some(ErrorCode::None)));
    let log = rig.engine.catalog().partition(rig.key("t", 0)).expect("a partition");
    assert_eq!(log.newest(), (5_000, 20));
}
