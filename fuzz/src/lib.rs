//! What the fuzz targets share.

use std::path::Path;

use kubastion::clock::Clock;
use kubastion::inventory::{Inventory, LoadContext, LoadError, Loaded, load_bytes};

/// An inventory with every role.
const INVENTORY: &str = "\
version: kubastion/v1
cluster: {name: fuzz, kubernetes: 1.36.2, endpoint: 'api.example:6443'}
ssh: {user: admin, sudo: passwordless, agent: true}
firewall: {admin_networks: [192.0.2.0/24]}
nodes:
- name: cp1
  addresses: [192.0.2.1]
  roles: [control-plane, etcd]
  ssh: {host_keys: ['SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA']}
- name: w1
  addresses: [192.0.2.2]
  roles: [worker]
  ssh: {host_keys: ['SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA']}
";

/// Loads an inventory from memory, as the command line does from a file.
pub fn load(bytes: &[u8]) -> Result<Loaded, LoadError> {
    let context = LoadContext {
        clock: Clock::System,
        known_controls: &kubastion::controls::ids::ALL,
        critical_controls: &kubastion::controls::ids::CRITICAL,
        impact_rows: kubastion::impact::IDS,
        conflicts: kubastion::controls::conflict,
        home: None,
        host_keys_optional: false,
    };
    load_bytes(bytes, Path::new("fuzz.yaml"), Path::new("/fuzz"), &context)
}

/// A good inventory.
pub fn inventory() -> Inventory {
    load(INVENTORY.as_bytes()).expect("it is valid").inventory
}

/// A directory of this process in memory, made once.
pub fn scratch() -> std::path::PathBuf {
    let dir = Path::new("/dev/shm").join(format!("kubastion-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("/dev/shm is there");
    dir
}

/// Text that goes to a terminal must not steer it.
pub fn assert_tame(text: &str) {
    assert!(!text.chars().any(kubastion::plain::is_terminal_control), "{text:?}");
}
