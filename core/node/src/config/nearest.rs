//! Finding keys that do not exist, and the known one that was probably meant.

use super::SECTIONS;

/// The first key of `table` that no section has: its full name, and a hint (or nothing).
pub(super) fn first_unknown(table: &toml::Table) -> Option<(String, String)> {
    table.iter().find_map(|(name, value)| {
        let Some(section) = SECTIONS.iter().find(|s| s.name == name) else {
            return Some((name.clone(), hint("", name, SECTIONS.iter().map(|s| s.name))));
        };
        tables(value).find_map(|table| {
            let unknown =
                table.keys().find(|key| section.keys.iter().all(|known| known.name != *key))?;
            let prefix = format!("{name}.");
            Some((
                format!("{prefix}{unknown}"),
                hint(&prefix, unknown, section.keys.iter().map(|k| k.name)),
            ))
        })
    })
}

/// The tables of `[section]`, or each of `[[section]]`.
fn tables(value: &toml::Value) -> impl Iterator<Item = &toml::Table> {
    let one = value.as_table().into_iter();
    one.chain(value.as_array().into_iter().flatten().filter_map(toml::Value::as_table))
}

fn hint<'a>(prefix: &str, written: &str, known: impl Iterator<Item = &'a str>) -> String {
    let nearest = known.map(|name| (distance(written, name), name)).min();
    match nearest {
        Some((distance, name)) if distance <= 2 + written.len() / 6 => {
            format!(", did you mean `{prefix}{name}`?")
        }
        _ => String::new(),
    }
}

/// Levenshtein's distance; both sides are cut to 64 bytes, which no key reaches.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let (a, b) = (&a[..a.len().min(64)], &b[..b.len().min(64)]);
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b) {
            let above = *cell;
            left = (diagonal + usize::from(x != y)).min(above + 1).min(left + 1);
            diagonal = above;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(a.len())
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn the_distance_counts_insertions_deletions_and_changes() {
        for (a, b, expected) in
            [("", "abc", 3), ("abc", "abc", 0), ("kitten", "sitting", 3), ("limit", "limits", 1)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }
}
