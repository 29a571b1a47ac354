//! `millpond transform`: deploying and looking after transforms of a running node.

mod check;
mod local;
mod logs;
mod project;
mod replay;
mod sign;
mod trial;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::http_client::{HttpClient, HttpLogin};
use super::table::Table;
use super::{CliError, session, text};
use crate::http::{Shown, ShownLane};
use millpond_http::{Action, Alteration, DEPLOY_HEADER, Description, ModeName, Start, StateScope};

/// `millpond transform`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  millpond transform init hot && millpond transform build hot && millpond transform test hot
  millpond transform try --module hot --topic readings --set limit=70
  millpond transform deploy hot --module filter.wasm --topic readings --set above=70
  millpond transform deploy hot --module filter.wasm --topic readings --on-failure skip
  millpond transform deploy mean --module mean.wasm --topic readings --derive --output means --from earliest
  millpond transform deploy both --module join.wasm --topic load --topic heat --derive --join --output both
  millpond transform deploy hot --module better.wasm --topic readings --canary 25
  millpond transform promote hot
  millpond transform alter hot --limit memory_bytes=8_388_608
  millpond transform list
  millpond transform logs hot --follow
  millpond transform delete hot

A transform runs on what is produced to its topics, before it is stored; with --derive on what is
stored and committed, and what it makes goes to its outputs.")]
pub(super) struct TransformArgs {
    /// The node's HTTP address.
    #[arg(long, global = true, default_value = "http://127.0.0.1:9644", value_name = "URL")]
    http: String,
    #[command(flatten)]
    login: HttpLogin,
    #[command(subcommand)]
    command: TransformCommand,
}

#[derive(Debug, Subcommand)]
enum TransformCommand {
    /// Put a module in force, in place of one of the same name.
    // Its own --version is that of the transform.
    #[command(disable_version_flag = true)]
    Deploy(Box<DeployArgs>),
    /// List all transforms and what they did since the node started.
    List,
    /// Show everything about a transform.
    Describe {
        /// Its name.
        name: String,
    },
    /// Take a transform out of force.
    Delete {
        /// Its name.
        name: String,
    },
    /// Let records pass a transform as if it were not there.
    Pause {
        /// Its name.
        name: String,
    },
    /// Put a paused transform in force again.
    Resume {
        /// Its name.
        name: String,
    },
    /// Change settings or limits of a transform: a new version with the same module.
    #[command(disable_version_flag = true)]
    Alter(AlterArgs),
    /// Put a canary in force on all partitions.
    Promote {
        /// Its name.
        name: String,
    },
    /// Take the canary out of force, or without one put the previous version in force again.
    Rollback {
        /// Its name.
        name: String,
    },
    /// Show what a transform logged.
    Logs(logs::LogsArgs),
    /// Make a project for a module, which builds at once.
    Init(project::InitArgs),
    /// Build a project's module.
    Build(project::BuildArgs),
    /// Run a module against the cases in a file beside it.
    Test(check::TestArgs),
    /// See what a module would do with real records, and at what cost.
    Try(Box<trial::TryArgs>),
    /// Send records that a transform failed on back to where they came from.
    Replay(Box<replay::ReplayArgs>),
    /// Make a key to sign modules with.
    Keygen(sign::KeygenArgs),
    /// Sign a module, for nodes that demand it.
    Sign(sign::SignArgs),
}

#[derive(Debug, Args)]
struct AlterArgs {
    /// Its name.
    name: String,
    /// A setting to add or replace, KEY=VALUE; may be repeated.
    #[arg(long = "set", short, value_name = "KEY=VALUE", value_parser = key_value)]
    settings: Vec<(String, String)>,
    /// A setting or limit to take away; may be repeated.
    #[arg(long, value_name = "KEY")]
    unset: Vec<String>,
    /// A limit to add or replace, NAME=NUMBER; may be repeated.
    #[arg(long = "limit", value_name = "NAME=NUMBER", value_parser = key_number)]
    limits: Vec<(String, u64)>,
    /// A label for the new version.
    #[arg(long)]
    version: Option<String>,
}

