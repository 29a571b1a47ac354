//! What a fixture holds since version 4: transforms with everything that can be said of them, where they
//! stand in their sources, their state, and users; and how a node tells of them. An older fixture has
//! none of it, so nothing here may tell of anything else.

use std::collections::BTreeMap;

use bytes::Bytes;
use millpond_engine::transform::{
    AdminRequest, Deployment, DeriveStart, FailureAction, IDLE_TIMEOUT_MS, Mode, OnFailure,
    TransformOutcome, TransformSpec,
};
use millpond_engine::{AdminId, Event, state_batches};
use millpond_wire::Secret;
use millpond_wire::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use millpond_wire::messages::{
    AlterUserScramCredentialsRequest, DescribeUserScramCredentialsRequest, Request, Response,
};

use super::rig::{Machine, Node};

/// The topics that it needs, with their partitions.
pub(super) const TOPICS: [(&str, i32); 3] = [("load", 2), ("heat", 2), ("pressure", 1)];

/// A transform with every part that a deployment can have.
fn full(version: &str, counter: u64) -> TransformSpec {
    TransformSpec {
        name: "full".to_owned(),
        version: version.to_owned(),
        module: [9; 32],
        settings: [("within_ms".to_owned(), "500".to_owned())].into(),
        topics: vec!["load".to_owned(), "heat".to_owned()],
        outputs: vec!["joined".to_owned()],
        limits: [(IDLE_TIMEOUT_MS.to_owned(), 86_000_000)].into(),
        on_failure: OnFailure { retries: 2, then: FailureAction::Skip },
        dead_letter_topic: Some("letters".to_owned()),
        order: -4,
        mode: Mode::Derive(DeriveStart::TimestampMs(1_600_000_000_000)),
        package_counter: counter,
        route_by_key: true,
        keeps_state: true,
        shares_state: true,
    }
}

/// One that derives from one topic, from its start.
fn tail() -> TransformSpec {
    TransformSpec {
        name: "tail".to_owned(),
        version: "1".to_owned(),
        topics: vec!["pressure".to_owned()],
        outputs: vec!["peaks".to_owned()],
        mode: Mode::Derive(DeriveStart::Earliest),
        keeps_state: true,
        ..TransformSpec::default()
    }
}

/// Adds it to a node that has the topics, each with records in all partitions.
pub(super) fn live(machine: &Machine, node: &Node) {
    admin(machine, node, AdminRequest::DeployTransform(full("1.0", 4)));
    admin(machine, node, AdminRequest::DeployTransform(full("1.1", 5)));
    let canary = AdminRequest::CanaryTransform { spec: full("1.2", 6), share_percent: 30 };
    admin(machine, node, canary);
    admin(machine, node, AdminRequest::DeployTransform(tail()));
    let paused = AdminRequest::PauseTransform { name: "full".to_owned(), paused: true };
    run_jobs(machine, node);
    admin(machine, node, paused);
    let hashes = [(1, 32), (2, 64)];
    let users = hashes.map(|(mechanism, bytes)| ScramCredentialUpsertion {
        name: format!("gauge-{mechanism}"),
        mechanism,
        iterations: 8_192,
        salt: Bytes::from_static(b"salt of a fixture"),
        salted_password: Secret(Bytes::from(vec![7; bytes])),
    });
    alter(node, Vec::new(), users.into());
}

/// What only the journal knows: a user less, another one of the other hash, more that was derived.
pub(super) fn live_late(machine: &Machine, node: &Node) {
    let gone = ScramCredentialDeletion { name: "gauge-1".to_owned(), mechanism: 1 };
    let new = ScramCredentialUpsertion {
        name: "gauge-3".to_owned(),
        mechanism: 1,
        iterations: 4_096,
        salt: Bytes::from_static(b"another"),
        salted_password: Secret(Bytes::from(vec![8; 32])),
    };
    alter(node, vec![gone], vec![new]);
    run_jobs(machine, node);
}

fn admin(machine: &Machine, node: &Node, request: AdminRequest) {
    node.engine.submit(Event::Admin { id: AdminId(3), request });
    machine.run_for_ms(50);
}

/// Every job is done: nothing comes of it but state.
fn run_jobs(machine: &Machine, node: &Node) {
    loop {
        let job = node.work.jobs.borrow_mut().pop_front();
        let Some(job) = job else { return };
        let key = format!("{} of {}", job.topic, job.partition.partition);
        let change = (key.as_bytes(), Some(&b"\0\0\0\0\0\0\0\0kept"[..]));
        let state = state_batches(job.chain[0], [change], 1_700_000_000_000).expect("small");
        let outcome = TransformOutcome::Changed { outputs: Vec::new(), state };
        node.engine.submit(Event::Transformed { ticket: job.ticket, outcome });
        machine.run_for_ms(50);
    }
}

fn alter(
    node: &Node,
    deletions: Vec<ScramCredentialDeletion>,
    upsertions: Vec<ScramCredentialUpsertion>,
) {
    let request = AlterUserScramCredentialsRequest { deletions, upsertions };
    match node.call(Request::AlterUserScramCredentials(request), 0) {
        Response::AlterUserScramCredentials(answer) => {
            assert!(answer.results.iter().all(|one| one.error_code == 0), "{answer:?}");
        }
        other => panic!("{other:?}"),
    }
}

/// What a node knows of it, one line each.
pub(super) fn dump(node: &Node) -> Vec<String> {
    let mut lines = users(node);
    node.engine.with_engine(|engine| {
        for deployment in engine.transforms().into_iter().filter(|one| one.spec.is_derived()) {
            lines.extend(parts(&deployment));
        }
        let lanes = engine.derives().into_iter();
        lines.extend(lanes.map(|lane| {
            let (name, topic, partition) = (lane.transform, lane.topic, lane.partition.partition);
            format!("cursor\t{name}\t{topic}\t{partition}\t{}", lane.next_offset)
        }));
    });
    lines
}

fn parts(deployment: &Deployment) -> Vec<String> {
    let said = |what: &str, spec: &TransformSpec| {
        let (mode, counter, limits) = (spec.mode, spec.package_counter, &spec.limits);
        let (failure, outputs) = (spec.on_failure, &spec.outputs);
        let flags = BTreeMap::from([
            ("route_by_key", spec.route_by_key),
            ("keeps_state", spec.keeps_state),
            ("shares_state", spec.shares_state),
        ]);
        format!(
            "parts\t{}\t{what}\t{}\t{mode:?}\t{counter}\t{limits:?}\t{failure:?}\t{outputs:?}\t{flags:?}",
            spec.name, spec.version
        )
    };
    let mut lines = vec![said("now", &deployment.spec)];
    lines.extend(deployment.previous.iter().map(|spec| said("previous", spec)));
    lines.extend(deployment.canary.iter().map(|canary| {
        let (id, share) = (canary.id, canary.share_percent);
        said(&format!("canary {id} on {share} %"), &canary.spec)
    }));
    lines
}

fn users(node: &Node) -> Vec<String> {
    let request = DescribeUserScramCredentialsRequest { users: None };
    let answer = node.call(Request::DescribeUserScramCredentials(request), 0);
    let Response::DescribeUserScramCredentials(answer) = answer else { panic!("{answer:?}") };
    let users = answer.results.into_iter();
    users
        .flat_map(|user| {
            let infos = user.credential_infos.into_iter();
            let name = user.user;
            infos.map(move |one| format!("user\t{name}\t{}\t{}", one.mechanism, one.iterations))
        })
        .collect()
}
