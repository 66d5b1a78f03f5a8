//! A text as a tree that knows where each value stands.
//!
//! Stricter than YAML: no anchors, aliases, merge keys or tags, keys are text, and a bound on depth and number of
//! values, so that no text can cost more than its size.

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

use super::error::{Place, Refused, YamlError};

/// How much a text may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Deepest nesting of a document.
    pub depth: usize,
    /// Most scalars in all documents, keys included.
    pub values: usize,
}

/// A value and where it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its first character.
    pub place: Place,
    /// What stands there.
    pub value: Value,
}

/// A YAML value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text; whether it is a number, a truth value or nothing depends on what is wanted.
    Scalar {
        /// Without quotes, and with escapes resolved.
        text: String,
        /// Whether it stands in quotes, or is a block of text.
        quoted: bool,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// In the order of the text, duplicates included.
    Mapping(Vec<Entry>),
}

/// A key of a mapping and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub place: Place,
    /// The value.
    pub value: Node,
}

/// Whether a scalar without quotes is YAML's null.
pub fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

impl Node {
    /// Whether the value is YAML's null.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, quoted: false } if is_null(text))
    }

    /// What stands there, in words.
    pub fn describe(&self) -> String {
        match &self.value {
            _ if self.is_null() => "nothing".to_owned(),
            Value::Scalar { text, quoted: true } => format!("the text {text:?}"),
            Value::Scalar { text, .. } => format!("`{text}`"),
            Value::Sequence(_) => "a list".to_owned(),
            Value::Mapping(_) => "a mapping".to_owned(),
        }
    }
}

enum Frame {
    Sequence { place: Place, items: Vec<Node> },
    Mapping { place: Place, entries: Vec<Entry>, key: Option<(String, Place)> },
}

/// Reads a text of one document. `None` if it is not YAML or not of the kind that is accepted; the problems then say why.
/// Problems beside a tree are problems too.
pub fn parse(text: &str, bounds: Bounds) -> (Option<Node>, Vec<YamlError>) {
    let mut builder = Builder::new(bounds, Documents::One);
    let read = builder.read(text);
    let Builder { roots, mut problems, .. } = builder;
    match (read, roots.into_iter().next()) {
        (Ok(()), Some(root)) => (Some(root), problems),
        (Ok(()), None) => {
            problems.push(YamlError::at(Place::START, Refused::Empty));
            (None, problems)
        }
        (Err(fatal), _) => {
            problems.push(fatal);
            (None, problems)
        }
    }
}

/// Reads a text of any number of documents.
///
/// # Errors
/// The first thing that is not accepted.
pub fn documents(text: &str, bounds: Bounds) -> Result<Vec<Node>, YamlError> {
    let mut builder = Builder::new(bounds, Documents::Any);
    let read = builder.read(text);
    match builder.problems.into_iter().next() {
        Some(problem) => Err(problem),
        None => read.map(|()| builder.roots),
    }
}

/// How many documents a text may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Documents {
    One,
    Any,
}

struct Builder {
    bounds: Bounds,
    documents: Documents,
    stack: Vec<Frame>,
    roots: Vec<Node>,
    values: usize,
    problems: Vec<YamlError>,
}

fn place(marker: &Marker) -> Place {
    Place { line: marker.line().max(1), column: marker.col() + 1 }
}

/// The first character that parsers do not agree on: YAML 1.1 ends lines at U+0085, U+2028 and U+2029, also in a comment,
/// and YAML 1.2 does not. What is a comment to the one would be a key to the other. Control characters and marks of byte
/// order have no business in such a text either, and neither has a carriage return that ends a line alone.
pub(super) fn unreadable(text: &str) -> Option<(Place, char)> {
    let (mut line, mut column) = (1, 1);
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        let bad = match c {
            '\n' | '\t' => false,
            '\r' => characters.peek() != Some(&'\n'),
            '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}' => true,
            c => c.is_control(),
        };
        if bad {
            return Some((Place { line, column }, c));
        }
        if c == '\n' {
            (line, column) = (line + 1, 1);
        } else {
            column += 1;
        }
    }
    None
}

