//! Filters that remember what they let through: [`DeadBand`], [`ChangeOnly`], [`Dedup`].
//!
//! They judge records in the order of the log, so the same log gives the same result each time. A
//! record that does not pass writes nothing: in a stream at rest they cost one look-up a record.
//!
//! ```
//! use millpond_sdk::filter::DeadBand;
//! use millpond_sdk::{Failure, Output, Record, Settings, Transform, Verdict, json};
//!
//! /// Temperatures that moved by more than half a degree, and one every ten minutes in any case.
//! struct Quiet {
//!     band: DeadBand,
//! }
//!
//! impl Transform for Quiet {
//!     fn new(_: &Settings) -> Result<Self, Failure> {
//!         Ok(Quiet { band: DeadBand::new(0.5, 0.0)?.max_silence_ms(600_000) })
//!     }
//!
//!     fn on_record(&mut self, record: &Record, _: &mut Output) -> Result<Verdict, Failure> {
//!         let t = json::number(record.value_or_empty(), "t").ok_or("no number `t`")?;
//!         let device = record.key().ok_or("a key is needed")?;
//!         Ok(if self.band.passes(record, device, t)? { Verdict::Keep } else { Verdict::Drop })
//!     }
//! }
//! ```

mod change_only;
mod dead_band;
mod dedup;
mod memory;

pub use change_only::ChangeOnly;
pub use dead_band::DeadBand;
pub use dedup::Dedup;
