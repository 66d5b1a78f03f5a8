//! From checks and attacks to findings: switches, releases, exceptions and nodes that did not answer.

use std::collections::BTreeMap;

use serde::Serialize;
use time::macros::format_description;
use time::{Date, OffsetDateTime};

use crate::checks::attempt::{Attempt, attempt_words, flag_words, setting_words};
use crate::checks::basis::{Basis, needs_api};
use crate::checks::cluster::objects::{judge_objects, since_minor};
use crate::checks::cluster::reading::Cluster;
use crate::checks::cluster::reading::Reference;
use crate::checks::cluster::sources::{Lists, object_of};
use crate::checks::judge::{asked, judge, words};
use crate::checks::model::{
    Evidence, ExceptionGrant, Finding, NothingToJudge, Outcome, Subject, Verdict,
};
use crate::checks::node::sources;
use crate::checks::source::{Source, SourceKind};
use crate::controls::{
    self, Attack, CATALOGUE, Check, Component, Control, Daemon, Needs, Profiles, Scope, Severity,
};
use crate::error::Problem;
use crate::facts::cluster::ClusterFacts;
use crate::inventory::diagnostic::nearest;
use crate::inventory::{Exception, Inventory, Node, NodeName, Switch};
use crate::plain::counted;

/// Everything a run of `verify` found.
#[derive(Debug, Clone)]
pub struct Verification {
    /// Name of the cluster.
    pub cluster: String,
    /// Profile of the inventory.
    pub profile: crate::inventory::Profile,
    /// When it was done, RFC 3339.
    pub time: String,
    /// How many findings there are of each kind.
    pub summary: Summary,
    /// Nodes that did not answer, and why.
    pub unreachable: BTreeMap<NodeName, String>,
    /// Controls that the inventory switches off, the worst first.
    pub switched_off: Vec<SwitchedOffControl>,
    /// By control, then by node.
    pub findings: Vec<Finding>,
    /// Every attempt over the network.
    pub attempts: Vec<Attempt>,
}

/// A control that the profile wants and the inventory does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SwitchedOffControl {
    /// Control id.
    pub control: &'static str,
    /// The control in one line.
    pub title: &'static str,
    /// How bad it is that it need not hold.
    pub severity: Severity,
    /// Why, if the inventory says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub granted: Option<ExceptionGrant>,
}

/// Controls that the inventory switches off, the worst first.
fn switched_off(inventory: &Inventory) -> Vec<SwitchedOffControl> {
    let switches = inventory.hardening.controls.iter();
    let off = switches.filter(|(_, s)| s.state == Switch::Off);
    let mut all: Vec<SwitchedOffControl> = off
        .filter_map(|(id, switch)| {
            let control = crate::controls::find(id)?;
            let granted = switch.granted.as_ref().map(|g| ExceptionGrant {
                reason: g.reason.clone(),
                owner: g.owner.clone(),
                expires: g.expires.clone(),
            });
            let Control { id, title, severity, .. } = *control;
            Some(SwitchedOffControl { control: id, title, severity, granted })
        })
        .collect();
    all.sort_by_key(|c| (std::cmp::Reverse(c.severity), c.control));
    all
}

/// Counts of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Summary {
    /// Controls that hold.
    pub pass: usize,
    /// Failures that no exception covers.
    pub fail: usize,
    /// Failures that an exception covers.
    pub excepted: usize,
    /// What could not be judged.
    pub unknown: usize,
    /// What there is nothing to judge about.
    pub not_applicable: usize,
}

impl Summary {
    /// Counts findings.
    pub fn of<'f>(findings: impl IntoIterator<Item = &'f Finding>) -> Self {
        let mut sum = Self::default();
        for f in findings {
            match f.outcome() {
                Outcome::Pass => sum.pass += 1,
                Outcome::Fail if f.exception.is_some() => sum.excepted += 1,
                Outcome::Fail => sum.fail += 1,
                Outcome::Unknown => sum.unknown += 1,
                Outcome::NotApplicable => sum.not_applicable += 1,
            }
        }
        sum
    }
}

