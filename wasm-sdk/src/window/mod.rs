//! Windows over the records' own time, per key: [`Windows`] (tumbling, hopping) and [`Sessions`].
//!
//! Time is the partition's watermark: the greatest timestamp seen, less the transform's limit
//! `watermark_delay_ms`, as of the end of the batch before. A window is closed once the watermark
//! reaches its end and the allowed lateness behind it; a record that belongs to closed windows only
//! is *late*, and the author says what becomes of it ([`LatePolicy`]). So delay and lateness both
//! wait for stragglers; the delay holds everything back, the lateness only what is final.
//!
//! What one record adds is journalled with what it makes, so each window counts each of its
//! records once, across power cuts and new instances. Windows close in the order of their closing
//! time, then start, then key.
//!
//! ```
//! use millpond_sdk::aggregate::Mean;
//! use millpond_sdk::timers::Timer;
//! use millpond_sdk::window::{Arrival, LatePolicy, Windows};
//! use millpond_sdk::{Emit, Failure, Output, Record, Settings, Timed, Transform, Verdict};
//! use millpond_sdk::{json, register};
//!
//! /// The mean of `t` of each device and minute, when the minute is over.
//! struct Means {
//!     windows: Windows<Mean>,
//! }
//!
//! impl Transform for Means {
//!     fn new(_: &Settings) -> Result<Self, Failure> {
//!         let windows = Windows::tumbling(60_000, Mean::default())?.allowed_lateness_ms(5_000);
//!         Ok(Means { windows })
//!     }
//!
//!     fn on_record(&mut self, record: &Record, out: &mut Output) -> Result<Verdict, Failure> {
//!         let t = json::number(record.value_or_empty(), "t").ok_or("no number `t`")?;
//!         let device = record.key().ok_or("a key is needed")?;
//!         match self.windows.add(record, device, t, |_| {})? {
//!             Arrival::Counted => Ok(Verdict::Drop),
//!             Arrival::Late => LatePolicy::Topic("late".into()).apply(record, out),
//!         }
//!     }
//! }
//!
//! impl Timed for Means {
//!     fn on_timer(&mut self, timer: &Timer, out: &mut Output) -> Result<(), Failure> {
//!         self.windows.on_timer(timer, |window| {
//!             let mean = window.aggregate.value().unwrap_or_default().to_string();
//!             let emit = Emit::new(window.end_ms - 1).key(Some(window.key));
//!             out.emit(&emit.value(mean.as_bytes()));
//!         })?;
//!         Ok(())
//!     }
//! }
//!
//! register!(Means, timers);
//! ```

mod fixed;
mod late;
mod session;

pub use fixed::{Window, Windows};
pub use late::{Arrival, LatePolicy};
pub use session::{Session, Sessions};

use crate::{Failure, Record, Settings};

/// When a window's result is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Emission {
    /// Once, when nothing can change it any more: at its end and the allowed lateness behind it.
    #[default]
    AtClose,
    /// At its end, and again for each late record that changes it until it is closed.
    AtEnd,
    /// For each record that changes it, at once. Needs no timers.
    EachChange,
}

impl Emission {
    /// Reads the setting `emit`: `close` (also if it is unset), `end` or `change`.
    ///
    /// # Errors
    /// Anything else.
    pub fn from_settings(settings: &Settings) -> Result<Self, Failure> {
        match settings.get("emit").as_deref() {
            None | Some("close") => Ok(Emission::AtClose),
            Some("end") => Ok(Emission::AtEnd),
            Some("change") => Ok(Emission::EachChange),
            Some(other) => Err(format!("`emit` is close, end or change, not `{other}`").into()),
        }
    }
}

/// Of everything that a window operator keeps, the first byte.
const STATE_VERSION: u8 = 1;

fn check_duration(what: &str, duration_ms: i64) -> Result<(), Failure> {
    // A thousand years; sums of such times and timestamps stay far from overflow.
    const DURATION_MS_MAX: i64 = 1_000 * 366 * 24 * 3_600 * 1_000;
    if (1..=DURATION_MS_MAX).contains(&duration_ms) {
        return Ok(());
    }
    Err(format!("{what} is {duration_ms} ms; it can be 1 ms to a thousand years").into())
}

/// The record's time, if sums with durations can be formed with it.
fn timestamp_ms(record: &Record<'_>) -> Result<i64, Failure> {
    let timestamp_ms = record.timestamp_ms();
    if timestamp_ms.unsigned_abs() > i64::MAX as u64 / 4 {
        return Err(format!("{timestamp_ms} ms is no time that a window can hold").into());
    }
    Ok(timestamp_ms)
}

fn foreign_state() -> Failure {
    "the window in the state was written by another version of this module, with another \
     aggregate: deploy it under a new name, or delete its state"
        .into()
}
