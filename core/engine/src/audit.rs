//! The audit topic: who was refused what, and who changed what, as JSON records that any consumer reads who
//! may. Notes stand in the entry of the change that they tell of. Bounded: refusals beyond so many a second
//! are only counted, old segments go. Must never hold a password, a key or a record.
//!
//! ```text
//! {"time_ms":..., "what":"denied", "principal":"User:ann", "host":"10.0.0.7", "api":"Produce",
//!  "operation":"Write", "resource":"Topic", "name":"readings", "not_told":0}
//! {"time_ms":..., "what":"login-refused", "host":..., "listener":..., "why":..., "not_told":0}
//! {"time_ms":..., "what":"changed", "principal":..., "host":..., "change":..., "name":..., ...}
//! ```

use crate::access::Denial;
use crate::acl::Principal;
use crate::engine::Engine;
use crate::entry::Fact;
use crate::setting::SettingFact;
use crate::units::PartitionKey;
use crate::user_fact::UserFact;
use millpond_wire::limits;
use millpond_wire::record::{BatchBuilder, Codec};
use millpond_wire::uuid::Uuid;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Its name.
pub const AUDIT_TOPIC: &str = "__millpond_audit";

/// Somebody could not prove who he is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginRefused {
    /// From where.
    pub host: String,
    /// The listener, by its number in the configuration.
    pub listener: u16,
    /// Why, for people.
    pub why: String,
}

/// Somebody changed something that the engine does not keep, and the one who keeps it tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Who asked for it.
    pub principal: Principal,
    /// From where.
    pub host: String,
    /// What was done, as one word.
    pub change: &'static str,
    /// To what.
    pub name: String,
    /// More of it.
    pub to: String,
}

/// What waits to be written, and what is held back.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    /// Whose request is served; `None`: what happens by itself.
    pub(crate) acting: Option<(Principal, String)>,
    pending: Vec<String>,
    /// Refusals told since `second`, and those not told since the last that was.
    second: u64,
    told: u32,
    not_told: u64,
}

/// One line of JSON that grows.
struct Line(String);

impl Line {
    fn new(time_ms: i64, what: &str) -> Line {
        Line(format!("{{\"time_ms\":{time_ms}")).text("what", what)
    }

    fn text(mut self, name: &str, value: &str) -> Line {
        let _ = write!(self.0, ",\"{name}\":\"");
        for c in cut(value).chars() {
            // Writing to a string does not fail.
            let _ = match c {
                '"' | '\\' => write!(self.0, "\\{c}"),
                c if c.is_control() => write!(self.0, "\\u{:04x}", u32::from(c)),
                c => write!(self.0, "{c}"),
            };
        }
        self.0.push('"');
        self
    }

