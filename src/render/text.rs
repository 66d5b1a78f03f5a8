//! Strings on their way into a template.

use std::fmt::Display;

use serde::ser::{Serialize, SerializeStruct, Serializer};

/// Name of the one field under which a [`Text`] travels to the engine.
pub(super) const MARK: &str = "$text";

/// A string that a template may write and must not decide upon.
///
/// The engine knows these from other strings (names of enum variants) and puts marks in their place
/// to test a template. A plain `String` in an input is refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Text(String);

impl Text {
    /// The text of anything that can be displayed.
    pub fn of(value: impl Display) -> Self {
        Self(value.to_string())
    }

    /// Texts of several values, in their order.
    pub fn all<T: Display>(values: impl IntoIterator<Item = T>) -> Vec<Self> {
        values.into_iter().map(Self::of).collect()
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut marked = serializer.serialize_struct("Text", 1)?;
        marked.serialize_field(MARK, &self.0)?;
        marked.end()
    }
}
