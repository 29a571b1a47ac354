//! What a node tells about itself to Prometheus: its own names under `millpond_`, and those of
//! kafka_exporter, so that dashboards made for it work. Counting is cheap (atomics); reading
//! happens when somebody scrapes.

mod activity;
mod certificates;
mod counters;
mod derive;
mod exposition;
mod process;
mod render;
pub(crate) mod scrape;
pub(crate) mod snapshot;
mod storage;
mod transforms;
pub(crate) mod wear;

pub(crate) use certificates::CertificateState;
pub(crate) use counters::{ConnectionKind, Counters, EarlyCounters, Refusal};
pub(crate) use render::render;
pub(crate) use snapshot::{DeriveState, NetCounts, Snapshot};
