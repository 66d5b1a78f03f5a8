//! A bundle from the projects' releases: fetched, compared with the published checksums, and then
//! imported like any other directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use time::OffsetDateTime;

use super::assemble::{beside, vacant};
use super::component::{COMPONENTS, ComponentRow};
use super::fault::{BundleError, Fault};
use super::fetch::{Client, Download, FILE_LIMIT, FetchError};
use super::import::{ImportRequest, import};
use super::layout::{VERSIONS, check_version};
use super::model::{Architecture, ArtifactKind, FilePath, Sha256Hex};
use super::objects;
use super::registry::{self, Reference};
use super::sign::SigningKey;
use super::sources::{Content, SOURCES, Source, default_versions, fill};
use super::verify::Bundle;
use crate::event::{Event, Sink};
use crate::file_lock::FileLock;
use crate::inventory::{KubernetesVersion, diagnostic::nearest};
use crate::yaml;

/// Files that are fetched at the same time.
const WORKERS: usize = 3;
/// Largest file of checksums in bytes.
const MAX_CHECKSUMS: u64 = 1 << 20;

/// What a bundle is to hold.
pub struct Contents<'a> {
    /// Kubernetes release.
    pub kubernetes: KubernetesVersion,
    /// Machine that the bundle is for.
    pub architecture: Architecture,
    /// Versions other than [`default_versions`], by component.
    pub versions: &'a BTreeMap<String, String>,
    /// Kubernetes manifests to add; the images of their containers are pulled too.
    pub manifests: &'a [PathBuf],
    /// Further images.
    pub images: &'a [Reference],
}

/// A bundle to make.
pub struct CreateRequest<'a> {
    /// What it is to hold.
    pub contents: Contents<'a>,
    /// Where the bundle is to be. What is fetched is kept in `OUT.download` until it is complete.
    pub out: &'a Path,
    /// Signs the manifest.
    pub key: &'a SigningKey,
    /// When the bundle is made, in UTC.
    pub created: OffsetDateTime,
}

/// Fetches everything and makes a bundle.
///
/// # Errors
/// [`Fault::Unreachable`] if hosts do not answer, before anything is begun; later, everything that cannot be fetched or
/// used, at once. OUT is then as it was, and another run goes on with what has been fetched.
pub fn create(
    request: &CreateRequest<'_>,
    client: &Client,
    sink: &dyn Sink,
) -> Result<Bundle, BundleError> {
    let error = |faults| BundleError::new(request.out, faults).left("no bundle was written");
    let Contents { architecture, .. } = request.contents;
    let wanted = Wanted::new(&request.contents).map_err(error)?;
    vacant(request.out).map_err(|f| error(vec![f]))?;
    reach(&wanted.addresses(architecture), client).map_err(error)?;
    let Wanted { versions, images } = wanted;
    let work = Workshop::open(request.out).map_err(|f| error(vec![f]))?;
    let mut origins = BTreeMap::new();
    let mut tasks: Vec<Task<'_>> = SOURCES.iter().map(Task::Release).collect();
    tasks.extend(images.iter().map(Task::Image));
    let mut faults = Vec::new();
    let run = Run { request, client, sink, versions: &versions, work: &work };
    for (task, done) in tasks.iter().zip(run.all(&tasks)) {
        match done {
            Ok(files) => origins.extend(files),
            Err(fault) => {
                let (how, good) = ("cannot be fetched".to_owned(), false);
                sink.send(Event::TransferEnd { what: task.what(), how, good });
                faults.push(fault);
            }
        }
    }
    if !faults.is_empty() {
        let kept = "no bundle was written; downloaded files are kept, and the next run continues with them";
        return Err(BundleError::new(request.out, faults).left(kept));
    }
    for (name, version) in &versions {
        origins.insert(name.clone(), component_origin(name, version, architecture));
    }
    work.add_own(request, &versions).map_err(|f| error(vec![f]))?;
    let bundle = import(
        &ImportRequest {
            from: &work.input(),
            out: request.out,
            key: request.key,
            architecture: Some(architecture),
            created: request.created,
            origins: &origins,
        },
        sink,
    )?;
    work.remove();
    Ok(bundle)
}

