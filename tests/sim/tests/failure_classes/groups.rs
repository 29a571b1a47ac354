//! D1 to D6: groups that hang, offsets that go back, two owners, and positions that are lost.

use crate::calls::{Member, Txn, code};
use millpond_sim::lab::Lab;
use millpond_wire::ErrorCode;
use millpond_wire::messages::{
    ConsumerGroupHeartbeatRequest, CreateTopicsRequest, ListOffsetsRequest, OffsetFetchRequest,
    OffsetForLeaderEpochRequest, Request, Response, create_topics_request, list_offsets_request,
    offset_fetch_request, offset_for_leader_epoch_request,
};

fn lab(seed: u64) -> Lab {
    let mut lab = Lab::new(seed);
    lab.machine.config.group_initial_rebalance_delay_ms = 10;
    lab.start();
    lab.create_topic("a", 1);
    lab
}

/// A member that leads a group alone.
fn alone(lab: &Lab, group: &'static str) -> Member {
    let mut member = Member::named(lab, group);
    let Response::JoinGroup(answer) = lab.call(member.join_request(), 5) else { panic!("no join") };
    assert_eq!(member.joined(&answer), ErrorCode::None);
    let Response::SyncGroup(answer) = lab.call(member.sync_request(&[(&member.id, "all")]), 3)
    else {
        panic!("no sync");
    };
    assert_eq!((answer.error_code, &answer.assignment[..]), (0, &b"all"[..]));
    member
}

/// Two members; the second one makes the first one join again. Both, and which of them leads.
fn pair(lab: &Lab, group: &'static str) -> (Member, Member) {
    let mut first = alone(lab, group);
    let mut second = Member::named(lab, group);
    let joining = lab.ask(second.join_request(), 5);
    while first.beat(lab) != ErrorCode::RebalanceInProgress {
        lab.run_ms(10);
    }
    let Response::JoinGroup(answer) = lab.call(first.join_request(), 5) else { panic!("no join") };
    assert_eq!(first.joined(&answer), ErrorCode::None);
    let Some(Response::JoinGroup(answer)) = lab.answer(&joining) else { panic!("no join") };
    assert_eq!(second.joined(&answer), ErrorCode::None);
    (first, second)
}

/// The power goes in the middle of a rebalance: whoever comes back gets a share before long.
#[test]
fn d01_a_group_is_not_stuck_after_a_power_cut_in_a_rebalance() {
    for cut_after in 0..3 {
        let mut lab = lab(10 + cut_after);
        let first = alone(&lab, "g");
        let second = Member::named(&lab, "g");
        let joining = lab.ask(second.join_request(), 5);
        lab.run_ms(cut_after * 20);
        lab.power_cycle();
        assert_eq!(lab.answer(&joining), None);
        let begun_ms = lab.executor.clock().now_ms();
        // Those of before are not there any more: one comes anew, as after any crash.
        lab.run_ms(100);
        let new = alone_within(&lab, "g", 20_000);
        assert_eq!(new.beat(&lab), ErrorCode::None);
        let took_ms = lab.executor.clock().now_ms() - begun_ms;
        assert!(took_ms < 20_000, "it took {took_ms} ms");
        assert_ne!(first.beat(&lab), ErrorCode::None, "the old one is not of this generation");
    }
}

/// A member that leads a group whose other members, if it still knows any, are dead.
fn alone_within(lab: &Lab, group: &'static str, patience_ms: u64) -> Member {
    let deadline_ms = lab.executor.clock().now_ms() + patience_ms;
    let mut member = Member::named(lab, group);
    loop {
        assert!(lab.executor.clock().now_ms() < deadline_ms, "the group is stuck");
        let Some(Response::JoinGroup(answer)) = lab.try_call(member.join_request(), 5) else {
            continue;
        };
        if member.joined(&answer) != ErrorCode::None || answer.leader != member.id {
            lab.run_ms(50);
            continue;
        }
        let sync = member.sync_request(&[(&member.id, "all")]);
        if let Some(Response::SyncGroup(answer)) = lab.try_call(sync, 3)
            && answer.error_code == 0
        {
            return member;
        }
    }
}

