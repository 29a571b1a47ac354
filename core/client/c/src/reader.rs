//! A consumer on a thread of its own, which is asked over a channel. Between two questions it stays in
//! its group and looks for records, but returns none: what a caller has not asked for is neither handed
//! out nor committed.

use crate::bell::Bell;
use crate::fault::{Fault, Kind};
use crate::settings::Reading;
use millpond_client::{Client, ConsumedRecord, Consumer, ConsumerBuilder, GroupPlace, OffsetSpec};
use millpond_wire::limits;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// A partition, and an offset where that matters.
pub(crate) type Place = (Arc<str>, i32, i64);

type Reply<T> = std_mpsc::SyncSender<Result<T, Fault>>;
/// As good as for ever.
const LONG: Duration = Duration::from_secs(24 * 3600);

/// Where it is, for offsets in a transaction.
pub(crate) struct Standing {
    pub(crate) group: GroupPlace,
    pub(crate) places: Vec<Place>,
}

/// What a consumer is asked to do.
pub(crate) enum Ask {
    Subscribe(Vec<String>, Vec<Place>, Reply<()>),
    Poll(Option<Instant>, Reply<Vec<ConsumedRecord>>),
    Commit(Option<Vec<Place>>, Reply<()>),
    Seek(Vec<Place>, Option<OffsetSpec>, Reply<()>),
    Pause(Vec<Place>, bool, Reply<()>),
    Positions(Reply<Vec<Place>>),
    Committed(Vec<Place>, Reply<Vec<Place>>),
    Stand(Reply<Standing>),
    Close(Reply<()>),
}

/// See the module.
pub(crate) struct Reader {
    asks: mpsc::Sender<Ask>,
    bell: Arc<Bell>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Starts the thread; the error says what does not make sense.
    pub(crate) fn start(reading: Reading) -> Result<Self, String> {
        let bell = Arc::new(Bell::new().map_err(|error| error.to_string())?);
        let (asks, asked) = mpsc::channel(limits::CLIENT_C_ASKS_MAX);
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("millpond-read".to_owned());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let at_work = Arc::clone(&bell);
        let thread = thread.spawn(move || {
            runtime.block_on(async {
                let desk = Desk { reading, bell: at_work, consumer: None, state: State::Looking };
                tokio::select! {
                    () = desk.serve(asked) => {}
                    _ = stopped => {}
                }
            });
        });
        let thread = thread.map_err(|error| error.to_string())?;
        Ok(Self { asks, bell, stop: Some(stop), thread: Some(thread) })
    }

    /// What is readable while a poll would return something.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.bell.descriptor()
    }

    /// Asks, and waits for the answer; without a time for as long as it takes.
    pub(crate) fn ask<T>(
        &self,
        timeout: Option<Duration>,
        ask: impl FnOnce(Reply<T>) -> Ask,
    ) -> Result<T, Fault> {
        let (reply, answer) = std_mpsc::sync_channel(1);
        match self.asks.try_send(ask(reply)) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                return Err(Fault::new(Kind::Full, "too many calls are under way"));
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(Fault::closed()),
        }
        let answered = match timeout {
            None => answer.recv().map_err(|_| Fault::closed()),
            Some(timeout) => answer.recv_timeout(timeout).map_err(|error| match error {
                std_mpsc::RecvTimeoutError::Timeout => Fault::timed_out(),
                std_mpsc::RecvTimeoutError::Disconnected => Fault::closed(),
            }),
        };
        answered?
    }

    /// The next records, none after `timeout`. The desk keeps the time, so that no record is on its way
    /// to somebody who has gone.
    pub(crate) fn poll(&self, timeout: Option<Duration>) -> Result<Vec<ConsumedRecord>, Fault> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout.min(LONG));
        self.ask(None, |reply| Ask::Poll(deadline, reply))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What is known of the next poll.
enum State {
    /// Nothing.
    Looking,
    /// It will return records.
    Shown,
    /// It will return this.
    Faulted(Fault),
    /// Somebody waits in it.
    Polled(Option<Instant>, Reply<Vec<ConsumedRecord>>),
}

