//! The same engine on the real disks, in real time: both backends, one data directory.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures::future::LocalBoxFuture;
use millpond_engine::{Effect, EngineConfig, Event, Now, Peer, RequestId};
use millpond_wire::messages::{Request, Response};

use super::rig::{batch, create_topic_request, fetch_request, produce_request, values_of};
use crate::disk::{BackendChoice, RealDisk};
use crate::signal::Signal;
use crate::{DurableEngine, OpenError, Shell, StorageConfig};

#[derive(Default)]
struct Answers {
    by_id: RefCell<BTreeMap<RequestId, Option<Response>>>,
    came: Signal,
}

struct RealShell {
    start: Instant,
    answers: Rc<Answers>,
}

impl Shell for RealShell {
    fn now(&self) -> Now {
        let mono_ms = self.start.elapsed().as_millis() as u64;
        Now { mono_ms, wall_ms: 1_700_000_000_000 }
    }

    fn sleep_until_ms(&self, mono_ms: u64) -> LocalBoxFuture<'static, ()> {
        let until = self.start + Duration::from_millis(mono_ms);
        Box::pin(tokio::time::sleep_until(until.into()))
    }

    fn effect(&self, effect: Effect) {
        if let Effect::Reply { id, response } = effect {
            self.answers.by_id.borrow_mut().insert(id, response);
            self.answers.came.raise();
        }
    }

    fn mono_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }
}

type Engine = DurableEngine<RealDisk, RealShell>;

struct Client<'a> {
    engine: &'a Engine,
    answers: Rc<Answers>,
    next_id: u64,
}

impl Client<'_> {
    async fn call(&mut self, request: Request, version: i16) -> Response {
        self.next_id += 1;
        let id = RequestId(self.next_id);
        self.engine.submit(Event::Request { id, peer: Peer::default(), request, version });
        loop {
            let seen = self.answers.came.count();
            if let Some(answer) = self.answers.by_id.borrow_mut().remove(&id) {
                return answer.expect("a response");
            }
            self.answers.came.past(seen).await;
        }
    }

    async fn values(&mut self) -> Vec<String> {
        let mut values = Vec::new();
        loop {
            let request = fetch_request("t", 0, values.len() as i64);
            let Response::Fetch(mut response) = self.call(request, 12).await else {
                panic!("no fetch response");
            };
            let data = response.responses.remove(0).partitions.remove(0);
            assert_eq!(data.error_code, 0);
            let found = values_of(&data);
            if found.is_empty() {
                return values;
            }
            values.extend(found.into_iter().map(|(_, value)| value));
        }
    }
}

/// Runs a node on a directory, lets `life` use it, and stops it in order or not.
async fn with_node(
    dir: &Path,
    choice: BackendChoice,
    stops_in_order: bool,
    life: impl AsyncFnOnce(&mut Client<'_>),
) -> Result<(), OpenError> {
    let disk = RealDisk::open(dir, choice)?;
    let answers = Rc::new(Answers::default());
    let shell = RealShell { start: Instant::now(), answers: Rc::clone(&answers) };
    let config = EngineConfig { tail_retain_bytes: 0, ..EngineConfig::default() };
    let engine = Engine::open(disk, StorageConfig::small(5), config, 1, shell).await?;
    let mut client = Client { engine: &engine, answers, next_id: 0 };
    let living = async {
        life(&mut client).await;
        if stops_in_order {
            engine.shutdown().await;
        }
    };
    let run = std::pin::pin!(engine.run());
    let living = std::pin::pin!(living);
    match futures::future::select(run, living).await {
        futures::future::Either::Left((ended, _)) => ended.expect("no disk error"),
        futures::future::Either::Right(((), run)) if stops_in_order => {
            run.await.expect("no disk error");
        }
        // Dropped in the middle of whatever it did.
        futures::future::Either::Right(((), _)) => {}
    }
    Ok(())
}

async fn two_lives(choice: BackendChoice, other: BackendChoice) {
    let dir = tempfile::tempdir().expect("directory");
    let mut expected = Vec::new();
    for life in 0..4 {
        let choice = if life % 2 == 0 { choice } else { other };
        let stops_in_order = life < 2;
        let lived = with_node(dir.path(), choice, stops_in_order, async |client| {
            if life == 0 {
                client.call(create_topic_request("t", 1), 7).await;
            }
            assert!(client.values().await == expected, "life {life}");
            for index in 0..300 {
                let value = format!("{index:0>500}-{life}");
                let request = produce_request("t", 0, batch(&[&value]));
                let Response::Produce(response) = client.call(request, 9).await else {
                    panic!("no produce response");
                };
                let answer = &response.responses[0].partition_responses[0];
                assert_eq!((answer.error_code, answer.base_offset), (0, expected.len() as i64));
                expected.push(value);
            }
            assert!(client.values().await == expected, "life {life}");
            let metrics = client.engine.metrics();
            assert!(metrics.checkpoints > 0 && metrics.history_batches > 0);
            assert!(metrics.commit_latency.sum_us > 0);
        });
        lived.await.expect("the node starts");
    }
}

fn on_tokio(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(test);
}

#[test]
fn a_node_lives_on_portable_threads() {
    on_tokio(two_lives(BackendChoice::Portable, BackendChoice::Portable));
}

#[test]
fn a_node_moves_between_io_uring_and_portable_threads() {
    // Where io_uring is refused, `Auto` is the portable disk, and says so in the log.
    on_tokio(two_lives(BackendChoice::Auto, BackendChoice::Portable));
}

#[test]
fn two_nodes_on_one_directory_are_kept_apart() {
    on_tokio(async {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path();
        let first = with_node(path, BackendChoice::Portable, true, async |_| {
            let second = with_node(path, BackendChoice::Auto, true, async |_| {}).await;
            assert!(matches!(second, Err(OpenError::InUse)));
        });
        first.await.expect("the first one starts");
    });
}
