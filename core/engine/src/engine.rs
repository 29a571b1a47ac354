//! The engine itself: one event in, effects out, one entry for what it decided.
//! Never answers before the entry that an answer rests on is durable, and never reads a clock.

use crate::access::Access;
use crate::audit::Audit;
use crate::config::EngineConfig;
use crate::counters::Counters;
use crate::derive::{Derives, LaneId, Work};
use crate::durability::Durability;
use crate::effect::Effect;
use crate::entry::{Entry, Fact};
use crate::event::{Event, FlushedRange};
use crate::fetch::Fetches;
use crate::fetch_session::FetchSessions;
use crate::group::Groups;
use crate::parked::Parked;
use crate::produce_call::ProduceCall;
use crate::reads::PendingRead;
use crate::record_clock::RecordClock;
use crate::rng::Rng;
use crate::snapshot::{self, FrozenState, SnapshotError};
use crate::space::Space;
use crate::state::{ReplayError, State};
use crate::throttle::Throttles;
use crate::transaction::Deadlines;
use crate::transform::{AdminError, AdminResponse};
use crate::units::{AdminId, EntrySeq, Now, PartitionKey, ReadId, RequestId, SessionId, Ticket};
use crate::user_fact::UserFact;
use bytes::Bytes;
use millpond_wire::limits;
use millpond_wire::messages::Response;
use millpond_wire::mutant::Mutant;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The deterministic heart. See the crate's documentation.
///
/// Methods come in four shapes: `handle` takes an event, `poll_effect` gives effects, `restore`,
/// `replay` and `finish_recovery` bring an engine back, all others only look.
#[derive(Debug)]
pub struct Engine {
    pub(crate) config: EngineConfig,
    seed: u64,
    pub(crate) rng: Rng,
    pub(crate) now: Now,
    pub(crate) state: State,
    durable: EntrySeq,
    draft: Draft,
    pub(crate) durability: Durability,
    effects: VecDeque<Effect>,
    after: BTreeMap<EntrySeq, Vec<Then>>,
    next_volatile_id: u64,
    pub(crate) next_producer_id: i64,
    /// The last entries that changed the topics and that reserved producer ids: answers that show
    /// them wait for these.
    pub(crate) catalog_seq: EntrySeq,
    pub(crate) producer_ids_seq: EntrySeq,
    /// The last entry that changed settings of the node.
    pub(crate) settings_seq: EntrySeq,
    /// The last entry that changed a user.
    pub(crate) users_seq: EntrySeq,
    /// The last entry that changed a rule of access.
    pub(crate) acls_seq: EntrySeq,
    pub(crate) access: Access,
    pub(crate) audit: Audit,
    pub(crate) calls: BTreeMap<u64, ProduceCall>,
    pub(crate) parked: Parked,
    /// Bytes of batches between admission and commit.
    pub(crate) pending_bytes: usize,
    pub(crate) tickets: BTreeMap<Ticket, Work>,
    pub(crate) derives: Derives,
    pub(crate) fetches: Fetches,
    pub(crate) fetch_sessions: FetchSessions,
    pub(crate) throttles: Throttles,
    pub(crate) reads: BTreeMap<ReadId, PendingRead>,
    pub(crate) groups: Groups,
    pub(crate) timers: BTreeSet<(u64, Timer)>,
    /// Of transactions.
    pub(crate) deadlines: Deadlines,
    pub(crate) record_clock: RecordClock,
    pub(crate) retention_armed: bool,
    pub(crate) offset_expiry_armed: bool,
    pub(crate) space: Space,
    /// Storage was asked by this event to give space back.
    pub(crate) reclaim_asked: bool,
    pub(crate) counters: Counters,
}

/// What waits for an entry to be durable.
#[derive(Debug)]
pub(crate) enum Then {
    Reply(RequestId, Option<Response>),
    AdminReply(AdminId, Result<AdminResponse, AdminError>),
    /// Consumers may read the partition up to here.
    Watermark(PartitionKey, i64),
    DropFiles(Vec<PartitionKey>),
    /// What lies below this offset is gone for good.
    ForgetBelow(PartitionKey, i64),
    /// Segments can go: storage may want to take a checkpoint for it.
    Reclaim,
    TellUser(UserFact),
}

/// What happens at a deadline. A timer that nothing needs any more does nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    Fetch(u64),
    Group(String),
    ConsumerGroup(String),
    OffsetExpiry,
    Retention,
    /// A connection that must wait.
    Unmute(SessionId),
    /// Of a transactional id.
    Transaction(String),
    TransactionalIds,
    /// Derived transforms that had no turn.
    DeriveTurn,
    /// The end of a pause.
    DeriveRetry(LaneId),
    /// Time passes for a transform without records.
    DeriveIdle(LaneId),
    InlineIdle(PartitionKey),
}

