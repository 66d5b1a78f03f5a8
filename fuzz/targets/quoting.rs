//! Any word, quoted for a shell: the shell gives it back as one word, byte for byte.
#![no_main]

use std::io::Write;
use std::process::{Command, Stdio};

libfuzzer_sys::fuzz_target!(|word: &str| {
    // No shell has a word with a NUL.
    if word.contains('\0') {
        return;
    }
    let mut sh = Command::new("sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sh is there");
    let script = format!("printf '%s.' {}\n", kubastion::transport::frame::quote(word));
    sh.stdin.take().expect("piped").write_all(script.as_bytes()).expect("it reads");
    let output = sh.wait_with_output().expect("it ends");
    assert_eq!(output.stdout, format!("{word}.").as_bytes(), "{script:?}");
});
