//! A transform as it is shown.

use millpond_http::Description;
use serde::{Deserialize, Serialize};

use crate::metrics::DeriveState;
use crate::transforms::TransformStats;

/// See the module.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Shown {
    /// Which deployment: grows with each.
    pub(crate) id: u64,
    /// SHA-256 of the module, in hexadecimal.
    pub(crate) module: String,
    /// Whether records pass it.
    pub(crate) paused: bool,
    /// Why it cannot run, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fault: Option<String>,
    /// What was said of it.
    pub(crate) description: Description,
    /// What it did since the node started, in all versions.
    pub(crate) stats: TransformStats,
    /// What a roll-back would put in force again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) previous: Option<ShownVersion>,
    /// What is tried on a share of the partitions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) canary: Option<ShownCanary>,
    /// Where one that derives stands in each partition of its topics; only where one is described.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) lanes: Vec<ShownLane>,
}

/// A transform that derives, on one partition of a source.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct ShownLane {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    /// `paused` by somebody, `failing` until it tries again, `running`, or `waiting` for records.
    pub(crate) state: String,
    /// The first offset that it has not been given; -1: its start is being looked for.
    pub(crate) next_offset: i64,
    /// Offsets that can be read and have not been.
    pub(crate) lag: i64,
    /// Failures in a row.
    pub(crate) failures: u64,
    /// The last of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fault: Option<String>,
    /// How long until it tries again, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pause_ms: Option<u64>,
}

impl ShownLane {
    /// As it is shown of a transform that somebody has paused, or not.
    pub(crate) fn of(lane: &DeriveState, is_paused: bool) -> Self {
        let state = match (is_paused, lane.pause_ms, lane.is_running) {
            (true, ..) => "paused",
            (false, Some(_), _) => "failing",
            (false, None, true) => "running",
            (false, None, false) => "waiting",
        };
        Self {
            topic: lane.topic.clone(),
            partition: lane.partition,
            state: state.to_owned(),
            next_offset: lane.next_offset,
            lag: lane.lag,
            failures: lane.failures,
            fault: lane.fault.clone(),
            pause_ms: lane.pause_ms,
        }
    }
}

/// A version that is not in force.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct ShownVersion {
    /// The user's label.
    pub(crate) version: String,
    /// SHA-256 of the module, in hexadecimal.
    pub(crate) module: String,
}

/// A version that is tried.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct ShownCanary {
    /// Which deployment.
    pub(crate) id: u64,
    /// On so many of each topic's partitions, in percent.
    pub(crate) share_percent: u8,
    /// Why it cannot run, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fault: Option<String>,
    /// SHA-256 of the module, in hexadecimal.
    pub(crate) module: String,
    /// What was said of it.
    pub(crate) description: Description,
    /// What it did since it started, or the node did.
    pub(crate) stats: TransformStats,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transforms::LogLine;
    use millpond_http::{Alteration, Enrolled, Enrolment, Renewal, Start, schemas};
    use serde_json::Value;
    use std::collections::BTreeSet;

    /// A schema names the fields that the type writes, and no others.
    #[track_caller]
    fn holds(name: &str, value: &impl Serialize) {
        let written = serde_json::to_value(value).unwrap();
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect();
        let (written, said): (BTreeSet<String>, BTreeSet<String>) =
            (keys(&written), keys(&schemas()[name]["properties"]));
        assert_eq!(written, said, "{name}");
    }

    #[test]
    fn the_schemas_are_those_of_the_types() {
        let fault = Some("broken".to_owned());
        let canary = ShownCanary { fault: fault.clone(), ..ShownCanary::default() };
        holds("Canary", &canary);
        holds("Version", &ShownVersion::default());
        let start = Some(Start::AtMs(0));
        holds("Description", &Description { start, ..Description::default() });
        holds("Stats", &TransformStats::default());
        holds("Enrolled", &Enrolled::default());
        holds("Enrolment", &Enrolment::default());
        holds("Renewal", &Renewal::default());
        holds("Alteration", &Alteration { version: fault.clone(), ..Alteration::default() });
        let text = String::new();
        let (start, level) = (text.clone(), text.clone());
        let line = LogLine { start, number: 1, wall_ms: 0, partition: 0, level, text };
        let lane = ShownLane { fault: fault.clone(), pause_ms: Some(1), ..ShownLane::default() };
        holds("Lane", &lane);
        holds("LogLine", &line);
        holds(
            "Transform",
            &Shown {
                fault,
                canary: Some(canary),
                previous: Some(ShownVersion::default()),
                lanes: vec![lane],
                ..Shown::default()
            },
        );
    }
}
