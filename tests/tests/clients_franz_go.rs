//! franz-go with its admin client, unchanged. The stories are told in `clients/go/franz`; here each
//! has its own broker.
//! Never skipped: what is missing fails, with the command that installs it.

use millpond_tests::go::GoProgram;

static PROGRAM: GoProgram = GoProgram::new("franz");

#[test]
fn records_of_every_codec_come_back_as_sent() {
    PROGRAM.tell("codecs");
}

#[test]
fn two_members_share_four_partitions_and_rebalance_when_one_leaves() {
    PROGRAM.tell("group");
}

#[test]
fn the_node_shares_partitions_and_gives_them_back_when_one_leaves() {
    PROGRAM.tell("group_of_the_node");
}

#[test]
fn topics_are_found_by_a_pattern_and_records_by_time() {
    PROGRAM.tell("pattern_and_times");
}

#[test]
fn what_was_read_is_written_and_committed_exactly_once() {
    PROGRAM.tell("exactly_once");
}

#[test]
fn topics_are_made_grown_measured_and_deleted() {
    PROGRAM.tell("topics");
}

#[test]
fn settings_are_described_altered_and_given_back() {
    PROGRAM.tell("settings");
}

#[test]
fn offsets_of_a_group_are_set_found_and_deleted() {
    PROGRAM.tell("offsets_of_a_group");
}

#[test]
fn groups_of_both_protocols_are_shown_with_their_lag() {
    PROGRAM.tell("groups_as_a_console");
}

#[test]
fn an_open_transaction_is_listed_and_described_until_it_ends() {
    PROGRAM.tell("transactions");
}

#[test]
fn sizes_versions_quotas_rules_and_moves_are_told() {
    PROGRAM.tell("the_rest");
}
