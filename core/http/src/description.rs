//! The description of a transform as it is deployed and shown, and its mapping to the engine's.

use std::collections::BTreeMap;
use std::str::FromStr;

use millpond_engine::transform::{DeriveStart, FailureAction, Mode, OnFailure, TransformSpec};
use millpond_wire::limits;
use serde::{Deserialize, Serialize};

/// The header that carries a [`Description`] as JSON beside the module's bytes.
pub const DEPLOY_HEADER: &str = "millpond-transform";

/// What a user says of a transform.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Unique on the node; deploying the same name again replaces it.
    pub name: String,
    /// The user's own label.
    #[serde(default)]
    pub version: String,
    /// Topics that it runs on.
    pub topics: Vec<String>,
    /// Other topics that it may send records to.
    #[serde(default)]
    pub outputs: Vec<String>,
    /// Handed to the module.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// Limits by name, as `millpond transform deploy --help` lists them.
    #[serde(default)]
    pub limits: BTreeMap<String, u64>,
    /// What happens to a record that the module fails on.
    #[serde(default)]
    pub on_failure: Action,
    /// How often such a record is tried again first.
    #[serde(default)]
    pub retries: u32,
    /// Where failed records go under `dead-letter`; default: the record's
    /// topic with `.dead-letter` behind.
    #[serde(default)]
    pub dead_letter_topic: Option<String>,
    /// Transforms of a topic run in ascending order.
    #[serde(default)]
    pub order: i32,
    /// Before records are stored, or from what is stored and committed.
    #[serde(default)]
    pub mode: ModeName,
    /// Where a transform that derives begins on a partition: `latest` (the default), `earliest`, or
    /// with the first record that is not older than this, ms since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// Records for other topics go to the partition of their key.
    #[serde(default)]
    pub route_by_key: bool,
    /// Whether each of its topics has a state of its own, or all of them share one.
    #[serde(default)]
    pub state_scope: StateScope,
}

/// Whose state a transform keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StateScope {
    /// Each topic's partition has its own.
    #[default]
    Topic,
    /// Partitions of the same number of all topics share one, for joins; needs `derive`.
    Topics,
}

/// The modes by their names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModeName {
    /// In the produce path.
    #[default]
    Inline,
    /// On what is stored and committed; needs an output.
    Derive,
}

/// Where a transform that derives begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Start {
    /// By its name.
    Named(StartName),
    /// Milliseconds since 1970.
    AtMs(i64),
}

/// The starts that have names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartName {
    /// With what comes from now on.
    Latest,
    /// With the oldest record that is there.
    Earliest,
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "latest" => Ok(Self::Named(StartName::Latest)),
            "earliest" => Ok(Self::Named(StartName::Earliest)),
            ms => ms.parse().map(Self::AtMs).map_err(|_| {
                "write latest, earliest, or a time in milliseconds since 1970".to_owned()
            }),
        }
    }
}

impl From<Start> for DeriveStart {
    fn from(start: Start) -> Self {
        match start {
            Start::Named(StartName::Latest) => Self::Latest,
            Start::Named(StartName::Earliest) => Self::Earliest,
            Start::AtMs(ms) => Self::TimestampMs(ms),
        }
    }
}

impl From<DeriveStart> for Start {
    fn from(start: DeriveStart) -> Self {
        match start {
            DeriveStart::Latest => Self::Named(StartName::Latest),
            DeriveStart::Earliest => Self::Named(StartName::Earliest),
            DeriveStart::TimestampMs(ms) => Self::AtMs(ms),
        }
    }
}

/// The failure policies by their names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// The record goes to the dead-letter topic.
    #[default]
    DeadLetter,
    /// The record is dropped and counted.
    Skip,
    /// The record is stored as it came.
    Pass,
    /// The whole produce is refused.
    Reject,
}

/// What may be changed of a transform in force without its module: what is not named stays.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Alteration {
    /// A new label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Settings to add or replace.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// Settings to take away.
    #[serde(default)]
    pub unset: Vec<String>,
    /// Limits to add or replace.
    #[serde(default)]
    pub limits: BTreeMap<String, u64>,
}

