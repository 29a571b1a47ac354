//! Derived transforms: how far they are behind, and what they met. Only writes down.

use super::exposition::Exposition;
use super::snapshot::{DeriveState, EngineCounts};

pub(super) fn render(out: &mut Exposition, derives: &[DeriveState], counts: &EngineCounts) {
    let counters = [
        (
            "millpond_derived_batches_total",
            "Batches of which derived transforms have made what is stored.",
            counts.derived_batches,
        ),
        (
            "millpond_derive_failures_total",
            "Times that a derived transform had to wait and try again.",
            counts.derive_failures,
        ),
        (
            "millpond_derive_records_gone_total",
            "Offsets that were gone before derived transforms came to them.",
            counts.derive_records_gone,
        ),
        (
            "millpond_transform_idle_runs_total",
            "Runs of transforms with state for which only time had passed.",
            counts.idle_jobs,
        ),
    ];
    for (name, help, value) in counters {
        out.counter(name, help).count(value);
    }
    if derives.is_empty() {
        return;
    }
    type Value = fn(&DeriveState) -> u64;
    let gauges: [(&str, &str, Value); 2] = [
        (
            "millpond_derive_lag",
            "Committed offsets that the derived transform has not been given.",
            |one| one.lag.unsigned_abs(),
        ),
        ("millpond_derive_failing", "Failures in a row of the batch that is next.", |one| {
            one.failures
        }),
    ];
    for (name, help, value) in gauges {
        let mut family = out.gauge(name, help);
        for one in derives {
            let partition = one.partition.to_string();
            let labels = [
                ("transform", &*one.transform),
                ("topic", &*one.topic),
                ("partition", &*partition),
            ];
            family.add_count(&labels, value(one));
        }
    }
}
