//! The static probe as it was built: `scripts/probe.sh` puts it beside the program.

use std::path::Path;
use std::process::Command;

use kubastion::inventory::Probe;

/// In the root of an empty directory there is no loader, no library, no /etc and no /dev.
#[test]
fn the_built_probe_needs_nothing_but_the_kernel() {
    let program = Path::new(env!("CARGO_BIN_EXE_kubastion")).with_file_name("kubastion-probe");
    let test = "the_built_probe_needs_nothing_but_the_kernel";
    let Ok(bytes) = std::fs::read(&program) else {
        eprintln!("SKIPPED {test}: `sh scripts/probe.sh cargo target/debug` was not run");
        return;
    };
    assert!(bytes.len() < 3 << 20, "{} bytes", bytes.len());
    let probe = Probe::from_elf(bytes).unwrap();
    assert_eq!(probe.architecture, std::env::consts::ARCH);

    let root = tempfile::tempdir().unwrap();
    std::fs::copy(&program, root.path().join("probe")).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        let root = format!("--root={}", root.path().display());
        command.args(["--user", "--map-root-user", &root, "--wd=/", "/probe"]).args(arguments);
        command.env_clear().output().unwrap()
    };
    let output = run(&["--help"]);
    let said = String::from_utf8(output.stderr).unwrap();
    if said.starts_with("unshare: unshare failed") {
        eprintln!("SKIPPED {test}: no user namespaces");
        return;
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
