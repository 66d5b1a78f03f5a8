//! How the kubelet asks the API server for its health: from the manifest of the static pod, and from
//! the patch that kubeadm is given.

use crate::yaml::Value;

use crate::checks::basis::{Basis, Judged, running};
use crate::checks::model::Verdict;
use crate::checks::node::kubernetes::{MANIFEST, anonymous_off, list, text};
use crate::checks::node::staged::APISERVER_PATCH;
use crate::controls::Daemon;
use crate::desired::APISERVER_PROBE;
use crate::facts::FileFacts;

/// Probes of a container, and the path that each asks.
const PROBES: &[(&str, &str)] =
    &[("livenessProbe", "/livez"), ("readinessProbe", "/readyz"), ("startupProbe", "/livez")];
/// What the program has to be told.
const FILES: &[&str] = &[
    "--ca=/etc/kubernetes/pki/ca.crt",
    "--cert=/etc/kubernetes/pki/apiserver-probe.crt",
    "--key=/etc/kubernetes/pki/apiserver-probe.key",
];
const EXPECTED: &str = "probes over TCP, or by the static program with its client certificate";

/// What of a pod is about its probes.
#[derive(Default)]
struct Pod<'v> {
    /// By name and path to ask.
    probes: Vec<(&'static str, &'static str, &'v Value)>,
    mounts: Vec<&'v Value>,
    volumes: Vec<&'v Value>,
}

pub(in crate::checks) fn authenticated_probes(on: &Basis<'_>) -> Judged {
    let processes = match running(Daemon::Apiserver, on) {
        Ok(processes) => processes,
        Err(verdict) => return Judged { verdict, staged: staged(on) },
    };
    if !anonymous_off(&processes) {
        return Verdict::not_applicable("anonymous requests are not off by the flag").into();
    }
    let manifest = match on.seen.text(MANIFEST).map(crate::yaml::parse) {
        Ok(Ok(v)) => v,
        Ok(Err(e)) => {
            return Verdict::unknown(format!("{MANIFEST} cannot be read as YAML: {e}")).into();
        }
        Err(verdict) => return verdict.into(),
    };
    let spec = manifest.get("spec").unwrap_or(&Value::Null);
    let pods = list(spec, "containers").iter().map(|container| Pod {
        probes: PROBES
            .iter()
            .filter_map(|&(name, path)| Some((name, path, container.get(name)?)))
            .collect(),
        mounts: list(container, "volumeMounts").iter().collect(),
        volumes: list(spec, "volumes").iter().collect(),
    });
    pods.map(|pod| judge(on, &pod))
        .reduce(Verdict::and)
        .unwrap_or_else(|| Verdict::unknown(format!("{MANIFEST} has no containers")))
        .into()
}

/// Whether the patch of the static pod replaces all three probes by such as need no anonymous access.
fn staged(on: &Basis<'_>) -> Option<Verdict> {
    let argv = on.seen.staged.argv(Daemon::Apiserver)?;
    if !anonymous_off(&[argv]) {
        return Some(Verdict::not_applicable("anonymous requests are not off by the flag"));
    }
    let patch = match on.seen.text(APISERVER_PATCH).map(crate::yaml::parse) {
        Ok(Ok(Value::Sequence(operations))) => operations,
        Ok(_) => return Some(Verdict::unknown(format!("{APISERVER_PATCH} is not a patch"))),
        Err(verdict) => return Some(verdict),
    };
    let mut pod = Pod::default();
    for operation in patch.iter().filter(|o| matches!(text(o, "op"), "add" | "replace")) {
        let Some(value) = operation.get("value") else { continue };
        match text(operation, "path") {
            "/spec/volumes/-" => pod.volumes.push(value),
            "/spec/containers/0/volumeMounts/-" => pod.mounts.push(value),
            at => {
                let probe = at.strip_prefix("/spec/containers/0/").unwrap_or_default();
                pod.probes.extend(
                    PROBES.iter().copied().filter(|(n, _)| *n == probe).map(|(n, p)| (n, p, value)),
                );
            }
        }
    }
    let left = PROBES.iter().copied().find(|(name, _)| !pod.probes.iter().any(|p| p.0 == *name));
    Some(match left {
        Some((name, _)) => Verdict::fail(EXPECTED, format!("{name} is unchanged from kubeadm")),
        None => judge(on, &pod),
    })
}

