//! SCRAM (RFC 5802, RFC 7677): the server's side, two tokens each way. No channel binding is offered,
//! and nobody may log in in another's name (CVE-2017-12610). A proof counts only for the nonce that
//! this exchange drew (CVE-2024-56128).

use super::credential::{Credential, ScramHash};
use super::{Authenticated, Context, Refused, checked_name};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use millpond_wire::limits::SASL_NONCE_BYTES_MAX;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// An exchange whose first token was answered.
pub(super) struct Challenged {
    hash: ScramHash,
    user: String,
    credential: Arc<Credential>,
    /// Whether the credential is anybody's.
    is_known: bool,
    /// What the first token said of channel binding and of authorization, as it stood there.
    gs2_header: String,
    /// The rest of the first token.
    first_bare: String,
    /// The peer's nonce and ours.
    nonce: String,
}

/// The parts of a first token.
struct First<'a> {
    gs2_header: &'a str,
    bare: &'a str,
    user: String,
    nonce: &'a str,
}

impl Challenged {
    /// Takes the client's first token.
    pub(super) fn new(
        token: &[u8],
        hash: ScramHash,
        own_nonce: &str,
        context: Context<'_>,
    ) -> Result<Self, Refused> {
        let first = First::parse(token)?;
        let (_, credential, is_known) = context.decoy.find(context.users, &first.user, Some(hash));
        Ok(Self {
            hash,
            credential,
            is_known,
            gs2_header: first.gs2_header.to_owned(),
            first_bare: first.bare.to_owned(),
            nonce: format!("{}{own_nonce}", first.nonce),
            user: first.user,
        })
    }

    /// The server's first token.
    pub(super) fn challenge(&self) -> Vec<u8> {
        self.challenge_text().into_bytes()
    }

    fn challenge_text(&self) -> String {
        let (nonce, salt) = (&self.nonce, BASE64.encode(&self.credential.salt));
        format!("r={nonce},s={salt},i={}", self.credential.iterations)
    }

    /// Takes the client's final token.
    pub(super) fn finish(self, token: &[u8]) -> Result<Authenticated, Refused> {
        let text = text(token)?;
        let (without_proof, proof) =
            text.rsplit_once(",p=").ok_or(Refused::Malformed("the final token has no proof"))?;
        let mut parts = without_proof.split(',');
        let binding = parts.next().and_then(|part| part.strip_prefix("c="));
        let nonce = parts.next().and_then(|part| part.strip_prefix("r="));
        let (Some(binding), Some(nonce)) = (binding, nonce) else {
            return Err(Refused::Malformed("the final token lacks channel binding or nonce"));
        };
        if parts.any(|part| !is_extension(part)) {
            return Err(Refused::Malformed("the final token says something that is no extension"));
        }
        // Whoever stands between could change what was said before.
        if BASE64.decode(binding).ok().as_deref() != Some(self.gs2_header.as_bytes()) {
            return Err(Refused::Malformed("the final token contradicts the first one"));
        }
        if nonce != self.nonce {
            return Err(Refused::Malformed("the final token has another nonce"));
        }
        let proof =
            BASE64.decode(proof).map_err(|_| Refused::Malformed("the proof is no Base64"))?;
        if proof.len() != self.hash.output_bytes() {
            return Err(Refused::Malformed("the proof has the wrong length"));
        }
        self.judge(without_proof, &proof)
    }

    /// The same work whether the user is known or not, and in constant time.
    fn judge(self, without_proof: &str, proof: &[u8]) -> Result<Authenticated, Refused> {
        let said = format!("{},{},{without_proof}", self.first_bare, self.challenge_text());
        let signature = self.hash.hmac(&self.credential.stored_key, said.as_bytes());
        let client_key: Vec<u8> =
            proof.iter().zip(signature.as_ref()).map(|(one, other)| one ^ other).collect();
        let stored = self.hash.digest(&client_key);
        let fits = stored.as_ref().ct_eq(&self.credential.stored_key);
        let verifier = self.hash.hmac(&self.credential.server_key, said.as_bytes());
        if bool::from(fits & u8::from(self.is_known).ct_eq(&1)) {
            let reply = format!("v={}", BASE64.encode(verifier.as_ref())).into_bytes();
            return Ok(Authenticated { user: self.user, reply, until_ms: None });
        }
        Err(Refused::Credentials { user: self.user })
    }
}

impl<'a> First<'a> {
    fn parse(token: &'a [u8]) -> Result<Self, Refused> {
        let text = text(token)?;
        let mut commas = text.match_indices(',').map(|(at, _)| at);
        let (Some(one), Some(two)) = (commas.next(), commas.next()) else {
            return Err(Refused::Malformed("the first token has no header"));
        };
        let (gs2_header, bare) = text.split_at(two + 1);
        match &text[..one] {
            // `y`: the client could bind to the channel and sees that we do not offer it.
            "n" | "y" => {}
            _ => return Err(Refused::Malformed("channel binding is not offered")),
        }
        let authorization = &text[one + 1..two];
        let mut parts = bare.split(',');
        let user = parts.next().and_then(|part| part.strip_prefix("n="));
        let nonce = parts.next().and_then(|part| part.strip_prefix("r="));
        // A mandatory extension (`m=`) stands first and ends here, as none is known.
        let (Some(user), Some(nonce)) = (user, nonce) else {
            return Err(Refused::Malformed("the first token lacks name or nonce"));
        };
        if parts.clone().any(|part| !is_extension(part)) {
            return Err(Refused::Malformed("the first token says something that is no extension"));
        }
        if parts.any(|part| part == "tokenauth=true") {
            return Err(Refused::Malformed("there are no delegation tokens"));
        }
        let user = unescaped(user)?;
        checked_name(&user)?;
        if nonce.is_empty() || nonce.len() > SASL_NONCE_BYTES_MAX {
            return Err(Refused::Malformed("the nonce is empty or too long"));
        }
        if !nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Refused::Malformed("the nonce is not printable"));
        }
        if !authorization.is_empty() {
            let name = authorization.strip_prefix("a=").map(unescaped).transpose()?;
            if name.as_deref() != Some(user.as_str()) {
                return Err(Refused::Malformed("nobody may log in in another's name"));
            }
        }
        Ok(Self { gs2_header, bare, user, nonce })
    }
}

fn text(token: &[u8]) -> Result<&str, Refused> {
    let text = std::str::from_utf8(token).map_err(|_| Refused::Malformed("it is not UTF-8"))?;
    if text.contains('\0') {
        return Err(Refused::Malformed("it has a zero byte in it"));
    }
    Ok(text)
}

/// `letter=value`, or a name of Kafka's.
fn is_extension(part: &str) -> bool {
    part.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic())
    })
}

/// A name as it was before `,` and `=` were written as `=2C` and `=3D`.
fn unescaped(name: &str) -> Result<String, Refused> {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('=') {
        out.push_str(before);
        rest = match (after.strip_prefix("2C"), after.strip_prefix("3D")) {
            (Some(rest), _) => {
                out.push(',');
                rest
            }
            (_, Some(rest)) => {
                out.push('=');
                rest
            }
            _ => return Err(Refused::Malformed("the user's name has a stray `=`")),
        };
    }
    out.push_str(rest);
    Ok(out)
}
