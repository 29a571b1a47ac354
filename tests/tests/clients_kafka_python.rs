//! kafka-python 3.x, unchanged, against a broker started without any configuration file for the
//! tutorial and with a small journal for the rest. The stories are told in
//! `clients/python/kafka_python_stories.py`; here each has its own broker. Never skipped: a client
//! that is missing fails, with the command that installs it.

use millpond_tests::broker::{Broker, Setup};
use millpond_tests::clients;

fn tell(story: &str) {
    clients::python(&Broker::start(), "kafka_python_stories.py", story);
}

#[test]
fn the_tutorial_runs_against_a_broker_without_configuration() {
    let broker = Setup::without_config().start();
    clients::python(&broker, "kafka_python_stories.py", "tutorial");
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
fn offsets_are_found_by_end_by_time_and_by_seeking() {
    tell("seek_and_offsets");
}

#[test]
fn topics_are_made_described_listed_and_deleted() {
    tell("admin");
}

#[test]
fn aborted_transactions_are_never_seen_by_readers_of_committed_data() {
    tell("transactions");
}
