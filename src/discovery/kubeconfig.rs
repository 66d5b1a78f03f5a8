//! Who the cluster's API is asked as: a kubeconfig of a node (<https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/>).

use base64::prelude::{BASE64_STANDARD, Engine};

use crate::secret::Secret;
use crate::yaml::Value;

/// What a kubeconfig says of its current context.
pub struct Kubeconfig {
    /// Where the API server is.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// CAs of its certificate, PEM.
    pub ca_pem: String,
    /// The client's certificate, PEM.
    pub certificate_pem: String,
    /// Its key, PEM.
    pub key_pem: Secret<Vec<u8>>,
}

/// The key of a client, taken out of the text before anybody parses it: a parser leaves copies behind.
const KEY: &str = "client-key-data:";

impl Kubeconfig {
    /// Reads a kubeconfig. `file` is the content of the files that it names.
    ///
    /// # Errors
    /// Why nobody can be asked by it. Names no content.
    pub fn parse(
        text: &Secret<Vec<u8>>,
        file: &dyn Fn(&str) -> Option<Secret<Vec<u8>>>,
    ) -> Result<Self, String> {
        let text = std::str::from_utf8(text.expose()).map_err(|_| "it is not text".to_owned())?;
        let (rest, keys) = without_keys(text);
        let all: Value = crate::yaml::parse(&rest).map_err(|_| "it is not YAML".to_owned())?;
        let named = |list: &str, name: &str, what: &str| -> Option<Value> {
            let entries = all.get(list)?.as_sequence()?;
            let is_it = |e: &&Value| e.get("name").and_then(Value::as_str) == Some(name);
            entries.iter().find(is_it)?.get(what).cloned()
        };
        let word = |v: &Value, key: &str| v.get(key).and_then(Value::as_str).map(str::to_owned);
        let current = word(&all, "current-context").ok_or("it has no current context")?;
        let context = named("contexts", &current, "context").ok_or("it lacks its own context")?;
        let of = |key: &str, list: &str| {
            word(&context, key)
                .and_then(|name| named(list, &name, key))
                .ok_or_else(|| format!("its context names no {key} that it holds"))
        };
        let (cluster, user) = (of("cluster", "clusters")?, of("user", "users")?);
        let server = word(&cluster, "server").ok_or("it names no server")?;
        let (host, port) = place(&server).ok_or("its server is not https://HOST:PORT")?;
        let public = |v: &Value, data: &str, path: &str| -> Option<String> {
            let bytes = match word(v, data) {
                Some(data) => BASE64_STANDARD.decode(data).ok()?,
                None => file(&word(v, path)?)?.expose().clone(),
            };
            certificates_of(&bytes)
        };
        let ca_pem = public(&cluster, "certificate-authority-data", "certificate-authority")
            .ok_or("it holds no CA")?;
        let certificate_pem = public(&user, "client-certificate-data", "client-certificate")
            .ok_or("it holds no client certificate")?;
        let key_pem = match word(&user, "client-key-data") {
            Some(place) => {
                let key = place.strip_prefix('k').and_then(|n| n.parse::<usize>().ok());
                let key = key.and_then(|n| keys.get(n));
                let decoded = key.and_then(|k| BASE64_STANDARD.decode(k.expose()).ok());
                decoded.map(Secret::new)
            }
            None => word(&user, "client-key").and_then(|path| file(&path)),
        };
        let key_pem = key_pem.ok_or("it holds no client key")?;
        Ok(Self { host, port, ca_pem, certificate_pem, key_pem })
    }
}

/// The text with each key replaced by its number.
fn without_keys(text: &str) -> (String, Vec<Secret<String>>) {
    let (mut rest, mut keys) = (String::new(), Vec::new());
    for line in text.lines() {
        match line.split_once(KEY) {
            Some((before, value)) if before.chars().all(|c| c == ' ' || c == '-') => {
                rest.push_str(&format!("{before}{KEY} k{}\n", keys.len()));
                keys.push(Secret::new(value.trim().trim_matches('"').to_owned()));
            }
            _ => {
                rest.push_str(line);
                rest.push('\n');
            }
        }
    }
    (rest, keys)
}

