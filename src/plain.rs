//! Plain text: of what a node, an object of the API or a file said, of numbers and of digests.
//!
//! A control character could clear a terminal, rewrite a line above or type an answer; a change of the writing
//! direction could make a path look like another one (Unicode Technical Report 36, section 2.5).

/// Whether a character controls a terminal or the writing direction. Line ends and tabs do not.
pub fn is_terminal_control(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\t'))
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The text with a replacement character for each that [`is_terminal_control`].
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if is_terminal_control(c) { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}

/// The same on one line.
pub fn plain_line(text: &str) -> String {
    plain(text).replace(['\n', '\t'], " ")
}

/// A number and what is counted: `1 step`, `2 steps`; "directory/directories" where an s is not enough.
pub fn counted(n: usize, what: &str) -> String {
    let (one, many) =
        what.split_once('/').map_or((what, format!("{what}s")), |(o, m)| (o, m.into()));
    if n == 1 { format!("1 {one}") } else { format!("{n} {many}") }
}

/// Names as a sentence has them: `a`, `a and b`, `a, b and c`.
pub fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_listed_as_in_a_sentence() {
        assert_eq!(
            ["", "a", "a and b"].map(str::to_owned),
            [&[][..], &["a"], &["a", "b"]].map(listed)
        );
        assert_eq!(listed(&["a", "b", "c"]), "a, b and c");
    }

    #[test]
    fn nothing_steers_a_terminal() {
        assert_eq!(plain("a\u{1b}[2J\r\u{9b}b\n\tc"), "a\u{fffd}[2J\u{fffd}\u{fffd}b\n\tc");
        assert_eq!(plain("a\u{202e}b"), "a\u{fffd}b");
        assert_eq!(plain_line("a\nb"), "a b");
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!([0, 1, 2].map(|n| counted(n, "step")), ["0 steps", "1 step", "2 steps"]);
        let directories = [1, 2].map(|n| counted(n, "directory/directories"));
        assert_eq!(directories, ["1 directory", "2 directories"]);
    }
}
