//! What comes out of a chain: the batch as it came, other batches, or a refusal.

use millpond_wire::ErrorCode;
use millpond_wire::record::Batch;

/// What becomes of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on byte for byte as it came.
    Untouched,
    /// These go on in its place: without a producer, base offset 0. May be none.
    Changed {
        /// In order, those of the same topic first.
        outputs: Vec<Output>,
    },
    /// It is refused as a whole.
    Rejected {
        /// For the producer.
        code: ErrorCode,
        /// For a person.
        message: String,
    },
}

/// One batch that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Where to.
    pub topic: OutputTopic,
    /// The batch, with the codec of the one that came.
    pub batch: Batch,
}

/// Where a batch goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputTopic {
    /// The topic that it was sent to.
    Same,
    /// A dead-letter topic, or one that a module sends to.
    Named(String),
}
