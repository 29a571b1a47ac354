//! What modules remember: the map, timers, the watermark, and that what failed leaves no trace.

mod common;

use bytes::Bytes;
use common::*;
use millpond_guests::{HOSTILE_STATE, SPLIT};
use millpond_transform::{
    Chain, EngineKind, Input, OnFailure, Outcome, Report, StageChanges, StateError, TransformSpec,
    run,
};
use millpond_wire::ErrorCode;
use millpond_wire::limits as caps;
use std::collections::BTreeMap;

const BOTH: [EngineKind; 2] = [EngineKind::Native, EngineKind::Interpreter];
const LETTERS: &str = "readings.dead-letter";

/// What the changelog holds, a map for each stage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Changelog(BTreeMap<usize, BTreeMap<Bytes, Bytes>>);

impl Changelog {
    fn append(&mut self, all: &[StageChanges]) {
        for StageChanges { stage, changes } in all {
            assert!(changes.is_sorted_by(|a, b| a.key < b.key), "one for each key, in order");
            let log = self.0.entry(*stage).or_default();
            for change in changes {
                match &change.value {
                    Some(value) => drop(log.insert(change.key.clone(), value.clone())),
                    None => assert!(log.remove(&change.key).is_some(), "{:?}", change.key),
                }
            }
        }
    }

    fn load(&self, chain: &mut Chain) {
        for stage in chain.state_wanted() {
            let entries = self.0.get(&stage).cloned().unwrap_or_default();
            chain.load_state(stage, entries).expect("what was journalled loads");
        }
    }

    /// The guest's keys and values of the first stage.
    fn of_guest(&self) -> BTreeMap<String, String> {
        let entries = self.0.get(&0).into_iter().flatten();
        let own = entries.filter(|(key, _)| key[0] == 0);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        own.map(|(key, value)| (text(&key[1..]), text(&value[8..]))).collect()
    }

    fn timers(&self) -> usize {
        self.0.get(&0).into_iter().flatten().filter(|(key, _)| key[0] == 1).count()
    }
}

/// A partition: its chain and its changelog.
struct Partition {
    chain: Chain,
    log: Changelog,
}

impl Partition {
    async fn new(engine: EngineKind, change: impl FnOnce(&mut TransformSpec)) -> Self {
        let mut partition = Partition {
            chain: chain_on(engine, HOSTILE_STATE, change).await,
            log: Changelog::default(),
        };
        partition.log.load(&mut partition.chain);
        partition
    }

    async fn run<V: AsRef<[u8]>>(&mut self, records: &[(i64, V)]) -> Report {
        let report = run_once(&mut self.chain, &batch_at(records)).await;
        self.log.append(&report.state);
        report
    }

    /// What one record's commands answer.
    async fn ask(&mut self, commands: &str) -> String {
        let report = self.run(&[(0, commands)]).await;
        values(&report.outcome).join(" ")
    }

    async fn idle(&mut self, idle_ms: u64) -> Report {
        let input = Input { idle_ms: Some(idle_ms), ..Input::default() };
        let report = run(&mut self.chain, input).await;
        self.log.append(&report.state);
        report
    }
}

#[tokio::test]
async fn what_is_put_is_found_in_the_next_batch_and_in_the_changelog() {
    for engine in BOTH {
        let mut partition = Partition::new(engine, |_| {}).await;
        assert_eq!(partition.ask("get a\nput a 1 0\nget a").await, "- 0 1");
        assert_eq!(
            partition.ask("get a\nput b  0\nget b\ndel a\ndel a\nget a").await,
            "1 0  1 0 -"
        );
        assert_eq!(partition.log.of_guest(), BTreeMap::from([("b".into(), String::new())]));
    }
}

#[tokio::test]
async fn a_range_gives_whole_entries_in_order_and_says_what_it_needs() {
    for engine in BOTH {
        let mut partition = Partition::new(engine, |_| {}).await;
        partition
            .run(&[(0, "put b 22 0\nput a 1 0\nput bb 333 0\nput c 4 0\nput \u{ff} 5 0")])
            .await;
        assert_eq!(partition.ask("range a c 100").await, "34,a=1,b=22,bb=333");
        assert_eq!(partition.ask("range a c 25").await, "21,a=1,b=22");
        assert_eq!(partition.ask("range bb * 12").await, "-13");
        assert_eq!(partition.ask("range c * 99").await, "21,c=4,\u{ff}=5");
        assert_eq!(partition.ask("range c a 99").await, "0");
        assert_eq!(partition.ask("range x x 99").await, "0");
    }
}

