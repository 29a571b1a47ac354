//! A small authority for people who have none: a directory that its owner alone can look into.
//!
//! ```text
//! ca.pem  ca.key      the authority
//! ca.crl              what is revoked, signed anew whenever that changes
//! server.pem          a certificate for this node with its key and the authority's certificate
//! devices/NAME.json   what was issued to whom
//! invites/NAME.json   who may enrol: the digest of a token, and until when
//! ```
//! A device enrols with a token, once, and makes its key itself; it renews with a certificate that still
//! counts. Certificates carry the URI `millpond:device:NAME`. Must never issue a certificate by
//! what a request says of names or dates, never keep a token, never let a key out.

mod issue;
mod register;
mod request;
#[cfg(test)]
mod tests;
mod token;

pub use request::{DeviceKey, RequestedKey};
pub use token::{DeviceName, NoDeviceName, NoToken, Token};

use crate::certificate_facts::{CertificateFacts, is_issued_by};
use crate::certificate_names::CertificateNames;
use crate::files;
use crate::fingerprint::Fingerprint;
use crate::pem::{PEM_FILE_BYTES_MAX, load_certificates};
use crate::random::NoRandom;
use crate::signed::is_signed;
use issue::{DAY_S, URI_PREFIX};
use millpond_wire::limits::{
    DEVICE_CERTIFICATE_DAYS_MAX, DEVICE_CERTIFICATES_MAX, DEVICE_INVITE_S_MAX,
};
use register::{Invite, Issued, Record, Register, at};
use request::renewal_message;
use rustls_pki_types::CertificateDer;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The authority's certificate.
pub const AUTHORITY_FILE: &str = "ca.pem";
/// Its revocation list.
pub const LIST_FILE: &str = "ca.crl";
/// A certificate for the node, with its key.
pub const SERVER_FILE: &str = "server.pem";
const KEY_FILE: &str = "ca.key";
/// Names that a server's certificate always has.
const ALWAYS_NAMED: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Why the authority does not do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file could not be read or written.
    #[error("cannot {doing} {}: {source}", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is one already.
    #[error("{} holds an authority already; its devices would be lost with it", .0.display())]
    Exists(PathBuf),
    /// There is none.
    #[error("{} holds no authority; `millpond device ca init` makes one", .0.display())]
    Absent(PathBuf),
    /// A file is not what it was.
    #[error("{0} of the authority is damaged; restore it from a copy")]
    Damaged(&'static str),
    /// Neither a DNS name nor an address.
    #[error("{0:?} is neither a DNS name nor an address")]
    Host(String),
    /// As many as there may be.
    #[error("there are {most} {what} already, which is the limit")]
    Full {
        /// Of what.
        what: &'static str,
        /// So many.
        most: usize,
    },
    /// Of no use as it is.
    #[error("{0}")]
    Invalid(&'static str),
    /// Whoever asks may not have it.
    #[error("refused: {0}")]
    Refused(&'static str),
    /// The operator must do something else first.
    #[error("{0}")]
    State(String),
    /// The library, or the system, could not.
    #[error("cannot {doing}: {reason}")]
    Failed {
        /// What was tried.
        doing: &'static str,
        /// What was said.
        reason: String,
    },
}

impl CaError {
    pub(crate) fn failed(doing: &'static str, error: impl std::fmt::Display) -> Self {
        Self::Failed { doing, reason: error.to_string() }
    }
}

impl From<NoRandom> for CaError {
    fn from(error: NoRandom) -> Self {
        Self::failed("sign", error)
    }
}

/// How a device stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// May enrol.
    Invited,
    /// Has a certificate that counts.
    Valid,
    /// Its certificates have ended.
    Expired,
    /// Its certificates were revoked.
    Revoked,
}

/// A device, as the authority knows it. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: DeviceName,
    /// How it stands.
    pub standing: Standing,
    /// Certificates that have neither ended nor been revoked.
    pub certificates: usize,
    /// When the newest certificate ends, or the invitation.
    pub until_s: u64,
    /// Serial number of the newest, in hexadecimal.
    pub serial: Option<String>,
}

/// What a device is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// For whom.
    pub name: DeviceName,
    /// Its certificate, PEM.
    pub certificate: String,
}

/// An authority in its directory.
#[derive(Clone, Debug)]
pub struct DeviceCa {
    dir: PathBuf,
    certificate: CertificateDer<'static>,
}