#[derive(Debug, Args)]
struct DeployArgs {
    /// A name for it: letters, digits, dots, dashes, underscores.
    name: String,
    /// The module, a .wasm file, or a project in which it was built.
    #[arg(long, short, value_name = "FILE")]
    module: PathBuf,
    /// A topic that it runs on; may be repeated.
    #[arg(long = "topic", short, required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Another topic that it may send records to; may be repeated.
    #[arg(long = "output", value_name = "TOPIC")]
    outputs: Vec<String>,
    /// A setting for the module, KEY=VALUE; may be repeated.
    #[arg(long = "set", short, value_name = "KEY=VALUE", value_parser = key_value)]
    settings: Vec<(String, String)>,
    /// A limit, NAME=NUMBER: memory_bytes, cpu_ms_per_batch, output_ratio, state_bytes,
    /// watermark_delay_ms, watermark_ahead_ms_max (0: no bound), idle_timeout_ms, rollback_error_percent (0: never),
    /// rollback_min_records; may be repeated.
    #[arg(long = "limit", value_name = "NAME=NUMBER", value_parser = key_number)]
    limits: Vec<(String, u64)>,
    /// A label for this version of it.
    #[arg(long, default_value = "1")]
    version: String,
    /// What happens to a record that the module fails on.
    #[arg(long, value_enum, default_value_t = Action::DeadLetter)]
    on_failure: Action,
    /// How often such a record is tried again first.
    #[arg(long, default_value_t = 0)]
    retries: u32,
    /// Where failed records go [default: the topic with .dead-letter behind].
    #[arg(long, value_name = "TOPIC")]
    dead_letter_topic: Option<String>,
    /// Transforms of a topic run in ascending order.
    #[arg(long, default_value_t = 0)]
    order: i32,
    /// Run on what is stored and committed; what the module keeps goes to the first output.
    #[arg(long, requires = "outputs")]
    derive: bool,
    /// Where to begin with --derive: latest, earliest, or a time in ms since 1970 [default: latest].
    #[arg(long, value_name = "START", requires = "derive", allow_negative_numbers = true)]
    from: Option<Start>,
    /// Send records for other topics to the partition of their key.
    #[arg(long)]
    route_by_key: bool,
    /// With --derive and several topics: partitions of the same number share one state, so that
    /// records of one topic are joined with those of another.
    #[arg(long, requires = "derive")]
    join: bool,
    /// Try it on this share of the partitions first, 1 to 99, beside the version in force.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=99))]
    canary: Option<u8>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, for example above=70")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn key_number(text: &str) -> Result<(String, u64), String> {
    let (key, value) = key_value(text)?;
    let number =
        value.replace('_', "").parse().map_err(|_| format!("{value:?} is not a number"))?;
    Ok((key, number))
}

/// Runs the command.
pub(super) fn run(args: TransformArgs, json: bool) -> Result<(), CliError> {
    let node = HttpClient::new(&args.http).logged_in(&args.login)?;
    match args.command {
        TransformCommand::Deploy(args) => deploy(&node, *args, json),
        TransformCommand::List => list(&node.get::<Vec<Shown>>("/v1/transforms")?, json),
        TransformCommand::Describe { name } => describe(&node.get(&path(&name, "")?)?, json),
        TransformCommand::Delete { name } => {
            node.delete(&path(&name, "")?)?;
            said(json, "deleted", &name)
        }
        TransformCommand::Pause { name } => {
            node.post(&path(&name, "/pause")?)?;
            said(json, "paused", &name)
        }
        TransformCommand::Resume { name } => {
            node.post(&path(&name, "/resume")?)?;
            said(json, "resumed", &name)
        }
        TransformCommand::Alter(args) => alter(&node, args, json),
        TransformCommand::Promote { name } => {
            node.post(&path(&name, "/promote")?)?;
            said(json, "promoted", &name)
        }
        TransformCommand::Rollback { name } => {
            node.post(&path(&name, "/rollback")?)?;
            said(json, "rolled back", &name)
        }
        TransformCommand::Logs(args) => logs::run(&node, &args, json),
        TransformCommand::Init(args) => project::init(&args, json),
        TransformCommand::Build(args) => project::build(&args, json),
        TransformCommand::Test(args) => session::block_on(check::run(args, json)),
        TransformCommand::Try(args) => session::block_on(trial::run(*args, json)),
        TransformCommand::Keygen(args) => sign::keygen(&args, json),
        TransformCommand::Sign(args) => sign::run(&args, json),
        TransformCommand::Replay(args) => session::block_on(replay::run(*args, json)),
    }
}