#[test]
fn d02_an_old_generation_commits_nothing_and_a_valid_commit_is_not_lost() {
    let mut lab = lab(2);
    let old = alone(&lab, "g");
    assert_eq!(old.commit(&lab, "a", 5), ErrorCode::None);
    let (first, second) = pair(&lab, "h");
    assert_eq!(first.generation, second.generation);
    let before = Member { generation: first.generation - 1, ..first.clone() };
    assert_eq!(before.commit(&lab, "a", 3), ErrorCode::IllegalGeneration);
    let stranger = Member { id: "nobody".to_owned(), ..first.clone() };
    assert_eq!(stranger.commit(&lab, "a", 3), ErrorCode::UnknownMemberId);
    assert_eq!(first.committed(&lab, "a"), -1);
    // A transaction is no way around it.
    let txn = Txn::init(&lab, "tx", true);
    assert_eq!(txn.commit_offset(&lab, &before, "a", 3), ErrorCode::IllegalGeneration);
    // One of the present generation commits even while the next rebalance begins.
    second.leave(&lab);
    assert!(
        [ErrorCode::None, ErrorCode::RebalanceInProgress].contains(&first.commit(&lab, "a", 7))
    );
    lab.power_cycle();
    assert_eq!(old.committed(&lab, "a"), 5);
}

