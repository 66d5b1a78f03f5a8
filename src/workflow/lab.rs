//! `lab up`: bare nodes, and a stock cluster on them if one is asked for.

use std::path::Path;

use crate::bundle::Bundle;
use crate::bundle::model::ArtifactKind;
use crate::error::Problem;
use crate::inventory::SignerKey;
use crate::lab::stock::{self, PLUGINS, PROGRAMS, Software};
use crate::lab::{Error, Lab, LabBundle, Phase, Spec, Step};
use crate::plain::counted;
use crate::workflow::command_error::{CommandError, Exit};

/// Makes a lab.
///
/// # Errors
/// A bundle that holds no cluster; all that [`Lab::up`] and [`stock::make`] say. What was made stays for a look.
pub fn up(spec: &Spec, progress: &(dyn Fn(&Step) + Sync)) -> Result<Lab, CommandError> {
    let bundle = match (spec.stock, &spec.bundle) {
        (None, _) => None,
        (Some(_), None) => return Err(CommandError::one(Exit::InvalidInput, no_bundle())),
        (Some(_), Some(bundle)) => Some(open(bundle)?),
    };
    let mut lab = Lab::up(spec, progress).map_err(|e| stop_of_up(spec, &e))?;
    if let Some(bundle) = bundle.filter(|_| lab.phase() == Phase::Making) {
        make_stock(&mut lab, &bundle, progress).map_err(|e| kept(spec, e))?;
    }
    Ok(lab)
}

fn make_stock(
    lab: &mut Lab,
    bundle: &Bundle,
    progress: &(dyn Fn(&Step) + Sync),
) -> Result<(), CommandError> {
    let dir = lab.software();
    let made = take(bundle, &dir).and_then(|(software, files)| {
        let what = format!("{} of the bundle verified", counted(files, "file"));
        progress(&Step { node: None, what });
        stock::make(lab, &software, progress).map_err(|e| stop(&e))
    });
    // Nodes have what they need of it, and what failed says nothing of it.
    let _ = std::fs::remove_dir_all(&dir);
    made
}

/// Why a stock cluster needs a bundle.
fn no_bundle() -> Problem {
    Problem::new("`--stock` needs `--bundle DIR`")
        .because("lab nodes have no internet access, so the cluster's software comes from a bundle")
        .left("nothing was created")
        .hint("run `kubastion bundle create --help` to see how to make one; `make demo` makes one in /var/cache/kubastion/bundle, with its list of trusted keys")
}

/// The bundle of a stock cluster, with everything that one is made from.
fn open(bundle: &LabBundle) -> Result<Bundle, CommandError> {
    let stop = |problem: Problem| CommandError::one(Exit::InvalidInput, problem);
    let place = bundle.dir.display().to_string();
    let signers: Result<Vec<SignerKey>, _> = bundle.signers.iter().map(|s| s.parse()).collect();
    let signers = signers
        .map_err(|e| stop(Problem::from_error("this is not a public key", &e).at(&place)))?;
    let opened = Bundle::open(&bundle.dir, &signers)
        .map_err(|e| CommandError { exit: Exit::InvalidInput, problems: e.problems() })?;
    let of = |kind: ArtifactKind, names: &[&'static str]| -> Vec<&'static str> {
        names.iter().copied().filter(|name| opened.file(kind, name).is_none()).collect()
    };
    let lacking =
        [of(ArtifactKind::Binary, PROGRAMS), of(ArtifactKind::CniPlugin, PLUGINS)].concat();
    if lacking.is_empty() {
        return Ok(opened);
    }
    let problem = Problem::new("the bundle lacks programs of a stock cluster")
        .at(place)
        .because(format!("it has no {}", lacking.join(", ")))
        .left("nothing was created")
        .hint("use a bundle with the container runtime and the CNI plugins (`kubastion bundle create`)");
    Err(stop(problem))
}

/// Takes programs, plugins and images out of a bundle, each compared with its signed digest while it is copied.
fn take(bundle: &Bundle, dir: &Path) -> Result<(Software, usize), CommandError> {
    let count = bundle
        .extract(&[ArtifactKind::Binary, ArtifactKind::CniPlugin, ArtifactKind::Image], dir)
        .map_err(|e| CommandError { exit: Exit::InvalidInput, problems: e.problems() })?;
    let images = bundle.manifest().images().into_iter().map(str::to_owned).collect();
    let kubernetes = bundle.manifest().kubernetes.to_string();
    Ok((Software { dir: dir.to_owned(), kubernetes, images }, count))
}

/// What a verb about a lab says of its failure.
pub fn stop(error: &Error) -> CommandError {
    let exit = match error {
        Error::NotRunning(_) => Exit::NodeFailed,
        e if e.is_input() => Exit::InvalidInput,
        _ => Exit::Unexpected,
    };
    CommandError { exit, problems: error.problems() }
}

fn stop_of_up(spec: &Spec, error: &Error) -> CommandError {
    let stop = stop(error);
    if stop.exit == Exit::InvalidInput { stop } else { kept(spec, stop) }
}

/// Nodes that are up stay for a look, and the next command is said.
fn kept(spec: &Spec, mut stop: CommandError) -> CommandError {
    for problem in &mut stop.problems {
        problem.state = Some("what was created so far is kept for inspection".to_owned());
        let down = format!("`kubastion lab down --dir {}`", spec.dir.display());
        problem.hint = Some(match problem.hint.take() {
            Some(look) => format!("{look} for details, or {down} to remove the lab"),
            None => format!("run {down} to remove the lab"),
        });
    }
    stop
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{Stock, quiet};

    #[test]
    fn without_a_bundle_there_is_no_stock_cluster_and_nothing_is_created() {
        let dir = tempfile::tempdir().unwrap();
        let spec =
            Spec { stock: Some(Stock::default()), ..Spec::new(dir.path().join("lab"), 1, 1) };
        let stop = up(&spec, &quiet).unwrap_err();
        assert_eq!(stop.exit, Exit::InvalidInput);
        let said = stop.problems[0].to_string();
        for words in ["needs `--bundle DIR`", "no internet access", "bundle create", "make demo"] {
            assert!(said.contains(words), "{said}");
        }
        assert!(!spec.dir.exists());
    }

    #[test]
    fn a_failure_on_a_node_says_where_to_look_and_what_removes_the_lab() {
        let spec = Spec::new("/lab", 1, 1);
        let status = std::process::Command::new("false").status().unwrap();
        let failed = crate::lab::NodeError::Stock {
            node: "cp1".into(),
            dir: "/lab".into(),
            step: "init".into(),
            status,
            said: "kubeadm: error: no\netcd: panic".into(),
        };
        let stop = kept(&spec, stop(&Error::Nodes(vec![failed])));
        assert_eq!(stop.exit, Exit::Unexpected);
        let said = stop.problems[0].to_string();
        for words in [
            "error: cp1: ",
            "etcd: panic",
            "kept for inspection",
            "run `kubastion lab exec --dir /lab cp1 -- less /var/log/kubeadm.log` for details",
            "`kubastion lab down --dir /lab` to remove",
        ] {
            assert!(said.contains(words), "{said}");
        }
    }
}
