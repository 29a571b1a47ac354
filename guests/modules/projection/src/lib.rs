//! Makes a smaller JSON object of each value: the listed fields, renamed, in other units.
//!
//! | setting | |
//! |---|---|
//! | `fields` | required, with commas between: `name [as new_name] [* scale] [+ offset]` |
//! | `missing` | a listed field that is not there: `skip` (default) or `error` |
//!
//! `fields = "device, t as temp_c * 0.1 + -40, load"` makes `{"device":"a","temp_c":-18.7}` of
//! `{"device":"a","t":213,"rssi":-70}`. Fields come out in the order in which they are listed. A
//! field with a scale or an offset must be a number. It must never write JSON that is not valid
//! when what came in was.

use millpond_sdk::{Failure, Output, Record, Settings, Transform, Verdict, json, register};

/// The projection.
#[derive(Debug)]
pub struct Projection {
    fields: Vec<Field>,
    missing_is_error: bool,
    /// The object being written; kept for its room.
    object: Vec<u8>,
    /// Where each field stands in the value in hand.
    found: Vec<Option<(usize, usize)>>,
}

#[derive(Debug, PartialEq)]
struct Field {
    name: String,
    /// The new name as JSON, its quotes and the colon.
    written_name: Vec<u8>,
    convert: Option<(f64, f64)>,
}

impl Transform for Projection {
    fn new(settings: &Settings) -> Result<Self, Failure> {
        let list = settings.required("fields")?;
        let fields: Vec<_> = list.split(',').map(Field::parse).collect::<Result<_, _>>()?;
        let missing_is_error = match settings.get("missing").as_deref() {
            None | Some("skip") => false,
            Some("error") => true,
            Some(other) => {
                return Err(format!("`missing` is skip or error, not `{other}`").into());
            }
        };
        Ok(Projection {
            found: vec![None; fields.len()],
            fields,
            missing_is_error,
            object: Vec::new(),
        })
    }

    fn on_record(&mut self, record: &Record<'_>, out: &mut Output) -> Result<Verdict, Failure> {
        let value = record.value_or_empty();
        if value.trim_ascii_start().first() != Some(&b'{') {
            return Err("the value is not a JSON object".into());
        }
        self.find_fields(value);
        self.write_object(value)?;
        Ok(out.replace_value(record, &self.object))
    }
}

impl Projection {
    fn find_fields(&mut self, value: &[u8]) {
        self.found.fill(None);
        for (name, text) in json::members(value) {
            let listed = self.fields.iter().position(|field| field.name.as_bytes() == name);
            if let Some(found) = listed.and_then(|index| self.found.get_mut(index)) {
                let start = text.as_ptr() as usize - value.as_ptr() as usize;
                *found = Some((start, start + text.len()));
            }
        }
    }

    fn write_object(&mut self, value: &[u8]) -> Result<(), Failure> {
        let object = &mut self.object;
        object.clear();
        object.push(b'{');
        for (field, found) in self.fields.iter().zip(&self.found) {
            let text = match found.and_then(|(start, end)| value.get(start..end)) {
                Some(text) => text,
                None if self.missing_is_error => {
                    return Err(format!("no field `{}`", field.name).into());
                }
                None => continue,
            };
            if object.len() > 1 {
                object.push(b',');
            }
            object.extend_from_slice(&field.written_name);
            match field.convert {
                None => object.extend_from_slice(text),
                Some((scale, offset)) => {
                    let number = json::parse_number(text)
                        .ok_or_else(|| format!("the field `{}` is not a number", field.name))?;
                    json::write_number(object, number * scale + offset);
                }
            }
        }
        object.push(b'}');
        Ok(())
    }
}

impl Field {
    fn parse(text: &str) -> Result<Self, Failure> {
        let bad = || Failure::from(format!("cannot read the field `{}`", text.trim()));
        let mut words = text.split_whitespace().peekable();
        let name = words.next().ok_or_else(bad)?.to_string();
        let mut new_name = name.clone();
        let (mut scale, mut offset) = (None, None);
        while let Some(word) = words.next() {
            let operand = words.next().ok_or_else(bad)?;
            match word {
                "as" => new_name = operand.to_string(),
                "*" => scale = Some(operand.parse().map_err(|_| bad())?),
                "+" => offset = Some(operand.parse().map_err(|_| bad())?),
                _ => return Err(bad()),
            }
        }
        let mut written_name = Vec::new();
        json::write_string(&mut written_name, &new_name);
        written_name.push(b':');
        let convert = (scale.is_some() || offset.is_some())
            .then(|| (scale.unwrap_or(1.0), offset.unwrap_or(0.0)));
        Ok(Field { name, written_name, convert })
    }
}

register!(Projection);

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_sdk::testing::{self, Outcome, TestRecord};

    fn outcome(settings: &[(&str, &str)], value: &str) -> Outcome {
        let records = [TestRecord::of(value.as_bytes()).key(b"k")];
        let report = testing::run::<Projection>(settings, &records).unwrap();
        report.outcomes.into_iter().next().unwrap()
    }

    fn made(value: &str) -> Outcome {
        Outcome::emit(vec![TestRecord::of(value.as_bytes()).key(b"k")])
    }

    #[test]
    fn listed_fields_come_out_renamed_and_converted() {
        let settings = [("fields", "device, t as temp_c * 0.5 + -40, load")];
        let value = r#"{"t": 213, "rssi": -70, "device": "a\"b", "load": [1, 2]}"#;
        let expected = r#"{"device":"a\"b","temp_c":66.5,"load":[1, 2]}"#;
        assert_eq!(outcome(&settings, value), made(expected));
    }

    #[test]
    fn a_missing_field_is_left_out_or_an_error() {
        let value = r#"{"a":1}"#;
        assert_eq!(outcome(&[("fields", "b,a")], value), made(r#"{"a":1}"#));
        let strict = [("fields", "b,a"), ("missing", "error")];
        assert_eq!(outcome(&strict, value), Outcome::failed("no field `b`"));
    }

    #[test]
    fn what_cannot_be_converted_is_an_error() {
        let settings = [("fields", "t * 2")];
        let fails = Outcome::failed("the field `t` is not a number");
        assert_eq!(outcome(&settings, r#"{"t":"2"}"#), fails);
        let fails = Outcome::failed("the value is not a JSON object");
        assert_eq!(outcome(&settings, "[1]"), fails);
    }

    #[test]
    fn a_list_that_makes_no_sense_is_refused() {
        for fields in ["", "a,", "a as", "a * x", "a / 2", "a as b c"] {
            let settings = [("fields", fields)];
            assert!(testing::run::<Projection>(&settings, &[]).is_err(), "{fields}");
        }
    }
}
