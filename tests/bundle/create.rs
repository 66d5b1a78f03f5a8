//! `bundle create` against hosts of our own, as releases are published.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kubastion::bundle::{
    Architecture, Bundle, BundleError, Client, ClientOptions, Contents, CreateRequest, Fault,
    Reference, create,
};
use kubastion::event::Silent;
use kubastion::file_lock::FileLock;
use time::macros::datetime;

use super::archive::{MANIFEST_TYPE, elf, gzip, oci_image, sha256, tar};
use super::server::{self, HOSTS, Server, Twist};
use super::{err, keygen, signing_key, texts};

pub(super) const KUBELET: &str = "dl.k8s.io/release/v1.36.2/bin/linux/amd64/kubelet";
pub(super) const PAUSE: &str = "registry.k8s.io/v2/pause/manifests/3.10.2";

/// Publishes a release of everything.
fn publish(server: &Server) {
    let world = &server.world;
    for program in ["kubeadm", "kubectl", "kubelet"] {
        let target = format!("dl.k8s.io/release/v1.36.2/bin/linux/amd64/{program}");
        let bytes = elf("amd64", program);
        world.put(&format!("{target}.sha256"), sha256(&bytes));
        world.put(&target, bytes);
    }
    let github = |path: &str| format!("github.com/{path}");
    let put_with_sum = |target: &str, sum_target: &str, bytes: Vec<u8>| {
        let name = target.rsplit('/').next().unwrap();
        world.put(sum_target, format!("{}  {name}\n", sha256(&bytes)));
        world.put(target, bytes);
    };
    let etcd = gzip(&tar(&[
        ("etcd-v3.6.13-linux-amd64/README.md", b"read me"),
        ("etcd-v3.6.13-linux-amd64/etcd", &elf("amd64", "etcd")),
        ("etcd-v3.6.13-linux-amd64/etcdctl", &elf("amd64", "etcdctl")),
        ("etcd-v3.6.13-linux-amd64/etcdutl", &elf("amd64", "etcdutl")),
    ]));
    let base = github("etcd-io/etcd/releases/download/v3.6.13");
    put_with_sum(
        &format!("{base}/etcd-v3.6.13-linux-amd64.tar.gz"),
        &format!("{base}/SHA256SUMS"),
        etcd,
    );
    let containerd = gzip(&tar(&[
        ("bin/containerd", &elf("amd64", "containerd")),
        ("bin/containerd-shim-runc-v2", &elf("amd64", "shim")),
        ("bin/containerd-stress", &elf("amd64", "stress")),
        ("bin/ctr", &elf("amd64", "ctr")),
    ]));
    let base = github("containerd/containerd/releases/download/v2.2.7");
    let name = "containerd-static-2.2.7-linux-amd64.tar.gz";
    put_with_sum(&format!("{base}/{name}"), &format!("{base}/{name}.sha256sum"), containerd);
    let base = github("opencontainers/runc/releases/download/v1.3.6");
    let runc = elf("amd64", "runc");
    put_with_sum(&format!("{base}/runc.amd64"), &format!("{base}/runc.sha256sum"), runc);
    let plugins = gzip(&tar(&[
        ("./LICENSE", b"license"),
        ("./README.md", b"read me"),
        ("./bridge", &elf("amd64", "bridge")),
        ("./loopback", &elf("amd64", "loopback")),
    ]));
    let base = github("containernetworking/plugins/releases/download/v1.9.1");
    let name = "cni-plugins-linux-amd64-v1.9.1.tgz";
    put_with_sum(&format!("{base}/{name}"), &format!("{base}/{name}.sha256"), plugins);
    for image in ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"] {
        publish_image(server, image, "v1.36.2");
    }
    publish_image(server, "pause", "3.10.2");
    publish_image(server, "coredns/coredns", "v1.14.2");
}

