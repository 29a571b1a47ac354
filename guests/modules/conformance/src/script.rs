//! What the records ask for. The header `do` of each says it; the headers `key` and `val` repeat its
//! key and value, and `n` stands twice behind them.
//!
//! | `do` | |
//! |---|---|
//! | `look` | nothing but what every call and record is looked at for |
//! | `settings`, `helpers`, `state` | sections 5 and 6 |
//! | `abort`, then `aborted` | puts and traps; looks whether that is undone |
//! | `fail`, then `failed` | puts and fails; looks whether that stands |
//! | `expire`, then `expired` any number of times | an entry that expires 50 ms of watermark later, and a timer for the same time |
//! | `size1`, `size2`, `size3` | in three runs: what an entry counts |
//! | `timers`, then `fired` | sets timers 5 and 10 ms ahead of the watermark that its own time makes |
//! | `emit` | keeps the record and emits three; `send`: to the topic that the value names |
//!
//! Settings: `five` = `value`; `topic`, `partition` and `delay_ms`, the limit `watermark_delay_ms`.

use crate::host;
use crate::input::Input;
use crate::output::{DROP, Emit, FAILED, KEEP, Output};
use std::cell::Cell;

std::thread_local! {
    static AT_START: Cell<Option<[i64; 3]>> = const { Cell::new(None) };
}

pub(crate) fn on_start() {
    let answers = [
        i64::from(host::get(b"~next", &mut [])),
        i64::from(host::put(b"x", b"", 0)),
        i64::from(host::set_timer(0, b"x")),
    ];
    AT_START.set(Some(answers));
}

/// What holds for a call as a whole.
pub(crate) fn on_call(input: &Input<'_>, timers: bool, output: &mut Output) {
    output.check_equal("S11", "in millpond_init", AT_START.get(), Some([-1, 1, 1]));
    let topic = input.topic().unwrap_or_default();
    let place = (String::from_utf8_lossy(topic).into_owned(), input.u32(40).to_string());
    let expected = (setting("topic"), setting("partition"));
    output.check_equal("I4", "topic and partition", place, expected);
    let seed = input.u64(56);
    let before = number(b"~seed").map_or(seed, |seed| seed as u64);
    output.check_equal("I7", "the seed", seed, before);
    put_number(b"~seed", seed as i64);

    let greatest_ms = number(b"~greatest");
    let delay_ms = setting("delay_ms").parse::<i64>().unwrap_or_default();
    let expected = greatest_ms.map_or(i64::MIN, |greatest_ms| greatest_ms - delay_ms);
    let rules = ["I8", "T1"];
    let count = input.record_count();
    if timers {
        check_timers(input, output);
        output.check_equal(rules[0], "the watermark", input.u64(64) as i64, expected);
        return;
    }
    for rule in rules {
        output.check_equal(rule, "the watermark", input.u64(64) as i64, expected);
    }
    let latest_ms = (0..count).map(|index| input.timestamp_ms(index)).max();
    put_number(b"~greatest", latest_ms.max(greatest_ms).unwrap_or_default());
    let first = input.u64(48);
    let is_resumed = command(input, 0) == "aborted";
    let expected = number(b"~next").filter(|_| !is_resumed).map_or(first, |next| next as u64);
    let origins = (0..count).map(|index| input.u64(input.record_at(index) + 8));
    let expected = (expected, (0..count as u64).collect::<Vec<_>>());
    output.check_equal("I6", "input numbers", (first, origins.collect::<Vec<_>>()), expected);
    put_number(b"~next", (first + count as u64) as i64);
}

