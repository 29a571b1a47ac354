//! Answers on their way out: refusals join them, and what may not be described is left out. Must never
//! add anything else.

use super::gate::{Gate, TOPIC};
use crate::api::{CLUSTER_OPERATIONS, GROUP_OPERATIONS, TOPIC_OPERATIONS};
use millpond_wire::ApiKey;
use millpond_wire::messages::consumer_group_describe_response::{Assignment, DescribedGroup};
use millpond_wire::messages::create_topics_response::CreatableTopicResult;
use millpond_wire::messages::offset_fetch_response::OffsetFetchResponseGroup;
use millpond_wire::messages::{OffsetFetchResponse, Response};
use millpond_wire::permission::{CLUSTER_NAME, Operation, Resource};

/// Whether answers of an API hold what has to be looked at.
pub(super) fn is_seen_through(api: ApiKey) -> bool {
    matches!(
        api,
        ApiKey::Metadata
            | ApiKey::DescribeCluster
            | ApiKey::CreateTopics
            | ApiKey::DescribeTopicPartitions
            | ApiKey::DescribeGroups
            | ApiKey::ListGroups
            | ApiKey::ConsumerGroupDescribe
            | ApiKey::OffsetFetch
            | ApiKey::DescribeTransactions
            | ApiKey::ListTransactions
    )
}

/// Leaves out what may not be described, and says what may be done to the rest.
pub(super) fn leave_out(gate: &Gate<'_>, response: &mut Response) {
    let describes = |resource, name: &str| gate.allows(Operation::Describe, resource, name);
    let topic_bits = |bits: &mut i32, name: &str| {
        if *bits != i32::MIN {
            *bits = gate.bits(TOPIC_OPERATIONS, Resource::Topic, name);
        }
    };
    match response {
        Response::Metadata(response) => {
            response.topics.retain(|topic| {
                topic.name.as_deref().is_none_or(|name| describes(Resource::Topic, name))
            });
            for topic in &mut response.topics {
                let name = topic.name.as_deref().unwrap_or_default();
                topic_bits(&mut topic.topic_authorized_operations, name);
            }
            cluster_bits(gate, &mut response.cluster_authorized_operations);
        }
        Response::DescribeCluster(response) => {
            cluster_bits(gate, &mut response.cluster_authorized_operations);
        }
        Response::CreateTopics(response) => {
            response.topics.iter_mut().for_each(|topic| hide_configs(gate, topic));
        }
        Response::DescribeTopicPartitions(response) => {
            response.topics.retain(|topic| {
                topic.name.as_deref().is_none_or(|name| describes(Resource::Topic, name))
            });
            for topic in &mut response.topics {
                let name = topic.name.as_deref().unwrap_or_default();
                topic_bits(&mut topic.topic_authorized_operations, name);
            }
            let next = response.next_cursor.as_ref();
            if next.is_some_and(|next| !describes(Resource::Topic, &next.topic_name)) {
                hide_cursor(gate, response);
            }
        }
        Response::DescribeGroups(response) => {
            for group in &mut response.groups {
                group_bits(gate, &mut group.authorized_operations, &group.group_id);
            }
        }
        Response::ConsumerGroupDescribe(response) => {
            response.groups.iter_mut().for_each(|group| hide_members(gate, group));
        }
        Response::ListGroups(response) if !describes(Resource::Cluster, CLUSTER_NAME) => {
            response.groups.retain(|group| describes(Resource::Group, &group.group_id));
        }
        Response::OffsetFetch(response) => hide_offsets(gate, response),
        Response::DescribeTransactions(response) => {
            for state in &mut response.transaction_states {
                state.topics.retain(|topic| describes(Resource::Topic, &topic.topic));
            }
        }
        Response::ListTransactions(response) => {
            let states = &mut response.transaction_states;
            states.retain(|one| describes(Resource::TransactionalId, &one.transactional_id));
        }
        _ => {}
    }
}

fn cluster_bits(gate: &Gate<'_>, bits: &mut i32) {
    if *bits == i32::MIN {
        return;
    }
    let may = gate.allows(Operation::Describe, Resource::Cluster, CLUSTER_NAME);
    let own = || gate.bits(CLUSTER_OPERATIONS, Resource::Cluster, CLUSTER_NAME);
    *bits = if may { own() } else { 0 };
}

