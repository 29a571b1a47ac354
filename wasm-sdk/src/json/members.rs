//! Walks the fields of an object in order, exactly.
//!
//! It never looks into a value: that is skipped whole.

use super::scan::{end_of_text, end_of_value, skip_space};

/// The fields of a JSON object: name (between its quotes, escapes unresolved) and the JSON text
/// of the value. Ends where the object ends or stops making sense.
pub fn members(object: &[u8]) -> Members<'_> {
    let open = skip_space(object, 0);
    let is_object = object.get(open) == Some(&b'{');
    Members { bytes: object, at: is_object.then_some(open + 1) }
}

/// See [`members`].
#[derive(Debug, Clone)]
pub struct Members<'a> {
    bytes: &'a [u8],
    at: Option<usize>,
}

impl<'a> Members<'a> {
    fn step(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let bytes = self.bytes;
        let start = skip_space(bytes, self.at.take()?);
        if bytes.get(start) != Some(&b'"') {
            return None;
        }
        let end = end_of_text(bytes, start)?;
        let name = bytes.get(start + 1..end - 1)?;
        let colon = skip_space(bytes, end);
        if bytes.get(colon) != Some(&b':') {
            return None;
        }
        let value_start = skip_space(bytes, colon + 1);
        let value_end = end_of_value(bytes, value_start)?;
        let next = skip_space(bytes, value_end);
        if bytes.get(next) == Some(&b',') {
            self.at = Some(next + 1);
        }
        Some((name, bytes.get(value_start..value_end)?))
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.step()
    }
}

#[cfg(test)]
mod tests {
    use super::members;

    #[test]
    fn fields_come_in_order_with_their_values_whole() {
        let found: Vec<_> = members(br#" {"a" : [1, {"b":"]}"}] , "c\"d":"e\\" ,"f":null}"#)
            .map(|(name, value)| {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                (text(name), text(value))
            })
            .collect();
        let expected = [("a", r#"[1, {"b":"]}"}]"#), (r#"c\"d"#, r#""e\\""#), ("f", "null")];
        let expected: Vec<_> =
            expected.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_not_an_object_has_no_fields() {
        for text in ["", "[1]", "7", "{}", "{", "{\"a\"}", "{\"a\":}", "{a:1}"] {
            assert_eq!(members(text.as_bytes()).count(), 0, "{text}");
        }
    }
}