/// The entry that is being decided.
#[derive(Debug, Default)]
struct Draft {
    facts: Vec<Fact>,
    bytes: usize,
    log_ends: BTreeMap<PartitionKey, i64>,
}

impl Engine {
    /// An engine without a past, ready for events. Ids are drawn from the seed: it must differ
    /// from one start of a node to the next.
    #[must_use]
    pub fn new(config: EngineConfig, seed: u64) -> Engine {
        Engine::with_state(config, seed, State::default())
    }

    /// An engine as of a snapshot. `replay` what the journal has after it, then `finish_recovery`.
    ///
    /// # Errors
    /// `SnapshotError` when the snapshot is damaged or of a newer version.
    pub fn restore(
        config: EngineConfig,
        seed: u64,
        snapshot: Option<Bytes>,
    ) -> Result<Engine, SnapshotError> {
        let state = snapshot.map(snapshot::decode).transpose()?.unwrap_or_default();
        Ok(Engine::with_state(config, seed, state))
    }

    fn with_state(config: EngineConfig, seed: u64, state: State) -> Engine {
        let mut engine = Engine {
            config,
            seed,
            rng: Rng::new(seed),
            now: Now::default(),
            state,
            durable: EntrySeq(0),
            draft: Draft::default(),
            durability: Durability::default(),
            effects: VecDeque::new(),
            after: BTreeMap::new(),
            next_volatile_id: 0,
            next_producer_id: 0,
            catalog_seq: EntrySeq(0),
            producer_ids_seq: EntrySeq(0),
            settings_seq: EntrySeq(0),
            users_seq: EntrySeq(0),
            acls_seq: EntrySeq(0),
            access: Access::default(),
            audit: Audit::default(),
            calls: BTreeMap::new(),
            parked: Parked::default(),
            pending_bytes: 0,
            tickets: BTreeMap::new(),
            derives: Derives::new(),
            fetches: Fetches::default(),
            fetch_sessions: FetchSessions::default(),
            throttles: Throttles::default(),
            reads: BTreeMap::new(),
            groups: Groups::default(),
            timers: BTreeSet::new(),
            deadlines: Deadlines::default(),
            record_clock: RecordClock::default(),
            retention_armed: false,
            offset_expiry_armed: false,
            space: Space::default(),
            reclaim_asked: false,
            counters: Counters::default(),
        };
        engine.settle_recovered();
        engine
    }

    /// Applies an entry of the journal. Entries that the snapshot holds already are passed over.
    ///
    /// # Errors
    /// `ReplayError` when the entry does not continue what is there.
    pub fn replay(&mut self, entry: Entry) -> Result<(), ReplayError> {
        let last = self.state.last_seq;
        if entry.seq <= last {
            return Ok(());
        }
        if entry.seq != last.next() {
            return Err(ReplayError::Missing { last, found: entry.seq });
        }
        for fact in &entry.facts {
            self.state.apply(entry.seq, fact)?;
        }
        self.state.last_seq = entry.seq;
        Ok(())
    }

    /// The journal is read to its end: all of it is durable, so all of it may be consumed.
    pub fn finish_recovery(&mut self) {
        self.settle_recovered();
        self.settle_losses();
        self.settle_prepared();
        self.resume_groups();
        if self.state.transforms.len() > 0 {
            self.effects.push_back(Effect::TransformsChanged(self.state.transforms.all()));
        }
    }

    fn settle_recovered(&mut self) {
        self.durable = self.state.last_seq;
        self.durability.recovered_upto = self.state.last_seq;
        self.next_producer_id = self.state.producer_ids_upto;
        // Ids must not repeat those of the last run.
        self.rng = Rng::new(self.seed ^ self.state.last_seq.0.rotate_left(32));
        for topic in self.state.catalog.iter_mut() {
            for partition in &mut topic.partitions {
                partition.advance(partition.log_end);
                self.state.tail_bytes -= partition.forget_below(partition.log_start);
                partition.stored.begin_doubt(partition.log_end);
            }
        }
    }

    /// The durable state as of the last entry (`last_seq`), without the batches in memory. It may
    /// only be put in force when that entry is durable and all that `unflushed` gives up to it is
    /// in segments.
    #[must_use]
    pub fn snapshot(&self) -> Bytes {
        self.freeze().encode()
    }

    /// The same without its bytes yet, which takes much less time. The state as of now: what
    /// happens afterwards does not change it.
    #[must_use]
    pub fn freeze(&self) -> FrozenState {
        assert!(self.draft.facts.is_empty(), "a snapshot stands between two events");
        FrozenState::of(&self.state)
    }