impl DeviceCa {
    /// Makes an authority in an empty or new directory, with an empty revocation list and a certificate for
    /// a server of these names.
    ///
    /// # Errors
    /// [`CaError::Exists`], or what could not be done.
    pub fn init(dir: &Path, hosts: &[String], now_s: u64) -> Result<Self, CaError> {
        files::private_directory(dir).map_err(at("make", dir))?;
        let register = Register::lock(dir)?;
        if dir.join(AUTHORITY_FILE).exists() {
            return Err(CaError::Exists(dir.to_owned()));
        }
        let (certificate, key) = issue::authority(now_s)?;
        write(dir, KEY_FILE, &key, 0o600)?;
        // The certificate last: with it the authority is there.
        write(dir, AUTHORITY_FILE, &certificate, 0o644)?;
        drop(register);
        let made = Self::open(dir)?;
        made.publish(now_s)?;
        made.server_certificate(hosts, now_s)?;
        Ok(made)
    }

    /// The authority of a directory.
    ///
    /// # Errors
    /// [`CaError::Absent`], or what is wrong with it.
    pub fn open(dir: &Path) -> Result<Self, CaError> {
        let path = dir.join(AUTHORITY_FILE);
        if !path.exists() {
            return Err(CaError::Absent(dir.to_owned()));
        }
        let certificates = load_certificates(&path);
        let certificates =
            certificates.map_err(|error| CaError::failed("open the authority", error))?;
        let certificate =
            certificates.into_iter().next().ok_or(CaError::Damaged(AUTHORITY_FILE))?;
        Ok(Self { dir: dir.to_owned(), certificate })
    }

    /// SHA-256 of its certificate, which tokens carry.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// When it ends, in seconds since 1970.
    pub fn not_after_s(&self) -> u64 {
        CertificateFacts::read(&self.certificate).map_or(0, |facts| facts.not_after_s)
    }

