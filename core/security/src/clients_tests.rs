//! Handshakes of rustls with rustls over certificates that have ended, have not begun, are revoked; with a
//! clock that is right, and with one in 1970.

use super::*;
use crate::clock::BUILT_S;
use crate::identity::Identity;
use crate::server::server_tls;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::client::ClientConnection;
use rustls::server::ServerConnection;
use rustls::{HandshakeKind, ServerConfig};
use rustls_pki_types::{PrivateKeyDer, ServerName};

const DAY_S: u64 = 86_400;
/// The day on which the stories play.
const TODAY_S: u64 = BUILT_S + 100 * DAY_S;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    server: Identity,
}

fn private(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::try_from(key.serialize_der()).unwrap()
}

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, "plant");
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().der().clone();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let shown = own.signed_by(&key, &issuer).unwrap().der().clone();
    let server = Identity::new(vec![shown], private(&key)).unwrap();
    Authority { issuer, certificate, server }
}

impl Authority {
    /// A device's certificate, valid within these days before and after today.
    fn device(&self, serial: u64, from_day: i64, to_day: i64) -> rustls::ClientConfig {
        let at = |day: i64| {
            let seconds = TODAY_S.checked_add_signed(day * DAY_S as i64).unwrap();
            date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
        };
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from(serial));
        (params.not_before, params.not_after) = (at(from_day), at(to_day));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], private(&key))
            .unwrap()
    }

    fn lists(&self, serials: &[u64]) -> RevocationLists {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2026, 2, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let lists = vec![list.signed_by(&self.issuer).unwrap().into()];
        RevocationLists { lists, ..RevocationLists::default() }
    }

    fn clients(&self, lists: RevocationLists, clock: HeldClock) -> ClientCertificates {
        let authorities = vec![self.certificate.clone()];
        ClientCertificates::new(authorities, true, lists, Arc::new(clock)).unwrap()
    }

    fn tls(&self, clients: &ClientCertificates) -> Arc<ServerConfig> {
        server_tls(&self.server, Some(clients)).unwrap()
    }
}

/// A clock that is right; what was kept is a week old.
fn right() -> HeldClock {
    HeldClock::new(|| TODAY_S, TODAY_S - 7 * DAY_S)
}

/// A clock in 1970; the node saw yesterday.
fn in_1970() -> HeldClock {
    HeldClock::new(|| 60, TODAY_S - DAY_S)
}

/// A whole handshake in memory: what the server says of it, and what was shown.
fn shake(
    server: &Arc<ServerConfig>,
    client: &Arc<rustls::ClientConfig>,
) -> Result<(HandshakeKind, Vec<CertificateDer<'static>>), rustls::Error> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    // Tickets follow the handshake.
    for _ in 0..8 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            server.read_tls(&mut wire).unwrap();
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            client.read_tls(&mut wire).unwrap();
            client.process_new_packets()?;
        }
    }
    let chain = server.peer_certificates().unwrap().iter().map(|one| one.clone().into_owned());
    Ok((server.handshake_kind().unwrap(), chain.collect()))
}

/// Whether a device whose certificate is valid within these days is let in.
fn is_let_in(clock: HeldClock, from_day: i64, to_day: i64) -> bool {
    let authority = authority();
    let tls = authority.tls(&authority.clients(RevocationLists::default(), clock));
    shake(&tls, &Arc::new(authority.device(1, from_day, to_day))).is_ok()
}

#[test]
fn with_a_clock_that_is_right_a_certificate_counts_within_its_dates() {
    assert!(is_let_in(right(), -10, 10));
    assert!(!is_let_in(right(), -10, -1), "it has ended");
    assert!(!is_let_in(right(), 1, 10), "it is not valid yet");
}

#[test]
fn with_a_clock_in_1970_what_had_ended_is_refused_and_what_is_good_is_let_in() {
    assert!(is_let_in(in_1970(), -10, 10));
    assert!(!is_let_in(in_1970(), -10, -2), "it had ended before the clock was lost");
    assert!(is_let_in(in_1970(), 0, 10), "it was made since, and nobody can know when");
}

#[test]
fn a_revoked_certificate_is_refused_and_others_are_let_in_whatever_the_age_of_the_list() {
    let authority = authority();
    let tls = authority.tls(&authority.clients(authority.lists(&[7]), right()));
    assert!(shake(&tls, &Arc::new(authority.device(8, -1, 1))).is_ok());
    let refused = shake(&tls, &Arc::new(authority.device(7, -1, 1))).unwrap_err().to_string();
    assert!(refused.contains("evoked"), "{refused}");
}

#[test]
fn a_session_of_before_the_list_was_read_anew_cannot_be_resumed() {
    let authority = authority();
    let device = Arc::new(authority.device(7, -1, 1));
    let before = authority.tls(&authority.clients(authority.lists(&[]), right()));
    assert_eq!(shake(&before, &device).unwrap().0, HandshakeKind::Full);
    assert_eq!(shake(&before, &device).unwrap().0, HandshakeKind::Resumed);
    let after = authority.tls(&authority.clients(authority.lists(&[7]), right()));
    let refused = shake(&after, &device).unwrap_err().to_string();
    assert!(refused.contains("evoked"), "the certificate is asked for again: {refused}");
}

#[test]
fn a_chain_that_is_in_stops_standing_when_it_is_revoked_or_ends() {
    let authority = authority();
    let none = RevocationLists::default();
    let tls = authority.tls(&authority.clients(none.clone(), right()));
    let (_, chain) = shake(&tls, &Arc::new(authority.device(7, -1, 1))).unwrap();
    authority.clients(none.clone(), right()).stands(&chain).unwrap();
    assert!(authority.clients(authority.lists(&[7]), right()).stands(&chain).is_err());
    let later = HeldClock::new(|| TODAY_S + 2 * DAY_S, 0);
    assert!(authority.clients(none.clone(), later).stands(&chain).is_err());
    assert!(super::tests::authority().clients(none, right()).stands(&chain).is_err());
}
