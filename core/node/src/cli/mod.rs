//! The command line: what can be typed, and nothing of how it is done. Each command has a file of
//! its own.

mod acl;
mod compile;
mod consume;
mod device;
mod doctor;
mod error;
mod expiry;
mod group;
mod http_client;
mod json_record;
mod log;
mod produce;
mod session;
mod table;
mod text;
mod topic;
mod transform;
mod user;
mod wear;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use millpond_client::Mechanism;

pub(crate) use error::CliError;
pub(crate) use http_client::HttpClient;
pub(crate) use text::{bytes, print, print_json};

use crate::config::{Config, Overrides, reference};
use crate::demo::{self, DemoArgs};

/// An edge streaming broker: the Kafka protocol over TCP and QUIC, WebAssembly transforms inline,
/// every acknowledged record on flash.
#[derive(Debug, Parser)]
#[command(name = "millpond", version, max_term_width = 110)]
#[command(after_help = "Examples:
  millpond serve                                  start a node, data in ./millpond-data
  echo hello | millpond produce greetings         write one record
  millpond consume greetings --from-beginning     read it back
  millpond demo                                   a minute of real telemetry, filtered and shown")]
pub(crate) struct Cli {
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node until SIGTERM or Ctrl-C.
    Serve(ServeArgs),
    /// Create, list, describe and delete topics.
    Topic(topic::TopicArgs),
    /// Write records from standard input or a file, one per line.
    Produce(produce::ProduceArgs),
    /// Print the records of a topic.
    Consume(consume::ConsumeArgs),
    /// List and describe consumer groups.
    Group(group::GroupArgs),
    /// Deploy, list, describe and delete transforms, and read their logs.
    Transform(transform::TransformArgs),
    /// Make, list and delete users, for listeners that ask who is there.
    User(user::UserArgs),
    /// Say who may do what.
    Acl(acl::AclArgs),
    /// Certificates for devices: an authority of your own, invitations, enrolment, revocation.
    Device(device::DeviceArgs),
    /// Show a running pipeline on this machine: telemetry in over QUIC, filtered, consumed.
    Demo(DemoArgs),
    /// Examine this machine: kernel, io_uring, file system, how long a durable write takes, and what
    /// a running node's load does to its card.
    Doctor(doctor::DoctorArgs),
    /// Look into the data of a stopped node: show it, check it, repair it.
    Log(log::LogArgs),
    /// Print every configuration key with its default, or check a file.
    Config(ConfigArgs),
    /// Print the version.
    Version,
    /// Compile a module for the node that started this.
    #[command(hide = true, name = crate::transforms::COMPILE_COMMAND)]
    CompileModule(compile::CompileArgs),
}

/// How `millpond serve` is started.
#[derive(Clone, Debug, Default, Args)]
#[command(after_help = "Examples:
  millpond serve
  millpond serve --data-dir /var/lib/millpond --listen 127.0.0.1:19092
  millpond serve --config /etc/millpond.toml

Without --config: Kafka on 127.0.0.1:9092 (TCP and QUIC), HTTP on 127.0.0.1:9644, and topics
are created on first use.")]
pub(crate) struct ServeArgs {
    /// Configuration file; `millpond config` prints one.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where the data lives [default: ./millpond-data].
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<String>,
    /// Kafka's address, for TCP and, the same number, for QUIC [default: 127.0.0.1:9092].
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Option<String>,
    /// The address that clients are told [default: that of --listen].
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) advertise: Option<String>,
    /// The address of metrics, health and administration [default: 127.0.0.1:9644].
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) http: Option<String>,
}

/// What `millpond config` prints.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  millpond config > millpond.toml         every key with its default
  millpond config --check millpond.toml   find mistakes without starting")]
struct ConfigArgs {
    /// Check this file instead of printing the reference.
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
}

