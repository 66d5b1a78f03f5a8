//! Controls that need not hold, in every report for people.

use std::fmt::Write;

use crate::checks::Verification;

/// Lists every control that the inventory switches off, so that none is overlooked.
pub(super) fn switched_off(out: &mut String, report: &Verification) {
    for off in &report.switched_off {
        let _ = writeln!(out, "  {}  {}  {}", off.control, off.severity, off.title);
        if let Some(g) = &off.granted {
            let _ = writeln!(out, "    until {} by {}: {}", g.expires, g.owner, g.reason);
        }
    }
}
