//! The schema language: what it means and how it is read. Must never know the Rust that comes out.

/// All that is described.
#[derive(Default)]
pub(crate) struct Schema {
    pub(crate) apis: Vec<Api>,
    /// Requests, responses and data, in the order of the files.
    pub(crate) messages: Vec<Message>,
}

use crate::guard::Guard;

/// One API: what its table line says. Its messages are `{name}Request` and `{name}Response`.
pub(crate) struct Api {
    pub(crate) key: i16,
    pub(crate) name: String,
    pub(crate) versions: Versions,
    pub(crate) advertised: i16,
    pub(crate) flexible: Option<i16>,
    /// What its `guard` line says; the build fails without one.
    pub(crate) guard: Option<Guard>,
}

/// A message and the structs in it; the first one is the message itself.
pub(crate) struct Message {
    pub(crate) versions: Versions,
    pub(crate) flexible: Option<i16>,
    pub(crate) structs: Vec<Struct>,
}

impl Message {
    pub(crate) fn name(&self) -> &str {
        &self.structs[0].name
    }
}

pub(crate) struct Struct {
    pub(crate) name: String,
    pub(crate) fields: Vec<Field>,
}

pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Always within the versions of the message.
    pub(crate) versions: Versions,
    pub(crate) nullable: Option<Versions>,
    pub(crate) default: Option<String>,
    pub(crate) tag: Option<u32>,
    pub(crate) doc: String,
}

#[derive(Clone, PartialEq)]
pub(crate) enum Kind {
    Bool,
    I8,
    I16,
    U16,
    I32,
    I64,
    F64,
    Uuid,
    String,
    Bytes,
    Records,
    /// Bytes that nobody is shown.
    Secret,
    Struct(String),
    Array(Box<Kind>),
}

/// Versions from `min` to `max`, both included.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Versions {
    pub(crate) min: i16,
    pub(crate) max: i16,
}

impl Versions {
    const ALL: Self = Self { min: 0, max: i16::MAX };

    /// Reads `3`, `3+` or `3-7`.
    fn parse(text: &str) -> Result<Self, String> {
        let number =
            |text: &str| text.parse::<i16>().map_err(|_| format!("`{text}` is not a version"));
        if let Some(min) = text.strip_suffix('+') {
            return Ok(Self { min: number(min)?, max: i16::MAX });
        }
        let (min, max) = text.split_once('-').unwrap_or((text, text));
        Ok(Self { min: number(min)?, max: number(max)? })
    }

    pub(crate) fn within(self, other: Self) -> Option<Self> {
        let both = Self { min: self.min.max(other.min), max: self.max.min(other.max) };
        (both.min <= both.max).then_some(both)
    }

    pub(crate) fn covers(self, other: Self) -> bool {
        self.min <= other.min && other.max <= self.max
    }

    pub(crate) fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }
}

impl Schema {
    /// Adds what a file describes.
    pub(crate) fn parse(&mut self, text: &str) -> Result<(), String> {
        let mut parser = Parser::default();
        for (index, line) in text.lines().enumerate() {
            self.line(&mut parser, line)
                .map_err(|problem| format!("line {}: {problem}", index + 1))?;
        }
        Ok(())
    }

    fn line(&mut self, parser: &mut Parser, line: &str) -> Result<(), String> {
        let (code, doc) = line.split_once('#').unwrap_or((line, ""));
        let depth = code.chars().take_while(|c| *c == ' ').count() / 2;
        let words: Vec<&str> = code.split_whitespace().collect();
        match (depth, words.as_slice()) {
            (_, []) => {}
            (0, ["api", key, name, rest @ ..]) => {
                let header = Header::parse(rest)?;
                let key = key.parse().map_err(|_| format!("`{key}` is not an API key"))?;
                self.apis.push(Api {
                    key,
                    name: (*name).to_owned(),
                    versions: header.versions,
                    advertised: header.advertised.unwrap_or(header.versions.min),
                    flexible: header.flexible.filter(|from| *from <= header.versions.max),
                    guard: None,
                });
            }
            (0, ["guard", rest @ ..]) => {
                let api = self.apis.last_mut().ok_or("no `api` before it")?;
                api.guard = Some(Guard::parse(rest)?);
            }
            (0, [kind @ ("request" | "response")]) => {
                let api = self.apis.last().ok_or("no `api` before it")?;
                let suffix = if *kind == "request" { "Request" } else { "Response" };
                let (name, versions, flexible) =
                    (format!("{}{suffix}", api.name), api.versions, api.flexible);
                self.begin(parser, name, versions, flexible);
            }
            (0, ["data", name, rest @ ..]) => {
                let header = Header::parse(rest)?;
                self.begin(parser, (*name).to_owned(), header.versions, header.flexible);
            }
            (0, [word, ..]) => {
                return Err(format!("`{word}` is none of api, guard, request, response, data"));
            }
            (depth, [name, kind, rest @ ..]) => {
                let message = self.messages.last_mut().ok_or("a field outside a message")?;
                parser.field(message, depth, name, kind, rest, doc.trim())?;
            }
            (_, [name]) => return Err(format!("field `{name}` has no type")),
        }
        Ok(())
    }

