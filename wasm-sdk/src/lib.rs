//! Write Millpond transforms in Rust.
//!
//! A transform sees every record of a topic before it is stored, and decides: keep it, drop it,
//! replace it, make several of it, send it elsewhere. It is a WebAssembly module; this crate is
//! all that it needs.
//!
//! ```
//! use millpond_sdk::{Failure, Output, Record, Settings, Transform, Verdict, json};
//!
//! /// Keeps the records whose `temperature` is above a limit.
//! struct TooHot {
//!     limit: f64,
//! }
//!
//! impl Transform for TooHot {
//!     fn new(settings: &Settings) -> Result<Self, Failure> {
//!         let limit = settings.parse("limit")?.unwrap_or(80.0);
//!         Ok(TooHot { limit })
//!     }
//!
//!     fn on_record(&mut self, record: &Record, _: &mut Output) -> Result<Verdict, Failure> {
//!         let temperature = json::number(record.value_or_empty(), "temperature")
//!             .ok_or("no number `temperature`")?;
//!         Ok(if temperature > self.limit { Verdict::Keep } else { Verdict::Drop })
//!     }
//! }
//!
//! millpond_sdk::register!(TooHot);
//!
//! // The same code runs in a native test:
//! use millpond_sdk::testing::{self, Outcome, TestRecord};
//! let report = testing::run::<TooHot>(
//!     &[("limit", "30")],
//!     &[TestRecord::of(br#"{"temperature": 31.5}"#), TestRecord::of(br#"{"temperature": 9}"#)],
//! )
//! .unwrap();
//! assert_eq!(report.outcomes[0], Outcome::keep());
//! assert_eq!(report.outcomes[1], Outcome::drop());
//! ```
//!
//! What a module must never count on: that an instance lives from one batch to the next. Memory
//! is a cache; the broker may throw an instance away between any two batches.

pub mod abi;
pub mod aggregate;
pub mod bytes;
mod failure;
pub mod filter;
mod guest;
pub mod helpers;
mod host;
pub mod join;
pub mod json;
mod output;
mod random;
mod record;
mod settings;
pub mod state;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
pub mod timers;
pub mod window;

pub use failure::Failure;
pub use host::{Level, abort, log};
pub use output::{Emit, Output, Verdict};
pub use random::Random;
pub use record::{Headers, Record};
pub use settings::Settings;

/// What a module does.
pub trait Transform: Sized {
    /// Makes the transform from its settings; called once for each instance.
    ///
    /// # Errors
    /// A setting that is missing or cannot be read. The deployment is refused with the message.
    fn new(settings: &Settings) -> Result<Self, Failure>;

    /// Decides on one record.
    ///
    /// # Errors
    /// The module cannot make sense of the record. The transform's failure policy applies to it
    /// (dead letter, skip, pass or reject), and what was emitted for it is taken back.
    fn on_record(&mut self, record: &Record<'_>, output: &mut Output) -> Result<Verdict, Failure>;
}

/// What a module does when its timers are due.
pub trait Timed: Transform {
    /// Acts on one timer. What is emitted goes on in the chain as a record would.
    ///
    /// # Errors
    /// What a person should read. The timer is spent, and what was emitted for it is taken back;
    /// what was put in the state stays.
    fn on_timer(&mut self, timer: &timers::Timer<'_>, output: &mut Output) -> Result<(), Failure>;
}

/// Makes a type that implements [`Transform`] the module's transform; with `timers` behind it, one
/// that implements [`Timed`], too. Once in a module.
#[macro_export]
macro_rules! register {
    ($transform:ty, timers) => {
        $crate::register!(@exports $transform, {
            // SAFETY: as of the others, below.
            #[cfg(target_arch = "wasm32")]
            #[allow(unsafe_code)]
            #[unsafe(no_mangle)]
            extern "C" fn millpond_timer_v1(pointer: u32, bytes: u32) -> u64 {
                GUEST.with_borrow_mut(|guest| guest.timer(pointer, bytes))
            }
        });
    };
    ($transform:ty) => {
        $crate::register!(@exports $transform, {});
    };
    (@exports $transform:ty, {$($more:item)*}) => {
        const _: () = {
            ::std::thread_local! {
                static GUEST: ::std::cell::RefCell<$crate::__private::Guest<$transform>> =
                    const { ::std::cell::RefCell::new($crate::__private::Guest::new()) };
            }

            // SAFETY, for all: the names are the broker's contract and nothing else has
            // them; the functions take and give numbers only.
            #[cfg(target_arch = "wasm32")]
            #[allow(unsafe_code)]
            #[unsafe(no_mangle)]
            extern "C" fn millpond_alloc(bytes: u32) -> u32 {
                GUEST.with_borrow_mut(|guest| guest.alloc(bytes))
            }

            #[cfg(target_arch = "wasm32")]
            #[allow(unsafe_code)]
            #[unsafe(no_mangle)]
            extern "C" fn millpond_init() -> u32 {
                GUEST.with_borrow_mut(|guest| guest.init())
            }

            #[cfg(target_arch = "wasm32")]
            #[allow(unsafe_code)]
            #[unsafe(no_mangle)]
            extern "C" fn millpond_progress() -> u32 {
                $crate::__private::progress_address()
            }

            #[cfg(target_arch = "wasm32")]
            #[allow(unsafe_code)]
            #[unsafe(no_mangle)]
            extern "C" fn millpond_transform_v1(pointer: u32, bytes: u32) -> u64 {
                GUEST.with_borrow_mut(|guest| guest.transform(pointer, bytes))
            }

            $($more)*
        };
    };
}

#[doc(hidden)]
pub mod __private {
    pub use crate::guest::{Guest, progress_address};
}

/// The examples of the README are compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
