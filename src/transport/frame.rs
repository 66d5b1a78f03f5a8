//! Command framing: how a program reaches `/bin/sh` on a node.
//!
//! The remote command is one constant line. It prints a marker, reads one line that holds the
//! escaped program, and evaluates it; what follows on standard input is the program's own data.
//! `read` takes exactly one line and no byte more (POSIX sh, `read`), so that a binary stream may
//! follow. It does that with one system call a byte, which is slow for a long program: that comes
//! after a short line that takes it in with `dd`, in one piece and just as exactly. So neither argv nor sudo's log ever holds more than this line, and text that a start-up
//! file prints before the marker is told apart from the program's output.

use crate::inventory::Sudo;

/// Starts the line that holds the program.
const PROGRAM: &str = "kubastion-program:";

/// What the remote command ends with where no program came to it.
pub const LOST: i32 = 97;

/// The remote command for a marker. The user's login shell takes it, whichever that is: fish knows a backslash between
/// single quotes, and csh an exclamation mark, so that it holds neither.
pub fn command(marker: &str, sudo: Sudo) -> String {
    // With `stays` set by a program the next one is waited for. bash's `read` would end after TMOUT seconds. One line may be
    // somebody else's; after two, the line with the program was taken by what ran before.
    let shell = format!(
        "stays=; o=; unset TMOUT; echo {marker}; while IFS= read -r p; do case $p in {PROGRAM}*) \
         eval \"$(printf %b \"${{p#{PROGRAM}}}\")\"; s=$?; [ $stays ] || exit $s; stays=; o=;; \
         *) [ -z $o ] || exit {LOST}; o=o;; esac; done; exit {LOST}"
    );
    // The program runs with the C locale and no inherited umask.
    let shell = format!("export LC_ALL=C; umask 077; {shell}");
    let quoted = quote(&shell);
    match sudo {
        Sudo::None => format!("exec sh -c {quoted}"),
        Sudo::Passwordless => format!("exec sudo -n -- sh -c {quoted}"),
        // The prompt is our own: the password is sent when it is asked for, and a second prompt says
        // that it was wrong.
        Sudo::Password => format!("exec sudo -k -S -p {} -- sh -c {quoted}", prompt(marker)),
    }
}

/// What sudo prints when it asks for the password.
pub fn prompt(marker: &str) -> String {
    format!("{marker}-password:")
}

/// A longer program than this, in bytes, is worth the start of a `dd`.
const SHORT: usize = 1000;

/// Ends a program that came whole: one that a broken connection cut off is not run.
const WHOLE: &str = "# whole";

/// What carries a program: a line, and the program itself behind it if that is long.
pub fn program(script: &str) -> Vec<u8> {
    if script.len() <= SHORT {
        return program_line(script);
    }
    let body = format!("{script}\n{WHOLE}");
    // One block, read to its end (`fullblock`): not a byte of what follows is taken.
    let mut bytes = program_line(&format!(
        "p=$(dd bs={} count=1 iflag=fullblock 2>/dev/null); \
         case $p in *'{WHOLE}') eval \"$p\";; *) exit 96;; esac",
        body.len()
    ));
    bytes.extend_from_slice(body.as_bytes());
    bytes
}

/// What carries a program after which the shell stays. The program runs in a subshell; [`end_of`] its output says that
/// it has ended.
pub fn staying(script: &str, end: &str) -> Vec<u8> {
    let body = format!("{script}\n{WHOLE}");
    // The word for the end is in no argv, where a user of the node could read it and put it into some output.
    let mut bytes = program_line(&format!(
        "p=$(dd bs={} count=1 iflag=fullblock 2>/dev/null); case $p in *'{WHOLE}') (eval \"$p\"); s=$?; \
         printf '\\n%s\\n' {end} >&2; printf '\\n%s %s\\n' {end} $s; stays=y;; *) exit 96;; esac",
        body.len()
    ));
    bytes.extend_from_slice(body.as_bytes());
    bytes
}

/// Where output ended, if it has: the length of it, and what stands behind the word for the end.
pub fn end_of<'o>(output: &'o [u8], end: &str, from: usize) -> Option<(usize, &'o [u8])> {
    let word = format!("\n{end}");
    let at = from + output[from..].windows(word.len()).position(|w| w == word.as_bytes())?;
    let rest = &output[at + word.len()..];
    let line = rest.iter().position(|&b| b == b'\n')?;
    Some((at, &rest[..line]))
}

/// A program for a shell that stayed: it says that it begins, as a new shell does.
pub fn next(script: &str, marker: &str) -> String {
    format!("printf '%s\\n' {marker}\n{script}")
}

fn program_line(script: &str) -> Vec<u8> {
    let mut line = Vec::with_capacity(script.len() * 2);
    line.extend_from_slice(PROGRAM.as_bytes());
    for b in script.bytes() {
        match b {
            b'\\' => line.extend_from_slice(b"\\\\"),
            b'\n' => line.extend_from_slice(b"\\n"),
            b => line.push(b),
        }
    }
    line.push(b'\n');
    line
}