/// The path of a transform; a name that could not be one never becomes part of a URL.
fn path(name: &str, rest: &str) -> Result<String, CliError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match !name.is_empty() && name.chars().all(plain) {
        true => Ok(format!("/v1/transforms/{name}{rest}")),
        false => Err(CliError::usage(format!("{name:?} is not the name of a transform"))),
    }
}

fn said(json: bool, what: &str, name: &str) -> Result<(), CliError> {
    if json {
        return text::print_json(&serde_json::json!({ "transform": name, "done": what }));
    }
    text::print(&format!("{what} transform {name}\n"))
}

fn deploy(node: &HttpClient, args: DeployArgs, json: bool) -> Result<(), CliError> {
    let module = read_module(&project::module_of(&args.module)?)?;
    let description = Description {
        name: args.name,
        version: args.version,
        topics: args.topics,
        outputs: args.outputs,
        settings: args.settings.into_iter().collect::<BTreeMap<_, _>>(),
        limits: args.limits.into_iter().collect::<BTreeMap<_, _>>(),
        on_failure: args.on_failure,
        retries: args.retries,
        dead_letter_topic: args.dead_letter_topic,
        order: args.order,
        mode: if args.derive { ModeName::Derive } else { ModeName::Inline },
        start: args.from,
        route_by_key: args.route_by_key,
        state_scope: if args.join { StateScope::Topics } else { StateScope::Topic },
    };
    let header =
        serde_json::to_string(&description).map_err(|e| CliError::failed(e.to_string()))?;
    let url = match args.canary {
        Some(percent) => format!("/v1/transforms?canary_percent={percent}"),
        None => "/v1/transforms".to_owned(),
    };
    let shown: Shown = node.post_bytes(&url, (DEPLOY_HEADER, &ascii(&header)), &module)?;
    if json {
        return text::print_json(&shown);
    }
    let (name, topics) = (&shown.description.name, shown.description.topics.join(", "));
    match args.canary {
        Some(percent) => text::print(&format!(
            "version {} of transform {name} runs on {percent} % of the partitions of {topics}; then \
             `millpond transform promote {name}` or `rollback {name}`\n",
            shown.canary.map(|canary| canary.description.version).unwrap_or_default(),
        )),
        None => text::print(&format!("deployed transform {name} on {topics}\n")),
    }
}

fn alter(node: &HttpClient, args: AlterArgs, json: bool) -> Result<(), CliError> {
    let alteration = Alteration {
        version: args.version,
        settings: args.settings.into_iter().collect(),
        unset: args.unset,
        limits: args.limits.into_iter().collect(),
    };
    let shown: Shown = node.patch(&path(&args.name, "")?, &alteration)?;
    if json {
        return text::print_json(&shown);
    }
    text::print(&format!("altered transform {}: deployment {}\n", args.name, shown.id))
}

fn read_module(path: &Path) -> Result<Vec<u8>, CliError> {
    std::fs::read(path).map_err(|e| {
        CliError::usage(format!("cannot read the module {}: {e}", path.display()))
            .hint("`millpond transform build` builds a project's module")
    })
}

/// JSON in ASCII, as a header must be.
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c.is_ascii() {
            true => out.push(c),
            false => c
                .encode_utf16(&mut [0; 2])
                .iter()
                .for_each(|unit| out.push_str(&format!("\\u{unit:04x}"))),
        }
    }
    out
}

fn list(all: &[Shown], json: bool) -> Result<(), CliError> {
    if json {
        return text::print_json(&all);
    }
    if all.is_empty() {
        return text::print(
            "There are no transforms. `millpond transform deploy --help` shows how to add one.\n",
        );
    }
    let mut table = Table::new([
        "NAME", "VERSION", "TOPICS", "STATE", "IN", "KEPT", "DROPPED", "EMITTED", "FAILED",
    ]);
    for shown in all {
        let stats = &shown.stats;
        table.row([
            shown.description.name.clone(),
            shown.description.version.clone(),
            shown.description.topics.join(","),
            state(shown).into(),
            stats.records_in.to_string(),
            stats.records_kept.to_string(),
            stats.records_dropped.to_string(),
            stats.records_emitted.to_string(),
            stats.records_failed.to_string(),
        ]);
    }
    text::print(&table.render())
}