pub(crate) fn on_record(input: &Input<'_>, index: usize, timers: bool, output: &mut Output) -> u32 {
    if timers {
        return on_timer(input, index, output);
    }
    let headers = input.headers(index);
    let named = |name: &str| headers.iter().find(|(found, _)| *found == name.as_bytes());
    let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
    let is_whole = names == [&b"do"[..], b"key", b"val", b"n", b"n"]
        && headers[3].1 == Some(b"1")
        && headers[4].1 == Some(b"")
        && named("key").is_some_and(|(_, key)| *key == input.key(index))
        && named("val").is_some_and(|(_, value)| *value == input.value(index));
    output.check("I5", is_whole, "key, value or headers are not those that were sent");
    match command(input, index).as_str() {
        "settings" => settings(output),
        "helpers" => helpers(output),
        "state" => state(output),
        "abort" => {
            host::put(b"aborted", b"", 0);
            host::delete(b"~seed");
            host::abort("stopped here");
        }
        "aborted" => {
            let answers = (host::get(b"aborted", &mut []), number(b"~seed").is_some());
            output.check_equal("S8", "after a trap", answers, (-1, true));
        }
        "fail" => {
            host::put(b"failed", b"1", 0);
            return FAILED;
        }
        "failed" => {
            output.check_equal("S9", "after a failure", host::get(b"failed", &mut []), 1);
        }
        "expire" => {
            let delay_ms = setting("delay_ms").parse::<i64>().unwrap_or_default();
            let expires_ms = input.timestamp_ms(index) - delay_ms + 50;
            put_number(b"~expires", expires_ms);
            host::put(b"expires", b"", expires_ms);
            host::set_timer(expires_ms, b"expires");
        }
        "expired" => {
            let is_over = (input.u64(64) as i64) >= number(b"~expires").unwrap_or_default();
            let expected = if is_over { -1 } else { 0 };
            output.check_equal("S7", "an entry", host::get(b"expires", &mut []), expected);
        }
        "size1" | "size2" | "size3" => sizes(input, &command(input, index), output),
        "timers" => set_timers(input.timestamp_ms(index), output),
        "fired" => fired(output),
        "emit" => return emit(output),
        "send" => {
            let topic = String::from_utf8_lossy(input.value(index).unwrap_or_default());
            output.emit(&Emit { value: Some(b"sent"), topic: &topic, ..Emit::default() });
        }
        _ => {}
    }
    DROP
}

fn command(input: &Input<'_>, index: usize) -> String {
    let headers = input.headers(index);
    let found = headers.iter().find(|(name, _)| *name == b"do").and_then(|(_, value)| *value);
    String::from_utf8_lossy(found.unwrap_or_default()).into_owned()
}

fn settings(output: &mut Output) {
    let mut buffer = [b'.'; 8];
    let short = (host::setting("five", &mut buffer[..4]), buffer);
    let whole = (host::setting("five", &mut buffer[..5]), buffer);
    let none = host::setting("unset", &mut buffer);
    let expected = ((5, *b"........"), (5, *b"value..."), -1);
    output.check_equal("F2", "settings", (short, whole, none), expected);
    host::log("a line of the conformance module");
}

