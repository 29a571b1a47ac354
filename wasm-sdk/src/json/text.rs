//! JSON strings in and out.
//!
//! Text without escapes is never copied.

use std::borrow::Cow;

/// The text that a JSON string (with its quotes) stands for; `None` if it is not one.
pub fn parse_string(json: &[u8]) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let text = core::str::from_utf8(inner).ok()?;
    if !inner.contains(&b'\\') {
        return Some(Cow::Borrowed(text));
    }
    unescape(text).map(Cow::Owned)
}

fn unescape(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        plain.push_str(rest.get(..at)?);
        let code = *rest.as_bytes().get(at + 1)?;
        let mut used = at + 2;
        match code {
            b'"' | b'\\' | b'/' => plain.push(char::from(code)),
            b'b' => plain.push('\u{8}'),
            b'f' => plain.push('\u{c}'),
            b'n' => plain.push('\n'),
            b'r' => plain.push('\r'),
            b't' => plain.push('\t'),
            b'u' => {
                let (character, more) = unescape_unicode(rest.get(used..)?)?;
                plain.push(character);
                used += more;
            }
            _ => return None,
        }
        rest = rest.get(used..)?;
    }
    plain.push_str(rest);
    Some(plain)
}

/// What follows `\u`: four hex digits, or two such in a surrogate pair.
fn unescape_unicode(rest: &str) -> Option<(char, usize)> {
    let unit = |text: &str| u32::from_str_radix(text, 16).ok();
    let first = unit(rest.get(..4)?)?;
    if !(0xd800..0xdc00).contains(&first) {
        return Some((char::from_u32(first)?, 4));
    }
    let second = unit(rest.get(4..)?.strip_prefix("\\u")?.get(..4)?)?;
    let low = second.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
    let character = char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + low)?;
    Some((character, 10))
}

/// Appends text as a JSON string with its quotes.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => {
                let hex = |digit: u8| b"0123456789abcdef"[usize::from(digit & 15)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte)]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_resolved() {
        let json = br#""a\"b\\c\/\n\u00e9\ud83d\ude00""#;
        assert_eq!(parse_string(json).as_deref(), Some("a\"b\\c/\n\u{e9}\u{1f600}"));
        assert!(matches!(parse_string(b"\"plain\""), Some(Cow::Borrowed("plain"))));
    }

    #[test]
    fn broken_escapes_are_refused() {
        for json in [r#""\x""#, r#""\u12""#, r#""\ud83d""#, r#""\ud83d\u0041""#, "plain", "\""] {
            assert_eq!(parse_string(json.as_bytes()), None, "{json}");
        }
    }

    #[test]
    fn written_text_reads_back_the_same() {
        for text in ["", "plain", "q\"b\\n\nt\tc\u{1}\u{1f}", "\u{e9}\u{1f600}"] {
            let mut json = Vec::new();
            write_string(&mut json, text);
            assert_eq!(parse_string(&json).as_deref(), Some(text));
        }
    }
}