/// Checks that the hosts that [`create`] would fetch from answer. Returns their names and writes nothing; `out` only
/// appears in errors.
///
/// # Errors
/// [`Fault::Unreachable`] with the hosts that do not answer. The content of an answer is not checked.
pub fn check(
    contents: &Contents<'_>,
    out: &Path,
    client: &Client,
) -> Result<Vec<String>, BundleError> {
    let error = |faults| BundleError::new(out, faults).left("no bundle was written");
    let wanted = Wanted::new(contents).map_err(error)?;
    let addresses = wanted.addresses(contents.architecture);
    reach(&addresses, client).map_err(error)?;
    Ok(addresses.into_keys().collect())
}

/// What to fetch.
struct Wanted {
    /// Version of each component.
    versions: BTreeMap<String, String>,
    images: Vec<Reference>,
}

impl Wanted {
    fn new(contents: &Contents<'_>) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let versions = versions(contents, &mut faults);
        let images = wanted_images(contents, &versions, &mut faults);
        if faults.is_empty() { Ok(Self { versions, images }) } else { Err(faults) }
    }

    /// One small file to ask for at each host. Its redirects (to a CDN or blob store) lead to where the large files are.
    fn addresses(&self, architecture: Architecture) -> BTreeMap<String, String> {
        let sums =
            SOURCES.iter().map(|s| fill(s.checksum_url, &self.versions[s.component], architecture));
        let mut addresses = BTreeMap::new();
        for url in sums.chain(self.images.iter().map(Reference::address)) {
            let host = url.trim_start_matches("https://").split('/').next().unwrap_or_default();
            addresses.entry(host.to_owned()).or_insert(url);
        }
        addresses
    }
}