fn judge(on: &Basis<'_>, pod: &Pod<'_>) -> Verdict {
    let by_program = pod.probes.iter().any(|(_, _, probe)| probe.get("exec").is_some());
    let words = if by_program {
        "probes ask with a client certificate"
    } else {
        "no probe asks without a certificate"
    };
    let each = pod.probes.iter().map(|(name, path, probe)| judge_probe(name, path, probe));
    let program = by_program.then(|| mounted(pod).and(program(on)));
    each.chain(program).fold(Verdict::pass(words), Verdict::and)
}

fn judge_probe(name: &str, path: &str, probe: &Value) -> Verdict {
    let pass = || Verdict::pass(name);
    if probe.get("httpGet").is_some() {
        return Verdict::fail(EXPECTED, format!("httpGet in {name}"));
    }
    if probe.get("tcpSocket").is_some() {
        return pass();
    }
    let Some(exec) = probe.get("exec") else {
        return Verdict::unknown(format!("{name} is of an unknown kind"));
    };
    let command: Vec<&str> = list(exec, "command").iter().filter_map(Value::as_str).collect();
    match command.split_first() {
        Some((program, arguments)) if *program == APISERVER_PROBE => {
            let missing = FILES.iter().copied().chain([path]).find(|a| !arguments.contains(a));
            missing.map_or_else(pass, |argument| {
                Verdict::fail(EXPECTED, format!("{name} runs {program} without `{argument}`"))
            })
        }
        Some((program, _)) => {
            Verdict::unknown(format!("{name} runs {program}, which is not a known probe"))
        }
        None => Verdict::fail(EXPECTED, format!("{name} runs nothing")),
    }
}

/// Whether the container sees the node's program, and cannot change it.
fn mounted(pod: &Pod<'_>) -> Verdict {
    let mount = pod.mounts.iter().find(|m| text(m, "mountPath") == APISERVER_PROBE);
    let from = mount.and_then(|mount| {
        let volume = pod.volumes.iter().find(|v| text(v, "name") == text(mount, "name"));
        volume?.get("hostPath").map(|h| text(h, "path"))
    });
    let read_only = mount.and_then(|m| m.get("readOnly")).and_then(Value::as_bool);
    if from != Some(APISERVER_PROBE) {
        Verdict::fail(EXPECTED, format!("{APISERVER_PROBE} is not mounted into the container"))
    } else if read_only != Some(true) {
        Verdict::fail(EXPECTED, format!("{APISERVER_PROBE} is mounted writable"))
    } else {
        Verdict::pass("mounted")
    }
}

