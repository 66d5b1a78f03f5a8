//! `kubastion bundle`: the signed offline set that clusters are installed from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::global::{Format, Global};
use super::output::{monitor, pretty, print};
use crate::bundle::{
    Architecture, Bundle, BundleError, Client, ClientOptions, Contents, CreateRequest, Fault,
    ImportRequest, Reference, SigningKey, Summary, check, create, import,
};
use crate::clock::Clock;
use crate::error::Problem;
use crate::inventory::{KubernetesVersion, SignerKey};
use crate::plain::listed;
use crate::report::bundle::{Listing, bytes, table};
use crate::secret::Secret;
use crate::workflow::command_error::{CommandError, Exit};

/// What to do with a bundle.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Create a bundle from upstream releases, over HTTPS.
    #[command(after_long_help = CREATE_HELP)]
    Create(Create),
    /// Create a bundle from a directory of programs, image archives and manifests.
    #[command(after_long_help = IMPORT_HELP)]
    Import(Import),
    /// Check the signature, the file list and every byte. Changes nothing.
    #[command(after_long_help = VERIFY_HELP)]
    Verify(Verify),
    /// Show what a bundle contains. Checks that it is complete, not who signed it.
    #[command(after_long_help = LIST_HELP)]
    List {
        /// Directory of the bundle.
        #[arg(default_value = crate::bundle::DEFAULT_DIR, value_name = "DIR")]
        dir: PathBuf,
    },
}

const CREATE_HELP: &str =
    "Fetches kubeadm, kubectl, kubelet, etcd, containerd, runc and CNI plugins with their published
checksums, and the images from their registries by digest. An interrupted download resumes, also
in a later run. HTTPS_PROXY and NO_PROXY are honoured.

Exit code 8 if a host is unreachable, within seconds and before anything is written. Later failures
(a checksum, a full disk, a lost connection) have another exit code.

Examples:
  kubastion bundle create --kubernetes-version 1.36.2 --key ops-key
  kubastion bundle create --kubernetes-version 1.36.2 --key ops-key \\
      --out ./bundle --arch arm64 --component etcd=v3.6.8 \\
      --manifest calico.yaml
  kubastion bundle create --kubernetes-version 1.36.2 --key ops-key \\
      --ca-file corp-ca.pem --mirror dl.k8s.io=https://mirror.example/k8s \\
      --mirror registry.k8s.io=https://r.example";