/// Asks all hosts in parallel: without a network each one takes its full deadline.
fn reach(addresses: &BTreeMap<String, String>, client: &Client) -> Result<(), Vec<Fault>> {
    let answers: Vec<(&String, Result<(), FetchError>)> = std::thread::scope(|scope| {
        let asked: Vec<_> =
            addresses.values().map(|url| (url, scope.spawn(|| client.reach(url)))).collect();
        asked.into_iter().map(|(url, t)| (url, t.join().expect("no thread panics"))).collect()
    });
    let mut silent = Vec::new();
    let mut faults = Vec::new();
    for (url, answer) in answers {
        let Err(error) = answer else { continue };
        match client.unreached(&error) {
            Some(host) if silent.contains(&host) => {}
            Some(host) => silent.push(host),
            None => faults.push(Fault::Fetch { url: url.clone(), source: Box::new(error) }),
        }
    }
    if !silent.is_empty() {
        faults.push(Fault::Unreachable(silent));
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// The versions of all components.
fn versions(contents: &Contents<'_>, faults: &mut Vec<Fault>) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = default_versions(contents.kubernetes)
        .into_iter()
        .map(|(name, version)| (name.to_owned(), version))
        .collect();
    for (name, version) in contents.versions {
        let place = format!("component {name}");
        let Some(row) = ComponentRow::find(name).filter(|r| r.name != "kubernetes") else {
            let known = || COMPONENTS.iter().map(|c| c.name).filter(|n| *n != "kubernetes");
            let allowed = format!("allowed: {}", known().collect::<Vec<_>>().join(", "));
            let fault = Fault::entry(place, "is not a component with a selectable version");
            let fault = fault.why(allowed);
            faults.push(match nearest(name, known()) {
                Some(near) => fault.hint(format!("did you mean `{near}`?")),
                None => fault,
            });
            continue;
        };
        match check_version(row, version, place) {
            Ok(()) => _ = all.insert(name.clone(), version.clone()),
            Err(fault) => faults.push(fault),
        }
    }
    all
}

/// Images of the components, of the manifests, and those that were asked for.
fn wanted_images(
    contents: &Contents<'_>,
    versions: &BTreeMap<String, String>,
    faults: &mut Vec<Fault>,
) -> Vec<Reference> {
    let mut names: BTreeMap<String, Reference> = BTreeMap::new();
    let of_table = COMPONENTS
        .iter()
        .flat_map(|row| row.images.iter().map(|image| format!("{image}:{}", versions[row.name])));
    for name in of_table {
        let reference = name.parse().expect("names of the table are references");
        names.insert(name, reference);
    }
    let mut add = |reference: Reference| _ = names.insert(reference.name(), reference);
    contents.images.iter().cloned().for_each(&mut add);
    for path in contents.manifests {
        let read = File::open(path).and_then(|f| {
            let mut text = String::new();
            f.take(objects::MAX_MANIFEST).read_to_string(&mut text).map(|_| text)
        });
        let text = match read {
            Ok(text) => text,
            Err(e) => {
                faults.push(Fault::io("read", path)(e));
                continue;
            }
        };
        let mut found = BTreeSet::new();
        match yaml::documents(&text) {
            Ok(documents) => {
                documents.iter().for_each(|d| container_images(d, &mut found));
                let place = path.display().to_string();
                let bad = |why| Fault::entry(place, "is not a Kubernetes manifest").why(why);
                faults.extend(objects::objects(&text).map_err(bad).err());
            }
            Err(e) => {
                let place = path.display().to_string();
                faults.push(Fault::entry(place, "cannot be read").why(e.to_string()));
            }
        }
        for image in found {
            match image.parse() {
                Ok(reference) => add(reference),
                Err(why) => {
                    let place = path.display().to_string();
                    faults
                        .push(Fault::entry(place, "names an image that cannot be pulled").why(why));
                }
            }
        }
    }
    names.into_values().collect()
}

/// The images of all containers in an object, however deep the pod template lies.
fn container_images(value: &yaml::Value, found: &mut BTreeSet<String>) {
    match value {
        yaml::Value::Mapping(mapping) => {
            for (key, inner) in mapping {
                let lists = ["containers", "initContainers", "ephemeralContainers"];
                if key.as_str().is_some_and(|k| lists.contains(&k)) {
                    let containers = inner.as_sequence().into_iter().flatten();
                    let images = containers.filter_map(|c| c.get("image")?.as_str());
                    found.extend(images.map(str::to_owned));
                }
                container_images(inner, found);
            }
        }
        yaml::Value::Sequence(items) => {
            items.iter().for_each(|item| container_images(item, found));
        }
        _ => {}
    }
}

/// Where a component comes from: the address of its first file or image.
fn component_origin(name: &str, version: &str, architecture: Architecture) -> String {
    match SOURCES.iter().find(|s| s.component == name) {
        Some(source) => fill(source.url, version, architecture),
        None => {
            let row = ComponentRow::find(name).expect("a component of the table");
            let image = row.images.first().expect("what has no file has an image");
            format!("https://{image}:{version}")
        }
    }
}

/// A thing to fetch.
enum Task<'a> {
    Release(&'a Source),
    Image(&'a Reference),
}

impl Task<'_> {
    fn what(&self) -> String {
        match self {
            Task::Release(source) => match source.content {
                Content::Program(name) => name.to_owned(),
                Content::Programs(_) | Content::Plugins => source.component.to_owned(),
            },
            Task::Image(reference) => reference.name(),
        }
    }
}

/// What the tasks share.
struct Run<'a> {
    request: &'a CreateRequest<'a>,
    client: &'a Client,
    sink: &'a dyn Sink,
    versions: &'a BTreeMap<String, String>,
    work: &'a Workshop,
}

/// Paths of the files that a task made, with their origins.
type WrittenFiles = Vec<(String, String)>;

impl Run<'_> {
    /// Runs the tasks, some at a time; the results are in the order of the tasks.
    fn all(&self, tasks: &[Task<'_>]) -> Vec<Result<WrittenFiles, Fault>> {
        let next = AtomicUsize::new(0);
        let done: Mutex<BTreeMap<usize, Result<WrittenFiles, Fault>>> = Mutex::default();
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    while let (i, Some(task)) = {
                        let i = next.fetch_add(1, Ordering::Relaxed);
                        (i, tasks.get(i))
                    } {
                        let result = self.one(task);
                        done.lock().expect("no thread panics while holding it").insert(i, result);
                    }
                });
            }
        });
        done.into_inner().expect("no thread panics while holding it").into_values().collect()
    }

    fn one(&self, task: &Task<'_>) -> Result<WrittenFiles, Fault> {
        let made = match task {
            Task::Release(source) => self.release(source, &task.what())?,
            Task::Image(reference) => self.image(reference)?,
        };
        let (how, good) = ("fetched, and what was published".to_owned(), true);
        self.sink.send(Event::TransferEnd { what: task.what(), how, good });
        Ok(made)
    }

    fn release(&self, source: &Source, what: &str) -> Result<WrittenFiles, Fault> {
        let version = &self.versions[source.component];
        let architecture = self.request.contents.architecture;
        let url = fill(source.url, version, architecture);
        let checksum_url = fill(source.checksum_url, version, architecture);
        let fetch = |url: &str| {
            let url = url.to_owned();
            move |source| Fault::Fetch { url, source: Box::new(source) }
        };
        let file_name = url.rsplit('/').next().unwrap_or(&url).to_owned();
        let text = self.client.text(&checksum_url, MAX_CHECKSUMS).map_err(fetch(&checksum_url))?;
        let sum = source.checksum.find(&text, &file_name);
        let missing = || FetchError::NoChecksum(file_name.clone());
        let sum = sum.ok_or_else(missing).map_err(fetch(&checksum_url))?;
        let sha256: Sha256Hex = sum.parse().expect("a found checksum is 64 hexadecimal digits");
        let to = self.work.fetched().join(format!("{version}-{file_name}"));
        let download =
            Download { url: &url, to: &to, sha256: &sha256, what, limit: FILE_LIMIT, token: None };
        self.client.download(&download, self.sink).map_err(fetch(&url))?;
        let unpack = Unpack { archive: &to, input: &self.work.input() };
        let paths = match source.content {
            Content::Program(name) => unpack.copy(name),
            Content::Programs(members) => {
                let members = members
                    .iter()
                    .map(|(path, name)| (fill(path, version, architecture), *name))
                    .collect();
                unpack.programs(members)
            }
            Content::Plugins => unpack.plugins(),
        };
        let paths = paths.map_err(Fault::io("unpacked", &to))?;
        Ok(paths.into_iter().map(|path| (path.to_string(), url.clone())).collect())
    }

    fn image(&self, reference: &Reference) -> Result<WrittenFiles, Fault> {
        let path = FilePath::new(ArtifactKind::Image, &reference.file_name())
            .map_err(|e| Fault::entry(reference.name(), "has no file name").why(e.to_string()))?;
        let to = self.work.input().join(path.as_str());
        let architecture = self.request.contents.architecture;
        let blobs = self.work.fetched();
        let pulled =
            registry::pull(self.client, reference, architecture, &blobs, &to, self.sink).map_err(
                |source| Fault::Pull { image: reference.name(), source: Box::new(source) },
            )?;
        Ok(vec![(path.to_string(), pulled.origin)])
    }
}