    fn begin(
        &mut self,
        parser: &mut Parser,
        name: String,
        versions: Versions,
        flexible: Option<i16>,
    ) {
        let structs = vec![Struct { name, fields: Vec::new() }];
        self.messages.push(Message { versions, flexible, structs });
        parser.open = vec![Some(0)];
    }
}

/// The settings of an `api` or `data` line.
struct Header {
    versions: Versions,
    advertised: Option<i16>,
    flexible: Option<i16>,
}

impl Header {
    fn parse(words: &[&str]) -> Result<Self, String> {
        let (mut versions, mut advertised, mut flexible) = (None, None, None);
        for word in words {
            let (key, value) =
                word.split_once('=').ok_or_else(|| format!("`{word}` is not key=value"))?;
            let number = || value.parse::<i16>().map_err(|_| format!("`{value}` is not a version"));
            match key {
                "versions" => versions = Some(Versions::parse(value)?),
                "advertised" => advertised = Some(number()?),
                "flexible" => flexible = Some(number()?),
                _ => return Err(format!("`{key}` is none of versions, advertised, flexible")),
            }
        }
        Ok(Self { versions: versions.ok_or("no versions=")?, advertised, flexible })
    }
}

/// Where the parser stands: for each depth the struct that a field there belongs to. `None`: the struct was left
/// out because the field that holds it has no version that is served.
#[derive(Default)]
struct Parser {
    open: Vec<Option<usize>>,
}

impl Parser {
    fn field(
        &mut self,
        message: &mut Message,
        depth: usize,
        name: &str,
        kind: &str,
        words: &[&str],
        doc: &str,
    ) -> Result<(), String> {
        if depth > self.open.len() {
            return Err(format!("field `{name}` is indented too far"));
        }
        self.open.truncate(depth);
        let owner = self.open.last().copied().flatten();
        let (mut versions, mut nullable, mut default, mut tag) = (Versions::ALL, None, None, None);
        for word in words {
            if let Some(value) = word.strip_prefix('?') {
                nullable = Some(Versions::parse(value)?);
            } else if let Some(value) = word.strip_prefix('=') {
                default = Some(value.to_owned());
            } else if let Some(value) = word.strip_prefix('@') {
                tag = Some(value.parse().map_err(|_| format!("`{word}` is not a tag"))?);
            } else {
                versions = Versions::parse(word)?;
            }
        }
        let kind = Kind::parse(kind);
        let (Some(owner), Some(versions)) = (owner, versions.within(message.versions)) else {
            self.open.extend(kind.struct_name().map(|_| None));
            return Ok(());
        };
        if let Some(inner) = kind.struct_name() {
            // One that was described before is meant again: fields below it would be too far in.
            if !message.structs.iter().any(|known| known.name == inner) {
                self.open.push(Some(message.structs.len()));
                message.structs.push(Struct { name: inner.to_owned(), fields: Vec::new() });
            }
        }
        let nullable = nullable.and_then(|nullable| nullable.within(versions));
        let (name, doc) = (name.to_owned(), doc.to_owned());
        message.structs[owner].fields.push(Field {
            name,
            kind,
            versions,
            nullable,
            default,
            tag,
            doc,
        });
        Ok(())
    }
}

impl Kind {
    fn parse(text: &str) -> Self {
        if let Some(element) = text.strip_prefix("[]") {
            return Self::Array(Box::new(Self::parse(element)));
        }
        match text {
            "bool" => Self::Bool,
            "i8" => Self::I8,
            "i16" => Self::I16,
            "u16" => Self::U16,
            "i32" => Self::I32,
            "i64" => Self::I64,
            "f64" => Self::F64,
            "uuid" => Self::Uuid,
            "string" => Self::String,
            "bytes" => Self::Bytes,
            "secret" => Self::Secret,
            "records" => Self::Records,
            name => Self::Struct(name.to_owned()),
        }
    }

    /// The struct that this is, or that this is an array of.
    fn struct_name(&self) -> Option<&str> {
        match self {
            Self::Struct(name) => Some(name),
            Self::Array(element) => element.struct_name(),
            _ => None,
        }
    }
}
