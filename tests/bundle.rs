//! Bundles: made, signed, and every kind of damage found.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use kubastion::bundle::{ArtifactKind, Bundle, BundleError, ImportRequest, SigningKey, import};
use kubastion::event::Silent;
use kubastion::inventory::SignerKey;
use kubastion::secret::Secret;
use time::macros::datetime;

pub(crate) mod archive;
mod create;
mod demo;
mod server;

use archive::{docker_archive, elf, gzip, oci_archive};

/// A directory to import, complete but for the container runtime and CNI plugins.
const VERSIONS: &str = "kubernetes: v1.36.2\netcd: v3.6.8\ncoredns: v1.14.2\npause: \"3.10.2\"\n";

fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn input(dir: &Path) -> PathBuf {
    let from = dir.join("input");
    write(&from.join("versions.yaml"), VERSIONS);
    for program in ["kubeadm", "kubelet", "kubectl", "etcd", "etcdctl"] {
        write(&from.join("bin").join(program), elf("amd64", program));
    }
    for image in ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"] {
        let reference = format!("registry.k8s.io/{image}:v1.36.2");
        let archive = docker_archive(&[&reference], "amd64");
        write(&from.join(format!("images/{image}.tar")), archive);
    }
    write(&from.join("images/pause.tar"), oci_archive("registry.k8s.io/pause:3.10.2", "amd64"));
    write(
        &from.join("images/coredns.tar.gz"),
        gzip(&docker_archive(&["registry.k8s.io/coredns/coredns:v1.14.2"], "amd64")),
    );
    write(&from.join("manifests/net.yaml"), "apiVersion: v1\nkind: Namespace\n");
    from
}

/// An ed25519 key from ssh-keygen, so that no test judges our own reading of it.
pub(crate) fn keygen(dir: &Path, name: &str, passphrase: &str) -> PathBuf {
    let path = dir.join(name);
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-C", "ops key", "-N", passphrase, "-f"])
        .arg(&path)
        .status()
        .unwrap();
    assert!(made.success());
    path
}

fn no_passphrase() -> std::io::Result<Secret<String>> {
    Err(std::io::Error::other("no passphrase in this test"))
}

pub(crate) fn signing_key(path: &Path) -> SigningKey {
    SigningKey::read(path, &no_passphrase).unwrap()
}

struct Made {
    dir: tempfile::TempDir,
    key: PathBuf,
    signer: SignerKey,
}

impl Made {
    fn out(&self) -> PathBuf {
        self.dir.path().join("bundle")
    }

    fn problems(&self) -> Vec<String> {
        texts(Bundle::open_and_verify(&self.out(), std::slice::from_ref(&self.signer), &Silent))
    }
}

fn texts<T>(result: Result<T, BundleError>) -> Vec<String> {
    let problems = result.err().map(|e| e.problems()).unwrap_or_default();
    problems.iter().map(ToString::to_string).collect()
}

fn run_import(from: &Path, out: &Path, key: &SigningKey) -> Result<Bundle, BundleError> {
    import(
        &ImportRequest {
            from,
            out,
            key,
            architecture: None,
            created: datetime!(2026-02-01 12:00 UTC),
            origins: &BTreeMap::new(),
        },
        &Silent,
    )
}

/// A good bundle.
fn made() -> Made {
    let dir = tempfile::tempdir().unwrap();
    let from = input(dir.path());
    let key = keygen(dir.path(), "key", "");
    let signing = signing_key(&key);
    let signer = signing.signer();
    run_import(&from, &dir.path().join("bundle"), &signing)
        .unwrap_or_else(|e| panic!("{:#?}", e.problems()));
    Made { dir, key, signer }
}

/// Asserts that exactly these problems were found: each expected text in one of them.
#[track_caller]
fn exactly(problems: &[String], expected: &[&str]) {
    let all = problems.join("\n");
    assert_eq!(problems.len(), expected.len(), "{all}");
    for text in expected {
        assert!(problems.iter().any(|p| p.contains(text)), "no {text:?} in\n{all}");
    }
}

