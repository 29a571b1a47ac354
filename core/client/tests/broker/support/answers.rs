//! What the fake broker answers.

use super::{Fault, GroupState, NODE_ID, Partition, ProducerState, Seen, State, Stored};
use bytes::Bytes;
use millpond_wire::frame::advertised_api_versions;
use millpond_wire::messages::*;
use millpond_wire::record::{Batch, BatchHeader, LogBatch, sequence_add};
use millpond_wire::{ApiKey, ErrorCode};
use std::sync::{Arc, Mutex};

pub(crate) enum Reply {
    Response(Response),
    Nothing,
    Close,
}

pub(crate) async fn answer(request: Request, version: i16, state: &Arc<Mutex<State>>) -> Reply {
    if let Request::Produce(request) = request {
        return produce(request, state).await;
    }
    if let Request::Fetch(request) = request {
        let response = fetch(&request, &mut state.lock().unwrap());
        let is_empty = response
            .responses
            .iter()
            .flat_map(|t| &t.partitions)
            .all(|p| p.error_code == 0 && p.records.as_ref().is_none_or(|r| r.is_empty()));
        if is_empty {
            let wait = u64::try_from(request.max_wait_ms).unwrap_or(0);
            // Slow on purpose: a long poll that nobody ends early, good enough for one consumer.
            tokio::time::sleep(std::time::Duration::from_millis(wait)).await;
        }
        return Reply::Response(Response::Fetch(response));
    }
    let mut state = state.lock().unwrap();
    Reply::Response(match request {
        Request::ApiVersions(_) => {
            Response::ApiVersions(ApiVersionsResponse { api_keys: served(), ..Default::default() })
        }
        Request::Metadata(request) => Response::Metadata(metadata(&request, version, &mut state)),
        Request::InitProducerId(_) => {
            state.next_producer_id += 1;
            Response::InitProducerId(InitProducerIdResponse {
                producer_id: state.next_producer_id,
                ..Default::default()
            })
        }
        Request::FindCoordinator(_) => {
            let address = state.address.unwrap();
            Response::FindCoordinator(FindCoordinatorResponse {
                node_id: NODE_ID,
                host: address.ip().to_string(),
                port: i32::from(address.port()),
                ..Default::default()
            })
        }
        Request::ListOffsets(request) => Response::ListOffsets(list_offsets(&request, &state)),
        Request::CreateTopics(request) => Response::CreateTopics(create(request, &mut state)),
        Request::JoinGroup(request) => Response::JoinGroup(join(request, &mut state)),
        Request::SyncGroup(request) => {
            let group = state.groups.entry(request.group_id).or_default();
            if let Some(assignment) = request.assignments.into_iter().next() {
                group.assignment = assignment.assignment;
            }
            let assignment = group.assignment.clone();
            Response::SyncGroup(SyncGroupResponse { assignment, ..Default::default() })
        }
        Request::Heartbeat(request) => {
            let group = state.groups.entry(request.group_id).or_default();
            let code = match group.must_rejoin {
                true => ErrorCode::RebalanceInProgress,
                false => ErrorCode::None,
            };
            Response::Heartbeat(HeartbeatResponse { error_code: code.code(), ..Default::default() })
        }
        Request::LeaveGroup(request) => {
            state.groups.entry(request.group_id).or_default().left = true;
            Response::LeaveGroup(LeaveGroupResponse::default())
        }
        Request::OffsetCommit(request) => Response::OffsetCommit(commit(&request, &mut state)),
        Request::OffsetFetch(request) => Response::OffsetFetch(committed(request, &state)),
        _ => return Reply::Close,
    })
}

pub(crate) fn records(raw: &Bytes) -> Vec<Stored> {
    let batch = Batch::parse(raw.clone()).unwrap();
    let section = batch.decompress(1 << 24).unwrap();
    let stored = |record: millpond_wire::record::Record<'_>| Stored {
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
    };
    batch.records(&section).map(|record| stored(record.unwrap())).collect()
}

