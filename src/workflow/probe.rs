//! The static health-check program of control planes.

use std::ffi::OsStr;
use std::path::Path;

use crate::error::Problem;
use crate::inventory::{BUILT_IN_PROBE, Probe};
use crate::workflow::command_error::{CommandError, Exit};

/// Names another file, for nodes of another architecture. Empty: use none.
const VARIABLE: &str = "KUBASTION_PROBE";

/// The health-check program, or `None`: then the API server's probes only open a TCP connection, and the plan says so.
///
/// # Errors
/// A named file that is not a static program: a wrong build must not be silently ignored.
pub(super) fn find() -> Result<Option<Probe>, CommandError> {
    of(std::env::var_os(VARIABLE).as_deref())
}

fn of(named: Option<&OsStr>) -> Result<Option<Probe>, CommandError> {
    let stop = |place: &str, e: &dyn std::error::Error| {
        let chain = Problem::from_error("", e).why;
        let problem = Problem::new("the health-check program cannot be used").at(place);
        let problem = chain.into_iter().fold(problem, Problem::because);
        let hint =
            format!("set {VARIABLE} to a static program, or unset it to use the built-in program");
        CommandError::one(Exit::InvalidInput, problem.left("nothing was changed").hint(hint))
    };
    match named {
        None if BUILT_IN_PROBE.is_empty() => Ok(None),
        None => Probe::from_elf(BUILT_IN_PROBE).map(Some).map_err(|e| stop("kubastion", &e)),
        Some(path) if path.is_empty() => Ok(None),
        Some(path) => {
            let place = Path::new(path).display().to_string();
            let bytes = std::fs::read(path).map_err(|e| stop(&place, &e))?;
            Probe::from_elf(bytes).map(Some).map_err(|e| stop(&place, &e))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::elf;

    #[test]
    fn the_one_that_is_built_in_is_a_static_program_for_this_machine() {
        let probe = of(None).unwrap().unwrap();
        assert_eq!(probe.architecture, std::env::consts::ARCH);
        assert!(of(Some(OsStr::new(""))).unwrap().is_none());
    }

    #[test]
    fn a_wrong_file_is_a_problem() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("probe-file");
        let named = || of(Some(path.as_os_str()));
        assert!(named().unwrap_err().problems[0].to_string().contains("probe-file"));
        std::fs::write(&path, elf(183, &[1])).unwrap();
        assert_eq!(named().unwrap().unwrap().architecture, "aarch64");
        for (bytes, said) in [
            (elf(62, &[1, 3]), "not linked statically"),
            (b"text".to_vec(), "ELF"),
            (elf(62, &[1])[..40].to_vec(), "truncated"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let stop = named().unwrap_err();
            assert_eq!(stop.exit, Exit::InvalidInput);
            let shown = stop.problems[0].to_string();
            assert!(shown.contains(said) && shown.contains("probe-file"), "{shown}");
        }
    }
}