#[test]
fn what_was_imported_is_found_again() {
    let made = made();
    let signers = [made.signer.clone()];
    let bundle = Bundle::open(&made.out(), &signers).unwrap();
    assert_eq!(bundle.verify_all(&Silent).unwrap().files, 12);
    assert_eq!(bundle.version("etcd"), Some("v3.6.8"));
    assert_eq!(bundle.manifest().created, "2026-02-01T12:00:00Z");
    let kubelet = bundle.binary("kubelet").unwrap();
    assert_eq!(
        (kubelet.component.as_str(), kubelet.mode.bits(), kubelet.origin.as_str()),
        ("kubernetes", 0o755, "imported")
    );
    let mut content = Vec::new();
    bundle.reader(kubelet).unwrap().read_to_end(&mut content).unwrap();
    assert_eq!(content, elf("amd64", "kubelet"));
    let pause = bundle.image("registry.k8s.io/pause:3.10.2").unwrap();
    assert_eq!((pause.name(), pause.component.as_str()), ("pause.tar", "pause"));
    assert_eq!(
        bundle.image("registry.k8s.io/coredns/coredns:v1.14.2").unwrap().component,
        "coredns"
    );
    assert_eq!(bundle.images().count(), 6);
    assert_eq!(bundle.cni_plugins().count(), 0);
    assert_eq!(bundle.manifest_file("net.yaml").unwrap().kind, ArtifactKind::Manifest);
    assert!(!made.dir.path().join("bundle.partial").exists());
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let made = made();
    let again = made.dir.path().join("again");
    run_import(&made.dir.path().join("input"), &again, &signing_key(&made.key)).unwrap();
    for name in ["manifest.json", "manifest.json.sig"] {
        assert_eq!(fs::read(made.out().join(name)).unwrap(), fs::read(again.join(name)).unwrap());
    }
}

/// What format 1 is on disk. If this fails, old bundles may no longer be read: a new format is due.
#[test]
fn bundles_of_format_1_are_read() {
    let made = made();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/bundle-v1");
    let pinned = fs::read(golden.join("manifest.json")).unwrap();
    assert_eq!(fs::read(made.out().join("manifest.json")).unwrap(), pinned);
    // Signed by a key that is gone.
    fs::copy(golden.join("manifest.json.sig"), made.out().join("manifest.json.sig")).unwrap();
    let signer: SignerKey =
        fs::read_to_string(golden.join("signer.pub")).unwrap().trim_end().parse().unwrap();
    exactly(&made.problems(), &["not trusted"]);
    Bundle::open(&made.out(), &[signer]).unwrap();
}

#[test]
fn openssh_accepts_the_signature_and_refuses_another_text() {
    let made = made();
    let allowed = made.dir.path().join("allowed");
    fs::write(&allowed, format!("ops namespaces=\"kubastion-bundle\" {}\n", made.signer)).unwrap();
    let check = |namespace: &str, text: &[u8]| -> Output {
        let mut child = Command::new("ssh-keygen")
            .args(["-Y", "verify", "-I", "ops", "-n", namespace, "-f"])
            .arg(&allowed)
            .arg("-s")
            .arg(made.out().join("manifest.json.sig"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text).unwrap();
        child.wait_with_output().unwrap()
    };
    let mut text = fs::read(made.out().join("manifest.json")).unwrap();
    let good = check("kubastion-bundle", &text);
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stderr));
    assert!(!check("file", &text).status.success());
    text.push(b' ');
    assert!(!check("kubastion-bundle", &text).status.success());
}

#[test]
fn a_signature_made_by_openssh_is_accepted() {
    let made = made();
    let signature = made.out().join("manifest.json.sig");
    fs::remove_file(&signature).unwrap();
    let signed = Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", "kubastion-bundle", "-f"])
        .arg(&made.key)
        .arg(made.out().join("manifest.json"))
        .status()
        .unwrap();
    assert!(signed.success());
    assert_eq!(made.problems(), [""; 0]);
    // One for another purpose is none.
    fs::remove_file(&signature).unwrap();
    let signed = Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", "file", "-f"])
        .arg(&made.key)
        .arg(made.out().join("manifest.json"))
        .status()
        .unwrap();
    assert!(signed.success());
    exactly(&made.problems(), &["the signature does not match the manifest"]);
}

