//! The name of a client, from its certificate: which of the names that stand there, and what becomes of it
//! by rules as in Kafka's `ssl.principal.mapping.rules` (KIP-371). Must never look at a certificate that
//! was not verified, and never make a name up: without one nobody comes in.

use crate::der::{BOOLEAN, Elements, OCTETS, OID, SEQUENCE, VERSION, only};
use regex_lite::{Regex, RegexBuilder};
use std::borrow::Cow;
use std::fmt::Write;

/// Longest name, and longest rule.
const NAME_BYTES_MAX: usize = millpond_wire::limits::USER_NAME_BYTES_MAX * 4;
/// Compiled size of a rule.
const RULE_PROGRAM_BYTES_MAX: usize = millpond_wire::limits::MEMBER_REGEX_PROGRAM_BYTES_MAX;

/// Which name, and what becomes of it.
#[derive(Debug)]
pub struct CertificateNames {
    places: Vec<Place>,
    rules: Vec<Rule>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Uri,
    Dns,
    Email,
    CommonName,
    Subject,
}

#[derive(Debug)]
enum Rule {
    /// The name as it is.
    Default,
    Mapped {
        pattern: Regex,
        /// `$1` and so on are what was found.
        replacement: String,
        case: Option<Case>,
    },
}

#[derive(Clone, Copy, Debug)]
enum Case {
    Lower,
    Upper,
}

impl CertificateNames {
    /// The places of names, in order of choice, and the rules.
    ///
    /// # Errors
    /// What is wrong with one, for people.
    pub fn new(places: &[String], rules: &[String]) -> Result<Self, String> {
        let places = places.iter().map(|place| Place::of(place)).collect::<Result<_, _>>()?;
        let rules = rules.iter().map(|rule| Rule::of(rule)).collect::<Result<_, _>>()?;
        Ok(Self { places, rules })
    }

    /// The name of who shows this certificate (DER), which was verified; `None`: it gives none.
    #[must_use]
    pub fn name(&self, certificate: &[u8]) -> Option<String> {
        let read = Certificate::read(certificate)?;
        let found = self.places.iter().find_map(|place| read.name(*place))?;
        let name = self.rules.iter().find_map(|rule| rule.apply(&found))?;
        let is_name =
            !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control);
        is_name.then_some(name)
    }
}

impl Place {
    fn of(text: &str) -> Result<Place, String> {
        Ok(match text {
            "uri" => Place::Uri,
            "dns" => Place::Dns,
            "email" => Place::Email,
            "cn" => Place::CommonName,
            "subject" => Place::Subject,
            _ => return Err(format!("{text:?} is none of uri, dns, email, cn, subject")),
        })
    }

    /// The tag of a GeneralName (RFC 5280 4.2.1.6).
    fn tag(self) -> Option<u8> {
        match self {
            Place::Email => Some(0x81),
            Place::Dns => Some(0x82),
            Place::Uri => Some(0x86),
            Place::CommonName | Place::Subject => None,
        }
    }
}

impl Rule {
    /// `DEFAULT`, or `RULE:pattern/replacement/` with `L` or `U` after it.
    fn of(text: &str) -> Result<Rule, String> {
        let wrong = |why: &str| format!("{text:?} is no rule: {why}");
        if text == "DEFAULT" {
            return Ok(Rule::Default);
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(wrong("it is too long"));
        }
        let rule = text.strip_prefix("RULE:").ok_or_else(|| wrong("RULE:... or DEFAULT"))?;
        let parts = split(rule);
        let [pattern, replacement, case] = parts.as_slice() else {
            return Err(wrong("it is written RULE:pattern/replacement/, with L or U after it"));
        };
        let case = match case.as_str() {
            "" => None,
            "L" => Some(Case::Lower),
            "U" => Some(Case::Upper),
            _ => return Err(wrong("after the last / stands L, U or nothing")),
        };
        let whole = format!(r"\A(?:{pattern})\z");
        let pattern = RegexBuilder::new(&whole).size_limit(RULE_PROGRAM_BYTES_MAX).build();
        let pattern = pattern.map_err(|error| wrong(&error.to_string()))?;
        Ok(Rule::Mapped { pattern, replacement: braced(replacement), case })
    }

    fn apply(&self, name: &str) -> Option<String> {
        let Rule::Mapped { pattern, replacement, case } = self else {
            return Some(name.to_owned());
        };
        let found = pattern.captures(name)?;
        let mut mapped = String::new();
        found.expand(replacement, &mut mapped);
        Some(match case {
            Some(Case::Lower) => mapped.to_lowercase(),
            Some(Case::Upper) => mapped.to_uppercase(),
            None => mapped,
        })
    }
}