fn helpers(output: &mut Output) {
    let doc = r#"{"a":{"b":[10,"x\"y",null,true,{"c":-2.5e1}]},"~/":7,"d":1,"d":2}"#;
    for (path, kind, text) in [
        ("", 6, doc),
        ("/a/b", 5, r#"[10,"x\"y",null,true,{"c":-2.5e1}]"#),
        ("/a/b/0", 3, "10"),
        ("/a/b/1", 4, r#"x\"y"#),
        ("/a/b/2", 1, "null"),
        ("/a/b/3", 2, "true"),
        ("/a/b/4/c", 3, "-2.5e1"),
        ("/~0~1", 3, "7"),
        ("/d", 3, "1"),
    ] {
        let (found, [start, len]) = host::json_field(doc, path);
        let found = (found, doc.get(start as usize..start.wrapping_add(len) as usize));
        output.check_equal("F5", path, found, (kind, Some(text)));
    }
    for (doc, path, expected) in
        [(doc, "/no", -1), (doc, "/a/b/9", -1), ("{\"b\":}", "/a", -2), ("", "/a", -2)]
    {
        output.check_equal("F5", path, host::json_field(doc, path).0, expected);
        output.check_equal("F6", path, host::json_number(doc, path).0, expected);
    }
    output.check_equal("F6", "a number", host::json_number(doc, "/a/b/4/c"), (0, -25.0));
    output.check_equal("F6", "a string", host::json_number(doc, "/a/b/1").0, -3);
    for (text, seed, hash) in [
        ("", 0, 0xef46_db37_51d8_e999),
        ("abc", 0, 0x44bc_2cf5_ad77_0999),
        ("Nobody inspects the spammish repetition", 0, 0xfbce_a83c_8a37_8bf1),
        ("xxhash", 20_141_025, 0xb559_b98d_844e_0635),
    ] {
        output.check_equal("F7", text, host::hash64(text.as_bytes(), seed), hash);
    }
    numbers(output);
}

fn numbers(output: &mut Output) {
    let documents = [
        (Some(r#" { "s": "t" , "t" : -2.5e1 }"#), Some(-25.0)),
        (Some(r#"{"t":1,"t":2}"#), Some(1.0)),
        (Some(r#"{"a":"\"t\":9","b":{"t":9},"t":3}"#), Some(3.0)),
        (Some(r#"{"a":[],"\u0074":4,"t":5}"#), Some(4.0)),
        // Taken for JSON up to the place.
        (Some(r#"{"a" 01 "t":6"#), Some(6.0)),
        (Some(r#"{"a" [] "t":6}"#), None),
        (Some(r#"{"t":07}"#), None),
        (Some(r#"{"t":-1e999}"#), Some(f64::NEG_INFINITY)),
        (Some(r#"{"t":"8"}"#), None),
        (Some(r#"[{"t":8}]"#), None),
        (Some(""), None),
        (None, None),
    ];
    let given = documents.map(|(document, _)| document);
    for ((document, expected), found) in documents.iter().zip(host::json_numbers(&given, "t")) {
        let found = Some(found).filter(|found| !found.is_nan());
        output.check_equal("F8", document.unwrap_or("none"), found, *expected);
    }
}

fn state(output: &mut Output) {
    let mut buffer = [b'.'; 4];
    let none = host::get(b"k", &mut buffer);
    host::put(b"k", b"value", 0);
    let short = (host::get(b"k", &mut buffer), buffer);
    host::put(b"k", b"abc", 0);
    let whole = (host::get(b"k", &mut buffer), buffer);
    host::put(b"k", b"", 0);
    let empty = host::get(b"k", &mut buffer);
    let found = (none, short, whole, empty);
    output.check_equal("S2", "a value", found, (-1, (5, *b"...."), (3, *b"abc."), 0));
    let deleted = (host::delete(b"k"), host::delete(b"k"), host::get(b"k", &mut []));
    output.check_equal("S3", "a deleted key", deleted.2, -1);
    output.check_equal("S5", "delete", (deleted.0, deleted.1), (1, 0));
    let long = vec![7; (256 << 10) + 1];
    let too_long = [
        host::put(&long[..1025], b"", 0),
        host::put(b"k", &long, 0),
        host::put(&long[..1024], b"", 0),
        host::delete(&long[..1024]),
    ];
    output.check_equal("S4", "long keys and values", too_long, [2, 2, 0, 1]);
    host::put(b"k", b"old", 0);
    let full = (host::put(b"k", &long[..256 << 10], 0), host::get(b"k", &mut []));
    output.check_equal("S4", "with state_bytes below 256 KiB", full, (1, 3));
    host::delete(b"k");
    ranges(output);
}

fn ranges(output: &mut Output) {
    for (key, value) in [("r/c", "3"), ("r/a", ""), ("r/b", "22"), ("r/b\0", "4"), ("s", "5")] {
        host::put(key.as_bytes(), value.as_bytes(), 0);
    }
    let mut buffer = [0; 64];
    let packed = |entries: &[(&str, &str)]| {
        let entry = |(key, value): &(&str, &str)| {
            let lengths = [key.len() as u32, value.len() as u32].map(u32::to_le_bytes);
            [lengths.as_flattened(), key.as_bytes(), value.as_bytes()].concat()
        };
        entries.iter().flat_map(entry).collect::<Vec<u8>>()
    };
    let mut ask = |from: &str, to: Option<&str>, room: usize| {
        let to = to.map(str::as_bytes);
        let bytes = host::range(from.as_bytes(), to, &mut buffer[..room]);
        (bytes, buffer[..bytes.clamp(0, 64) as usize].to_vec())
    };
    let all = packed(&[("r/a", ""), ("r/b", "22"), ("r/b\0", "4"), ("r/c", "3")]);
    let first = packed(&[("r/a", ""), ("r/b", "22")]);
    let rest = packed(&[("r/b\0", "4"), ("r/c", "3")]);
    let found = ask("r/", Some("r0"), 64);
    output.check_equal("S6", "all", found, (all.len() as i32, all));
    let found = ask("r/", Some("r0"), first.len() + 3);
    output.check_equal("S6", "whole entries only", found, (first.len() as i32, first));
    let found = ask("r/b\0", Some("r0"), 64);
    output.check_equal("S6", "going on", found, (rest.len() as i32, rest));
    output.check_equal("S6", "too little room", ask("r/b", None, 12).0, -13);
    output.check_equal("S6", "none", ask("r/d", Some("s"), 64).0, 0);
    output.check_equal("S6", "bounds the wrong way", ask("s", Some("r"), 64).0, 0);
    let last = packed(&[("s", "5")]);
    output.check_equal("S6", "to the end", ask("s", Some("s\0"), 64), (last.len() as i32, last));
    for key in ["r/c", "r/a", "r/b", "r/b\0", "s"] {
        host::delete(key.as_bytes());
    }
}

/// Between the runs nothing else changes in size: what the others keep is there from the first.
fn sizes(input: &Input<'_>, step: &str, output: &mut Output) {
    let in_use = input.u64(72) as i64;
    match step {
        "size1" => {
            put_number(b"~constant", 0);
            put_number(b"~in_use", 0);
        }
        "size2" => {
            put_number(b"~in_use", in_use);
            host::put(b"sized", &[0; 100], 0);
        }
        _ => {
            let before = number(b"~in_use").unwrap_or_default();
            let constant = in_use - before - 105;
            let known = number(b"~constant").unwrap_or_default();
            if known == 0 {
                output.check("I9", constant >= 0, "the state did not grow by what was put");
                put_number(b"~constant", constant);
                put_number(b"~in_use", in_use);
                host::put(b"sized-too", &[0; 96], 0);
            } else {
                output.check_equal("S10", "what an entry counts besides", constant, known);
                host::delete(b"sized");
                host::delete(b"sized-too");
            }
        }
    }
}

fn set_timers(timestamp_ms: i64, output: &mut Output) {
    let delay_ms = setting("delay_ms").parse::<i64>().unwrap_or_default();
    let now_ms = timestamp_ms - delay_ms;
    put_number(b"~timers", now_ms);
    host::put(b"~fired", b"", 0);
    let set = [(10, "b"), (10, "a"), (5, "z"), (10, "a"), (7, "gone")]
        .map(|(in_ms, key)| host::set_timer(now_ms + in_ms, key.as_bytes()));
    let deleted = [7, 7].map(|in_ms| host::delete_timer(now_ms + in_ms, b"gone"));
    let found = (set, deleted, host::set_timer(now_ms, &[0; 1025]));
    output.check_equal("T4", "answers", found, ([0; 5], [1, 0], 2));
}

/// Within one call: in order, and due.
fn check_timers(input: &Input<'_>, output: &mut Output) {
    let timers: Vec<_> = (0..input.record_count())
        .map(|index| (input.timestamp_ms(index), input.key(index).unwrap_or_default()))
        .collect();
    let watermark_ms = input.u64(64) as i64;
    let is_fit = timers.is_sorted() && timers.iter().all(|(at_ms, _)| *at_ms <= watermark_ms);
    output.check("T2", is_fit, "timers out of order, or before they are due");
}

fn on_timer(input: &Input<'_>, index: usize, output: &mut Output) -> u32 {
    let (at_ms, key) = (input.timestamp_ms(index), input.key(index).unwrap_or_default());
    let is_bare = input.value(index).is_none() && input.headers(index).is_empty();
    let in_ms = at_ms - number(b"~timers").unwrap_or_default();
    let is_known = match key {
        b"expires" => Some(at_ms) == number(b"~expires"),
        _ => matches!((key, in_ms), (b"z", 5) | (b"a", 10) | (b"b", 10) | (b"again", 9)),
    };
    output.check("T3", is_bare && is_known, "a timer that was not set, or with more to it");
    let mut fired = vec![0; 256];
    let len = host::get(b"~fired", &mut fired).clamp(0, 256) as usize;
    fired.truncate(len);
    fired.extend_from_slice(key);
    fired.push(b' ');
    host::put(b"~fired", &fired, 0);
    match key {
        b"z" => return FAILED,
        b"a" => {
            host::set_timer(at_ms - 1, b"again");
            return KEEP;
        }
        b"b" => output.check("T5", true, ""),
        b"expires" => {
            output.check_equal("S7", "an entry, in a timer", host::get(b"expires", &mut []), 0);
        }
        _ => {}
    }
    DROP
}

fn fired(output: &mut Output) {
    let mut buffer = [0; 64];
    let len = host::get(b"~fired", &mut buffer).clamp(0, 64) as usize;
    let found = String::from_utf8_lossy(&buffer[..len]).into_owned();
    for rule in ["T2", "T4", "T5", "T6"] {
        output.check_equal(rule, "what fired", found.as_str(), "z a b again ");
    }
}

fn emit(output: &mut Output) -> u32 {
    let bare = Emit { timestamp_ms: -1, ..Emit::default() };
    output.emit(&bare);
    output.emit(&Emit { key: Some(b""), value: Some(b""), ..Emit::default() });
    output.emit(&Emit {
        timestamp_ms: 77,
        key: Some(b"key"),
        value: Some(b"made"),
        headers: &[("h", Some(b"1")), ("h", None), ("", Some(b""))],
        topic: "",
    });
    KEEP
}

fn setting(name: &str) -> String {
    let mut buffer = vec![0; 256];
    let len = host::setting(name, &mut buffer).clamp(0, 256) as usize;
    String::from_utf8_lossy(&buffer[..len]).into_owned()
}

fn number(key: &[u8]) -> Option<i64> {
    let mut buffer = [0; 8];
    (host::get(key, &mut buffer) == 8).then(|| i64::from_le_bytes(buffer))
}

fn put_number(key: &[u8], number: i64) {
    if host::put(key, &number.to_le_bytes(), 0) != 0 {
        host::abort("S4 failed: the state takes no more than nothing");
    }
}