enum News {
    Ready(Result<bool, Fault>),
    Tended(Result<(), Fault>),
    Polled(Result<Vec<ConsumedRecord>, Fault>),
}

struct Desk {
    reading: Reading,
    bell: Arc<Bell>,
    consumer: Option<Consumer>,
    state: State,
}

impl Desk {
    async fn serve(mut self, mut asks: mpsc::Receiver<Ask>) {
        loop {
            let news = tokio::select! {
                biased;
                ask = asks.recv() => match ask {
                    Some(Ask::Close(reply)) => {
                        asks.close();
                        let closed = self.close().await;
                        self.ring();
                        let _ = reply.send(closed);
                        return;
                    }
                    Some(ask) => {
                        self.answer(ask).await;
                        continue;
                    }
                    None => return,
                },
                news = self.work() => news,
            };
            self.take(news);
        }
    }

    /// What it does while nobody asks. Cancellation-safe, as the consumer is.
    async fn work(&mut self) -> News {
        let Some(consumer) = &mut self.consumer else {
            return match &self.state {
                State::Polled(Some(deadline), _) => {
                    tokio::time::sleep_until(*deadline).await;
                    News::Polled(Ok(Vec::new()))
                }
                _ => std::future::pending().await,
            };
        };
        match &self.state {
            State::Looking => News::Ready(consumer.ready(LONG).await.map_err(Fault::from)),
            State::Shown => News::Tended(consumer.tend(LONG).await.map_err(Fault::from)),
            State::Faulted(_) => std::future::pending().await,
            State::Polled(deadline, _) => {
                let left = deadline.map_or(LONG, |at| at.saturating_duration_since(Instant::now()));
                News::Polled(consumer.poll(left).await.map_err(Fault::from))
            }
        }
    }

    fn take(&mut self, news: News) {
        match news {
            News::Ready(Ok(false)) | News::Tended(Ok(())) => {}
            News::Ready(Ok(true)) => {
                self.state = State::Shown;
                self.ring();
            }
            News::Ready(Err(fault)) | News::Tended(Err(fault)) => {
                self.state = State::Faulted(fault);
                self.ring();
            }
            News::Polled(outcome) => {
                self.bell.silence();
                if let State::Polled(_, reply) = std::mem::replace(&mut self.state, State::Looking)
                {
                    let _ = reply.send(outcome);
                }
            }
        }
    }

    fn ring(&self) {
        self.bell.silence();
        self.bell.ring();
    }

