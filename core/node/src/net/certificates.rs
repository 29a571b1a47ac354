//! Who connected, by the certificate that was shown. Must never be asked about one that was not verified.

use std::sync::Arc;

use millpond_security::CertificateNames;

/// The name of a client. None: the listener asks for no certificate, or the client may come without.
///
/// # Errors
/// A certificate that gives no name: who shows one is somebody, or does not come in.
pub(crate) fn certified(
    names: Option<&CertificateNames>,
    shown: Option<&[u8]>,
) -> Result<Option<Arc<str>>, &'static str> {
    match (names, shown) {
        (Some(names), Some(certificate)) => match names.name(certificate) {
            Some(name) => Ok(Some(name.into())),
            None => Err("its certificate has no name by `client_name` and `client_name_rules`"),
        },
        _ => Ok(None),
    }
}
