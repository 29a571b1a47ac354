//! The threshold module that ships, in the product's own host, on one batch again and again.

use std::sync::Arc;

use millpond_transform::{
    Chain, Host, HostConfig, Input, Outcome, Sha256, Transform, TransformSpec, run,
};
use millpond_wire::record::Batch;
use tokio::runtime::Runtime;

use crate::records::FIELD;

/// A filter on one partition.
pub struct Filter {
    runtime: Runtime,
    chain: Chain,
    seen: u64,
}

impl Filter {
    /// Keeps the records whose field is at least `min`.
    ///
    /// # Panics
    /// If the module that ships does not run here.
    #[must_use]
    pub fn new(min: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let host = Host::new(HostConfig::default()).expect("the host of transforms");
        let module = host.compile(millpond_guests::THRESHOLD).expect("the module compiles");
        let spec = TransformSpec::new("threshold", Sha256::of(millpond_guests::THRESHOLD))
            .setting("field", FIELD)
            .setting("min", min);
        let transform: Arc<Transform> = runtime
            .block_on(Transform::deploy(&host, spec, module))
            .expect("the module is deployed");
        let chain = Chain::new(vec![transform], "readings", 0).expect("a chain");
        Self { runtime, chain, seen: 0 }
    }

    /// Runs it on a batch.
    ///
    /// # Panics
    /// If it refuses the batch.
    pub fn run(&mut self, batch: &Batch) -> Outcome {
        let input = Input { batch: Some(batch), input_count: self.seen, ..Input::default() };
        let report = self.runtime.block_on(run(&mut self.chain, input));
        self.seen += u64::from(batch.records_count());
        if let Outcome::Rejected { message, .. } = &report.outcome {
            panic!("the filter refused a batch: {message}");
        }
        report.outcome
    }
}