    /// Its certificate, PEM.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn certificate_pem(&self) -> Result<String, CaError> {
        self.text(AUTHORITY_FILE)
    }

    /// Makes a certificate for a server of these names, and `localhost`, in place of the one before.
    ///
    /// # Errors
    /// [`CaError::Host`], or what could not be done.
    pub fn server_certificate(&self, hosts: &[String], now_s: u64) -> Result<PathBuf, CaError> {
        let mut names: Vec<String> = ALWAYS_NAMED.map(str::to_owned).to_vec();
        names.extend(hosts.iter().filter(|host| !ALWAYS_NAMED.contains(&host.as_str())).cloned());
        let _register = Register::lock(&self.dir)?;
        let made = issue::server(&self.signer()?, &names, now_s)?;
        write(&self.dir, SERVER_FILE, &(made + &self.certificate_pem()?), 0o600)?;
        Ok(self.dir.join(SERVER_FILE))
    }

    /// Invites a device to enrol within `valid_s`. An invitation of before does not count any more.
    ///
    /// # Errors
    /// If it has a certificate that counts, or there are too many.
    pub fn invite(&self, name: &DeviceName, valid_s: u64, now_s: u64) -> Result<Token, CaError> {
        if valid_s == 0 || valid_s > DEVICE_INVITE_S_MAX {
            return Err(CaError::Invalid(
                "an invitation waits for a second at least and 90 days at most",
            ));
        }
        let register = Register::lock(&self.dir)?;
        let record = register.device(name)?.unwrap_or_default();
        if record.certificates.iter().any(|one| one.counts(now_s)) {
            let text = format!("device {name} has a certificate that counts; revoke it first");
            return Err(CaError::State(text));
        }
        let token = Token::make(name.clone(), self.fingerprint())?;
        let digest = hex(&token.digest());
        let invite = Invite { digest, until_s: now_s.saturating_add(valid_s), used_by: None };
        match register.set_invite(name, &invite) {
            Err(CaError::Full { .. }) => {
                self.forget_old_invites(&register, now_s)?;
                register.set_invite(name, &invite)?;
            }
            set => set?,
        }
        Ok(token)
    }

    /// Gives a device its certificate for the request (DER) and the proof of its token. The same key may
    /// ask again while the invitation lasts, for the answer may be lost on the way.
    ///
    /// # Errors
    /// [`CaError::Refused`] where the token is wrong, used or over; [`CaError::Invalid`] for a
    /// request that is none.
    pub fn enrol(
        &self,
        name: &DeviceName,
        request: &[u8],
        proof: &[u8],
        now_s: u64,
        days: u64,
    ) -> Result<Grant, CaError> {
        const UNKNOWN: CaError = CaError::Refused("the token is not known, was used, or is over");
        let register = Register::lock(&self.dir)?;
        let mut invite = register.invite(name)?.ok_or(UNKNOWN)?;
        let digest = unhex(&invite.digest).ok_or(UNKNOWN)?;
        if !token::is_proof(&digest, request, proof) || now_s >= invite.until_s {
            return Err(UNKNOWN);
        }
        let key = RequestedKey::read(request)?;
        let record = register.device(name)?.unwrap_or_default();
        match &invite.used_by {
            Some(used_by) if *used_by != key.digest() => return Err(UNKNOWN),
            Some(used_by) => {
                let of_key = |one: &&Issued| one.key == *used_by;
                if let Some(one) = record.certificates.last().filter(of_key)
                    && one.counts(now_s)
                {
                    return Ok(Grant { name: name.clone(), certificate: record.newest });
                }
                // Without any the power went between the two files.
                if record.certificates.iter().any(|one| of_key(&one)) {
                    return Err(UNKNOWN);
                }
            }
            None => {
                invite.used_by = Some(key.digest());
                register.set_invite(name, &invite)?;
            }
        }
        self.issue(&register, name, record, &key, now_s, days)
    }

    /// Gives a device another certificate, for the request (DER) with a new key, by its certificate (DER) of
    /// before and a proof that it has that one's key.
    ///
    /// # Errors
    /// [`CaError::Refused`] where that does not count; [`CaError::Invalid`] for a request that is none.
    pub fn renew(
        &self,
        certificate: &[u8],
        request: &[u8],
        proof: &[u8],
        now_s: u64,
        days: u64,
    ) -> Result<Grant, CaError> {
        const UNKNOWN: CaError = CaError::Refused(
            "the certificate is not of this authority, has ended, or was revoked; have the device \
             invited again",
        );
        let facts = CertificateFacts::read(certificate).ok_or(UNKNOWN)?;
        let is_ours = is_issued_by(certificate, &self.certificate);
        if !is_ours || !is_signed(facts.key, None, &renewal_message(request), proof) {
            return Err(UNKNOWN);
        }
        let name = device_name(certificate).ok_or(UNKNOWN)?;
        let key = RequestedKey::read(request)?;
        let register = Register::lock(&self.dir)?;
        let record = register.device(&name)?.ok_or(UNKNOWN)?;
        let serial = hex(facts.serial);
        let own = record.certificates.iter().find(|one| one.serial == serial);
        if !own.is_some_and(|one| one.counts(now_s)) {
            return Err(UNKNOWN);
        }
        if record.certificates.iter().any(|one| one.key == key.digest()) {
            return Err(CaError::Refused("a renewal needs a new key"));
        }
        self.issue(&register, &name, record, &key, now_s, days)
    }

    /// Revokes all certificates of a device, and its invitation; says how many counted.
    ///
    /// # Errors
    /// [`CaError::State`] where it is not known.
    pub fn revoke(&self, name: &DeviceName, now_s: u64) -> Result<usize, CaError> {
        let register = Register::lock(&self.dir)?;
        let is_invited = register.invite(name)?.is_some();
        register.remove_invite(name)?;
        let Some(mut record) = register.device(name)? else {
            return match is_invited {
                true => Ok(0),
                false => Err(CaError::State(format!("there is no device {name}"))),
            };
        };
        let counting = record.certificates.iter().filter(|one| one.counts(now_s)).count();
        for one in &mut record.certificates {
            one.revoked_s.get_or_insert(now_s);
        }
        register.set_device(name, &record)?;
        drop(register);
        self.publish(now_s)?;
        Ok(counting)
    }

    /// All devices and invitations, by name.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn devices(&self, now_s: u64) -> Result<Vec<Device>, CaError> {
        let register = Register::lock(&self.dir)?;
        let mut devices = Vec::new();
        for name in register.names("devices")? {
            let Some(record) = register.device(&name)? else { continue };
            devices.extend(Device::of(name, &record, now_s));
        }
        for name in register.names("invites")? {
            let invite = register.invite(&name)?.filter(|invite| invite.is_open(now_s));
            let Some(invite) = invite else { continue };
            devices.retain(|device| device.name != name);
            let (standing, until_s) = (Standing::Invited, invite.until_s);
            devices.push(Device { name, standing, certificates: 0, until_s, serial: None });
        }
        devices.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(devices)
    }

    /// Signs the revocation list anew.
    fn publish(&self, now_s: u64) -> Result<(), CaError> {
        let register = Register::lock(&self.dir)?;
        let mut records = Vec::new();
        for name in register.names("devices")? {
            records.extend(register.device(&name)?);
        }
        let list = issue::list(&self.signer()?, records.iter(), now_s)?;
        write(&self.dir, LIST_FILE, &list, 0o644)
    }

    fn issue(
        &self,
        register: &Register<'_>,
        name: &DeviceName,
        mut record: Record,
        key: &RequestedKey,
        now_s: u64,
        days: u64,
    ) -> Result<Grant, CaError> {
        record.certificates.retain(|one| one.not_after_s.saturating_add(DAY_S) >= now_s);
        if record.certificates.len() >= DEVICE_CERTIFICATES_MAX {
            return Err(CaError::Full {
                what: "certificates of this device",
                most: DEVICE_CERTIFICATES_MAX,
            });
        }
        let days = days.clamp(1, DEVICE_CERTIFICATE_DAYS_MAX);
        let signed = issue::device(&self.signer()?, name, key, now_s, days)?;
        record.certificates.push(Issued {
            serial: signed.serial,
            key: key.digest(),
            issued_s: now_s,
            not_after_s: signed.not_after_s,
            revoked_s: None,
        });
        record.newest.clone_from(&signed.pem);
        register.set_device(name, &record)?;
        Ok(Grant { name: name.clone(), certificate: signed.pem })
    }

    fn forget_old_invites(&self, register: &Register<'_>, now_s: u64) -> Result<(), CaError> {
        for name in register.names("invites")? {
            if register.invite(&name)?.is_some_and(|invite| now_s >= invite.until_s) {
                register.remove_invite(&name)?;
            }
        }
        Ok(())
    }

    fn signer(&self) -> Result<rcgen::Issuer<'static, rcgen::KeyPair>, CaError> {
        let names = CertificateNames::new(&["cn".to_owned()], &["DEFAULT".to_owned()]);
        let names = names.map_err(|_| CaError::Damaged(AUTHORITY_FILE))?;
        let name = names.name(&self.certificate).ok_or(CaError::Damaged(AUTHORITY_FILE))?;
        let signer = issue::signer(&name, &self.text(KEY_FILE)?)?;
        let facts = CertificateFacts::read(&self.certificate);
        let is_own = facts.is_some_and(|facts| facts.key.key == signer.key().public_key_raw());
        if is_own { Ok(signer) } else { Err(CaError::Damaged(KEY_FILE)) }
    }

    fn text(&self, name: &str) -> Result<String, CaError> {
        let path = self.dir.join(name);
        let bytes = files::read_small(&path, PEM_FILE_BYTES_MAX).map_err(at("read", &path))?;
        String::from_utf8(bytes).map_err(|_| CaError::Damaged("a file"))
    }
}