impl Verification {
    /// Puts findings in order and counts them.
    pub fn new(
        inventory: &Inventory,
        now: OffsetDateTime,
        mut findings: Vec<Finding>,
        mut attempts: Vec<Attempt>,
        unreachable: BTreeMap<NodeName, String>,
    ) -> Self {
        findings.sort_by(|a, b| (a.control, &a.subject).cmp(&(b.control, &b.subject)));
        Attempt::sort(&mut attempts);
        let time = now
            .replace_nanosecond(0)
            .unwrap_or(now)
            .format(&time::format_description::well_known::Rfc3339);
        Self {
            cluster: inventory.cluster.name.to_string(),
            profile: inventory.hardening.profile,
            time: time.unwrap_or_default(),
            summary: Summary::of(&findings),
            unreachable,
            switched_off: switched_off(inventory),
            findings,
            attempts,
        }
    }

    /// Whether a control failed without an exception, or could not be judged; also if nothing at all
    /// was judged, which proves nothing.
    pub fn is_bad(&self) -> bool {
        self.findings.iter().any(Finding::is_bad)
            || !self.findings.iter().any(|f| f.outcome() == Outcome::Pass)
    }

    /// Counts by component.
    pub fn by_component(&self) -> BTreeMap<Component, Summary> {
        let mut groups: BTreeMap<Component, Vec<&Finding>> = BTreeMap::new();
        for f in &self.findings {
            groups.entry(f.component).or_default().push(f);
        }
        groups.into_iter().map(|(c, fs)| (c, Summary::of(fs))).collect()
    }
}

/// Why a control is not judged at all, if so.
fn not_judged(control: &Control, inventory: &Inventory) -> Option<Verdict> {
    let hardening = &inventory.hardening;
    if !control.wanted(inventory) {
        return Some(Verdict::not_applicable(match hardening.controls.get(control.id) {
            Some(_) => "switched off in the inventory".to_owned(),
            None if control.profiles == Profiles::WithRegistry => {
                "on only if the inventory has a registry mirror".to_owned()
            }
            None => format!("not part of profile {:?}", hardening.profile).to_lowercase(),
        }));
    }
    let minor = inventory.cluster.kubernetes.minor;
    let (first, last) = control.minors;
    if minor < first || minor > last {
        return Some(Verdict::not_applicable(format!(
            "applies to Kubernetes 1.{first} to 1.{last} only"
        )));
    }
    None
}

/// Exceptions that cover nothing: of a control with several checks that name none, and those that name one that the control
/// does not have.
pub fn exceptions_without_a_check(inventory: &Inventory) -> Vec<Problem> {
    let of = |(at, exception): (usize, &Exception)| {
        let control = controls::find(&exception.control)?;
        let all: Vec<String> = control.checks.iter().map(words).collect();
        let (what, found) = match &exception.check {
            None if all.len() > 1 => ("the exception names no check", None),
            Some(check) if !all.contains(check) => ("no such check", Some(check)),
            _ => return None,
        };
        let problem = Problem::new(what)
            .at(format!("hardening.exceptions[{at}].check"))
            .because(format!("{} has {}", control.id, counted(all.len(), "check")))
            .left("nothing was changed");
        let near = found.and_then(|f| nearest(f, all.iter().map(String::as_str)));
        Some(match near {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None => problem.hint(format!("name one of these: {}", all.join("; "))),
        })
    };
    inventory.hardening.exceptions.iter().enumerate().filter_map(of).collect()
}

/// Judges every control of a node, with the attempts that were made on it.
pub fn of_node(on: &Basis<'_>, attempts: &[Attempt]) -> Vec<Finding> {
    of_basis(on, |check| {
        let of = |attack, what: Option<String>| -> Vec<Evidence> {
            let is_of = |a: &&Attempt| {
                let tried = a.tried();
                tried.target == on.node.name && tried.attack == attack
            };
            let made = attempts.iter().filter(is_of);
            made.filter(|a| what.as_ref().is_none_or(|w| *w == a.tried().what))
                .map(|a| {
                    let asked = asked(check, a.evidence());
                    Evidence::new(asked, a.verdict().clone(), a.source().clone().into())
                })
                .collect()
        };
        let attack = match check {
            Check::Attack(attack) => *attack,
            // What is in effect is beside what files and command lines say, where it was asked for.
            Check::Flag(daemon, name, ..) => {
                return of(Attack::EffectiveSetting, Some(flag_words(*daemon, name)));
            }
            Check::Setting(config, path, ..) => {
                return of(Attack::EffectiveSetting, Some(setting_words(*config, path)));
            }
            _ => return Vec::new(),
        };
        let made = of(attack, None);
        if made.is_empty() {
            let verdict = Verdict::unknown("no attempt was made");
            let source = Source::without_answer(SourceKind::Attempt, attempt_words(attack));
            let asked = asked(check, attempt_words(attack).to_owned());
            return vec![Evidence::new(asked, verdict, source.into())];
        }
        made
    })
}

