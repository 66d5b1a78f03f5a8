//! The Pod Security Standards, as a table of what a pod may not have (Kubernetes documentation, "Pod Security
//! Standards", v1.36).
//!
//! The API server judges a pod at its creation, by the labels of its namespace at that moment. Here, existing pods are judged.

use serde_json::Value;

use crate::facts::cluster::{list, text};
use crate::inventory::PodLevel;

/// One rule of the standards.
pub(in crate::checks) struct Row {
    /// Its name, for those who may break it.
    pub id: &'static str,
    /// The lowest level that it belongs to.
    pub level: PodLevel,
    /// What breaks it, in words.
    broken: fn(&Pod<'_>) -> Vec<String>,
}

/// Every rule, in the order of the documentation.
pub(in crate::checks) const ROWS: &[Row] = &[
    baseline("host-process", host_process),
    baseline("host-network", |p| p.flag("hostNetwork")),
    baseline("host-pid", |p| p.flag("hostPID")),
    baseline("host-ipc", |p| p.flag("hostIPC")),
    baseline("privileged", privileged),
    baseline("capabilities", added_capabilities),
    baseline("host-path", host_path),
    baseline("host-ports", host_ports),
    baseline("host-probes", host_probes),
    baseline("apparmor", apparmor),
    baseline("selinux", selinux),
    baseline("proc-mount", proc_mount),
    baseline("seccomp", seccomp_off),
    baseline("sysctls", sysctls),
    restricted("volume-types", volume_types),
    restricted("privilege-escalation", escalation),
    restricted("run-as-non-root", run_as_non_root),
    restricted("run-as-user", run_as_root),
    restricted("seccomp-profile", no_seccomp),
    restricted("capabilities-drop", kept_capabilities),
];

const fn baseline(id: &'static str, broken: fn(&Pod<'_>) -> Vec<String>) -> Row {
    Row { id, level: PodLevel::Baseline, broken }
}

const fn restricted(id: &'static str, broken: fn(&Pod<'_>) -> Vec<String>) -> Row {
    Row { id, level: PodLevel::Restricted, broken }
}

/// What of a level a pod breaks: the rule, and in what way.
pub(crate) fn broken(pod: &Value, level: PodLevel) -> Vec<(&'static str, String)> {
    let pod = Pod(pod);
    let rows = ROWS.iter().filter(|row| row.level <= level);
    rows.flat_map(|row| (row.broken)(&pod).into_iter().map(|said| (row.id, said))).collect()
}

struct Pod<'p>(&'p Value);

