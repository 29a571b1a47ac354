//! aiokafka 0.14, unchanged. The stories are told in
//! `clients/python/aiokafka_stories.py`; here each has its own broker. Never skipped.

use millpond_tests::broker::Broker;
use millpond_tests::clients;

fn tell(story: &str) {
    clients::python(&Broker::start(), "aiokafka_stories.py", story);
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
fn topics_are_made_listed_and_deleted() {
    tell("admin");
}

#[test]
fn a_transaction_that_fails_leaves_nothing_behind() {
    tell("transactions");
}
