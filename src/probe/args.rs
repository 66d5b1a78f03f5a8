//! The command line.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const USAGE: &str = "usage: kubastion-probe [--timeout-s=N] --ca=FILE --cert=FILE --key=FILE ADDRESS:PORT /livez|/readyz";

/// Health endpoints (<https://kubernetes.io/docs/reference/using-api/health-checks/>).
const PATHS: &[&str] = &["/livez", "/readyz"];

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Args {
    /// CA certificates that the server's must chain to, PEM.
    pub ca: PathBuf,
    /// Client certificate chain, PEM.
    pub cert: PathBuf,
    /// Private key of the client certificate, PEM.
    pub key: PathBuf,
    /// Where the API server is. An address, not a name: the image has no resolver.
    pub server: SocketAddr,
    /// One of [`PATHS`].
    pub path: &'static str,
    /// For everything together: connecting, the handshake and the answer.
    pub timeout: Duration,
}

impl Args {
    /// Reads the arguments after the program's name.
    ///
    /// # Errors
    /// One line that says which argument is wrong.
    pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let (mut ca, mut cert, mut key) = (None, None, None);
        let mut timeout_s = 10;
        let mut positional = Vec::new();
        for argument in arguments {
            let argument = argument
                .into_string()
                .map_err(|a| format!("not UTF-8: {}; {USAGE}", a.to_string_lossy()))?;
            if !argument.starts_with('-') {
                positional.push(argument);
                continue;
            }
            let (flag, value) = argument
                .split_once('=')
                .ok_or_else(|| format!("`{argument}` is not --flag=value; {USAGE}"))?;
            match flag {
                "--ca" => ca = Some(PathBuf::from(value)),
                "--cert" => cert = Some(PathBuf::from(value)),
                "--key" => key = Some(PathBuf::from(value)),
                "--timeout-s" => timeout_s = seconds(value)?,
                _ => return Err(format!("unknown flag `{flag}`; {USAGE}")),
            }
        }
        let [server, path] = positional.as_slice() else {
            return Err(format!("an address and a path are needed; {USAGE}"));
        };
        let file =
            |given: Option<PathBuf>, flag| given.ok_or(format!("{flag} is missing; {USAGE}"));
        Ok(Self {
            ca: file(ca, "--ca")?,
            cert: file(cert, "--cert")?,
            key: file(key, "--key")?,
            server: server
                .parse()
                .map_err(|_| format!("`{server}` is not an address with a port; {USAGE}"))?,
            path: PATHS
                .iter()
                .copied()
                .find(|p| *p == path)
                .ok_or_else(|| format!("`{path}` is not a health endpoint; {USAGE}"))?,
            timeout: Duration::from_secs(timeout_s),
        })
    }
}

/// From one second to one hour: a deadline of zero is none that could be met.
fn seconds(text: &str) -> Result<u64, String> {
    let seconds = text.parse().ok().filter(|s| (1..=3600).contains(s));
    seconds.ok_or_else(|| format!("--timeout-s: `{text}` is not between 1 and 3600; {USAGE}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, String> {
        Args::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn a_whole_line_is_read() {
        let args = parse("--ca=/a --timeout-s=3 --cert=/c=1 --key=/k [fd00::1]:6443 /readyz");
        assert_eq!(
            args.unwrap(),
            Args {
                ca: "/a".into(),
                cert: "/c=1".into(),
                key: "/k".into(),
                server: "[fd00::1]:6443".parse().unwrap(),
                path: "/readyz",
                timeout: Duration::from_secs(3),
            }
        );
        let defaults = parse("--ca=/a --cert=/c --key=/k 127.0.0.1:6443 /livez").unwrap();
        assert_eq!(defaults.timeout, Duration::from_secs(10));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, said) in [
            ("", "an address and a path"),
            ("--ca=/a --cert=/c --key=/k 127.0.0.1:6443", "an address and a path"),
            ("--ca=/a --cert=/c --key=/k 127.0.0.1:6443 /livez /readyz", "an address and a path"),
            ("--cert=/c --key=/k 127.0.0.1:6443 /livez", "--ca is missing"),
            ("--ca=/a --key=/k 127.0.0.1:6443 /livez", "--cert is missing"),
            ("--ca=/a --cert=/c 127.0.0.1:6443 /livez", "--key is missing"),
            ("--ca=/a --cert=/c --key=/k localhost:6443 /livez", "`localhost:6443` is not"),
            ("--ca=/a --cert=/c --key=/k 127.0.0.1 /livez", "`127.0.0.1` is not"),
            ("--ca=/a --cert=/c --key=/k 127.0.0.1:6443 /metrics", "`/metrics` is not"),
            ("--ca /a", "`--ca` is not --flag=value"),
            ("--verbose=1", "unknown flag `--verbose`"),
            ("--timeout-s=0", "`0` is not between"),
            ("--timeout-s=-1", "`-1` is not between"),
            ("--timeout-s=99999999999999999999", "is not between"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(said) && !error.contains('\n'), "{line}: {error}");
        }
    }
}