async fn produce(request: ProduceRequest, state: &Arc<Mutex<State>>) -> Reply {
    let fault = state.lock().unwrap().faults.pop_front().unwrap_or(Fault::Serve);
    if matches!(fault, Fault::LoseRequest) {
        return Reply::Close;
    }
    let no_answer = request.acks == 0;
    let mut response = ProduceResponse::default();
    for topic in request.topic_data {
        let mut partition_responses = Vec::new();
        for partition in topic.partition_data {
            let mut state = state.lock().unwrap();
            if matches!(fault, Fault::Forget) {
                state.producers.clear();
            }
            let served = match fault {
                Fault::Answer(code) => Err(code),
                _ => append(&mut state, &topic.name, partition.index, partition.records.unwrap()),
            };
            let (code, base_offset) = match (served, &fault) {
                (Ok(_), Fault::ServeAndAnswer(code)) => (*code, -1),
                (Ok(_), Fault::NoOffset) => (ErrorCode::None, -1),
                (Ok(offset), _) => (ErrorCode::None, offset),
                (Err(code), _) => (code, -1),
            };
            partition_responses.push(produce_response::PartitionProduceResponse {
                index: partition.index,
                error_code: code.code(),
                base_offset,
                ..Default::default()
            });
        }
        response.responses.push(produce_response::TopicProduceResponse {
            name: topic.name,
            partition_responses,
            ..Default::default()
        });
    }
    match fault {
        Fault::LoseAnswer => return Reply::Close,
        Fault::NeverAnswer => std::future::pending().await,
        Fault::Hold(go) => go.notified().await,
        _ => {}
    }
    match no_answer {
        true => Reply::Nothing,
        false => Reply::Response(Response::Produce(response)),
    }
}

/// Kafka's rules for sequence numbers, for one batch.
fn append(state: &mut State, topic: &str, partition: i32, raw: Bytes) -> Result<i64, ErrorCode> {
    let batch = Batch::parse(raw).map_err(|_| ErrorCode::CorruptMessage)?;
    let header = *batch.header();
    state.seen.push(Seen {
        partition,
        producer_id: header.producer_id,
        epoch: header.producer_epoch,
        sequence: header.base_sequence,
        records: header.records_count,
    });
    let at = usize::try_from(partition).unwrap();
    let log = state.topics.get_mut(topic).and_then(|partitions| partitions.get_mut(at));
    let log = log.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let last = sequence_add(header.base_sequence, header.last_offset_delta);
    if header.producer_id < 0 {
        return Ok(store(log, batch));
    }
    let key = (topic.to_owned(), partition, header.producer_id);
    if !state.producers.contains_key(&key) && header.base_sequence != 0 {
        return Err(ErrorCode::UnknownProducerId);
    }
    let producer = state
        .producers
        .entry(key)
        .or_insert_with(|| ProducerState { epoch: header.producer_epoch, ..Default::default() });
    if header.producer_epoch < producer.epoch {
        return Err(ErrorCode::InvalidProducerEpoch);
    }
    if header.producer_epoch > producer.epoch {
        producer.epoch = header.producer_epoch;
        producer.batches.clear();
    }
    let same = producer.batches.iter().find(|(b, l, _)| (*b, *l) == (header.base_sequence, last));
    if let Some((_, _, offset)) = same {
        return Ok(*offset);
    }
    let next = producer.batches.back().map_or(0, |(_, last, _)| sequence_add(*last, 1));
    if header.base_sequence != next {
        return Err(ErrorCode::OutOfOrderSequenceNumber);
    }
    let offset = store(log, batch);
    producer.batches.push_back((header.base_sequence, last, offset));
    if producer.batches.len() > 5 {
        producer.batches.pop_front();
    }
    Ok(offset)
}

fn store(log: &mut Partition, batch: Batch) -> i64 {
    let offset = log.next_offset;
    log.next_offset += i64::from(batch.header().last_offset_delta) + 1;
    let stamped = LogBatch::stamp(batch, offset, 1);
    let raw = Records::from_iter(stamped.chunks()).to_bytes();
    log.batches.push((offset, raw));
    offset
}

