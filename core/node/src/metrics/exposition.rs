//! Building the families of one scrape. Holds no state between scrapes.

use prometheus::TextEncoder;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

/// The families of one scrape, in the order in which they were begun.
#[derive(Default)]
pub(crate) struct Exposition {
    families: Vec<MetricFamily>,
}

/// One family to which samples are added.
pub(crate) struct Family<'a> {
    family: &'a mut MetricFamily,
}

impl Exposition {
    /// A value that goes up and down.
    pub(crate) fn gauge(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, help, MetricType::GAUGE)
    }

    /// A value that only grows; its name ends in `_total`.
    pub(crate) fn counter(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, help, MetricType::COUNTER)
    }

    /// A distribution.
    pub(crate) fn histogram(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, help, MetricType::HISTOGRAM)
    }

    /// The scrape as text; families without a sample are left out.
    pub(crate) fn encode(mut self) -> Result<String, prometheus::Error> {
        self.families.retain(|f| !f.get_metric().is_empty());
        TextEncoder::new().encode_to_string(&self.families)
    }

    fn family(&mut self, name: &str, help: &str, kind: MetricType) -> Family<'_> {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        self.families.push(family);
        let last = self.families.len() - 1;
        Family { family: &mut self.families[last] }
    }
}

#[allow(clippy::cast_precision_loss)] // Prometheus has nothing but doubles.
impl Family<'_> {
    /// Adds a sample without labels.
    pub(crate) fn set(self, value: f64) {
        let mut family = self;
        family.add(&[], value);
    }

    /// Adds a sample without labels, from a count.
    pub(crate) fn count(self, value: u64) {
        self.set(value as f64);
    }

    /// Adds a sample.
    pub(crate) fn add(&mut self, labels: &[(&str, &str)], value: f64) {
        let mut metric = Metric::default();
        metric.set_label(pairs(labels));
        match self.family.get_field_type() {
            MetricType::COUNTER => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            _ => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        self.family.mut_metric().push(metric);
    }

    /// Adds a sample from a count.
    pub(crate) fn add_count(&mut self, labels: &[(&str, &str)], value: u64) {
        self.add(labels, value as f64);
    }

    /// Adds a distribution: `(upper bound, how many at or below it)`, the sum and the count of all.
    pub(crate) fn distribution(
        mut self,
        buckets: impl IntoIterator<Item = (f64, u64)>,
        sum: f64,
        count: u64,
    ) {
        self.distribution_of(&[], buckets, sum, count);
    }

    /// The same with labels.
    pub(crate) fn distribution_of(
        &mut self,
        labels: &[(&str, &str)],
        buckets: impl IntoIterator<Item = (f64, u64)>,
        sum: f64,
        count: u64,
    ) {
        let mut histogram = Histogram::default();
        let buckets = buckets.into_iter().map(|(bound, cumulative)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(cumulative);
            bucket
        });
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_sum(sum);
        histogram.set_sample_count(count);
        let mut metric = Metric::default();
        metric.set_label(pairs(labels));
        metric.set_histogram(histogram);
        self.family.mut_metric().push(metric);
    }
}

fn pairs(labels: &[(&str, &str)]) -> Vec<LabelPair> {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    labels.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_in_the_text_format_with_labels_escaped() {
        let mut exposition = Exposition::default();
        exposition.gauge("a", "An a.").set(1.5);
        let mut b = exposition.counter("b_total", "Some b.");
        b.add_count(&[("topic", "x\"y")], 7);
        exposition.histogram("c_seconds", "A c.").distribution([(0.1, 2), (1.0, 3)], 1.25, 4);
        exposition.gauge("empty", "Left out.");
        assert_eq!(
            exposition.encode().unwrap(),
            "# HELP a An a.\n# TYPE a gauge\na 1.5\n\
             # HELP b_total Some b.\n# TYPE b_total counter\nb_total{topic=\"x\\\"y\"} 7\n\
             # HELP c_seconds A c.\n# TYPE c_seconds histogram\n\
             c_seconds_bucket{le=\"0.1\"} 2\nc_seconds_bucket{le=\"1\"} 3\n\
             c_seconds_bucket{le=\"+Inf\"} 4\n\
             c_seconds_sum 1.25\nc_seconds_count 4\n"
        );
    }
}