/// Publishes an image for two machines, as an index. Returns the digest of the amd64 manifest.
fn publish_image(server: &Server, repository: &str, tag: &str) -> String {
    let world = &server.world;
    let base = format!("registry.k8s.io/v2/{repository}");
    let mut entries = Vec::new();
    let mut digests = Vec::new();
    for architecture in ["arm64", "amd64"] {
        let image = oci_image(&format!("{repository} {architecture}"), architecture);
        for blob in &image.blobs {
            world.put(&format!("{base}/blobs/sha256:{}", sha256(blob)), blob.clone());
        }
        let digest = sha256(&image.manifest);
        let target = format!("{base}/manifests/sha256:{digest}");
        world.types.lock().unwrap().insert(target.clone(), MANIFEST_TYPE);
        entries.push(serde_json::json!({
            "mediaType": MANIFEST_TYPE,
            "digest": format!("sha256:{digest}"),
            "size": image.manifest.len(),
            "platform": { "architecture": architecture, "os": "linux" },
        }));
        world.put(&target, image.manifest);
        digests.push(digest);
    }
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": entries }).to_string();
    world.put(&format!("{base}/manifests/{tag}"), index);
    digests.pop().unwrap()
}

/// The hosts, a directory and a key.
pub(super) struct Site {
    pub server: Server,
    pub dir: tempfile::TempDir,
    key: PathBuf,
}

pub(super) fn site() -> Site {
    let server = server::start();
    publish(&server);
    let dir = tempfile::tempdir().unwrap();
    let key = keygen(dir.path(), "key", "");
    Site { server, dir, key }
}

#[derive(Default)]
struct Wishes {
    versions: BTreeMap<String, String>,
    manifests: Vec<PathBuf>,
    images: Vec<Reference>,
}

impl Site {
    fn out(&self) -> PathBuf {
        self.dir.path().join("bundle")
    }

    fn client(&self) -> Client {
        let base = |host: &&str| format!("https://localhost:{}/{host}", self.server.port);
        let mirrors = HOSTS.iter().map(|host| ((*host).to_owned(), base(host))).collect();
        let extra_ca_pem = Some(self.server.ca_pem.clone().into_bytes());
        let quick = ClientOptions { pause: Duration::ZERO, ..ClientOptions::default() };
        Client::new(ClientOptions { mirrors, extra_ca_pem, ..quick }).unwrap()
    }

    fn create_with(&self, client: &Client, wishes: &Wishes) -> Result<Bundle, BundleError> {
        let key = signing_key(&self.key);
        let contents = Contents {
            kubernetes: "1.36.2".parse().unwrap(),
            architecture: Architecture::Amd64,
            versions: &wishes.versions,
            manifests: &wishes.manifests,
            images: &wishes.images,
        };
        let created = datetime!(2026-02-01 12:00 UTC);
        let request = CreateRequest { contents, out: &self.out(), key: &key, created };
        create(&request, client, &Silent)
    }

    fn create(&self) -> Result<Bundle, BundleError> {
        self.create_with(&self.client(), &Wishes::default())
    }

    #[track_caller]
    fn good(&self) -> Bundle {
        self.create().unwrap_or_else(|e| panic!("{:#?}", e.problems()))
    }

    /// Asserts that nothing was made, and that each text is said.
    #[track_caller]
    fn refused(&self, expected: &[&str]) {
        let all = texts(self.create()).join("\n");
        for text in expected {
            assert!(all.contains(text), "no {text:?} in\n{all}");
        }
        assert!(all.contains("no bundle was written"), "{all}");
        assert!(!self.out().exists());
    }

    /// Length of the body of each answer that was asked for with a range, by its start.
    pub fn ranges(&self, target: &str) -> Vec<Option<String>> {
        let all = self.server.world.requests(target);
        all.iter().map(|r| r.headers.get("range").cloned()).collect()
    }

    pub fn twist(&self, target: &str, twists: Vec<Twist>) {
        self.server.world.twist(target, twists);
    }
}