/// At every `/` that no backslash stands before.
fn split(rule: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = rule.chars().peekable();
    while let Some(c) = chars.next() {
        let is_escaped = c == '\\' && chars.peek() == Some(&'/');
        match parts.last_mut() {
            Some(last) if is_escaped => last.extend(chars.next()),
            Some(last) if c != '/' => last.push(c),
            _ => parts.push(String::new()),
        }
    }
    parts
}

/// `$1x` as Java means it: the first group and an x.
fn braced(replacement: &str) -> String {
    let mut out = String::new();
    let mut chars = replacement.chars().peekable();
    while let Some(c) = chars.next() {
        match chars.peek() {
            Some(digit) if c == '$' && digit.is_ascii_digit() => {
                // Writing to a string does not fail.
                let _ = write!(out, "${{{digit}}}");
                chars.next();
            }
            _ => out.push(c),
        }
    }
    out
}

/// What of a certificate is looked at.
struct Certificate<'a> {
    /// Of the subject, in their order: the relative names.
    subject: &'a [u8],
    /// The names of the extension.
    alternative: Option<&'a [u8]>,
}

impl<'a> Certificate<'a> {
    fn read(der: &'a [u8]) -> Option<Certificate<'a>> {
        let signed = only(only(der, SEQUENCE)?, SEQUENCE)?;
        let mut fields = Elements(signed).skip_while(|(tag, _)| *tag == VERSION);
        // Serial number, algorithm, issuer, validity, subject, key.
        let (tag, subject) = fields.nth(4)?;
        let extensions = fields.find(|(tag, _)| *tag == EXTENSIONS);
        let extensions = extensions.and_then(|(_, content)| only(content, SEQUENCE));
        let alternative = extensions.and_then(alternative_names);
        (tag == SEQUENCE).then_some(Certificate { subject, alternative })
    }

    fn name(&self, place: Place) -> Option<String> {
        match (place, place.tag()) {
            (_, Some(tag)) => {
                let mut names = Elements(self.alternative?);
                let (_, found) = names.find(|(own, _)| *own == tag)?;
                std::str::from_utf8(found).ok().map(str::to_owned)
            }
            (Place::CommonName, _) => {
                let mut names = self.attributes();
                names.find(|(oid, _)| *oid == COMMON_NAME).map(|(_, name)| name.into_owned())
            }
            _ => Some(self.distinguished_name()).filter(|name| !name.is_empty()),
        }
    }

    /// The attributes of the subject that are text and have a short name.
    fn attributes(&self) -> impl DoubleEndedIterator<Item = (&'a [u8], Cow<'a, str>)> {
        let sets = Elements(self.subject).filter_map(|(_, set)| only(set, SEQUENCE));
        let all: Vec<_> = sets
            .filter_map(|pair| {
                let mut pair = Elements(pair);
                let (tag, oid) = pair.next()?;
                let (kind, value) = pair.next()?;
                (tag == OID).then_some((oid, text(kind, value)?))
            })
            .collect();
        all.into_iter()
    }

    /// As RFC 2253 writes it, the last first: `CN=pump,OU=line 1,O=Plant`.
    fn distinguished_name(&self) -> String {
        let mut out = String::new();
        for (oid, value) in self.attributes().rev() {
            let Some((_, short)) = SHORT.iter().find(|(known, _)| *known == oid) else { continue };
            if !out.is_empty() {
                out.push(',');
            }
            let _ = write!(out, "{short}=");
            for (at, c) in value.chars().enumerate() {
                if ",+\"\\<>;".contains(c) || at == 0 && (c == '#' || c == ' ') {
                    out.push('\\');
                }
                out.push(c);
            }
        }
        out
    }
}

fn alternative_names(extensions: &[u8]) -> Option<&[u8]> {
    Elements(extensions).find_map(|(_, extension)| {
        let mut parts = Elements(extension);
        let (_, oid) = parts.next().filter(|(tag, oid)| *tag == OID && *oid == ALTERNATIVE_NAME)?;
        let _ = oid;
        let (_, octets) = parts.find(|(tag, _)| *tag != BOOLEAN).filter(|(t, _)| *t == OCTETS)?;
        only(octets, SEQUENCE)
    })
}

/// UTF8String, PrintableString, IA5String; others are not read.
fn text(kind: u8, value: &[u8]) -> Option<Cow<'_, str>> {
    let is_read = matches!(kind, 0x0c | 0x13 | 0x16);
    std::str::from_utf8(value).ok().filter(|_| is_read).map(Cow::Borrowed)
}