/// A word as POSIX sh takes it literally.
pub fn quote(word: &str) -> String {
    if !word.is_empty()
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&b))
    {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// A marker that no start-up file prints by chance.
pub fn marker() -> String {
    format!("kubastion-{}", crate::plain::hex(&crate::clock::random_bytes::<12>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn run_with(shell: &str, script: &str, data: &[u8]) -> (String, i32) {
        let marker = marker();
        let mut child = Command::new(shell)
            .arg("-c")
            .arg(command(&marker, Sudo::None))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"a line that is not a program\n").unwrap();
        stdin.write_all(&program(script)).unwrap();
        stdin.write_all(data).unwrap();
        drop(stdin);
        let out = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let text = text.strip_prefix(&format!("{marker}\n")).unwrap().to_owned();
        (text, out.status.code().unwrap())
    }

    #[test]
    fn program_and_data_arrive_byte_by_byte() {
        let script = "x='a\\tb \\\\n %s $HOME'\nprintf '%s\\n' \"$x\"\nwc -c\nexit 7\n";
        let long = format!("# {}\n{script}", "x".repeat(20_000));
        let data = [0u8, 10, 13, 92, 255, 0, 10];
        for shell in ["dash", "bash"] {
            for script in [script, &long] {
                let (text, status) = run_with(shell, script, &data);
                assert_eq!(text, "a\\tb \\\\n %s $HOME\n7\n", "{shell}");
                assert_eq!(status, 7, "{shell}");
            }
        }
    }

    /// What stands between the single quotes of a command.
    fn between_quotes(command: &str) -> String {
        command.split('\'').skip(1).step_by(2).collect()
    }

    /// fish's own rules: between single quotes a backslash escapes a quote and itself.
    #[test]
    fn login_shells_of_other_kinds_take_the_command_as_it_is() {
        for sudo in [Sudo::None, Sudo::Passwordless, Sudo::Password] {
            let command = command("kubastion-0a", sudo);
            assert!(!between_quotes(&command).contains(['\\', '!', '\n']), "{command}");
            assert!(!command.contains(['!', '\n', '`']), "{command}");
        }
        for shell in ["fish", "tcsh", "zsh"] {
            if Command::new(shell).arg("-c").arg("true").output().is_ok_and(|o| o.status.success())
            {
                assert_eq!(
                    run_with(shell, "echo $((1 + 1))", b""),
                    ("2\n".to_owned(), 0),
                    "{shell}"
                );
            }
        }
    }

    /// A start-up file that reads has taken the line with the program: that is said, and not waited out.
    #[test]
    fn a_program_whose_line_was_taken_is_not_waited_for() {
        let mut child = Command::new("sh")
            .args([
                "-c",
                &format!("read -r taken; {}", command("m", Sudo::None).replace("exec ", "")),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&staying("echo never\necho so", "end")).unwrap();
        // Nobody closes it: the shell would wait for more.
        let out = child.wait().unwrap();
        drop(stdin);
        assert_eq!(out.code(), Some(LOST));
    }

    #[test]
    fn a_program_that_was_cut_off_is_not_run() {
        let whole = program(&format!("echo ran\n{}", "true\n".repeat(400)));
        for cut in [whole.len() - 1, whole.len() - 20, whole.len() / 2] {
            let mut child = Command::new("sh")
                .args(["-c", &command("m", Sudo::None)])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            child.stdin.take().unwrap().write_all(&whole[..cut]).unwrap();
            let out = child.wait_with_output().unwrap();
            assert_eq!(
                (out.stdout.as_slice(), out.status.code()),
                (&b"m\n"[..], Some(96)),
                "{cut}"
            );
        }
    }

    #[test]
    fn a_shell_stays_for_what_comes_next() {
        for shell in ["dash", "bash"] {
            let mut child = Command::new(shell)
                .args(["-c", &command("m", Sudo::None)])
                .env("TMOUT", "1")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut stdin = child.stdin.take().unwrap();
            let taking =
                "a=$(dd bs=4 count=1 2>/dev/null); printf \"$a\"; cd /tmp; echo x >&2; exit 5";
            stdin.write_all(&staying(taking, "first-end")).unwrap();
            stdin.write_all(b"abcd").unwrap();
            // Longer than the shell would wait if it went by TMOUT.
            std::thread::sleep(std::time::Duration::from_millis(1500));
            stdin.write_all(&staying(&next("pwd", "n"), "second-end")).unwrap();
            stdin.write_all(&program(&next("cat; exit 3", "o"))).unwrap();
            stdin.write_all(b"rest\n").unwrap();
            drop(stdin);
            let out = child.wait_with_output().unwrap();
            let here = std::env::current_dir().unwrap();
            let wanted =
                format!("m\nabcd\nfirst-end 5\nn\n{}\n\nsecond-end 0\no\nrest\n", here.display());
            assert_eq!(String::from_utf8_lossy(&out.stdout), wanted, "{shell}");
            assert_eq!(out.stderr, b"x\n\nfirst-end\n\nsecond-end\n", "{shell}");
            assert_eq!(out.status.code(), Some(3), "{shell}");
        }
    }

    #[test]
    fn an_end_is_found_where_it_is() {
        assert_eq!(end_of(b"abc\nend 0\n", "end", 0), Some((3, &b" 0"[..])));
        assert_eq!(end_of(b"abc\n\nend 0\n", "end", 0), Some((4, &b" 0"[..])));
        for not_yet in [&b"abc\nend 0"[..], b"abc\nen", b"abcend 0\n", b""] {
            assert_eq!(end_of(not_yet, "end", 0), None);
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
        #[test]
        fn quoting_round_trips(word in "[^\0]{0,40}") {
            let out = Command::new("sh").arg("-c").arg(format!("printf %s {}", quote(&word))).output().unwrap();
            proptest::prop_assert_eq!(out.stdout, word.as_bytes());
        }
    }
}