/// Whoever asks with an old epoch is told so, and is not told that nothing was committed.
#[test]
fn d03_a_stale_member_epoch_is_an_error_and_never_an_empty_answer() {
    let lab = lab(3);
    let request = ConsumerGroupHeartbeatRequest {
        group_id: "k".to_owned(),
        member_id: "AAAAAAAAAAAAAAAAAAAAAQ".to_owned(),
        rebalance_timeout_ms: 10_000,
        subscribed_topic_names: Some(vec!["a".to_owned()]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    let Response::ConsumerGroupHeartbeat(answer) =
        lab.call(Request::ConsumerGroupHeartbeat(request), 1)
    else {
        panic!("no heartbeat");
    };
    assert_eq!(code(answer.error_code), ErrorCode::None);
    let epoch = answer.member_epoch;
    let committer =
        Member { group: "k", id: "AAAAAAAAAAAAAAAAAAAAAQ".to_owned(), generation: epoch };
    let Response::OffsetCommit(answer) = lab.call(committer.commit_request("a", 4), 9) else {
        panic!("no commit");
    };
    assert_eq!(code(answer.topics[0].partitions[0].error_code), ErrorCode::None);
    for (asked, wanted) in
        [(epoch, (ErrorCode::None, 4)), (epoch - 1, (ErrorCode::StaleMemberEpoch, -1))]
    {
        let group = offset_fetch_request::OffsetFetchRequestGroup {
            group_id: "k".to_owned(),
            member_id: Some(committer.id.clone()),
            member_epoch: asked,
            topics: Some(vec![offset_fetch_request::OffsetFetchRequestTopics {
                name: "a".to_owned(),
                partition_indexes: vec![0],
                ..Default::default()
            }]),
        };
        let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
        let Response::OffsetFetch(answer) = lab.call(Request::OffsetFetch(request), 9) else {
            panic!("no answer");
        };
        let group = &answer.groups[0];
        let offset = group.topics.first().map_or(-1, |topic| topic.partitions[0].committed_offset);
        assert_eq!((code(group.error_code), offset), wanted, "epoch {asked} of {epoch}");
    }
}

#[test]
fn d04_a_partition_has_one_owner_in_a_generation() {
    let lab = lab(4);
    let (first, second) = pair(&lab, "g");
    // The leader deals; the other gets what the leader gave it, and nobody gets both.
    let shares = [(first.id.as_str(), "left"), (second.id.as_str(), "right")];
    let waiting = lab.ask(second.sync_request(&[]), 3);
    let Response::SyncGroup(mine) = lab.call(first.sync_request(&shares), 3) else { panic!("no") };
    let Some(Response::SyncGroup(other)) = lab.answer(&waiting) else { panic!("no sync") };
    assert_eq!((&mine.assignment[..], &other.assignment[..]), (&b"left"[..], &b"right"[..]));
    // Dealing anew within the generation changes nothing.
    let again = [(first.id.as_str(), "right"), (second.id.as_str(), "right")];
    let Response::SyncGroup(mine) = lab.call(first.sync_request(&again), 3) else { panic!("no") };
    assert_eq!(&mine.assignment[..], b"left");
    // Who was of the generation before owns nothing.
    let before = Member { generation: first.generation - 1, ..first.clone() };
    assert_eq!(before.beat(&lab), ErrorCode::IllegalGeneration);
    let Response::SyncGroup(late) = lab.call(before.sync_request(&[]), 3) else { panic!("no") };
    assert_eq!(code(late.error_code), ErrorCode::IllegalGeneration);
}

/// The power cut after every operation of the disk while offsets are committed: none that was
/// acknowledged goes back.
#[test]
fn d05_an_acknowledged_commit_does_not_go_back() {
    for operations in 0..16 {
        let mut lab = lab(500 + operations);
        let nobody = Member::nobody("g");
        let connection = lab.connect();
        let commit = |offset: i64| nobody.commit_request("a", offset * 10);
        let commits: Vec<_> =
            (1..=6).map(|offset| lab.ask_over(&connection, commit(offset), 7)).collect();
        lab.run_operations(operations, 1_000);
        lab.power_cycle();
        let is_acknowledged = |answer: Option<Response>| {
            matches!(answer, Some(Response::OffsetCommit(answer))
                if answer.topics[0].partitions[0].error_code == 0)
        };
        let acknowledged = commits.iter().filter(|one| is_acknowledged(lab.answer(one))).count();
        let found = nobody.committed(&lab, "a");
        let least = if acknowledged == 0 { -1 } else { acknowledged as i64 * 10 };
        assert!(found >= least, "{acknowledged} acknowledged, {found} is found");
        lab.power_cycle();
        assert_eq!(nobody.committed(&lab, "a"), found);
    }
}

/// A topic with a window of loss loses its last records with the power. Nobody was shown them, so
/// nobody's position is behind the end; and who claims an epoch is told if it is not the present one,
/// before anything is said of offsets.
#[test]
fn d06_no_position_is_out_of_range_after_a_loss_and_epochs_are_checked_first() {
    let mut lab = lab(6);
    let windowed = create_topics_request::CreatableTopic {
        name: "w".to_owned(),
        num_partitions: 1,
        replication_factor: 1,
        configs: vec![create_topics_request::CreatableTopicConfig {
            name: "flush.ms".to_owned(),
            value: Some("400".to_owned()),
        }],
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![windowed], ..Default::default() };
    let Response::CreateTopics(answer) = lab.call(Request::CreateTopics(request), 5) else {
        panic!("no topic");
    };
    assert_eq!(answer.topics[0].error_code, 0);
    lab.produce("w", 0, "kept");
    lab.run_ms(2_000);
    lab.produce("w", 0, "lost");
    let end = offset_asked(&lab, -1).1;
    let seen = lab.fetch("w", 0, 0, 1 << 20).values.len() as i64;
    assert_eq!((seen, end), (1, 1), "what may be lost is not shown");
    lab.power_cycle();
    let position = lab.fetch("w", 0, seen, 1 << 20);
    assert_eq!((position.code, position.values.len()), (ErrorCode::None, 0));
    assert_eq!(offset_asked(&lab, 0).0, ErrorCode::FencedLeaderEpoch);
    assert_eq!(offset_asked(&lab, 999).0, ErrorCode::UnknownLeaderEpoch);
    assert!(end_of_epoch(&lab) >= seen, "nothing that was read is said to be gone");
}

/// The end of topic `w`, for whoever believes in this epoch.
fn offset_asked(lab: &Lab, current_leader_epoch: i32) -> (ErrorCode, i64) {
    let asked = list_offsets_request::ListOffsetsPartition {
        partition_index: 0,
        current_leader_epoch,
        timestamp: -1,
    };
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![list_offsets_request::ListOffsetsTopic {
            name: "w".to_owned(),
            partitions: vec![asked],
        }],
        ..Default::default()
    };
    let Response::ListOffsets(answer) = lab.call(Request::ListOffsets(request), 4) else {
        panic!("no answer");
    };
    let found = &answer.topics[0].partitions[0];
    (code(found.error_code), found.offset)
}

fn end_of_epoch(lab: &Lab) -> i64 {
    let asked = offset_for_leader_epoch_request::OffsetForLeaderPartition {
        partition: 0,
        current_leader_epoch: -1,
        leader_epoch: 1,
    };
    let request = OffsetForLeaderEpochRequest {
        replica_id: -1,
        topics: vec![offset_for_leader_epoch_request::OffsetForLeaderTopic {
            topic: "w".to_owned(),
            partitions: vec![asked],
        }],
    };
    let Response::OffsetForLeaderEpoch(answer) =
        lab.call(Request::OffsetForLeaderEpoch(request), 3)
    else {
        panic!("no answer");
    };
    answer.topics[0].partitions[0].end_offset
}
