//! Apache Beam's Python SDK, unchanged, with its expansion service on loopback. The story is told in
//! `clients/python/beam_stories.py`. Never skipped: what is missing fails, with the command that
//! installs it.

use millpond_tests::broker::Broker;
use millpond_tests::clients;

#[test]
fn what_a_pipeline_wrote_another_one_reads() {
    clients::python_beam(&Broker::start(), "write_and_read");
}
