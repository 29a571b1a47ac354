//! Transforms in Prometheus' words. Counts only: what they are is decided elsewhere.

use std::time::Duration;

use super::exposition::Exposition;
use crate::transforms::{TransformReport, VersionReport};

/// Writes what all transforms did.
pub(super) fn render(out: &mut Exposition, reports: &[TransformReport]) {
    out.gauge("millpond_transforms", "Deployed transforms.").count(reports.len() as u64);
    let mut records = out.counter(
        "millpond_transform_records_total",
        "Records, by what the transform did with them.",
    );
    for report in reports {
        for (outcome, n) in report.stats.by_outcome() {
            records.add_count(&[("transform", &report.name), ("outcome", outcome)], n);
        }
    }
    let mut inputs =
        out.counter("millpond_transform_input_records_total", "Records given to the transform.");
    for report in reports {
        inputs.add_count(&[("transform", &report.name)], report.stats.records_in);
    }
    let mut faults =
        out.counter("millpond_transform_faults_total", "Calls that trapped, overran or lied.");
    for report in reports {
        faults.add_count(&[("transform", &report.name)], report.stats.faults);
    }
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
        cpu.add(
            &[("transform", &report.name)],
            Duration::from_nanos(report.stats.cpu_ns).as_secs_f64(),
        );
    }
    versions(out, reports);
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
        failed.add_count(&labels, version.stats.records_failed);
    }
    let mut inputs = out.counter(
        "millpond_transform_version_input_records_total",
        "Records given to a version, since it started.",
    );
    for (name, id, version, _) in &all {
        inputs.add_count(&[("transform", *name), ("deployment", id)], version.stats.records_in);
    }
}
