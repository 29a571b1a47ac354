//! Modules that remember nothing: the same batch again and again.

use crate::{Outcome, RECORDS, Times, batch, deploy, reading, tell};
use millpond_sdk::Transform;
use millpond_sdk::testing::{Native, TestRecord, encode_input};
use millpond_transform::{Chain, Host, Input, run};
use std::hint::black_box;
use std::time::Instant;

const ROUNDS: usize = 1_500;

/// What is measured.
pub(crate) struct Subject<'a> {
    pub(crate) name: &'static str,
    pub(crate) wasm: &'a [u8],
    pub(crate) settings: &'a [(&'a str, &'a str)],
    pub(crate) to_reach: Option<f64>,
}

impl Subject<'_> {
    /// Measures the module against `T` with the settings `native`.
    pub(crate) async fn measure<T: Transform>(
        &self,
        host: &Host,
        native: &[(&str, &str)],
    ) -> Outcome<()> {
        let readings: Vec<_> = (0..RECORDS)
            .map(|index| (1_790_000_000_000 + index as i64, "pump".to_string(), reading(index)))
            .collect();
        let records: Vec<_> = readings
            .iter()
            .map(|(_, key, value)| TestRecord::of(value.as_bytes()).key(key.as_bytes()))
            .collect();
        let input = encode_input(&records);
        let refused = |failure: millpond_sdk::Failure| failure.message().to_string();
        let mut native = Native::<T>::new(native).map_err(refused)?;
        let transform = deploy(host, self.wasm, self.settings).await?;
        let mut chain = Chain::new(vec![transform], "readings", 0)?;
        let batch = batch(&readings)?;
        let mut times = Times::default();
        for _ in 0..ROUNDS {
            let started = Instant::now();
            black_box(native.run(black_box(&input)));
            times.native.push(started.elapsed());
            let started = Instant::now();
            let input = Input { batch: Some(&batch), input_count: 0, ..Input::default() };
            let report = black_box(run(&mut chain, input).await);
            times.whole.push(started.elapsed());
            times.guest.push(report.stages.iter().map(|stage| stage.cpu).sum());
            if let Some(failed) = report.stages.iter().find(|stage| stage.failed > 0) {
                return Err(format!("{}: {} records failed", self.name, failed.failed).into());
            }
        }
        tell(self.name, &mut [times], RECORDS, self.to_reach);
        Ok(())
    }
}
