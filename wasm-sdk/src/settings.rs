//! What the operator set when the transform was deployed: text by name.
//!
//! Settings do not change while an instance lives; read them once, in `Transform::new`.

use crate::failure::Failure;
use crate::host;
use core::str::FromStr;
use std::collections::BTreeMap;

/// The transform's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    /// Asked from the broker, name by name.
    Host,
    /// Given by a test.
    Map(BTreeMap<String, String>),
}

impl Settings {
    pub(crate) fn from_host() -> Self {
        Settings { source: Source::Host }
    }

    /// Settings for a native test.
    pub fn from_pairs(pairs: &[(&str, &str)]) -> Self {
        let map = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Settings { source: Source::Map(map) }
    }

    /// The value of a setting, if it was set.
    pub fn get(&self, name: &str) -> Option<String> {
        match &self.source {
            Source::Host => host::setting(name),
            Source::Map(map) => map.get(name).cloned(),
        }
    }

    /// The value of a setting that the module cannot do without.
    ///
    /// # Errors
    /// Names the setting that is missing.
    pub fn required(&self, name: &str) -> Result<String, Failure> {
        self.get(name).ok_or_else(|| Failure::from(format!("the setting `{name}` is required")))
    }

    /// A setting as a number, a boolean, or whatever else is parsed from text.
    ///
    /// # Errors
    /// Names the setting whose value cannot be read.
    pub fn parse<T: FromStr>(&self, name: &str) -> Result<Option<T>, Failure> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        match text.trim().parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(format!("the setting `{name}` cannot be read: `{text}`").into()),
        }
    }
}
