//! What is said of the routes, to people and to machines: made of their table.

use serde_json::{Map, Value, json};

use crate::route::{Body, Entry, Method, Route};

/// The page for people.
#[must_use]
pub fn index() -> String {
    let mut page = "Millpond\n\n".to_owned();
    for route in Route::ALL.into_iter().filter(|route| *route != Route::Index) {
        let Entry { method, path, what, .. } = route.entry();
        page.push_str(&format!("{:<7}{path:<33}{what}\n", method.name()));
    }
    page
}

/// The document for machines.
#[must_use]
pub fn openapi() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in Route::ALL.into_iter().filter(|route| *route != Route::Index) {
        let entry = route.entry();
        let path = paths.entry(entry.path).or_insert_with(|| json!({}));
        path[entry.method.name().to_ascii_lowercase()] = entry.operation();
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

impl Entry {
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
        if matches!(self.takes, Body::Module) {
            parameters.push(json!({
                "name": "Millpond-Transform", "in": "header", "required": true,
                "description": "what is said of it, as JSON in ASCII",
                "content": { "application/json": { "schema": reference("Description") } },
            }));
        }
        let status = match (self.method, &self.gives) {
            (_, Body::Nothing) => "204",
            (Method::Post, _) if matches!(self.takes, Body::Module) => "201",
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
        if let Some(content) = self.takes.content() {
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

/// The shapes of what goes in and out; tests here and in the node hold them against the types themselves.
#[must_use]
pub fn schemas() -> Value {
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
