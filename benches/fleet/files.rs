//! The files that every contender brings to every node.

use std::path::Path;

pub const FILES: usize = 40;
const FILE_BYTES: usize = 4096;

/// What the files hold. The same state gives the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    pub generation: usize,
    /// Whether one file has got another content since.
    pub one_changed: bool,
}

/// The file that changes.
pub const CHANGED: usize = 7;

impl State {
    pub fn word(self) -> String {
        format!("{}{}", self.generation, if self.one_changed { "+" } else { "" })
    }

    pub fn of(word: &str) -> Self {
        let number = word.trim_end_matches('+');
        Self { generation: number.parse().unwrap(), one_changed: number != word }
    }

    pub fn content(self, number: usize) -> String {
        let changed = if self.one_changed && number == CHANGED { " changed" } else { "" };
        let line = format!("file {number} of generation {}{changed}\n", self.generation);
        line.repeat(FILE_BYTES / line.len())
    }

    /// Writes the files below a directory.
    pub fn write(self, dir: &Path) {
        for number in 0..FILES {
            let path = dir.join(path(number));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, self.content(number)).unwrap();
        }
    }
}

/// Eight directories.
pub fn path(number: usize) -> String {
    format!("d{}/f{number}.conf", number % 8)
}
