//! The consumers: two members of one group that read, over plain TCP and the Kafka protocol, what the filter left.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use millpond_client::{ClientConfig, ConsumedRecord, Consumer, OffsetReset};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::board::Board;
use super::fleet::wall_ms;
use super::node::{DemoNode, MACHINE, TELEMETRY, TELEMETRY_PARTITIONS};
use crate::cli::CliError;

/// The group's name.
pub(crate) const GROUP: &str = "dashboard";
/// Its members.
pub(crate) const MEMBERS: usize = 2;

/// How long a member waits for records before it looks up.
const POLL: Duration = Duration::from_millis(500);
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// For the group to share out all partitions.
const ASSIGNED_WITHIN: Duration = Duration::from_secs(30);
/// For the last commit and the goodbye.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// The group at work.
pub(crate) struct Drain {
    tasks: JoinSet<()>,
}

/// What is written on each record that the demonstration sends.
#[derive(serde::Deserialize)]
struct Stamp {
    seq: u32,
}

/// How far each partition was seen, by any member.
#[derive(Debug, Default)]
struct Seen(HashMap<(Arc<str>, i32), i64>);

impl Seen {
    /// Whether nobody saw this offset before; it counts as seen from here on.
    fn is_first(&mut self, topic: &Arc<str>, partition: i32, offset: i64) -> bool {
        let next = self.0.entry((Arc::clone(topic), partition)).or_default();
        let is_first = offset >= *next;
        if is_first {
            *next = offset + 1;
        }
        is_first
    }
}

struct Member {
    board: Arc<Board>,
    seen: Arc<Mutex<Seen>>,
    assigned: watch::Sender<usize>,
    stop: watch::Receiver<bool>,
}

impl Drain {
    /// Starts the group and waits until its members have shared out all partitions.
    ///
    /// # Errors
    /// If that takes too long.
    pub(crate) async fn start(
        node: &DemoNode,
        board: &Arc<Board>,
        stop: &watch::Receiver<bool>,
    ) -> Result<Self, CliError> {
        let mut tasks = JoinSet::new();
        let seen = Arc::new(Mutex::default());
        let mut assigned = Vec::with_capacity(MEMBERS);
        for number in 1..=MEMBERS {
            let (tell, told) = watch::channel(0);
            assigned.push(told);
            let member = Member {
                board: Arc::clone(board),
                seen: Arc::clone(&seen),
                assigned: tell,
                stop: stop.clone(),
            };
            tasks.spawn(member.run(node.over_tcp(&format!("{GROUP}-{number}"))?));
        }
        let all = usize::try_from(TELEMETRY_PARTITIONS).unwrap_or(0) + 1;
        match timeout(ASSIGNED_WITHIN, shared_out(assigned, all)).await {
            Ok(()) => Ok(Self { tasks }),
            Err(_) => {
                let troubles = board.troubles().join("; ");
                Err(CliError::failed(format!(
                    "the consumer group did not come together in time: {troubles}"
                )))
            }
        }
    }

    /// Waits until every member has committed and left. Its `stop` must have been given.
    pub(crate) async fn come_home(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Completes when every member has something and all together have `all`.
async fn shared_out(mut assigned: Vec<watch::Receiver<usize>>, all: usize) {
    loop {
        let counts: Vec<usize> =
            assigned.iter_mut().map(|count| *count.borrow_and_update()).collect();
        if counts.iter().all(|count| *count > 0) && counts.iter().sum::<usize>() == all {
            return;
        }
        let changes = assigned.iter_mut().map(|count| Box::pin(count.changed()));
        let _ = futures::future::select_all(changes).await;
    }
}

impl Member {
    async fn run(mut self, config: ClientConfig) {
        let settings = Consumer::builder().group(GROUP).topic(TELEMETRY).topic(MACHINE);
        let settings = settings.offset_reset(OffsetReset::Earliest).fetch_wait(POLL);
        let mut consumer = match settings.connect(config).await {
            Ok(consumer) => consumer,
            Err(error) => {
                return self.board.trouble(format!("a consumer could not connect: {error}"));
            }
        };
        let mut committed = Instant::now();
        loop {
            let polled = tokio::select! {
                _ = self.stop.wait_for(|stop| *stop) => break,
                polled = consumer.poll(POLL) => polled,
            };
            self.assigned.send_replace(consumer.assignment().len());
            match polled {
                Ok(records) => self.take(&records),
                Err(error) => {
                    self.board.trouble(format!("a consumer had to ask again: {error}"));
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            }
            if committed.elapsed() >= COMMIT_EVERY {
                committed = Instant::now();
                if let Err(error) = consumer.commit().await {
                    self.board.trouble(format!("a consumer could not commit: {error}"));
                }
            }
        }
        let goodbye = async {
            consumer.commit().await?;
            consumer.close().await
        };
        if let Ok(Err(error)) = timeout(CLOSE_WITHIN, goodbye).await {
            self.board.trouble(format!("a consumer could not leave in order: {error}"));
        }
    }

    fn take(&self, records: &[ConsumedRecord]) {
        let now_ms = wall_ms();
        let mut redelivered = 0;
        for record in records {
            let is_first = {
                let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.is_first(&record.topic, record.partition, record.offset)
            };
            if !is_first {
                redelivered += 1;
                continue;
            }
            let waited_ms = u64::try_from(now_ms - record.timestamp_ms).unwrap_or(0);
            self.board.end_to_end.record(Duration::from_millis(waited_ms));
            let (name, seq) = whose(record.key.as_ref(), record.value.as_ref());
            self.board.ledger().seen(&name, seq);
        }
        if !records.is_empty() {
            self.board.consumed(records.len() as u64 - redelivered, redelivered);
        }
    }
}

/// The sender and the number of a record. What cannot be read is nobody's.
fn whose(key: Option<&Bytes>, value: Option<&Bytes>) -> (String, u32) {
    let name = key.map(|key| String::from_utf8_lossy(key).into_owned()).unwrap_or_default();
    let stamp = value.and_then(|value| serde_json::from_slice::<Stamp>(value).ok());
    (name, stamp.map_or(u32::MAX, |stamp| stamp.seq))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::device::Device;

    #[test]
    fn an_offset_is_seen_for_the_first_time_once() {
        let mut seen = Seen::default();
        let topic: Arc<str> = "t".into();
        let offsets = [0, 1, 1, 0, 5, 2, 6];
        let first: Vec<bool> =
            offsets.iter().map(|offset| seen.is_first(&topic, 0, *offset)).collect();
        assert_eq!(first, [true, true, false, false, true, false, true]);
        assert!(seen.is_first(&topic, 1, 0));
    }

    #[test]
    fn a_record_is_known_by_its_key_and_number() {
        let mut device = Device::new(4, 1);
        let (first, second) = (device.read(), device.read());
        assert_eq!(first.seq, 0);
        let found =
            whose(Some(&Bytes::from(device.name().to_owned())), Some(&Bytes::from(second.json)));
        assert_eq!(found, (device.name().to_owned(), 1));
        assert_eq!(whose(None, None), (String::new(), u32::MAX));
    }

    #[tokio::test]
    async fn a_group_has_come_together_when_each_member_has_a_share() {
        let (a, of_a) = watch::channel(0);
        let (b, of_b) = watch::channel(0);
        let waiting = tokio::spawn(shared_out(vec![of_a, of_b], 5));
        a.send_replace(5);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        a.send_replace(3);
        b.send_replace(2);
        waiting.await.unwrap();
    }
}