/// What is done to a good bundle, and what must be said then.
type Damage = (&'static str, fn(&Path), &'static [&'static str]);

const DAMAGES: &[Damage] = &[
    (
        "a byte changed",
        |b| {
            let path = b.join("files/bin/kubelet");
            let mut bytes = fs::read(&path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(path, bytes).unwrap();
        },
        &["files/bin/kubelet: is not what was signed"],
    ),
    (
        "two files exchanged",
        |b| {
            let bin = b.join("files/bin");
            fs::rename(bin.join("kubelet"), bin.join("x")).unwrap();
            fs::rename(bin.join("kubeadm"), bin.join("kubelet")).unwrap();
            fs::rename(bin.join("x"), bin.join("kubeadm")).unwrap();
        },
        &["files/bin/kubelet: is not what was signed", "files/bin/kubeadm: is not what was signed"],
    ),
    (
        "a byte more",
        |b| {
            let path = b.join("files/bin/etcd");
            let mut bytes = fs::read(&path).unwrap();
            bytes.push(0);
            fs::write(path, bytes).unwrap();
        },
        &["files/bin/etcd: differs in size"],
    ),
    (
        "a file gone",
        |b| fs::remove_file(b.join("files/images/pause.tar")).unwrap(),
        &["files/images/pause.tar: is missing"],
    ),
    (
        "a file more",
        |b| fs::write(b.join("files/bin/extra"), "x").unwrap(),
        &["files/bin/extra: is not in the manifest"],
    ),
    (
        "a hidden file more",
        |b| fs::write(b.join("files/bin/.x"), "x").unwrap(),
        &["files/bin/.x: is a file that the manifest does not list"],
    ),
    (
        "a file beside the manifest",
        |b| fs::write(b.join("README"), "x").unwrap(),
        &["README: is a file that the manifest does not list"],
    ),
    (
        "a directory more",
        |b| fs::create_dir(b.join("files/lib")).unwrap(),
        &["files/lib: is an unknown directory"],
    ),
    (
        "a link to the same content",
        |b| {
            let path = b.join("files/bin/kubectl");
            fs::rename(&path, b.parent().unwrap().join("elsewhere")).unwrap();
            symlink("../../../elsewhere", path).unwrap();
        },
        &["files/bin/kubectl: is a symbolic link", "kubectl cannot be opened"],
    ),
    (
        "a directory that is a link",
        |b| {
            fs::rename(b.join("files/manifests"), b.parent().unwrap().join("m")).unwrap();
            symlink("../../m", b.join("files/manifests")).unwrap();
        },
        &[
            "files/manifests: is a symbolic link",
            "net.yaml cannot be opened",
            "net.yaml cannot be opened",
        ],
    ),
    (
        "a pipe instead of a file",
        |b| {
            let path = b.join("files/bin/kubeadm");
            fs::remove_file(&path).unwrap();
            assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
        },
        &["files/bin/kubeadm: is not a regular file", "kubeadm cannot be opened"],
    ),
    (
        "another mode",
        |b| {
            let path = b.join("files/bin/kubelet");
            fs::set_permissions(path, Permissions::from_mode(0o4755)).unwrap();
        },
        &["files/bin/kubelet: differs in mode"],
    ),
    (
        "no signature",
        |b| fs::remove_file(b.join("manifest.json.sig")).unwrap(),
        &["the bundle is not signed"],
    ),
    (
        "a signature that is none",
        |b| fs::write(b.join("manifest.json.sig"), "signed, me").unwrap(),
        &["the signature cannot be read"],
    ),
    (
        "no manifest",
        |b| fs::remove_file(b.join("manifest.json")).unwrap(),
        &["manifest.json is missing: this is not a bundle"],
    ),
    (
        "several things at once",
        |b| {
            fs::remove_file(b.join("manifest.json.sig")).unwrap();
            fs::remove_file(b.join("files/images/pause.tar")).unwrap();
            fs::write(b.join("files/bin/kubelet"), elf("amd64", "kubelex")).unwrap();
            fs::write(b.join("files/bin/extra"), "x").unwrap();
        },
        &[
            "the bundle is not signed",
            "files/images/pause.tar: is missing",
            "files/bin/kubelet: is not what was signed",
            "files/bin/extra: is not in the manifest",
        ],
    ),
];

#[test]
fn every_kind_of_damage_is_found_and_named() {
    for (name, damage, expected) in DAMAGES {
        let made = made();
        assert_eq!(made.problems(), [""; 0], "{name}");
        damage(&made.out());
        let problems = made.problems();
        let all = problems.join("\n");
        for text in *expected {
            assert!(problems.iter().any(|p| p.contains(text)), "{name}: no {text:?} in\n{all}");
        }
        assert!(problems.len() <= expected.len(), "{name}:\n{all}");
    }
}

/// Text of the manifest that is replaced, by what, and what must be said then, the signature being
/// good: what a signer with another program, or a thief of the key, could write.
const FORGERIES: &[(&str, &str, &str)] = &[
    ("bin/kubelet", "../kubelet", "malformed"),
    ("bin/kubelet", "/bin/kubelet", "malformed"),
    ("bin/kubelet", "bin/../../x", "malformed"),
    ("bin/kubelet", "bin/kubectl", "files/bin/kubectl: is listed twice"),
    ("bin/kubelet", "bin/zkubelet", "is a program of no known component"),
    ("bin/kubelet", "cni/kubelet", "does not have the kind of its directory"),
    ("bin/kubelet", "bin/aa", "is not in sorted order"),
    ("\"format\":1", "\"format\":2", "the manifest has format 2"),
    ("\"format\":1", "\"format\":\"1\"", "the manifest has format \"1\""),
    ("\"format\":1", "\"format\":1,\"format\":1", "duplicate field"),
    ("\"format\":1", "\"format\": 1", "not in canonical form"),
    ("\"format\":1", "\"format\":1,\"more\":1", "unknown field"),
    ("\"0755\"", "\"4755\"", "has the wrong mode for its kind"),
    ("\"0755\"", "\"755\"", "four octal digits"),
    ("amd64", "riscv64", "unknown variant"),
    ("2026-02-01T12:00:00Z", "yesterday", "is not a time"),
    ("v3.6.8", "3.6.8", "components.etcd: malformed version"),
    ("\"1.36.2\"", "\"1.35.2\"", "two Kubernetes versions"),
    ("registry.k8s.io/pause:3.10.2", "registry.k8s.io/pause:3.9", "pause:3.10.2 is missing"),
    (
        "registry.k8s.io/kube-proxy:v1.36.2",
        "registry.k8s.io/kube-scheduler:v1.36.2",
        "an image that is already in another file",
    ),
    ("registry.k8s.io/pause:3.10.2", "pause; rm", "malformed image references"),
    ("\"origin\":\"imported\"", "\"origin\":\"a\\nb\"", "malformed origin"),
];

#[test]
fn a_signed_manifest_that_no_bundle_can_have_is_refused() {
    let made = made();
    let path = made.out().join("manifest.json");
    let good = fs::read_to_string(&path).unwrap();
    for (from, to, expected) in FORGERIES {
        assert!(good.contains(from), "{from}");
        fs::write(&path, good.replacen(from, to, 1)).unwrap();
        let signature = made.out().join("manifest.json.sig");
        fs::remove_file(&signature).unwrap();
        let signed = Command::new("ssh-keygen")
            .args(["-q", "-Y", "sign", "-n", "kubastion-bundle", "-f"])
            .args([&made.key, &path])
            .status();
        assert!(signed.unwrap().success());
        let all = made.problems().join("\n");
        assert!(all.contains(expected), "{from} -> {to}: no {expected:?} in\n{all}");
        assert!(!all.contains("signature"), "{from} -> {to}: {all}");
    }
    fs::write(&path, good.replacen("bin/kubelet", "bin/kubeadm", 1)).unwrap();
    let all = made.problems().join("\n");
    assert!(all.contains("the signature does not match the manifest"), "{all}");
}

#[test]
fn only_the_given_signers_are_trusted() {
    let made = made();
    let other = signing_key(&keygen(made.dir.path(), "other", "")).signer();
    let open = |signers: &[SignerKey]| texts(Bundle::open(&made.out(), signers));
    exactly(&open(std::slice::from_ref(&other)), &["not trusted"]);
    exactly(&open(&[]), &["no signer is trusted"]);
    assert_eq!(open(&[other, made.signer.clone()]), [""; 0]);
    // To look at, anybody's.
    assert!(Bundle::open_untrusted(&made.out()).unwrap().signer().starts_with("SHA256:"));
}

#[test]
fn files_are_taken_out_for_the_user_alone_and_none_that_was_changed() {
    let made = made();
    let bundle = Bundle::open(&made.out(), std::slice::from_ref(&made.signer)).unwrap();
    let wanted = [ArtifactKind::Binary, ArtifactKind::Image];
    let to = made.out().with_extension("taken");
    let count = bundle.extract(&wanted, &to).unwrap();
    let files = bundle.manifest().files.iter().filter(|f| wanted.contains(&f.kind));
    assert_eq!(count, files.count());
    let etcd = fs::read(made.out().join("files/bin/etcd")).unwrap();
    assert_eq!(fs::read(to.join("bin/etcd")).unwrap(), etcd);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&to), mode(&to.join("bin"))), (0o700, 0o700));
    assert!(!to.join("cni").exists());
    // A directory of somebody else is not written to.
    exactly(&texts(bundle.extract(&wanted, &to)), &["bundle.taken cannot be created"]);

    let mut bytes = etcd;
    bytes[0] ^= 1;
    fs::write(made.out().join("files/bin/etcd"), bytes).unwrap();
    let to = made.out().with_extension("again");
    let problems = texts(bundle.extract(&wanted, &to));
    assert!(problems[0].contains("files/bin/etcd differs in content"), "{problems:?}");
}

