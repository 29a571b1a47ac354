//! Datagrams of telemetry, and the row of numbers that they come with.

use millpond_wire::record::{Arrivals, Telemetry};

/// A datagram that is taken gives the same records however often it is read.
pub fn run(data: &[u8]) {
    let mut arrivals = Arrivals::default();
    for datagram in data.split(|byte| *byte == 0xfe).chain([data]) {
        let Ok(telemetry) = Telemetry::parse(datagram) else { continue };
        let _ = arrivals.take(telemetry.number());
        let read = || telemetry.records().map(|record| format!("{record:?}")).collect::<Vec<_>>();
        assert_eq!(read(), read());
        let _ = arrivals.missing_at_the_end();
    }
}
