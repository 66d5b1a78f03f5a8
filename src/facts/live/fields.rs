//! The fields of an answer, and their text.

use crate::plain::plain;

/// The fields of one answer, decoded.
pub(super) type Fields = Vec<Vec<u8>>;

/// Text for a report: nothing in it steers a terminal.
pub(super) fn shown(raw: &[u8]) -> String {
    plain(&String::from_utf8_lossy(raw))
}

/// The same on one line: a path may hold a line break.
pub(super) fn shown_line(raw: &[u8]) -> String {
    shown(raw).replace('\n', "\u{fffd}")
}
