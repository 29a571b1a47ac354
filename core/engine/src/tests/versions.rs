//! Versions of a transform: canaries on a share of the partitions, promotion, rolling back. Each
//! batch is given to exactly one version.

use super::rig::{Rig, batch};
use crate::transform::{AdminError, AdminRequest, AdminResponse, Deployment, TransformSpec};
use crate::units::TransformId;

fn spec(version: &str) -> TransformSpec {
    TransformSpec {
        name: "filter".to_owned(),
        version: version.to_owned(),
        topics: vec!["t".to_owned()],
        ..TransformSpec::default()
    }
}

fn rig() -> Rig {
    let mut rig = Rig::new();
    rig.create_topic("t", 4);
    deploy(&mut rig, "1");
    rig
}

fn asked(rig: &mut Rig, request: AdminRequest) -> Deployment {
    match rig.admin(request) {
        Ok(AdminResponse::Transform(deployment)) => *deployment,
        other => panic!("{other:?}"),
    }
}

fn deploy(rig: &mut Rig, version: &str) -> Deployment {
    asked(rig, AdminRequest::DeployTransform(spec(version)))
}

fn canary(rig: &mut Rig, version: &str, share_percent: u8) -> Deployment {
    asked(rig, AdminRequest::CanaryTransform { spec: spec(version), share_percent })
}

fn promote(rig: &mut Rig) -> Deployment {
    asked(rig, AdminRequest::PromoteTransform { name: "filter".to_owned() })
}

fn roll_back(rig: &mut Rig, of: Option<TransformId>) -> Result<AdminResponse, AdminError> {
    rig.admin(AdminRequest::RollBackTransform { name: "filter".to_owned(), of })
}

/// The versions that the partitions' next batches are given to.
fn versions(rig: &mut Rig) -> Vec<TransformId> {
    (0..4)
        .map(|partition| {
            rig.send_batch("t", partition, batch(&["a"], None));
            rig.jobs.pop_front().expect("a job").chain[0]
        })
        .collect()
}

#[test]
fn a_canary_runs_on_its_share_of_the_partitions_and_on_all_once_it_is_promoted() {
    let mut rig = rig();
    let first = versions(&mut rig)[0];
    let tried = canary(&mut rig, "2", 30).canary.expect("a canary");
    // 30 % of four partitions, rounded up.
    assert_eq!(versions(&mut rig), [tried.id, tried.id, first, first]);
    let promoted = promote(&mut rig);
    assert_eq!((promoted.id, promoted.spec.version.as_str()), (tried.id, "2"));
    assert_eq!(versions(&mut rig), [tried.id; 4]);
    assert_eq!(
        rig.admin(AdminRequest::PromoteTransform { name: "filter".to_owned() }),
        Err(AdminError::NoCanary("filter".to_owned()))
    );
}

#[test]
fn rolling_back_ends_a_canary_first_and_then_undoes_the_last_deployment() {
    let mut rig = rig();
    let second = deploy(&mut rig, "2").id;
    canary(&mut rig, "3", 99);
    roll_back(&mut rig, None).expect("rolled back");
    assert_eq!(versions(&mut rig), [second; 4]);
    let Ok(AdminResponse::Transform(now)) = roll_back(&mut rig, None) else { panic!("no answer") };
    assert_eq!(now.spec.version, "1");
    assert_eq!(versions(&mut rig), [now.id; 4]);
    let Ok(AdminResponse::Transform(again)) = roll_back(&mut rig, None) else {
        panic!("no answer")
    };
    assert_eq!(again.spec.version, "2", "a second one undoes the first");
}

#[test]
fn a_first_version_cannot_be_rolled_back() {
    assert_eq!(roll_back(&mut rig(), None), Err(AdminError::NoPrevious("filter".to_owned())));
}

