//! What is wrong in an inventory file, and where: line, column and field.

use std::fmt;

use serde::Serialize;

use crate::error::Problem;
pub use crate::yaml::Place;
use crate::yaml::tree::{Node, Value};
use crate::yaml::{Refused, YamlError};

/// A step from a value into one of its parts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Segment {
    /// Into a mapping, by key.
    Key(String),
    /// Into a sequence, by position from 0.
    Index(usize),
}

impl From<&str> for Segment {
    fn from(key: &str) -> Self {
        Segment::Key(key.to_owned())
    }
}

impl From<&String> for Segment {
    fn from(key: &String) -> Self {
        Segment::Key(key.clone())
    }
}

impl From<usize> for Segment {
    fn from(index: usize) -> Self {
        Segment::Index(index)
    }
}

/// The way from the root of the file to a value; written `nodes[2].ssh.port`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Path(Vec<Segment>);

impl Path {
    /// The whole file.
    pub fn root() -> Self {
        Self::default()
    }

    /// A path one step longer.
    #[must_use]
    pub fn then(&self, step: impl Into<Segment>) -> Self {
        let mut longer = self.clone();
        longer.0.push(step.into());
        longer
    }

    /// The steps, outermost first.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// The place of the value that it leads to, or of the innermost thing around it that exists.
    pub(super) fn place_in(&self, root: &Node) -> Place {
        let mut node = root;
        let mut place = root.place;
        for segment in &self.0 {
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
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(n) => write!(f, "[{n}]")?,
                Segment::Key(k) if !is_plain_key(k) => write!(f, "[{k:?}]")?,
                Segment::Key(k) if i == 0 => write!(f, "{k}")?,
                Segment::Key(k) => write!(f, ".{k}")?,
            }
        }
        Ok(())
    }
}

/// Whether a key can stand in a path without quotes.
fn is_plain_key(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-')
}

/// One thing that is wrong, or in warnings: doubtful.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Diagnostic {
    /// Line, from 1; absent if the file could not be read.
    pub line: Option<usize>,
    /// Column in characters, from 1.
    pub column: Option<usize>,
    /// Field path such as `nodes[2].ssh.port`; empty for the file as a whole.
    pub field: String,
    /// What stands there, shortened.
    pub found: Option<String>,
    /// What may stand there.
    pub allowed: Option<String>,
    /// The valid name that comes nearest.
    pub nearest: Option<String>,
    /// How to go on, where what is allowed does not say it.
    pub hint: Option<String>,
    /// What is wrong, as a sentence without a full stop.
    pub message: String,
}

impl Diagnostic {
    /// A diagnostic at a place.
    pub fn new(place: Option<Place>, path: &Path, message: impl Into<String>) -> Self {
        Self {
            line: place.map(|p| p.line),
            column: place.map(|p| p.column),
            field: path.to_string(),
            found: None,
            allowed: None,
            nearest: None,
            hint: None,
            message: message.into(),
        }
    }

    /// Says what stands there; long text is cut.
    pub fn found(&mut self, found: impl fmt::Display) -> &mut Self {
        self.found = Some(shorten(&found.to_string()));
        self
    }

    /// Says what may stand there.
    pub fn allowed(&mut self, allowed: impl fmt::Display) -> &mut Self {
        self.allowed = Some(allowed.to_string());
        self
    }

    /// Names the valid name that comes nearest, if one is near at all.
    pub fn nearest<'a>(
        &mut self,
        found: &str,
        valid: impl IntoIterator<Item = &'a str>,
    ) -> &mut Self {
        self.nearest = nearest(found, valid).map(str::to_owned);
        self
    }

    /// Says how to go on.
    pub fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(hint.into());
        self
    }

    /// As the user sees it, at `file:line:column`.
    pub fn problem(&self, file: &std::path::Path) -> Problem {
        let mut problem = Problem::new(self.headline()).at(self.place(file));
        problem.why.extend(self.found.iter().map(|f| format!("found {f}")));
        problem.why.extend(self.allowed.iter().map(|a| format!("allowed: {a}")));
        let nearest = self.nearest.as_ref().map(|n| format!("did you mean `{n}`?"));
        problem.hint = nearest.or_else(|| self.hint.clone());
        problem
    }

    /// As a line of warning, at `file:line:column`.
    pub fn warning(&self, file: &std::path::Path) -> String {
        format!("warning: {}: {}", self.place(file), self.headline())
    }

    fn headline(&self) -> String {
        if self.field.is_empty() {
            self.message.clone()
        } else {
            format!("{}: {}", self.field, self.message)
        }
    }

    fn place(&self, file: &std::path::Path) -> String {
        match (self.line, self.column) {
            (Some(line), Some(column)) => format!("{}:{line}:{column}", file.display()),
            _ => file.display().to_string(),
        }
    }
}

/// What the parser refuses, with what an inventory may have there.
impl From<YamlError> for Diagnostic {
    fn from(e: YamlError) -> Self {
        let message = match &e.why {
            Refused::Syntax(why) => format!("the file is not YAML: {why}"),
            other => other.to_string(),
        };
        let mut diagnostic = Self::new(e.place, &Path::root(), message);
        diagnostic.allowed = match e.why {
            Refused::Character(_) => Some("line feeds, tabs and printable characters".into()),
            Refused::Empty => Some("an inventory".into()),
            Refused::SecondDocument => Some("one inventory per file, without further `---`".into()),
            Refused::Anchor => Some("every value written out; anchors are not accepted".into()),
            Refused::Alias => Some("every value written out; aliases are not accepted".into()),
            Refused::MergeKey => Some("every key written out; `<<` is not accepted".into()),
            Refused::Tag => Some("values without tags".into()),
            Refused::BlockAsDocument => Some("a mapping".into()),
            Refused::KeyNotText => Some("text as a key".into()),
            Refused::KeyTwice => Some("each key once".into()),
            Refused::Depth(most) => Some(format!("{most} levels of nesting")),
            Refused::Values(most) => Some(format!("{most} values")),
            Refused::Syntax(_) | Refused::Type(_) => None,
        };
        diagnostic
    }
}

/// Cuts text to what fits a line of a terminal and takes out what would move its cursor.
fn shorten(text: &str) -> String {
    const MOST: usize = 80;
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut short: String = text.chars().take(MOST).map(clean).collect();
    if text.chars().nth(MOST).is_some() {
        short.push('…');
    }
    short
}

/// The valid name that comes nearest to what was written, if it is near enough to be a slip.
pub fn nearest<'a>(found: &str, valid: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Nobody mistypes a name of this length; and the distance below takes quadratic time.
    if found.len() > 128 {
        return None;
    }
    let slips = (found.chars().count() / 3).max(2);
    valid
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(found, name), name))
        .filter(|(distance, name)| *distance <= slips && *distance < name.chars().count())
        .min()
        .map(|(_, name)| name)
}