const IMPORT_HELP: &str = "The directory holds:
  versions.yaml       kubernetes: v1.36.2
                      etcd: v3.6.8
                      coredns: v1.14.2
                      pause: \"3.10.2\"
                      and containerd, runc, cni-plugins if present
  bin/                kubeadm kubelet kubectl etcd etcdctl, optional etcdutl,
                      and all or none of containerd containerd-shim-runc-v2
                      ctr runc
  cni/                CNI plugins, optional
  images/*.tar        image archives (docker save or OCI layout, also .tar.gz):
                      kube-apiserver, kube-controller-manager, kube-scheduler,
                      kube-proxy, pause, coredns, others
  manifests/*.yaml    Kubernetes manifests, optional

Files are copied. An existing bundle is replaced only once the new one is complete.

Examples:
  ssh-keygen -t ed25519 -f ops-key
  kubastion bundle import --from ./input --out ./bundle --key ops-key";
const VERIFY_HELP: &str = "Exit code 3 if there is any problem. Every problem is shown.

Examples:
  kubastion bundle verify ./bundle --signer \"$(cat ops-key.pub)\"
  kubastion -i prod.yaml bundle verify ./bundle
  # without kubastion:
  echo \"ops namespaces=\\\"kubastion-bundle\\\" $(cat ops-key.pub)\" > allowed
  ssh-keygen -Y verify -f allowed -I ops -n kubastion-bundle \\
      -s bundle/manifest.json.sig < bundle/manifest.json";
const LIST_HELP: &str = "Examples:
  kubastion bundle list ./bundle
  kubastion --format json bundle list ./bundle | jq -r '.files[].images[]'";

/// What `bundle create` takes.
#[derive(Debug, clap::Args)]
pub struct Create {
    /// Kubernetes release.
    #[arg(long, default_value_t = KubernetesVersion::DEFAULT, value_name = "1.MINOR.PATCH")]
    kubernetes_version: KubernetesVersion,
    /// Output directory and signing key.
    #[command(flatten)]
    target: Target,
    /// Target architecture. Default: the architecture of this machine.
    #[arg(long, value_name = "amd64|arm64")]
    arch: Option<Architecture>,
    /// Version of a component, instead of the default. Repeatable.
    #[arg(long, value_name = "NAME=VERSION", value_parser = pair)]
    component: Vec<(String, String)>,
    /// Kubernetes manifest to add; its container images are pulled too. Repeatable.
    #[arg(long, value_name = "FILE")]
    manifest: Vec<PathBuf>,
    /// Additional image to pull. Repeatable.
    #[arg(long, value_name = "REFERENCE")]
    image: Vec<Reference>,
    /// URL to use instead of https://HOST. Repeatable.
    #[arg(long, value_name = "HOST=URL", value_parser = pair)]
    mirror: Vec<(String, String)>,
    /// Additional trusted CA certificates, PEM.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Only check that the hosts answer. Nothing is fetched or written, and the key is not read.
    #[arg(long)]
    check: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// What `bundle import` takes.
#[derive(Debug, clap::Args)]
pub struct Import {
    /// Source directory. It is not changed.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Output directory and signing key.
    #[command(flatten)]
    target: Target,
    /// Architecture that every file must have. Default: the architecture of bin/kubelet.
    #[arg(long, value_name = "amd64|arm64")]
    arch: Option<Architecture>,
}

/// Where a bundle is written, and who signs it.
#[derive(Debug, clap::Args)]
pub struct Target {
    /// Output directory.
    #[arg(long, default_value = crate::bundle::DEFAULT_DIR, value_name = "DIR")]
    out: PathBuf,
    /// OpenSSH private key (ed25519) to sign with; its passphrase is prompted for on the terminal.
    #[arg(long, value_name = "KEYFILE")]
    key: PathBuf,
}

/// What `bundle verify` takes.
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// Directory of the bundle. Default: `kubernetes.bundle.path` of the inventory, or /var/cache/kubastion/bundle with --signer.
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Trusted public key, as in a .pub file. Repeatable. Default:
    /// `kubernetes.bundle.signers` of the inventory.
    #[arg(long, value_name = "KEY")]
    signer: Vec<SignerKey>,
}

/// Runs `kubastion bundle`.
///
/// # Errors
/// Everything that is wrong with the bundle or with what it is to be made from.
pub fn run(global: &Global, command: &Command) -> Result<Exit, CommandError> {
    match command {
        Command::Create(args) => run_create(global, args),
        Command::Import(args) => run_import(global, args),
        Command::Verify(args) => verify(global, args),
        Command::List { dir } => list(global, dir),
    }
}

fn open_key(path: &Path) -> Result<SigningKey, CommandError> {
    let prompt = format!("Passphrase of {}: ", path.display());
    let ask = || rpassword::prompt_password(&prompt).map(Secret::new);
    SigningKey::read(path, &ask).map_err(|fault| {
        let problem = Problem::from_error("the bundle cannot be signed", &fault);
        let problem = problem.left("nothing was written");
        let hint = match fault {
            Fault::Key { hint, .. } => hint,
            _ => "create one with `ssh-keygen -t ed25519`",
        };
        CommandError::one(Exit::InvalidInput, problem.hint(hint))
    })
}

fn run_create(global: &Global, args: &Create) -> Result<Exit, CommandError> {
    let here = match std::env::consts::ARCH {
        "x86_64" => Some(Architecture::Amd64),
        "aarch64" => Some(Architecture::Arm64),
        _ => None,
    };
    let Some(architecture) = args.arch.or(here) else {
        let problem = Problem::new("the architecture of the bundle is unknown");
        return Err(CommandError::one(
            Exit::Usage,
            problem.hint("set --arch amd64 or --arch arm64"),
        ));
    };
    let extra_ca_pem = match &args.ca_file {
        None => None,
        Some(file) => Some(std::fs::read(file).map_err(|e| {
            let problem = Problem::from_error("the CA file cannot be read", &e);
            CommandError::one(Exit::InvalidInput, problem.at(file.display().to_string()))
        })?),
    };
    let options = ClientOptions {
        mirrors: args.mirror.iter().cloned().collect(),
        extra_ca_pem,
        ..ClientOptions::default()
    };
    let client = Client::new(options).map_err(|e| {
        let problem = Problem::from_error("the CA file holds no certificates", &e);
        CommandError::one(Exit::InvalidInput, problem)
    })?;
    let contents = Contents {
        kubernetes: args.kubernetes_version,
        architecture,
        versions: &args.component.iter().cloned().collect(),
        manifests: &args.manifest,
        images: &args.image,
    };
    let out = &args.target.out;
    if args.check {
        let hosts = check(&contents, out, &client).map_err(|e| CommandError::from(&e))?;
        return reached(global, &hosts);
    }
    let key = open_key(&args.target.key)?;
    let request = CreateRequest { contents, out, key: &key, created: Clock::System.now() };
    let bundle =
        create(&request, &client, &monitor(global.format)).map_err(|e| CommandError::from(&e))?;
    made(global, &bundle, &key)
}

/// That all hosts answer.
fn reached(global: &Global, hosts: &[String]) -> Result<Exit, CommandError> {
    #[derive(Serialize)]
    struct Reached<'a> {
        hosts: &'a [String],
    }
    let names: Vec<&str> = hosts.iter().map(String::as_str).collect();
    match global.format {
        Format::Json => print(&pretty(&Reached { hosts })),
        Format::Text => print(&format!("{} answer\n", listed(&names))),
    }
}

fn run_import(global: &Global, args: &Import) -> Result<Exit, CommandError> {
    if !args.from.is_dir() {
        let problem = Problem::new("the directory does not exist")
            .at(args.from.display().to_string())
            .left("nothing was written")
            .hint("set --from to the directory with the bundle's files (docs/bundle.md shows its layout)");
        return Err(CommandError::one(Exit::InvalidInput, problem));
    }
    let key = open_key(&args.target.key)?;
    let request = ImportRequest {
        from: &args.from,
        out: &args.target.out,
        key: &key,
        architecture: args.arch,
        created: Clock::System.now(),
        origins: &BTreeMap::new(),
    };
    let bundle = import(&request, &monitor(global.format)).map_err(|e| CommandError::from(&e))?;
    made(global, &bundle, &key)
}

/// What was made, and what to write into the inventory.
fn made(global: &Global, bundle: &Bundle, key: &SigningKey) -> Result<Exit, CommandError> {
    #[derive(Serialize)]
    struct Created {
        path: PathBuf,
        signer: SignerKey,
        files: usize,
        bytes: u64,
    }
    let made = Created {
        path: std::path::absolute(bundle.dir()).unwrap_or_else(|_| bundle.dir().to_owned()),
        signer: key.signer(),
        files: bundle.manifest().files.len(),
        bytes: bundle.manifest().total_size(),
    };
    match global.format {
        Format::Json => print(&pretty(&made)),
        Format::Text => {
            eprintln!(
                "wrote {} ({} files, {}). In the inventory:",
                made.path.display(),
                made.files,
                bytes(made.bytes)
            );
            let exit = print(&format!(
                "kubernetes:\n  source: bundle\n  bundle:\n    path: {}\n    signers:\n    - {}\n",
                serde_json::to_string(&made.path).unwrap_or_default(),
                made.signer
            ))?;
            eprintln!(
                "`kubastion lab up --bundle` and `make demo` read the trusted signing keys from {}.signers, one per line",
                made.path.display()
            );
            Ok(exit)
        }
    }
}

fn verify(global: &Global, args: &Verify) -> Result<Exit, CommandError> {
    let mut dir = args.dir.clone();
    let mut signers = args.signer.clone();
    if signers.is_empty() {
        let loaded = super::inventory::load_host_keys_optional(global).map_err(|mut stop| {
            let other = "or set --signer to the trusted signing key";
            if let Some(problem) = stop.problems.first_mut() {
                let hint = problem.hint.take();
                problem.hint = Some(hint.map_or(other.to_owned(), |h| format!("{h}; {other}")));
            }
            stop
        })?;
        let bundle = loaded.inventory.kubernetes.bundle;
        signers = bundle.signers;
        dir = dir.or(bundle.path);
    }
    if signers.is_empty() {
        let problem = Problem::new("no key is trusted to sign the bundle")
            .at(global.inventory.display().to_string())
            .hint("set --signer, or `kubernetes.bundle.signers` in the inventory");
        return Err(CommandError::one(Exit::InvalidInput, problem));
    }
    let dir = dir.unwrap_or_else(|| crate::bundle::DEFAULT_DIR.into());
    let result = Bundle::open_and_verify(&dir, &signers, &monitor(global.format));
    report_verify(global, &dir, result)
}

#[derive(Serialize)]
struct VerifyReport<'a> {
    path: &'a Path,
    /// Fingerprint; absent if the signature is not good.
    signer: Option<String>,
    files: Option<usize>,
    bytes: Option<u64>,
    problems: Vec<Problem>,
}

fn report_verify(
    global: &Global,
    path: &Path,
    result: Result<(Bundle, Summary), BundleError>,
) -> Result<Exit, CommandError> {
    let stopped = match &result {
        Ok(_) => CommandError { exit: Exit::Done, problems: Vec::new() },
        Err(e) => CommandError::from(e),
    };
    let good = result.ok();
    if global.format == Format::Json {
        print(&pretty(&VerifyReport {
            path,
            signer: good.as_ref().map(|(b, _)| b.signer().to_owned()),
            files: good.as_ref().map(|(_, s)| s.files),
            bytes: good.as_ref().map(|(_, s)| s.bytes),
            problems: stopped.problems.clone(),
        }))?;
    }
    match (good, global.format) {
        (Some(_), Format::Json) => Ok(Exit::Done),
        (Some((bundle, summary)), Format::Text) => print(&format!(
            "{}: good, signed by {} ({} files, {})\n",
            path.display(),
            bundle.signer(),
            summary.files,
            bytes(summary.bytes)
        )),
        (None, Format::Json) => Err(CommandError { problems: Vec::new(), ..stopped }),
        (None, Format::Text) => Err(stopped),
    }
}

fn list(global: &Global, dir: &Path) -> Result<Exit, CommandError> {
    let bundle = Bundle::open_untrusted(dir).map_err(|e| CommandError::from(&e))?;
    match global.format {
        Format::Json => print(&pretty(&Listing::of(dir, &bundle))),
        Format::Text => print(&table(&bundle)),
    }
}
