//! `millpond device`: an authority of one's own for the certificates of devices. What changes the authority works on
//! its directory, on the gateway; what the device does works on the device, and its key stays there.

mod enrol;
mod gateway;

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use millpond_security::HeldClock;
use millpond_security::device_ca::{CaError, Device, DeviceCa, DeviceName, Standing};
use serde_json::{Value, json};

use super::table::Table;
use super::{CliError, text};

/// `millpond device`.
#[derive(Debug, Args)]
#[command(after_help = "Examples, on the gateway:
  millpond device ca init --host gateway.plant      an authority in ./millpond-ca, and server.pem
  millpond device invite pump-7 --valid 8h          prints a token that is good once
  millpond device list
  millpond device revoke pump-7                     its connections are closed within seconds

On the device:
  millpond device enrol --token TOKEN --gateway https://gateway.plant:9645
  millpond produce line-1 -b quic://gateway.plant:9093 --ca ca.pem \\
      --certificate pump-7.pem --private-key pump-7.pem
  millpond device renew pump-7.pem --gateway https://gateway.plant:9645

The node's configuration, with [devices] ca_dir and address and a listener that asks for certificates,
is printed by `millpond device ca init`. firmware-notes/identity.md tells all of it.")]
pub(super) struct DeviceArgs {
    #[command(subcommand)]
    command: DeviceCommand,
}

#[derive(Debug, Subcommand)]
enum DeviceCommand {
    /// Make and show the authority, and certificates for the node itself.
    #[command(subcommand)]
    Ca(CaCommand),
    /// Let devices enrol, each once: prints their tokens.
    Invite {
        /// Their names: letters, digits, `.`, `_` and `-`.
        #[arg(required = true)]
        names: Vec<DeviceName>,
        /// How long the invitations wait: 90s, 30m, 8h, 7d.
        #[arg(long, default_value = "1h", value_name = "TIME", value_parser = seconds)]
        valid: u64,
        #[command(flatten)]
        place: Place,
    },
    /// List devices and invitations.
    List(Place),
    /// Revoke all certificates of devices, and their invitations.
    Revoke {
        /// Their names.
        #[arg(required = true)]
        names: Vec<DeviceName>,
        #[command(flatten)]
        place: Place,
    },
    /// On the device: make a key and have it certified for an invitation.
    Enrol(enrol::EnrolArgs),
    /// On the device: a new key and a new certificate, by the one that is still good.
    Renew(enrol::RenewArgs),
}

#[derive(Debug, Subcommand)]
enum CaCommand {
    /// Make an authority, its empty revocation list, and a certificate for the node.
    Init(HostArgs),
    /// Make the node's certificate anew; a running node takes it by itself.
    ServerCert(HostArgs),
    /// Show the authority.
    Show(Place),
}

