//! The Java clients of Kafka 3 and 4, Kafka's own command-line tools, and Apache Beam with its
//! direct runner, all unchanged. The stories are told in `clients/java/*.java`, those of a set to
//! one broker. Never skipped.

use millpond_tests::java::Set;

/// A test for each story of a set, and one that no story of it lacks a test.
macro_rules! stories {
    ($set:expr; $($story:ident,)+) => {
        static SET: Set = $set;

        $(
            #[test]
            fn $story() {
                SET.expect(stringify!($story));
            }
        )+

        #[test]
        fn every_story_is_told() {
            SET.expect_only(&[$(stringify!($story)),+]);
        }
    };
}

/// What holds with the clients of both.
macro_rules! stories_of_both {
    ($set:expr; $($more:ident,)*) => {
        stories! {
            $set;
            $($more,)*
            a_producer_as_it_comes_is_idempotent_and_keeps_order,
            gzip_records_come_back_as_sent,
            snappy_records_come_back_as_sent,
            lz4_records_come_back_as_sent,
            zstd_records_come_back_as_sent,
            acks_none_one_and_all_are_served,
            a_key_or_a_value_may_be_null,
            a_record_above_the_limit_of_its_topic_is_refused,
            a_topic_is_made_when_it_is_first_sent_to,
            two_consumers_share_four_partitions_and_rebalance_when_one_leaves,
            a_cooperative_group_hands_over_what_moves_and_keeps_the_rest,
            a_group_goes_on_at_its_commit,
            a_group_that_commits_by_itself_commits_when_it_closes,
            a_static_member_is_back_without_a_rebalance,
            positions_are_found_by_offset_and_by_time,
            a_position_out_of_range_is_told_or_reset,
            a_record_larger_than_a_fetch_still_comes,
            many_partitions_are_read_in_one_fetch_session,
            a_topic_may_have_the_time_of_the_node,
            a_member_of_the_past_cannot_commit,
            topics_are_made_listed_described_and_deleted,
            partitions_are_added_and_never_taken,
            settings_of_a_topic_are_described_altered_and_given_back,
            settings_of_the_node_are_described,
            a_group_is_listed_described_and_deleted_when_it_is_empty,
            offsets_of_a_group_are_altered_listed_and_deleted,
            records_are_deleted_up_to_an_offset,
            the_record_with_the_newest_time_is_found,
            the_cluster_is_described_with_its_features,
            log_dirs_tell_the_size_of_partitions,
            quotas_are_set_described_and_removed,
            topics_are_described_and_deleted_by_id,
            a_setting_of_the_node_holds_for_its_topics,
            a_static_member_is_removed_by_the_admin,
            leaders_are_elected_and_nothing_is_reassigned,
            operations_that_are_allowed_are_told,
            groups_are_listed_by_state_and_type,
            offsets_of_tiers_are_those_of_a_node_without_tiers,
            what_is_committed_is_read_and_what_is_aborted_is_not,
            an_open_transaction_holds_back_who_reads_what_is_committed,
            a_zombie_is_fenced_and_its_open_transaction_aborted,
            offsets_are_committed_with_what_was_made_of_the_records,
            the_admin_lists_describes_and_aborts_an_open_transaction,
            the_admin_fences_the_producers_of_an_id,
            a_transaction_that_takes_too_long_is_aborted_by_the_node,
            a_worker_that_lost_its_partitions_cannot_commit_their_offsets,
            an_empty_transaction_leaves_no_trace,
        }
    };
}

mod kafka_3 {
    use super::*;

    stories_of_both! {
        Set::new("clients-3", &["Producing", "Consuming", "Administering", "Transacting"]);
    }
}

mod kafka_4 {
    use super::*;

    stories_of_both! {
        Set::new("clients-4", &["Producing", "Consuming", "Administering", "Transacting", "Kafka4"]);
        the_node_shares_partitions_and_gives_them_back_when_one_leaves,
        a_new_group_goes_on_at_its_commit,
        the_range_assignor_of_the_node_is_chosen_by_name,
        a_new_group_is_described_as_one,
        topics_are_found_by_a_pattern_that_the_node_matches,
        a_static_member_of_a_new_group_is_back_with_its_partitions,
        a_transaction_commits_offsets_of_a_new_group,
        a_group_moves_from_the_old_protocol_to_the_new_and_back,
        each_transaction_has_an_epoch_of_its_own,
    }
}

mod restarts {
    use super::*;

    stories! {
        Set::new("clients-4", &["Restarting"]);
        a_producer_and_a_group_go_on_when_the_node_was_killed,
        a_new_group_goes_on_when_the_node_was_killed,
        a_transaction_is_ended_after_the_node_was_killed_in_its_middle,
    }
}

mod tools {
    use super::*;

    stories! {
        Set::new("tools", &["Tools"]);
        kafka_topics_makes_grows_describes_and_deletes,
        kafka_configs_alters_and_describes_topics_and_clients,
        kafka_console_producer_and_consumer_pass_lines_on,
        kafka_consumer_groups_describes_resets_and_deletes,
        kafka_get_offsets_and_delete_records_agree,
        kafka_log_dirs_tells_sizes,
        kafka_transactions_finds_and_aborts_what_hangs,
        kafka_perf_tests_send_and_read,
        kafka_verifiable_producer_and_consumer_agree,
        kafka_tells_the_cluster_its_features_and_versions,
        kafka_e2e_latency_is_measured,
        kafka_consumer_groups_describes_a_group_that_the_node_assigns,
        kafka_leader_election_and_reassignment_find_nothing_to_do,
    }
}

mod beam {
    use super::*;

    stories! {
        Set::new("beam", &["Pipelines", "BeamReading", "BeamWriting", "BeamRestarting"]);
        a_read_ends_after_as_many_records_as_it_was_told,
        a_read_of_some_partitions_leaves_the_others,
        what_came_between_two_times_is_read,
        offsets_are_committed_when_what_was_read_is_kept,
        what_was_aborted_is_not_read,
        records_that_are_shared_out_again_are_all_there,
        a_topic_that_appears_later_is_read_too,
        managed_io_writes_and_reads,
        what_a_pipeline_wrote_is_there,
        records_keep_their_headers_and_times,
        the_sink_of_exactly_once_writes_each_record_once,
        a_pipeline_of_exactly_once_goes_on_when_the_node_was_killed,
    }
}
