//! Stories about the engine as its shell sees it: events in, effects out.

mod admin;
mod configs;
mod entries;
mod fetch_sessions;
mod fetching;
mod group_chaos;
mod groups;
mod losses;
mod offsets;
mod producing;
mod quotas;
mod recovery;
mod retention;
mod rig;
mod session_chaos;
mod space;
mod topics;
mod transactions;
mod transforms;
mod txn_chaos;
mod txn_offsets;
mod txn_rig;
mod txn_transforms;
mod txn_v2;
mod txn_views;
mod windows;
