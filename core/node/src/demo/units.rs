//! Numbers for people: grouped, rounded, with their unit, and small pictures of how they move. Pure.

/// Eighths of a cell, from little to much.
const EIGHTHS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A count with its thousands apart.
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A time, from microseconds, with two or three digits. 0 is what is left of a difference between
/// clocks of whole milliseconds.
#[allow(clippy::cast_precision_loss)] // It is rounded anyway.
pub(crate) fn time_us(us: u64) -> String {
    let ms = us as f64 / 1000.0;
    match us {
        0 => "< 1 ms".to_owned(),
        1..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{ms:.1} ms"),
        10_000..1_000_000 => format!("{ms:.0} ms"),
        _ => format!("{:.1} s", ms / 1000.0),
    }
}

/// A time that may not have been measured.
pub(crate) fn time_or_dash(us: Option<u64>) -> String {
    us.map_or_else(|| "-".to_owned(), time_us)
}

/// `part` of `whole` in per cent; 0 of nothing.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// How many for each; `None` for each of none.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn ratio(a: u64, b: u64) -> Option<f64> {
    (b > 0).then(|| a as f64 / b as f64)
}

/// A ratio with few digits.
pub(crate) fn ratio_text(ratio: Option<f64>) -> String {
    match ratio {
        None => "-".to_owned(),
        Some(ratio) if ratio < 10.0 => format!("{ratio:.2}"),
        Some(ratio) => format!("{ratio:.1}"),
    }
}

/// The last `width` values as a line of small bars, the largest being the tallest.
pub(crate) fn sparkline(values: &[u64], width: usize) -> String {
    let shown = values.get(values.len().saturating_sub(width)..).unwrap_or_default();
    let most = shown.iter().copied().max().unwrap_or(0).max(1);
    let bar = |value: &u64| {
        let eighth = usize::try_from(u128::from(*value) * 7 / u128::from(most)).unwrap_or(0);
        EIGHTHS.get(eighth).copied().unwrap_or(' ')
    };
    shown.iter().map(bar).collect()
}

/// A bar of `width` cells of which `part` of `whole` are full.
pub(crate) fn bar(part: u64, whole: u64, width: usize) -> String {
    let full = u128::from(part.min(whole)) * width as u128 / u128::from(whole.max(1));
    let full = usize::try_from(full).unwrap_or(width);
    format!("{}{}", "█".repeat(full), "░".repeat(width - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        for (n, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(n), text);
        }
    }

    #[test]
    fn times_take_the_unit_that_fits() {
        for (us, text) in [
            (0, "< 1 ms"),
            (850, "850 µs"),
            (1_940, "1.9 ms"),
            (22_400, "22 ms"),
            (1_500_000, "1.5 s"),
        ] {
            assert_eq!(time_us(us), text);
        }
        assert_eq!(time_or_dash(None), "-");
    }

    #[test]
    fn nothing_is_divided_by_nothing() {
        assert_eq!(percent(3, 0), 0.0);
        assert_eq!(percent(1, 4), 25.0);
        assert_eq!(ratio_text(ratio(1, 0)), "-");
        assert_eq!(ratio_text(ratio(3, 2)), "1.50");
        assert_eq!(ratio_text(ratio(123, 2)), "61.5");
    }

    #[test]
    fn a_sparkline_shows_the_last_values_against_the_largest_of_them() {
        assert_eq!(sparkline(&[900, 0, 50, 100], 3), "▁▄█");
        assert_eq!(sparkline(&[], 3), "");
        assert_eq!(sparkline(&[0, 0], 3), "▁▁");
        assert_eq!(sparkline(&[u64::MAX], 3), "█");
    }

    #[test]
    fn a_bar_has_its_width() {
        assert_eq!(bar(1, 2, 4), "██░░");
        assert_eq!(bar(9, 2, 4), "████");
        assert_eq!(bar(0, 0, 4), "░░░░");
    }
}
