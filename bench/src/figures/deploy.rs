//! How long it takes from a module's upload to the first record that went through it. Each module
//! is one that this broker has never seen, so that it must be compiled.

use std::time::Instant;

use millpond_wire::record::{BatchBuilder, Codec};

use crate::error::{BenchError, Context, Outcome};
use crate::figures::{Bench, progress};
use crate::load::conversation::Conversation;
use crate::load::frames::{expect_taken, frame};
use crate::load::reader::read_partition;
use crate::report::{Figure, Target};
use crate::spread::Spread;

/// To reach, in ms, for a module of 100 KiB.
const TARGET_MS: f64 = 250.0;
/// Deployments in each round.
const DEPLOYMENTS: usize = 5;
/// A record, and what the module makes of it is longer.
const VALUE: &[u8] = br#"{"device":"pump-0042","temperature":21.5}"#;

/// Measures.
pub(crate) fn figure(bench: &Bench) -> Outcome<Figure> {
    let module = millpond_guests::SERDE_MAP;
    let mut figure = Figure::new(
        "deploy",
        format!(
            "a module of {} KiB that changes each record, from its upload over HTTP to the \
             acknowledgement of the first record through it",
            module.len() / 1024
        ),
    );
    let (broker, _home) = bench.broker()?;
    let (mut new, mut known) = (Vec::new(), Vec::new());
    for number in 0..bench.rounds * DEPLOYMENTS {
        progress(&format!("deploy, {number}"));
        let module = [module, &custom_section(number)].concat();
        for (samples, what) in [(&mut new, "new"), (&mut known, "known")] {
            let topic = format!("{what}-{number}");
            broker.create_topic(&topic, 1)?;
            let mut builder = BatchBuilder::new(Codec::None, None);
            builder.push(1_763_700_000_000, None, Some(VALUE), &[]).context("a record")?;
            let batch = builder.build().context("a batch")?;
            let sent_bytes = batch.len() as u64;
            let produce = frame(&topic, 0, batch)?;
            let description = serde_json::json!({
                "name": topic, "version": "1", "topics": [topic],
                "settings": { "field": "temperature", "scale": "1.8", "add": "seen" },
            });
            let mut client = Conversation::with(broker.kafka())?;
            let started = Instant::now();
            broker.deploy(&description, &module)?;
            expect_taken(client.exchange(&produce)?)?;
            samples.push(started.elapsed().as_secs_f64() * 1e3);
            let stored = read_partition(broker.kafka(), &topic, 0)?;
            if stored.records != 1 || stored.batch_bytes == sent_bytes {
                return Err(BenchError::new(
                    "the first record",
                    "it did not go through the module",
                ));
            }
        }
    }
    broker.stop()?;
    let target = Some(Target::AtMost(TARGET_MS));
    figure.line_to("a module that is new here", Spread::of(&new), "ms", target);
    figure.line("one that was compiled before", Spread::of(&known), "ms");
    Ok(figure)
}

/// Makes a module another: a section that says nothing, with a name and a number in it.
fn custom_section(number: usize) -> Vec<u8> {
    let mut section = vec![0, 13, 4];
    section.extend_from_slice(b"made");
    section.extend_from_slice(&(number as u64).to_le_bytes());
    section
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_has_the_length_that_it_says() {
        let section = custom_section(7);
        assert_eq!((section[0], usize::from(section[1])), (0, section.len() - 2));
        assert_ne!(section, custom_section(8));
    }
}
