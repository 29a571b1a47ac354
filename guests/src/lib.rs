//! The modules of `modules/`, as WebAssembly.
//!
//! The first nine ship with the product. The hostile ones are what tests upload to see that the
//! broker stands; they must never be part of a node.

mod bomb;

pub use bomb::compile_bomb;

macro_rules! module {
    ($name:literal) => {
        include_bytes!(concat!(env!("MILLPOND_GUESTS_DIR"), "/millpond_guest_", $name, ".wasm"))
    };
}

/// Keeps the records whose JSON number field is within limits.
pub const THRESHOLD: &[u8] = module!("threshold");
/// Keeps listed JSON fields, renames them, converts their units.
pub const PROJECTION: &[u8] = module!("projection");
/// Makes one record of each line of a value.
pub const SPLIT: &[u8] = module!("split");
/// Sends records to topics by a JSON text field.
pub const ROUTE: &[u8] = module!("route");

/// The mean of a JSON number per key and window of time.
pub const WINDOW_MEAN: &[u8] = module!("window_mean");
/// Statistics of a JSON number per key and session.
pub const SESSION_STATS: &[u8] = module!("session_stats");
/// Keeps the records whose JSON number has moved far enough.
pub const DEAD_BAND: &[u8] = module!("dead_band");
/// Lets each identity through once in a time.
pub const DEDUP: &[u8] = module!("dedup");
/// Joins the JSON numbers of two topics by key and time.
pub const JOIN_READINGS: &[u8] = module!("join_readings");

/// Says which rules of `wasm-sdk/SPEC.md` its host keeps.
pub const CONFORMANCE: &[u8] = module!("conformance");

/// Reads and writes JSON with `serde_json`, for measurements.
pub const SERDE_MAP: &[u8] = module!("serde_map");

/// Never comes back from a record that starts with `loop`.
pub const HOSTILE_LOOP: &[u8] = module!("hostile_loop");
/// Takes all memory on a record that starts with `memory`.
pub const HOSTILE_MEMORY: &[u8] = module!("hostile_memory");
/// Traps on `trap`, panics on `panic`, ends its stack on `stack`, fails in order on `fail`.
pub const HOSTILE_TRAP: &[u8] = module!("hostile_trap");
/// Answers a batch with the lie that a record of it names: `lie output-pointer`.
pub const HOSTILE_LIES: &[u8] = module!("hostile_lies");
/// Floods the log on a record that starts with `log`.
pub const HOSTILE_LOG: &[u8] = module!("hostile_log");
/// Makes a thousand copies of a record that starts with `flood`.
pub const HOSTILE_FLOOD: &[u8] = module!("hostile_flood");

/// Does with its state, timers and the host's helpers what a record says: `put KEY VALUE EXPIRES`.
pub const HOSTILE_STATE: &[u8] = module!("hostile_state");

/// The modules that ship, by the name that a deployment gives.
pub const SHIPPED: [(&str, &[u8]); 9] = [
    ("threshold", THRESHOLD),
    ("projection", PROJECTION),
    ("split", SPLIT),
    ("route", ROUTE),
    ("window-mean", WINDOW_MEAN),
    ("session-stats", SESSION_STATS),
    ("dead-band", DEAD_BAND),
    ("dedup", DEDUP),
    ("join-readings", JOIN_READINGS),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_modules_that_keep_state_import_it() {
        let imports = |module: &[u8]| module.windows(9).any(|name| name == b"state_put");
        for (name, module) in SHIPPED {
            let keepers = ["window-mean", "session-stats", "dead-band", "dedup", "join-readings"];
            let keeps = keepers.contains(&name);
            assert_eq!(imports(module), keeps, "{name}");
        }
    }

    #[test]
    fn every_module_is_webassembly_of_a_modest_size() {
        let hostile = [
            HOSTILE_LOOP,
            HOSTILE_MEMORY,
            HOSTILE_TRAP,
            HOSTILE_LIES,
            HOSTILE_LOG,
            HOSTILE_FLOOD,
            HOSTILE_STATE,
        ];
        for module in SHIPPED.iter().map(|(_, module)| *module).chain(hostile) {
            assert!(module.starts_with(b"\0asm\x01\0\0\0"));
            assert!(module.len() < 256 * 1024, "{} bytes", module.len());
        }
    }
}
