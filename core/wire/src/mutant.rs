//! Deliberate defects: each breaks one promise, so that the test named beside it in `tests/mutants` can
//! show that it would find that out. They are in builds with the feature `mutants` alone, where the
//! environment chooses one; must never do anything in a product.

/// The variable that chooses one by its name.
pub const VARIABLE: &str = "MILLPOND_MUTANT";

macro_rules! mutants {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// What can be broken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutant {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Mutant] = &[$(Mutant::$variant,)+];

            /// As the environment calls it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Mutant::$variant => $name,)+
                }
            }
        }
    };
}

mutants! {
    /// Answers a produce before its entry is durable.
    AckEarly = "ack-early",
    /// Appends what an idempotent producer sends twice.
    NoDuplicateCheck = "no-duplicate-check",
    /// Shows records of transactions that are not ended.
    NoStableOffset = "no-stable-offset",
    /// Does not tell consumers what was aborted.
    NoAbortedList = "no-aborted-list",
    /// Ends transactions without their markers.
    NoMarkers = "no-markers",
    /// Counts offsets of a transaction at once.
    EarlyOffsets = "early-offsets",
    /// Lets a producer end a transaction whose place was taken.
    NoFencing = "no-fencing",
    /// Lets members of any generation commit.
    StaleGeneration = "stale-generation",
    /// Journals what became of a transform's state without the output that it belongs to.
    StateAlone = "state-alone",
    /// What a refused run changed in a transform's state stays.
    RefusedStateStays = "refused-state-stays",
    /// A timer that fired is still there.
    TimerTwice = "timer-twice",
    /// State that expires stays.
    NoExpiry = "no-expiry",
    /// Journal writes are not synced, and go through the page cache.
    NoSync = "no-sync",
    /// On a real disk nothing but the journal is synced.
    NoFileSync = "no-file-sync",
    /// On a real disk no directory is synced.
    NoDirSync = "no-dir-sync",
    /// Recovery checks neither checksums nor the chain of commits.
    NoCrcChain = "no-crc-chain",
}

impl Mutant {
    /// Whether the promise is to be broken.
    #[cfg(not(feature = "mutants"))]
    pub const fn is_on(self) -> bool {
        false
    }

    /// Whether the promise is to be broken.
    ///
    /// # Panics
    /// Where the environment names one that there is not: a test that believes it is tested must not
    /// turn out green.
    #[cfg(feature = "mutants")]
    pub fn is_on(self) -> bool {
        static CHOSEN: std::sync::OnceLock<Option<Mutant>> = std::sync::OnceLock::new();
        let choose = || {
            let name = std::env::var(VARIABLE).ok()?;
            let found = Mutant::ALL.iter().copied().find(|mutant| mutant.name() == name);
            assert!(found.is_some(), "{VARIABLE}={name}: there is no such mutant");
            found
        };
        *CHOSEN.get_or_init(choose) == Some(self)
    }
}
