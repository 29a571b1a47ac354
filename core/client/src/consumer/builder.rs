//! The settings of a consumer and their defaults, named as in Kafka where Kafka has them.

use super::Consumer;
use crate::client::Client;
use crate::config::ClientConfig;
use crate::error::ClientError;
use millpond_wire::limits;
use std::sync::Arc;
use std::time::Duration;

/// Where to begin without a committed offset, or when it is no longer kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffsetReset {
    /// At the oldest record.
    Earliest,
    /// With what comes from now on.
    #[default]
    Latest,
    /// Nowhere: `poll` returns an error.
    Fail,
}

/// How the members of a group come to an understanding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupProtocol {
    /// The broker's part where it has one (KIP-848), the classic protocol where the broker, or a group
    /// that has classic members, does not take it.
    #[default]
    Auto,
    /// The broker computes who reads what: a member that comes or goes stops nobody else. The session
    /// timeout and the time between heartbeats are the broker's.
    Consumer,
    /// JoinGroup and SyncGroup: one of the members computes, all of them stop meanwhile.
    Classic,
}

/// What a rebalance does to a consumer; told within `poll`, before anything else is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rebalance<'a> {
    /// These are read from now on.
    Assigned(&'a [(Arc<str>, i32)]),
    /// These are given up now; with auto commit, what is done of them is committed.
    Revoked(&'a [(Arc<str>, i32)]),
    /// These were taken away, as the group did not hear of this member: others may have begun to read
    /// them, and nothing of them can be committed any more.
    Lost(&'a [(Arc<str>, i32)]),
}

/// Who is told of rebalances.
type Listener = dyn Fn(Rebalance<'_>) + Send + Sync;

#[derive(Clone, Default)]
pub(super) struct Listeners(Option<Arc<Listener>>);

impl Listeners {
    /// Nobody is told of nothing.
    pub(super) fn tell(&self, what: Rebalance<'_>) {
        let (Rebalance::Assigned(places) | Rebalance::Revoked(places) | Rebalance::Lost(places)) =
            what;
        if let (Some(listener), false) = (&self.0, places.is_empty()) {
            listener(what);
        }
    }
}

impl std::fmt::Debug for Listeners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Listeners").field(&self.0.is_some()).finish()
    }
}

/// Makes a [`Consumer`].
#[derive(Clone, Debug)]
pub struct ConsumerBuilder {
    pub(super) group: Option<String>,
    pub(super) protocol: GroupProtocol,
    pub(super) listeners: Listeners,
    pub(super) topics: Vec<Arc<str>>,
    pub(super) partitions: Vec<(Arc<str>, i32)>,
    pub(super) offset_reset: OffsetReset,
    pub(super) read_committed: bool,
    pub(super) auto_commit: Option<Duration>,
    pub(super) fetch_wait: Duration,
    pub(super) fetch_min_bytes: i32,
    pub(super) fetch_max_bytes: i32,
    pub(super) partition_max_bytes: i32,
    pub(super) max_poll_records: usize,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    pub(super) heartbeat_interval: Duration,
}

impl Default for ConsumerBuilder {
    fn default() -> Self {
        let fetch = i32::try_from(limits::DEFAULT_CLIENT_FETCH_BYTES).unwrap_or(i32::MAX);
        Self {
            group: None,
            protocol: GroupProtocol::Auto,
            listeners: Listeners::default(),
            topics: Vec::new(),
            partitions: Vec::new(),
            offset_reset: OffsetReset::Latest,
            read_committed: false,
            auto_commit: None,
            fetch_wait: Duration::from_millis(500),
            fetch_min_bytes: 1,
            fetch_max_bytes: fetch,
            partition_max_bytes: 1024 * 1024,
            max_poll_records: 500,
            session_timeout: Duration::from_secs(30),
            rebalance_timeout: Duration::from_secs(60),
            heartbeat_interval: Duration::from_secs(3),
        }
    }
}

impl ConsumerBuilder {
    /// Joins a group: its members share the partitions, and it remembers committed offsets.
    #[must_use]
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Sets by which protocol the group's members share the partitions. Default: the newest that the
    /// broker and the group take.
    #[must_use]
    pub fn group_protocol(mut self, protocol: GroupProtocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Is told of rebalances, within [`Consumer::poll`]; it must not block.
    #[must_use]
    pub fn on_rebalance(mut self, tell: impl Fn(Rebalance<'_>) + Send + Sync + 'static) -> Self {
        self.listeners = Listeners(Some(Arc::new(tell)));
        self
    }

    /// Reads a topic: with a group its share of it, without one all partitions.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<Arc<str>>) -> Self {
        self.topics.push(topic.into());
        self
    }

    /// Reads one partition; not together with a group's topics.
    #[must_use]
    pub fn partition(mut self, topic: impl Into<Arc<str>>, partition: i32) -> Self {
        self.partitions.push((topic.into(), partition));
        self
    }

    /// Sets where to begin without a committed offset. Default: latest.
    #[must_use]
    pub fn offset_reset(mut self, reset: OffsetReset) -> Self {
        self.offset_reset = reset;
        self
    }

    /// Whether records of transactions are shown only once those are committed. Default: no.
    #[must_use]
    pub fn read_committed(mut self, on: bool) -> Self {
        self.read_committed = on;
        self
    }

    /// Commits at `poll`, at most so often, what earlier polls returned. Default: off, since only
    /// the caller knows what is done.
    #[must_use]
    pub fn auto_commit(mut self, interval: Duration) -> Self {
        self.auto_commit = Some(interval);
        self
    }

    /// Sets how long the broker may wait for records. Default: 500 ms.
    #[must_use]
    pub fn fetch_wait(mut self, wait: Duration) -> Self {
        self.fetch_wait = wait;
        self
    }

    /// Sets how many bytes the broker waits for. Default: 1.
    #[must_use]
    pub fn fetch_min_bytes(mut self, bytes: i32) -> Self {
        self.fetch_min_bytes = bytes;
        self
    }

    /// Sets how many bytes a fetch brings, for each broker; this much is held, compressed.
    /// Default: 4 MiB.
    #[must_use]
    pub fn fetch_max_bytes(mut self, bytes: i32) -> Self {
        self.fetch_max_bytes = bytes;
        self.partition_max_bytes = self.partition_max_bytes.min(bytes);
        self
    }

    /// Sets how many records one `poll` returns at most. Default: 500.
    #[must_use]
    pub fn max_poll_records(mut self, records: usize) -> Self {
        self.max_poll_records = records.max(1);
        self
    }

    /// Sets after what silence the group goes on without this member, in the classic protocol. Default:
    /// 30 s.
    #[must_use]
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.session_timeout = timeout;
        self
    }

    /// Sets how often this member shows that it lives, in the classic protocol. Default: 3 s.
    #[must_use]
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.heartbeat_interval = interval;
        self
    }

    /// Sets within what time a member must give up what others are to have: the longest time between
    /// two polls. Default: a minute.
    #[must_use]
    pub fn rebalance_timeout(mut self, timeout: Duration) -> Self {
        self.rebalance_timeout = timeout;
        self
    }

    /// Makes the consumer with lines of its own.
    ///
    /// # Errors
    /// [`ClientError::Config`], or the first contact's error.
    pub async fn connect(self, config: ClientConfig) -> Result<Consumer, ClientError> {
        let client = Client::connect(config).await?;
        self.build(client)
    }

    /// Makes the consumer on the lines of `client`, without contacting anybody yet.
    ///
    /// # Errors
    /// [`ClientError::Config`] for settings that make no sense.
    pub fn build(self, client: Client) -> Result<Consumer, ClientError> {
        let refuse =
            |setting, reason: &str| Err(ClientError::Config { setting, reason: reason.to_owned() });
        if self.topics.is_empty() == self.partitions.is_empty() {
            return refuse("topics", "give either topics or partitions");
        }
        if self.group.is_some() && self.topics.is_empty() {
            return refuse("group", "a group shares out topics, not partitions that are given");
        }
        if self.auto_commit.is_some() && self.group.is_none() {
            return refuse("auto_commit", "only a group remembers offsets");
        }
        if self.heartbeat_interval >= self.session_timeout {
            return refuse("heartbeat_interval", "it must be below the session timeout");
        }
        Ok(Consumer::start(client, self))
    }
}
