//! Where and why a text is no YAML that is read here.

use std::fmt;

use serde::Serialize;

/// A position in a text; both numbers start at 1, columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl Place {
    /// The first character of a text.
    pub const START: Place = Place { line: 1, column: 1 };
}

/// Why a text is not accepted, and where. Neither says what stands there, which may be a key or a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YamlError {
    /// Where; unknown for a value that has another type than is wanted.
    pub place: Option<Place>,
    /// Why.
    pub why: Refused,
}

impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Place { line, column }) = self.place {
            write!(f, "line {line}, column {column}: ")?;
        }
        self.why.fmt(f)
    }
}

impl std::error::Error for YamlError {}

impl YamlError {
    pub(super) fn at(place: Place, why: Refused) -> Self {
        Self { place: Some(place), why }
    }

    pub(super) fn of_type(e: &dyn fmt::Display) -> Self {
        Self { place: None, why: Refused::Type(e.to_string()) }
    }
}

/// Why a text is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A character that parsers do not agree on.
    #[error("U+{:04X}, which only some YAML parsers read as a line break", *.0 as u32)]
    Character(char),
    /// No YAML; the parser's words.
    #[error("{0}")]
    Syntax(String),
    /// Nothing but comments.
    #[error("the file is empty")]
    Empty,
    /// More than one document, where one is wanted.
    #[error("a second YAML document starts here")]
    SecondDocument,
    /// `&name`.
    #[error("found a YAML anchor")]
    Anchor,
    /// `*name`.
    #[error("found a YAML alias")]
    Alias,
    /// `!name`.
    #[error("found a YAML tag")]
    Tag,
    /// `<<`, which takes over the keys of another mapping.
    #[error("found a YAML merge key")]
    MergeKey,
    /// A block of text that is no part of a mapping or a list. saphyr-parser 0.3 takes a `---` behind it for a part of it.
    #[error("found a block of text instead of a document")]
    BlockAsDocument,
    /// A key that is a list or a mapping.
    #[error("found a list or mapping as a key")]
    KeyNotText,
    /// A key that its mapping has already.
    #[error("duplicate key")]
    KeyTwice,
    /// More levels than the bound.
    #[error("values are nested too deeply")]
    Depth(usize),
    /// More values than the bound.
    #[error("the file holds too many values")]
    Values(usize),
    /// A value has another type than is wanted; serde's words.
    #[error("{0}")]
    Type(String),
}