#[test]
fn a_stock_cluster_wants_a_bundle_with_all_of_it_before_any_node_is_up() {
    let made = made();
    let dir = made.dir.path();
    let up = ["lab", "up", "--stock", "--dir", "lab", "--bundle", "bundle"];
    let refused = |words: &[&str]| {
        let said = kubastion(dir, &up);
        assert_eq!(said.status.code(), Some(3), "{}", err(&said));
        for words in words {
            assert!(err(&said).contains(words), "{words}: {}", err(&said));
        }
        assert!(!dir.join("lab").exists());
    };
    fs::write(dir.join("bundle.signers"), format!("{}\n", made.signer)).unwrap();
    refused(&["lacks programs of a stock cluster", "containerd-shim-runc-v2", "host-local"]);
    // Of others than those who are trusted, nothing is looked at.
    let other = signing_key(&keygen(dir, "other", "")).signer();
    fs::write(dir.join("bundle.signers"), format!("{other}\n")).unwrap();
    refused(&["signed"]);
}

#[test]
fn a_file_that_changes_after_the_check_is_never_handed_out_whole() {
    let made = made();
    let bundle = Bundle::open(&made.out(), std::slice::from_ref(&made.signer)).unwrap();
    bundle.verify_all(&Silent).unwrap();
    let etcd = bundle.binary("etcd").unwrap();
    let path = made.out().join("files/bin/etcd");
    let good = fs::read(&path).unwrap();
    let last = good.len() - 1;
    let read = |change: &dyn Fn(&mut Vec<u8>)| {
        fs::write(&path, &good).unwrap();
        // Open before the change, as while streaming.
        let mut reader = bundle.reader(etcd).unwrap();
        let mut bytes = good.clone();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let mut got = Vec::new();
        let mut small = [0; 7];
        loop {
            match reader.read(&mut small) {
                Ok(0) => return Ok(got),
                Ok(n) => got.extend_from_slice(&small[..n]),
                Err(e) => return Err((got.len(), e.kind())),
            }
        }
    };
    assert_eq!(read(&|_| {}).unwrap(), good);
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let (handed_out, kind) = read(change).unwrap_err();
        assert_eq!(kind, std::io::ErrorKind::InvalidData);
        assert!(handed_out < good.len(), "{handed_out}");
    };
    refused(&|b| b[0] ^= 1);
    refused(&|b| b[last] ^= 1);
    refused(&|b| b.push(0));
    refused(&|b| b.truncate(last));
}