fn metadata(request: &MetadataRequest, _version: i16, state: &mut State) -> MetadataResponse {
    state.metadata_requests += 1;
    let address = state.address.unwrap();
    let named = request.topics.as_ref().map(|topics| {
        topics.iter().filter_map(|topic| topic.name.clone()).collect::<Vec<String>>()
    });
    let names = named.unwrap_or_else(|| state.topics.keys().cloned().collect());
    let topic = |name: String| match state.topics.get(&name) {
        None => metadata_response::MetadataResponseTopic {
            error_code: ErrorCode::UnknownTopicOrPartition.code(),
            name: Some(name),
            ..Default::default()
        },
        Some(partitions) => metadata_response::MetadataResponseTopic {
            name: Some(name),
            partitions: (0..i32::try_from(partitions.len()).unwrap())
                .map(|partition_index| metadata_response::MetadataResponsePartition {
                    partition_index,
                    leader_id: NODE_ID,
                    leader_epoch: 1,
                    replica_nodes: vec![NODE_ID],
                    isr_nodes: vec![NODE_ID],
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        },
    };
    MetadataResponse {
        brokers: vec![metadata_response::MetadataResponseBroker {
            node_id: NODE_ID,
            host: address.ip().to_string(),
            port: i32::from(address.port()),
            ..Default::default()
        }],
        cluster_id: Some("fake".to_owned()),
        controller_id: NODE_ID,
        topics: names.into_iter().map(topic).collect(),
        ..Default::default()
    }
}

fn fetch(request: &FetchRequest, state: &mut State) -> FetchResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let at = usize::try_from(asked.partition).unwrap();
            let Some(log) = state.topics.get(&topic.topic).and_then(|t| t.get(at)) else {
                return fetch_response::PartitionData {
                    partition_index: asked.partition,
                    error_code: ErrorCode::UnknownTopicOrPartition.code(),
                    ..Default::default()
                };
            };
            if asked.fetch_offset > log.next_offset {
                return fetch_response::PartitionData {
                    partition_index: asked.partition,
                    error_code: ErrorCode::OffsetOutOfRange.code(),
                    ..Default::default()
                };
            }
            // From the batch that holds the offset on, as Kafka does; two batches a time.
            let wanted = log.batches.iter().filter(|(_, raw)| {
                let header = BatchHeader::read(raw.first_chunk().unwrap());
                header.last_offset() >= asked.fetch_offset
            });
            fetch_response::PartitionData {
                partition_index: asked.partition,
                high_watermark: log.next_offset,
                records: Some(wanted.take(2).map(|(_, raw)| raw.clone()).collect()),
                ..Default::default()
            }
        });
        fetch_response::FetchableTopicResponse {
            topic: topic.topic.clone(),
            partitions: partitions.collect(),
            ..Default::default()
        }
    });
    FetchResponse { responses: topics.collect(), ..Default::default() }
}

fn list_offsets(request: &ListOffsetsRequest, state: &State) -> ListOffsetsResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let at = usize::try_from(asked.partition_index).unwrap();
            let log = state.topics.get(&topic.name).and_then(|partitions| partitions.get(at));
            list_offsets_response::ListOffsetsPartitionResponse {
                partition_index: asked.partition_index,
                error_code: match log {
                    Some(_) => 0,
                    None => ErrorCode::UnknownTopicOrPartition.code(),
                },
                offset: match asked.timestamp {
                    -1 => log.map_or(-1, |log| log.next_offset),
                    _ => 0,
                },
                ..Default::default()
            }
        });
        list_offsets_response::ListOffsetsTopicResponse {
            name: topic.name.clone(),
            partitions: partitions.collect(),
        }
    });
    ListOffsetsResponse { topics: topics.collect(), ..Default::default() }
}

