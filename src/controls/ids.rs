//! The ids of all controls.

use super::catalogue::{CATALOGUE, COUNT};

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
