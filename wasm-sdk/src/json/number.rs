//! Numbers: fast where a double holds the digits exactly, the standard library elsewhere.
//!
//! Both ways give the nearest double; neither reads past the number.

/// The number that a JSON text is; `None` if it is anything else.
pub fn parse_number(text: &[u8]) -> Option<f64> {
    let (value, used) = scan_number(text)?;
    (used == text.len()).then_some(value)
}

/// The number that a text starts with, if a delimiter or the end follows.
pub(super) fn leading_number(text: &[u8]) -> Option<f64> {
    let (value, used) = scan_number(text)?;
    match text.get(used) {
        None | Some(b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r') => Some(value),
        Some(_) => None,
    }
}

/// Powers of ten that a double holds exactly.
const TENS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

fn scan_number(text: &[u8]) -> Option<(f64, usize)> {
    let negative = text.first() == Some(&b'-');
    let start = usize::from(negative);
    let mut digits = Digits::default();
    let whole_end = digits.take(text, start);
    if whole_end == start {
        return None;
    }
    let mut at = whole_end;
    let mut exponent = 0_i32;
    if text.get(at) == Some(&b'.') {
        let end = digits.take(text, at + 1);
        if end == at + 1 {
            return None;
        }
        exponent = -i32::try_from(end - at - 1).ok()?;
        at = end;
    }
    if let Some(b'e' | b'E') = text.get(at) {
        let (power, end) = scan_exponent(text, at + 1)?;
        exponent = exponent.checked_add(power)?;
        at = end;
    }
    let value = match digits.exact(exponent) {
        Some(value) if negative => -value,
        Some(value) => value,
        None => core::str::from_utf8(text.get(..at)?).ok()?.parse().ok()?,
    };
    Some((value, at))
}

fn scan_exponent(text: &[u8], at: usize) -> Option<(i32, usize)> {
    let negative = text.get(at) == Some(&b'-');
    let start = at + usize::from(matches!(text.get(at), Some(b'-' | b'+')));
    let mut end = start;
    let mut power = 0_i32;
    while let Some(digit @ b'0'..=b'9') = text.get(end) {
        power = power.saturating_mul(10).saturating_add(i32::from(digit - b'0'));
        end += 1;
    }
    let power = power.min(100_000);
    (end > start).then_some((if negative { -power } else { power }, end))
}

#[derive(Default)]
struct Digits {
    value: u64,
    count: u32,
}

impl Digits {
    #[inline]
    fn take(&mut self, text: &[u8], mut at: usize) -> usize {
        while let Some(digit @ b'0'..=b'9') = text.get(at) {
            self.value = self.value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            self.count += 1;
            at += 1;
        }
        at
    }

    /// The value, if one rounding at most is needed for it (Clinger's fast path).
    fn exact(&self, exponent: i32) -> Option<f64> {
        if self.count > 19 || self.value > 1 << 53 {
            return None;
        }
        let value = self.value as f64;
        let power = *TENS.get(exponent.unsigned_abs() as usize)?;
        Some(if exponent < 0 { value / power } else { value * power })
    }
}

/// Appends a number as JSON, in the fewest digits that read back the same; what is not a number
/// becomes `null`.
pub fn write_number(out: &mut Vec<u8>, number: f64) {
    use std::io::Write;
    if !number.is_finite() {
        out.extend_from_slice(b"null");
        return;
    }
    // Writing to a vector cannot fail.
    let _ = if number != 0.0 && !(1e-7..1e17).contains(&number.abs()) {
        write!(out, "{number:e}")
    } else {
        write!(out, "{number}")
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_the_standard_library_reads_them() {
        for text in [
            "0",
            "-0",
            "1",
            "-1.5",
            "21.5",
            "0.1",
            "123456789.123",
            "1e3",
            "1E-3",
            "2.5e+2",
            "9007199254740993",
            "18446744073709551616",
            "123456789012345678901234567890",
            "1e308",
            "1e-320",
            "0.000000000000000000000000000001",
            "3.14159265358979323846",
        ] {
            let expected: f64 = text.parse().unwrap();
            let read = parse_number(text.as_bytes()).unwrap();
            assert_eq!(read.to_bits(), expected.to_bits(), "{text}");
        }
        assert_eq!(parse_number(b"1e999"), Some(f64::INFINITY));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "-", ".5", "5.", "1e", "1e+", "+1", "nan", "1x", "0x10", "\"1\"", "1 "] {
            assert_eq!(parse_number(text.as_bytes()), None, "{text}");
        }
        assert_eq!(leading_number(b"12,"), Some(12.0));
        assert_eq!(leading_number(b"12x"), None);
    }

    #[test]
    fn written_numbers_read_back_the_same() {
        for number in [0.0, -1.5, 0.1, 1e-9, 1.0e22, 123456.789, f64::MIN_POSITIVE, f64::MAX] {
            let mut text = Vec::new();
            write_number(&mut text, number);
            assert_eq!(parse_number(&text), Some(number), "{}", String::from_utf8_lossy(&text));
        }
        let mut text = Vec::new();
        write_number(&mut text, f64::NAN);
        assert_eq!(text, b"null");
    }
}
