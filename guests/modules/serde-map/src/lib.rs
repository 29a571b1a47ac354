//! Reads each value with `serde_json`, changes it, and writes it again: what an author does who
//! takes the library that everybody knows. For measurements; it does not ship.
//!
//! | setting | |
//! |---|---|
//! | `field` | the JSON number that is converted, required |
//! | `scale` | what it is multiplied with (1) |
//! | `add` | a text field that is added, with the value `yes`; unset: none |
//!
//! It must never write a value that it could not read: such a record fails.

use millpond_sdk::{Failure, Output, Record, Settings, Transform, Verdict, register};
use serde_json::{Map, Value};

/// The map.
#[derive(Debug)]
pub struct SerdeMap {
    field: String,
    scale: f64,
    add: Option<String>,
    written: Vec<u8>,
}

impl Transform for SerdeMap {
    fn new(settings: &Settings) -> Result<Self, Failure> {
        Ok(SerdeMap {
            field: settings.required("field")?,
            scale: settings.parse("scale")?.unwrap_or(1.0),
            add: settings.get("add"),
            written: Vec::new(),
        })
    }

    fn on_record(&mut self, record: &Record<'_>, out: &mut Output) -> Result<Verdict, Failure> {
        let mut object: Map<String, Value> = serde_json::from_slice(record.value_or_empty())
            .map_err(|error| format!("the value is not a JSON object: {error}"))?;
        let number = object.get(&self.field).and_then(Value::as_f64);
        let number = number.ok_or_else(|| format!("no number in the field `{}`", self.field))?;
        object.insert(self.field.clone(), (number * self.scale).into());
        if let Some(add) = &self.add {
            object.insert(add.clone(), "yes".into());
        }
        self.written.clear();
        serde_json::to_writer(&mut self.written, &object)
            .map_err(|error| format!("the value cannot be written: {error}"))?;
        Ok(out.replace_value(record, &self.written))
    }
}

register!(SerdeMap);

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_sdk::testing::{self, Outcome, TestRecord};

    fn outcome(value: &str) -> Outcome {
        let settings = [("field", "t"), ("scale", "10"), ("add", "seen")];
        let records = [TestRecord::of(value.as_bytes())];
        let report = testing::run::<SerdeMap>(&settings, &records).unwrap();
        report.outcomes.into_iter().next().unwrap()
    }

    #[test]
    fn the_field_is_converted_and_the_rest_stays() {
        let made = TestRecord::of(br#"{"a":[1,{"b":"\n"}],"seen":"yes","t":25.0}"#);
        assert_eq!(outcome(r#"{"t":2.5,"a":[1,{"b":"\n"}]}"#), Outcome::emit(vec![made]));
    }

    #[test]
    fn what_cannot_be_read_fails() {
        assert!(outcome("no JSON").failed.is_some_and(|why| why.contains("not a JSON object")));
        assert_eq!(outcome("{}"), Outcome::failed("no number in the field `t`"));
    }
}