    async fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Poll(deadline, reply) => self.begin_poll(deadline, reply),
            Ask::Subscribe(topics, places, reply) => {
                let _ = reply.send(self.subscribe(topics, places).await);
            }
            Ask::Positions(reply) => {
                let _ = reply.send(self.consumer().map(|consumer| positions(consumer)));
            }
            Ask::Stand(reply) => {
                let _ = reply.send(self.consumer().and_then(|consumer| stand(consumer)));
            }
            Ask::Commit(places, reply) => {
                let done = match self.consumer() {
                    Ok(consumer) => commit(consumer, places).await,
                    Err(fault) => Err(fault),
                };
                let _ = reply.send(done);
            }
            Ask::Committed(places, reply) => {
                let done = match self.consumer() {
                    Ok(consumer) => committed(consumer, &places).await,
                    Err(fault) => Err(fault),
                };
                let _ = reply.send(done);
            }
            Ask::Seek(places, spec, reply) => {
                let done = match self.consumer() {
                    Ok(consumer) => seek(consumer, &places, spec).await,
                    Err(fault) => Err(fault),
                };
                self.look_again();
                let _ = reply.send(done);
            }
            Ask::Pause(places, on, reply) => {
                let done = self.consumer().and_then(|consumer| {
                    let places = without_offsets(&places);
                    let done = if on { consumer.pause(&places) } else { consumer.resume(&places) };
                    done.map_err(Fault::from)
                });
                self.look_again();
                let _ = reply.send(done);
            }
            // Taken before.
            Ask::Close(_) => {}
        }
    }

    /// What was ready may not be any more.
    fn look_again(&mut self) {
        if let State::Shown = self.state {
            self.bell.silence();
            self.state = State::Looking;
        }
    }

    fn begin_poll(&mut self, deadline: Option<Instant>, reply: Reply<Vec<ConsumedRecord>>) {
        match std::mem::replace(&mut self.state, State::Looking) {
            State::Faulted(fault) => {
                self.bell.silence();
                let _ = reply.send(Err(fault));
            }
            State::Polled(until, first) => {
                self.state = State::Polled(until, first);
                let text = "another poll is under way";
                let _ = reply.send(Err(Fault::new(Kind::Invalid, text)));
            }
            _ if self.consumer.is_none() && deadline.is_none() => {
                let _ = reply.send(Err(nothing()));
            }
            State::Looking | State::Shown => self.state = State::Polled(deadline, reply),
        }
    }

    fn consumer(&mut self) -> Result<&mut Consumer, Fault> {
        self.consumer.as_mut().ok_or_else(nothing)
    }

    /// Reads something else from now on.
    async fn subscribe(&mut self, topics: Vec<String>, places: Vec<Place>) -> Result<(), Fault> {
        let mut builder: ConsumerBuilder = self.reading.consumer.clone();
        if let (Some(group), true) = (&self.reading.group, places.is_empty()) {
            builder = builder.group(group.clone());
        }
        for topic in topics {
            builder = builder.topic(topic);
        }
        for (topic, partition, _) in places {
            builder = builder.partition(topic, partition);
        }
        let consumer = builder.build(Client::new(self.reading.client.clone()))?;
        self.look_again();
        if let State::Faulted(_) = self.state {
            self.bell.silence();
            self.state = State::Looking;
        }
        if let Some(before) = self.consumer.replace(consumer) {
            before.close().await?;
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<(), Fault> {
        if let State::Polled(_, reply) = std::mem::replace(&mut self.state, State::Looking) {
            let _ = reply.send(Err(Fault::closed()));
        }
        match self.consumer.take() {
            Some(consumer) => consumer.close().await.map_err(Fault::from),
            None => Ok(()),
        }
    }
}

fn nothing() -> Fault {
    Fault::new(Kind::Invalid, "it reads nothing yet: subscribe first")
}

fn without_offsets(places: &[Place]) -> Vec<(Arc<str>, i32)> {
    places.iter().map(|(topic, partition, _)| (Arc::clone(topic), *partition)).collect()
}

fn positions(consumer: &Consumer) -> Vec<Place> {
    let places = consumer.assignment().into_iter();
    let at = |(topic, partition): (Arc<str>, i32)| {
        let offset = consumer.position(&topic, partition).unwrap_or(-1);
        (topic, partition, offset)
    };
    places.map(at).collect()
}

fn stand(consumer: &Consumer) -> Result<Standing, Fault> {
    let group = consumer.group_place();
    let group = group.ok_or_else(|| Fault::new(Kind::Invalid, "it is in no group (yet): poll"))?;
    let mut places = positions(consumer);
    places.retain(|(_, _, offset)| *offset >= 0);
    Ok(Standing { group, places })
}

async fn commit(consumer: &mut Consumer, places: Option<Vec<Place>>) -> Result<(), Fault> {
    let done = match places {
        Some(places) => consumer.commit_offsets(&places).await,
        None => consumer.commit().await,
    };
    done.map_err(Fault::from)
}

async fn committed(consumer: &mut Consumer, places: &[Place]) -> Result<Vec<Place>, Fault> {
    let found = consumer.committed(&without_offsets(places)).await?;
    let at = |place: &Place| {
        let is_it = |one: &&millpond_client::admin::CommittedOffset| {
            *one.topic == *place.0 && one.partition == place.1
        };
        let offset = found.iter().find(is_it).map_or(-1, |one| one.offset);
        (Arc::clone(&place.0), place.1, offset)
    };
    Ok(places.iter().map(at).collect())
}

async fn seek(
    consumer: &mut Consumer,
    places: &[Place],
    spec: Option<OffsetSpec>,
) -> Result<(), Fault> {
    if let Some(spec) = spec {
        return consumer.seek_to(&without_offsets(places), spec).await.map_err(Fault::from);
    }
    for (topic, partition, offset) in places {
        consumer.seek(Arc::clone(topic), *partition, *offset)?;
    }
    Ok(())
}
