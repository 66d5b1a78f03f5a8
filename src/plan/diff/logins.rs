//! Logins that will stop working.

use std::collections::BTreeSet;

use crate::facts::{Login, LostLogin, NodeFacts};
use crate::plan::step::is_word;

/// Logins that will stop working. A name that does not fit into a step is left out, so its change is undone.
pub(super) fn shut_out(facts: &NodeFacts) -> Vec<String> {
    let lost = facts.logins.iter().flatten().filter(|l| l.lost.is_some());
    let names: BTreeSet<&String> = lost.map(|l| &l.name).collect();
    names.into_iter().filter(|n| is_word(n)).cloned().collect()
}

/// Notes on logins that will stop working, and why.
pub(super) fn of_logins(facts: &NodeFacts) -> Vec<String> {
    let Some(logins) = &facts.logins else {
        return vec![
            "the logins that will stop working could not be determined: `sshd -T` gave no answer, or more than 100 \
             accounts have a login shell"
                .to_owned(),
        ];
    };
    let said = |l: &Login| {
        let why = l.lost.as_ref()?;
        let hint = if let LostLogin::Method(_) = why {
            ": password and keyboard-interactive authentication will be off. First give the login a key, or enable what it needs in its own `Match` block"
        } else {
            ""
        };
        Some(format!("login `{}` from {} will stop working ({why}){hint}", l.name, l.address))
    };
    let mut notes: Vec<String> = logins.iter().filter_map(said).collect();
    notes.dedup();
    notes
}