#[tokio::test]
async fn a_record_that_traps_leaves_no_trace_and_the_others_all_of_theirs() {
    for engine in BOTH {
        for first in ["", "say blind"] {
            for bad in ["trap", "fail\nput never 1 0", "far put-key"] {
                let mut clean = Partition::new(engine, |_| {}).await;
                let mut dirty = Partition::new(engine, |_| {}).await;
                let good = (0..40).map(|n| (100 + n, format!("count all\nput k{n} {n} 0")));
                let mut records: Vec<_> =
                    std::iter::once((100, first.to_string())).chain(good).collect();
                clean.run(&records).await;
                for place in [20, 5, 1] {
                    records.insert(place, (100, format!("count all\nput bad 1 0\n{bad}")));
                }
                let report = dirty.run(&records).await;
                // A verdict is the module's word on a record that it has done with.
                if bad.starts_with("fail") {
                    assert_eq!(dirty.log.of_guest()["all"], "43");
                } else {
                    assert_eq!(dirty.log, clean.log, "{bad}");
                }
                assert_eq!(sent_to(&report.outcome, LETTERS).len(), 3, "{bad}");
                assert_eq!(dirty.ask("get k39").await, "39");
            }
        }
    }
}

#[tokio::test]
async fn a_record_that_never_ends_leaves_no_trace() {
    let cpu = |spec: &mut TransformSpec| spec.limits.cpu_ms_per_batch = 60;
    let mut partition = Partition::new(EngineKind::Native, cpu).await;
    let bad = "count all\nput bad 1 0\nloop";
    let report = partition.run(&[(0, "count all"), (1, bad), (2, "count all\nget bad")]).await;
    assert_eq!(values(&report.outcome), ["0", "0 -"]);
    assert_eq!(partition.log.of_guest(), BTreeMap::from([("all".into(), "2".into())]));
}

#[tokio::test]
async fn a_refused_batch_changes_nothing_in_any_stage() {
    let first = deploy(HOSTILE_STATE, |spec| spec.name = "first".into()).await;
    let second = deploy(HOSTILE_STATE, |spec| {
        spec.name = "second".into();
        spec.on_failure = policy(OnFailure::Reject);
    })
    .await;
    let mut chain = Chain::new(vec![first, second], TOPIC, 0).unwrap();
    let mut log = Changelog::default();
    log.load(&mut chain);
    let report = run_once(&mut chain, &batch_at(&[(0, "count n\nput x 1 0")])).await;
    log.append(&report.state);
    assert_eq!(report.state.len(), 2);
    let before = (chain.state_bytes(), log.clone());
    let refused =
        run_once(&mut chain, &batch_at(&[(9, "put y 2 0\ncount n"), (9, "say trap")])).await;
    // What the first says of a record is what the second is told to do.
    assert!(matches!(refused.outcome, Outcome::Rejected { .. }), "{refused:?}");
    assert!(refused.state.is_empty());
    assert_eq!(chain.state_bytes(), before.0);
    let report = run_once(&mut chain, &batch_at(&[(9, "get y")])).await;
    log.append(&report.state);
    assert_eq!(log.of_guest(), before.1.of_guest());
}