/// Where the broker is.
#[derive(Clone, Debug, Args)]
pub(crate) struct Bootstrap {
    /// The broker: HOST:PORT, or tcp://, tls:// or quic://HOST:PORT.
    #[arg(long, short, global = true, default_value = "127.0.0.1:9092", value_name = "ADDR")]
    pub(crate) bootstrap: String,
    /// SHA-256 of the certificate to trust, for tls:// and quic:// (a node prints its own at
    /// start).
    #[arg(long, global = true, value_name = "SHA256")]
    pub(crate) fingerprint: Option<String>,
    /// PEM file of the authority to trust, for tls:// and quic://.
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "fingerprint")]
    pub(crate) ca: Option<PathBuf>,
    /// PEM file of the certificate to show, where the listener asks for one.
    #[arg(long, global = true, value_name = "FILE", requires = "private_key")]
    pub(crate) certificate: Option<PathBuf>,
    /// PEM file of its private key.
    #[arg(long, global = true, value_name = "FILE", requires = "certificate")]
    pub(crate) private_key: Option<PathBuf>,
    /// Who to log in as (SASL).
    #[arg(long = "user", id = "login-user", global = true, value_name = "NAME")]
    pub(crate) login: Option<String>,
    /// File with the password for --user in its first line [default: the variable
    /// MILLPOND_PASSWORD].
    #[arg(long, global = true, value_name = "FILE", requires = "login-user")]
    pub(crate) user_password_file: Option<PathBuf>,
    /// How --user logs in: PLAIN (within tls:// or quic:// only), SCRAM-SHA-256 or SCRAM-SHA-512.
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        requires = "login-user",
        default_value = "PLAIN"
    )]
    pub(crate) login_mechanism: Mechanism,
}

impl ServeArgs {
    /// The configuration that these arguments stand for.
    pub(crate) fn load(&self) -> Result<Config, CliError> {
        let overrides = Overrides {
            data_dir: self.data_dir.clone(),
            listen: self.listen.clone(),
            advertise: self.advertise.clone(),
            http: self.http.clone(),
        };
        Config::load(self.config.as_deref(), &overrides).map_err(|e| CliError::usage(e.to_string()))
    }
}

/// Runs what was typed. The exit code: 0 done, 1 failed, 2 typed wrongly.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli.command, cli.json) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(cli.json),
    }
}

fn dispatch(command: Command, json: bool) -> Result<(), CliError> {
    match command {
        Command::Serve(args) => crate::serve::run(&args.load()?),
        Command::Topic(args) => session::block_on(topic::run(args, json)),
        Command::Produce(args) => session::block_on(produce::run(args, json)),
        Command::Consume(args) => session::block_on(consume::run(args, json)),
        Command::Group(args) => session::block_on(group::run(args, json)),
        Command::Transform(args) => transform::run(args, json),
        Command::User(args) => session::block_on(user::run(args, json)),
        Command::Acl(args) => session::block_on(acl::run(args, json)),
        Command::Device(args) => device::run(args, json),
        Command::Demo(args) => demo::run(&args, json),
        Command::Doctor(args) => doctor::run(&args, json),
        Command::Log(args) => log::run(&args, json),
        Command::Config(args) => config(&args, json),
        Command::Version => version(json),
        Command::CompileModule(args) => compile::run(&args),
    }
}

fn config(args: &ConfigArgs, json: bool) -> Result<(), CliError> {
    let Some(file) = &args.check else {
        return text::print(&reference());
    };
    let config = Config::load(Some(file), &Overrides::default())
        .map_err(|e| CliError::usage(e.to_string()))?;
    if json {
        return text::print_json(&config);
    }
    text::print(&format!("{} is a valid configuration.\n", file.display()))
}

fn version(json: bool) -> Result<(), CliError> {
    let version = env!("CARGO_PKG_VERSION");
    if json {
        return text::print_json(&serde_json::json!({ "version": version }));
    }
    text::print(&format!("millpond {version}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_needs_no_argument_and_takes_each() {
        assert!(Cli::try_parse_from(["millpond", "serve"]).is_ok());
        let all = "millpond serve --config f --data-dir d --listen a:1 --advertise b:2 --http c:3";
        assert!(Cli::try_parse_from(all.split(' ')).is_ok());
    }

    #[test]
    fn json_is_accepted_everywhere() {
        for line in ["topic list -b h:1", "topic -b h:1 list", "group list --bootstrap h:1"] {
            assert!(Cli::try_parse_from(format!("millpond {line}").split(' ')).is_ok(), "{line}");
        }
        for command in [
            "topic list",
            "group list",
            "transform list",
            "version",
            "device list",
            "doctor",
            "config",
            "log verify",
        ] {
            let line = format!("millpond {command} --json");
            assert!(Cli::try_parse_from(line.split(' ')).unwrap().json, "{command}");
        }
    }
}