#[test]
fn a_version_that_is_no_longer_in_force_is_not_rolled_back_again() {
    let mut rig = rig();
    let bad = deploy(&mut rig, "2").id;
    roll_back(&mut rig, Some(bad)).expect("rolled back");
    let late = roll_back(&mut rig, Some(bad));
    assert_eq!(late, Err(AdminError::Superseded { name: "filter".to_owned(), of: bad }));
    let back = roll_back(&mut rig, None);
    assert_eq!(back, Err(AdminError::NoPrevious("filter".to_owned())), "it does not come back");
}

#[test]
fn a_version_in_force_that_is_rolled_back_by_its_number_takes_its_canary_with_it() {
    let mut rig = rig();
    let second = deploy(&mut rig, "2").id;
    canary(&mut rig, "3", 50);
    roll_back(&mut rig, Some(second)).expect("rolled back");
    let now = versions(&mut rig);
    assert!(now.iter().all(|id| *id == now[0] && *id > second), "{now:?}");
}

#[test]
fn versions_survive_a_restart_with_their_canary_and_no_number_is_used_twice() {
    let mut rig = rig();
    let tried = canary(&mut rig, "2", 50).canary.expect("a canary").id;
    roll_back(&mut rig, Some(tried)).expect("rolled back");
    canary(&mut rig, "3", 50);
    let before = versions(&mut rig);
    for snapshot in [None, Some(rig.engine.snapshot())] {
        let mut reborn = rig.reborn(snapshot);
        assert_eq!(versions(&mut reborn), before);
        let next = deploy(&mut reborn, "4").id;
        assert!(!before.contains(&next) && next > tried);
    }
}

#[test]
fn a_canary_keeps_to_the_topics_of_the_version_in_force() {
    let mut rig = rig();
    let elsewhere = TransformSpec { topics: vec!["u".to_owned()], ..spec("2") };
    for (spec, share_percent) in [(elsewhere, 10), (spec("2"), 0), (spec("2"), 100)] {
        let refused = rig.admin(AdminRequest::CanaryTransform { spec, share_percent });
        assert!(matches!(refused, Err(AdminError::InvalidSpec(_))), "{refused:?}");
    }
    let unknown = TransformSpec { name: "other".to_owned(), ..spec("1") };
    let refused = rig.admin(AdminRequest::CanaryTransform { spec: unknown, share_percent: 10 });
    assert_eq!(refused, Err(AdminError::UnknownTransform("other".to_owned())));
}

#[test]
fn a_signed_package_never_takes_the_place_of_a_newer_one_not_even_after_a_deletion() {
    let mut rig = rig();
    let package = |counter| TransformSpec { package_counter: counter, ..spec("signed") };
    asked(&mut rig, AdminRequest::DeployTransform(package(5)));
    asked(&mut rig, AdminRequest::DeployTransform(package(7)));
    rig.admin(AdminRequest::DeleteTransform { name: "filter".to_owned() }).expect("deleted");
    let old = AdminError::OldPackage { name: "filter".to_owned(), counter: 5, highest: 7 };
    for snapshot in [None, Some(rig.engine.snapshot())] {
        let mut reborn = rig.reborn(snapshot);
        let refused = reborn.admin(AdminRequest::DeployTransform(package(5)));
        assert_eq!(refused, Err(old.clone()));
        asked(&mut reborn, AdminRequest::DeployTransform(package(7)));
    }
}

#[test]
fn rolling_back_may_go_to_an_older_package_that_was_in_force_and_which_can_be_altered_then() {
    let mut rig = rig();
    let package = |counter: u8| TransformSpec {
        package_counter: counter.into(),
        module: [counter; 32],
        ..spec("signed")
    };
    for counter in [5, 7] {
        asked(&mut rig, AdminRequest::DeployTransform(package(counter)));
    }
    let Ok(AdminResponse::Transform(now)) = roll_back(&mut rig, None) else { panic!("no answer") };
    assert_eq!(now.spec.package_counter, 5);
    let altered = TransformSpec { order: 3, ..package(5) };
    assert_eq!(asked(&mut rig, AdminRequest::DeployTransform(altered)).spec.order, 3);
    let other = TransformSpec { module: [6; 32], ..package(5) };
    assert!(rig.admin(AdminRequest::DeployTransform(other)).is_err());
}