impl Builder {
    fn new(bounds: Bounds, documents: Documents) -> Self {
        let (stack, roots, problems) = (Vec::new(), Vec::new(), Vec::new());
        Self { bounds, documents, stack, roots, values: 0, problems }
    }

    fn read(&mut self, text: &str) -> Result<(), YamlError> {
        // YAML 1.2, 5.2: a byte order mark may stand at the start and is not content.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if let Some((at, c)) = unreadable(text) {
            return Err(YamlError::at(at, Refused::Character(c)));
        }
        let mut documents = 0;
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|e| {
                YamlError::at(place(e.marker()), Refused::Syntax(e.info().to_owned()))
            })?;
            let at = place(&span.start);
            match event {
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 && self.documents == Documents::One {
                        return Err(YamlError::at(at, Refused::SecondDocument));
                    }
                }
                Event::Alias(_) => return Err(YamlError::at(at, Refused::Alias)),
                Event::Scalar(text, style, anchor, tag) => {
                    self.refuse_extras(anchor, tag.is_some(), at);
                    let is_block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                    if is_block && self.stack.is_empty() {
                        return Err(YamlError::at(at, Refused::BlockAsDocument));
                    }
                    let quoted = style != ScalarStyle::Plain;
                    self.scalar(text.into_owned(), quoted, at)?;
                }
                Event::SequenceStart(anchor, tag) => {
                    self.refuse_extras(anchor, tag.is_some(), at);
                    self.open(Frame::Sequence { place: at, items: Vec::new() }, at)?;
                }
                Event::MappingStart(anchor, tag) => {
                    self.refuse_extras(anchor, tag.is_some(), at);
                    self.open(Frame::Mapping { place: at, entries: Vec::new(), key: None }, at)?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.close(),
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            }
        }
        Ok(())
    }

    /// What is no value by itself. The rest of the text is read on.
    fn refuse_extras(&mut self, anchor: usize, is_tagged: bool, at: Place) {
        if anchor != 0 {
            self.problems.push(YamlError::at(at, Refused::Anchor));
        }
        if is_tagged {
            self.problems.push(YamlError::at(at, Refused::Tag));
        }
    }

    fn open(&mut self, frame: Frame, at: Place) -> Result<(), YamlError> {
        if self.stack.len() >= self.bounds.depth {
            return Err(YamlError::at(at, Refused::Depth(self.bounds.depth)));
        }
        if matches!(self.stack.last(), Some(Frame::Mapping { key: None, .. })) {
            return Err(YamlError::at(at, Refused::KeyNotText));
        }
        self.stack.push(frame);
        Ok(())
    }

    fn close(&mut self) {
        let (place, value) = match self.stack.pop() {
            Some(Frame::Sequence { place, items }) => (place, Value::Sequence(items)),
            Some(Frame::Mapping { place, entries, .. }) => (place, Value::Mapping(entries)),
            None => return,
        };
        self.add(Node { place, value });
    }

    fn scalar(&mut self, text: String, quoted: bool, at: Place) -> Result<(), YamlError> {
        self.values += 1;
        if self.values > self.bounds.values {
            return Err(YamlError::at(at, Refused::Values(self.bounds.values)));
        }
        if let Some(Frame::Mapping { key: key @ None, .. }) = self.stack.last_mut() {
            if text == "<<" {
                self.problems.push(YamlError::at(at, Refused::MergeKey));
            }
            *key = Some((text, at));
        } else {
            self.add(Node { place: at, value: Value::Scalar { text, quoted } });
        }
        Ok(())
    }

    fn add(&mut self, node: Node) {
        match self.stack.last_mut() {
            Some(Frame::Sequence { items, .. }) => items.push(node),
            Some(Frame::Mapping { entries, key, .. }) => {
                if let Some((key, place)) = key.take() {
                    entries.push(Entry { key, place, value: node });
                }
            }
            None => self.roots.push(node),
        }
    }
}
