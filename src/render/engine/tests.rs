//! What the engine refuses, and what hostile strings cannot do.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use serde::Serialize;
use tera::{Context, Tera};

use super::*;
use crate::render::Format;
use crate::render::input::{endpoint, etcd, host, kubernetes, runtime};

/// Behaviour of the engine that docs/decisions/render.md relies on.
#[test]
fn tera_refuses_missing_values_and_unknown_filters() {
    let mut tera = Tera::default();
    assert!(tera.add_raw_template("filter", "{{ a | no_such_filter }}").is_err());
    tera.add_raw_template("value", "{{ a }}").unwrap();
    tera.add_raw_template("field", "{{ a.b }}").unwrap();
    tera.add_raw_template("branch", "{% if a %}x{% endif %}").unwrap();
    let render = |name| tera.render(name, &Context::new());
    assert!(render("value").is_err());
    assert!(render("field").is_err());
    // The one silent case: a missing value in a condition is false. Inputs are structs without
    // options, and every template is rendered in tests.
    assert_eq!(render("branch").unwrap(), "");
}

#[test]
fn every_template_has_a_row_and_every_row_a_template() {
    fn walk(dir: &Path, root: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                found.insert(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates");
    let mut found = BTreeSet::new();
    walk(&root, &root, &mut found);
    let rows: Vec<String> = TEMPLATES.iter().map(|t| t.path.to_owned()).collect();
    assert!(rows.windows(2).all(|w| w[0] < w[1]), "rows are sorted");
    assert_eq!(rows, found.into_iter().collect::<Vec<_>>());
    for row in TEMPLATES {
        assert!(row.mode & 0o022 == 0, "{}: others may not write it", row.path);
        if row.input == "-" {
            row.format.parse(row.text).unwrap();
            assert!(!row.text.contains("{{") && !row.text.contains("{%"), "{}", row.path);
        }
    }
}

#[test]
fn every_input_names_its_row_and_every_row_its_input() {
    fn pair<I: Input>() -> (&'static str, &'static str) {
        (I::TEMPLATE, I::NAME)
    }
    let mut inputs = vec![
        pair::<endpoint::Haproxy>(),
        pair::<endpoint::Keepalived>(),
        pair::<etcd::EtcdBootstrap>(),
        pair::<etcd::EtcdUnit>(),
        pair::<host::AptUpdates>(),
        pair::<host::AuditRules>(),
        pair::<host::ChronyServers>(),
        pair::<host::ChronyWhole>(),
        pair::<host::DnfAutomatic>(),
        pair::<host::Firewall>(),
        pair::<host::KubernetesPin>(),
        pair::<host::KubernetesRepo>(),
        pair::<host::KubernetesSources>(),
        pair::<host::Modules>(),
        pair::<host::Sshd>(),
        pair::<host::Sysctl>(),
        pair::<host::TimesyncdServers>(),
        pair::<kubernetes::Admission>(),
        pair::<kubernetes::ApiserverExecProbes>(),
        pair::<kubernetes::ApiserverProbes>(),
        pair::<kubernetes::EncryptionConfig>(),
        pair::<kubernetes::ComponentConfig>(),
        pair::<kubernetes::KubeadmCluster>(),
        pair::<kubernetes::KubeadmInit>(),
        pair::<kubernetes::KubeadmJoin>(),
        pair::<kubernetes::KubeadmMember>(),
        pair::<kubernetes::KubeadmUpgrade>(),
        pair::<kubernetes::ReadAtStart>(),
        pair::<kubernetes::KubeletDropIn>(),
        pair::<kubernetes::KubeletPatch>(),
        pair::<kubernetes::SecurityContext>(),
        pair::<runtime::BridgeNetwork>(),
        pair::<runtime::Containerd1>(),
        pair::<runtime::Containerd2>(),
        pair::<runtime::RegistryHosts>(),
        pair::<runtime::ContainerdUnit>(),
        pair::<runtime::PodRouteList>(),
        pair::<runtime::PodRouteUnit>(),
    ];
    inputs.sort_unstable();
    let rows: Vec<_> =
        TEMPLATES.iter().filter(|t| t.input != "-").map(|t| (t.path, t.input)).collect();
    assert_eq!(inputs, rows);
}

/// A template's input that is not as it should be.
#[derive(Serialize)]
struct Bad<T> {
    modules: T,
}

impl<T: Serialize> Input for Bad<T> {
    const TEMPLATE: &'static str = "host/modules.conf";
    const NAME: &'static str = "Bad";
}

#[test]
fn bare_strings_and_missing_values_are_refused() {
    let bare = render(&Bad { modules: vec!["a b"] });
    assert!(matches!(bare, Err(RenderError::Bare { .. })), "{bare:?}");
    let none = render(&Bad { modules: None::<Vec<Text>> });
    assert!(matches!(none, Err(RenderError::Bare { .. })), "{none:?}");
}

#[test]
fn a_template_that_forgets_to_quote_is_found_out() {
    // What the two renderings are for: the same comparison on a template with a bare value.
    let mut tera = Tera::default();
    tera.add_raw_template("t", "a: {{ v }}\n").unwrap();
    let parse = |v: &str| {
        let context = Context::from_serialize(&serde_json::json!({ "v": v })).unwrap();
        Format::Yaml.parse(&tera.render("t", &context).unwrap()).unwrap()
    };
    for hostile in ["x\nb: y", "{x: y}", "true", "1", "x # y", "~"] {
        let mut expected = parse(&mask(1));
        fill(&mut expected, &[hostile.to_owned()]);
        assert_ne!(parse(hostile), expected, "{hostile:?}");
    }
    let mut expected = parse(&mask(1));
    fill(&mut expected, &["harmless".to_owned()]);
    assert_eq!(parse("harmless"), expected);
}

#[test]
fn marks_that_stand_in_a_value_are_left_alone() {
    let text = Text::of(format!("{} and mask", mask(1)));
    let input = runtime::BridgeNetwork { subnets: vec![Text::of("a"), text], routes: Vec::new() };
    assert!(render(&input).unwrap().contains("mask00001mask and mask"));
}

fn registration(name: &str, value: &str) -> kubernetes::Registration {
    let text = || Text::of(value);
    kubernetes::Registration {
        name: Text::of(name),
        taints: vec![kubernetes::Taint { key: text(), value: text(), effect: text() }],
        kubelet_args: vec![etcd::Flag { name: Text::of("node-labels"), value: text() }],
        ignored_preflight: vec![text()],
    }
}

fn join(name: &str, value: &str) -> kubernetes::KubeadmJoin {
    kubernetes::KubeadmJoin {
        kind: kubernetes::JoinKind::ControlPlane,
        discovery: Text::of(value),
        advertise_address: Text::of(value),
        bind_port: 6443,
        node: registration(name, value),
        patches: Text::of(value),
    }
}

/// Strings that have broken templates before.
fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[ -~\n\r\t\"'\\\\#:{}\\[\\]&*!|>%@`,?-]{0,40}",
        proptest::sample::select(vec![
            "",
            "null",
            "~",
            "true",
            "no",
            "0x1f",
            "1e3",
            "- x",
            "a: b",
            "&a *a",
            "!!binary x",
            "\"",
            "'",
            "\\",
            "x\n---\ny: z",
            "{{ name }}",
            "{% raw %}",
            "\u{85}",
            "\u{2028}",
            "\u{feff}x",
            "#",
            "<<",
            "%",
            "$HOME",
            "`id`",
            "=",
            "\u{1f600}",
            "\u{7f}",
            "\u{0}",
        ])
        .prop_map(str::to_owned),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// In YAML any string is a value, and stays this value.
    #[test]
    fn yaml_keeps_every_string(name in hostile(), value in hostile()) {
        let text = render(&join(&name, &value)).unwrap();
        let parsed: crate::yaml::Value = crate::yaml::from_text(&text).unwrap();
        let at = |path: &[&str]| path.iter().try_fold(&parsed, |v, k| v.get(k)).cloned();
        prop_assert_eq!(at(&["nodeRegistration", "name"]), Some(name.into()));
        prop_assert_eq!(at(&["discovery", "file", "kubeConfigPath"]), Some(value.clone().into()));
        let args = at(&["nodeRegistration", "kubeletExtraArgs"]).unwrap();
        prop_assert_eq!(args.as_sequence().unwrap().len(), 1);
        prop_assert_eq!(args[0].get("value"), Some(&value.into()));
    }

    /// JSON and TOML too.
    #[test]
    fn json_and_toml_keep_every_string(value in hostile()) {
        let values = vec![Text::of(&value), Text::of("x")];
        let bridge = runtime::BridgeNetwork { subnets: values.clone(), routes: values.clone() };
        let parsed: serde_json::Value = serde_json::from_str(&render(&bridge).unwrap()).unwrap();
        let ranges = &parsed["plugins"][0]["ipam"]["ranges"];
        prop_assert_eq!(&ranges[0][0]["subnet"], &serde_json::Value::from(value.clone()));
        let input = runtime::Containerd2 {
            sandbox_image: Text::of(&value),
            systemd_cgroup: true,
            selinux: false,
            restrict_oom_score_adj: false,
            cni_bin_dir: Text::of(&value),
            cni_bin_key: runtime::CniBinKey::BinDirs,
        };
        let parsed: toml::Value = toml::from_str(&render(&input).unwrap()).unwrap();
        let image = parsed["plugins"]["io.containerd.cri.v1.images"]["pinned_images"]["sandbox"].as_str();
        prop_assert_eq!(image, Some(value.as_str()));
    }

    /// Line formats have no escapes: what does not fit is refused, what is rendered has exactly the
    /// lines of its template.
    #[test]
    fn line_formats_refuse_what_does_not_fit(value in hostile()) {
        let modules = host::Modules { modules: vec![Text::of(&value), Text::of("overlay")] };
        if let Ok(text) = render(&modules) {
            prop_assert_eq!(text.lines().collect::<Vec<_>>()[1..].to_vec(), vec![value.as_str(), "overlay"]);
        }
        let unit = etcd::EtcdUnit {
            flags: vec![etcd::Flag { name: Text::of("name"), value: Text::of(&value) }],
            oom_score_adjust: 0,
        };
        if let Ok(text) = render(&unit) {
            prop_assert!(text.contains(&format!("ExecStart=etcd \\\n  --name={value}\n")), "{}", text);
        }
        let firewall = host::Firewall {
            enforce: true,
            policy: host::Policy::Drop,
            sets: Vec::new(),
            input: vec![host::Rule {
                from: host::Source::any(),
                protocol: host::Protocol::Tcp,
                ports: vec![22],
                comment: Text::of(&value),
            }],
            kubernetes: false,
            nodeports: Vec::new(),
            nodeport_sources: Vec::new(),
            nodeport_clients: Vec::new(),
            inside: Vec::new(),
            cluster: Vec::new(),
            pods: Vec::new(),
            services: Vec::new(),
            forwarded: Vec::new(),
            metadata: Vec::new(),
        };
        if let Ok(text) = render(&firewall) {
            let line = format!("\t\ttcp dport {{ 22 }} accept comment \"{value}\"");
            prop_assert_eq!(text.lines().filter(|l| *l == line).count(), 1);
        }
    }
}

#[test]
fn secrets_are_put_in_after_rendering() {
    let key = |n: &str, s: &str| kubernetes::NamedKey { name: Text::of(n), secret: Text::of(s) };
    let input = kubernetes::EncryptionConfig {
        entries: vec![kubernetes::EncryptedResources {
            resources: vec![Text::of("secrets")],
            identity: kubernetes::Identity::None,
        }],
        provider: kubernetes::Provider::Secretbox,
        kms_name: Text::default(),
        kms_endpoint: Text::default(),
        keys: vec![key("k1", "standin1x"), key("k2", "standin2x")],
    };
    let secret = |name: &str, value: &str| (name.to_owned(), Secret::new(value.to_owned()));
    let secrets = [secret("standin1x", "QUJD"), secret("standin2x", "REVG")];
    let text = render_secret(&input, &secrets).unwrap();
    let text = std::str::from_utf8(text.expose()).unwrap();
    assert!(text.contains("name: \"k1\"\n        secret: \"QUJD\"\n"), "{text}");
    assert!(text.contains("secret: \"REVG\""), "{text}");
    // Not base64: it could close the quotes.
    assert!(render_secret(&input, &[secret("standin1x", "a\"b")]).is_err());
}