/// Judges what was rendered for a node. Attempts over the network are left out.
pub fn of_rendered(on: &Basis<'_>) -> Vec<Finding> {
    of_basis(on, |_| Vec::new())
}

fn of_basis(on: &Basis<'_>, tried: impl Fn(&Check) -> Vec<Evidence>) -> Vec<Finding> {
    let subject = || Subject::Node(on.node.name.clone());
    let kubernetes = on.seen.runs(Daemon::Apiserver) || on.seen.runs(Daemon::Kubelet);
    CATALOGUE
        .iter()
        .filter(|c| c.scope.holds(on.inventory, on.node))
        .map(|control| {
            if let Some(verdict) = not_judged(control, on.inventory) {
                return Finding::not_looked_at(control, subject(), verdict);
            }
            let mut evidence: Vec<Evidence> = Vec::new();
            for check in control.checks.iter().filter(|c| c.is_for(on.inventory, on.node)) {
                match check {
                    // A port is closed, too, while its daemon is still to come.
                    Check::Attack(_) if control.needs == Needs::Kubernetes && !kubernetes => {
                        let verdict = if on.seen.kubernetes_is_set_up() {
                            Verdict::unknown("Kubernetes is set up on this node but does not run")
                        } else {
                            Verdict::needs_kubernetes("Kubernetes does not run on this node yet")
                        };
                        let sources = sources::of(check, on, false);
                        evidence.push(Evidence::new(asked(check, words(check)), verdict, sources));
                    }
                    Check::Attack(_) => evidence.extend(tried(check)),
                    other => {
                        evidence.extend(judge(other, on));
                        evidence.extend(tried(check));
                    }
                }
            }
            if evidence.is_empty() {
                // Only attempts could tell, and none are made on what is only rendered.
                let verdict = on.seen.blind("only an attempt can show this");
                return Finding::not_looked_at(control, subject(), verdict);
            }
            let mut finding = Finding::new(control, subject(), evidence);
            finding.excuse(on.inventory, control, Some(&on.node.name), on.now);
            finding
        })
        .collect()
}

/// What is known of the cluster's API.
pub enum Api<'f> {
    /// No API server runs.
    Absent,
    /// One runs and could not be asked; why.
    Unread(String),
    /// What it holds, and by which answers.
    Read(&'f ClusterFacts, &'f Lists),
}

/// Controls that are judged once for the cluster.
pub fn of_cluster(
    inventory: &Inventory,
    api: &Api<'_>,
    reference: &Reference,
    now: OffsetDateTime,
) -> Vec<Finding> {
    let minor = inventory.cluster.kubernetes.minor;
    CATALOGUE
        .iter()
        .filter(|c| c.scope == Scope::Cluster)
        .map(|control| {
            if let Some(verdict) = not_judged(control, inventory) {
                return Finding::not_looked_at(control, Subject::Cluster, verdict);
            }
            let evidence = control
                .checks
                .iter()
                .map(|check| {
                    let verdict = match check {
                        Check::Manual(why) => {
                            Verdict::not_applicable(format!("needs a manual check: {why}"))
                        }
                        Check::Api(rule) => match api {
                            Api::Absent => needs_api(),
                            Api::Unread(why) => {
                                Verdict::unknown(format!("the API cannot be read: {why}"))
                            }
                            Api::Read(..) if minor < since_minor(*rule) => {
                                let why =
                                    NothingToJudge::NeedsRelease { minor: since_minor(*rule) };
                                Verdict::NotApplicable { why }
                            }
                            Api::Read(facts, _) => judge_objects(
                                *rule,
                                &Cluster { facts, inventory, reference, today: now.date(), now },
                            ),
                        },
                        _ => Verdict::unknown("only a node can show this"),
                    };
                    let sources = match (check, api) {
                        (Check::Api(rule), Api::Read(_, lists)) => {
                            lists.of(*rule, minor, reference)
                        }
                        (Check::Api(rule), _) => Lists::default().of(*rule, minor, reference),
                        (Check::Manual(why), _) => {
                            Source::without_answer(SourceKind::People, *why).into()
                        }
                        (other, _) => {
                            Source::without_answer(SourceKind::Command, words(other)).into()
                        }
                    };
                    Evidence::new(asked(check, words(check)), verdict, sources)
                })
                .collect();
            let mut finding = Finding::new(control, about(control), evidence);
            finding.excuse(inventory, control, None, now);
            finding
        })
        .collect()
}