/// What is done to a good input, and what must be said then. The bundle that was there stays.
const MISTAKES: &[Damage] = &[
    (
        "an unknown program",
        |i| write(&i.join("bin/kubelett"), elf("amd64", "x")),
        &["bin/kubelett: is unknown", "did you mean `kubelet`?"],
    ),
    ("an unknown directory", |i| write(&i.join("image/x"), ""), &["did you mean `images`?"]),
    (
        "a program missing",
        |i| fs::remove_file(i.join("bin/etcdctl")).unwrap(),
        &["bin/etcdctl: is missing"],
    ),
    (
        "half a runtime",
        |i| write(&i.join("bin/runc"), elf("amd64", "runc")),
        &["bin/containerd: is missing", "bin/ctr: is missing", "component without a version"],
    ),
    (
        "a program for another machine",
        |i| write(&i.join("bin/etcd"), elf("arm64", "etcd")),
        &["bin/etcd: is for another architecture", "arm64, but the bundle is for amd64"],
    ),
    (
        "a script instead of a program",
        |i| write(&i.join("bin/kubectl"), "#!/bin/sh\n"),
        &["bin/kubectl: is not a program", "not an ELF file"],
    ),
    (
        "an image for another machine",
        |i| {
            write(&i.join("images/pause.tar"), oci_archive("registry.k8s.io/pause:3.10.2", "arm64"))
        },
        &["images/pause.tar: is for another architecture"],
    ),
    (
        "an image of another version",
        |i| {
            let reference = "registry.k8s.io/kube-proxy:v1.36.1";
            write(&i.join("images/kube-proxy.tar"), docker_archive(&[reference], "amd64"));
        },
        &["registry.k8s.io/kube-proxy:v1.36.2 is missing"],
    ),
    (
        "an image under the name of the release archives",
        |i| {
            let reference = "registry.k8s.io/kube-proxy-amd64:v1.36.2";
            write(&i.join("images/kube-proxy.tar"), docker_archive(&[reference], "amd64"));
        },
        &[
            "registry.k8s.io/kube-proxy:v1.36.2 is missing",
            "tag it registry.k8s.io/kube-proxy:v1.36.2",
        ],
    ),
    (
        "an image without a name",
        |i| write(&i.join("images/x.tar"), docker_archive(&[], "amd64")),
        &["images/x.tar: cannot be used", "no image in it has a name"],
    ),
    (
        "a cut image",
        |i| {
            let bytes = docker_archive(&["registry.k8s.io/x:1"], "amd64");
            write(&i.join("images/x.tar"), &bytes[..bytes.len() / 2]);
        },
        &["images/x.tar: cannot be used"],
    ),
    (
        "a damaged layer",
        |i| {
            let bytes = oci_archive("registry.k8s.io/pause:3.10.2", "amd64");
            let at = bytes.windows(5).position(|w| w == b"layer").unwrap();
            let mut bytes = bytes;
            bytes[at] = b'L';
            write(&i.join("images/pause.tar"), bytes);
        },
        &["images/pause.tar: cannot be used", "is damaged"],
    ),
    (
        "no image at all",
        |i| write(&i.join("images/x.tar"), "text"),
        &["images/x.tar: cannot be used"],
    ),
    (
        "an unknown component",
        |i| write(&i.join("versions.yaml"), format!("{VERSIONS}conainerd: v2.1.9\n")),
        &["versions.yaml: conainerd: is unknown", "did you mean `containerd`?"],
    ),
    (
        "a component without files",
        |i| write(&i.join("versions.yaml"), format!("{VERSIONS}containerd: v2.1.9\n")),
        &["versions.yaml: containerd: names a component without files"],
    ),
    (
        "a component twice",
        |i| write(&i.join("versions.yaml"), format!("{VERSIONS}etcd: v3.6.9\n")),
        &["versions.yaml: cannot be read", "duplicate key"],
    ),
    (
        "a number instead of a version",
        |i| write(&i.join("versions.yaml"), VERSIONS.replace("\"3.10.2\"", "3.10")),
        &["versions.yaml: pause: is not text"],
    ),
    (
        "a version that no release has",
        |i| write(&i.join("versions.yaml"), VERSIONS.replace("v1.36.2", "v1.99.0")),
        &["versions.yaml: kubernetes: malformed version"],
    ),
    (
        "a component missing",
        |i| write(&i.join("versions.yaml"), VERSIONS.replace("etcd: v3.6.8\n", "")),
        &["versions.yaml: etcd: is missing"],
    ),
    (
        "no versions",
        |i| fs::remove_file(i.join("versions.yaml")).unwrap(),
        &["versions.yaml: is missing"],
    ),
    (
        "a manifest that is none",
        |i| write(&i.join("manifests/net.yaml"), "<html>404</html>"),
        &["manifests/net.yaml: is not a Kubernetes manifest"],
    ),
    (
        "an odd name",
        |i| write(&i.join("images/a b.tar"), "x"),
        &["images/a b.tar: has an invalid name"],
    ),
    (
        "several things at once",
        |i| {
            fs::remove_file(i.join("bin/etcdctl")).unwrap();
            write(&i.join("bin/kubectl"), "#!/bin/sh\n");
            fs::remove_file(i.join("images/pause.tar")).unwrap();
            write(&i.join("more/x"), "");
        },
        &[
            "bin/etcdctl: is missing",
            "bin/kubectl: is not a program",
            "registry.k8s.io/pause:3.10.2 is missing",
            "more: is unknown",
        ],
    ),
];

