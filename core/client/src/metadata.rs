//! What is known of the cluster: its brokers, and who leads which partition.
//!
//! A picture, replaced whole when newer metadata comes; it never changes under its reader.

use crate::error::ClientError;
use crate::url::{BrokerUrl, Scheme};
use millpond_wire::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use millpond_wire::messages::{MetadataResponse, Uuid};
use millpond_wire::{ErrorCode, limits};
use std::collections::HashMap;
use std::sync::Arc;

/// A picture of the cluster.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// The cluster's own name.
    pub cluster_id: Option<String>,
    /// The broker that decides on topics; -1 if none.
    pub controller_id: i32,
    /// Every broker and how to reach it.
    pub brokers: HashMap<i32, BrokerUrl>,
    /// The topics that were asked for.
    pub topics: HashMap<Arc<str>, Topic>,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// Its id; zero from brokers that have none.
    pub id: Uuid,
    /// Whether it is one of Kafka's own.
    pub is_internal: bool,
    /// Its partitions, by index.
    pub partitions: Vec<Partition>,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number within the topic.
    pub index: i32,
    /// The broker that leads it; `None` while there is none.
    pub leader: Option<i32>,
    /// The leader's epoch; -1 from brokers that have none.
    pub leader_epoch: i32,
    /// The brokers that keep a copy.
    pub replicas: Vec<i32>,
    /// Those whose copy is up to date.
    pub in_sync: Vec<i32>,
}

impl Cluster {
    /// The broker that leads a partition, if that is known.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        let partitions = &self.topics.get(topic)?.partitions;
        let at = partitions.binary_search_by_key(&partition, |p| p.index).ok()?;
        let leader = partitions.get(at)?.leader?;
        self.brokers.contains_key(&leader).then_some(leader)
    }

    /// How many partitions a topic has, if it is known.
    pub fn partitions(&self, topic: &str) -> Option<u32> {
        let count = self.topics.get(topic)?.partitions.len();
        u32::try_from(count).ok().filter(|count| *count > 0)
    }

    /// This picture with `response` painted over it. `asked`: what the response is about; the
    /// topics of it that do not exist disappear (`None`: all topics).
    pub(crate) fn updated(
        &self,
        response: MetadataResponse,
        asked: Option<&[Arc<str>]>,
        scheme: Scheme,
    ) -> Self {
        let mut topics = match asked {
            None => HashMap::new(),
            Some(asked) => {
                let mut topics = self.topics.clone();
                topics.retain(|name, _| !asked.contains(name));
                topics
            }
        };
        let live = response.topics.into_iter().filter_map(topic);
        topics.extend(live.map(|topic| (Arc::clone(&topic.name), topic)));
        let brokers = response.brokers.into_iter().take(limits::CLIENT_BROKERS_MAX);
        Self {
            cluster_id: response.cluster_id,
            controller_id: response.controller_id,
            brokers: brokers.filter_map(|broker| url(broker, scheme)).collect(),
            topics,
        }
    }
}

/// What a response says is wrong with one of the topics asked for.
pub(crate) fn topic_error(response: &MetadataResponse, name: &str) -> Option<ClientError> {
    let is_it = |topic: &&MetadataResponseTopic| topic.name.as_deref() == Some(name);
    match response.topics.iter().find(is_it) {
        Some(topic) => ClientError::refused(format!("topic `{name}`"), topic.error_code, None),
        None => Some(ClientError::NotFound { what: format!("topic `{name}`") }),
    }
}

fn url(broker: MetadataResponseBroker, scheme: Scheme) -> Option<(i32, BrokerUrl)> {
    let port = u16::try_from(broker.port).ok().filter(|port| *port != 0)?;
    let url = BrokerUrl { scheme, host: broker.host, port };
    Some((broker.node_id, url))
}

fn topic(topic: MetadataResponseTopic) -> Option<Topic> {
    if ErrorCode::from_code(topic.error_code) != Some(ErrorCode::None) {
        return None;
    }
    let mut partitions: Vec<Partition> = topic.partitions.into_iter().map(partition).collect();
    partitions.sort_by_key(|partition| partition.index);
    Some(Topic {
        name: topic.name?.into(),
        id: topic.topic_id,
        is_internal: topic.is_internal,
        partitions,
    })
}

fn partition(partition: MetadataResponsePartition) -> Partition {
    Partition {
        index: partition.partition_index,
        leader: Some(partition.leader_id).filter(|leader| *leader >= 0),
        leader_epoch: partition.leader_epoch,
        replicas: partition.replica_nodes,
        in_sync: partition.isr_nodes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(topics: Vec<MetadataResponseTopic>) -> MetadataResponse {
        MetadataResponse {
            brokers: vec![MetadataResponseBroker {
                node_id: 1,
                host: "::1".to_owned(),
                port: 9092,
                ..Default::default()
            }],
            controller_id: 1,
            topics,
            ..Default::default()
        }
    }

    fn topic_named(name: &str, leaders: &[i32]) -> MetadataResponseTopic {
        let partitions = leaders.iter().enumerate().rev();
        MetadataResponseTopic {
            name: Some(name.to_owned()),
            partitions: partitions
                .map(|(index, leader)| MetadataResponsePartition {
                    partition_index: i32::try_from(index).unwrap(),
                    leader_id: *leader,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }
    }

    #[test]
    fn leaders_are_found_whatever_the_order_of_partitions() {
        let cluster = Cluster::default().updated(
            response(vec![topic_named("t", &[1, -1, 1])]),
            None,
            Scheme::Quic,
        );
        assert_eq!(cluster.partitions("t"), Some(3));
        assert_eq!(cluster.leader("t", 0), Some(1));
        assert_eq!(cluster.leader("t", 1), None);
        assert_eq!(cluster.leader("t", 3), None);
        assert_eq!(cluster.brokers[&1].to_string(), "quic://[::1]:9092");
    }

    #[test]
    fn topics_not_asked_for_stay_and_vanished_ones_go() {
        let first = response(vec![topic_named("a", &[1]), topic_named("b", &[1])]);
        let cluster = Cluster::default().updated(first, None, Scheme::Tcp);
        let mut gone = topic_named("a", &[]);
        gone.error_code = ErrorCode::UnknownTopicOrPartition.code();
        let asked: Vec<Arc<str>> = vec!["a".into()];
        let cluster = cluster.updated(response(vec![gone]), Some(&asked), Scheme::Tcp);
        assert_eq!(cluster.partitions("a"), None);
        assert_eq!(cluster.partitions("b"), Some(1));
    }
}