#[tokio::test]
async fn each_stage_has_its_own_state_and_sees_what_the_one_before_emits() {
    let split = deploy(SPLIT, |spec| spec.name = "split".into()).await;
    let state = deploy(HOSTILE_STATE, |spec| spec.name = "state".into()).await;
    let mut chain = Chain::new(vec![state.clone(), split, state], TOPIC, 0).unwrap();
    assert_eq!(chain.state_wanted(), [0, 2]);
    assert!(matches!(chain.load_state(1, []), Err(StateError::Stateless(_))));
    assert!(matches!(chain.load_state(3, []), Err(StateError::NoStage(3))));
    let mut log = Changelog::default();
    log.load(&mut chain);
    let report =
        run_once(&mut chain, &batch_at(&[(7, "put a 1 0\nget a\nget a"), (8, "say fail")])).await;
    log.append(&report.state);
    assert_eq!(log.of_guest(), BTreeMap::from([("a".into(), "1".into())]));
    let stages: Vec<_> = report.state.iter().map(|changes| changes.stage).collect();
    assert_eq!(stages, [0, 2]);
    // The third got two records, one of which it failed on; its watermark is that of both.
    assert_eq!((report.stages[2].records_in, report.stages[2].failed), (2, 1));
    assert_eq!(report.state[1].changes.len(), 1);
    assert_eq!(report.state[1].changes[0].key[0], 2);
}

#[tokio::test]
async fn a_chain_whose_state_is_not_loaded_refuses_the_batch() {
    let mut chain = chain(HOSTILE_STATE, |_| {}).await;
    let came = batch_at(&[(0, "count n")]);
    let Outcome::Rejected { code, .. } = run_once(&mut chain, &came).await.outcome else {
        panic!()
    };
    assert!(code == ErrorCode::KafkaStorageError && code.is_retriable());
    chain.load_state(0, []).unwrap();
    assert_eq!(values(&run_once(&mut chain, &came).await.outcome), ["0"]);
    chain.forget_state();
    assert_eq!(
        (chain.state_wanted(), chain.state_bytes(), chain.live_instances()),
        (vec![0], 0, 0)
    );
}

#[tokio::test]
async fn a_run_that_is_given_up_half_way_leaves_state_to_be_loaded_and_none_that_is_wrong() {
    let first = deploy(HOSTILE_STATE, |spec| spec.name = "first".into()).await;
    let second = deploy(HOSTILE_STATE, |spec| {
        spec.name = "second".into();
        spec.limits.cpu_ms_per_batch = 10_000;
    })
    .await;
    let mut chain = Chain::new(vec![first, second], TOPIC, 0).unwrap();
    let mut log = Changelog::default();
    log.load(&mut chain);
    log.append(&run_once(&mut chain, &batch_at(&[(1, "count n")])).await.state);
    let bytes = chain.state_bytes();
    let came = batch_at(&[(2, "count n\nput m 1 0")]);
    let endless = batch_at(&[(2, "count n\nput m 1 0"), (2, "say loop")]);
    let started = std::time::Instant::now();
    tokio::select! {
        biased;
        _ = run_once(&mut chain, &endless) => panic!("it never ends"),
        () = async { while started.elapsed().as_millis() < 30 { tokio::task::yield_now().await } } => {}
    }
    // The guest that was in the middle has taken its state with it.
    assert_eq!(chain.state_wanted(), [1]);
    log.load(&mut chain);
    log.append(&run_once(&mut chain, &came).await.state);
    assert_eq!(log.of_guest()["n"], "2");
    assert!(chain.state_bytes() > bytes);
}

#[tokio::test]
async fn state_that_no_changelog_holds_is_refused() {
    let mut chain = chain(HOSTILE_STATE, |_| {}).await;
    let value = |bytes: usize| Bytes::from(vec![0; bytes]);
    let long = [&[0][..], &[b'k'; caps::TRANSFORM_STATE_KEY_BYTES_MAX + 9]].concat();
    for (key, value) in [
        (Bytes::new(), value(8)),
        (Bytes::from_static(b"\x00k"), value(7)),
        (Bytes::from_static(b"\x01short"), value(8)),
        (Bytes::from_static(b"\x09k"), value(8)),
        (Bytes::from(long), value(8)),
        (Bytes::from_static(b"\x00k"), value(9 + caps::TRANSFORM_STATE_VALUE_BYTES_MAX)),
    ] {
        let refused = chain.load_state(0, [(key, value)]).unwrap_err();
        assert!(matches!(refused, StateError::BadEntry { .. }), "{refused}");
        assert_eq!(chain.state_wanted(), [0]);
    }
}

