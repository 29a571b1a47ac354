//! OAUTHBEARER (RFC 7628, KIP-255): the token that shows who somebody is. A refusal takes two steps:
//! the peer is told in a challenge, says that it heard, and then the exchange fails. Never shows a
//! token.

use super::token::TokenRules;
use super::{Authenticated, Refused};

/// Between the parts.
const CONTROL: char = '\u{1}';

/// What a client that is refused says to that.
pub(super) const HEARD: &[u8] = b"\x01";

/// What a client that is refused is told.
pub(super) const INVALID: &[u8] = b"{\"status\":\"invalid_token\"}";

/// Takes the first token.
pub(super) fn check(
    message: &[u8],
    rules: &TokenRules,
    now_ms: i64,
) -> Result<Authenticated, Refused> {
    let (authorization, token) = parse(message)?;
    let bearer = rules.check(token, now_ms)?;
    if authorization.is_some_and(|name| name != bearer.user) {
        return Err(Refused::Token("nobody may log in in another's name"));
    }
    let until_ms = Some(bearer.until_ms);
    Ok(Authenticated { user: bearer.user, reply: Vec::new(), until_ms })
}

/// `n,a=NAME,^Aauth=Bearer TOKEN^A...^A^A`: the name, if one is said, and the token.
fn parse(message: &[u8]) -> Result<(Option<&str>, &str), Refused> {
    let text = std::str::from_utf8(message).map_err(|_| Refused::Malformed("it is not UTF-8"))?;
    let (header, rest) = text.split_once(CONTROL).ok_or(Refused::Malformed("it has no header"))?;
    let mut parts = header.split(',');
    let (Some("n"), Some(name), Some(""), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refused::Malformed("its header is not `n,,`"));
    };
    let authorization = match name {
        "" => None,
        name => Some(name.strip_prefix("a=").ok_or(Refused::Malformed("its header is wrong"))?),
    };
    let pairs = rest
        .strip_suffix("\u{1}\u{1}")
        .ok_or(Refused::Malformed("it does not end as it has to"))?;
    let mut tokens = pairs.split(CONTROL).filter_map(|pair| pair.strip_prefix("auth="));
    let (Some(token), None) = (tokens.next(), tokens.next()) else {
        return Err(Refused::Malformed("it has no token, or several"));
    };
    let (scheme, token) =
        token.split_once(' ').ok_or(Refused::Malformed("it has no bearer token"))?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Refused::Malformed("it has no bearer token"));
    }
    Ok((authorization, token.trim()))
}
