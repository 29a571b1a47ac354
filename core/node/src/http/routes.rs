//! Every route that is served: what it does, and what is said of it to people and to machines. The
//! index page and the OpenAPI document are made from this table; a test asks the router for each.

use millpond_wire::permission::{CLUSTER_NAME, MODULES_NAME, Operation, TRANSFORMS_NAME};
use serde_json::{Map, Value, json};

/// One route.
pub(super) struct Route {
    pub(super) method: &'static str,
    /// `{name}` stands for the name of a transform.
    pub(super) path: &'static str,
    pub(super) what: &'static str,
    /// What one must be allowed to do to which name of the kind cluster, where rules are kept; `None`: nothing.
    pub(super) needs: Need,
    /// Names in [`schemas`]; none for plain text.
    takes: Option<Body>,
    gives: Body,
    queries: &'static [Query],
}

/// An operation, and on what.
type Need = Option<(Operation, &'static str)>;

/// Metrics name topics and groups.
const METRICS: Need = Some((Operation::Describe, CLUSTER_NAME));
const LOOK: Need = Some((Operation::Describe, TRANSFORMS_NAME));
const CHANGE: Need = Some((Operation::Alter, TRANSFORMS_NAME));
const SET: Need = Some((Operation::AlterConfigs, TRANSFORMS_NAME));
const UPLOAD: Need = Some((Operation::Create, MODULES_NAME));

enum Body {
    Text,
    Nothing,
    /// A module, with a description in the header `Millpond-Transform`.
    Module,
    One(&'static str),
    Many(&'static str),
}

struct Query {
    name: &'static str,
    what: &'static str,
}

const LINES: Query = Query { name: "lines", what: "at most so many, the newest ones" };
const AFTER: Query = Query { name: "after", what: "only lines with higher numbers" };
const START: Query = Query {
    name: "start",
    what: "of the line that `after` is the number of: of another start all follow",
};
const CANARY: Query =
    Query { name: "canary_percent", what: "on this share of the partitions only, 1 to 99" };

const fn text(path: &'static str, what: &'static str, needs: Need) -> Route {
    Route { method: "GET", path, what, needs, takes: None, gives: Body::Text, queries: &[] }
}

const fn change(method: &'static str, path: &'static str, what: &'static str) -> Route {
    let needs = CHANGE;
    Route { method, path, what, needs, takes: None, gives: Body::Nothing, queries: &[] }
}

const fn enrolled(path: &'static str, what: &'static str, takes: &'static str) -> Route {
    let (takes, gives) = (Some(Body::One(takes)), Body::One("Enrolled"));
    Route { method: "POST", path, what, needs: None, takes, gives, queries: &[] }
}

/// All of them.
pub(super) const ROUTES: [Route; 17] = [
    text("/metrics", "Prometheus", METRICS),
    text("/healthz", "200 while the engine answers", None),
    text("/readyz", "200 while clients are served", None),
    text("/v1/openapi.json", "this list for machines, OpenAPI 3.1", None),
    Route {
        method: "GET",
        path: "/v1/transforms",
        what: "all transforms",
        needs: LOOK,
        takes: None,
        gives: Body::Many("Transform"),
        queries: &[],
    },
    Route {
        method: "POST",
        path: "/v1/transforms",
        what: "deploy a module: JSON in the header Millpond-Transform",
        needs: UPLOAD,
        takes: Some(Body::Module),
        gives: Body::One("Transform"),
        queries: &[CANARY],
    },
    Route {
        method: "GET",
        path: "/v1/transforms/{name}",
        what: "one transform",
        needs: LOOK,
        takes: None,
        gives: Body::One("Transform"),
        queries: &[],
    },
    Route {
        method: "PATCH",
        path: "/v1/transforms/{name}",
        what: "change settings or limits: a new version with the same module",
        needs: SET,
        takes: Some(Body::One("Alteration")),
        gives: Body::One("Transform"),
        queries: &[],
    },
    change("DELETE", "/v1/transforms/{name}", "take it out of force"),
    Route {
        method: "GET",
        path: "/v1/transforms/{name}/logs",
        what: "what it logged",
        needs: LOOK,
        takes: None,
        gives: Body::Many("LogLine"),
        queries: &[LINES, AFTER, START],
    },
    change("POST", "/v1/transforms/{name}/pause", "let records pass it"),
    change("POST", "/v1/transforms/{name}/resume", "put it in force again"),
    Route {
        method: "POST",
        path: "/v1/transforms/{name}/promote",
        what: "put its canary in force on all partitions",
        needs: CHANGE,
        takes: None,
        gives: Body::One("Transform"),
        queries: &[],
    },
    Route {
        method: "POST",
        path: "/v1/transforms/{name}/rollback",
        what: "end its canary, or put the previous version in force again",
        needs: CHANGE,
        takes: None,
        gives: Body::One("Transform"),
        queries: &[],
    },
    text("/v1/devices/ca", "the certificate of the authority for devices", None),
    // The invitation, or the certificate that is renewed, is what lets in.
    enrolled("/v1/devices/enrol", "a device's certificate for an invitation", "Enrolment"),
    enrolled("/v1/devices/renew", "a device's certificate for the one before", "Renewal"),
];

/// The page for people.
pub(super) fn index() -> String {
    let mut page = "Millpond\n\n".to_owned();
    for route in &ROUTES {
        page.push_str(&format!("{:<7}{:<33}{}\n", route.method, route.path, route.what));
    }
    page
}

/// The document for machines.
pub(super) fn openapi() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in &ROUTES {
        let entry = paths.entry(route.path).or_insert_with(|| json!({}));
        entry[route.method.to_ascii_lowercase()] = route.operation();
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Millpond",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Health, metrics, transforms and devices of one node.",
        },
        "paths": paths,
        "components": { "schemas": schemas() },
    })
}