#[tokio::test]
async fn the_state_ends_at_its_limit_and_says_so() {
    let limit = 10_000;
    let mut partition = Partition::new(EngineKind::Native, |spec| {
        spec.limits.state_bytes = limit;
    })
    .await;
    assert_eq!(partition.ask("fill a 6000\nfill b 6000\nget b\nfill b 1000").await, "0 1 - 0");
    assert!(partition.chain.state_bytes() <= limit + 200, "the watermark is the host's");
    let too_long = "k".repeat(caps::TRANSFORM_STATE_KEY_BYTES_MAX + 1);
    let commands = format!(
        "put {too_long} 1 0\nget {too_long}\ndel {too_long}\ntimer 1 {too_long}\nfill c {}",
        caps::TRANSFORM_STATE_VALUE_BYTES_MAX + 1
    );
    assert_eq!(partition.ask(&commands).await, "2 - 0 2 2");
    assert_eq!(partition.ask("del a\nfill b 6000").await, "1 0");
}

#[tokio::test]
async fn what_one_run_may_change_is_bounded() {
    let mut partition = Partition::new(EngineKind::Native, |spec| {
        spec.limits.state_bytes = caps::TRANSFORM_STATE_BYTES_MAX;
    })
    .await;
    let fill = |n: usize| format!("fill k{n} 200000");
    let records: Vec<_> = (0..20).map(|n| (0, fill(n))).collect();
    let report = partition.run(&records).await;
    let changed: usize = report.state[0]
        .changes
        .iter()
        .map(|change| change.key.len() + change.value.as_ref().map_or(0, Bytes::len))
        .sum();
    assert!(changed <= caps::TRANSFORM_STATE_CHANGE_BYTES_MAX + 64, "{changed}");
    assert_eq!(values(&report.outcome).iter().filter(|code| *code == "1").count(), 10);
    // The same key again and again is one change.
    let again: Vec<_> = (0..40).map(|_| (0, fill(3))).collect();
    assert!(values(&partition.run(&again).await.outcome).iter().all(|code| code == "0"));
}

#[tokio::test]
async fn addresses_that_lie_end_the_call_and_leave_no_trace() {
    for engine in BOTH {
        for name in [
            "get-key",
            "get-buffer",
            "get-length",
            "put-key",
            "put-value",
            "put-length",
            "delete-key",
            "range-from",
            "range-to",
            "range-buffer",
            "timer-key",
            "untimer-key",
            "json-document",
            "json-path",
            "json-out",
            "number-document",
            "number-out",
            "hash",
        ] {
            let mut partition = Partition::new(engine, |_| {}).await;
            let lie = format!("put k 1 0\nfar {name}");
            let report = partition.run(&[(0, "count n"), (0, &lie), (0, "count n")]).await;
            let letters = sent_to(&report.outcome, LETTERS);
            let error = letters[0].header("millpond.error").unwrap();
            assert!(error.contains("leaves the memory"), "{name}: {error}");
            let expected = BTreeMap::from([("n".to_string(), "2".to_string())]);
            assert_eq!(partition.log.of_guest(), expected, "{name}");
        }
    }
}

#[tokio::test]
async fn the_watermark_follows_the_greatest_timestamp_and_never_goes_back() {
    let mut partition = Partition::new(EngineKind::Native, |spec| {
        spec.limits.watermark_delay_ms = 10;
    })
    .await;
    let mut seen = Vec::new();
    for time in [100, 50, 200, -1] {
        let report = partition.run(&[(time, "watermark")]).await;
        seen.extend(values(&report.outcome));
    }
    assert_eq!(seen, [i64::MIN.to_string(), "90".into(), "90".into(), "190".into()]);
    // Idle time moves it on; a late record does not move it back.
    partition.idle(1_000).await;
    assert_eq!(partition.ask("watermark").await, "1190");
    partition.chain.forget_state();
    partition.log.load(&mut partition.chain);
    assert_eq!(partition.ask("watermark").await, "1190");
}