#[test]
fn releases_become_a_bundle_through_a_proxy() {
    let site = site();
    let proxy = server::proxy(site.server.port);
    let ca = site.dir.path().join("ca.pem");
    fs::write(&ca, &site.server.ca_pem).unwrap();
    let run = |no_proxy: &str, further: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_kubastion"))
            .args(["bundle", "create", "--kubernetes-version", "1.36.2", "--arch", "amd64"])
            .args(["--out", "b", "--key", "key", "--ca-file", "ca.pem"])
            .args(further)
            .current_dir(site.dir.path())
            .env("HTTPS_PROXY", format!("http://127.0.0.1:{}", proxy.port))
            .env("NO_PROXY", no_proxy)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    // The addresses are the real ones; the proxy leads them here.
    let made = run("", &[]);
    assert!(made.status.success(), "{}", err(&made));
    let mut asked: Vec<String> = proxy.asked.lock().unwrap().drain(..).collect();
    asked.sort();
    asked.dedup();
    let known: Vec<String> = HOSTS.iter().map(|h| format!("{h}:443")).collect();
    assert_eq!(asked, known);
    let signer = signing_key(&site.key).signer();
    let out = site.dir.path().join("b");
    let (bundle, summary) = Bundle::open_and_verify(&out, &[signer], &Silent).unwrap();
    assert_eq!(summary.files, 3 + 3 + 3 + 1 + 2 + 6);
    let kubelet = bundle.binary("kubelet").unwrap();
    assert_eq!(kubelet.origin, format!("https://{KUBELET}"));
    assert_eq!(kubelet.sha256.as_str(), sha256(&elf("amd64", "kubelet")));
    assert!(!site.dir.path().join("b.download").exists());
    // Who needs no proxy gets none.
    let mirror = format!("dl.k8s.io=https://localhost:{}/dl.k8s.io", site.server.port);
    let made = run("localhost", &["--mirror", &mirror]);
    assert!(made.status.success(), "{}", err(&made));
    let asked = proxy.asked.lock().unwrap();
    assert!(!asked.is_empty() && asked.iter().all(|a| !a.contains("localhost")), "{asked:?}");
    assert!(!asked.iter().any(|a| a.contains("dl.k8s.io")), "{asked:?}");
}

#[test]
fn images_keep_the_digest_that_the_registry_serves() {
    let site = site();
    let digest = publish_image(&site.server, "pause", "3.10.2");
    let bundle = site.good();
    let pause = bundle.image("registry.k8s.io/pause:3.10.2").unwrap();
    assert_eq!(pause.origin, format!("https://registry.k8s.io/v2/pause/manifests/sha256:{digest}"));
    let archive = fs::File::open(site.out().join("files/images").join(pause.name())).unwrap();
    let mut tar = tar::Archive::new(archive);
    let names: Vec<String> = tar
        .entries()
        .unwrap()
        .map(|e| e.unwrap().path().unwrap().to_string_lossy().into_owned())
        .collect();
    assert!(names.contains(&format!("blobs/sha256/{digest}")), "{names:?}");
}

#[test]
fn a_blob_that_images_share_is_fetched_once() {
    let site = site();
    site.good();
    let configuration = sha256(&oci_image("any", "amd64").blobs[0]);
    let log = site.server.world.log.lock().unwrap();
    let asked: Vec<_> = log.iter().filter(|r| r.target.ends_with(&configuration)).collect();
    assert_eq!(asked.len(), 1, "{asked:?}");
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_did() {
    let site = site();
    site.twist(KUBELET, vec![Twist::CutAfter(100), Twist::CutAfter(300)]);
    site.good();
    let expected = [None, Some("bytes=100-".to_owned()), Some("bytes=400-".to_owned())];
    assert_eq!(site.ranges(KUBELET), expected);
}

#[test]
fn another_run_goes_on_where_the_last_one_gave_up() {
    let site = site();
    site.twist(KUBELET, vec![Twist::CutAfter(100); 5]);
    site.refused(&[
        "kubelet cannot be fetched",
        "given up after 5 attempts",
        "the next run continues",
    ]);
    site.good();
    assert_eq!(site.ranges(KUBELET).last().unwrap().as_deref(), Some("bytes=500-"));
    // What was complete was not fetched again.
    assert_eq!(site.server.world.requests(&KUBELET.replace("kubelet", "kubeadm")).len(), 1);
}

#[test]
fn a_file_that_changed_meanwhile_is_fetched_from_its_start() {
    let site = site();
    let old = elf("amd64", "another");
    site.server.world.put(KUBELET, old.clone());
    site.twist(KUBELET, vec![Twist::CutAfter(100); 5]);
    site.refused(&["given up"]);
    site.server.world.put(KUBELET, elf("amd64", "kubelet"));
    site.good();
    // Asked for the rest of the old one, and got the whole new one.
    let last = site.server.world.requests(KUBELET).pop().unwrap();
    assert_eq!(last.headers["range"], "bytes=500-");
    assert_eq!(last.headers["if-range"], format!("\"{}\"", sha256(&old)));
}

#[test]
fn a_wrong_checksum_fails_and_leaves_nothing() {
    let site = site();
    site.server.world.put(&format!("{KUBELET}.sha256"), "0".repeat(64));
    site.refused(&["kubelet cannot be fetched", "its SHA-256 is", "not 000000"]);
    assert_eq!(site.server.world.requests(KUBELET).len(), 1);
    let fetched = site.dir.path().join("bundle.download/fetched");
    let left: Vec<String> = fs::read_dir(fetched)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|n| n.contains("kubelet"))
        .collect();
    assert_eq!(left, [""; 0]);
}