const EXTENSIONS: u8 = 0xa3;
/// 2.5.29.17.
const ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// The attributes that have short names in RFC 2253.
const SHORT: [(&[u8], &str); 7] = [
    (COMMON_NAME, "CN"),
    (&[0x55, 0x04, 0x06], "C"),
    (&[0x55, 0x04, 0x07], "L"),
    (&[0x55, 0x04, 0x08], "ST"),
    (&[0x55, 0x04, 0x09], "STREET"),
    (&[0x55, 0x04, 0x0a], "O"),
    (&[0x55, 0x04, 0x0b], "OU"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    fn certificate(cn: &str, alternative: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = alternative;
        let name = &mut params.distinguished_name;
        *name = rcgen::DistinguishedName::new();
        name.push(DnType::OrganizationName, "Plant, Inc");
        name.push(DnType::OrganizationalUnitName, "line 1");
        name.push(DnType::CommonName, cn);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    fn names(places: &[&str], rules: &[&str]) -> CertificateNames {
        let owned = |texts: &[&str]| texts.iter().map(|&t| t.to_owned()).collect::<Vec<_>>();
        CertificateNames::new(&owned(places), &owned(rules)).unwrap()
    }

    #[test]
    fn the_name_stands_where_it_is_looked_for_and_the_first_place_counts() {
        let all = certificate(
            "pump-7",
            vec![
                SanType::DnsName("pump-7.plant".try_into().unwrap()),
                SanType::URI("spiffe://plant/pump/7".try_into().unwrap()),
                SanType::Rfc822Name("pump@plant".try_into().unwrap()),
            ],
        );
        let bare = certificate("pump-7", Vec::new());
        let name = |places: &[&str], der: &[u8]| names(places, &["DEFAULT"]).name(der);
        let is = |text: &str| Some(text.to_owned());
        assert_eq!(name(&["uri"], &all), is("spiffe://plant/pump/7"));
        assert_eq!(name(&["dns"], &all), is("pump-7.plant"));
        assert_eq!(name(&["email"], &all), is("pump@plant"));
        assert_eq!(name(&["cn"], &all), is("pump-7"));
        assert_eq!(name(&["subject"], &all), is(r"CN=pump-7,OU=line 1,O=Plant\, Inc"));
        assert_eq!(name(&["uri", "cn"], &bare), is("pump-7"));
        assert_eq!(name(&["uri", "dns"], &bare), None, "nothing is made up");
    }

    #[test]
    fn rules_map_names_as_in_kafka_and_what_none_fits_is_nobody() {
        let der = certificate("Pump-7", Vec::new());
        let mapped = |rules: &[&str]| names(&["subject"], rules).name(&der);
        let is = |text: &str| Some(text.to_owned());
        assert_eq!(mapped(&["RULE:^CN=(.*?),.*$/$1/"]), is("Pump-7"));
        assert_eq!(mapped(&["RULE:^CN=(.*?),OU=(.*?),.*$/$1@$2/L"]), is("pump-7@line 1"));
        assert_eq!(mapped(&["RULE:^CN=(.*?),.*$/$1_x/U", "DEFAULT"]), is("PUMP-7_X"));
        assert_eq!(mapped(&["RULE:^OU=(.*)$/$1/"]), None);
        assert_eq!(mapped(&["RULE:CN=(.*?),.*/a\\/$1/"]), is("a/Pump-7"));
        for wrong in ["RULE:a/b", "RULE:(/b/", "RULE:a/b/X", "b", "RULE:a/b/L/c"] {
            let texts = [wrong.to_owned()];
            assert!(CertificateNames::new(&["cn".to_owned()], &texts).is_err(), "{wrong}");
        }
        assert!(CertificateNames::new(&["mail".to_owned()], &[]).is_err());
    }

    #[test]
    fn a_name_that_could_cheat_a_log_is_none() {
        let der = certificate("a\nb", Vec::new());
        assert_eq!(names(&["cn"], &["DEFAULT"]).name(&der), None);
    }

    /// Every cut and every changed byte gives some name or none, and an end.
    #[test]
    fn no_bytes_lead_astray() {
        let names = names(&["uri", "dns", "subject"], &["DEFAULT"]);
        let der = certificate("pump-7", vec![SanType::DnsName("pump-7.plant".try_into().unwrap())]);
        let mut given = 0;
        for at in 0..der.len() {
            assert_ne!(names.name(der.get(..at).unwrap()), Some(String::new()));
            for flip in [0x01, 0x80, 0xff] {
                let mut changed = der.clone();
                changed[at] ^= flip;
                given += usize::from(names.name(&changed).is_some());
            }
        }
        assert!(given > der.len(), "most bytes are about something else");
    }
}
