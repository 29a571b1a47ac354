//! What a producer has done so far, as numbers.

/// Counters since the producer was made, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProducerMetrics {
    /// Records that `send` took.
    pub records_accepted: u64,
    /// Records that the broker has.
    pub records_delivered: u64,
    /// Records that were refused, timed out or are in doubt.
    pub records_failed: u64,
    /// Batches sent, retries included.
    pub batches_sent: u64,
    /// Batches sent again.
    pub batches_retried: u64,
    /// Bytes of batches sent, compressed, retries included.
    pub bytes_sent: u64,
    /// How often the producer had to begin a new epoch or take a new id.
    pub identity_resets: u64,
    /// Bytes of records that are accepted and not settled.
    pub buffered_bytes: u64,
}