#[test]
fn a_file_that_was_kept_is_compared_again() {
    let site = site();
    site.twist(PAUSE, vec![Twist::Status(404, "", String::new())]);
    site.refused(&["the image registry.k8s.io/pause:3.10.2 cannot be pulled", "answers 404"]);
    let kept = site.dir.path().join("bundle.download/fetched/v1.36.2-kubelet");
    fs::write(&kept, elf("amd64", "kubelex")).unwrap();
    let bundle = site.good();
    let kubelet = bundle.binary("kubelet").unwrap();
    assert_eq!(kubelet.sha256.as_str(), sha256(&elf("amd64", "kubelet")));
}

#[test]
fn a_checksum_of_another_file_is_none() {
    let site = site();
    let sums = "github.com/opencontainers/runc/releases/download/v1.3.6/runc.sha256sum";
    site.server.world.put(sums, format!("{}  runc.arm64\n", "0".repeat(64)));
    site.refused(&["the published checksums do not list runc.amd64"]);
}

#[test]
fn redirects_lead_to_https_and_not_for_ever() {
    let site = site();
    let to = |location: String| vec![Twist::Status(302, "Location", location)];
    let here = format!("https://127.0.0.1:{}", site.server.port);
    site.server.world.put("127.0.0.1/cdn/kubelet", elf("amd64", "kubelet"));
    site.twist(KUBELET, to(format!("{here}/cdn/kubelet")));
    site.good();
    fs::remove_dir_all(site.out()).unwrap();

    site.twist(KUBELET, to(format!("http://127.0.0.1:{}/cdn/kubelet", site.server.port)));
    site.refused(&["http://127.0.0.1", "is not an HTTPS URL"]);

    let loops = (0..20).map(|_| Twist::Status(302, "Location", "kubelet".to_owned())).collect();
    site.twist(KUBELET, loops);
    site.refused(&["redirects more than 5 times"]);
}

#[test]
fn what_may_pass_is_tried_again_and_what_will_not_is_not() {
    let site = site();
    let busy = |code| Twist::Status(code, "", String::new());
    site.twist(KUBELET, vec![busy(503), busy(429), busy(500)]);
    site.good();
    assert_eq!(site.server.world.requests(KUBELET).len(), 4);
    fs::remove_dir_all(site.out()).unwrap();
    site.twist(KUBELET, vec![busy(503); 9]);
    site.refused(&["given up after 5 attempts", "the server answers 503"]);
    let sum = format!("{KUBELET}.sha256");
    let before = site.server.world.requests(&sum).len();
    site.twist(&sum, vec![busy(404)]);
    site.twist(KUBELET, Vec::new());
    site.refused(&["kubelet.sha256 cannot be fetched", "the server answers 404"]);
    assert_eq!(site.server.world.requests(&sum).len(), before + 1);
}

#[test]
fn everything_that_cannot_be_fetched_is_named_at_once() {
    let site = site();
    let mut files = site.server.world.files.lock().unwrap();
    files.retain(|target, _| !target.contains("kubelet") && !target.contains("/pause/"));
    drop(files);
    site.refused(&["kubelet.sha256 cannot be fetched", "the image registry.k8s.io/pause:3.10.2"]);
}

#[test]
fn a_file_that_claims_too_much_is_not_read() {
    let site = site();
    site.twist(KUBELET, vec![Twist::ClaimLength(1 << 40)]);
    site.refused(&["it is larger than 4294967296 bytes"]);
}