impl Route {
    fn operation(&self) -> Value {
        let parameter = |name: &str, place: &str, what: &str| {
            json!({ "name": name, "in": place, "description": what, "required": place == "path",
                    "schema": { "type": if place == "query" { "integer" } else { "string" } } })
        };
        let mut parameters: Vec<Value> =
            self.queries.iter().map(|q| parameter(q.name, "query", q.what)).collect();
        if self.path.contains("{name}") {
            parameters.push(parameter("name", "path", "the transform's name"));
        }
        if matches!(self.takes, Some(Body::Module)) {
            parameters.push(json!({
                "name": "Millpond-Transform", "in": "header", "required": true,
                "description": "what is said of it, as JSON in ASCII",
                "content": { "application/json": { "schema": reference("Description") } },
            }));
        }
        let status = match (self.method, &self.gives) {
            (_, Body::Nothing) => "204",
            ("POST", _) if matches!(self.takes, Some(Body::Module)) => "201",
            _ => "200",
        };
        let mut good = json!({ "description": self.what });
        if let Some(content) = self.gives.content() {
            good["content"] = content;
        }
        let mut operation = json!({
            "summary": self.what,
            "parameters": parameters,
            "responses": {
                status: good,
                "default": { "description": "what happened, and what to do", "content":
                    { "application/json": { "schema": reference("Problem") } } },
            },
        });
        if let Some(content) = self.takes.as_ref().and_then(Body::content) {
            operation["requestBody"] = json!({ "required": true, "content": content });
        }
        operation
    }
}

