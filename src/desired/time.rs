//! What keeps a node's clock.

use super::collector::{Collector, Unit, exists};
use super::context::Context;
use super::model::OnChange;
use crate::facts::NodeFacts;
use crate::os::ChronyServers as Place;
use crate::render::Text;
use crate::render::input::host::{ChronyServers, ChronyWhole, TimesyncdServers};

/// What keeps a node's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeDaemon {
    /// What every node gets that has none.
    Chrony,
    /// systemd's own client, which distributions bring along.
    Timesyncd,
    /// Another one, by its unit. Its configuration is not ours to write.
    Other(&'static str),
}

const TIMESYNCD: &str = "systemd-timesyncd.service";

const TIMESYNCD_SERVERS: &str = "/etc/systemd/timesyncd.conf.d/kubastion.conf";

/// Units that keep a clock, beside chrony's. Packages of two of them exclude each other: installing one more takes the
/// node's own away, and no rollback brings a package back.
pub(super) const TIME_UNITS: &[&str] =
    &[TIMESYNCD, "ntpsec.service", "ntp.service", "ntpd.service", "openntpd.service"];

impl TimeDaemon {
    /// The one that the node has been given. One that is installed and neither enabled nor running was given up.
    pub(super) fn of(facts: &NodeFacts) -> Self {
        let is_used = |unit: &&str| {
            facts.units.get(*unit).is_some_and(|u| {
                u.load != "masked" && (u.active == "active" || u.file.starts_with("enabled"))
            })
        };
        if facts.packages.contains_key("chrony") {
            return Self::Chrony;
        }
        match TIME_UNITS.iter().copied().find(is_used) {
            None => Self::Chrony,
            Some(TIMESYNCD) => Self::Timesyncd,
            Some(unit) => Self::Other(unit),
        }
    }
}

const TIME: &[&str] = &["host-time-sync"];

pub(super) fn items(context: &Context<'_>, collector: &mut Collector<'_>) {
    let Some(facts) = context.facts() else {
        // Only the paths are asked for, of whichever it will be.
        chrony(context, collector);
        timesyncd(context, collector);
        return;
    };
    let servers = !context.inventory.host.ntp_servers.is_empty();
    let daemon = TimeDaemon::of(facts);
    if daemon != TimeDaemon::Timesyncd && exists(context, TIMESYNCD_SERVERS) {
        collector.gone(TIMESYNCD_SERVERS);
    }
    let warns = context.warns_about(TIME[0]);
    match daemon {
        TimeDaemon::Chrony => chrony(context, collector),
        TimeDaemon::Timesyncd => {
            if warns {
                collector.note("systemd-timesyncd is kept as the time service: chrony, which would replace it, is not installed");
            }
            timesyncd(context, collector);
        }
        TimeDaemon::Other(unit) if warns => collector.note(if servers {
            format!(
                "{unit} is kept as the time service: `host.ntp_servers` is not written to its configuration, so add the servers there"
            )
        } else {
            format!("{unit} is kept as the time service: chrony, which would replace it, is not installed")
        }),
        TimeDaemon::Other(_) => {}
    }
}

/// Whether the daemon may run with servers of a file that is to go, or was: it reads it once.
fn had_servers(context: &Context<'_>, unit: &str, path: &str) -> bool {
    exists(context, path) || context.facts().is_some_and(|f| f.unit_marks.contains_key(unit))
}

fn timesyncd(context: &Context<'_>, collector: &mut Collector<'_>) {
    let servers = &context.inventory.host.ntp_servers;
    let mut unit = Unit::running(TIMESYNCD);
    if servers.is_empty() {
        collector.gone(TIMESYNCD_SERVERS);
    } else {
        collector.template(TIME, TIMESYNCD_SERVERS, |_| {
            Ok(TimesyncdServers { servers: Text::all(servers) })
        });
    }
    if !servers.is_empty() || had_servers(context, TIMESYNCD, TIMESYNCD_SERVERS) {
        unit = Unit {
            on_change: OnChange::Restart,
            watches: vec![TIMESYNCD_SERVERS.to_owned()],
            ..unit
        };
    }
    if !context.platform.container {
        collector.unit(TIME, unit);
    }
}

fn chrony(context: &Context<'_>, collector: &mut Collector<'_>) {
    let servers = &context.inventory.host.ntp_servers;
    let mut watches = Vec::new();
    if !servers.is_empty() {
        let path = match context.os().chrony_servers {
            Place::DropIn(path) => {
                collector
                    .template(TIME, path, |_| Ok(ChronyServers { servers: Text::all(servers) }));
                path
            }
            Place::Whole(path) => {
                collector.template(TIME, path, |_| Ok(ChronyWhole { servers: Text::all(servers) }));
                path
            }
        };
        watches.push(path.to_owned());
    } else if let Place::DropIn(path) = context.os().chrony_servers {
        collector.gone(path);
        if had_servers(context, context.os().chrony, path) {
            watches.push(path.to_owned());
        }
    }
    if context.platform.container {
        return;
    }
    let name = context.os().chrony;
    let on_change = if watches.is_empty() { OnChange::Nothing } else { OnChange::Restart };
    collector.packaged_unit(
        TIME,
        context.os().packages.chrony,
        Unit { on_change, watches, ..Unit::running(name) },
    );
}