    /// Takes one event. Drain `poll_effect` afterwards.
    pub fn handle(&mut self, now: Now, event: Event) {
        // Deadlines never come back, whatever the shell's clock does.
        let mono_ms = now.mono_ms.max(self.now.mono_ms);
        self.now = Now { mono_ms, wall_ms: now.wall_ms };
        self.reclaim_asked = false;
        self.observe_clock();
        self.start_deadlines();
        self.begin_groups();
        self.fire_due_timers();
        match event {
            Event::Request { id, peer, request, version } => {
                self.on_request(id, peer, request, version);
            }
            Event::SessionClosed(session) => {
                self.drop_fetches_of(session);
                self.access.forget(session);
                self.end_throttle(session);
            }
            Event::Durable(seq) => self.on_durable(seq),
            Event::TimersLeft { ticket } => self.derives.timers_left = Some(ticket),
            Event::Transformed { ticket, outcome } => self.on_transformed(ticket, outcome),
            Event::ReadState { ticket, transform, from } => {
                self.on_read_state(ticket, transform, from);
            }
            Event::HistoryRead { id, result } => self.on_history_read(id, result),
            Event::Flushed(ranges) => self.on_flushed(&ranges),
            Event::Stored(partitions) => self.on_stored(&partitions),
            Event::Space(report) => self.on_space(report),
            Event::Admin { id, by, request } => {
                self.audit.acting = by;
                self.on_admin(id, request);
            }
            Event::Spent(us) => self.on_spent(us),
            Event::LoginRefused(refused) => self.on_login_refused(&refused),
            Event::Told(told) => self.on_told(&told),
            Event::Tick => {}
        }
        self.check_budget();
        self.arm_offset_expiry();
        self.run_derives();
        self.write_audit();
        self.seal();
        self.wake_fetches();
    }

