//! Sarama, unchanged, told of the oldest version of Kafka that it takes by default and of the newest.
//! The stories are told in `clients/go/sarama`; here each has its own broker.
//! Never skipped: what is missing fails, with the command that installs it.

use millpond_tests::go::GoProgram;

static PROGRAM: GoProgram = GoProgram::new("sarama");

mod as_of_2 {
    use super::PROGRAM;

    #[test]
    fn records_of_every_codec_come_back_as_sent() {
        PROGRAM.tell("codecs_as_of_2");
    }

    #[test]
    fn an_idempotent_producer_keeps_order_over_three_partitions() {
        PROGRAM.tell("idempotent_as_of_2");
    }

    #[test]
    fn two_members_share_four_partitions_and_rebalance_when_one_leaves() {
        PROGRAM.tell("group_as_of_2");
    }

    #[test]
    fn a_transaction_takes_its_offsets_with_it_or_leaves_them() {
        PROGRAM.tell("transactions_as_of_2");
    }

    #[test]
    fn topics_are_made_grown_measured_and_deleted() {
        PROGRAM.tell("topics_as_of_2");
    }

    #[test]
    fn settings_are_described_altered_and_given_back() {
        PROGRAM.tell("settings_as_of_2");
    }

    #[test]
    fn a_group_reads_on_from_the_offsets_that_were_set_for_it() {
        PROGRAM.tell("groups_as_of_2");
    }

    #[test]
    fn sizes_quotas_rules_and_moves_are_told() {
        PROGRAM.tell("the_rest_as_of_2");
    }
}

mod as_of_now {
    use super::PROGRAM;

    #[test]
    fn records_of_every_codec_come_back_as_sent() {
        PROGRAM.tell("codecs_as_of_now");
    }

    #[test]
    fn an_idempotent_producer_keeps_order_over_three_partitions() {
        PROGRAM.tell("idempotent_as_of_now");
    }

    #[test]
    fn two_members_share_four_partitions_and_rebalance_when_one_leaves() {
        PROGRAM.tell("group_as_of_now");
    }

    #[test]
    fn a_transaction_takes_its_offsets_with_it_or_leaves_them() {
        PROGRAM.tell("transactions_as_of_now");
    }

    #[test]
    fn topics_are_made_grown_measured_and_deleted() {
        PROGRAM.tell("topics_as_of_now");
    }

    #[test]
    fn settings_are_described_altered_and_given_back() {
        PROGRAM.tell("settings_as_of_now");
    }

    #[test]
    fn a_group_reads_on_from_the_offsets_that_were_set_for_it() {
        PROGRAM.tell("groups_as_of_now");
    }

    #[test]
    fn sizes_quotas_rules_and_moves_are_told() {
        PROGRAM.tell("the_rest_as_of_now");
    }
}