impl Body {
    fn content(&self) -> Option<Value> {
        match self {
            Body::Nothing => None,
            Body::Text => Some(json!({ "text/plain": { "schema": { "type": "string" } } })),
            Body::Module => Some(json!({ "application/wasm": { "schema": {} } })),
            Body::One(name) => Some(json!({ "application/json": { "schema": reference(name) } })),
            Body::Many(name) => Some(json!({ "application/json":
                { "schema": { "type": "array", "items": reference(name) } } })),
        }
    }
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// The shapes of what goes in and out; a test holds them against the types themselves.
fn schemas() -> Value {
    let mut all = transform_schemas();
    all["Enrolled"] = every(&["name", "certificate", "authority"]);
    all["Enrolment"] = every(&["name", "request", "proof"]);
    all["Renewal"] = every(&["certificate", "request", "proof"]);
    all
}

fn transform_schemas() -> Value {
    let (text, integer, flag) =
        (json!({ "type": "string" }), json!({ "type": "integer" }), json!({ "type": "boolean" }));
    let texts = json!({ "type": "array", "items": text });
    let settings = json!({ "type": "object", "additionalProperties": text });
    let limits = json!({ "type": "object", "additionalProperties": integer });
    let object = |properties: Value, required: &[&str]| json!({ "type": "object", "properties": properties, "required": required });
    let version = json!({ "version": text, "module": text });
    let counts = [
        "batches",
        "records_in",
        "bytes_in",
        "bytes_out",
        "records_kept",
        "records_changed",
        "records_dropped",
        "records_emitted",
        "records_routed",
        "records_failed",
        "faults",
        "overruns",
        "retries",
        "restarts",
        "timers",
        "cpu_ns",
        "memory_bytes",
        "state_bytes",
    ];
    let mut stats: Map<String, Value> =
        counts.into_iter().map(|name| (name.to_owned(), integer.clone())).collect();
    stats.insert("failures".to_owned(), limits.clone());
    let stats = Value::Object(stats);
    let description = json!({
        "name": text, "version": text, "topics": texts, "outputs": texts,
        "settings": settings, "limits": limits,
        "on_failure": { "type": "string", "enum": ["dead-letter", "skip", "pass", "reject"] },
        "retries": integer, "dead_letter_topic": { "type": ["string", "null"] }, "order": integer,
        "mode": { "type": "string", "enum": ["inline", "derive"] },
        "start": { "anyOf": [{ "type": "string", "enum": ["latest", "earliest"] }, integer] },
        "route_by_key": flag,
        "state_scope": { "type": "string", "enum": ["topic", "topics"] },
    });
    let canary = json!({
        "id": integer, "share_percent": integer, "fault": text, "module": text,
        "description": reference("Description"), "stats": reference("Stats"),
    });
    let transform = json!({
        "id": integer, "module": text, "paused": flag, "fault": text,
        "description": reference("Description"), "stats": reference("Stats"),
        "previous": reference("Version"), "canary": reference("Canary"),
        "lanes": { "type": "array", "items": reference("Lane") },
    });
    json!({
        "Alteration": object(json!({
            "version": text, "settings": settings, "unset": texts, "limits": limits,
        }), &[]),
        "Canary": object(canary, &["id", "share_percent", "module", "description", "stats"]),
        "Description": object(description, &["name", "topics"]),
        "Lane": lane(&text, &integer),
        "LogLine": object(json!({
            "start": text, "number": integer, "wall_ms": integer, "partition": integer,
            "level": text, "text": text,
        }), &["start", "number", "wall_ms", "partition", "level", "text"]),
        "Problem": object(json!({ "error": text }), &["error"]),
        "Stats": object(stats, &[]),
        "Transform": object(transform, &["id", "module", "paused", "description", "stats"]),
        "Version": object(version, &["version", "module"]),
    })
}

/// Texts, all of which are there.
fn every(names: &[&str]) -> Value {
    let texts = names.iter().map(|name| ((*name).to_owned(), json!({ "type": "string" })));
    let properties: Map<String, Value> = texts.collect();
    json!({ "type": "object", "properties": properties, "required": names })
}

/// Where a transform that derives stands.
fn lane(text: &Value, integer: &Value) -> Value {
    let lane = json!({
        "topic": text, "partition": integer,
        "state": { "type": "string", "enum": ["paused", "failing", "running", "waiting"] },
        "next_offset": integer, "lag": integer, "failures": integer, "fault": text,
        "pause_ms": integer,
    });
    let required = ["topic", "partition", "state", "next_offset", "lag", "failures"];
    json!({ "type": "object", "properties": lane, "required": required })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::deploy::{
        Alteration, Description, Shown, ShownCanary, ShownLane, ShownVersion, Start,
    };
    use crate::http::devices::{Enrolled, Enrolment, Renewal};
    use crate::transforms::{LogLine, TransformStats};
    use serde::Serialize;
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

    #[test]
    fn every_reference_of_the_document_leads_somewhere() {
        let document = openapi();
        let text = document.to_string();
        let mut seen = 0;
        for part in text.split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
            seen += 1;
        }
        assert!(seen > 10);
    }
}