    fn number(mut self, name: &str, value: u64) -> Line {
        let _ = write!(self.0, ",\"{name}\":{value}");
        self
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// What a peer says may be long.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(limits::AUDIT_TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

impl Engine {
    fn audits(&self) -> bool {
        self.config.access.audits && self.keeps_rules()
    }

    /// Whether one more refusal is told now; how many were not before it.
    fn refusal_turn(&mut self) -> Option<u64> {
        let second = self.now.mono_ms / 1_000;
        let audit = &mut self.audit;
        if audit.second != second {
            (audit.second, audit.told) = (second, 0);
        }
        if audit.told >= limits::AUDIT_REFUSALS_PER_SECOND {
            audit.not_told += 1;
            return None;
        }
        audit.told += 1;
        Some(std::mem::take(&mut audit.not_told))
    }

    pub(crate) fn note_denial(&mut self, denial: &Denial) {
        if !self.audits() {
            return;
        }
        let Some(not_told) = self.refusal_turn() else { return };
        let line = Line::new(self.now.wall_ms, "denied")
            .text("principal", denial.principal.as_str())
            .text("host", &denial.host)
            .text("api", denial.api)
            .text("operation", &format!("{:?}", denial.operation))
            .text("resource", &format!("{:?}", denial.resource))
            .text("name", &denial.name)
            .number("not_told", not_told);
        self.audit.pending.push(line.end());
    }

    pub(crate) fn on_login_refused(&mut self, refused: &LoginRefused) {
        if !self.audits() {
            return;
        }
        let Some(not_told) = self.refusal_turn() else { return };
        let line = Line::new(self.now.wall_ms, "login-refused")
            .text("host", &refused.host)
            .number("listener", refused.listener.into())
            .text("why", &refused.why)
            .number("not_told", not_told);
        self.audit.pending.push(line.end());
    }

    pub(crate) fn on_told(&mut self, told: &Told) {
        if !self.audits() {
            return;
        }
        let line = Line::new(self.now.wall_ms, "changed")
            .text("principal", told.principal.as_str())
            .text("host", &told.host)
            .text("change", told.change)
            .text("name", &told.name)
            .text("to", &told.to);
        self.audit.pending.push(line.end());
    }

    /// A fact became true: those that an administrator answers for are told.
    pub(crate) fn note_change(&mut self, fact: &Fact) {
        if !self.audits() {
            return;
        }
        let Some((change, name, more)) = self.change_of(fact) else { return };
        if name == AUDIT_TOPIC {
            return;
        }
        let mut line = Line::new(self.now.wall_ms, "changed");
        line = match &self.audit.acting {
            Some((principal, host)) => {
                line.text("principal", principal.as_str()).text("host", host)
            }
            None => line.text("principal", NODE),
        };
        line = line.text("change", change).text("name", &name);
        let line = if more.is_empty() { line } else { line.text("to", &more) };
        self.audit.pending.push(line.end());
    }

    fn change_of(&self, fact: &Fact) -> Option<(&'static str, String, String)> {
        let topic = |id: &Uuid| match self.state.catalog.by_id(*id) {
            Some(topic) => topic.name.clone(),
            None => id.to_string(),
        };
        let listed = |configs: &BTreeMap<String, String>| {
            let pairs: Vec<String> = configs.iter().map(|(k, v)| format!("{k}={v}")).collect();
            pairs.join(", ")
        };
        let nothing = String::new();
        Some(match fact {
            Fact::TopicCreated { name, partitions, .. } => {
                ("topic-created", name.clone(), format!("{partitions} partitions"))
            }
            Fact::TopicDeleted { id } => ("topic-deleted", topic(id), nothing),
            Fact::PartitionsAdded { id, total } => {
                ("partitions-added", topic(id), format!("{total} partitions"))
            }
            Fact::TopicConfigured { id, configs } => {
                ("topic-configured", topic(id), listed(configs))
            }
            Fact::TransformDeployed(deployment) => {
                let spec = &deployment.spec;
                ("transform-deployed", spec.name.clone(), format!("version {}", deployment.id))
            }
            Fact::TransformDeleted { name } => ("transform-deleted", name.clone(), nothing),
            Fact::TransformPaused { name, paused } => {
                let change = if *paused { "transform-paused" } else { "transform-resumed" };
                (change, name.clone(), nothing)
            }
            Fact::Setting(SettingFact::QuotaSet { entity, .. }) => {
                ("quota-set", format!("{entity:?}"), nothing)
            }
            Fact::Setting(SettingFact::BrokerConfigured { configs, .. }) => {
                ("node-configured", "node".to_owned(), listed(configs))
            }
            Fact::User(UserFact { user, hash, credential }) => {
                let change = if credential.is_some() { "user-set" } else { "user-deleted" };
                (change, user.clone(), format!("{hash:?}"))
            }
            Fact::Acl(fact) => {
                let change = if fact.holds { "rule-created" } else { "rule-deleted" };
                (change, fact.acl.target.name.clone(), fact.acl.to_string())
            }
            _ => return None,
        })
    }

    /// Writes what waits, in the entry at hand.
    pub(crate) fn write_audit(&mut self) {
        self.audit.acting = None;
        if self.audit.pending.is_empty() {
            return;
        }
        let lines = std::mem::take(&mut self.audit.pending);
        let Some(topic_id) = self.audit_topic() else { return };
        let key = PartitionKey { topic_id, partition: 0 };
        for lines in lines.chunks(LINES_PER_BATCH) {
            let mut builder = BatchBuilder::new(Codec::None, None);
            for line in lines {
                // A line of its length fits any batch.
                let _ = builder.push(self.now.wall_ms, None, Some(line.as_bytes()), &[]);
            }
            if let Ok(batch) = builder.build_batch() {
                self.append(key, batch, None);
            }
            self.seal_if_large();
        }
    }

    /// Its id, made where it is missing and there is room.
    fn audit_topic(&mut self) -> Option<Uuid> {
        if let Some(topic) = self.state.catalog.by_name(AUDIT_TOPIC) {
            return Some(topic.id);
        }
        let most = limits::AUDIT_BYTES_MAX;
        let configs = [
            ("cleanup.policy", "delete".to_owned()),
            ("retention.bytes", most.to_string()),
            ("segment.bytes", (most / 4).to_string()),
            ("retention.ms", "-1".to_owned()),
        ];
        let configs = configs.map(|(name, value)| (name.to_owned(), value));
        self.has_room_for_topic(1)
            .then(|| self.create_topic(AUDIT_TOPIC.to_owned(), 1, BTreeMap::from(configs)))
    }
}

/// What happens by itself.
const NODE: &str = "node";
const LINES_PER_BATCH: usize = 256;
