//! Which controls are wanted.

use crate::inventory::{Inventory, Profile, Switch};

/// Controls that not every profile wants. A control that has no row is wanted by all.
const NOT_EVERYWHERE: [(&str, &[Profile]); 2] = [
    // kubescape C-0134 (NSA) objects to the flag that the STIG asks for.
    ("apiserver-request-timeout", &[Profile::Stig]),
    // It would close the way that this tool comes by.
    ("host-ssh-disabled-on-workers", &[]),
];

/// Whether a control is enforced: the inventory's switch, or else what the profile wants.
pub fn wanted(inventory: &Inventory, control: &str) -> bool {
    match inventory.hardening.controls.get(control) {
        Some(switch) => *switch == Switch::On,
        None => NOT_EVERYWHERE
            .iter()
            .find(|(id, _)| *id == control)
            .is_none_or(|(_, profiles)| profiles.contains(&inventory.hardening.profile)),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_row_names_a_control() {
        for (id, _) in super::NOT_EVERYWHERE {
            assert!(crate::controls::ids::ALL.contains(&id), "{id}");
        }
    }
}