/// The program on the node. Its content is the business of the plan, which names it when it differs.
fn program(on: &Basis<'_>) -> Verdict {
    let expected = format!("{APISERVER_PROBE} root:root 0755");
    match on.seen.files.get(APISERVER_PROBE) {
        Some(FileFacts::File { mode, owner, group, .. }) => {
            if owner == "root" && group == "root" && mode & 0o022 == 0 && mode & 0o111 != 0 {
                Verdict::pass("the program exists")
            } else {
                Verdict::fail(expected, format!("{owner}:{group} {mode:04o}"))
            }
        }
        Some(FileFacts::Absent) => Verdict::fail(expected, "the file does not exist"),
        Some(_) => Verdict::fail(expected, "it is not a regular file"),
        None => on.seen.blind(&format!("{APISERVER_PROBE} was not checked")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::Outcome;
    use crate::checks::observed::Observed;
    use crate::checks::tests::{NOW, inventory, rendered_with, running};
    use crate::inventory::{Files, Inventory, Probe, elf};

    /// What is rendered where there is a health-check program.
    fn rendered_with_probe(inventory: &Inventory) -> Observed {
        let probe = Some(Probe::from_elf(elf(62, &[1])).unwrap());
        rendered_with(inventory, &Files { probe, ..Files::default() }, "a")
    }

    fn judged(inventory: &Inventory, seen: &Observed) -> Judged {
        authenticated_probes(&Basis {
            inventory,
            software: None,
            node: &inventory.nodes[0],
            seen,
            now: NOW,
        })
    }

    /// A node whose kubelet runs what kubeadm makes of the patch.
    fn node(inventory: &Inventory) -> Observed {
        let mut seen = rendered_with_probe(inventory);
        let patch: Vec<Value> =
            crate::yaml::from_text(seen.text(APISERVER_PATCH).unwrap()).unwrap();
        let value = |path: &str| {
            let found = patch.iter().find(|o| text(o, "path") == path).unwrap();
            serde_json::to_value(&found["value"]).unwrap()
        };
        let mut container = serde_json::json!({
            "name": "kube-apiserver",
            "volumeMounts": [{ "name": "certs", "mountPath": "/etc/kubernetes/pki" },
                value("/spec/containers/0/volumeMounts/-")],
        });
        for &(name, _) in PROBES {
            container[name] = value(&format!("/spec/containers/0/{name}"));
        }
        let manifest = serde_json::json!({ "spec": {
            "containers": [container], "volumes": [value("/spec/volumes/-")],
        }});
        seen = running(seen);
        seen.texts.insert(MANIFEST.into(), Some(manifest.to_string()));
        seen
    }

    #[test]
    fn the_patch_with_the_program_holds() {
        let inventory = inventory(&str::to_owned);
        let seen = rendered_with_probe(&inventory);
        let staged = judged(&inventory, &seen).staged;
        assert_eq!(staged, Some(Verdict::pass("probes ask with a client certificate")));
        for (from, to) in [
            (
                "--cert=/etc/kubernetes/pki/apiserver-probe.crt",
                "--cert=/etc/kubernetes/pki/other.crt",
            ),
            ("- /readyz", "- /livez"),
            ("readOnly: true", "readOnly: false"),
            ("path: /spec/volumes/-", "path: /spec/other/-"),
            ("containers/0/startupProbe", "containers/0/other"),
        ] {
            let mut seen = seen.clone();
            let patch = seen.texts.get_mut(APISERVER_PATCH).unwrap().as_mut().unwrap();
            assert!(patch.contains(from), "{from}");
            *patch = patch.replacen(from, to, 1);
            let staged = judged(&inventory, &seen).staged.unwrap();
            assert_eq!(staged.outcome(), Outcome::Fail, "{from}: {staged:?}");
        }
    }

    #[test]
    fn a_running_server_is_judged_by_its_manifest_and_the_program() {
        let inventory = inventory(&str::to_owned);
        let good = node(&inventory);
        let verdict = judged(&inventory, &good).verdict;
        assert_eq!(verdict, Verdict::pass("probes ask with a client certificate"));

        let manifest = |from: &'static str, to: &'static str| {
            move |seen: &mut Observed| {
                let text = seen.texts.get_mut(MANIFEST).unwrap().as_mut().unwrap();
                assert!(text.contains(from), "{from}");
                *text = text.replacen(from, to, 1);
            }
        };
        let access = |mode: u32, owner: &'static str| {
            move |seen: &mut Observed| {
                let file = FileFacts::File {
                    mode,
                    owner: owner.into(),
                    group: "root".into(),
                    size: 1,
                    sha256: "0".repeat(64),
                };
                seen.files.insert(APISERVER_PROBE.into(), file);
            }
        };
        type Break = Box<dyn Fn(&mut Observed)>;
        let breaks: [(Break, Outcome); 10] = [
            (
                Box::new(manifest("--key=/etc/kubernetes/pki/apiserver-probe.key", "-v")),
                Outcome::Fail,
            ),
            (Box::new(manifest("\"exec\"", "\"httpGet\"")), Outcome::Fail),
            (Box::new(manifest("\"exec\"", "\"grpc\"")), Outcome::Unknown),
            (Box::new(manifest("\"readOnly\":true", "\"readOnly\":false")), Outcome::Fail),
            (Box::new(manifest("\"hostPath\"", "\"emptyDir\"")), Outcome::Fail),
            (
                Box::new(manifest("[\"/usr/local/lib/kubastion/probe\"", "[\"/bin/true\"")),
                Outcome::Unknown,
            ),
            (Box::new(access(0o775, "root")), Outcome::Fail),
            (Box::new(access(0o644, "root")), Outcome::Fail),
            (Box::new(access(0o755, "ops")), Outcome::Fail),
            (
                Box::new(|seen| {
                    seen.files.remove(APISERVER_PROBE);
                }),
                Outcome::Unknown,
            ),
        ];
        for (n, (broken, outcome)) in breaks.iter().enumerate() {
            let mut seen = good.clone();
            broken(&mut seen);
            let verdict = judged(&inventory, &seen).verdict;
            assert_eq!(verdict.outcome(), *outcome, "{n}: {verdict:?}");
        }
    }
}
