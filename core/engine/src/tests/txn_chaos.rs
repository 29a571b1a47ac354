//! Random transactions under random power cuts, timeouts, zombies and retries: whoever reads
//! committed data never sees an aborted value, sees each committed transaction whole, and what was
//! seen once stays.

use super::rig::{Rig, batch};
use super::txn_rig::{Client, committed_of, ended};
use crate::rng::Rng;
use crate::units::RequestId;
use bytes::Bytes;
use millpond_wire::messages::Response;
use std::collections::{BTreeMap, BTreeSet};

const PARTITIONS: i32 = 3;
const SEEDS: u64 = 150;
const STEPS: usize = 120;

/// How a transaction ended, as far as anybody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Committed,
    Aborted,
    /// The client went away before it was told.
    Unknown,
}

#[derive(Debug)]
struct Transaction {
    fate: Fate,
    /// Values of batches that were acknowledged.
    values: BTreeSet<String>,
    /// Of batches that may have arrived.
    doubtful: BTreeSet<String>,
}

/// One client and its open transaction.
struct Worker {
    client: Client,
    open: Option<usize>,
}

struct Chaos {
    rig: Rig,
    rng: Rng,
    workers: Vec<Worker>,
    transactions: Vec<Transaction>,
    plain: BTreeSet<String>,
    /// What a reader saw, by partition and offset.
    seen: BTreeMap<(i32, i64), String>,
    count: usize,
    /// Of moments at which all was durable.
    snapshots: Vec<Bytes>,
}