#[tokio::test]
async fn a_record_of_a_far_future_moves_the_watermark_no_further_than_now() {
    const NOW_MS: i64 = 1_790_000_000_000;
    for (ahead_ms, expected) in
        [(1_000, [NOW_MS - 5, NOW_MS, NOW_MS + 900]), (0, [NOW_MS - 5, i64::MAX / 4, i64::MAX / 4])]
    {
        let mut partition = Partition::new(EngineKind::Native, |spec| {
            spec.limits.watermark_ahead_ms_max = ahead_ms;
        })
        .await;
        for (at_ms, expected) in [NOW_MS - 5, i64::MAX / 4, NOW_MS + 900].into_iter().zip(expected)
        {
            let came = batch_at(&[(at_ms, "say x")]);
            let input = Input { batch: Some(&came), now_ms: Some(NOW_MS), ..Input::default() };
            let report = run(&mut partition.chain, input).await;
            partition.log.append(&report.state);
            assert_eq!(partition.ask("watermark").await, expected.to_string());
        }
    }
}

#[tokio::test]
async fn timers_fire_in_order_once_the_watermark_reaches_them() {
    for engine in BOTH {
        let mut partition = Partition::new(engine, |_| {}).await;
        let set =
            "timer 30 b\ntimer 20 z\ntimer 30 a\ntimer 31 c\ntimer 30 a\ntimer -5 m\nuntimer 31 c";
        let report = partition.run(&[(10, set)]).await;
        assert_eq!(values(&report.outcome), ["0 0 0 0 0 0 1", "fired -5"]);
        assert_eq!(partition.log.timers(), 3);
        let report = partition.run(&[(29, "say on")]).await;
        assert_eq!(values(&report.outcome), ["on", "fired 20"]);
        let report = partition.run(&[(30, "say on")]).await;
        let out = came_out(&report.outcome);
        let fired: Vec<_> =
            out.iter().skip(1).map(|r| (r.key.clone().unwrap(), r.timestamp)).collect();
        assert_eq!(fired, [("a".to_string(), 30), ("b".to_string(), 30)]);
        assert_eq!(report.stages[0].timers, 2);
        assert_eq!(partition.log.timers(), 0);
        assert_eq!(partition.run(&[(99, "")]).await.stages[0].timers, 0);
    }
}

#[tokio::test]
async fn timers_fire_without_records_when_the_node_says_that_time_has_passed() {
    let mut partition = Partition::new(EngineKind::Native, |spec| {
        spec.limits.idle_timeout_ms = 500;
    })
    .await;
    assert_eq!(partition.chain.idle_timeout_ms(), Some(500));
    assert_eq!(partition.idle(10_000).await.outcome, Outcome::Untouched, "nothing was ever seen");
    partition.run(&[(1_000, "timer 1500 k")]).await;
    let early = partition.idle(499).await;
    assert_eq!((early.outcome, early.stages[0].calls), (Outcome::Untouched, 0));
    let report = partition.idle(500).await;
    assert_eq!(values(&report.outcome), ["fired 1500"]);
    assert_eq!(partition.idle(501).await.outcome, Outcome::Untouched);
}

#[tokio::test]
async fn a_timer_may_set_others_and_that_ends() {
    let mut partition = Partition::new(EngineKind::Native, |_| {}).await;
    let next = "put a timer_11_b 0\nput b say_done 0\ntimer 10 a";
    let report = partition.run(&[(20, next)]).await;
    assert_eq!(values(&report.outcome), ["0 0 0", "fired 10 0", "fired 11 done"]);
    // One that sets itself again fires as often as the cap lets it, and goes on in the next run.
    let report = partition.run(&[(20, "put c timer_10_c 0\ntimer 10 c")]).await;
    assert_eq!(report.stages[0].timers, caps::TRANSFORM_TIMER_ROUNDS_MAX as u64);
    assert!(report.timers_left);
    let report = partition.idle(0).await;
    assert_eq!(report.stages[0].timers, caps::TRANSFORM_TIMER_ROUNDS_MAX as u64);
    assert_eq!(partition.log.timers(), 1);
}

#[tokio::test]
async fn many_timers_are_run_in_several_calls() {
    let mut partition = Partition::new(EngineKind::Native, |_| {}).await;
    let set = |n: usize| (0, format!("timer 5 k{n:05}"));
    let records: Vec<_> = (0..2_500).map(set).collect();
    partition.run(&records).await;
    let report = partition.run(&[(5, "")]).await;
    assert_eq!((report.stages[0].timers, report.stages[0].calls), (2_500, 4));
    let fired: Vec<_> = came_out(&report.outcome).into_iter().filter_map(|r| r.key).collect();
    assert!(fired.is_sorted() && fired.len() == 2_500);
}

