//! The work of one transaction: by kind while items are gone through, then as steps in their order.

use crate::controls::IdList;
use std::collections::BTreeMap;

use super::marks::{CONFIRM_ETCD_S, CONFIRM_HOST_S};
use crate::desired::Phase;
use crate::plan::model::Transaction;
use crate::plan::step::{Action, NewFile, Step};
use crate::plan::why::Why;

/// Work of one transaction by kind.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) packages: Vec<Action>,
    pub(super) users: Vec<Action>,
    pub(super) directories: BTreeMap<String, Action>,
    pub(super) guard_files: BTreeMap<String, FileGroup>,
    pub(super) stale: Vec<Action>,
    pub(super) permissions: Vec<Action>,
    pub(super) files: BTreeMap<String, FileGroup>,
    pub(super) programs: Vec<Action>,
    pub(super) removals: Vec<Action>,
    pub(super) modules: Vec<Action>,
    pub(super) sysctls: Vec<Action>,
    pub(super) swap: Vec<Action>,
    pub(super) firewall: Vec<Action>,
    pub(super) sshd_check: bool,
    /// Who will not get in any more, where a file of sshd changes.
    pub(super) logins: Option<Vec<String>>,
    pub(super) guard_unit: Option<Action>,
    pub(super) images: Vec<Action>,
    pub(super) kubeadm: Vec<Action>,
    pub(super) from_pod: Vec<Action>,
    pub(super) static_pods: Vec<Action>,
    pub(super) units: Vec<Action>,
    pub(super) expect: BTreeMap<String, Option<String>>,
    pub(super) cuts_access: bool,
}

#[derive(Default)]
pub(super) struct FileGroup {
    pub(super) files: BTreeMap<String, NewFile>,
    pub(super) controls: IdList,
    pub(super) why: Vec<Why>,
}

impl Pending {
    pub(super) fn finish(self, phase: Phase) -> Option<Transaction> {
        let plain = |step| Action { step, controls: IdList::default(), why: Vec::new() };
        let group = |(directory, g): (String, FileGroup)| Action {
            step: Step::Files { directory, files: g.files },
            controls: g.controls,
            why: g.why,
        };
        let guarded = self.cuts_access
            || (phase == Phase::Etcd && !(self.units.is_empty() && self.from_pod.is_empty()));
        let confirm_within_s = guarded.then_some(match phase {
            Phase::Etcd => CONFIRM_ETCD_S,
            _ => CONFIRM_HOST_S,
        });
        let new_units = self.files.keys().any(|d| d.starts_with("/etc/systemd/system"));
        let new_guard = !self.guard_files.is_empty();
        let loads = |a: &Action| match &a.step {
            Step::Firewall { .. } => true,
            Step::Sysctl { key, .. } => key.starts_with("net."),
            _ => false,
        };
        let proves = self.firewall.iter().chain(&self.sysctls).any(loads);
        let has_files = !self.files.is_empty() || !self.programs.is_empty() || new_guard;

        let mut steps = merge_packages(self.packages);
        steps.extend(self.users);
        steps.extend(self.directories.into_values());
        // The guard is in place before anything that it guards.
        steps.extend(self.guard_files.into_iter().map(group));
        if new_guard {
            steps.push(plain(Step::DaemonReload));
        }
        steps.extend(self.guard_unit);
        if let Some(within_s) = confirm_within_s {
            steps.push(plain(Step::Arm { within_s }));
        }
        steps.extend(self.stale);
        steps.extend(self.permissions);
        steps.extend(self.files.into_iter().map(group));
        steps.extend(self.programs);
        steps.extend(self.removals);
        if new_units {
            steps.push(plain(Step::DaemonReload));
        }
        steps.extend(self.modules);
        steps.extend(self.sysctls);
        steps.extend(self.swap);
        steps.extend(self.firewall);
        if self.sshd_check {
            steps.push(plain(Step::CheckSshd));
        }
        if let Some(without) = self.logins {
            steps.push(plain(Step::CheckLogins { without }));
        }
        steps.extend(self.images);
        steps.extend(self.kubeadm);
        steps.extend(self.static_pods);
        steps.extend(self.from_pod);
        steps.extend(self.units);
        if has_files {
            steps.push(plain(Step::Verify));
        }
        if guarded && proves {
            steps.push(plain(Step::Prove));
        }
        let works = steps.iter().any(|a| !matches!(a.step, Step::Arm { .. } | Step::CheckSshd));
        works.then_some(Transaction { phase, confirm_within_s, steps, expect: self.expect })
    }
}

/// One call of the package manager for all packages.
fn merge_packages(packages: Vec<Action>) -> Vec<Action> {
    let mut merged: Option<Action> = None;
    for package in packages {
        match (&mut merged, package.step) {
            (
                Some(Action { step: Step::Packages { names, .. }, controls, .. }),
                Step::Packages { names: more, .. },
            ) => {
                names.extend(more);
                controls.extend(package.controls.ids().iter().copied());
            }
            (_, step) => {
                merged =
                    Some(Action { step, controls: package.controls, why: vec![Why::NotInstalled] })
            }
        }
    }
    merged.into_iter().collect()
}
