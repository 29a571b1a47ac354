//! Workers that move records from one topic to another in transactions, each with the offset of its
//! group: exactly once, whatever happens to them. They abort, take too long, die, and are replaced
//! while they live. Must never look into the node.

use crate::client::{Surroundings, code_of};
use crate::history::{Partition, RecordId};
use crate::producer::IN_FLIGHT_MAX;
use crate::reader::{UNCOMMITTED, fetch, records_of};
use crate::topics::{TopicKind, place};
use crate::txn_books::Txn;
use crate::txn_session::{Failure, GROUP, Session, TxnBatch, code_in, send_plain};
use millpond_storage::disk::sim::SimRng;
use millpond_wire::ErrorCode;
use millpond_wire::messages::{OffsetFetchRequest, Request, Response, offset_fetch_request};
use std::collections::BTreeMap;

/// Answers that tell whether offsets may still change.
const OFFSET_FETCH_VERSION: i16 = 7;
/// The records of one transaction.
const RECORDS_MAX: u64 = 8;

/// A worker: one transactional id, one partition of the source.
pub struct Transactor {
    /// Where it is.
    pub world: Surroundings,
    /// Its number in the books.
    pub worker: u32,
    /// What it consumes.
    pub source: Partition,
    /// Speaks KIP-890.
    pub is_v2: bool,
    /// Decides what it does and what happens to it.
    pub rng: SimRng,
    /// What the group has consumed, and how far the source was looked at.
    position: (i64, i64),
    /// What it opened, and when, in ns.
    begun_ns: u64,
}

/// A transaction that is filled, and not ended.
struct Filled {
    txn: Txn,
    upto: i64,
}

/// How a transaction goes on when it is filled.
enum Turn {
    Commit,
    Abort,
    /// It takes longer than it may.
    Dawdle,
    /// Another instance takes over, and this one does not know.
    BeReplaced,
    /// The same while the commit is on its way.
    Race,
    Die,
}

impl Transactor {
    /// A worker that has done nothing yet.
    pub fn new(world: Surroundings, worker: u32, source: Partition, rng: SimRng) -> Transactor {
        let is_v2 = worker.is_multiple_of(2);
        Transactor { world, worker, source, is_v2, rng, position: (0, 0), begun_ns: 0 }
    }

    /// Works until the run is over; leaves nothing open.
    pub async fn run(mut self) {
        let mut session = self.start().await;
        while !self.world.is_over.get() {
            if self.rng.chance(60) {
                self.write_plain().await;
            }
            if let Err(failure) = self.transact(&mut session).await {
                self.account(&session, failure);
                if self.rng.chance(200) {
                    // Nobody comes back before the node has noticed.
                    self.world.pause_ms(session.timeout_ms + 100).await;
                }
                session = self.start().await;
            }
            self.world.pause_ms(self.rng.between(1, 30)).await;
        }
        self.start().await;
    }

    /// A new instance goes on where the group is.
    async fn start(&mut self) -> Session {
        let (rng, id) = (self.rng.fork(), format!("mill-{}", self.worker));
        let session = Session::start(&self.world, rng, id, self.is_v2).await;
        let found = self.consumed().await;
        self.world.txns.resumed(self.worker, found);
        self.position = (found.max(0), found.max(0));
        session
    }

    /// The group's offset, when it cannot change any more.
    async fn consumed(&mut self) -> i64 {
        let (name, index) = place(self.source);
        let topic =
            offset_fetch_request::OffsetFetchRequestTopic { name, partition_indexes: vec![index] };
        let request = OffsetFetchRequest {
            group_id: GROUP.to_owned(),
            topics: Some(vec![topic]),
            require_stable: true,
            ..OffsetFetchRequest::default()
        };
        loop {
            let request = Request::OffsetFetch(request.clone());
            let Response::OffsetFetch(answer) = self.world.ask(request, OFFSET_FETCH_VERSION).await
            else {
                panic!("not an answer to OffsetFetch");
            };
            let found = &answer.topics[0].partitions[0];
            let codes = [code_of(answer.error_code), code_of(found.error_code)];
            match codes.into_iter().find(|code| *code != ErrorCode::None) {
                None => return found.committed_offset,
                Some(code) if code.is_retriable() => self.world.pause_ms(20).await,
                Some(code) => {
                    self.world.oracle.violated(format!("OffsetFetch refused with {code:?}"));
                    self.world.pause_ms(20).await;
                }
            }
        }
    }

    /// A refusal must have a reason: time, or another instance.
    fn account(&self, session: &Session, failure: Failure) {
        let Failure::Refused(code, _) = failure else { return };
        self.world.txns.was_fenced();
        let is_of_fencing = matches!(
            code,
            ErrorCode::ProducerFenced
                | ErrorCode::InvalidProducerEpoch
                | ErrorCode::InvalidTxnState
                | ErrorCode::TransactionAbortable
        );
        let open_ms = (self.world.clock.now_ns() - self.begun_ns) / 1_000_000;
        if !is_of_fencing || open_ms + 1 < session.timeout_ms {
            let (worker, timeout_ms) = (self.worker, session.timeout_ms);
            self.world.oracle.violated(format!(
                "worker {worker}: refused with {code:?} after {open_ms} of {timeout_ms} ms"
            ));
        }
    }