impl<'p> Pod<'p> {
    fn context(&self) -> &'p Value {
        self.0.pointer("/spec/securityContext").unwrap_or(&Value::Null)
    }

    /// Containers of every kind: those that start first and those that are added later see as much as the others.
    fn containers(&self) -> impl Iterator<Item = &'p Value> + use<'p> {
        let pod = self.0;
        ["/spec/containers", "/spec/initContainers", "/spec/ephemeralContainers"]
            .into_iter()
            .flat_map(move |kind| list(pod, kind))
    }

    /// Security contexts with whose they are, the pod's own first.
    fn contexts(&self) -> impl Iterator<Item = (String, &'p Value)> + use<'p> {
        let own = std::iter::once(("the pod".to_owned(), self.context()));
        own.chain(self.containers().map(|c| (called(c), security(c))))
    }

    /// Containers of which something holds.
    fn where_(&self, what: &str, is: impl Fn(&'p Value) -> bool) -> Vec<String> {
        self.containers().filter(|c| is(c)).map(|c| format!("{} {what}", called(c))).collect()
    }

    fn flag(&self, key: &str) -> Vec<String> {
        let on = self.0.pointer("/spec").and_then(|s| s.get(key)) == Some(&Value::Bool(true));
        if on { vec![key.to_owned()] } else { Vec::new() }
    }

    /// Rules about capabilities and the like are not for Windows, which has none.
    fn is_windows(&self) -> bool {
        text(self.0, "/spec/os/name") == "windows"
    }

    /// Root of a user namespace is nobody on the node.
    fn has_own_users(&self) -> bool {
        self.0.pointer("/spec/hostUsers") == Some(&Value::Bool(false))
    }
}

fn called(container: &Value) -> String {
    format!("container {}", text(container, "/name"))
}

fn security(container: &Value) -> &Value {
    container.get("securityContext").unwrap_or(&Value::Null)
}

fn host_process(pod: &Pod<'_>) -> Vec<String> {
    let is = |c: &Value| c.pointer("/windowsOptions/hostProcess") == Some(&Value::Bool(true));
    pod.contexts()
        .filter(|(_, c)| is(c))
        .map(|(who, _)| format!("{who} is a host process"))
        .collect()
}

fn privileged(pod: &Pod<'_>) -> Vec<String> {
    pod.where_("is privileged", |c| security(c).get("privileged") == Some(&Value::Bool(true)))
}

fn added_capabilities(pod: &Pod<'_>) -> Vec<String> {
    const DEFAULT: &[&str] = &[
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let added = pod.containers().flat_map(|c| {
        let all = list(c, "/securityContext/capabilities/add").iter().filter_map(Value::as_str);
        all.map(move |capability| (c, capability))
    });
    added
        .filter(|(_, capability)| !DEFAULT.contains(capability))
        .map(|(c, capability)| format!("{} has {capability}", called(c)))
        .collect()
}

fn host_path(pod: &Pod<'_>) -> Vec<String> {
    let paths = list(pod.0, "/spec/volumes").iter().filter_map(|v| v.get("hostPath"));
    paths.map(|v| format!("hostPath {}", text(v, "/path"))).collect()
}

fn host_ports(pod: &Pod<'_>) -> Vec<String> {
    let ports = pod.containers().flat_map(|c| list(c, "/ports"));
    ports
        .filter_map(|p| p.get("hostPort").and_then(Value::as_u64))
        .filter(|p| *p != 0)
        .map(|p| format!("hostPort {p}"))
        .collect()
}

fn host_probes(pod: &Pod<'_>) -> Vec<String> {
    const HANDLERS: &[&str] = &[
        "/livenessProbe",
        "/readinessProbe",
        "/startupProbe",
        "/lifecycle/postStart",
        "/lifecycle/preStop",
    ];
    pod.where_("has a probe or lifecycle hook to another host", |c| {
        HANDLERS.iter().filter_map(|at| c.pointer(at)).any(|handler| {
            ["/httpGet/host", "/tcpSocket/host"].iter().any(|at| !text(handler, at).is_empty())
        })
    })
}

fn apparmor(pod: &Pod<'_>) -> Vec<String> {
    const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
    let off = |profile: &str| profile != "runtime/default" && !profile.starts_with("localhost/");
    let annotations = pod.0.pointer("/metadata/annotations").and_then(Value::as_object);
    let by_annotation = annotations.into_iter().flatten().filter(|(key, value)| {
        key.starts_with(ANNOTATION) && value.as_str().is_some_and(|v| !v.is_empty() && off(v))
    });
    let mut broken: Vec<String> =
        by_annotation.map(|(key, _)| format!("{key} disables AppArmor")).collect();
    let by_field = pod.contexts().filter(|(_, c)| {
        !matches!(text(c, "/appArmorProfile/type"), "" | "RuntimeDefault" | "Localhost")
    });
    broken.extend(by_field.map(|(who, _)| format!("{who} has no AppArmor profile")));
    broken
}

fn selinux(pod: &Pod<'_>) -> Vec<String> {
    const TYPES: &[&str] =
        &["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
    let is = |c: &Value| {
        !TYPES.contains(&text(c, "/seLinuxOptions/type"))
            || ["user", "role"].iter().any(|k| !text(c, &format!("/seLinuxOptions/{k}")).is_empty())
    };
    let broken = pod.contexts().filter(|(_, c)| is(c));
    broken.map(|(who, _)| format!("{who} sets SELinux options")).collect()
}

fn proc_mount(pod: &Pod<'_>) -> Vec<String> {
    if pod.has_own_users() {
        return Vec::new();
    }
    pod.where_("has /proc unmasked", |c| !matches!(text(security(c), "/procMount"), "" | "Default"))
}

fn seccomp_off(pod: &Pod<'_>) -> Vec<String> {
    let off =
        |c: &Value| !matches!(text(c, "/seccompProfile/type"), "" | "RuntimeDefault" | "Localhost");
    let broken = pod.contexts().filter(|(_, c)| off(c));
    broken.map(|(who, _)| format!("{who} disables seccomp")).collect()
}

fn sysctls(pod: &Pod<'_>) -> Vec<String> {
    const SAFE: &[&str] = &[
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_syncookies",
    ];
    let set = list(pod.0, "/spec/securityContext/sysctls").iter().map(|s| text(s, "/name"));
    set.filter(|s| !SAFE.contains(s)).map(|s| format!("sysctl {s}")).collect()
}

fn volume_types(pod: &Pod<'_>) -> Vec<String> {
    const ALLOWED: &[&str] = &[
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    // What a volume is, is the key beside its name. One without any is an emptyDir.
    let kind = |v: &Value| {
        let keys = v.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        keys.map(|(key, _)| key.clone()).find(|k| k != "name")
    };
    let all = list(pod.0, "/spec/volumes").iter().filter_map(|v| Some((v, kind(v)?)));
    all.filter(|(_, kind)| !ALLOWED.contains(&kind.as_str()))
        .map(|(v, kind)| format!("volume {} of type {kind}", text(v, "/name")))
        .collect()
}

fn escalation(pod: &Pod<'_>) -> Vec<String> {
    if pod.is_windows() {
        return Vec::new();
    }
    pod.where_("may raise its privileges", |c| {
        security(c).get("allowPrivilegeEscalation") != Some(&Value::Bool(false))
    })
}

fn run_as_non_root(pod: &Pod<'_>) -> Vec<String> {
    if pod.has_own_users() {
        return Vec::new();
    }
    let of_pod = pod.context().get("runAsNonRoot");
    pod.where_("may run as root", |c| {
        let own = security(c).get("runAsNonRoot").filter(|v| !v.is_null());
        own.or(of_pod) != Some(&Value::Bool(true))
    })
}

fn run_as_root(pod: &Pod<'_>) -> Vec<String> {
    if pod.has_own_users() {
        return Vec::new();
    }
    let is = |c: &Value| c.get("runAsUser").and_then(Value::as_i64) == Some(0);
    pod.contexts().filter(|(_, c)| is(c)).map(|(who, _)| format!("{who} runs as root")).collect()
}

fn no_seccomp(pod: &Pod<'_>) -> Vec<String> {
    if pod.is_windows() {
        return Vec::new();
    }
    let of_pod = text(pod.context(), "/seccompProfile/type");
    pod.where_("has no seccomp profile", |c| {
        let own = text(security(c), "/seccompProfile/type");
        !matches!(if own.is_empty() { of_pod } else { own }, "RuntimeDefault" | "Localhost")
    })
}

fn kept_capabilities(pod: &Pod<'_>) -> Vec<String> {
    if pod.is_windows() {
        return Vec::new();
    }
    let mut broken = pod.where_("keeps capabilities", |c| {
        !list(c, "/securityContext/capabilities/drop").iter().any(|d| d == "ALL")
    });
    broken.extend(pod.containers().flat_map(|c| {
        let added = list(c, "/securityContext/capabilities/add").iter().filter_map(Value::as_str);
        let more = added.filter(|a| *a != "NET_BIND_SERVICE");
        more.map(|a| format!("{} has {a}", called(c))).collect::<Vec<_>>()
    }));
    broken
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    /// A pod that fulfils the restricted standard, with a container of each kind.
    fn good() -> Value {
        let container = json!({"name": "c", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}});
        json!({"metadata": {"annotations": {}}, "spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "secret": {}}],
            "containers": [container.clone()], "initContainers": [container.clone()],
            "ephemeralContainers": [container]}})
    }

    /// Puts a value at a path of keys, making what is missing on the way.
    fn set(object: &mut Value, path: &str, value: Value) {
        let mut at = object;
        for key in path.split('/') {
            at = match key.parse::<usize>() {
                Ok(index) => &mut at[index],
                Err(_) => &mut at[key],
            };
        }
        *at = value;
    }

    /// Ways to break each rule, by path below `spec`; those of a container are tried in each kind of them.
    fn ways() -> Vec<(&'static str, &'static str, Value)> {
        vec![
            ("host-process", "securityContext/windowsOptions/hostProcess", json!(true)),
            ("host-process", "c/securityContext/windowsOptions/hostProcess", json!(true)),
            ("host-network", "hostNetwork", json!(true)),
            ("host-pid", "hostPID", json!(true)),
            ("host-ipc", "hostIPC", json!(true)),
            ("privileged", "c/securityContext/privileged", json!(true)),
            ("capabilities", "c/securityContext/capabilities/add", json!(["SYS_ADMIN"])),
            ("capabilities", "c/securityContext/capabilities/add", json!(["ALL"])),
            ("host-path", "volumes", json!([{"name": "h", "hostPath": {"path": "/"}}])),
            ("host-ports", "c/ports", json!([{"containerPort": 80, "hostPort": 80}])),
            ("host-probes", "c/livenessProbe/httpGet/host", json!("169.254.169.254")),
            ("host-probes", "c/readinessProbe/tcpSocket/host", json!("x")),
            ("host-probes", "c/startupProbe/httpGet/host", json!("x")),
            ("host-probes", "c/lifecycle/postStart/httpGet/host", json!("x")),
            ("host-probes", "c/lifecycle/preStop/tcpSocket/host", json!("x")),
            ("apparmor", "securityContext/appArmorProfile/type", json!("Unconfined")),
            ("apparmor", "c/securityContext/appArmorProfile/type", json!("Unconfined")),
            ("selinux", "securityContext/seLinuxOptions/type", json!("spc_t")),
            ("selinux", "c/securityContext/seLinuxOptions/role", json!("sysadm_r")),
            ("selinux", "c/securityContext/seLinuxOptions/user", json!("root")),
            ("proc-mount", "c/securityContext/procMount", json!("Unmasked")),
            ("seccomp", "securityContext/seccompProfile/type", json!("Unconfined")),
            ("seccomp", "c/securityContext/seccompProfile/type", json!("Unconfined")),
            ("sysctls", "securityContext/sysctls", json!([{"name": "kernel.msgmax"}])),
            ("volume-types", "volumes", json!([{"name": "n", "nfs": {}}])),
            ("privilege-escalation", "c/securityContext/allowPrivilegeEscalation", json!(null)),
            ("privilege-escalation", "c/securityContext/allowPrivilegeEscalation", json!(true)),
            ("run-as-non-root", "securityContext/runAsNonRoot", json!(null)),
            ("run-as-non-root", "c/securityContext/runAsNonRoot", json!(false)),
            ("run-as-user", "securityContext/runAsUser", json!(0)),
            ("run-as-user", "c/securityContext/runAsUser", json!(0)),
            ("seccomp-profile", "securityContext/seccompProfile", json!(null)),
            ("seccomp-profile", "c/securityContext/seccompProfile/type", json!("Unconfined")),
            ("capabilities-drop", "c/securityContext/capabilities/drop", json!(["NET_RAW"])),
            ("capabilities-drop", "c/securityContext/capabilities/add", json!(["CHOWN"])),
        ]
    }

    fn ids(pod: &Value, level: PodLevel) -> BTreeSet<&'static str> {
        broken(pod, level).into_iter().map(|(id, _)| id).collect()
    }

    #[test]
    fn each_rule_is_broken_in_each_of_its_ways_and_in_each_kind_of_container() {
        assert_eq!(broken(&good(), PodLevel::Restricted), []);
        let mut tried = BTreeSet::new();
        for (id, path, value) in ways() {
            let kinds = ["containers/0", "initContainers/0", "ephemeralContainers/0"];
            let paths: Vec<String> = match path.strip_prefix("c/") {
                Some(rest) => kinds.iter().map(|k| format!("spec/{k}/{rest}")).collect(),
                None => vec![format!("spec/{path}")],
            };
            for path in paths {
                let mut pod = good();
                set(&mut pod, &path, value.clone());
                assert!(ids(&pod, PodLevel::Restricted).contains(id), "{path} = {value}");
                let level = ROWS.iter().find(|r| r.id == id).unwrap().level;
                let at_baseline = ids(&pod, PodLevel::Baseline).contains(id);
                assert_eq!(at_baseline, level == PodLevel::Baseline, "{path}");
                assert!(ids(&pod, PodLevel::Privileged).is_empty());
            }
            tried.insert(id);
        }
        assert_eq!(tried, ROWS.iter().map(|r| r.id).collect());
    }

    #[test]
    fn what_the_standard_lets_through_is_let_through() {
        let fine: [(&str, Value); 9] = [
            ("spec/containers/0/securityContext/capabilities/add", json!(["NET_BIND_SERVICE"])),
            ("spec/containers/0/ports", json!([{"containerPort": 80, "hostPort": 0}])),
            ("spec/containers/0/livenessProbe/httpGet/port", json!(80)),
            ("spec/containers/0/securityContext/runAsNonRoot", json!(true)),
            ("spec/securityContext/sysctls", json!([{"name": "net.ipv4.tcp_syncookies"}])),
            ("spec/securityContext/seccompProfile/type", json!("Localhost")),
            ("spec/securityContext/appArmorProfile/type", json!("RuntimeDefault")),
            ("spec/securityContext/seLinuxOptions/type", json!("container_t")),
            ("spec/volumes", json!([{"name": "p", "projected": {}}, {"name": "bare"}])),
        ];
        for (path, value) in fine {
            let mut pod = good();
            set(&mut pod, path, value);
            assert_eq!(broken(&pod, PodLevel::Restricted), [], "{path}");
        }
        let mut pod = good();
        set(&mut pod, "spec/hostUsers", json!(false));
        set(&mut pod, "spec/securityContext/runAsNonRoot", json!(null));
        assert_eq!(broken(&pod, PodLevel::Restricted), []);
        let key = "container.apparmor.security.beta.kubernetes.io/c";
        let mut pod = good();
        pod["metadata"]["annotations"][key] = json!("runtime/default");
        assert_eq!(broken(&pod, PodLevel::Restricted), []);
        pod["metadata"]["annotations"][key] = json!("unconfined");
        assert_eq!(ids(&pod, PodLevel::Restricted), BTreeSet::from(["apparmor"]));
    }
}
