//! What the shipped modules do to batches, end to end through the sandbox.

mod common;

use common::*;
use millpond_guests::{PROJECTION, ROUTE, SPLIT, THRESHOLD};
use millpond_transform::{Chain, ChainError, DeployError, OnFailure, Outcome, Sha256, Transform};
use millpond_wire::record::{Batch, BatchBuilder, Codec};

fn readings(temperatures: impl IntoIterator<Item = i64>) -> Vec<String> {
    let reading = |t| format!("{{\"device\":\"pump-7\",\"t\":{t},\"rssi\":-70}}");
    temperatures.into_iter().map(reading).collect()
}

#[tokio::test]
async fn a_batch_of_which_all_is_kept_is_untouched() {
    let mut chain = chain(THRESHOLD, |spec| set(spec, &[("field", "t"), ("max", "100")])).await;
    for codec in Codec::ALL {
        let came = batch_of(codec, &readings(0..50));
        let report = run_once(&mut chain, &came).await;
        assert_eq!(report.outcome, Outcome::Untouched, "{codec:?}");
        assert_eq!(report.stages[0].kept, 50);
        assert_eq!(report.stages[0].calls, 1);
    }
}

#[tokio::test]
async fn what_is_dropped_is_gone_and_the_rest_is_as_it_was() {
    let mut chain = chain(THRESHOLD, |spec| set(spec, &[("field", "t"), ("min", "40")])).await;
    for codec in Codec::ALL {
        let came = batch_of(codec, &readings(0..50));
        let report = run_once(&mut chain, &came).await;
        let expected: Vec<_> = records(&came, None).split_off(40);
        assert_eq!(came_out(&report.outcome), expected, "{codec:?}");
        let Outcome::Changed { outputs } = &report.outcome else { unreachable!() };
        // Ten tiny records may not be worth compressing; a codec of its own is never chosen.
        assert!([codec, Codec::None].contains(&outputs[0].batch.codec()));
        assert_eq!((report.stages[0].kept, report.stages[0].dropped), (10, 40));
    }
}

#[tokio::test]
async fn a_batch_of_which_nothing_is_left_makes_no_batch() {
    let mut chain = chain(THRESHOLD, |spec| set(spec, &[("field", "t"), ("min", "1000")])).await;
    let report = run_once(&mut chain, &batch(&readings(0..9))).await;
    assert_eq!(report.outcome, Outcome::Changed { outputs: Vec::new() });
}

