//! What a node says of itself at `/metrics`, read back: the text format of Prometheus, as far as our own commands
//! need it. A line that it cannot read is passed over.

/// One answer of `/metrics`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scrape {
    samples: Vec<Sample>,
}

#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Scrape {
    pub(crate) fn parse(text: &str) -> Self {
        Self { samples: text.lines().filter_map(sample).collect() }
    }

    /// The sum of the samples of this name that have all of `labels`; 0 where there is none.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |sample: &Sample, (key, value): &(&str, &str)| {
            sample.labels.iter().any(|(k, v)| k == key && v == value)
        };
        let wanted = self
            .samples
            .iter()
            .filter(|s| s.name == name && labels.iter().all(|label| has(s, label)));
        wanted.map(|sample| sample.value).sum()
    }

    /// The same as a whole number.
    pub(crate) fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        // Negative and infinite values saturate.
        self.sum(name, labels) as u64
    }

    /// The values of `label` at this name, each with its sample, in the order of the text.
    pub(crate) fn by(&self, name: &str, label: &str) -> Vec<(String, f64)> {
        let named = self.samples.iter().filter(|sample| sample.name == name);
        let pair = |sample: &Sample| {
            let (_, value) = sample.labels.iter().find(|(key, _)| key == label)?;
            Some((value.clone(), sample.value))
        };
        named.filter_map(pair).collect()
    }

    /// The value of `label` at the first sample of this name.
    pub(crate) fn label(&self, name: &str, label: &str) -> Option<String> {
        self.by(name, label).into_iter().next().map(|(value, _)| value)
    }

    /// The buckets of a histogram without labels: (upper bound, how many at or below).
    pub(crate) fn buckets(&self, name: &str) -> Vec<(f64, u64)> {
        let bucket = |(bound, count): (String, f64)| Some((bound.parse().ok()?, count as u64));
        self.by(&format!("{name}_bucket"), "le").into_iter().filter_map(bucket).collect()
    }
}

/// The upper bound of the bucket that holds the quantile `q` of what came between two scrapes; `None` if nothing did
/// or it lies beyond the last bound.
pub(crate) fn quantile(before: &[(f64, u64)], after: &[(f64, u64)], q: f64) -> Option<f64> {
    let earlier = |bound: f64| before.iter().find(|(b, _)| *b == bound).map_or(0, |(_, n)| *n);
    let grown: Vec<(f64, u64)> =
        after.iter().map(|(bound, n)| (*bound, n.saturating_sub(earlier(*bound)))).collect();
    let all = grown.last().map(|(_, n)| *n).filter(|n| *n > 0)?;
    #[allow(clippy::cast_precision_loss)] // A fraction of a count.
    let wanted = (all as f64 * q).ceil() as u64;
    grown
        .iter()
        .find(|(_, n)| *n >= wanted)
        .map(|(bound, _)| *bound)
        .filter(|bound| bound.is_finite())
}

fn sample(line: &str) -> Option<Sample> {
    if line.starts_with('#') {
        return None;
    }
    let (series, rest) = match line.find('{') {
        Some(open) => {
            let close = open + closing(line.get(open..)?)?;
            (line.get(..close)?, line.get(close + 1..)?)
        }
        None => line.split_at_checked(line.find(' ')?)?,
    };
    let (name, inside) = series.split_once('{').unwrap_or((series, ""));
    Some(Sample {
        name: name.to_owned(),
        labels: labels(inside),
        value: rest.split_whitespace().next()?.parse().ok()?,
    })
}

/// Where the brace that opens `text` is closed, outside quotes.
fn closing(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            '}' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

fn labels(inside: &str) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    let mut rest = inside;
    while let Some((key, after)) = rest.split_once("=\"") {
        let Some((value, behind)) = quoted(after) else { break };
        labels.push((key.trim_matches([',', ' ']).to_owned(), value));
        rest = behind;
    }
    labels
}

/// A value up to its closing quote, without its escapes, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP millpond_disk_syncs_total Durable writes.\n# TYPE millpond_disk_syncs_total counter\n\
        millpond_disk_syncs_total{cause=\"journal\"} 12\nmillpond_disk_syncs_total{cause=\"segment\"} 3\n\
        millpond_disk_backend_info{backend=\"io_uring\"} 1\nmillpond_uptime_seconds 2.5\n\
        odd{a=\"x\\\"}y\",b=\"2\"} 7\n\
        lat_bucket{le=\"0.001\"} 90\nlat_bucket{le=\"0.01\"} 99\nlat_bucket{le=\"+Inf\"} 100\nlat_sum 1\nlat_count 100\n";

    #[test]
    fn samples_are_found_by_name_and_labels() {
        let scrape = Scrape::parse(TEXT);
        assert_eq!(scrape.count("millpond_disk_syncs_total", &[]), 15);
        assert_eq!(scrape.count("millpond_disk_syncs_total", &[("cause", "segment")]), 3);
        assert_eq!(scrape.sum("millpond_uptime_seconds", &[]), 2.5);
        assert_eq!(scrape.sum("absent", &[]), 0.0);
        assert_eq!(
            scrape.label("millpond_disk_backend_info", "backend").as_deref(),
            Some("io_uring")
        );
        let causes: Vec<String> =
            scrape.by("millpond_disk_syncs_total", "cause").into_iter().map(|(c, _)| c).collect();
        assert_eq!(causes, ["journal", "segment"]);
    }

    #[test]
    fn braces_and_quotes_within_a_label_are_part_of_it() {
        let scrape = Scrape::parse(TEXT);
        assert_eq!(scrape.sum("odd", &[("a", "x\"}y"), ("b", "2")]), 7.0);
    }

    #[test]
    fn a_quantile_is_that_of_the_time_between_two_scrapes() {
        let after = Scrape::parse(TEXT).buckets("lat");
        assert_eq!(quantile(&[], &after, 0.5), Some(0.001));
        assert_eq!(quantile(&[], &after, 0.99), Some(0.01));
        assert_eq!(quantile(&[], &after, 1.0), None);
        let before = [(0.001, 90), (0.01, 95), (f64::INFINITY, 95)];
        assert_eq!(quantile(&before, &after, 0.5), Some(0.01));
        assert_eq!(quantile(&after, &after, 0.5), None);
    }

    #[test]
    fn lines_that_cannot_be_read_are_passed_over() {
        let scrape = Scrape::parse(
            "a{b=\"c\nd\n{} {}\ne{f=} 1\ng x\nh 1e400\ni{j=\"k\"}\n\u{fc}{l=\"m\"} 4\n",
        );
        assert_eq!(scrape.sum("\u{fc}", &[("l", "m")]), 4.0);
        assert_eq!(scrape.sum("g", &[]), 0.0);
    }
}