#[test]
fn every_mistake_in_what_is_imported_is_named_and_the_old_bundle_stays() {
    let made = made();
    let key = signing_key(&made.key);
    let before = fs::read(made.out().join("manifest.json")).unwrap();
    for (name, mistake, expected) in MISTAKES {
        let dir = tempfile::tempdir().unwrap();
        let from = input(dir.path());
        mistake(&from);
        let all = texts(run_import(&from, &made.out(), &key)).join("\n");
        for text in *expected {
            assert!(all.contains(text), "{name}: no {text:?} in\n{all}");
        }
        assert!(all.contains("no bundle was written"), "{name}: {all}");
        assert_eq!(fs::read(made.out().join("manifest.json")).unwrap(), before, "{name}");
        assert!(!made.dir.path().join("bundle.partial").exists(), "{name}");
    }
    assert_eq!(made.problems(), [""; 0]);
}

#[test]
fn a_new_bundle_replaces_an_old_one_and_nothing_else() {
    let made = made();
    let key = signing_key(&made.key);
    let from = made.dir.path().join("input");
    write(&from.join("bin/etcdutl"), elf("amd64", "etcdutl"));
    // What a killed run leaves is in nobody's way.
    write(&made.dir.path().join("bundle.partial/files/bin/kubelet"), "half");
    let bundle = run_import(&from, &made.out(), &key).unwrap();
    assert!(bundle.binary("etcdutl").is_some());
    assert_eq!(made.problems(), [""; 0]);
    assert!(!made.dir.path().join("bundle.partial").exists());

    let home = made.dir.path().join("home");
    write(&home.join("letter"), "dear");
    exactly(&texts(run_import(&from, &home, &key)), &["exists and is not a bundle"]);
    assert_eq!(fs::read(home.join("letter")).unwrap(), b"dear");
    let partial = made.dir.path().join("new.partial");
    write(&partial.join("letter"), "dear");
    let all = texts(run_import(&from, &made.dir.path().join("new"), &key)).join("\n");
    assert!(all.contains("new.partial exists and is not a bundle"), "{all}");
    assert_eq!(fs::read(partial.join("letter")).unwrap(), b"dear");
}