fn group_bits(gate: &Gate<'_>, bits: &mut i32, group: &str) {
    if *bits != i32::MIN {
        *bits = gate.bits(GROUP_OPERATIONS, Resource::Group, group);
    }
}

/// Who makes a topic sees its settings only if he may (as in Kafka, KIP-525).
fn hide_configs(gate: &Gate<'_>, topic: &mut CreatableTopicResult) {
    let is_made = topic.error_code == 0;
    if is_made && !gate.allows(Operation::DescribeConfigs, Resource::Topic, &topic.name) {
        topic.topic_config_error_code = TOPIC;
        topic.num_partitions = -1;
        topic.replication_factor = -1;
        topic.configs = Some(Vec::new());
    }
}

/// The next page begins with a topic that may not be described: with the next one that may.
fn hide_cursor(
    gate: &Gate<'_>,
    response: &mut millpond_wire::messages::DescribeTopicPartitionsResponse,
) {
    let Some(cursor) = response.next_cursor.take() else { return };
    let mut following = gate.state().catalog.named_from(&cursor.topic_name);
    let next = following.find(|t| gate.allows(Operation::Describe, Resource::Topic, &t.name));
    response.next_cursor = next.map(|topic| {
        let topic_name = topic.name.clone();
        millpond_wire::messages::describe_topic_partitions_response::Cursor {
            topic_name,
            partition_index: 0,
        }
    });
}

/// A group whose members have topics that may not be described is not shown (KIP-848).
fn hide_members(gate: &Gate<'_>, group: &mut DescribedGroup) {
    group_bits(gate, &mut group.authorized_operations, &group.group_id);
    let may = |name: &str| gate.allows(Operation::Describe, Resource::Topic, name);
    let may_all = |of: &Assignment| of.topic_partitions.iter().all(|one| may(&one.topic_name));
    let is_shown = group.members.iter().all(|member| {
        member.subscribed_topic_names.iter().all(|name| may(name))
            && may_all(&member.assignment)
            && may_all(&member.target_assignment)
    });
    if !is_shown {
        group.error_code = TOPIC;
        group.error_message = Some(
            "The group has described topic(s) that the client is not authorized to describe."
                .to_owned(),
        );
        group.members.clear();
    }
}

fn hide_offsets(gate: &Gate<'_>, response: &mut OffsetFetchResponse) {
    let may = |name: &str| gate.allows(Operation::Describe, Resource::Topic, name);
    response.topics.retain(|topic| may(&topic.name));
    for group in &mut response.groups {
        // What no topic's id is says nothing of any topic.
        group.topics.retain(|topic| gate.topic_name(&topic.name, topic.topic_id).is_none_or(may));
    }
}

/// Refusals join the answer to the rest.
pub(super) fn join(response: &mut Response, refused: Response) {
    macro_rules! lists {
        ($($api:ident: $list:ident),* $(,)?) => {
            match (response, refused) {
                $((Response::$api(response), Response::$api(refused)) => {
                    response.$list.extend(refused.$list);
                })*
                (Response::OffsetFetch(response), Response::OffsetFetch(refused)) => {
                    response.topics.extend(refused.topics);
                    refused.groups.into_iter().for_each(|group| join_group(response, group));
                }
                _ => {}
            }
        };
    }
    lists! {
        Produce: responses,
        Fetch: responses,
        ListOffsets: topics,
        Metadata: topics,
        OffsetCommit: topics,
        FindCoordinator: coordinators,
        DescribeGroups: groups,
        DeleteGroups: results,
        ConsumerGroupDescribe: groups,
        OffsetDelete: topics,
        CreateTopics: topics,
        DeleteTopics: responses,
        CreatePartitions: results,
        DeleteRecords: topics,
        DescribeTopicPartitions: topics,
        OffsetForLeaderEpoch: topics,
        DescribeProducers: topics,
        AlterConfigs: responses,
        IncrementalAlterConfigs: responses,
        DescribeConfigs: results,
        TxnOffsetCommit: topics,
        DescribeTransactions: transaction_states,
    }
}

fn join_group(response: &mut OffsetFetchResponse, refused: OffsetFetchResponseGroup) {
    let same = response.groups.iter_mut().find(|group| group.group_id == refused.group_id);
    match same {
        Some(group) => group.topics.extend(refused.topics),
        None => response.groups.push(refused),
    }
}
