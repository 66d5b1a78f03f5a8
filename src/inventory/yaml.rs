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

/// The first character that parsers do not agree on: YAML 1.1 ends lines at U+0085, U+2028 and U+2029, also in a comment,
/// and YAML 1.2 does not. What is a comment to the one would be a key to the other. Control characters and marks of byte
/// order have no business in an inventory either, and neither has a carriage return that ends a line alone.
fn unreadable(text: &str) -> Option<(Place, char)> {
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
    fn build(mut self, text: &str, diagnostics: &mut Vec<Diagnostic>) -> Result<Node, Fatal> {
        // YAML 1.2, 5.2: a byte order mark may stand at the start and is not content.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if let Some((at, c)) = unreadable(text) {
            let message =
                format!("U+{:04X}, which only some YAML parsers read as a line break", c as u32);
            return Err(fatal(at, &message, Some("line feeds, tabs and printable characters")));
        }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Keys, lengths and texts of our tree.
    fn shape(node: &Node) -> String {
        match &node.value {
            Value::Scalar { text, .. } => format!("{text:?}"),
            Value::Sequence(items) => format!("{:?}", items.iter().map(shape).collect::<Vec<_>>()),
            Value::Mapping(entries) => {
                let of = |e: &Entry| format!("{:?}={}", e.key, shape(&e.value));
                format!("{{{}}}", entries.iter().map(of).collect::<Vec<_>>().join(","))
            }
        }
    }

    /// The same of what serde_yaml reads; only texts are put into these documents.
    fn read(value: &serde_yaml::Value) -> String {
        match value {
            serde_yaml::Value::String(text) => format!("{text:?}"),
            serde_yaml::Value::Sequence(items) => {
                format!("{:?}", items.iter().map(read).collect::<Vec<_>>())
            }
            serde_yaml::Value::Mapping(entries) => {
                let of = |(k, v): (&serde_yaml::Value, &serde_yaml::Value)| {
                    format!("{}={}", read(k), read(v))
                };
                format!("{{{}}}", entries.iter().map(of).collect::<Vec<_>>().join(","))
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_line_break_of_one_parser_alone_is_refused_with_its_place() {
        for c in ['\u{85}', '\u{2028}', '\u{2029}', '\u{feff}', '\r', '\u{0}', '\u{7f}'] {
            let text = format!("a: x\nb: y # note{c}firewall: {{mode: off}}\n");
            let (root, problems) = parse(&text);
            assert!(root.is_none() && problems.len() == 1, "{c:?}");
            let at = &problems[0];
            assert_eq!((at.line, at.column), (Some(2), Some(12)), "{c:?}");
        }
        assert!(parse("a: x\r\nb: 'ü 日本 €' # ¾\r\n").0.is_some());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// What is accepted is the same tree to both parsers.
        #[test]
        fn both_parsers_see_the_same_tree(
            comment in "([ -~]|[\\u{80}-\\u{ff}]|[\\u{2020}-\\u{2030}]|[\\t\\r\\u{b}\\u{c}\\u{feff}]|\\n# ){0,12}",
            text in "[a-z \\u{80}-\\u{ff}\\u{2020}-\\u{2030}#:'\"\\t\\r]{0,10}",
        ) {
            let quoted = format!("'{}'", text.replace('\'', "''"));
            for document in [
                format!("a: x # {comment}\nb: [y, 'z'] # {comment}\nc:\n  d: {quoted}\n"),
                format!("# {comment}\na: {quoted} # {comment}\nfirewall: {{ mode: enforce }}\n"),
            ] {
                let (Some(root), problems) = parse(&document) else { continue };
                if problems.is_empty() {
                    let other: serde_yaml::Value = serde_yaml::from_str(&document).unwrap();
                    prop_assert_eq!(shape(&root), read(&other), "{:?}", document);
                }
            }
        }
    }
}
