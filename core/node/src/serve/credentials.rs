//! What listeners show and ask for, read from their files: at the start, and anew whenever those change. All of
//! one listener's files are taken together or not at all; must never leave a part of the new ones in
//! force.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millpond_security::sasl::TokenRules;
use millpond_security::{
    CertificateFacts, ClientCertificates, HeldClock, Identity, RevocationLists, load_certificates,
    load_identity, server_tls,
};
use millpond_wire::limits::TOKEN_KEYS_BYTES_MAX;
use rustls_pki_types::CertificateDer;

use crate::config::ClientAuth;
use crate::metrics::CertificateState;
use crate::net::InForce;

/// Where a listener's certificate, and whom it lets in, come from.
pub(super) struct Source {
    pub(super) own: Own,
    /// Whom it asks for a certificate, and whose count.
    pub(super) asked: Option<ClientAuth>,
    pub(super) clock: Arc<HeldClock>,
}

/// Where the certificate that is shown comes from.
pub(super) enum Own {
    /// Files of the chain and of the key.
    Files(PathBuf, PathBuf),
    /// Made by Millpond at its first start, and not changed from outside.
    Made(Identity),
}

/// What was read, all of it good.
pub(super) struct Loaded {
    pub(super) in_force: InForce,
    pub(super) identity: Identity,
    pub(super) state: CertificateState,
}

impl Source {
    /// Reads and checks all files.
    pub(super) fn load(&self) -> Result<Loaded, String> {
        let identity = match &self.own {
            Own::Files(certificate, key) => {
                load_identity(certificate, key).map_err(|error| error.to_string())?
            }
            Own::Made(identity) => identity.clone(),
        };
        let mut state = CertificateState {
            not_after_s: vec![("server", ends_s(identity.chain()))],
            ..CertificateState::default()
        };
        let clients = self.asked.as_ref().map(|asked| self.clients(asked, &mut state));
        let clients = clients.transpose()?;
        let tls = server_tls(&identity, clients.as_ref()).map_err(|error| error.to_string())?;
        Ok(Loaded { in_force: InForce { tls, clients }, identity, state })
    }

    fn clients(
        &self,
        asked: &ClientAuth,
        state: &mut CertificateState,
    ) -> Result<ClientCertificates, String> {
        let authorities = load_certificates(Path::new(&asked.ca));
        let authorities = authorities.map_err(|error| format!("client_ca: {error}"))?;
        state.not_after_s.push(("client_ca", ends_s(&authorities)));
        let mut lists = RevocationLists::default();
        if let Some(file) = &asked.crl {
            let loaded = RevocationLists::load(Path::new(file), &authorities);
            lists = loaded.map_err(|error| format!("client_crl: {error}"))?;
            state.revoked = Some(lists.revoked as u64);
            state.next_update_s = lists.next_update_s;
            if lists.authorities_without > 0 {
                let without = lists.authorities_without;
                tracing::warn!("client_crl {file}: no list of {without} of the authorities");
            }
        }
        let clock = Arc::clone(&self.clock);
        ClientCertificates::new(authorities, asked.is_required, lists, clock)
            .map_err(|error| format!("client_ca: {error}"))
    }

    /// The files that it is read from.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        if let Own::Files(certificate, key) = &self.own {
            files.extend([certificate.clone(), key.clone()]);
        }
        if let Some(asked) = &self.asked {
            files.push(PathBuf::from(&asked.ca));
            files.extend(asked.crl.as_ref().map(PathBuf::from));
        }
        files
    }
}

/// When the first of them ends, in seconds since 1970.
fn ends_s(chain: &[CertificateDer<'_>]) -> u64 {
    let facts = chain.iter().filter_map(|one| CertificateFacts::read(one));
    facts.map(|facts| facts.not_after_s).min().unwrap_or(0)
}

/// Reads the keys that tokens are checked with.
pub(super) fn token_rules(
    [file, audience, issuer, claim]: &[String; 4],
) -> Result<TokenRules, String> {
    let failed = |error: &dyn std::fmt::Display| format!("oauth_keys: cannot use {file}: {error}");
    let mut bytes = Vec::new();
    let read = fs::File::open(file)
        .and_then(|opened| opened.take(TOKEN_KEYS_BYTES_MAX as u64).read_to_end(&mut bytes));
    read.map_err(|error| failed(&error))?;
    let issuer = Some(issuer.as_str()).filter(|issuer| !issuer.is_empty());
    TokenRules::from_jwks(&bytes, audience, issuer, claim).map_err(|error| failed(&error))
}

/// By which a change of files is seen without reading them: times, size and number of each.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamps(Vec<Option<Stamp>>);

#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    /// Of the content, and of who may read it.
    changed: [(i64, i64); 2],
    size: u64,
    number: u64,
}

impl Stamps {
    pub(super) fn of(files: &[PathBuf]) -> Self {
        let stamp = |file: &PathBuf| {
            let found = fs::metadata(file).ok()?;
            let changed =
                [(found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec())];
            Some(Stamp { changed, size: found.size(), number: found.ino() })
        };
        Self(files.iter().map(stamp).collect())
    }
}
