//! The caps on transforms (host, engine, node): a part of `limits.rs`, under the same rules, where
//! their relations to other caps are asserted. Holds nothing but constants.

use super::{FACTS_PER_ENTRY_MAX, KIB, MIB};

/// Longest name of a transform.
pub const TRANSFORM_NAME_BYTES_MAX: usize = 128;
/// Most transforms of one node.
pub const TRANSFORMS_MAX: usize = 256;
/// Names of signed packages whose counters a node remembers, deleted transforms included.
pub const PACKAGE_COUNTERS_MAX: usize = 4_096;
/// Most transforms in the chain of one topic.
pub const TRANSFORMS_PER_TOPIC_MAX: usize = 8;
/// Most topics that one transform names.
pub const TOPICS_PER_TRANSFORM_MAX: usize = 256;
/// Most topics that share the state of one transform.
pub const TRANSFORM_SHARED_TOPICS_MAX: usize = 16;
/// Largest module.
pub const MODULE_BYTES_MAX: usize = 8 * MIB;
/// Most settings of one transform.
pub const TRANSFORM_SETTINGS_MAX: usize = 64;
/// Longest key of a setting of a transform.
pub const TRANSFORM_SETTING_KEY_BYTES_MAX: usize = 256;
/// Longest value of a setting of a transform.
pub const TRANSFORM_SETTING_VALUE_BYTES_MAX: usize = 16 * KIB;
/// Linear memory of an instance unless the transform says otherwise.
pub const DEFAULT_TRANSFORM_MEMORY_BYTES: usize = 16 * MIB;
/// Most linear memory that a transform may ask for.
pub const TRANSFORM_MEMORY_BYTES_MAX: usize = 256 * MIB;
/// Least linear memory that a transform may ask for: a Rust module starts with 17 pages.
pub const TRANSFORM_MEMORY_BYTES_MIN: usize = 2 * MIB;
/// CPU time for one batch unless the transform says otherwise.
pub const DEFAULT_TRANSFORM_CPU_MS_PER_BATCH: u64 = 200;
/// Most CPU time for one batch that a transform may ask for.
pub const TRANSFORM_CPU_MS_PER_BATCH_MAX: u64 = 10_000;
/// CPU time for compiling one module.
pub const MODULE_COMPILE_MS_MAX: u64 = 30_000;
/// How long a node waits for that, in times of it: a machine has other things to do.
pub const MODULE_COMPILE_WAIT_FACTOR: u64 = 8;
/// Address space of the process that compiles a module.
pub const MODULE_COMPILE_MEMORY_BYTES: usize = 1024 * MIB;
/// Machine code of one module.
pub const MODULE_ARTIFACT_BYTES_MAX: usize = 64 * MIB;
/// Failed records of 100 from which on a version is rolled back by itself.
pub const DEFAULT_TRANSFORM_ROLLBACK_PERCENT: u64 = 50;
/// Records that a version must have seen before it is.
pub const DEFAULT_TRANSFORM_ROLLBACK_RECORDS: u64 = 100;
/// Output bytes for each input byte of a batch, above `TRANSFORM_OUTPUT_EXEMPT_BYTES`.
pub const DEFAULT_TRANSFORM_OUTPUT_RATIO: usize = 16;
/// Output of a batch up to this size is allowed whatever the input was.
pub const TRANSFORM_OUTPUT_EXEMPT_BYTES: usize = 64 * KIB;
/// Most output bytes of one batch, all destinations together.
pub const TRANSFORM_OUTPUT_BYTES_MAX: usize = 8 * MIB;
/// Most records that may come out of one batch.
pub const TRANSFORM_OUTPUT_RECORDS_MAX: usize = 200_000;
/// Most destination topics of one batch.
pub const TRANSFORM_OUTPUT_TOPICS_MAX: usize = 32;
/// Most attempts at one record under the policy `retry`.
pub const TRANSFORM_RETRIES_MAX: u32 = 10;
/// Longest error text of a guest that is kept (logs, dead-letter headers).
pub const TRANSFORM_ERROR_BYTES_MAX: usize = 1024;
/// Longest log line of a guest.
pub const TRANSFORM_LOG_LINE_BYTES_MAX: usize = 1024;
/// Log lines kept for each transform.
pub const TRANSFORM_LOG_LINES_KEPT: usize = 1_000;
/// Log lines that a guest may write for one batch; further ones are counted and dropped.
pub const TRANSFORM_LOG_LINES_PER_BATCH_MAX: usize = 100;
/// Live instances of the node; the one idle longest goes first.
pub const TRANSFORM_INSTANCES_MAX: usize = 256;
/// Batches that wait for a worker, all transforms together.
pub const TRANSFORM_QUEUE_MAX: usize = 4_096;
/// Most records of a batch that goes through transforms: a million tiny ones would cost the host
/// ten times their own size.
pub const TRANSFORM_INPUT_RECORDS_MAX: usize = 200_000;
/// Largest function of a module: what one takes to compile grows faster than its size.
pub const MODULE_FUNCTION_BYTES_MAX: usize = 512 * KIB;
/// Most functions of a module.
pub const MODULE_FUNCTIONS_MAX: usize = 50_000;
/// Address space reserved for the memory of each instance: the most that a transform of this node
/// may ask for. A Raspberry Pi's kernel has 39-bit addresses, 512 GiB for everything.
pub const DEFAULT_TRANSFORM_RESERVATION_BYTES: usize = 64 * MIB;
/// Linear memory of all instances of the node together.
pub const DEFAULT_TRANSFORMS_MEMORY_BYTES: usize = 256 * MIB;
/// Stack of a guest.
pub const TRANSFORM_STACK_BYTES: usize = 256 * KIB;
/// Most elements of a guest's tables.
pub const TRANSFORM_TABLE_ELEMENTS_MAX: usize = 10_000;
/// CPU time for a guest's start and its reading of the settings.
pub const TRANSFORM_INIT_CPU_MS: u64 = 1_000;
/// Runs that may be spent on finding the records of one batch that make a guest fail.
pub const TRANSFORM_ISOLATION_RUNS_MAX: usize = 2_000;
/// CPU time for the same, in times of that for the batch.
pub const TRANSFORM_ISOLATION_CPU_FACTOR: u64 = 8;
/// CPU time for a record that is run alone: this part of the batch's, and no less than the floor.
pub const TRANSFORM_RECORD_CPU_DIVISOR: u64 = 8;
/// The floor for it.
pub const TRANSFORM_RECORD_CPU_MS_MIN: u64 = 5;
/// Longest key of a transform's state, and of a timer.
pub const TRANSFORM_STATE_KEY_BYTES_MAX: usize = KIB;
/// Longest value of a transform's state.
pub const TRANSFORM_STATE_VALUE_BYTES_MAX: usize = 256 * KIB;
/// What an entry of the state is counted with beside its key and value: about what the map takes.
pub const TRANSFORM_STATE_ENTRY_BYTES: usize = 192;
/// State of one transform on one partition unless the transform says otherwise.
pub const DEFAULT_TRANSFORM_STATE_BYTES: usize = 4 * MIB;
/// Most state on one partition that a transform may ask for.
pub const TRANSFORM_STATE_BYTES_MAX: usize = 64 * MIB;
/// State of partitions without work that stays in memory, all transforms together; what is beyond
/// it is read again when it is needed.
pub const TRANSFORMS_IDLE_STATE_BYTES_MAX: usize = 64 * MIB;
/// Most bytes of keys and values that one transform may change in one run: they are journalled
/// with the output.
pub const TRANSFORM_STATE_CHANGE_BYTES_MAX: usize = 2 * MIB;
/// Most timers that one call of a guest gets.
pub const TRANSFORM_TIMERS_PER_CALL_MAX: usize = 1_000;
/// Most calls with timers in one run; those left over are due in the next.
pub const TRANSFORM_TIMER_ROUNDS_MAX: usize = 64;
/// Most further jobs in a row for timers that are left over; what is due then waits for the next batch.
pub const TRANSFORM_TIMER_JOBS_MAX: usize = 1_000;
/// What a timer counts as where the output is held to a ratio of the input.
pub const TRANSFORM_TIMER_INPUT_BYTES: usize = KIB;
/// Output of timers after which no more of them are run in this run.
pub const TRANSFORM_TIMER_OUTPUT_BYTES: usize = 4 * MIB;
/// Most entries of the state that expire in one run; the rest go with the next.
pub const TRANSFORM_EXPIRIES_PER_RUN_MAX: usize = 10_000;
/// Longest delay of a watermark: a year.
pub const TRANSFORM_WATERMARK_DELAY_MS_MAX: u64 = 366 * 24 * 3_600_000;
/// How far ahead of the node's clock a record moves the watermark unless the transform says otherwise.
pub const DEFAULT_TRANSFORM_WATERMARK_AHEAD_MS: u64 = 3_600_000;
/// Most that a transform may ask for: a year.
pub const TRANSFORM_WATERMARK_AHEAD_MS_MAX: u64 = 366 * 24 * 3_600_000;
/// A node's clock that says less, 2025-01-01 in ms since 1970, was never set: this program is younger.
pub const CLOCK_SET_FROM_MS: i64 = 1_735_689_600_000;
/// Longest time without records after which timers go by the node's clock.
pub const TRANSFORM_IDLE_TIMEOUT_MS_MAX: u64 = 24 * 3_600_000;
/// Bytes that a function of the host looks at for a guest in a millisecond of its CPU time.
pub const TRANSFORM_HELPER_BYTES_PER_MS: usize = MIB;
/// Deepest nesting of JSON that is read for a guest.
pub const TRANSFORM_JSON_DEPTH_MAX: usize = 128;
/// Wait before a record that ran out of CPU time is tried again; doubles with each try.
pub const TRANSFORM_RETRY_WAIT_MS_MIN: u64 = 5;
/// Longest such wait.
pub const TRANSFORM_RETRY_WAIT_MS_MAX: u64 = 100;
/// Most records of the window in which a transform's failures are counted.
pub const TRANSFORM_ERROR_WINDOW_RECORDS_MAX: u64 = 10_000_000;
/// Most random bytes that a guest of WASI may ask for at a time.
pub const RANDOM_BYTES_PER_CALL_MAX: usize = 64 * KIB;
/// Jobs of derived transforms under way at once, all together: producing has the rest of the node.
pub const DERIVE_JOBS_MAX: usize = 16;
/// Jobs of derived transforms begun by one event; the next go with the next event.
pub const DERIVE_STARTS_PER_EVENT: usize = 4;
/// Batches that one look for the next job passes over (aborted, markers) before others have a turn.
pub const DERIVE_SKIPS_PER_LOOK: usize = 256;
/// Bytes of one read of history for a derived transform; a larger batch is read whole.
pub const DERIVE_READ_BYTES: usize = 512 * KIB;
/// Bytes of read history that wait for their jobs, all derived transforms together, above which a
/// read keeps one batch only.
pub const DERIVE_BUFFER_BYTES: usize = 4 * MIB;
/// Records of small batches that are given to a derived transform as one, in bytes of their batches.
pub const DERIVE_MERGE_BYTES: usize = 64 * KIB;
/// Wait after the first failure of a derived batch; each further one doubles it.
pub const DERIVE_RETRY_MS_MIN: u64 = 100;
/// The longest such wait.
pub const DERIVE_RETRY_MS_MAX: u64 = 30_000;
/// Wait before derived transforms go on that found no memory or no turn.
pub const DERIVE_HOLD_MS: u64 = 5;
/// Time passes for a transform without records in steps of this at least.
pub const IDLE_STEP_MS_MIN: u64 = 1_000;
/// Bytes of one page of a transform's state as its worker reads it; a larger batch is read whole.
pub const STATE_PAGE_BYTES: usize = MIB;
/// Facts that what a transform made of one batch may take: what is routed by key becomes many batches.
pub const TRANSFORM_FACTS_MAX: usize = FACTS_PER_ENTRY_MAX / 4;
/// Log lines of one transform in a second; further ones are counted and dropped.
pub const TRANSFORM_LOG_LINES_PER_SECOND_MAX: u32 = 100;