impl Issued {
    fn counts(&self, now_s: u64) -> bool {
        self.revoked_s.is_none() && now_s < self.not_after_s
    }
}

impl Invite {
    fn is_open(&self, now_s: u64) -> bool {
        self.used_by.is_none() && now_s < self.until_s
    }
}

impl Device {
    fn of(name: DeviceName, record: &Record, now_s: u64) -> Option<Self> {
        let newest = record.certificates.last()?;
        let certificates = record.certificates.iter().filter(|one| one.counts(now_s)).count();
        let standing = match newest.revoked_s {
            _ if certificates > 0 => Standing::Valid,
            Some(_) => Standing::Revoked,
            None => Standing::Expired,
        };
        let (until_s, serial) = (newest.not_after_s, Some(newest.serial.clone()));
        Some(Self { name, standing, certificates, until_s, serial })
    }
}

/// Whose certificate it is, if one of these authorities may have issued it.
pub fn device_name(certificate: &[u8]) -> Option<DeviceName> {
    let names = CertificateNames::new(&["uri".to_owned()], &["DEFAULT".to_owned()]).ok()?;
    names.name(certificate)?.strip_prefix(URI_PREFIX)?.parse().ok()
}

/// Checks on the device what it was given: by the authority it was told of, for its key and its name.
///
/// # Errors
/// [`CaError::Refused`]: somebody else answered.
pub fn check_grant(
    certificate: &[u8],
    authority: &[u8],
    pinned: Fingerprint,
    name: &DeviceName,
    key: &DeviceKey,
) -> Result<(), CaError> {
    let is_known = Fingerprint::of(&CertificateDer::from(authority)) == pinned;
    if !is_known || !is_issued_by(certificate, authority) {
        return Err(CaError::Refused(
            "the answer is not of the authority that the invitation names",
        ));
    }
    if !key.is_of(certificate) || device_name(certificate).as_ref() != Some(name) {
        return Err(CaError::Refused("the certificate is for another key or another name"));
    }
    Ok(())
}

fn write(dir: &Path, name: &str, text: &str, mode: u32) -> Result<(), CaError> {
    let path = dir.join(name);
    files::replace(&path, text.as_bytes(), mode).map_err(at("write", &path))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    if rest.is_empty() { bytes.collect() } else { None }
}
