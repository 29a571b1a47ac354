//! What an examination has to say: plain words, whom they concern, what to do. It decides nothing.

use millpond_engine::PartitionKey;
use millpond_wire::limits::OFFLINE_FINDINGS_MAX;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing, and in order.
    Note,
    /// Bytes that somebody was told are safe are not there as they were written.
    Damage,
}

impl Severity {
    /// For tables and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::Damage => "damage",
        }
    }
}

/// Whom it concerns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Concern {
    /// Relative to the data directory; empty if it is about no file.
    pub file: String,
    /// Where in the file.
    pub offset_bytes: Option<u64>,
    /// The partition, if it is about one.
    pub partition: Option<PartitionKey>,
    /// The offsets that it may cost: from the first to before the second.
    pub offsets: Option<(i64, i64)>,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// Whom it concerns.
    pub concern: Concern,
    /// What it is.
    pub what: String,
    /// What to do about it; empty if nothing.
    pub remedy: &'static str,
}

/// All findings, up to [`OFFLINE_FINDINGS_MAX`] of them; the rest is counted.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    kept: Vec<Finding>,
    /// How many of each [`Severity`] were found, kept or not.
    damages: u64,
    notes: u64,
}

impl Findings {
    /// Those that were kept, in the order in which they were found.
    #[must_use]
    pub fn kept(&self) -> &[Finding] {
        &self.kept
    }

    /// How many damages there are, those included that were not kept.
    #[must_use]
    pub fn damages(&self) -> u64 {
        self.damages
    }

    /// How many notes, likewise.
    #[must_use]
    pub fn notes(&self) -> u64 {
        self.notes
    }

    pub(super) fn note(&mut self, concern: Concern, what: String, remedy: &'static str) {
        self.add(Finding { severity: Severity::Note, concern, what, remedy });
    }

    pub(super) fn damage(&mut self, concern: Concern, what: String, remedy: &'static str) {
        self.add(Finding { severity: Severity::Damage, concern, what, remedy });
    }

    fn add(&mut self, finding: Finding) {
        match finding.severity {
            Severity::Note => self.notes += 1,
            Severity::Damage => self.damages += 1,
        }
        if self.kept.len() < OFFLINE_FINDINGS_MAX {
            self.kept.push(finding);
        }
    }
}
