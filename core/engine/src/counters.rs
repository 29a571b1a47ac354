//! What has happened since the start, counted. For people and metrics only: no decision may
//! depend on a counter.

/// Counts since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Records admitted from producers.
    pub records_in: u64,
    /// Bytes of their batches.
    pub bytes_in: u64,
    /// Records appended to logs.
    pub records_appended: u64,
    /// Bytes of batches appended to logs.
    pub bytes_appended: u64,
    /// Bytes of batches given to consumers.
    pub bytes_out: u64,
    /// Records that transforms were given.
    pub transform_records_in: u64,
    /// Records that transforms put out instead.
    pub transform_records_out: u64,
    /// Batches that a transform left as they were.
    pub transform_batches_untouched: u64,
    /// Batches that a transform refused.
    pub transform_batches_rejected: u64,
    /// Batches of which derived transforms have made what is stored.
    pub derive_batches: u64,
    /// Times that a derived transform had to wait and try again, or what time brought about was refused.
    pub derive_failures: u64,
    /// Offsets that were gone before derived transforms came to them.
    pub derive_records_gone: u64,
    /// Jobs without a batch: time passed for transforms with state.
    pub idle_jobs: u64,
    /// Committed offsets that had their time.
    pub offsets_expired: u64,
    /// Batches recognised as duplicates.
    pub duplicates: u64,
    /// Batches refused because of their sequence or epoch.
    pub sequence_refusals: u64,
    /// Batches taken although sequences before them are missing: those were lost at a power cut,
    /// within the window that their topic declares.
    pub sequence_gaps_after_loss: u64,
    /// Batches refused for any other reason.
    pub produce_refusals: u64,
    /// Produce requests that waited for memory.
    pub produces_parked: u64,
    /// Requests after which a client had to wait, because of its quota.
    pub requests_throttled: u64,
    /// How long those clients were told to wait, all together.
    pub throttle_ms: u64,
    /// Transactions that were committed.
    pub transactions_committed: u64,
    /// Transactions that were aborted, for whatever reason.
    pub transactions_aborted: u64,
    /// Those of them that took longer than their producer had allowed.
    pub transactions_timed_out: u64,
    /// Entries given to the journal.
    pub entries: u64,
    /// Fetches that waited.
    pub fetches_waited: u64,
    /// Reads of history that were asked for.
    pub history_reads: u64,
    /// Rebalances that were completed.
    pub rebalances: u64,
    /// Batches whose memory was given back after a flush, in bytes.
    pub bytes_evicted: u64,
}