    /// The next thing to do, until there is none.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When `Event::Tick` is wanted at the latest; monotonic.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.timers.first().map(|(deadline_ms, _)| *deadline_ms)
    }

    fn fire_due_timers(&mut self) {
        while let Some((deadline_ms, _)) = self.timers.first()
            && *deadline_ms <= self.now.mono_ms
            && let Some((_, timer)) = self.timers.pop_first()
        {
            match timer {
                Timer::Fetch(id) => self.on_fetch_deadline(id),
                Timer::Group(id) => self.on_group_deadline(&id),
                Timer::ConsumerGroup(id) => self.on_consumer_group_deadline(&id),
                Timer::OffsetExpiry => self.on_offset_expiry_deadline(),
                Timer::Retention => self.on_retention_deadline(),
                Timer::Unmute(session) => self.on_unmute(session),
                Timer::Transaction(id) => self.on_transaction_deadline(&id),
                Timer::TransactionalIds => self.on_id_check(),
                // Turns are given with every event.
                Timer::DeriveTurn => {}
                Timer::DeriveRetry(id) => self.on_derive_retry(&id),
                Timer::DeriveIdle(id) => self.on_derive_idle(&id),
                Timer::InlineIdle(key) => self.on_inline_idle(key),
            }
        }
    }

    fn on_durable(&mut self, seq: EntrySeq) {
        assert!(seq <= self.state.last_seq, "only what was appended can become durable");
        self.durable = self.durable.max(seq);
        self.durability.synced(seq);
        while let Some(first) = self.after.first_entry()
            && *first.key() <= seq
        {
            for then in first.remove() {
                self.run(then);
            }
        }
    }

    fn on_flushed(&mut self, ranges: &[FlushedRange]) {
        for range in ranges {
            if let Some(partition) = self.state.catalog.partition_mut(range.partition) {
                partition.flushed_upto(range.upto);
            }
        }
        self.evict_down_to(self.config.tail_retain_bytes);
        self.resume_produces();
    }

    /// Forgets batches that are in segments until no more than this many bytes are in memory.
    pub(crate) fn evict_down_to(&mut self, target_bytes: usize) {
        let mut over = self.state.tail_bytes.saturating_sub(target_bytes);
        for topic in self.state.catalog.iter_mut() {
            for partition in &mut topic.partitions {
                if over == 0 {
                    return;
                }
                let freed = partition.evict(over);
                self.state.tail_bytes -= freed;
                self.counters.bytes_evicted += freed as u64;
                over = over.saturating_sub(freed);
            }
        }
    }

    /// A number for a call, a job or a read of this run.
    pub(crate) fn fresh_id(&mut self) -> u64 {
        self.next_volatile_id += 1;
        self.next_volatile_id
    }

    /// Whether this event decided anything so far.
    pub(crate) fn is_drafting(&self) -> bool {
        !self.draft.facts.is_empty()
    }

    /// The entry that facts committed now will stand in.
    pub(crate) fn current_seq(&self) -> EntrySeq {
        self.state.last_seq.next()
    }

    pub(crate) fn push_effect(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    pub(crate) fn reply(&mut self, id: RequestId, response: Response) {
        self.finish_reply(id, Some(response));
    }

    /// Every answer leaves through here.
    pub(crate) fn finish_reply(&mut self, id: RequestId, mut response: Option<Response>) {
        self.show_allowed(id, &mut response);
        self.tell_throttle(id, &mut response);
        self.push_effect(Effect::Reply { id, response });
    }

    pub(crate) fn reply_after(&mut self, seq: EntrySeq, id: RequestId, response: Response) {
        self.after(seq, Then::Reply(id, Some(response)));
    }

    /// Does something as soon as an entry is durable: at once if it is.
    pub(crate) fn after(&mut self, seq: EntrySeq, then: Then) {
        if seq <= self.durable || Mutant::AckEarly.is_on() {
            self.run(then);
        } else {
            self.after.entry(seq).or_default().push(then);
        }
    }

    /// What waits for entries that are not durable, oldest first.
    pub(crate) fn after_durable_mut(&mut self) -> impl Iterator<Item = &mut Vec<Then>> {
        self.after.values_mut()
    }

    fn run(&mut self, then: Then) {
        match then {
            Then::Reply(id, response) => self.finish_reply(id, response),
            Then::AdminReply(id, result) => self.push_effect(Effect::AdminReply { id, result }),
            Then::DropFiles(keys) => self.push_effect(Effect::TopicDeleted(keys)),
            Then::Reclaim => self.ask_reclaim(),
            Then::TellUser(change) => self.push_effect(Effect::UserChanged(change)),
            Then::ForgetBelow(key, offset) => {
                if let Some(partition) = self.state.catalog.partition_mut(key) {
                    self.state.tail_bytes -= partition.forget_below(offset);
                }
            }
            Then::Watermark(key, offset) => {
                if let Some(partition) = self.state.catalog.partition_mut(key) {
                    partition.advance(offset);
                    self.fetches.touch(&partition.waiters);
                    self.derives.touch(key);
                }
            }
        }
    }

    /// Makes a fact true and part of the current entry.
    pub(crate) fn commit(&mut self, fact: Fact) {
        self.note_change(&fact);
        let seq = self.current_seq();
        if let Err(error) = self.state.apply(seq, &fact) {
            // Our own state contradicts itself: going on could only spread it.
            panic!("the engine decided what cannot be: {error}");
        }
        match &fact {
            Fact::Appended { partition, batch, .. } => {
                self.draft.bytes += batch.size_bytes();
                self.space.appended(batch.size_bytes());
                self.draft.log_ends.insert(*partition, batch.next_offset());
            }
            Fact::TopicCreated { .. }
            | Fact::TopicDeleted { .. }
            | Fact::PartitionsAdded { .. }
            | Fact::TopicConfigured { .. } => {
                self.catalog_seq = seq;
                self.derives.is_stale = true;
            }
            Fact::TransformDeployed(_)
            | Fact::TransformDeleted { .. }
            | Fact::TransformPaused { .. } => self.derives.is_stale = true,
            Fact::ProducerIdsReserved { .. } => self.producer_ids_seq = seq,
            Fact::Setting(_) => self.settings_seq = seq,
            Fact::Group(fact) => self.draft.bytes += fact.size_bytes(),
            Fact::Acl(_) => {
                self.draft.bytes += limits::ACL_FACT_BYTES_MAX;
                self.acls_seq = seq;
            }
            Fact::User(fact) => {
                self.draft.bytes += limits::USER_FACT_BYTES_MAX;
                self.note_user(fact);
            }
            _ => {}
        }
        self.note_sync(&fact);
        self.draft.facts.push(fact);
    }

    /// Closes the current entry if more would make it too large for the journal. Only between
    /// decisions that need not stand together.
    pub(crate) fn seal_if_large(&mut self) {
        if self.draft.bytes >= limits::ENTRY_CLOSE_BYTES
            || self.draft.facts.len() >= limits::FACTS_PER_ENTRY_MAX / 2
        {
            self.seal();
        }
    }

    pub(crate) fn seal(&mut self) {
        if self.draft.facts.is_empty() {
            return;
        }
        let draft = std::mem::take(&mut self.draft);
        let seq = self.state.last_seq.next();
        self.state.last_seq = seq;
        self.counters.entries += 1;
        for (key, log_end) in draft.log_ends {
            self.after(seq, Then::Watermark(key, log_end));
        }
        let sync = self.seal_sync(seq);
        self.push_effect(Effect::Append { entry: Entry { seq, facts: draft.facts }, sync });
    }

    pub(crate) fn durable(&self) -> EntrySeq {
        self.durable
    }
}