#[derive(Debug, Args)]
struct HostArgs {
    /// A name or address by which devices reach the node, beside localhost; may be repeated.
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Place {
    /// The authority's directory, [devices] ca_dir of the node.
    #[arg(long, default_value = "./millpond-ca", value_name = "DIR")]
    ca_dir: PathBuf,
}

impl Place {
    fn open(&self) -> Result<DeviceCa, CliError> {
        DeviceCa::open(&self.ca_dir).map_err(failed)
    }
}

fn failed(error: CaError) -> CliError {
    let told = CliError::failed(error.to_string());
    match error {
        CaError::Absent(_) => told.hint("--ca-dir names another directory"),
        CaError::File { .. } => {
            told.hint("the directory belongs to the node's user, and to nobody else")
        }
        _ => told,
    }
}

/// A time with its unit, in seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || "write a time as 90s, 30m, 8h or 7d".to_owned();
    let unit = match text.chars().last().ok_or_else(wrong)? {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    number.checked_mul(unit).filter(|seconds| *seconds > 0).ok_or_else(wrong)
}

/// The time for certificates, by the rule of `millpond_security::clock`.
fn now_s() -> u64 {
    let wall = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    HeldClock::new(wall, 0).now_s()
}

/// A time in seconds since 1970 for people, to the minute.
fn minute(seconds: u64) -> String {
    let ms = i64::try_from(seconds.saturating_mul(1_000)).unwrap_or(i64::MAX);
    text::utc(ms).chars().take(16).collect()
}

/// Runs the command.
pub(super) fn run(args: DeviceArgs, json: bool) -> Result<(), CliError> {
    match args.command {
        DeviceCommand::Ca(CaCommand::Init(args)) => {
            let ca = DeviceCa::init(&args.place.ca_dir, &args.hosts, now_s()).map_err(failed)?;
            show(&ca, &args.place, json, true)
        }
        DeviceCommand::Ca(CaCommand::ServerCert(args)) => {
            let ca = args.place.open()?;
            let file = ca.server_certificate(&args.hosts, now_s()).map_err(failed)?;
            let file = file.display();
            told(json, json!({ "file": file.to_string() }), &format!("wrote {file}\n"))
        }
        DeviceCommand::Ca(CaCommand::Show(place)) => show(&place.open()?, &place, json, false),
        DeviceCommand::Invite { names, valid, place } => invite(&names, valid, &place, json),
        DeviceCommand::List(place) => list(&place.open()?.devices(now_s()).map_err(failed)?, json),
        DeviceCommand::Revoke { names, place } => revoke(&names, &place, json),
        DeviceCommand::Enrol(args) => enrol::enrol(&args, json),
        DeviceCommand::Renew(args) => enrol::renew(&args, json),
    }
}

fn told(json: bool, value: Value, said: &str) -> Result<(), CliError> {
    if json { text::print_json(&value) } else { text::print(said) }
}

fn show(ca: &DeviceCa, place: &Place, json: bool, is_new: bool) -> Result<(), CliError> {
    let (fingerprint, ends) = (ca.fingerprint(), minute(ca.not_after_s()));
    let dir = place.ca_dir.canonicalize().unwrap_or_else(|_| place.ca_dir.clone());
    let dir = dir.display();
    let value = json!({ "ca_dir": dir.to_string(), "fingerprint": fingerprint.to_string(),
                        "not_after_s": ca.not_after_s() });
    let mut said =
        format!("authority    {dir}\nSHA-256      {fingerprint}\nends         {ends} UTC\n");
    if is_new {
        said.push_str(&format!(
            "\nFor the node's configuration:\n\n\
             [devices]\nca_dir = \"{dir}\"\naddress = \"0.0.0.0:9645\"\n\n\
             [[listeners]]\nname = \"devices\"\naddress = \"0.0.0.0:9093\"\nadvertised = \"HOST:9093\"\n\
             tcp = \"tls\"\ncertificate = \"{dir}/server.pem\"\nprivate_key = \"{dir}/server.pem\"\n\
             client_auth = \"required\"\nclient_ca = \"{dir}/ca.pem\"\nclient_crl = \"{dir}/ca.crl\"\n\n\
             Devices are User:millpond:device:NAME; `millpond acl add` says what they may.\n\
             Keep a copy of the directory where nobody else reads it.\n"
        ));
    }
    told(json, value, &said)
}

fn invite(names: &[DeviceName], valid_s: u64, place: &Place, json: bool) -> Result<(), CliError> {
    let ca = place.open()?;
    let mut made = Vec::new();
    for name in names {
        let token = ca.invite(name, valid_s, now_s()).map_err(failed)?;
        if !json {
            text::print(&format!("{name} {token}\n"))?;
        }
        made.push(json!({ "name": name.as_str(), "token": token.to_string() }));
    }
    if json {
        return text::print_json(&made);
    }
    eprintln!(
        "Each token is good once. On the device: millpond device enrol --token TOKEN --gateway URL"
    );
    Ok(())
}

fn revoke(names: &[DeviceName], place: &Place, json: bool) -> Result<(), CliError> {
    let ca = place.open()?;
    for name in names {
        let revoked = ca.revoke(name, now_s()).map_err(failed)?;
        let value = json!({ "name": name.as_str(), "certificates": revoked });
        told(json, value, &format!("revoked {revoked} certificates of device {name}\n"))?;
    }
    Ok(())
}

fn list(devices: &[Device], json: bool) -> Result<(), CliError> {
    if json {
        let shown = devices.iter().map(|device| {
            json!({ "name": device.name.as_str(), "state": state(device.standing),
                    "certificates": device.certificates, "until_s": device.until_s,
                    "serial": device.serial })
        });
        return text::print_json(&shown.collect::<Vec<_>>());
    }
    if devices.is_empty() {
        return text::print(
            "There are no devices. `millpond device invite NAME` lets one enrol.\n",
        );
    }
    let mut table = Table::new(["DEVICE", "STATE", "CERTIFICATES", "UNTIL (UTC)", "SERIAL"]);
    for device in devices {
        table.row([
            device.name.to_string(),
            state(device.standing).to_owned(),
            device.certificates.to_string(),
            minute(device.until_s),
            device.serial.clone().unwrap_or_default(),
        ]);
    }
    text::print(&table.render())
}

fn state(standing: Standing) -> &'static str {
    match standing {
        Standing::Invited => "invited",
        Standing::Valid => "valid",
        Standing::Expired => "expired",
        Standing::Revoked => "revoked",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, s) in [("90s", 90), ("30m", 1_800), ("8h", 28_800), ("7d", 604_800)] {
            assert_eq!(seconds(text), Ok(s));
        }
        for wrong in ["", "8", "h", "-1h", "0s", "8é", "99999999999999999999d", "9999999999999999d"]
        {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
