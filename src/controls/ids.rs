//! The ids of all controls.

use super::catalogue::{CATALOGUE, COUNT};
use super::model::Severity;

/// Every control id, sorted.
pub static ALL: [&str; COUNT] = ids();

const fn ids() -> [&'static str; COUNT] {
    let mut ids = [""; COUNT];
    let mut i = 0;
    while i < COUNT {
        ids[i] = CATALOGUE[i].id;
        i += 1;
    }
    ids
}

/// Ids of controls without which the cluster is open, sorted.
pub static CRITICAL: [&str; CRITICAL_COUNT] = critical();

const CRITICAL_COUNT: usize = {
    let (mut count, mut i) = (0, 0);
    while i < COUNT {
        if matches!(CATALOGUE[i].severity, Severity::Critical) {
            count += 1;
        }
        i += 1;
    }
    count
};

const fn critical() -> [&'static str; CRITICAL_COUNT] {
    let mut ids = [""; CRITICAL_COUNT];
    let (mut filled, mut i) = (0, 0);
    while i < COUNT {
        if matches!(CATALOGUE[i].severity, Severity::Critical) {
            ids[filled] = CATALOGUE[i].id;
            filled += 1;
        }
        i += 1;
    }
    ids
}
