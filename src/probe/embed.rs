//! Builds the static probe, so that it is part of `kubastion`: one file to carry, and plans that do not depend on what
//! lies beside it. A build script, named in Cargo.toml.

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// Variables of a build script that would change what the other cargo does.
const OURS: &[&str] = &[
    "CARGO_ENCODED_RUSTFLAGS",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_MAKEFLAGS",
    "MAKEFLAGS",
    "CARGO_BUILD_TARGET",
];

fn main() {
    println!("cargo::rerun-if-changed=src/probe");
    println!("cargo::rerun-if-changed=Cargo.lock");
    let out = PathBuf::from(var("OUT_DIR")).join("probe");
    // Nodes are Linux machines, and so is what is built here.
    let program = if var("CARGO_CFG_TARGET_OS") == "linux" { build() } else { Vec::new() };
    if let Err(e) = std::fs::write(&out, program) {
        panic!("{} cannot be written: {e}", out.display());
    }
}

fn var(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

/// The probe as bytes. It has a target directory of its own, shared by all profiles: cargo holds a lock on the other.
fn build() -> Vec<u8> {
    let target = var("TARGET");
    // OUT_DIR is TARGET_DIR[/TRIPLE]/PROFILE/build/PACKAGE/out.
    let out = PathBuf::from(var("OUT_DIR"));
    let shared = out.ancestors().nth(4).map(|d| d.join("kubastion-probe")).unwrap_or(out);
    let mut cargo = Command::new(var("CARGO"));
    cargo
        .args(["rustc", "--quiet", "--locked", "--package", "kubastion-probe", "--bin", "probe"])
        .args(["--profile", "probe", "--target", &target, "--target-dir"])
        .arg(&shared)
        // The flag goes to this one program, not to what it is made of. -static-pie: no interpreter, addresses still
        // random.
        .args(["--", "-C", "target-feature=+crt-static"])
        .current_dir(var("CARGO_MANIFEST_DIR"));
    for &name in OURS {
        cargo.env_remove(name);
    }
    let path = shared.join(&target).join("probe/probe");
    match cargo.status() {
        Ok(status) if status.success() => match std::fs::read(&path) {
            Ok(program) => program,
            Err(e) => panic!("{} cannot be read: {e}", path.display()),
        },
        Ok(status) => {
            panic!("the static probe (src/probe) cannot be built: cargo ended with {status}")
        }
        Err(e) => panic!("cargo cannot be started for the static probe: {e}"),
    }
}
