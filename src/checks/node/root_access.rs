//! Who is root beside root, and which programs root's daemons start.

use std::collections::BTreeSet;

use crate::checks::basis::Basis;
use crate::checks::basis::live;
use crate::checks::model::Verdict;
use crate::checks::model::verdict;
use crate::checks::rule::plain_path;
use crate::controls::paths::{LOCAL_DIRECTORIES, STARTED_BY_NAME};
use crate::inventory::SoftwareSource;

/// What a bundle installs stands in `/usr/local/bin` by design, and a plan compares its digest. What somebody else
/// installed may stand there as well.
fn is_installed_there(on: &Basis<'_>, path: &str) -> bool {
    let Some(name) = path.strip_prefix("/usr/local/bin/") else { return false };
    match on.inventory.kubernetes.source {
        SoftwareSource::Bundle => on.software.is_some_and(|s| s.program(name).is_some()),
        SoftwareSource::Preinstalled => RUNTIMES.contains(&name),
        SoftwareSource::None | SoftwareSource::Packages => false,
    }
}

/// Programs of a container runtime.
const RUNTIMES: &[&str] = &["containerd-shim-runc-v2", "crun", "runc"];

/// No program stands in a directory that comes first and has the name of one that daemons start or that a package has.
pub(in crate::checks) fn programs(on: &Basis<'_>) -> Verdict {
    let live = match live(on) {
        Ok(live) => live,
        Err(verdict) => return verdict,
    };
    if !live.paths.contains_key("/") {
        return Verdict::unknown("the node did not report its root directory");
    }
    let Some(shadows) = &live.shadows else {
        return Verdict::unknown("/usr/local/sbin and /usr/local/bin were not searched");
    };
    let by_name = STARTED_BY_NAME
        .iter()
        .flat_map(|name| LOCAL_DIRECTORIES.iter().map(move |dir| format!("{dir}/{name}")))
        .filter(|p| live.paths.contains_key(p));
    let Some(libraries) = &live.shadowed_libraries else {
        return Verdict::unknown("ldconfig did not list the libraries");
    };
    let all: BTreeSet<String> = by_name.chain(shadows.iter().cloned()).collect();
    let wrong = all.iter().filter(|p| !is_installed_there(on, p));
    let wrong = wrong.map(|p| match shadows.contains(p) {
        true => format!("{} shadows the packaged program", plain_path(p)),
        false => format!("{} has the name of a program that daemons start", plain_path(p)),
    });
    let libraries =
        libraries.iter().map(|p| format!("{} shadows the distribution's library", plain_path(p)));
    let wrong = wrong.chain(libraries).collect();
    verdict("none of these names in /usr/local/sbin and /usr/local/bin", wrong, || {
        format!("{} names, and those of packages", STARTED_BY_NAME.len())
    })
}

/// Root alone has user id 0, and nobody gets in with an empty password.
pub(in crate::checks) fn accounts(on: &Basis<'_>) -> Verdict {
    let live = match live(on) {
        Ok(live) => live,
        Err(verdict) => return verdict,
    };
    let Some(accounts) = &live.accounts else {
        return Verdict::unknown("/etc/passwd and /etc/shadow were not read");
    };
    let others = accounts.root.iter().filter(|name| *name != "root");
    let mut wrong: Vec<String> =
        others.map(|name| format!("{} has user id 0", plain_path(name))).collect();
    if accounts.root.iter().filter(|name| *name == "root").count() != 1 {
        wrong.push("root is not listed exactly once".to_owned());
    }
    wrong.extend(
        accounts
            .without_password
            .iter()
            .map(|name| format!("{} has an empty password", plain_path(name))),
    );
    // Sockets of daemons are open to it, containerd's among them.
    wrong.extend(
        accounts.of_root_group.iter().map(|name| format!("{} is in group root", plain_path(name))),
    );
    verdict("only root, and no empty password", wrong, || "only root has user id 0".to_owned())
}
