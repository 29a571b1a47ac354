//! One program with all fuzz targets: `MILLPOND_FUZZ_TARGET` names one; `tests/fuzz/run` builds and
//! runs it. Whatever bytes come, a target returns: a panic, a hang or too much memory is a finding.
//! Must never take anything but the bytes into account, so that an input shows the same again.

#![no_main]

mod certificates;
mod enrolment;
mod http;
mod logins;
mod records;
mod requests;
mod responses;
mod stored;
mod telemetry;
mod texts;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 10] = [
    ("requests", requests::run),
    ("responses", responses::run),
    ("records", records::run),
    ("telemetry", telemetry::run),
    ("certificates", certificates::run),
    ("logins", logins::run),
    ("http", http::run),
    ("enrolment", enrolment::run),
    ("stored", stored::run),
    ("texts", texts::run),
];

fn chosen() -> Target {
    static CHOSEN: OnceLock<Target> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("MILLPOND_FUZZ_TARGET").unwrap_or_default();
        let found = TARGETS.iter().find(|(target, _)| *target == name);
        let names = TARGETS.map(|(name, _)| name).join(", ");
        found.unwrap_or_else(|| panic!("MILLPOND_FUZZ_TARGET={name:?}: one of {names}")).1
    })
}

fuzz_target!(|data: &[u8]| chosen()(data));
