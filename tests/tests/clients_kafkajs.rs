//! kafkajs 2.x, unchanged, with the codecs that it brings by itself. The stories are told in
//! `clients/node/kafkajs_stories.js`; here each has its own broker. Never skipped.

use millpond_tests::broker::Broker;
use millpond_tests::clients;

fn tell(story: &str) {
    clients::kafkajs(&Broker::start(), story);
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
fn topics_are_made_described_and_deleted() {
    tell("admin");
}

#[test]
fn a_transaction_counts_when_it_is_committed_and_never_when_it_is_aborted() {
    tell("transactions");
}
