//! confluent-kafka 2.x (librdkafka), unchanged. The stories are told in
//! `clients/python/confluent_kafka_stories.py`; here each has its own broker. Never skipped.

use millpond_tests::broker::Broker;
use millpond_tests::clients;

fn tell(story: &str) {
    clients::python(&Broker::start(), "confluent_kafka_stories.py", story);
}

#[test]
fn uncompressed_records_come_back_as_sent() {
    tell("codec_none");
}

#[test]
fn gzip_records_come_back_as_sent() {
    tell("codec_gzip");
}

#[test]
fn snappy_records_come_back_as_sent() {
    tell("codec_snappy");
}

#[test]
fn lz4_records_come_back_as_sent() {
    tell("codec_lz4");
}

#[test]
fn zstd_records_come_back_as_sent() {
    tell("codec_zstd");
}

#[test]
fn an_idempotent_producer_keeps_order_over_three_partitions() {
    tell("idempotent");
}

#[test]
fn a_group_that_commits_by_itself_goes_on_where_it_left_off() {
    tell("group_auto_commit");
}

#[test]
fn a_group_that_commits_by_hand_goes_on_at_its_commit() {
    tell("group_manual_commit");
}

#[test]
fn two_consumers_share_four_partitions_and_rebalance_when_one_leaves() {
    tell("rebalance");
}

#[test]
fn offsets_are_found_by_watermark_by_time_and_by_assignment() {
    tell("offsets");
}

#[test]
fn topics_are_made_described_and_deleted() {
    tell("admin");
}

#[test]
fn a_worker_reads_works_and_writes_exactly_once_and_its_zombie_is_fenced() {
    tell("transactions");
}
