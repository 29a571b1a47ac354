//! A running guest of Redpanda's contract: its `main`, which stands in the middle of its question
//! for a batch until there is one. After any failure it must never be run again.

use super::EXPORT_START;
use super::desk::{Batch, Desk};
use crate::batch_buffer::StageInput;
use crate::chain::Transform;
use crate::fault::Fault;
use crate::imports::GuestState;
use crate::instance::{CallFailure, fault_of, init_fault, new_store};
use crate::logs::{LogBuffer, printable};
use crate::verdicts::Gathered;
use millpond_wire::limits as caps;
use std::future::{Future, poll_fn};
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use wasmtime::{Error, Store};

/// `main` on its way. It gives its store back with the reason why it ended.
type Main = Pin<Box<dyn Future<Output = (Store<GuestState>, Error)> + Send>>;

/// One running guest.
pub(crate) struct PullGuest {
    main: Main,
    desk: Arc<Mutex<Desk>>,
    /// Whether no batch has been run on it.
    pub(crate) fresh: bool,
    /// Beats that the last call, or the start, was given, and those that it took.
    beats: u64,
    beats_used: u64,
}

impl PullGuest {
    /// Makes one and lets it run to its first question for a batch.
    pub(crate) async fn start(
        transform: &Transform,
        memory_bytes: usize,
        topic: &str,
    ) -> Result<Self, Fault> {
        let environment = environment(transform, topic);
        let desk = Arc::new(Mutex::new(Desk::new(environment, transform.log_quota())));
        let store = new_store(transform, memory_bytes, Some(Arc::clone(&desk)));
        let pre = transform.module().pre.clone();
        let main: Main = Box::pin(async move {
            let mut store = store;
            let error = match pre.instantiate_async(&mut store).await {
                Ok(instance) => match instance.get_typed_func::<(), ()>(&mut store, EXPORT_START) {
                    Ok(main) => match main.call_async(&mut store, ()).await {
                        Ok(()) => Error::msg("its main returned, which must go on for ever"),
                        Err(error) => error,
                    },
                    Err(error) => error,
                },
                Err(error) => error,
            };
            (store, error)
        });
        let beats = caps::TRANSFORM_INIT_CPU_MS;
        let mut guest = PullGuest { main, desk, fresh: true, beats, beats_used: 0 };
        guest.run(None).await.map_err(init_fault)?;
        Ok(guest)
    }

    /// Runs the records `range` of `whole` and takes what was written into `gathered`.
    pub(crate) async fn call(
        &mut self,
        whole: StageInput<'_>,
        range: Range<usize>,
        cpu_ms: u64,
        transform: &Transform,
        gathered: &mut Gathered,
    ) -> Result<(), CallFailure> {
        self.fresh = false;
        self.beats = cpu_ms.max(1);
        let batch = Batch::of(&whole.part(range.clone()), transform.spec(), gathered);
        if let Ok(mut desk) = self.desk.lock() {
            desk.lay_out(batch, self.beats);
        }
        let ended = self.run(Some(cpu_ms)).await;
        let batch = self.desk.lock().ok().and_then(|mut desk| desk.batch.take());
        let hint = batch.as_ref().and_then(Batch::in_hand);
        match (ended, batch) {
            (Ok(()), Some(batch)) => {
                batch.decide(range, gathered);
                Ok(())
            }
            (Ok(()), None) => {
                let fault = Fault::Abort("the host's side has failed".to_owned());
                Err(CallFailure { fault, hint: None })
            }
            (Err(fault), _) => Err(CallFailure { fault, hint }),
        }
    }

    /// Lets it run until it asks for the next batch.
    async fn run(&mut self, cpu_ms: Option<u64>) -> Result<(), Fault> {
        let desk = Arc::clone(&self.desk);
        let main = &mut self.main;
        let ended = poll_fn(|context| match main.as_mut().poll(context) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending if desk.lock().is_ok_and(|desk| desk.is_waiting) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await;
        let mut left = self.desk.lock().map_or(0, |desk| desk.beats_left);
        let result = match ended {
            None => Ok(()),
            Some((store, error)) => {
                left = store.data().beats_left;
                Err(self.with_last_words(fault_of(&error, &store, cpu_ms)))
            }
        };
        self.beats_used = self.beats.saturating_sub(left);
        result
    }

    /// A panic says why on standard error and then traps.
    fn with_last_words(&self, fault: Fault) -> Fault {
        let words = self.desk.lock().map(|desk| desk.last_words.clone()).unwrap_or_default();
        match fault {
            Fault::Trap(_) if !words.is_empty() => {
                Fault::Abort(printable(words.trim_ascii(), caps::TRANSFORM_ERROR_BYTES_MAX))
            }
            other => other,
        }
    }

    /// Beats that found the guest running in the last call or the start: ms of CPU time, about.
    pub(crate) fn beats_used(&self) -> u64 {
        self.beats_used
    }

    /// Its linear memory when it last asked for a batch.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.desk.lock().map_or(0, |desk| desk.memory_bytes)
    }

    /// What was logged since the last time.
    pub(crate) fn take_logs(&mut self) -> LogBuffer {
        self.desk.lock().map(|mut desk| std::mem::take(&mut desk.logs)).unwrap_or_default()
    }
}

/// `NAME=value`, each with a 0 behind: the settings, and the topics.
fn environment(transform: &Transform, topic: &str) -> Vec<Vec<u8>> {
    let spec = transform.spec();
    let own = [("REDPANDA_INPUT_TOPIC".to_owned(), topic.to_owned())];
    let outputs = std::iter::once(topic).chain(spec.outputs.iter().map(String::as_str));
    let outputs = outputs
        .enumerate()
        .map(|(at, output)| (format!("REDPANDA_OUTPUT_TOPIC_{at}"), output.to_owned()));
    let settings = spec.settings.iter().map(|(key, value)| (key.clone(), value.clone()));
    own.into_iter()
        .chain(outputs)
        .chain(settings)
        .map(|(name, value)| format!("{name}={value}\0").into_bytes())
        .collect()
}
