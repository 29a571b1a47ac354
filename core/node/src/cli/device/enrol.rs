//! What a device does for its certificate. The key is made here and never leaves: it lies in one file with its
//! certificate, which its owner alone reads, and is written whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use millpond_security::device_ca::{DeviceKey, DeviceName, Token, check_grant, device_name};
use millpond_security::{CertificateFacts, Fingerprint, load_certificates};
use millpond_wire::limits::DEVICE_FILE_BYTES_MAX;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::json;

use super::gateway::Gateway;
use super::{CliError, failed, minute, told};
use millpond_http::{Enrolled, Enrolment, Renewal, Route};

/// The authority's certificate, beside the device's.
const AUTHORITY_FILE: &str = "ca.pem";

#[derive(Debug, Args)]
pub(super) struct EnrolArgs {
    /// What `millpond device invite` printed; `-` reads it from standard input.
    #[arg(long, value_name = "TOKEN")]
    token: String,
    /// Where the gateway is: https://HOST:PORT of its [devices] address, or http://HOST:PORT.
    #[arg(long, value_name = "URL")]
    gateway: String,
    /// Where NAME.pem (certificate and key) and ca.pem are written.
    #[arg(long, default_value = ".", value_name = "DIR")]
    out: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct RenewArgs {
    /// The device's NAME.pem, with certificate and key; it is replaced.
    file: PathBuf,
    /// Where the gateway is: https://HOST:PORT of its [devices] address, or http://HOST:PORT.
    #[arg(long, value_name = "URL")]
    gateway: String,
    /// PEM file of the authority [default: ca.pem beside the file].
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Only if the certificate ends within so many days.
    #[arg(long, value_name = "DAYS")]
    within: Option<u64>,
}

/// `millpond device enrol`.
pub(super) fn enrol(args: &EnrolArgs, json: bool) -> Result<(), CliError> {
    let token = token(&args.token)?;
    let gateway = Gateway::new(&args.gateway, token.authority())?;
    fs::create_dir_all(&args.out)?;
    let file = args.out.join(format!("{}.pem", token.name()));
    if file.exists() {
        let text = format!("{} is there already", file.display());
        return Err(CliError::failed(text).hint(
            "`millpond device renew` replaces it; or remove it, or choose another directory",
        ));
    }
    // Kept until there is a certificate: with the same key the same token may ask again, should the
    // answer be lost.
    let kept = args.out.join(format!("{}.key.new", token.name()));
    let key = match kept.exists() {
        true => DeviceKey::from_pem(&small(&kept)?).map_err(failed)?,
        false => {
            let key = DeviceKey::generate().map_err(failed)?;
            replace(&kept, &key.to_pem())?;
            key
        }
    };
    let request = key.request(token.name()).map_err(failed)?;
    let asked = Enrolment {
        name: token.name().to_string(),
        proof: BASE64.encode(token.proof(&request)),
        request: BASE64.encode(&request),
    };
    let given: Enrolled = gateway.post(Route::Enrol.path(), &asked)?;
    let until_s = take(&file, &given, token.authority(), token.name(), &key)?;
    replace(&args.out.join(AUTHORITY_FILE), &given.authority)?;
    fs::remove_file(&kept)?;
    done(json, "enrolled", token.name(), &file, until_s)
}

/// `millpond device renew`.
pub(super) fn renew(args: &RenewArgs, json: bool) -> Result<(), CliError> {
    let beside = || args.file.with_file_name(AUTHORITY_FILE);
    let authority = load_certificates(&args.ca.clone().unwrap_or_else(beside));
    let authority = authority.map_err(|e| CliError::failed(e.to_string()))?;
    let none = || CliError::failed(format!("{} holds no certificate", args.file.display()));
    let pinned = authority.first().map(Fingerprint::of).ok_or_else(none)?;
    let text = small(&args.file)?;
    let old = DeviceKey::from_pem(&text).map_err(failed)?;
    let certificate = CertificateDer::from_pem_slice(&text).map_err(|_| none())?;
    let name = device_name(&certificate).ok_or_else(|| {
        CliError::failed(format!("{} is of no device of a Millpond authority", args.file.display()))
    })?;
    let ends_s = CertificateFacts::read(&certificate).map_or(0, |facts| facts.not_after_s);
    if let Some(days) = args.within
        && super::now_s().saturating_add(days.saturating_mul(86_400)) < ends_s
    {
        return done(json, "kept", &name, &args.file, ends_s);
    }
    let key = DeviceKey::generate().map_err(failed)?;
    let request = key.request(&name).map_err(failed)?;
    let asked = Renewal {
        certificate: String::from_utf8_lossy(&pem_of(&text)).into_owned(),
        proof: BASE64.encode(old.renewal_proof(&request).map_err(failed)?),
        request: BASE64.encode(&request),
    };
    let given: Enrolled = Gateway::new(&args.gateway, pinned)?.post(Route::Renew.path(), &asked)?;
    let until_s = take(&args.file, &given, pinned, &name, &key)?;
    done(json, "renewed", &name, &args.file, until_s)
}

/// Checks what was given and puts it into the device's file with its key.
fn take(
    file: &Path,
    given: &Enrolled,
    pinned: Fingerprint,
    name: &DeviceName,
    key: &DeviceKey,
) -> Result<u64, CliError> {
    let no_pem = |_| CliError::failed("the gateway answered something else than certificates");
    let certificate =
        CertificateDer::from_pem_slice(given.certificate.as_bytes()).map_err(no_pem)?;
    let authority = CertificateDer::from_pem_slice(given.authority.as_bytes()).map_err(no_pem)?;
    check_grant(&certificate, &authority, pinned, name, key).map_err(failed)?;
    replace(file, &format!("{}{}", given.certificate, key.to_pem()))?;
    Ok(CertificateFacts::read(&certificate).map_or(0, |facts| facts.not_after_s))
}

fn done(
    json: bool,
    what: &str,
    name: &DeviceName,
    file: &Path,
    until_s: u64,
) -> Result<(), CliError> {
    let (shown, until) = (file.display(), minute(until_s));
    let value = json!({ "name": name.as_str(), "done": what, "file": shown.to_string(),
                        "not_after_s": until_s });
    told(json, value, &format!("{what} {name}: {shown}, good until {until} UTC\n"))
}

fn token(text: &str) -> Result<Token, CliError> {
    let mut read = String::new();
    if text == "-" {
        io::stdin().lock().take(DEVICE_FILE_BYTES_MAX).read_to_string(&mut read)?;
    }
    let text = if text == "-" { read.as_str() } else { text };
    text.parse().map_err(|error| CliError::usage(format!("--token: {error}")))
}

/// The certificate of a file without the key that stands beside it.
fn pem_of(text: &[u8]) -> Vec<u8> {
    const END: &[u8] = b"-----END CERTIFICATE-----\n";
    let begin = text.windows(27).position(|part| part == b"-----BEGIN CERTIFICATE-----");
    let rest = text.get(begin.unwrap_or(0)..).unwrap_or_default();
    let end = rest.windows(END.len()).position(|part| part == END);
    rest.get(..end.map_or(0, |at| at + END.len())).unwrap_or_default().to_vec()
}

fn small(path: &Path) -> Result<Vec<u8>, CliError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|f| f.take(DEVICE_FILE_BYTES_MAX).read_to_end(&mut bytes));
    read.map_err(|error| CliError::failed(format!("cannot read {}: {error}", path.display())))?;
    Ok(bytes)
}

/// Replaces a file that its owner alone reads, whole and durably.
fn replace(path: &Path, text: &str) -> Result<(), CliError> {
    let write = || {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let beside = path.with_file_name(name);
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(|error| CliError::failed(format!("cannot write {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_of_a_file_is_the_certificate_alone() {
        let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let key = "-----BEGIN PRIVATE KEY-----\nBBBB\n-----END PRIVATE KEY-----\n";
        for both in [format!("{certificate}{key}"), format!("{key}{certificate}")] {
            assert_eq!(pem_of(both.as_bytes()), certificate.as_bytes());
        }
        assert_eq!(pem_of(key.as_bytes()), b"");
    }
}
