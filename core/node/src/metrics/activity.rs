//! What clients do to the engine, for one scrape: quotas, fetch sessions, transactions, groups. Only
//! names and sums; what is counted stands in the snapshot.

use std::collections::BTreeMap;

use super::exposition::Exposition;
use super::snapshot::{EngineCounts, GroupState};

/// All families of this file.
pub(super) fn activity(out: &mut Exposition, engine: &EngineCounts, groups: &[GroupState]) {
    counters(out, engine);
    let gauges = [
        (
            "millpond_throttled_connections",
            "Connections that must wait because of a quota.",
            engine.throttled_connections,
        ),
        (
            "millpond_throttled_requests",
            "Requests that are held until their connection has waited.",
            engine.held_requests,
        ),
        ("millpond_fetch_sessions", "Fetch sessions of consumers.", engine.fetch_sessions),
        (
            "millpond_fetch_sessions_max",
            "Most fetch sessions; further consumers are served without one.",
            engine.fetch_sessions_max,
        ),
        ("millpond_transactions_open", "Transactions not ended yet.", engine.open_transactions),
        (
            "millpond_producers",
            "Idempotent producers that are remembered, by partition.",
            engine.producers,
        ),
    ];
    for (name, help, value) in gauges {
        out.gauge(name, help).count(value);
    }
    let mut ids = out
        .gauge("millpond_transactional_ids", "Transactional ids, by the state of their last one.");
    for (state, n) in &engine.transactional_ids {
        ids.add_count(&[("state", state)], *n);
    }
    let mut by_state: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for group in groups {
        *by_state.entry((group.protocol, group.state)).or_default() += 1;
    }
    let mut family = out.gauge("millpond_groups", "Consumer groups, by protocol and state.");
    for ((protocol, state), n) in by_state {
        family.add_count(&[("protocol", protocol), ("state", state)], n);
    }
}

fn counters(out: &mut Exposition, engine: &EngineCounts) {
    let counters = [
        (
            "millpond_requests_throttled_total",
            "Requests after which a client had to wait because of its quota.",
            engine.throttled_requests,
        ),
        (
            "millpond_fetch_sessions_evicted_total",
            "Fetch sessions that made room for others.",
            engine.fetch_sessions_evicted,
        ),
        (
            "millpond_transactions_committed_total",
            "Transactions that were committed.",
            engine.transactions_committed,
        ),
        (
            "millpond_transactions_aborted_total",
            "Transactions that were aborted, for whatever reason.",
            engine.transactions_aborted,
        ),
        (
            "millpond_transactions_timed_out_total",
            "Those of them that took too long.",
            engine.transactions_timed_out,
        ),
        (
            "millpond_producers_evicted_total",
            "Idempotent producers that were forgotten to make room.",
            engine.producers_evicted,
        ),
    ];
    for (name, help, value) in counters {
        out.counter(name, help).count(value);
    }
    out.counter("millpond_throttle_seconds_total", "How long clients were told to wait.")
        .set(engine.throttle_seconds);
}