/// What a control of the cluster is about: one object, where each of its checks is about that one.
fn about(control: &Control) -> Subject {
    let object = |check: &Check| match check {
        Check::Api(rule) => object_of(*rule),
        _ => None,
    };
    let mut all = control.checks.iter().map(object);
    match all.next().flatten() {
        Some(first) if all.all(|o| o.as_ref() == Some(&first)) => first,
        _ => Subject::Cluster,
    }
}

/// A node that did not answer: every control that is wanted on it is unknown.
pub fn unreachable(inventory: &Inventory, node: &Node, why: &str) -> Vec<Finding> {
    CATALOGUE
        .iter()
        .filter(|c| c.scope.holds(inventory, node))
        .map(|control| {
            let verdict = not_judged(control, inventory)
                .unwrap_or_else(|| Verdict::unknown(format!("the node did not answer: {why}")));
            Finding::not_looked_at(control, Subject::Node(node.name.clone()), verdict)
        })
        .collect()
}

impl Finding {
    /// Applies the exceptions of the inventory. A failure is covered if each failed check has an exception of its own; an
    /// exception without a check is for a control with a single one.
    fn excuse(
        &mut self,
        inventory: &Inventory,
        control: &Control,
        node: Option<&NodeName>,
        now: OffsetDateTime,
    ) {
        if self.outcome() != Outcome::Fail {
            return;
        }
        let holds = |expires: &str| {
            Date::parse(expires, format_description!("[year]-[month]-[day]"))
                .is_ok_and(|last| now.date() <= last)
        };
        let granted: Vec<_> = inventory
            .hardening
            .exceptions_of(control.id, node)
            .filter(|e| holds(&e.expires))
            .collect();
        let failed = self.evidence.iter().filter(|e| e.verdict().outcome() == Outcome::Fail);
        let mut open: Vec<String> = Vec::new();
        let mut first = None;
        for evidence in failed {
            let covers = granted.iter().find(|e| match &e.check {
                Some(check) => check == evidence.check(),
                None => control.checks.len() == 1,
            });
            match covers {
                Some(e) => first = first.or(Some(*e)),
                None => open.push(evidence.check().to_owned()),
            }
        }
        if let (true, Some(e)) = (open.is_empty(), first) {
            self.exception = Some(ExceptionGrant {
                reason: e.reason.clone(),
                owner: e.owner.clone(),
                expires: e.expires.clone(),
            });
        } else if !granted.is_empty() {
            open.dedup();
            self.not_excused = open;
        }
    }
}

/// Controls that have to wait for Kubernetes, by what was found.
pub fn waiting_for_kubernetes(findings: &[Finding]) -> impl Iterator<Item = &Finding> {
    findings.iter().filter(|f| {
        f.outcome() == Outcome::NotApplicable
            && crate::controls::find(f.control)
                .is_some_and(|c| matches!(c.needs, Needs::Kubernetes | Needs::ClusterApi))
            && matches!(
                f.verdict,
                Verdict::NotApplicable {
                    why: NothingToJudge::NeedsKubernetes(_) | NothingToJudge::NeedsRelease { .. }
                }
            )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::model::Asked;
    use crate::inventory::testing;

    #[test]
    fn nothing_judged_is_no_success() {
        let inventory = testing::of_nodes([]);
        let now = OffsetDateTime::UNIX_EPOCH;
        let control = &CATALOGUE[0];
        let with = |verdict| {
            let asked = Asked { what: "w".into(), check: "w".into(), expected: "e".into() };
            let found = vec![Finding::new(
                control,
                Subject::Cluster,
                vec![Evidence::new(asked, verdict, Source::rendered().into())],
            )];
            Verification::new(&inventory, now, found, Vec::new(), BTreeMap::new())
        };
        assert!(with(Verdict::not_applicable("nothing here")).is_bad());
        assert!(!with(Verdict::pass("seen")).is_bad());
    }
}
