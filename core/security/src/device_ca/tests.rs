//! The life of devices: invited, enrolled, renewed, revoked; and everybody who should not be.

use super::*;
use crate::clock::{BUILT_S, HeldClock};
use crate::{ClientCertificates, RevocationLists};
use rustls_pki_types::pem::PemObject;
use std::sync::Arc;

const NOW_S: u64 = BUILT_S + 86_400;

struct Plant {
    ca: DeviceCa,
    dir: tempfile::TempDir,
}

fn plant() -> Plant {
    let dir = tempfile::tempdir().unwrap();
    let ca = DeviceCa::init(&dir.path().join("ca"), &["gateway.plant".to_owned()], NOW_S).unwrap();
    Plant { ca, dir }
}

fn pump() -> DeviceName {
    "pump-7".parse().unwrap()
}

fn der(pem: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

impl Plant {
    fn enrol(&self, token: &Token, key: &DeviceKey, now_s: u64) -> Result<Grant, CaError> {
        let request = key.request(token.name()).unwrap();
        self.ca.enrol(token.name(), &request, &token.proof(&request), now_s, 365)
    }

    fn enrolled(&self) -> (DeviceKey, Vec<u8>) {
        let token = self.ca.invite(&pump(), 60, NOW_S).unwrap();
        let key = DeviceKey::generate().unwrap();
        let grant = self.enrol(&token, &key, NOW_S).unwrap();
        (key, der(&grant.certificate))
    }

    fn renew(
        &self,
        old: &(DeviceKey, Vec<u8>),
        key: &DeviceKey,
        now_s: u64,
    ) -> Result<Grant, CaError> {
        let request = key.request(&pump()).unwrap();
        let proof = old.0.renewal_proof(&request).unwrap();
        self.ca.renew(&old.1, &request, &proof, now_s, 365)
    }

    /// Whether a listener with this authority would let the certificate in.
    fn stands(&self, certificate: &[u8]) -> bool {
        let authorities = load_certificates(&self.ca.dir.join(AUTHORITY_FILE)).unwrap();
        let lists = RevocationLists::load(&self.ca.dir.join(LIST_FILE), &authorities).unwrap();
        let clock = Arc::new(HeldClock::new(|| NOW_S, 0));
        let clients = ClientCertificates::new(authorities, true, lists, clock).unwrap();
        clients.stands(&[CertificateDer::from(certificate)]).is_ok()
    }

    fn standing(&self) -> Vec<(String, Standing)> {
        let devices = self.ca.devices(NOW_S).unwrap().into_iter();
        devices.map(|device| (device.name.to_string(), device.standing)).collect()
    }
}

fn is_refused<T: std::fmt::Debug>(result: Result<T, CaError>) -> bool {
    matches!(result, Err(CaError::Refused(_)))
}

#[test]
fn a_device_is_invited_enrolled_revoked_and_invited_again() {
    let plant = plant();
    let token = plant.ca.invite(&pump(), 60, NOW_S).unwrap();
    assert_eq!(plant.standing(), [("pump-7".to_owned(), Standing::Invited)]);
    let key = DeviceKey::generate().unwrap();
    let grant = plant.enrol(&token, &key, NOW_S).unwrap();
    let certificate = der(&grant.certificate);
    let authority = der(&plant.ca.certificate_pem().unwrap());
    check_grant(&certificate, &authority, token.authority(), &pump(), &key).unwrap();
    assert!(plant.stands(&certificate));
    let names = CertificateNames::new(&["uri".to_owned()], &["DEFAULT".to_owned()]).unwrap();
    assert_eq!(names.name(&certificate).as_deref(), Some("millpond:device:pump-7"));
    assert!(plant.ca.invite(&pump(), 60, NOW_S).is_err(), "it has one that counts");

    assert_eq!(plant.ca.revoke(&pump(), NOW_S).unwrap(), 1);
    assert!(!plant.stands(&certificate));
    assert_eq!(plant.standing(), [("pump-7".to_owned(), Standing::Revoked)]);
    let (_, again) = plant.enrolled();
    assert!(plant.stands(&again) && !plant.stands(&certificate));
    assert_eq!(plant.standing(), [("pump-7".to_owned(), Standing::Valid)]);
}

#[test]
fn a_token_is_good_once_for_its_name_and_for_its_time() {
    let plant = plant();
    let token = plant.ca.invite(&pump(), 60, NOW_S).unwrap();
    let (key, thief) = (DeviceKey::generate().unwrap(), DeviceKey::generate().unwrap());
    assert!(is_refused(plant.enrol(&token, &key, NOW_S + 60)), "it is over");
    let request = key.request(&pump()).unwrap();
    let (other, proof) = ("pump-8".parse().unwrap(), token.proof(&request));
    assert!(is_refused(plant.ca.enrol(&other, &request, &proof, NOW_S, 1)), "of another name");
    let mut wrong = proof.clone();
    wrong[0] ^= 1;
    assert!(is_refused(plant.ca.enrol(&pump(), &request, &wrong, NOW_S, 1)));
    let heard = thief.request(&pump()).unwrap();
    assert!(
        is_refused(plant.ca.enrol(&pump(), &heard, &proof, NOW_S, 1)),
        "a proof that was heard"
    );

    let grant = plant.enrol(&token, &key, NOW_S).unwrap();
    assert_eq!(plant.enrol(&token, &key, NOW_S + 1).unwrap(), grant, "the answer was lost");
    assert!(is_refused(plant.enrol(&token, &thief, NOW_S + 1)), "it was used");
    plant.ca.revoke(&pump(), NOW_S).unwrap();
    assert!(is_refused(plant.enrol(&token, &key, NOW_S + 1)), "it was revoked");
}

#[test]
fn a_new_invitation_replaces_the_one_before_and_a_revoked_one_is_gone() {
    let plant = plant();
    let first = plant.ca.invite(&pump(), 60, NOW_S).unwrap();
    let second = plant.ca.invite(&pump(), 60, NOW_S).unwrap();
    let key = DeviceKey::generate().unwrap();
    assert!(is_refused(plant.enrol(&first, &key, NOW_S)));
    assert_eq!(plant.ca.revoke(&pump(), NOW_S).unwrap(), 0);
    assert!(is_refused(plant.enrol(&second, &key, NOW_S)));
    assert!(matches!(plant.ca.revoke(&pump(), NOW_S), Err(CaError::State(_))));
}

#[test]
fn a_device_renews_with_a_new_key_while_its_certificate_counts() {
    let plant = plant();
    let old = plant.enrolled();
    let key = DeviceKey::generate().unwrap();
    let renewed = der(&plant.renew(&old, &key, NOW_S).unwrap().certificate);
    assert!(key.is_of(&renewed) && plant.stands(&renewed) && plant.stands(&old.1));
    assert!(is_refused(plant.renew(&old, &key, NOW_S)), "that key has one");
    assert!(is_refused(plant.renew(&old, &DeviceKey::generate().unwrap(), NOW_S + 366 * 86_400)));
    let thief = (DeviceKey::generate().unwrap(), old.1.clone());
    assert!(is_refused(plant.renew(&thief, &DeviceKey::generate().unwrap(), NOW_S)));
    assert_eq!(plant.ca.revoke(&pump(), NOW_S).unwrap(), 2);
    assert!(!plant.stands(&renewed) && !plant.stands(&old.1));
    assert!(is_refused(plant.renew(&old, &DeviceKey::generate().unwrap(), NOW_S)));
}

#[test]
fn another_authority_neither_renews_nor_answers_in_its_place() {
    let (one, other) = (plant(), plant());
    let device = other.enrolled();
    assert!(is_refused(one.renew(&device, &DeviceKey::generate().unwrap(), NOW_S)));
    let pinned = one.ca.fingerprint();
    let authority = der(&other.ca.certificate_pem().unwrap());
    assert!(is_refused(check_grant(&device.1, &authority, pinned, &pump(), &device.0)));
    let own = der(&one.ca.certificate_pem().unwrap());
    assert!(is_refused(check_grant(&device.1, &own, pinned, &pump(), &device.0)));
    let (name, pinned) = ("pump-8".parse().unwrap(), other.ca.fingerprint());
    assert!(is_refused(check_grant(&device.1, &authority, pinned, &name, &device.0)));
}

#[test]
fn a_devices_certificate_is_no_servers_and_a_servers_no_devices() {
    let plant = plant();
    let server = std::fs::read(plant.ca.dir.join(SERVER_FILE)).unwrap();
    let chain = load_certificates(&plant.ca.dir.join(SERVER_FILE)).unwrap();
    assert_eq!(chain.len(), 2, "the authority stands beside it, for who pins that");
    assert!(!plant.stands(&chain[0]), "it is for servers");
    crate::load_identity(&plant.ca.dir.join(SERVER_FILE), &plant.ca.dir.join(SERVER_FILE)).unwrap();
    plant.ca.server_certificate(&["10.1.2.3".to_owned()], NOW_S).unwrap();
    assert_ne!(std::fs::read(plant.ca.dir.join(SERVER_FILE)).unwrap(), server);
    let wrong = plant.ca.server_certificate(&["no host".to_owned()], NOW_S);
    assert!(matches!(wrong, Err(CaError::Host(_))));
}

#[test]
fn nobody_but_the_owner_can_read_what_is_secret_and_no_token_is_kept() {
    use std::os::unix::fs::PermissionsExt;
    let plant = plant();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&plant.ca.dir), 0o700);
    for secret in [KEY_FILE, SERVER_FILE] {
        assert_eq!(mode(&plant.ca.dir.join(secret)), 0o600, "{secret}");
    }
    let token = plant.ca.invite(&pump(), 60, NOW_S).unwrap().to_string();
    let kept = std::fs::read_to_string(plant.ca.dir.join("invites/pump-7.json")).unwrap();
    let secret = token.rsplit('.').nth(1).unwrap();
    assert!(!kept.contains(secret) && !kept.is_empty());
}

#[test]
fn an_authority_is_not_made_twice_and_a_foreign_key_is_found_out() {
    let (one, other) = (plant(), plant());
    assert!(matches!(DeviceCa::init(&one.ca.dir, &[], NOW_S), Err(CaError::Exists(_))));
    assert!(matches!(DeviceCa::open(one.dir.path()), Err(CaError::Absent(_))));
    std::fs::copy(other.ca.dir.join(KEY_FILE), one.ca.dir.join(KEY_FILE)).unwrap();
    let token = one.ca.invite(&pump(), 60, NOW_S).unwrap();
    let refused = one.enrol(&token, &DeviceKey::generate().unwrap(), NOW_S);
    assert!(matches!(refused, Err(CaError::Damaged(KEY_FILE))));
}