#[test]
fn modes_do_not_follow_the_umask_or_the_source() {
    let made = made();
    let mode =
        |path: &str| fs::metadata(made.out().join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("files/bin/kubelet"), 0o755);
    assert_eq!(mode("files/images/pause.tar"), 0o644);
    assert_eq!((mode(""), mode("files"), mode("manifest.json")), (0o755, 0o755, 0o644));
}

#[test]
fn keys_that_cannot_sign_are_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let why = |path: &Path, ask: &dyn Fn() -> std::io::Result<Secret<String>>| {
        SigningKey::read(path, ask).err().map(|e| e.to_string()).unwrap_or_default()
    };
    let locked = keygen(dir.path(), "locked", "open sesame");
    assert!(why(&locked, &no_passphrase).contains("no passphrase"));
    let wrong = || Ok(Secret::new("sesame".to_owned()));
    assert!(why(&locked, &wrong).contains("wrong passphrase"));
    let right = || Ok(Secret::new("open sesame".to_owned()));
    assert_eq!(why(&locked, &right), "");
    let opened = SigningKey::read(&locked, &right).unwrap().signer();
    let public = fs::read_to_string(dir.path().join("locked.pub")).unwrap();
    assert!(public.starts_with(opened.as_str()), "{public} {opened}");

    assert!(why(&dir.path().join("locked.pub"), &no_passphrase).contains("others can read it"));
    let key = keygen(dir.path(), "loose", "");
    fs::set_permissions(&key, Permissions::from_mode(0o640)).unwrap();
    assert!(why(&key, &no_passphrase).contains("mode 0640"));
    fs::write(&key, public).unwrap();
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    assert!(why(&key, &no_passphrase).contains("not an OpenSSH private key"));
    let rsa = dir.path().join("rsa");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "rsa", "-b", "2048", "-N", "", "-f"])
        .arg(&rsa)
        .status();
    assert!(made.unwrap().success());
    assert!(why(&rsa, &no_passphrase).contains("type ssh-rsa"));
    assert!(why(&dir.path().join("none"), &no_passphrase).contains("cannot be opened"));
}