#[test]
fn a_host_with_another_ca_is_not_believed() {
    let site = site();
    let base = |host: &&str| format!("https://localhost:{}/{host}", site.server.port);
    let mirrors = HOSTS.iter().map(|host| ((*host).to_owned(), base(host))).collect();
    let options = ClientOptions { mirrors, pause: Duration::ZERO, ..ClientOptions::default() };
    let client = Client::new(options).unwrap();
    let all = texts(site.create_with(&client, &Wishes::default())).join("\n");
    assert!(all.contains("UnknownIssuer"), "{all}");
    assert!(!all.contains("given up"), "it was tried again:\n{all}");
    assert!(site.server.world.log.lock().unwrap().is_empty());
}

#[test]
fn registries_that_want_a_token_get_it_and_nobody_else_does() {
    let site = site();
    let world = &site.server.world;
    let here = format!("https://127.0.0.1:{}", site.server.port);
    let realm = format!("{here}/token");
    let target = "127.0.0.1/token?scope=repository:pause:pull&service=test";
    world.put(target, r#"{"token":"opensesame"}"#);
    world.twist(PAUSE, vec![Twist::Token(realm.clone()), Twist::Token(realm)]);
    let image = oci_image("pause amd64", "amd64");
    let layer = image.blobs.last().unwrap();
    let blob = format!("registry.k8s.io/v2/pause/blobs/sha256:{}", sha256(layer));
    world.put("127.0.0.1/cdn/layer", layer.clone());
    site.twist(&blob, vec![Twist::Status(307, "Location", format!("{here}/cdn/layer"))]);
    site.good();
    let token =
        |target: &str| world.requests(target).pop().unwrap().headers.get("authorization").cloned();
    assert_eq!(token(PAUSE).as_deref(), Some("Bearer opensesame"));
    assert_eq!(token(&blob).as_deref(), Some("Bearer opensesame"));
    assert_eq!(token("127.0.0.1/cdn/layer"), None);
    assert_eq!(token(target), None);
}

#[test]
fn images_that_are_not_what_their_digest_says_are_refused() {
    let site = site();
    let world = &site.server.world;
    let image = oci_image("pause amd64", "amd64");
    let manifest = format!("registry.k8s.io/v2/pause/manifests/sha256:{}", sha256(&image.manifest));
    world.put(&manifest, oci_image("something else", "amd64").manifest);
    site.refused(&["pause:3.10.2 cannot be pulled", "its SHA-256 differs"]);
    world.put(&manifest, image.manifest.clone());

    let layer = image.blobs.last().unwrap();
    let blob = format!("registry.k8s.io/v2/pause/blobs/sha256:{}", sha256(layer));
    let mut other = layer.clone();
    other[0] ^= 1;
    world.put(&blob, other);
    site.refused(&["pause:3.10.2 cannot be pulled", "its SHA-256 is"]);
    world.put(&blob, [&layer[..], b"more"].concat());
    site.refused(&["pause:3.10.2 cannot be pulled", "it is larger than"]);
    world.put(&blob, layer.clone());

    let only_arm = world.files.lock().unwrap()[PAUSE].clone();
    let only_arm = String::from_utf8(only_arm).unwrap().replace("\"amd64\"", "\"s390x\"");
    world.put(PAUSE, only_arm);
    site.refused(&["there is no image for linux/amd64"]);
}

#[test]
fn manifests_bring_their_images() {
    let site = site();
    publish_image(&site.server, "net/agent", "v1");
    publish_image(&site.server, "net/init", "v1");
    let digest = publish_image(&site.server, "extra", "v2");
    let manifest = site.dir.path().join("net.yaml");
    fs::write(
        &manifest,
        "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: { name: agent }\nspec:\n  template:\n    spec:\n      initContainers:\n      - image: registry.k8s.io/net/init:v1\n      containers:\n      - image: registry.k8s.io/net/agent:v1\n---\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: { name: a }\nspec: { image: { type: string } }\n",
    )
    .unwrap();
    let mut wishes = Wishes {
        manifests: vec![manifest.clone()],
        images: vec![format!("registry.k8s.io/extra:v2@sha256:{digest}").parse().unwrap()],
        ..Wishes::default()
    };
    let bundle = site.create_with(&site.client(), &wishes).unwrap();
    assert_eq!(bundle.manifest_file("net.yaml").unwrap().origin, "imported");
    let objects = bundle.objects().unwrap();
    let kinds: Vec<_> = objects.iter().map(|o| (&*o.file, &o.object["kind"])).collect();
    let (definition, set) = ("CustomResourceDefinition".into(), "DaemonSet".into());
    assert_eq!(
        kinds,
        [("net.yaml", &definition), ("net.yaml", &set)],
        "what others need goes first"
    );
    for image in ["net/agent:v1", "net/init:v1", "extra:v2"] {
        assert!(bundle.image(&format!("registry.k8s.io/{image}")).is_some(), "{image}");
    }
    // A pin that does not hold.
    let pinned = format!("registry.k8s.io/extra:v2@sha256:{}", "0".repeat(64));
    wishes.images = vec![pinned.parse().unwrap()];
    let all = texts(site.create_with(&site.client(), &wishes)).join("\n");
    assert!(all.contains("the image registry.k8s.io/extra:v2 cannot be pulled"), "{all}");
    fs::write(&manifest, "kind: Pod\nspec: { containers: [{ image: agent }] }\n").unwrap();
    let all = texts(site.create_with(&site.client(), &wishes)).join("\n");
    assert!(all.contains("names an image that cannot be pulled"), "{all}");
    assert!(all.contains("is not a Kubernetes manifest"), "{all}");
}

#[test]
fn versions_can_be_chosen_and_are_checked_before_anything_is_fetched() {
    let site = site();
    let chosen = |name: &str, version: &str| Wishes {
        versions: BTreeMap::from([(name.to_owned(), version.to_owned())]),
        ..Wishes::default()
    };
    let client = site.client();
    let said = |name: &str, version: &str| {
        texts(site.create_with(&client, &chosen(name, version))).join("\n")
    };
    assert!(said("etdc", "v3.6.8").contains("did you mean `etcd`?"));
    assert!(said("etcd", "3.6.8").contains("malformed version"));
    assert!(said("kubernetes", "v1.36.1").contains("is not a component with a selectable version"));
    assert!(site.server.world.log.lock().unwrap().is_empty());
    let all = said("runc", "v9.9.9");
    assert!(all.contains("download/v9.9.9/runc.sha256sum cannot be fetched"), "{all}");
}

#[test]
fn two_runs_do_not_write_to_the_same_place() {
    let site = site();
    let download = site.dir.path().join("bundle.download");
    fs::create_dir(&download).unwrap();
    let lock = FileLock::try_exclusive(fs::File::open(&download).unwrap()).unwrap();
    site.refused(&["is being written by another process"]);
    drop(lock);
    site.good();
    assert!(Path::new(&site.out()).join("manifest.json").exists());
}

/// What the client says of hosts that are asked at `base`.
fn said_of(site: &Site, base: &str) -> (String, Vec<bool>, Duration) {
    let mirrors = HOSTS.iter().map(|host| ((*host).to_owned(), base.to_owned())).collect();
    let patience = Duration::from_millis(300);
    let quick = ClientOptions { pause: Duration::ZERO, patience, ..ClientOptions::default() };
    let client = Client::new(ClientOptions { mirrors, ..quick }).unwrap();
    let begun = Instant::now();
    let error = site.create_with(&client, &Wishes::default()).unwrap_err();
    let unreachable = error.faults.iter().map(|f| matches!(f, Fault::Unreachable(_))).collect();
    (texts::<()>(Err(error)).join("\n"), unreachable, begun.elapsed())
}

#[test]
fn hosts_that_do_not_answer_are_one_fault_that_is_known_in_seconds() {
    let site = site();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let hole = format!("https://{}", silent.local_addr().unwrap());
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = format!("https://{}", gone.local_addr().unwrap());
    drop(gone);
    for (base, why) in [
        (closed.as_str(), "Connection refused"),
        (hole.as_str(), "no answer within"),
        ("https://nowhere.invalid", "nowhere.invalid cannot be reached: "),
    ] {
        let (all, unreachable, took) = said_of(&site, base);
        assert!(all.contains(" cannot be reached: ") && all.contains(why), "{base}: {all}");
        assert!(all.contains("no bundle was written") && all.contains("hint:"), "{all}");
        assert_eq!(unreachable, [true], "{all}");
        assert!(took < Duration::from_secs(15), "{base}: {took:?}");
        assert!(!site.dir.path().join("bundle.download").exists(), "something was left");
    }
    assert!(site.server.world.log.lock().unwrap().is_empty());
}

#[test]
fn one_refused_connection_is_no_host_that_cannot_be_reached() {
    let site = site();
    let gate = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("https://localhost:{}", gate.local_addr().unwrap().port());
    let port = site.server.port;
    std::thread::spawn(move || {
        let mut streams = gate.incoming().flatten();
        // The first one is hung up on.
        streams.next();
        for stream in streams {
            let server = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (mut from, mut to) = (stream.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            std::thread::spawn(move || std::io::copy(&mut &server, &mut &stream));
        }
    });
    let mirror = |host: &&str| ((*host).to_owned(), format!("{base}/{host}"));
    let extra_ca_pem = Some(site.server.ca_pem.clone().into_bytes());
    let quick = ClientOptions { pause: Duration::ZERO, ..ClientOptions::default() };
    let mirrors = HOSTS.iter().map(mirror).collect();
    let client = Client::new(ClientOptions { mirrors, extra_ca_pem, ..quick }).unwrap();
    let made = site.create_with(&client, &Wishes::default());
    assert!(made.is_ok(), "{:#?}", made.err().map(|e| e.problems()));
}

#[test]
fn only_hosts_that_do_not_answer_end_with_their_exit_code() {
    let site = site();
    let create = |proxy: u16, out: &str, further: &[&str]| {
        fs::write(site.dir.path().join("ca.pem"), &site.server.ca_pem).unwrap();
        Command::new(env!("CARGO_BIN_EXE_kubastion"))
            .args(["bundle", "create", "--arch", "amd64", "--out", out, "--key", "key"])
            .args(["--ca-file", "ca.pem"])
            .args(further)
            .current_dir(site.dir.path())
            .env("HTTPS_PROXY", format!("http://127.0.0.1:{proxy}"))
            .env_remove("NO_PROXY")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for further in [&[][..], &["--check"]] {
        let refused = create(gone, "b", further);
        assert_eq!(refused.status.code(), Some(8), "{}", err(&refused));
        let proxy = format!("through the proxy 127.0.0.1:{gone}");
        assert!(err(&refused).contains(&proxy), "{}", err(&refused));
    }
    // A proxy that lets nobody through.
    let deny = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = deny.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in deny.incoming().flatten() {
            _ = std::io::Read::read(&mut stream, &mut [0; 1024]);
            _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 403 Forbidden\r\n\r\n");
        }
    });
    let refused = create(port, "b", &["--check"]);
    assert_eq!(refused.status.code(), Some(8), "{}", err(&refused));

    let proxy = server::proxy(site.server.port);
    let asked =
        |output: &std::process::Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let checked = create(proxy.port, "b", &["--check"]);
    assert!(checked.status.success(), "{}", err(&checked));
    assert_eq!(asked(&checked), "dl.k8s.io, github.com and registry.k8s.io answer\n");
    assert!(!site.dir.path().join("b").exists() && !site.dir.path().join("b.download").exists());
    // What they serve is another matter.
    site.server.world.put(&format!("{KUBELET}.sha256"), "0".repeat(64));
    let damaged = create(proxy.port, "b", &[]);
    assert_eq!(damaged.status.code(), Some(1), "{}", err(&damaged));
    // So is a machine that cannot write it.
    let full = create(proxy.port, "/proc/b", &[]);
    assert_eq!(full.status.code(), Some(1), "{}", err(&full));
}

#[test]
fn a_place_that_is_taken_is_said_before_anything_is_fetched() {
    let site = site();
    fs::create_dir(site.out()).unwrap();
    fs::write(site.out().join("letter"), "dear").unwrap();
    let all = texts(site.create()).join("\n");
    assert!(all.contains("exists and is not a bundle"), "{all}");
    assert!(site.server.world.log.lock().unwrap().is_empty());
}