impl Alteration {
    /// The description with these changes.
    ///
    /// # Errors
    /// What makes no sense, in words.
    pub fn of(self, description: Description) -> Result<Description, String> {
        let mut altered = description;
        altered.version = self.version.unwrap_or(altered.version);
        for key in &self.unset {
            let there =
                altered.settings.remove(key).or(altered.limits.remove(key).map(|_| String::new()));
            if there.is_none() {
                return Err(format!("unset: there is no setting or limit {key:?}"));
            }
        }
        altered.settings.extend(self.settings);
        altered.limits.extend(self.limits);
        altered.check()?;
        Ok(altered)
    }
}

impl Description {
    /// Reads and checks a description.
    ///
    /// # Errors
    /// What makes no sense, in words.
    pub fn parse(json: &str) -> Result<Self, String> {
        let description: Self =
            serde_json::from_str(json).map_err(|e| format!("the description: {e}"))?;
        description.check()?;
        Ok(description)
    }

    fn check(&self) -> Result<(), String> {
        let name_ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if self.name.is_empty()
            || self.name.len() > limits::TRANSFORM_NAME_BYTES_MAX
            || !self.name.chars().all(name_ok)
        {
            return Err(format!(
                "name {:?}: 1 to {} letters, digits, dots, dashes and underscores",
                self.name,
                limits::TRANSFORM_NAME_BYTES_MAX
            ));
        }
        if self.topics.is_empty() || self.topics.len() > limits::TOPICS_PER_TRANSFORM_MAX {
            return Err(format!("topics: from 1 to {}", limits::TOPICS_PER_TRANSFORM_MAX));
        }
        if self.retries > limits::TRANSFORM_RETRIES_MAX {
            return Err(format!("retries: at most {}", limits::TRANSFORM_RETRIES_MAX));
        }
        if self.mode == ModeName::Derive && self.outputs.is_empty() {
            return Err("outputs: what a transform derives needs one at least".to_owned());
        }
        if self.mode == ModeName::Inline && self.start.is_some() {
            return Err("start: only a transform with mode derive has one".to_owned());
        }
        if self.settings.len() > limits::TRANSFORM_SETTINGS_MAX {
            return Err(format!("settings: at most {}", limits::TRANSFORM_SETTINGS_MAX));
        }
        let too_long = |(key, value): &(&String, &String)| {
            key.len() > limits::TRANSFORM_SETTING_KEY_BYTES_MAX
                || value.len() > limits::TRANSFORM_SETTING_VALUE_BYTES_MAX
        };
        if let Some((key, _)) = self.settings.iter().find(too_long) {
            return Err(format!(
                "settings: {:?} is too long",
                key.chars().take(64).collect::<String>()
            ));
        }
        Ok(())
    }

    /// The engine's form, with the hash of the module; whether that keeps state is for its host to say.
    pub fn into_spec(self, module: [u8; 32]) -> TransformSpec {
        TransformSpec {
            name: self.name,
            version: self.version,
            module,
            settings: self.settings,
            topics: self.topics,
            outputs: self.outputs,
            limits: self.limits,
            on_failure: OnFailure { retries: self.retries, then: self.on_failure.into() },
            dead_letter_topic: self.dead_letter_topic,
            order: self.order,
            mode: match self.mode {
                ModeName::Inline => Mode::Inline,
                ModeName::Derive => Mode::Derive(self.start.map(Into::into).unwrap_or_default()),
            },
            route_by_key: self.route_by_key,
            keeps_state: false,
            shares_state: self.state_scope == StateScope::Topics,
            package_counter: 0,
        }
    }

    /// What was said of a version.
    pub fn of(spec: &TransformSpec) -> Self {
        let spec = spec.clone();
        Self {
            name: spec.name,
            version: spec.version,
            topics: spec.topics,
            outputs: spec.outputs,
            settings: spec.settings,
            limits: spec.limits,
            on_failure: spec.on_failure.then.into(),
            retries: spec.on_failure.retries,
            dead_letter_topic: spec.dead_letter_topic,
            order: spec.order,
            mode: match spec.mode {
                Mode::Inline => ModeName::Inline,
                Mode::Derive(_) => ModeName::Derive,
            },
            start: match spec.mode {
                Mode::Inline => None,
                Mode::Derive(start) => Some(start.into()),
            },
            route_by_key: spec.route_by_key,
            state_scope: match spec.shares_state {
                true => StateScope::Topics,
                false => StateScope::Topic,
            },
        }
    }
}