pub(crate) fn kubastion(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kubastion"))
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

pub(crate) fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const INVENTORY: &str = "version: kubastion/v1
cluster: { name: lab, kubernetes: 1.36.2, endpoint: \"192.0.2.11:6443\" }
ssh: { key_file: id, known_hosts: kh }
nodes: [{ name: cp-1, addresses: [192.0.2.11], roles: [control-plane] }]
";

#[test]
fn the_command_line_makes_checks_and_lists() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    input(path);
    keygen(path, "key", "");
    let made =
        kubastion(path, &["bundle", "import", "--from", "input", "--out", "b", "--key", "key"]);
    assert!(made.status.success(), "{}", err(&made));
    // What it prints fits into the inventory as it is.
    fs::write(path.join("inventory.yaml"), format!("{INVENTORY}{}", out(&made))).unwrap();
    let good = kubastion(path, &["bundle", "verify"]);
    assert!(good.status.success(), "{}", err(&good));
    assert!(out(&good).contains("good, signed by SHA256:"), "{}", out(&good));
    let public = fs::read_to_string(path.join("key.pub")).unwrap();
    let good = kubastion(path, &["bundle", "verify", "b", "--signer", public.trim_end()]);
    assert!(good.status.success(), "{}", err(&good));

    let listed = kubastion(path, &["bundle", "list", "b"]);
    assert!(out(&listed).contains("registry.k8s.io/pause:3.10.2"), "{}", out(&listed));
    let listed = kubastion(path, &["--format", "json", "bundle", "list", "b"]);
    let value: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(value["components"]["etcd"]["version"], "v3.6.8");
    assert_eq!(value["files"].as_array().unwrap().len(), 12);

    write(&path.join("b/files/bin/kubelet"), elf("amd64", "kubelex"));
    fs::remove_file(path.join("b/files/bin/etcd")).unwrap();
    let bad = kubastion(path, &["bundle", "verify"]);
    assert_eq!(bad.status.code(), Some(3));
    assert_eq!(out(&bad), "");
    let text = err(&bad);
    assert!(
        text.contains("kubelet: is not what was signed") && text.contains("etcd: is missing"),
        "{text}"
    );
    let bad = kubastion(path, &["--format", "json", "bundle", "verify"]);
    let value: serde_json::Value = serde_json::from_slice(&bad.stdout).unwrap();
    assert_eq!((bad.status.code(), value["problems"].as_array().unwrap().len()), (Some(3), 2));
    let stranger = kubastion(path, &["bundle", "verify", "b", "--signer", "ssh-rsa AAAA"]);
    assert_eq!(stranger.status.code(), Some(2));
}

/// The doctor opens the bundle as a plan does.
#[test]
fn an_older_bundle_of_the_same_key_does_not_take_the_place_of_a_pinned_one() {
    let made = made();
    let from = made.dir.path().join("input");
    let import = || run_import(&from, &made.out(), &signing_key(&made.key)).unwrap();
    let manifest = |text: &str| write(&from.join("manifests/net.yaml"), text);
    manifest("apiVersion: v1\nkind: Namespace\nmetadata: { name: net }\n");
    import();
    let bytes = fs::read(made.out().join("manifest.json")).unwrap();
    let digest: String =
        <sha2::Sha256 as sha2::Digest>::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    let doctor = |pin: &str| {
        let bundle = format!(
            "kubernetes: {{source: bundle, bundle: {{path: bundle, signers: ['{}'], manifest_sha256: {pin}}}}}",
            made.signer
        );
        let nodes = "nodes: [{name: cp1, addresses: [192.0.2.1], roles: [control-plane], \
                     ssh: {agent: true, known_hosts: none}}]";
        let head = "version: kubastion/v1\ncluster: {name: c, kubernetes: 1.36.2, endpoint: '192.0.2.1:6443'}";
        let file = made.dir.path().join("inventory.yaml");
        fs::write(&file, format!("{head}\n{bundle}\n{nodes}\n")).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_kubastion"))
            .args(["doctor", "--offline"])
            .current_dir(made.dir.path())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let right = doctor(&format!("'{digest}'"));
    assert!(right.contains("the bundle is signed by a key of the inventory"), "{right}");
    let other = doctor(&format!("'{}'", "0".repeat(64)));
    assert!(other.contains("the bundle is not the one that the inventory pins"), "{other}");
    // What nobody could send to a cluster.
    manifest("apiVersion: v1\nkind: Namespace\n");
    import();
    let bytes = fs::read(made.out().join("manifest.json")).unwrap();
    let digest: String =
        <sha2::Sha256 as sha2::Digest>::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    let nameless = doctor(&format!("'{digest}'"));
    assert!(nameless.contains("net.yaml: is not a Kubernetes manifest"), "{nameless}");
    assert!(!other.contains("the bundle is signed"), "{other}");
}
