//! The windowed mean: state that is made durable with each batch, against the same code natively
//! with its state in memory. Each pass starts with no state and closes a few windows.

use crate::window_mean::WindowMean;
use crate::{Outcome, RECORDS, Times, batch, deploy, reading, tell};
use millpond_sdk::testing::{Native, TestRecord, encode_input};
use millpond_transform::{Chain, Host, Input, run};
use std::hint::black_box;
use std::time::Instant;

pub(crate) const NAME: &str = "windowed mean per device";

const DEVICES: usize = 100;
const BATCHES: usize = 36;
const PASSES: usize = 40;
/// Between two records: a batch is five seconds, a window twelve batches.
const STEP_MS: i64 = 10;
const START_MS: i64 = 1_790_000_040_000;
const SETTINGS: [(&str, &str); 2] = [("field", "temperature"), ("window_ms", "60000")];

type Reading = (i64, String, String);

fn readings(batch: usize) -> Vec<Reading> {
    let of = |index: usize| {
        let number = batch * RECORDS + index;
        let at_ms = START_MS + number as i64 * STEP_MS;
        // Not in the order of the keys.
        (at_ms, format!("pump-{:04}", number * 37 % DEVICES), reading(number % 10_000))
    };
    (0..RECORDS).map(of).collect()
}

fn input(readings: &[Reading]) -> Vec<u8> {
    let of = |(at_ms, key, value): &Reading| {
        TestRecord::of(value.as_bytes()).key(key.as_bytes()).timestamp_ms(*at_ms)
    };
    encode_input(&readings.iter().map(of).collect::<Vec<_>>())
}

/// Measures.
pub(crate) async fn measure(host: &Host) -> Outcome<()> {
    let batches: Vec<_> = (0..BATCHES).map(readings).collect();
    let inputs: Vec<_> = batches.iter().map(|readings| input(readings)).collect();
    let ends: Vec<_> =
        batches.iter().map(|readings| readings.last().map_or(0, |last| last.0)).collect();
    let batches = batches.iter().map(|readings| batch(readings)).collect::<Outcome<Vec<_>>>()?;
    let transform = deploy(host, millpond_guests::WINDOW_MEAN, &SETTINGS).await?;
    let mut chain = Chain::new(vec![transform], "readings", 0)?;
    // Of each batch by itself: whoever else uses the machine disturbs some of them, not all.
    let mut times: Vec<_> = (0..BATCHES).map(|_| Times::default()).collect();
    for _ in 0..PASSES {
        let refused = |failure: millpond_sdk::Failure| failure.message().to_string();
        let mut native = Native::<WindowMean>::timed(&SETTINGS).map_err(refused)?;
        let mut fired_natively = 0;
        for ((input, end), times) in inputs.iter().zip(&ends).zip(&mut times) {
            let started = Instant::now();
            black_box(native.run(black_box(input)));
            fired_natively += native.advance(*end).0 as u64;
            times.native.push(started.elapsed());
        }
        chain.load_state(0, [])?;
        let (mut fired, mut changes) = (0, 0);
        for (batch, times) in batches.iter().zip(&mut times) {
            let started = Instant::now();
            let input = Input { batch: Some(batch), input_count: 0, ..Input::default() };
            let report = black_box(run(&mut chain, input).await);
            times.whole.push(started.elapsed());
            times.guest.push(report.stages.iter().map(|stage| stage.cpu).sum());
            for stage in &report.stages {
                fired += stage.timers;
                changes += stage.state_changes;
                if stage.failed + stage.timers_failed > 0 {
                    return Err(format!("{} records failed", stage.failed).into());
                }
            }
        }
        if fired != fired_natively || fired == 0 || changes == 0 {
            return Err(format!("{fired} timers, natively {fired_natively}").into());
        }
    }
    tell(NAME, &mut times, RECORDS, Some(2.5));
    Ok(())
}