impl From<Action> for FailureAction {
    fn from(action: Action) -> Self {
        match action {
            Action::DeadLetter => Self::DeadLetter,
            Action::Skip => Self::Skip,
            Action::Pass => Self::Pass,
            Action::Reject => Self::Reject,
        }
    }
}

impl From<FailureAction> for Action {
    fn from(action: FailureAction) -> Self {
        match action {
            FailureAction::DeadLetter => Self::DeadLetter,
            FailureAction::Skip => Self::Skip,
            FailureAction::Pass => Self::Pass,
            FailureAction::Reject => Self::Reject,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_needs_a_name_and_topics_and_has_defaults() {
        let description = Description::parse(r#"{"name":"hot","topics":["raw"]}"#).unwrap();
        let spec = description.into_spec([7; 32]);
        assert_eq!(spec.on_failure.then, FailureAction::DeadLetter);
        assert_eq!(spec.module, [7; 32]);
    }

    #[test]
    fn mistakes_are_named() {
        for (json, part) in [
            (r#"{"topics":["raw"]}"#, "name"),
            (r#"{"name":"hot","topics":[]}"#, "topics"),
            (r#"{"name":"../x","topics":["raw"]}"#, "letters"),
            (r#"{"name":"hot","topics":["raw"],"topic":"x"}"#, "unknown field"),
            (r#"{"name":"hot","topics":["raw"],"on_failure":"panic"}"#, "dead-letter"),
            (r#"{"name":"hot","topics":["raw"],"retries":11}"#, "retries"),
            (r#"{"name":"hot","topics":["raw"],"mode":"derive"}"#, "outputs"),
            (r#"{"name":"hot","topics":["raw"],"start":"latest"}"#, "start"),
        ] {
            let error = Description::parse(json).unwrap_err();
            assert!(error.contains(part), "{json}: {error}");
        }
    }

    #[test]
    fn what_derives_begins_where_it_is_told_and_is_shown_so() {
        for (start, expected) in [
            (r#","start":"earliest""#, DeriveStart::Earliest),
            (r#","start":1700000000000"#, DeriveStart::TimestampMs(1_700_000_000_000)),
            ("", DeriveStart::Latest),
        ] {
            let json = format!(
                r#"{{"name":"d","topics":["raw"],"outputs":["out"],"mode":"derive"{start}}}"#
            );
            let spec = Description::parse(&json).unwrap().into_spec([0; 32]);
            assert_eq!(spec.mode, Mode::Derive(expected));
            let shown = Description::of(&spec);
            let again = Description::parse(&serde_json::to_string(&shown).unwrap()).unwrap();
            assert_eq!(again.into_spec([0; 32]).mode, Mode::Derive(expected));
        }
    }

    #[test]
    fn an_alteration_changes_what_it_names_and_leaves_the_rest() {
        let json = r#"{"name":"hot","topics":["raw"],"settings":{"above":"70","unit":"C"}}"#;
        let now = Description::parse(json).unwrap();
        let json =
            r#"{"settings":{"above":"80"},"unset":["unit"],"limits":{"memory_bytes":65536}}"#;
        let alteration: Alteration = serde_json::from_str(json).unwrap();
        let altered = alteration.clone().of(now).unwrap();
        assert_eq!(altered.settings, BTreeMap::from([("above".into(), "80".into())]));
        assert_eq!(altered.limits["memory_bytes"], 65_536);
        assert!(alteration.of(altered).unwrap_err().contains("unit"), "it is gone already");
    }

    #[test]
    fn topics_share_a_state_where_it_is_said_and_are_shown_so() {
        let json = r#"{"name":"j","topics":["a","b"],"outputs":["out"],"mode":"derive","state_scope":"topics"}"#;
        let spec = Description::parse(json).unwrap().into_spec([0; 32]);
        assert!(spec.shares_state);
        let shown = serde_json::to_value(Description::of(&spec)).unwrap();
        assert_eq!(shown["state_scope"], "topics");
    }

    #[test]
    fn a_deployment_is_shown_as_it_was_described() {
        let json =
            r#"{"name":"hot","topics":["raw"],"settings":{"above":"70"},"on_failure":"skip"}"#;
        let spec = Description::parse(json).unwrap().into_spec([0; 32]);
        let shown = Description::of(&spec);
        assert_eq!(serde_json::to_value(shown).unwrap()["settings"]["above"], "70");
    }
}
