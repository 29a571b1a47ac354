//! Stories about the engine as its shell sees it: events in, effects out.

mod consumer_chaos;
mod consumer_client;
mod consumer_groups;
mod entries;
mod fetching;
mod group_chaos;
mod groups;
mod losses;
mod offset_admin;
mod offset_expiry;
mod offsets;
mod producing;
mod recovery;
mod retention;
mod rig;
mod space;
mod static_members;
mod topics;
mod transforms;
mod windows;
