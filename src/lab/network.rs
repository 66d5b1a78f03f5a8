//! A lab's network: a bridge in a namespace of its own, and one link from there to the host.
//!
//! The bridge is not on the host, because there the host's own netfilter rules (a container
//! engine's FORWARD policy, say) would judge frames between nodes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::address;
use super::command::run;
use super::error::Error;
use super::state::State;
use crate::file_lock::FileLock;

/// Held while a network is chosen and claimed, by whichever lab on this machine.
const CLAIM_LOCK: &str = "/run/kubastion-lab.lock";

/// Where iproute2 keeps named network namespaces.
const NETNS_DIR: &str = "/run/netns";

fn ip(args: &[&str]) -> Result<Vec<u8>, Error> {
    run(Command::new("ip").args(args))
}

/// Chooses a free network, then makes the switch and the host's link; `record` is called with the
/// chosen slot before anything exists.
pub(super) fn claim(
    state: &mut State,
    record: impl FnOnce(&State) -> Result<(), Error>,
) -> Result<(), Error> {
    let lock = File::create(CLAIM_LOCK).map_err(Error::io("open", CLAIM_LOCK))?;
    let _lock = FileLock::wait_exclusive(lock).map_err(Error::io("lock", CLAIM_LOCK))?;
    let addresses = ip(&["-json", "-4", "address"])?;
    let routes = ip(&["-json", "-4", "route", "show", "table", "all"])?;
    let used = address::used_networks(&addresses, &routes)
        .map_err(|source| Error::State { path: PathBuf::from("(output of ip)"), source })?;
    state.slot = address::free_slot(&used).ok_or(Error::NoFreeNetwork)?;
    record(state)?;
    make_switch(state)
    // The host's link now carries the address, so the slot is taken; the lock may go.
}

fn make_switch(state: &State) -> Result<(), Error> {
    let switch = state.switch();
    let gateway = format!("{}/24", state.gateway());
    ip(&["netns", "add", &switch])?;
    ip(&["-n", &switch, "link", "add", "br0", "type", "bridge"])?;
    ip(&["-n", &switch, "link", "set", "br0", "up"])?;
    ip(&["link", "add", &switch, "type", "veth", "peer", "name", "host", "netns", &switch])?;
    // Packets from nodes to anywhere but this machine end here, also if it forwards for others;
    // a node has no business on the operator's network.
    for (family, key, value) in [("ipv4", "forwarding", "0"), ("ipv6", "disable_ipv6", "1")] {
        let path = Path::new("/proc/sys/net").join(family).join("conf").join(&switch).join(key);
        // A host without IPv6 has no such file.
        if path.exists() {
            std::fs::write(&path, value).map_err(Error::io("write", &path))?;
        }
    }
    ip(&["-n", &switch, "link", "set", "host", "master", "br0", "up"])?;
    ip(&["address", "add", &gateway, "dev", &switch])?;
    ip(&["link", "set", &switch, "up"])?;
    Ok(())
}

/// Whether the host's link into the lab exists. Without it, a packet to a node's address would
/// leave through the host's default route.
pub(super) fn is_plugged(state: &State) -> bool {
    Path::new("/sys/class/net").join(state.switch()).exists()
}

/// Removes all namespaces and links of a lab, whichever exist.
pub(super) fn remove(state: &State) -> Result<(), Error> {
    let nodes = state.nodes.iter().map(|n| state.netns(&n.name));
    for netns in nodes.chain([state.switch()]) {
        // Deleting a namespace deletes the links in it, but later; its name goes now.
        if Path::new(NETNS_DIR).join(&netns).exists() {
            ip(&["netns", "delete", &netns])?;
        }
    }
    if is_plugged(state) {
        match ip(&["link", "delete", &state.switch()]) {
            // The namespace's end took it along in between.
            Err(_) if !is_plugged(state) => {}
            result => {
                result?;
            }
        }
    }
    Ok(())
}