fn create(request: CreateTopicsRequest, state: &mut State) -> CreateTopicsResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let exists = state.topics.contains_key(&topic.name);
        let count = usize::try_from(topic.num_partitions).unwrap_or(1);
        if !exists {
            let empty = (0..count).map(|_| Partition::default()).collect();
            state.topics.insert(topic.name.clone(), empty);
        }
        create_topics_response::CreatableTopicResult {
            name: topic.name,
            error_code: match exists {
                true => ErrorCode::TopicAlreadyExists.code(),
                false => 0,
            },
            ..Default::default()
        }
    });
    CreateTopicsResponse { topics: topics.collect(), ..Default::default() }
}

fn join(request: JoinGroupRequest, state: &mut State) -> JoinGroupResponse {
    let group: &mut GroupState = state.groups.entry(request.group_id).or_default();
    group.joins += 1;
    if request.member_id.is_empty() {
        return JoinGroupResponse {
            error_code: ErrorCode::MemberIdRequired.code(),
            member_id: format!("member-{}", group.joins),
            ..Default::default()
        };
    }
    group.generation_id += 1;
    group.must_rejoin = false;
    group.member_id.clone_from(&request.member_id);
    let metadata = request.protocols[0].metadata.clone();
    JoinGroupResponse {
        generation_id: group.generation_id,
        protocol_type: Some("consumer".to_owned()),
        protocol_name: Some("range".to_owned()),
        leader: match group.is_led_by_another {
            true => "another".to_owned(),
            false => request.member_id.clone(),
        },
        member_id: request.member_id.clone(),
        members: vec![join_group_response::JoinGroupResponseMember {
            member_id: request.member_id,
            metadata,
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn commit(request: &OffsetCommitRequest, state: &mut State) -> OffsetCommitResponse {
    let group = &request.group_id;
    let is_current = state
        .groups
        .get(group)
        .is_some_and(|known| known.generation_id == request.generation_id_or_member_epoch);
    let mut topics = Vec::new();
    for topic in &request.topics {
        let mut partitions = Vec::new();
        for partition in &topic.partitions {
            let place = (group.clone(), topic.name.clone(), partition.partition_index);
            if is_current {
                state.committed.insert(place, partition.committed_offset);
            }
            partitions.push(offset_commit_response::OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: match is_current {
                    true => 0,
                    false => ErrorCode::IllegalGeneration.code(),
                },
            });
        }
        let name = topic.name.clone();
        topics.push(offset_commit_response::OffsetCommitResponseTopic {
            name,
            partitions,
            ..Default::default()
        });
    }
    OffsetCommitResponse { topics, ..Default::default() }
}

fn committed(request: OffsetFetchRequest, state: &State) -> OffsetFetchResponse {
    let groups = request.groups.into_iter().map(|group| {
        let topics = group.topics.unwrap_or_default().into_iter().map(|topic| {
            let partitions = topic.partition_indexes.iter().map(|partition_index| {
                let place = (group.group_id.clone(), topic.name.clone(), *partition_index);
                offset_fetch_response::OffsetFetchResponsePartitions {
                    partition_index: *partition_index,
                    committed_offset: state.committed.get(&place).copied().unwrap_or(-1),
                    ..Default::default()
                }
            });
            offset_fetch_response::OffsetFetchResponseTopics {
                name: topic.name.clone(),
                partitions: partitions.collect(),
                ..Default::default()
            }
        });
        offset_fetch_response::OffsetFetchResponseGroup {
            topics: topics.collect(),
            group_id: group.group_id.clone(),
            ..Default::default()
        }
    });
    OffsetFetchResponse { groups: groups.collect(), ..Default::default() }
}

/// It has no groups of the new protocol: consumers that would rather have them fall back.
fn served() -> Vec<api_versions_response::ApiVersion> {
    let heartbeat = ApiKey::ConsumerGroupHeartbeat.code();
    advertised_api_versions().into_iter().filter(|entry| entry.api_key != heartbeat).collect()
}