#[tokio::test]
async fn a_replaced_record_keeps_key_headers_and_timestamp() {
    let mut chain = chain(PROJECTION, |spec| {
        set(spec, &[("fields", "t as temp_c * 0.1 + -40, device")]);
    })
    .await;
    let came = batch(&readings([213, 400]));
    let report = run_once(&mut chain, &came).await;
    let mut expected = records(&came, None);
    expected[0].value = Some(r#"{"temp_c":-18.7,"device":"pump-7"}"#.to_string());
    expected[1].value = Some(r#"{"temp_c":0,"device":"pump-7"}"#.to_string());
    assert_eq!(came_out(&report.outcome), expected);
}

#[tokio::test]
async fn one_record_may_become_several() {
    let mut chain = chain(SPLIT, |_| {}).await;
    let report = run_once(&mut chain, &batch(&["a", "b\nc\nd", "e"])).await;
    assert_eq!(values(&report.outcome), ["a", "b", "c", "d", "e"]);
    let keys: Vec<_> = came_out(&report.outcome).into_iter().filter_map(|r| r.key).collect();
    assert_eq!(keys, ["key-0", "key-1", "key-1", "key-1", "key-2"]);
    assert_eq!(report.stages[0].emitted, 3);
}

#[tokio::test]
async fn records_are_routed_to_declared_topics_only() {
    let cases = [("field", "kind"), ("cases", "alarm=alarms,secret=__offsets")];
    let mut chain = chain(ROUTE, |spec| {
        set(spec, &cases);
        spec.outputs.push("alarms".to_string());
    })
    .await;
    let came = batch(&[r#"{"kind":"alarm"}"#, r#"{"kind":"other"}"#, r#"{"kind":"secret"}"#]);
    let report = run_once(&mut chain, &came).await;
    assert_eq!(values(&report.outcome), [r#"{"kind":"other"}"#]);
    assert_eq!(sent_to(&report.outcome, "alarms").len(), 1);
    let letters = sent_to(&report.outcome, "readings.dead-letter");
    let error = letters[0].header("millpond.error").unwrap();
    assert_eq!(error, "sent to `__offsets`, which is not among the outputs");
}

#[tokio::test]
async fn a_chain_runs_in_order() {
    let split = deploy(SPLIT, |spec| spec.name = "split".into()).await;
    let filter = deploy(THRESHOLD, |spec| set(spec, &[("field", "t"), ("min", "2")])).await;
    let project = deploy(PROJECTION, |spec| set(spec, &[("fields", "t as x")])).await;
    let mut chain = Chain::new(vec![split, filter, project], TOPIC, 0).unwrap();
    let came = batch(&["{\"t\":1}\n{\"t\":2}", "{\"t\":3}"]);
    let report = run_once(&mut chain, &came).await;
    assert_eq!(values(&report.outcome), [r#"{"x":2}"#, r#"{"x":3}"#]);
    let seen: Vec<_> = report.stages.iter().map(|stage| stage.records_in).collect();
    assert_eq!(seen, [2, 3, 2]);
}

#[tokio::test]
async fn a_failed_record_of_a_chain_is_dead_lettered_as_its_transform_got_it() {
    let split = deploy(SPLIT, |_| {}).await;
    let filter = deploy(THRESHOLD, |spec| {
        set(spec, &[("field", "t"), ("min", "0")]);
        spec.name = "filter".into();
        spec.dead_letter_topic = Some("bad".into());
    })
    .await;
    let mut chain = Chain::new(vec![split, filter], TOPIC, 3).unwrap();
    let report = run_once(&mut chain, &batch(&["{\"t\":1}\nnonsense\n{\"t\":2}"])).await;
    assert_eq!(values(&report.outcome), [r#"{"t":1}"#, r#"{"t":2}"#]);
    let letters = sent_to(&report.outcome, "bad");
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!(letter.value.as_deref(), Some("nonsense"));
    assert_eq!((letter.key.as_deref(), letter.timestamp), (Some("key-0"), 5_000));
    let names: Vec<_> = letter.headers.iter().map(|(name, _)| name.as_str()).collect();
    let ours = ["error", "transform", "version", "topic", "partition"];
    let expected: Vec<_> = ours.iter().map(|name| format!("millpond.{name}")).collect();
    assert_eq!(names[..2], ["h", "n"]);
    assert_eq!(names[2..], expected);
    assert_eq!(letter.header("millpond.error"), Some("no number in the field `t`"));
    assert_eq!(letter.header("millpond.transform"), Some("filter"));
    assert_eq!(letter.header("millpond.version"), Some("7"));
    assert_eq!(letter.header("millpond.topic"), Some(TOPIC));
    assert_eq!(letter.header("millpond.partition"), Some("3"));
}

#[tokio::test]
async fn instances_thrown_away_between_batches_change_nothing() {
    let settings = [("field", "t"), ("min", "20")];
    let mut kept = chain(THRESHOLD, |spec| set(spec, &settings)).await;
    let mut fresh = chain(THRESHOLD, |spec| set(spec, &settings)).await;
    for round in 0..20 {
        let came = batch(&readings(round..round + 30));
        let first = run_once(&mut kept, &came).await;
        let second = run_once(&mut fresh, &came).await;
        assert_eq!(first.outcome, second.outcome);
        assert_eq!(first.stages[0].instances_started, u64::from(round == 0));
        assert_eq!(second.stages[0].instances_started, 1);
        fresh.discard_instances();
        assert_eq!((kept.live_instances(), fresh.live_instances()), (1, 0));
    }
}

#[tokio::test]
async fn records_without_key_value_or_headers_go_through() {
    let mut builder = BatchBuilder::new(Codec::None, None);
    builder.push(-1, None, None, &[]).unwrap();
    builder.push(7, None, Some(b""), &[]).unwrap();
    builder.push(7, Some(b""), Some(b"x\ny"), &[]).unwrap();
    let came = Batch::parse(builder.build().unwrap()).unwrap();
    let mut chain = chain(SPLIT, |_| {}).await;
    let out = came_out(&run_once(&mut chain, &came).await.outcome);
    let values: Vec<_> = out.iter().map(|record| record.value.as_deref()).collect();
    assert_eq!(values, [None, Some(""), Some("x"), Some("y")]);
    let keys: Vec<_> = out.iter().map(|record| record.key.as_deref()).collect();
    assert_eq!(keys, [None, None, Some(""), Some("")]);
    assert_eq!(out[0].timestamp, -1);
}

#[tokio::test]
async fn what_grows_beyond_a_batch_is_cut_into_several() {
    let mut chain = chain(PROJECTION, |spec| set(spec, &[("fields", "a")])).await;
    let big = format!("{{\"a\":\"{}\"}}", "x".repeat(300_000));
    let came = batch_of(Codec::Zstd, &vec![big; 10]);
    let report = run_once(&mut chain, &came).await;
    let Outcome::Changed { outputs } = &report.outcome else { panic!("{:?}", report.outcome) };
    assert!(outputs.len() > 1);
    assert_eq!(values(&report.outcome).len(), 10);
}

#[tokio::test]
async fn settings_that_a_module_refuses_are_refused_at_deployment() {
    let module = host().compile(THRESHOLD).unwrap();
    let mut spec = millpond_transform::TransformSpec::new("f", Sha256::of(THRESHOLD));
    let refused = Transform::deploy(host(), spec.clone(), module.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("set `min`, `max` or both"), "{refused}");
    spec.module = Sha256::of(b"another");
    let refused = Transform::deploy(host(), spec, module).await.unwrap_err();
    assert!(matches!(refused, DeployError::OtherModule { .. }));
}

#[tokio::test]
async fn a_chain_has_a_bounded_length() {
    let one = deploy(SPLIT, |_| {}).await;
    assert_eq!(Chain::new(Vec::new(), TOPIC, 0).unwrap_err(), ChainError::Length(0));
    assert_eq!(Chain::new(vec![one; 9], TOPIC, 0).unwrap_err(), ChainError::Length(9));
}

#[tokio::test]
async fn reject_refuses_the_batch_with_the_reason() {
    let mut chain = chain(THRESHOLD, |spec| {
        set(spec, &[("field", "t"), ("min", "0")]);
        spec.on_failure = policy(OnFailure::Reject);
    })
    .await;
    let report = run_once(&mut chain, &batch(&["{\"t\":1}", "x"])).await;
    let Outcome::Rejected { code, message } = report.outcome else { panic!() };
    assert_eq!(code, millpond_wire::ErrorCode::InvalidRecord);
    assert!(message.contains("record 1") && message.contains("no number"), "{message}");
}