fn state(shown: &Shown) -> &'static str {
    match (&shown.fault, shown.paused, &shown.canary) {
        (Some(_), ..) => "broken",
        (None, true, _) => "paused",
        (None, false, Some(_)) => "canary",
        (None, false, None) => "running",
    }
}

fn describe(shown: &Shown, json: bool) -> Result<(), CliError> {
    if json {
        return text::print_json(shown);
    }
    let d = &shown.description;
    let mut out = format!("transform {} version {}, {}\n", d.name, d.version, state(shown));
    let mut line = |label: &str, value: &str| out.push_str(&format!("  {label:<12}{value}\n"));
    if let Some(fault) = &shown.fault {
        line("fault", fault);
    }
    line("topics", &d.topics.join(", "));
    if d.mode == ModeName::Derive {
        line("mode", "derive");
    }
    if !d.outputs.is_empty() {
        line("outputs", &d.outputs.join(", "));
    }
    line("module", &shown.module);
    for (key, value) in &d.settings {
        line("setting", &format!("{key} = {value}"));
    }
    for (key, value) in &d.limits {
        line("limit", &format!("{key} = {value}"));
    }
    if let Some(previous) = &shown.previous {
        line("previous", &format!("version {}, module {}", previous.version, previous.module));
    }
    if let Some(canary) = &shown.canary {
        let (d, s) = (&canary.description, &canary.stats);
        line("canary", &format!("version {} on {} %", d.version, canary.share_percent));
        line("", &format!("{} in, {} failed", s.records_in, s.records_failed));
    }
    describe_lanes(&shown.lanes, &mut line);
    let s = &shown.stats;
    line(
        "batches",
        &format!(
            "{}, {} faults of the module, {} for its processor time",
            s.batches, s.faults, s.overruns
        ),
    );
    line(
        "records",
        &format!(
            "{} in: {} kept, {} changed, {} dropped, {} failed; {} made, {} of them for other topics",
            s.records_in,
            s.records_kept,
            s.records_changed,
            s.records_dropped,
            s.records_failed,
            s.records_emitted,
            s.records_routed
        ),
    );
    for (reason, count) in &s.failures {
        line("", &format!("{count} failed: {reason}"));
    }
    line(
        "memory",
        &format!("{} instance, {} state", text::bytes(s.memory_bytes), text::bytes(s.state_bytes)),
    );
    line("cpu", &format!("{} ms", s.cpu_ns / 1_000_000));
    text::print(&out)
}

fn describe_lanes(lanes: &[ShownLane], line: &mut impl FnMut(&str, &str)) {
    for lane in lanes {
        let place = format!("{}-{}", lane.topic, lane.partition);
        let (next, lag) = (lane.next_offset, lane.lag);
        line("lane", &format!("{place} {}, next {next}, {lag} behind", lane.state));
        if let Some(fault) = &lane.fault {
            let again = lane.pause_ms.map(|ms| format!(", again in {ms} ms")).unwrap_or_default();
            line("", &format!("{} failures in a row{again}: {fault}", lane.failures));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_ascii_and_still_the_same_json() {
        let json = r#"{"a":"gr\u00fc\u00df"}"#;
        let text = ascii("{\"a\":\"gr\u{fc}\u{df} \u{1f600}\"}");
        assert!(text.is_ascii());
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap()["a"],
            "gr\u{fc}\u{df} \u{1f600}"
        );
        assert!(serde_json::from_str::<serde_json::Value>(json).is_ok());
    }

    #[test]
    fn names_that_are_none_never_become_paths() {
        assert_eq!(path("hot", "/logs").unwrap(), "/v1/transforms/hot/logs");
        for name in ["", "a/b", "a b", "..%2f", "a?b"] {
            assert!(path(name, "").is_err(), "{name}");
        }
    }

    #[test]
    fn limits_are_numbers() {
        assert_eq!(key_number("memory_bytes=16_777_216"), Ok(("memory_bytes".into(), 16_777_216)));
        assert!(key_number("memory_bytes=16MiB").is_err());
    }
}
