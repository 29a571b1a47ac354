//! One scrape of `/metrics`: the Prometheus text format, as far as sums over labels need it.

use std::collections::BTreeMap;

/// The samples of a scrape.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scrape {
    samples: Vec<Sample>,
}

#[derive(Clone, Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Scrape {
    /// Reads the text; a line that is no sample is passed over.
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text.lines().map(str::trim);
        let samples = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self { samples: samples.filter_map(sample).collect() }
    }

    /// The sum of all samples of this name that carry these labels; `None` if there is none.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let carries = |sample: &&Sample| {
            let has = |(key, value): &(&str, &str)| {
                sample.labels.get(*key).is_some_and(|found| found == value)
            };
            sample.name == name && labels.iter().all(has)
        };
        let mut found = self.samples.iter().filter(carries).map(|sample| sample.value).peekable();
        found.peek()?;
        Some(found.sum())
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (name, labels, rest) = match line.find('{') {
        Some(open) => {
            let (labels, rest) = label_set(line.get(open + 1..)?)?;
            (line.get(..open)?, labels, rest)
        }
        None => {
            let (name, rest) = line.split_once(' ')?;
            (name, BTreeMap::new(), rest)
        }
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// `key="value",...}`: the labels and what follows the brace.
fn label_set(mut text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        text = text.trim_start_matches([',', ' ']);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (key, rest) = text.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at + 1,
                (_, '\\') => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.insert(key.to_owned(), value);
        text = rest.get(end..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP w Bytes.\n# TYPE w counter\nw{cause=\"journal\"} 200\n\
        w{cause=\"segment\",x=\"a\\\"}b\"} 1e2 1700000000\nplain 7\nbroken{cause=\"x 5\nnot a number\n";

    #[test]
    fn sums_run_over_the_labels_that_are_not_named() {
        let scrape = Scrape::parse(TEXT);
        assert_eq!(scrape.sum("w", &[]), Some(300.0));
        assert_eq!(scrape.sum("w", &[("cause", "journal")]), Some(200.0));
        assert_eq!(scrape.sum("w", &[("x", "a\"}b")]), Some(100.0));
        assert_eq!(scrape.sum("plain", &[]), Some(7.0));
    }

    #[test]
    fn what_is_not_there_is_not_zero() {
        let scrape = Scrape::parse(TEXT);
        assert_eq!(scrape.sum("w", &[("cause", "other")]), None);
        assert_eq!(scrape.sum("broken", &[]), None);
        assert_eq!(scrape.sum("nothing", &[]), None);
    }
}
