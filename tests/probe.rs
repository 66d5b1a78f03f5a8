//! The static probe as it is built into the program.

use std::io::Write;
use std::process::{Command, Stdio};

use kubastion::inventory::{BUILT_IN_PROBE, Probe};

use crate::support::skip::skipped;

/// In the root of an empty directory there is no loader, no library, no /etc and no /dev.
#[test]
fn the_built_probe_needs_nothing_but_the_kernel() {
    let test = "the_built_probe_needs_nothing_but_the_kernel";
    assert!(BUILT_IN_PROBE.len() < 3 << 20, "{} bytes", BUILT_IN_PROBE.len());
    let probe = Probe::from_elf(BUILT_IN_PROBE).unwrap();
    assert_eq!(probe.architecture, std::env::consts::ARCH);

    let root = tempfile::tempdir().unwrap();
    executable(&root.path().join("probe"), BUILT_IN_PROBE);
    let run = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        let root = format!("--root={}", root.path().display());
        command.args(["--user", "--map-root-user", &root, "--wd=/", "/probe"]).args(arguments);
        command.env_clear().output().unwrap()
    };
    let output = run(&["--help"]);
    let said = String::from_utf8(output.stderr).unwrap();
    if said.starts_with("unshare: unshare failed") {
        return skipped(test, "no user namespaces");
    }
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("kubastion-probe: ") && said.contains("usage: "), "{said}");

    // As far as the network, with real files.
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new([]).unwrap().self_signed(&key).unwrap();
    std::fs::write(root.path().join("c"), certificate.pem()).unwrap();
    std::fs::write(root.path().join("k"), key.serialize_pem()).unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = run(&["--ca=/c", "--cert=/c", "--key=/k", &closed.to_string(), "/livez"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let wanted = format!("no connection to {closed}");
    assert!(said.contains(&wanted) && said.lines().count() == 1, "{said}");
}

/// A program on disk, written by another process: a file that this one has open for writing is passed on to whatever
/// another test's thread starts in that moment, and cannot be run until that is gone (ETXTBSY, execve(2)).
fn executable(path: &std::path::Path, bytes: &[u8]) {
    let script = "cat >\"$0\" && chmod 755 \"$0\"";
    let mut writer =
        Command::new("sh").args(["-c", script]).arg(path).stdin(Stdio::piped()).spawn().unwrap();
    writer.stdin.take().unwrap().write_all(bytes).unwrap();
    assert!(writer.wait().unwrap().success());
}