impl Chaos {
    fn new(seed: u64) -> Chaos {
        let mut rig = Rig::new();
        rig.create_topic("t", PARTITIONS);
        let workers = (0..4).map(|index| {
            let client = Client::start(&mut rig, &format!("tx{index}"), index % 2 == 0);
            Worker { client, open: None }
        });
        let workers = workers.collect();
        rig.is_instant = false;
        Chaos {
            rig,
            rng: Rng::new(seed),
            workers,
            transactions: Vec::new(),
            plain: BTreeSet::new(),
            seen: BTreeMap::new(),
            count: 0,
            snapshots: Vec::new(),
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }

    fn value(&mut self) -> String {
        self.count += 1;
        format!("v{}", self.count)
    }

    /// The power goes: of what is not durable any first part may have reached the flash.
    fn crash(&mut self) {
        let durable = self.rig.engine.durable_seq().0;
        let left = durable + self.below(self.rig.appended.0 - durable + 1);
        self.rig.entries.truncate(left as usize);
        self.rig = self.rig.reborn(None);
        self.rig.is_instant = false;
        self.rig.sync();
    }

    /// Sends again and again, through power cuts, until there is an answer or the client gives up.
    fn persist(&mut self, mut send: impl FnMut(&mut Rig) -> RequestId) -> Option<Response> {
        loop {
            let id = send(&mut self.rig);
            if self.below(3) == 0 {
                // What is not durable must not show: the power may go yet.
                self.look();
            }
            if self.below(8) > 0 {
                self.rig.sync();
                return Some(self.rig.take(id));
            }
            self.crash();
            if self.below(3) == 0 {
                return None;
            }
        }
    }

    fn step(&mut self) {
        let who = self.below(self.workers.len() as u64) as usize;
        match self.below(20) {
            0..10 => self.write(who),
            10..14 => self.end(who, true),
            14..16 => self.end(who, false),
            16 => self.restart(who),
            17 => {
                self.rig.sync();
                self.rig.handle(crate::Event::Tick);
                self.rig.pass_ms(61_000);
            }
            18 => self.write_plain(),
            _ => {
                self.look();
                self.rig.sync();
                self.snapshots.push(self.rig.engine.snapshot());
            }
        }
    }

    fn write(&mut self, who: usize) {
        let partition = self.below(PARTITIONS as u64) as i32;
        let value = self.value();
        let open = *self.workers[who].open.get_or_insert_with(|| {
            self.transactions.push(Transaction {
                fate: Fate::Open,
                values: BTreeSet::new(),
                doubtful: BTreeSet::new(),
            });
            self.transactions.len() - 1
        });
        self.transactions[open].doubtful.insert(value.clone());
        let mut client = self.workers[who].client.clone();
        if !client.is_v2 {
            self.rig.is_instant = true;
            self.rig.sync();
            let code = client.add(&mut self.rig, "t", partition);
            self.rig.is_instant = false;
            if code != 0 {
                return self.give_up(who, Fate::Aborted);
            }
        }
        let bytes = client.batch("t", partition, &[&value]);
        let answer = self.persist(|rig| client.send_raw(rig, "t", partition, bytes.clone()));
        let Some(Response::Produce(response)) = answer else {
            return self.give_up(who, Fate::Aborted);
        };
        match response.responses[0].partition_responses[0].error_code {
            0 => {
                *client.sequences.entry(("t".to_owned(), partition)).or_default() += 1;
                self.workers[who].client = client;
                self.transactions[open].values.insert(value);
            }
            _ => self.give_up(who, Fate::Aborted),
        }
    }

    fn end(&mut self, who: usize, committed: bool) {
        let Some(open) = self.workers[who].open else { return };
        let client = self.workers[who].client.clone();
        if committed {
            self.transactions[open].fate = Fate::Unknown;
        }
        let answer = self.persist(|rig| client.send_end(rig, committed));
        let Some(Response::EndTxn(response)) = answer else {
            return self.give_up(who, if committed { Fate::Unknown } else { Fate::Aborted });
        };
        if response.error_code != 0 {
            // It took too long: whatever the client wanted, it was aborted.
            return self.give_up(who, Fate::Aborted);
        }
        self.workers[who].client.take_end(&response);
        self.workers[who].open = None;
        self.transactions[open].fate = if committed { Fate::Committed } else { Fate::Aborted };
    }

    /// The client goes away; one of the same name takes over.
    fn give_up(&mut self, who: usize, fate: Fate) {
        if let Some(open) = self.workers[who].open.take() {
            self.transactions[open].fate = fate;
        }
        let client = &self.workers[who].client;
        let (id, is_v2) = (client.transactional_id.clone(), client.is_v2);
        self.rig.is_instant = true;
        self.rig.sync();
        self.workers[who].client = Client::start(&mut self.rig, &id, is_v2);
        self.rig.is_instant = false;
    }

    /// The client's place is taken while it lives: what it then tries must not count.
    fn restart(&mut self, who: usize) {
        let mut zombie = self.workers[who].client.clone();
        let had_open = self.workers[who].open.is_some();
        self.give_up(who, Fate::Aborted);
        let id = zombie.send(&mut self.rig, "t", 0, &["zombie"]);
        self.rig.sync();
        assert_ne!(self.rig.produced(id).error_code, 0, "a zombie wrote");
        let id = zombie.send_end(&mut self.rig, true);
        self.rig.sync();
        assert!(ended(&mut self.rig, id).error_code != 0 || !had_open, "a zombie committed");
    }

    fn write_plain(&mut self) {
        let partition = self.below(PARTITIONS as u64) as i32;
        let value = self.value();
        let id = self.rig.send_batch("t", partition, batch(&[&value], None));
        self.rig.sync();
        assert_eq!(self.rig.produced(id).error_code, 0);
        self.plain.insert(value);
    }

    /// Reads all that is committed now. What was seen before must stand where it stood.
    fn look(&mut self) {
        for partition in 0..PARTITIONS {
            let (mut at, mut now) = (0, BTreeMap::new());
            loop {
                let data = self.rig.fetch_committed("t", partition, at);
                let (values, next) = committed_of(&data);
                now.extend(values);
                let Some(next) = next else { break };
                at = next;
            }
            let stable = self.rig.fetch("t", partition, 0).last_stable_offset;
            assert_eq!(at, stable, "read up to the last stable offset");
            for ((_, offset), value) in self.seen.range((partition, 0)..(partition + 1, 0)) {
                assert_eq!(now.get(offset), Some(value), "partition {partition} at {offset}");
            }
            for (offset, value) in now {
                self.seen.insert((partition, offset), value);
            }
            for transaction in &self.transactions {
                let hidden = !matches!(transaction.fate, Fate::Committed | Fate::Unknown);
                let mut of = self.seen.values().filter(|v| transaction.doubtful.contains(*v));
                assert!(!hidden || of.next().is_none(), "seen: {transaction:?}");
            }
        }
    }

    /// Everything ends; then each transaction is there as a whole or not at all.
    fn finish(&mut self) {
        for who in 0..self.workers.len() {
            self.give_up(who, Fate::Aborted);
        }
        self.look();
        let mut values: Vec<&String> = self.seen.values().collect();
        values.sort();
        let distinct: BTreeSet<&String> = values.iter().copied().collect();
        assert_eq!(values.len(), distinct.len(), "a value stands twice");
        assert!(self.plain.iter().all(|value| distinct.contains(value)));
        for transaction in &self.transactions {
            let count = transaction.values.iter().filter(|value| distinct.contains(value)).count();
            match transaction.fate {
                Fate::Committed => assert_eq!(count, transaction.values.len(), "{transaction:?}"),
                Fate::Unknown => {
                    assert!(count == 0 || count == transaction.values.len(), "{transaction:?}");
                }
                Fate::Aborted | Fate::Open => assert_eq!(count, 0, "{transaction:?}"),
            }
        }
        let lived = self.rig.engine.snapshot();
        assert_eq!(self.rig.reborn(None).engine.snapshot(), lived);
        self.snapshots.push(lived.clone());
        for snapshot in std::mem::take(&mut self.snapshots) {
            assert_eq!(self.rig.reborn(Some(snapshot)).engine.snapshot(), lived);
        }
    }
}

#[test]
fn whatever_happens_committed_transactions_are_seen_whole_and_aborted_ones_never() {
    let seeds = match option_env!("MILLPOND_TXN_SEED").and_then(|text| text.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..SEEDS,
    };
    let (mut committed, mut unknown) = (0, 0);
    for seed in seeds {
        let run = std::panic::catch_unwind(|| {
            let mut chaos = Chaos::new(seed);
            for _ in 0..STEPS {
                chaos.step();
            }
            chaos.finish();
            let count = |fate| chaos.transactions.iter().filter(|one| one.fate == fate).count();
            (count(Fate::Committed), count(Fate::Unknown))
        });
        let Ok((more, doubtful)) = run else {
            panic!(
                "seed {seed}: rerun with MILLPOND_TXN_SEED={seed} cargo test -p millpond-engine txn_chaos"
            );
        };
        committed += more;
        unknown += doubtful;
    }
    assert!(committed > 0, "{committed} committed, {unknown} unknown");
}
