//! YAML with places: the same file that serde_yaml reads, as a tree that knows where each value stands.
//!
//! Stricter than YAML: one document, no anchors, aliases or tags, keys are text, and a bound on
//! depth and number of values, so that no file can cost more than its size.

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};

use super::diagnostic::{Diagnostic, Path, Place, Segment};

/// Deepest nesting of a document; the inventory itself needs seven levels.
const MAX_DEPTH: usize = 32;
/// Most values in a document.
const MAX_VALUES: usize = 2_000_000;

/// A value and where it starts.
#[derive(Debug)]
pub(super) struct Node {
    pub place: Place,
    pub value: Value,
}

/// A YAML value.
#[derive(Debug)]
pub(super) enum Value {
    /// Text; whether it is a number, a truth value or nothing depends on what is wanted.
    Scalar {
        text: String,
        quoted: bool,
    },
    Sequence(Vec<Node>),
    /// In the order of the file, duplicates included.
    Mapping(Vec<Entry>),
}

/// A key of a mapping and its value.
#[derive(Debug)]
pub(super) struct Entry {
    pub key: String,
    pub place: Place,
    pub value: Node,
}

impl Node {
    /// Whether the value is YAML's null.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, quoted: false }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The place of a value, or of the innermost thing around it that exists.
    pub fn locate(&self, path: &Path) -> Place {
        let mut node = self;
        let mut place = self.place;
        for segment in path.segments() {
            match (segment, &node.value) {
                (Segment::Index(i), Value::Sequence(items)) if *i < items.len() => {
                    node = &items[*i];
                    place = node.place;
                }
                (Segment::Key(k), Value::Mapping(entries)) => {
                    let Some(entry) = entries.iter().find(|e| e.key == *k) else { break };
                    node = &entry.value;
                    // A nested block starts on a line of its own; the key is what the reader seeks.
                    place = match node.value {
                        Value::Scalar { .. } => node.place,
                        _ => entry.place,
                    };
                }
                _ => break,
            }
        }
        place
    }

    /// What stands there, in words for a diagnostic.
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

/// Reads a document. `None` if the text is not YAML or not of the kind that is accepted; the
/// diagnostics then say why. Diagnostics beside a tree are problems too.
pub(super) fn parse(text: &str) -> (Option<Node>, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let root = Builder::default().build(text, &mut diagnostics);
    match root {
        Ok(root) => (Some(root), diagnostics),
        Err(fatal) => {
            diagnostics.push(*fatal);
            (None, diagnostics)
        }
    }
}

#[derive(Default)]
struct Builder {
    stack: Vec<Frame>,
    root: Option<Node>,
    values: usize,
}

type Fatal = Box<Diagnostic>;

fn fatal(place: Place, message: &str, allowed: Option<&str>) -> Fatal {
    let mut d = Diagnostic::new(Some(place), &Path::root(), message);
    d.allowed = allowed.map(str::to_owned);
    Box::new(d)
}

fn place(marker: &Marker) -> Place {
    Place { line: marker.line().max(1), column: marker.col() + 1 }
}

impl Builder {
    fn build(mut self, text: &str, diagnostics: &mut Vec<Diagnostic>) -> Result<Node, Fatal> {
        // YAML 1.2, 5.2: a byte order mark may stand at the start and is not content.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut documents = 0;
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|e| {
                fatal(place(e.marker()), &format!("the file is not YAML: {}", e.info()), None)
            })?;
            let at = place(&span.start);
            match event {
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        let allowed = Some("one inventory per file, without further `---`");
                        return Err(fatal(at, "a second YAML document starts here", allowed));
                    }
                }
                Event::Alias(_) => {
                    let allowed = Some("every value written out; aliases are not accepted");
                    return Err(fatal(at, "found a YAML alias", allowed));
                }
                Event::Scalar(text, style, anchor, tag) => {
                    refuse_extras(anchor, tag.is_some(), &span, diagnostics);
                    let quoted = style != ScalarStyle::Plain;
                    self.scalar(text.into_owned(), quoted, at)?;
                }
                Event::SequenceStart(anchor, tag) => {
                    refuse_extras(anchor, tag.is_some(), &span, diagnostics);
                    self.open(Frame::Sequence { place: at, items: Vec::new() }, at)?;
                }
                Event::MappingStart(anchor, tag) => {
                    refuse_extras(anchor, tag.is_some(), &span, diagnostics);
                    self.open(Frame::Mapping { place: at, entries: Vec::new(), key: None }, at)?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.close(),
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            }
        }
        self.root.ok_or_else(|| fatal(Place::START, "the file is empty", Some("an inventory")))
    }

    fn open(&mut self, frame: Frame, at: Place) -> Result<(), Fatal> {
        if self.stack.len() >= MAX_DEPTH {
            let allowed = format!("{MAX_DEPTH} levels of nesting");
            return Err(fatal(at, "values are nested too deeply", Some(&allowed)));
        }
        if matches!(self.stack.last(), Some(Frame::Mapping { key: None, .. })) {
            return Err(fatal(at, "found a list or mapping as a key", Some("text as a key")));
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

    fn scalar(&mut self, text: String, quoted: bool, at: Place) -> Result<(), Fatal> {
        self.values += 1;
        if self.values > MAX_VALUES {
            let allowed = format!("{MAX_VALUES} values");
            return Err(fatal(at, "the file holds too many values", Some(&allowed)));
        }
        if let Some(Frame::Mapping { key: key @ None, .. }) = self.stack.last_mut() {
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
            None => self.root = Some(node),
        }
    }
}

fn refuse_extras(anchor: usize, tagged: bool, span: &Span, diagnostics: &mut Vec<Diagnostic>) {
    let at = Some(place(&span.start));
    if anchor != 0 {
        let mut d = Diagnostic::new(at, &Path::root(), "found a YAML anchor");
        d.allowed("every value written out; anchors are not accepted");
        diagnostics.push(d);
    }
    if tagged {
        let mut d = Diagnostic::new(at, &Path::root(), "found a YAML tag");
        d.allowed("values without tags");
        diagnostics.push(d);
    }
}
