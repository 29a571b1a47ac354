//! The topics of a run: how each kind is made, what its producers send, and what the oracle demands
//! of its log. A new kind of topic is a new variant here, and nothing elsewhere if its rule is one
//! that there is. Must never know the node.

use crate::history::{Partition, RecordId};
use millpond_storage::disk::sim::SimRng;
use millpond_wire::limits::LOSS_WINDOW_GRACE_MS;

/// A kind of topic; each run has one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicKind {
    /// Stored as it is sent.
    Plain,
    /// Its transform drops every record with an odd sequence.
    Sifted,
    /// One or two small records a batch, as devices send them.
    Dust,
    /// Batches of 64 KiB and more, now and then.
    Bulk,
    /// Declares a window of loss: answered before it is synced.
    Windowed,
    /// A client deletes its records from the front.
    Trimmed,
    /// Keeps so many bytes only.
    Bounded,
    /// Transactional workers read it.
    Grain,
    /// Transactional workers write to it.
    Flour,
}

/// What the oracle demands of a topic's log, beyond that nothing is invented, doubled or
/// overtaken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Every acknowledged record is there for ever, at the offset of its acknowledgement.
    KeepsAll,
    /// The same, but a record with an odd sequence is nowhere.
    KeepsEven,
    /// When the node dies, the last acknowledged records may go: only the last ones, and only such
    /// as were acknowledged within one window of this many ms. What a reader was shown stays.
    MayLoseLast {
        /// Between the first and the last acknowledgement of what goes at once.
        window_ms: u64,
    },
    /// The first records go when a client asks for it, no more and no less.
    LosesDeleted,
    /// The first records go, by the topic's limit.
    KeepsNewest,
    /// Its books are those of the transactions (`txn_books.rs`).
    Transactional,
}

/// How a batch is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchShape {
    /// Records.
    pub records: u64,
    /// Bytes that each value has beyond its name, at most.
    pub padding: u64,
    /// Whether each has exactly so many.
    pub is_exact: bool,
}

/// In the oracle's books the partitions of a kind begin at a multiple of this.
const PARTITIONS_MAX: Partition = 100;
/// In the oracle's books the topics that come and go begin here.
pub const FLEETING_BASE: Partition = 1_000;

impl TopicKind {
    /// The kinds that no transaction has to do with.
    pub const PLAIN: [TopicKind; 7] = [
        TopicKind::Plain,
        TopicKind::Sifted,
        TopicKind::Dust,
        TopicKind::Bulk,
        TopicKind::Windowed,
        TopicKind::Trimmed,
        TopicKind::Bounded,
    ];
    /// What transactional workers read, and what they write to.
    pub const MILL: [TopicKind; 2] = [TopicKind::Grain, TopicKind::Flour];

    /// All kinds, as they are counted.
    fn all() -> impl Iterator<Item = TopicKind> {
        TopicKind::PLAIN.into_iter().chain(TopicKind::MILL)
    }

    /// The topic's name.
    pub fn name(self) -> &'static str {
        match self {
            TopicKind::Plain => "plain",
            TopicKind::Sifted => "sifted",
            TopicKind::Dust => "dust",
            TopicKind::Bulk => "bulk",
            TopicKind::Windowed => "windowed",
            TopicKind::Trimmed => "trimmed",
            TopicKind::Bounded => "bounded",
            TopicKind::Grain => "grain",
            TopicKind::Flour => "flour",
        }
    }

    /// How many partitions it has.
    pub fn partitions(self) -> i32 {
        match self {
            TopicKind::Plain | TopicKind::Sifted => 2,
            TopicKind::Grain | TopicKind::Flour => 3,
            _ => 1,
        }
    }

    /// Its settings, as CreateTopics takes them.
    pub fn settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            TopicKind::Windowed => &[("flush.ms", "40")],
            TopicKind::Bounded => &[("retention.bytes", "60000")],
            _ => &[],
        }
    }

    /// What the oracle demands of it.
    pub fn rule(self) -> Rule {
        match self {
            TopicKind::Sifted => Rule::KeepsEven,
            TopicKind::Plain | TopicKind::Dust | TopicKind::Bulk | TopicKind::Grain => {
                Rule::KeepsAll
            }
            TopicKind::Windowed => Rule::MayLoseLast { window_ms: 40 + LOSS_WINDOW_GRACE_MS },
            TopicKind::Trimmed => Rule::LosesDeleted,
            TopicKind::Bounded => Rule::KeepsNewest,
            TopicKind::Flour => Rule::Transactional,
        }
    }

    /// What its producers send next.
    pub fn next_shape(self, rng: &mut SimRng) -> BatchShape {
        match self {
            TopicKind::Plain | TopicKind::Sifted | TopicKind::Bounded => BatchShape {
                records: rng.between(1, 4),
                padding: if rng.chance(50) { 9_000 } else { 200 },
                is_exact: false,
            },
            TopicKind::Dust
            | TopicKind::Windowed
            | TopicKind::Trimmed
            | TopicKind::Grain
            | TopicKind::Flour => {
                BatchShape { records: rng.between(1, 2), padding: 60, is_exact: false }
            }
            TopicKind::Bulk if rng.chance(100) => BatchShape {
                records: rng.between(1, 2),
                padding: rng.between(64 << 10, 100 << 10),
                is_exact: true,
            },
            TopicKind::Bulk => BatchShape { records: 2, padding: 2_000, is_exact: false },
        }
    }

    /// Its partitions as the oracle counts them.
    pub fn places(self) -> impl Iterator<Item = Partition> {
        let base = self as Partition * PARTITIONS_MAX;
        (0..self.partitions()).map(move |index| base + index)
    }

    /// The kind of a partition as the oracle counts it; `None` for a topic that comes and goes.
    pub fn of(partition: Partition) -> Option<TopicKind> {
        TopicKind::all().nth(usize::try_from(partition / PARTITIONS_MAX).ok()?)
    }
}

/// A partition as the oracle counts it: its topic and its index there.
pub fn place(partition: Partition) -> (String, i32) {
    match TopicKind::of(partition) {
        Some(kind) => (kind.name().to_owned(), partition % PARTITIONS_MAX),
        None => (fleeting_name(partition), 0),
    }
}

/// The partition of a topic as the oracle counts it; `None` for a topic that comes and goes.
pub fn partition_of(topic: &str, index: i32) -> Option<Partition> {
    let kind = TopicKind::all().find(|kind| kind.name() == topic)?;
    Some(kind as Partition * PARTITIONS_MAX + index)
}

/// What the oracle demands of a partition's log.
pub fn rule_of(partition: Partition) -> Rule {
    TopicKind::of(partition).map_or(Rule::KeepsAll, TopicKind::rule)
}

/// The name of a topic that comes and goes: each of its lives is a partition of its own in the
/// books, all of one lane have one name.
fn fleeting_name(partition: Partition) -> String {
    format!("fleeting-{}", (partition - FLEETING_BASE) / FLEETING_LIVES_MAX)
}

/// The most lives of such a topic in a run.
pub const FLEETING_LIVES_MAX: Partition = 10_000;

/// Whether the transform of the run drops this record.
pub fn is_dropped(partition: Partition, record: RecordId) -> bool {
    rule_of(partition) == Rule::KeepsEven && record.sequence % 2 == 1
}

/// Every partition of these topics that has plain records.
pub fn plain_partitions(kinds: &[TopicKind]) -> impl Iterator<Item = Partition> {
    let plain = kinds.iter().filter(|kind| kind.rule() != Rule::Transactional);
    plain.copied().flat_map(TopicKind::places)
}
