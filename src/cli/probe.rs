//! Finds the static probe that control planes get.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::exit::Exit;
use super::run::Stop;
use crate::error::Problem;
use crate::inventory::Probe;

/// Its name, beside the running program. `make build` puts it there.
const NAME: &str = "kubastion-probe";
/// Names another file; empty: there is none. For tests.
const VARIABLE: &str = "KUBASTION_PROBE";

/// The probe of this machine. `None` where it was not built or not carried along: probes of the API
/// server are then poorer, and the plan says so.
///
/// # Errors
/// If there is a file that is no static program: a wrong build must not pass for none.
pub(super) fn find() -> Result<Option<Probe>, Stop> {
    match std::env::var_os(VARIABLE) {
        Some(path) if path.is_empty() => Ok(None),
        Some(path) => read(Path::new(&path)).and_then(|found| {
            let missing = || problem(Path::new(&path)).because("there is no such file");
            found.map(Some).ok_or_else(|| Stop::one(Exit::InvalidInput, missing()))
        }),
        None => beside().map_or(Ok(None), |path| read(&path)),
    }
}

fn beside() -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.parent()?.join(NAME))
}

fn read(path: &Path) -> Result<Option<Probe>, Stop> {
    let stop = |e: &dyn std::error::Error| {
        let hint = "build it with `make build`, or remove it to go without";
        let chain = Problem::from_error("", e).why;
        let problem = chain.into_iter().fold(problem(path), Problem::because);
        Stop::one(Exit::InvalidInput, problem.left("nothing was changed").hint(hint))
    };
    match std::fs::read(path) {
        Ok(bytes) => Probe::from_elf(bytes).map(Some).map_err(|e| stop(&e)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(stop(&e)),
    }
}

fn problem(path: &Path) -> Problem {
    Problem::new("the probe of the API server cannot be used").at(path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::elf;

    #[test]
    fn a_missing_file_is_none_and_a_wrong_one_a_problem() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        assert!(read(&path).unwrap().is_none());
        std::fs::write(&path, elf(183, &[1])).unwrap();
        assert_eq!(read(&path).unwrap().unwrap().architecture, "aarch64");
        for (bytes, said) in [
            (elf(62, &[1, 3]), "not linked statically"),
            (b"text".to_vec(), "ELF"),
            (elf(62, &[1])[..40].to_vec(), "cut off"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let stop = read(&path).unwrap_err();
            assert_eq!(stop.exit, Exit::InvalidInput);
            let shown = stop.problems[0].to_string();
            assert!(shown.contains(said) && shown.contains(NAME), "{shown}");
        }
    }
}
