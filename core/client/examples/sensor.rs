//! A device that measures, whether or not its gateway can be reached: readings go to a spill on its own
//! storage and from there to the broker, in order and once. Never run as a test: it needs a broker.
//!
//! `cargo run -p millpond-client --example sensor -- millpond://127.0.0.1:9092 FINGERPRINT DIRECTORY`

use millpond_client::{Client, ClientConfig, Record, Spill, Trust, WhenFull};
use std::time::Duration;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("usage: sensor URL FINGERPRINT DIRECTORY");
    let config = ClientConfig::new(&next()?)?.trust(Trust::fingerprint(&next()?)?);
    let spill = Spill::builder(next()?)
        .max_bytes(8 * 1024 * 1024)
        .when_full(WhenFull::DropOldest)
        .open(Client::new(config.client_id("sensor")))?;
    // A tick that comes late does not move the ones after it.
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    for second in 0..60 {
        ticks.tick().await;
        let celsius = 20.0 + f64::from(second % 10) / 10.0;
        let reading = Record::to("telemetry").key("sensor-1").value(format!("{celsius:.1}"));
        spill.send(reading).await?;
    }
    // What is not sent by then waits for the next start.
    let _ = tokio::time::timeout(Duration::from_secs(10), spill.drained()).await;
    println!("{:?}", spill.metrics());
    spill.close().await;
    Ok(())
}