/// The certificates of a PEM text; a file of the kubelet holds its key beside them.
fn certificates_of(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (begin, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
    let mut out = String::new();
    for part in text.split(begin).skip(1) {
        let (body, _) = part.split_once(end)?;
        out.extend([begin, body, end, "\n"]);
    }
    (!out.is_empty()).then_some(out)
}

fn place(server: &str) -> Option<(String, u16)> {
    let rest = server.strip_prefix("https://")?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '@', '?', '#']) {
        return None;
    }
    let (host, port) = match rest.strip_prefix('[') {
        Some(v6) => v6.split_once(']')?,
        None => match rest.rsplit_once(':') {
            Some((host, _)) => (host, &rest[host.len()..]),
            None => (rest, ""),
        },
    };
    let port = match port {
        "" => 443,
        port => port.strip_prefix(':')?.parse().ok()?,
    };
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    fn config(user: &str) -> Secret<Vec<u8>> {
        let ca = BASE64_STANDARD.encode(PEM);
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a@k\ncontexts:\n- name: a@k\n  context: {{cluster: k, user: a}}\n\
             clusters:\n- name: k\n  cluster:\n    certificate-authority-data: {ca}\n    server: https://192.0.2.1:6443\n\
             users:\n- name: b\n  user:\n    client-key-data: {}\n- name: a\n  user:\n{user}",
            BASE64_STANDARD.encode("ANOTHER KEY")
        );
        Secret::new(text.into_bytes())
    }

    #[test]
    fn the_user_of_the_current_context_is_taken() {
        let none = |_: &str| None;
        let user = format!(
            "    client-certificate-data: {}\n    client-key-data: {}\n",
            BASE64_STANDARD.encode(PEM),
            BASE64_STANDARD.encode("PLANTED KEY")
        );
        let read = Kubeconfig::parse(&config(&user), &none).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((read.host.as_str(), read.port), ("192.0.2.1", 6443));
        assert_eq!((read.ca_pem.as_str(), read.certificate_pem.as_str()), (PEM, PEM));
        assert_eq!(read.key_pem.expose(), b"PLANTED KEY");
        // No parser sees a key, and nothing that is said holds one.
        let text = String::from_utf8(config(&user).expose().clone()).unwrap();
        let (rest, keys) = without_keys(&text);
        assert_eq!(keys.len(), 2);
        for key in &keys {
            assert!(text.contains(key.expose().as_str()) && !rest.contains(key.expose().as_str()));
        }
    }

    #[test]
    fn a_kubelet_names_files() {
        let both =
            format!("{PEM}-----BEGIN EC PRIVATE KEY-----\nBBBB\n-----END EC PRIVATE KEY-----\n");
        let held = both.clone();
        let file = move |path: &str| {
            (path == "/var/lib/kubelet/pki/current.pem").then(|| Secret::new(held.clone().into()))
        };
        let user = "    client-certificate: /var/lib/kubelet/pki/current.pem\n    client-key: /var/lib/kubelet/pki/current.pem\n";
        let read = Kubeconfig::parse(&config(user), &file).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(read.certificate_pem, PEM);
        assert_eq!(read.key_pem.expose(), both.as_bytes());
        let why = |user: &str| Kubeconfig::parse(&config(user), &file).err().unwrap();
        assert_eq!(why("    exec: {command: aws}\n"), "it holds no client certificate");
        assert_eq!(why("    client-certificate: /else\n"), "it holds no client certificate");
    }

    #[test]
    fn a_server_is_a_host_and_a_port() {
        for (server, wanted) in [
            ("https://192.0.2.1:6443", Some(("192.0.2.1", 6443))),
            ("https://[2001:db8::1]:6443/", Some(("2001:db8::1", 6443))),
            ("https://api.example", Some(("api.example", 443))),
            ("http://192.0.2.1:8080", None),
            ("https://192.0.2.1:6443/k8s/clusters/c-1", None),
            ("https://a@192.0.2.1", None),
            ("https://:6443", None),
        ] {
            let wanted = wanted.map(|(h, p)| (h.to_owned(), p));
            assert_eq!(place(server), wanted, "{server}");
        }
    }
}
