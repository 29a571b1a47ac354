//! Reads single fields out of JSON without parsing the rest: what most filters need.
//!
//! All of it works on the top level of an object: a field of a nested object is never mistaken
//! for one of the record's own. Input that is not JSON gives `None` or something that its author
//! would also find odd; it never panics.
//!
//! ```
//! use millpond_sdk::json;
//! let value = br#"{"id": "pump-7", "load": {"t": 1}, "t": 21.5}"#;
//! assert_eq!(json::number(value, "t"), Some(21.5));
//! assert_eq!(json::string(value, "id").as_deref(), Some("pump-7"));
//! assert_eq!(json::raw(value, "load"), Some(&br#"{"t": 1}"#[..]));
//! assert_eq!(json::number(value, "x"), None);
//! ```

mod lanes;
mod members;
mod number;
mod scan;
mod text;

pub use members::{Members, members};
pub use number::{parse_number, write_number};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use scan::{Quick, quick_value_of};
pub use text::{parse_string, write_string};

use std::borrow::Cow;

/// The number in a field.
pub fn number(object: &[u8], field: &str) -> Option<f64> {
    let at = scan::value_of(object, field.as_bytes())?;
    number::leading_number(object.get(at..)?)
}

/// The text in a field, its escapes resolved.
pub fn string<'a>(object: &'a [u8], field: &str) -> Option<Cow<'a, str>> {
    parse_string(raw(object, field)?)
}

/// The truth value in a field.
pub fn boolean(object: &[u8], field: &str) -> Option<bool> {
    match raw(object, field)? {
        b"true" => Some(true),
        b"false" => Some(false),
        _ => None,
    }
}

/// The JSON text of a field's value: a number, a string with its quotes, a whole object.
pub fn raw<'a>(object: &'a [u8], field: &str) -> Option<&'a [u8]> {
    let at = scan::value_of(object, field.as_bytes())?;
    let end = scan::end_of_value(object, at)?;
    object.get(at..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nested_field_is_not_the_records_own() {
        let nested = br#"{"a":{"t":1},"b":[{"t":2}],"t":3}"#;
        assert_eq!(number(nested, "t"), Some(3.0));
        assert_eq!(number(br#"{"a":{"t":1}}"#, "t"), None);
        assert_eq!(number(br#"[{"t":1}]"#, "t"), None);
    }

    #[test]
    fn a_name_inside_text_is_not_a_field() {
        let text = br#"{"say":"\"t\": 9","t":4}"#;
        assert_eq!(number(text, "t"), Some(4.0));
        assert_eq!(number(br#"{"say":"t","x":"{\"t\":8}"}"#, "t"), None);
        assert_eq!(number(br#"{"t":"5","u":"t"}"#, "t"), None);
    }

    #[test]
    fn space_around_everything_is_skipped() {
        let spaced = b" \n{ \"a\" : 1 ,\r\n \"temperature\"\t:\t-2.5e1 } ";
        assert_eq!(number(spaced, "temperature"), Some(-25.0));
        assert_eq!(raw(spaced, "a"), Some(&b"1"[..]));
    }

    #[test]
    fn the_field_is_found_wherever_it_stands() {
        for before in 0..40 {
            let json = format!("{{\"{}\":0,\"temp\":{before}}}", "p".repeat(before + 1));
            assert_eq!(number(json.as_bytes(), "temp"), Some(before as f64), "{json}");
            let last = format!("{}{{\"temp\":7}}", " ".repeat(before));
            assert_eq!(number(last.as_bytes(), "temp"), Some(7.0));
        }
    }

    #[test]
    fn short_and_odd_names_work() {
        assert_eq!(number(br#"{"":1}"#, ""), Some(1.0));
        assert_eq!(number(br#"{"t":1,"tt":2}"#, "tt"), Some(2.0));
        assert_eq!(number(br#"{"tt":1,"t":2}"#, "t"), Some(2.0));
        assert_eq!(number("{\"\u{e9}t\u{e9}\":3}".as_bytes(), "\u{e9}t\u{e9}"), Some(3.0));
    }

    #[test]
    fn damaged_input_never_panics() {
        let whole = br#"{"a":{"b":[1,2,"x\"y"]},"t":-1.5e3,"u":"\u00e9\n"}"#;
        for end in 0..whole.len() {
            for start in 0..end {
                let part = &whole[start..end];
                for field in ["a", "t", "u", "b", ""] {
                    let _ = (number(part, field), string(part, field), raw(part, field));
                }
                members(part).for_each(drop);
            }
        }
    }

    #[test]
    fn booleans_are_only_booleans() {
        assert_eq!(boolean(br#"{"on":true,"off":false}"#, "on"), Some(true));
        assert_eq!(boolean(br#"{"on":true,"off":false}"#, "off"), Some(false));
        assert_eq!(boolean(br#"{"on":1}"#, "on"), None);
    }
}
