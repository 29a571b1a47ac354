//! The journal of a stopped node, commit by commit, with its entries in words.

use millpond_engine::{Entry, EntrySeq, Fact, PartitionKey};

use super::names::TopicNames;
use super::words::describe;
use super::{DataDir, OfflineError};
use crate::checkpoint::Checkpoint;
use crate::disk::{Disk, DiskError};
use crate::durable_engine::ReplayFault;
use crate::journal::{CommitFacts, EntryFacts, Inspection, RingShape};

/// An open journal, for reading.
pub struct JournalView<D: Disk> {
    inspection: Inspection<D>,
    names: TopicNames,
}

/// An entry for people.
#[derive(Clone, Debug)]
pub struct EntryView {
    /// Its sequence.
    pub seq: u64,
    /// Bytes of its encoding.
    pub len_bytes: usize,
    /// Whether its checksum is right and its content understood.
    pub is_whole: bool,
    /// A line for each fact; or what is wrong.
    pub facts: Vec<String>,
    /// The partitions that its facts are about, each fact of one partition.
    pub partitions: Vec<PartitionKey>,
}

impl<D: Disk> DataDir<D> {
    /// The journal that continues a checkpoint.
    ///
    /// # Errors
    /// When the ring cannot be opened.
    pub async fn journal(
        &self,
        checkpoint: &Checkpoint,
        names: TopicNames,
    ) -> Result<JournalView<D>, OfflineError> {
        let Checkpoint { journal_id, resume, .. } = checkpoint;
        let opened = Inspection::open::<ReplayFault>(&self.disk, *journal_id, *resume).await;
        Ok(JournalView { inspection: opened?, names })
    }
}

impl<D: Disk> JournalView<D> {
    /// The names that the commits shown so far have made known, and those known before.
    #[must_use]
    pub fn names(&self) -> &TopicNames {
        &self.names
    }

    /// The shape of the ring.
    #[must_use]
    pub fn shape(&self) -> RingShape {
        self.inspection.shape()
    }

    /// Shows every commit of the present lap, with its entries, until `visit` says to stop.
    ///
    /// # Errors
    /// When the device fails.
    pub async fn commits(
        &mut self,
        mut visit: impl FnMut(&CommitFacts, Vec<EntryView>) -> bool,
    ) -> Result<(), DiskError> {
        let mut walk = self.inspection.walk();
        while let Some(commit) = walk.next().await? {
            let entries = commit.entries.iter().map(|entry| view(entry, &mut self.names));
            let entries = entries.collect();
            if !visit(&commit, entries) {
                break;
            }
        }
        Ok(())
    }
}

fn view(entry: &EntryFacts, names: &mut TopicNames) -> EntryView {
    let EntryFacts { seq, bytes, is_whole, .. } = entry;
    let (seq, len_bytes) = (*seq, bytes.len());
    let wrong = |what: String| EntryView {
        seq,
        len_bytes,
        is_whole: false,
        facts: vec![what],
        partitions: Vec::new(),
    };
    if !is_whole {
        return wrong("its checksum is wrong".to_owned());
    }
    match Entry::decode(EntrySeq(seq), bytes.clone()) {
        Err(error) => wrong(error.to_string()),
        Ok(entry) => {
            entry.facts.iter().for_each(|fact| names.learn(fact));
            let facts = entry.facts.iter().map(|fact| describe(fact, names)).collect();
            let partitions = entry.facts.iter().filter_map(Fact::partition).collect();
            EntryView { seq, len_bytes, is_whole: true, facts, partitions }
        }
    }
}