/// Takes programs out of a file whose checksum was right.
struct Unpack<'a> {
    archive: &'a Path,
    input: &'a Path,
}

impl Unpack<'_> {
    fn copy(&self, name: &str) -> io::Result<Vec<FilePath>> {
        let path = self.take(ArtifactKind::Binary, name, &mut File::open(self.archive)?)?;
        Ok(vec![path])
    }

    fn programs(&self, mut members: BTreeMap<String, &str>) -> io::Result<Vec<FilePath>> {
        let mut taken = Vec::new();
        self.each(|path, entry| {
            if let Some(name) = members.remove(path) {
                taken.push(self.take(ArtifactKind::Binary, name, entry)?);
            }
            Ok(())
        })?;
        match members.into_keys().next() {
            Some(missing) => Err(io::Error::other(format!("{missing} is missing in it"))),
            None => Ok(taken),
        }
    }

    /// Every file that is not about the others.
    fn plugins(&self) -> io::Result<Vec<FilePath>> {
        let mut taken = Vec::new();
        self.each(|path, entry| {
            if !matches!(path, "LICENSE" | "README.md") {
                taken.push(self.take(ArtifactKind::CniPlugin, path, entry)?);
            }
            Ok(())
        })?;
        match taken.is_empty() {
            true => Err(io::Error::other("it is empty")),
            false => Ok(taken),
        }
    }

    fn each(&self, mut visit: impl FnMut(&str, &mut dyn Read) -> io::Result<()>) -> io::Result<()> {
        let unpacked = flate2::read::GzDecoder::new(io::BufReader::new(File::open(self.archive)?));
        let mut archive = tar::Archive::new(unpacked.take(FILE_LIMIT));
        for entry in archive.entries()? {
            let mut entry = entry?;
            if entry.header().entry_type().is_file() {
                let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
                visit(path.trim_start_matches("./"), &mut entry)?;
            }
        }
        Ok(())
    }

    fn take(&self, kind: ArtifactKind, name: &str, content: &mut dyn Read) -> io::Result<FilePath> {
        let path = FilePath::new(kind, name).map_err(io::Error::other)?;
        let mut file = File::create_new(self.input.join(path.as_str()))?;
        io::copy(content, &mut file)?;
        Ok(path)
    }
}