    /// One transaction, if there is anything to consume.
    async fn transact(&mut self, session: &mut Session) -> Result<(), Failure> {
        let sources = self.read_source().await;
        let Some(last) = sources.last() else { return Ok(()) };
        let upto = last + 1;
        self.begun_ns = self.world.clock.now_ns();
        let txn = self.world.txns.begin(self.worker);
        self.world.txns.moving(txn, self.position.0, upto);
        let is_first = self.rng.chance(300);
        if is_first {
            session.commit_offset(self.source, upto).await?;
        }
        let mut targets: BTreeMap<Partition, Vec<RecordId>> = BTreeMap::new();
        for source in &sources {
            let target = self.any_target();
            let record = self.world.txns.sending(txn, target, Some(*source));
            targets.entry(target).or_default().push(record);
        }
        let partitions: Vec<Partition> = targets.keys().copied().collect();
        session.add_partitions(&partitions).await?;
        let mut batches = self.cut_up(session, targets);
        while !batches.is_empty() {
            let left = batches.split_off(batches.len().min(IN_FLIGHT_MAX));
            session.produce(std::mem::replace(&mut batches, left)).await?;
        }
        if !is_first {
            session.commit_offset(self.source, upto).await?;
        }
        self.finish(session, Filled { txn, upto }).await
    }

    fn any_target(&mut self) -> Partition {
        let targets: Vec<Partition> = TopicKind::Flour.places().collect();
        targets[self.rng.below(targets.len() as u64) as usize]
    }

    /// One batch for each partition, or one for each record.
    fn cut_up(
        &mut self,
        session: &mut Session,
        targets: BTreeMap<Partition, Vec<RecordId>>,
    ) -> Vec<TxnBatch> {
        let mut batches = Vec::new();
        for (target, records) in targets {
            if self.rng.chance(500) {
                batches.push(session.batch(target, records));
            } else {
                let each = records.into_iter().map(|record| session.batch(target, vec![record]));
                batches.extend(each);
            }
        }
        batches
    }

    async fn finish(&mut self, session: &mut Session, filled: Filled) -> Result<(), Failure> {
        let turn = match self.rng.below(100) {
            0..70 => Turn::Commit,
            70..84 => Turn::Abort,
            84..89 => Turn::Dawdle,
            89..93 => Turn::BeReplaced,
            93..97 => Turn::Race,
            _ => Turn::Die,
        };
        match turn {
            Turn::Commit => self.commit(session, &filled).await,
            Turn::Abort => {
                session.end(false).await?;
                self.world.txns.ended(filled.txn, false);
                Ok(())
            }
            Turn::Dawdle => {
                self.world.pause_ms(session.timeout_ms + self.rng.between(0, 50)).await;
                self.commit(session, &filled).await
            }
            Turn::BeReplaced => {
                self.be_replaced(session, &filled).await;
                Ok(())
            }
            Turn::Race => {
                self.world.txns.committing(filled.txn);
                let pending = session.send_end(true).await;
                // Its commit arrives before the other instance, or too late, or is lost.
                *session = self.start().await;
                drop(pending);
                Ok(())
            }
            Turn::Die => Err(Failure::Died),
        }
    }

    async fn commit(&mut self, session: &mut Session, filled: &Filled) -> Result<(), Failure> {
        self.world.txns.committing(filled.txn);
        match session.end(true).await {
            Ok(()) => {
                self.world.txns.ended(filled.txn, true);
                self.position = (filled.upto, self.position.1.max(filled.upto));
                Ok(())
            }
            Err(failure) => {
                if let Failure::Refused(_, 1) = failure {
                    // It was never asked before: nothing can have committed it.
                    self.world.txns.ended(filled.txn, false);
                }
                Err(failure)
            }
        }
    }

    /// Another instance takes over; whatever the old one then tries must not count.
    async fn be_replaced(&mut self, session: &mut Session, filled: &Filled) {
        let late = self.any_target();
        let record = self.world.txns.sending(filled.txn, late, None);
        let batch = session.batch(late, vec![record]);
        let new = self.start().await;
        let mut zombie = std::mem::replace(session, new);
        self.world.txns.was_replaced();
        let tried = match self.rng.below(3) {
            0 => zombie.produce(vec![batch]).await,
            1 => zombie.commit_offset(self.source, filled.upto + 1).await,
            _ => {
                let pending = zombie.send_end(true).await;
                match pending.answer().await {
                    Ok(Some(answer)) if code_in(&answer) == ErrorCode::None => Ok(()),
                    _ => Err(Failure::Died),
                }
            }
        };
        if tried.is_ok() {
            let worker = self.worker;
            self.world.oracle.violated(format!("worker {worker}: a fenced instance was obeyed"));
        }
    }

    /// A record between the transactions, which must wait for those in front of it.
    async fn write_plain(&mut self) {
        let target = self.any_target();
        let txn = self.world.txns.plain(self.worker);
        let record = self.world.txns.sending(txn, target, None);
        if let Some(offset) = send_plain(&self.world, &mut self.rng, target, record).await {
            self.world.txns.acknowledged(record, Some(offset));
        }
    }

    /// The offsets that come next in the source. What damage took is passed over.
    async fn read_source(&mut self) -> Vec<i64> {
        let from = self.position.0.max(self.position.1);
        let limits = (self.rng.between(1, 2_000) as i32, 20);
        let most = self.rng.between(1, RECORDS_MAX) as usize;
        match fetch(&self.world, self.source, from, limits, UNCOMMITTED).await {
            Ok(data) => {
                let found = records_of(&data).into_iter();
                found.map(|(offset, _)| offset).filter(|at| *at >= from).take(most).collect()
            }
            Err(code) => {
                self.world.oracle.read_refused(self.source, from, code);
                let is_of_damage = code == ErrorCode::KafkaStorageError;
                if is_of_damage && !self.world.oracle.reads_may_fail() {
                    self.position.1 = self.world.oracle.unreadable(self.source, from);
                }
                Vec::new()
            }
        }
    }
}
