//! Transforms in Prometheus' words. Counts only: what they are is decided elsewhere.

use super::exposition::Exposition;
use crate::transforms::{TransformReport, TransformStats, VersionReport};

/// Writes what all transforms did.
pub(super) fn render(out: &mut Exposition, reports: &[TransformReport]) {
    out.gauge("millpond_transforms", "Deployed transforms.").count(reports.len() as u64);
    let shown: Vec<(&str, TransformStats)> =
        reports.iter().map(|r| (r.name.as_str(), TransformStats::of(&r.totals))).collect();
    let mut records = out.counter(
        "millpond_transform_records_total",
        "Records, by what the transform did with them.",
    );
    for (name, stats) in &shown {
        for (outcome, n) in by_outcome(stats) {
            records.add_count(&[("transform", name), ("outcome", outcome)], n);
        }
    }
    let mut failed = out.counter(
        "millpond_transform_failures_total",
        "Records and timers that the transform failed on, by reason.",
    );
    for (name, stats) in &shown {
        for (reason, n) in &stats.failures {
            failed.add_count(&[("transform", name), ("reason", reason)], *n);
        }
    }
    for (metric, help, value) in COUNTERS {
        let mut counter = out.counter(metric, help);
        for (name, stats) in &shown {
            counter.add_count(&[("transform", name)], value(stats));
        }
    }
    for (metric, help, value) in GAUGES {
        let mut gauge = out.gauge(metric, help);
        for (name, stats) in &shown {
            gauge.add_count(&[("transform", name)], value(stats));
        }
    }
    faults_and_times(out, reports);
    versions(out, reports);
}

type Row = (&'static str, &'static str, fn(&TransformStats) -> u64);

const COUNTERS: [Row; 6] = [
    ("millpond_transform_input_records_total", "Records given to the transform.", |s| s.records_in),
    ("millpond_transform_input_bytes_total", "Bytes given to the transform.", |s| s.bytes_in),
    ("millpond_transform_output_bytes_total", "Bytes that went on from it.", |s| s.bytes_out),
    ("millpond_transform_faults_total", "Calls that trapped, overran or lied.", |s| s.faults),
    ("millpond_transform_restarts_total", "Instances made because one failed.", |s| s.restarts),
    ("millpond_transform_timers_total", "Timers that fired.", |s| s.timers),
];

const GAUGES: [Row; 2] = [
    ("millpond_transform_memory_bytes", "Memory of the instance that ran last.", |s| {
        s.memory_bytes
    }),
    ("millpond_transform_state_bytes", "State of the partition that ran last.", |s| s.state_bytes),
];

fn by_outcome(stats: &TransformStats) -> [(&'static str, u64); 6] {
    [
        ("kept", stats.records_kept),
        ("changed", stats.records_changed),
        ("dropped", stats.records_dropped),
        ("emitted", stats.records_emitted),
        ("routed", stats.records_routed),
        ("failed", stats.records_failed),
    ]
}

fn faults_and_times(out: &mut Exposition, reports: &[TransformReport]) {
    let mut up = out.gauge(
        "millpond_transform_up",
        "1 if the transform can run, 0 if its topics take no records.",
    );
    for report in reports {
        up.add_count(&[("transform", &report.name)], u64::from(report.fault.is_none()));
    }
    let mut cpu =
        out.counter("millpond_transform_cpu_seconds_total", "Processor time within the transform.");
    for report in reports {
        cpu.add(&[("transform", &report.name)], report.totals.stats.cpu.as_secs_f64());
    }
    let mut times =
        out.histogram("millpond_transform_batch_seconds", "Time of a batch in the transform.");
    for report in reports {
        let latency = &report.totals.latency;
        let mut below = 0;
        let buckets = latency.buckets().map(|(bound, count)| {
            below += count;
            (bound.map_or(f64::INFINITY, |bound| bound.as_secs_f64()), below)
        });
        let labels = [("transform", report.name.as_str())];
        times.distribution_of(&labels, buckets, latency.sum().as_secs_f64(), latency.count());
    }
}

fn versions(out: &mut Exposition, reports: &[TransformReport]) {
    let roles = ["in_force", "canary"];
    let all: Vec<(&str, String, &VersionReport, &str)> = reports
        .iter()
        .flat_map(|report| report.versions.iter().zip(roles).map(move |version| (report, version)))
        .map(|(report, (version, role))| {
            (report.name.as_str(), version.id.to_string(), version, role)
        })
        .collect();
    let mut running = out.gauge("millpond_transform_version_info", "The versions that run.");
    for (name, id, version, role) in &all {
        let labels = [
            ("transform", *name),
            ("version", &version.version),
            ("deployment", id),
            ("role", role),
        ];
        running.add_count(&labels, 1);
    }
    let mut failed = out.counter(
        "millpond_transform_version_failed_records_total",
        "Records that a version failed on, since it started.",
    );
    for (name, id, version, _) in &all {
        let labels = [("transform", *name), ("deployment", id)];
        failed.add_count(&labels, version.totals.stats.failed);
    }
    let mut inputs = out.counter(
        "millpond_transform_version_input_records_total",
        "Records given to a version, since it started.",
    );
    for (name, id, version, _) in &all {
        inputs.add_count(
            &[("transform", *name), ("deployment", id)],
            version.totals.stats.records_in,
        );
    }
}