#[tokio::test]
async fn a_timer_that_traps_is_spent_and_becomes_a_dead_letter() {
    for then in [OnFailure::DeadLetter, OnFailure::Reject, OnFailure::Skip, OnFailure::Pass] {
        let mut partition =
            Partition::new(EngineKind::Native, |spec| spec.on_failure = policy(then)).await;
        let set = "put b count_n;trap 0\nput a count_n 0\nput c count_n 0\ntimer 1 a\ntimer 1 b\ntimer 1 c";
        partition.run(&[(0, set)]).await;
        let report = partition.run(&[(1, "")]).await;
        let fired: Vec<_> = values(&report.outcome);
        assert_eq!(fired, ["fired 1 0", "fired 1 0"], "{then:?}");
        assert_eq!(partition.log.of_guest()["n"], "2");
        assert_eq!(partition.log.timers(), 0);
        assert_eq!((report.stages[0].timers_failed, report.stages[0].failed), (1, 0));
        let letters = sent_to(&report.outcome, LETTERS);
        let lettered = matches!(then, OnFailure::DeadLetter | OnFailure::Reject);
        assert_eq!(letters.len(), usize::from(lettered), "{then:?}");
    }
}

#[tokio::test]
async fn what_expires_is_gone_after_the_timers_that_may_read_it() {
    let mut partition = Partition::new(EngineKind::Native, |_| {}).await;
    let set = "put a get_b 0\nput b kept 50\nput c other 51\ntimer 50 a";
    partition.run(&[(10, set)]).await;
    let report = partition.run(&[(50, "get b")]).await;
    assert_eq!(values(&report.outcome), ["kept", "fired 50 kept"]);
    assert_eq!(report.stages[0].expired, 1);
    assert_eq!(partition.ask("get b\nget c").await, "- other");
    // Written again without an end, it stays.
    partition.run(&[(50, "put c other 0")]).await;
    partition.run(&[(60, "")]).await;
    assert_eq!(partition.ask("get c").await, "other");
}

#[tokio::test]
async fn a_guest_knows_how_much_it_keeps_and_whether_it_is_a_try() {
    let mut partition = Partition::new(EngineKind::Native, |_| {}).await;
    assert_eq!(partition.ask("used\nflags").await, "0 0");
    let used = partition.chain.state_bytes();
    partition.chain.set_replay(true);
    assert_eq!(partition.ask("used\nflags").await, format!("{used} 1"));
}

#[tokio::test]
async fn the_helpers_answer_by_the_contract() {
    for engine in BOTH {
        let mut partition = Partition::new(engine, |_| {}).await;
        let document = r#"{"a":[1,-2.5e3,{"b/c":"x\"y"}],"d":null,"e":true,"f":{}}"#;
        for (path, expected) in [
            ("/a", r#"5:[1,-2.5e3,{"b/c":"x\"y"}]"#),
            ("/a/1", "3:-2.5e3"),
            ("/a/2/b~1c", r#"4:x\"y"#),
            ("/d", "1:null"),
            ("/e", "2:true"),
            ("/f", "6:{}"),
            ("/g", "-1"),
            ("/a/3", "-1"),
            ("a", "-1"),
        ] {
            assert_eq!(partition.ask(&format!("json {path} {document}")).await, expected, "{path}");
        }
        assert_eq!(partition.ask("json /a nonsense").await, "-2");
        assert_eq!(partition.ask(&format!("number /a/1 {document}")).await, "-2500");
        assert_eq!(
            partition.ask(&format!("number /e {document}\nnumber /z {document}")).await,
            "-3 -1"
        );
        // The reference's values for the empty text and for `abc`.
        assert_eq!(partition.ask("hash 0 ").await, 0xef46_db37_51d8_e999_u64.to_string());
        assert_eq!(partition.ask("hash 0 abc").await, 0x44bc_2cf5_ad77_0999_u64.to_string());
    }
}
