//! Who a certificate says that its owner is, and the rules of configuration that make a name of it.

use millpond_security::CertificateNames;

const PLACES: [&str; 5] = ["uri", "dns", "email", "cn", "subject"];

/// Up to the first line feed a rule, then a certificate (DER). The verifier looked at it before; who
/// names people trusts it no more for that.
pub fn run(data: &[u8]) {
    let places = PLACES.map(str::to_owned);
    let (rule, certificate) = match data.iter().position(|byte| *byte == b'\n') {
        Some(at) => (String::from_utf8_lossy(&data[..at]).into_owned(), &data[at + 1..]),
        None => ("DEFAULT".to_owned(), data),
    };
    for rules in [vec![rule], vec!["DEFAULT".to_owned()]] {
        let Ok(names) = CertificateNames::new(&places, &rules) else { continue };
        if let Some(name) = names.name(certificate) {
            assert!(!name.is_empty() && !name.chars().any(char::is_control), "{name:?}");
        }
    }
}