/// `OUT.download`: what was fetched, kept between runs, and the directory that is imported, made
/// anew by each.
struct Workshop {
    dir: PathBuf,
    /// Held while working.
    _lock: FileLock,
}

impl Workshop {
    fn open(out: &Path) -> Result<Self, Fault> {
        let dir = beside(out, ".download")?;
        std::fs::create_dir_all(&dir).map_err(Fault::io("created", &dir))?;
        let lock = File::open(&dir).map_err(Fault::io("opened", &dir))?;
        let lock = FileLock::try_exclusive(lock).map_err(|_| Fault::Busy(dir.clone()))?;
        // What is fetched is checked again by each run, but nobody else needs to write there.
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700))
            .map_err(Fault::io("written", &dir))?;
        let work = Self { dir, _lock: lock };
        work.make_directories().map_err(Fault::io("written", &work.dir))?;
        Ok(work)
    }

    fn make_directories(&self) -> io::Result<()> {
        match std::fs::remove_dir_all(self.input()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        std::fs::create_dir_all(self.fetched())?;
        for &kind in ArtifactKind::ALL {
            std::fs::create_dir_all(self.input().join(kind.directory()))?;
        }
        Ok(())
    }

    fn input(&self) -> PathBuf {
        self.dir.join("input")
    }

    fn fetched(&self) -> PathBuf {
        self.dir.join("fetched")
    }

    /// The versions and the operator's manifests.
    fn add_own(
        &self,
        request: &CreateRequest<'_>,
        versions: &BTreeMap<String, String>,
    ) -> Result<(), Fault> {
        let path = self.input().join(VERSIONS);
        let text = yaml::to_text(versions);
        std::fs::write(&path, text).map_err(Fault::io("written", &path))?;
        for manifest in request.contents.manifests {
            let place = manifest.display().to_string();
            let name = manifest.file_name().map(|n| n.to_string_lossy().into_owned());
            let path = FilePath::new(ArtifactKind::Manifest, &name.unwrap_or_default())
                .map_err(|e| Fault::entry(place, "has an invalid name").why(e.to_string()))?;
            let to = self.input().join(path.as_str());
            std::fs::copy(manifest, &to).map_err(Fault::io("copied", manifest))?;
        }
        Ok(())
    }

    fn remove(self) {
        // What stays costs only room. Files of others stay in any case.
        let _ = std::fs::remove_dir_all(self.input());
        let _ = std::fs::remove_dir_all(self.fetched());
        let _ = std::fs::remove_dir(&self.dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_run_at_a_time_fetches_a_bundle() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("bundle");
        let work = Workshop::open(&out).unwrap();
        assert!(matches!(Workshop::open(&out), Err(Fault::Busy(_))));
        drop(work);
        Workshop::open(&out).unwrap();
    }
}
