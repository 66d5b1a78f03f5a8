//! Tests of the tester: weak servers have to be found weak, good ones good, and what cannot be
//! reached unknown.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use kubastion::checks::Verdict;
use kubastion::clock::Clock;
use kubastion::controls::Attack;
use kubastion::inventory::{Inventory, LoadContext, NodeName, load_bytes};
use kubastion::pki::{self, Ca, CertificateKind, Material, Pair};
use kubastion::transport::{
    DialFailure, Output, Request, Rounds, Stream, Transport, TransportError, address,
};
use kubastion::verify::{
    Health, Judged, Keys, Member, Ports, Reach, attack_apiserver, attack_kubelet, attack_member,
    sweep,
};
use openssl::pkey::PKey;
use openssl::ssl::{SslAcceptor, SslMethod, SslVerifyMode, SslVersion};
use openssl::stack::Stack;
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;

use crate::support::fleet::borrow;

const INVENTORY: &str = "
version: kubastion/v1
cluster: { name: t, kubernetes: 1.36.2, endpoint: \"192.0.2.11:6443\" }
ssh: { agent: true, known_hosts: kh }
nodes:
  - { name: a, addresses: [192.0.2.11], roles: [control-plane] }
  - { name: b, addresses: [192.0.2.21], roles: [worker] }
";
const HOST: &str = "127.0.0.1";

/// Reaches this machine as if it were the node.
struct Here {
    bash: bool,
}

impl Transport for Here {
    fn run(
        &mut self,
        request: Request<'_>,
        _: &mut dyn FnMut(&str),
    ) -> Result<Output, TransportError> {
        let mut child = std::process::Command::new("sh")
            .args(["-c", request.script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::copy(request.input, &mut child.stdin.take().unwrap()).unwrap();
        let out = child.wait_with_output().unwrap();
        Ok(Output { status: out.status.code().unwrap(), stdout: out.stdout, stderr: out.stderr })
    }

    fn dial(
        &mut self,
        host: &str,
        port: u16,
        timeout: Duration,
    ) -> Result<Box<dyn Stream + '_>, TransportError> {
        let address = address(host, port);
        let failed = |failure| TransportError::Dial {
            address: address.clone(),
            failure,
            detail: String::new(),
        };
        if !self.bash {
            return Err(failed(DialFailure::NotTried));
        }
        let stream = TcpStream::connect(&address).map_err(|_| failed(DialFailure::Refused))?;
        stream.set_read_timeout(Some(timeout)).unwrap();
        Ok(Box::new(stream))
    }

    fn host_key(&self) -> &str {
        ""
    }

    fn rounds(&self) -> Rounds {
        Rounds::default()
    }
}

struct World {
    material: Material,
    keys: Keys,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let now = time::OffsetDateTime::now_utc();
    let clock = Clock::Fixed(now);
    let ids = kubastion::controls::ids::ALL;
    let context = LoadContext {
        clock,
        known_controls: &ids,
        critical_controls: &kubastion::controls::ids::CRITICAL,
        impact_rows: kubastion::impact::IDS,
        conflicts: kubastion::controls::conflict,
        home: None,
        host_keys_optional: false,
    };
    let loaded = load_bytes(INVENTORY.as_bytes(), Path::new("i"), dir.path(), &context).unwrap();
    let inventory: Inventory = loaded.inventory;
    let ask: pki::AskPassphrase<'_> = &|_| Err(std::io::Error::other("no passphrase"));
    let mut store = pki::Store::open(&inventory.pki, &inventory.cluster.name, ask).unwrap();
    let (material, _) = pki::ensure(&inventory, &mut store, ask, clock).unwrap();
    let own = |p: &Pair| (p.cert_pem.clone(), p.key_pem.clone());
    let a = name("a");
    let served = (
        material.node(CertificateKind::EtcdServer, &a).unwrap().cert_pem.clone(),
        material.node(CertificateKind::EtcdPeer, &a).unwrap().cert_pem.clone(),
    );
    let keys = Keys {
        etcd_ca: material.trust(Ca::Etcd).issues().to_owned(),
        apiserver_cas: vec![material.trust(Ca::Cluster).issues().to_owned()],
        kubelet_cas: vec![material.trust(Ca::Cluster).issues().to_owned()],
        health: own(material.node(CertificateKind::EtcdHealthcheckClient, &a).unwrap()),
        foreign: own(material.node(CertificateKind::KubeletClient, &a).unwrap()),
        served: BTreeMap::from([(a, served)]),
    };
    World { material, keys }
}

fn name(n: &str) -> NodeName {
    n.parse().unwrap()
}

/// How a fake server behaves; by default as etcd should.
#[derive(Clone)]
struct Server {
    /// Certificate and key.
    serves: CertificateKind,
    /// CAs whose clients are let in; empty lets in everybody.
    clients: Vec<Ca>,
    /// TLS 1.1 is spoken too.
    old: bool,
    /// TLS 1.2 suites.
    ciphers: &'static str,
    /// No TLS at all.
    plain: bool,
    /// What is answered.
    answer: &'static str,
}

const HEALTHY: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"health\":\"true\"}";
const STRONG: &str = "ECDHE+AESGCM:ECDHE+CHACHA20";

impl Server {
    fn good(serves: CertificateKind) -> Self {
        Self {
            serves,
            clients: vec![Ca::Etcd],
            old: false,
            ciphers: STRONG,
            plain: false,
            answer: HEALTHY,
        }
    }

    /// Serves until the test process ends; returns the port.
    fn start(&self, world: &World) -> u16 {
        let listener = TcpListener::bind((HOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = (!self.plain).then(|| self.acceptor(&world.material));
        let answer = self.answer;
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                let acceptor = acceptor.clone();
                std::thread::spawn(move || match acceptor {
                    None => serve(stream, answer),
                    // A handshake that fails is what most of the attempts want.
                    Some(acceptor) => drop(acceptor.accept(stream).map(|tls| serve(tls, answer))),
                });
            }
        });
        port
    }

    fn acceptor(&self, material: &Material) -> SslAcceptor {
        let mut b = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
        let pair = material.node(self.serves, &name("a")).unwrap();
        b.set_certificate(&X509::from_pem(pair.cert_pem.as_bytes()).unwrap()).unwrap();
        b.set_private_key(&PKey::private_key_from_pem(pair.key_pem.expose()).unwrap()).unwrap();
        if self.old || self.ciphers != STRONG {
            b.set_security_level(0);
        }
        b.clear_options(openssl::ssl::SslOptions::NO_TLSV1_1);
        let floor = if self.old { SslVersion::TLS1_1 } else { SslVersion::TLS1_2 };
        b.set_min_proto_version(Some(floor)).unwrap();
        let ciphers = if self.old { format!("{STRONG}:ALL") } else { self.ciphers.to_owned() };
        b.set_cipher_list(&ciphers).unwrap();
        if !self.clients.is_empty() {
            let mut store = X509StoreBuilder::new().unwrap();
            for ca in &self.clients {
                let pem = material.trust(*ca).issues();
                store.add_cert(X509::from_pem(pem.as_bytes()).unwrap()).unwrap();
            }
            b.set_verify_cert_store(store.build()).unwrap();
            // As Go's servers do: they name whose certificates they take.
            let mut names = Stack::new().unwrap();
            for ca in &self.clients {
                let ca = X509::from_pem(material.trust(*ca).issues().as_bytes()).unwrap();
                names.push(ca.subject_name().to_owned().unwrap()).unwrap();
            }
            b.set_client_ca_list(names);
            b.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        }
        b.build()
    }
}

fn serve(mut stream: impl Read + Write, answer: &str) {
    let mut seen = Vec::new();
    let mut buffer = [0u8; 1024];
    while !seen.windows(4).any(|w| w == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            // A TLS handshake is nothing that a server in clear could answer.
            Ok(n) if n > 0 && buffer[0] != 22 => seen.extend_from_slice(&buffer[..n]),
            _ => return,
        }
    }
    // The client may be gone already.
    let _ = stream.write_all(answer.as_bytes());
}

/// Tries a member that consists of two servers; the attempts that did not pass, with their outcome.
fn tried(world: &World, client: &Server, peer: &Server, keys: bool) -> BTreeMap<Attack, Verdict> {
    let ports = Ports {
        etcd_client: client.start(world),
        etcd_peer: peer.start(world),
        ..Ports::default()
    };
    tried_at(world, ports, keys, true)
}

/// A pass without the digest of an answer would become unknown.
fn assert_passes_have_answers(made: &[(Attack, String, Judged)]) {
    for (probe, what, judged) in made {
        let passes = matches!(judged.verdict, Verdict::Pass { .. });
        assert!(!passes || judged.answer.is_some(), "{probe:?} {what}: {judged:?}");
    }
}

fn tried_at(world: &World, ports: Ports, keys: bool, bash: bool) -> BTreeMap<Attack, Verdict> {
    let (server, peer) = &world.keys.served[&name("a")];
    let own = [Some(server.as_str()), Some(peer.as_str())];
    let member = Member { host: HOST, files: own, store: own };
    let made = attack_member(&mut Here { bash }, &member, keys.then_some(&world.keys), ports);
    assert_eq!(made.len(), 12, "{made:?}");
    assert_passes_have_answers(&made);
    let not_passed =
        made.into_iter().filter(|(_, _, j)| !matches!(j.verdict, Verdict::Pass { .. }));
    not_passed.map(|(probe, _, judged)| (probe, judged.verdict)).collect()
}

fn failed(found: &BTreeMap<Attack, Verdict>) -> Vec<Attack> {
    found.iter().filter(|(_, v)| matches!(v, Verdict::Fail { .. })).map(|(p, _)| *p).collect()
}

#[test]
fn a_good_member_passes_and_each_weakness_is_found() {
    let world = world();
    let good = Server::good(CertificateKind::EtcdServer);
    let peer = Server::good(CertificateKind::EtcdPeer);
    assert_eq!(tried(&world, &good, &peer, true), BTreeMap::new());

    let weak: [(Server, &[Attack]); 7] = [
        (
            Server { clients: Vec::new(), ..good.clone() },
            &[
                Attack::EtcdWithoutCertificate,
                Attack::EtcdForeignCertificate,
                Attack::EtcdAcceptedCas,
            ],
        ),
        (
            Server { clients: vec![Ca::Etcd, Ca::Cluster], ..good.clone() },
            &[Attack::EtcdForeignCertificate, Attack::EtcdAcceptedCas],
        ),
        (Server { old: true, ..good.clone() }, &[Attack::EtcdOldTls, Attack::EtcdWeakCiphers]),
        (
            Server { ciphers: "ECDHE+AESGCM:ECDHE-ECDSA-AES128-SHA", ..good.clone() },
            &[Attack::EtcdWeakCiphers],
        ),
        (
            Server { serves: CertificateKind::Apiserver, ..good.clone() },
            &[
                // It is not of the etcd CA, and not the one of the files.
                Attack::EtcdHealthy,
                Attack::EtcdServedCertificate,
            ],
        ),
        (
            Server { answer: "HTTP/1.1 503 No\r\n\r\n{\"health\":\"false\"}", ..good.clone() },
            &[Attack::EtcdHealthy],
        ),
        (Server { plain: true, ..good.clone() }, &[Attack::EtcdPlainHttp, Attack::EtcdHealthy]),
    ];
    for (index, (server, wanted)) in weak.iter().enumerate() {
        let found = tried(&world, server, &peer, true);
        let wanted: std::collections::BTreeSet<Attack> = wanted.iter().copied().collect();
        let found_weak: std::collections::BTreeSet<Attack> = failed(&found).into_iter().collect();
        assert_eq!(found_weak, wanted, "weakness {index}: {found:#?}");
    }
    let open = Server { clients: Vec::new(), ..peer.clone() };
    assert_eq!(
        failed(&tried(&world, &good, &open, true)),
        [Attack::EtcdPeerAcceptedCas, Attack::EtcdPeerWithoutCertificate]
    );
    let swapped = Server { serves: CertificateKind::EtcdServer, ..peer.clone() };
    assert_eq!(failed(&tried(&world, &good, &swapped, true)), [Attack::EtcdPeerServedCertificate]);
    let clear = Server { plain: true, ..peer };
    assert_eq!(failed(&tried(&world, &good, &clear, true)), [Attack::EtcdPeerPlainHttp]);
}

#[test]
fn a_refusal_proves_nothing_where_nothing_works() {
    let world = world();
    let closed = TcpListener::bind((HOST, 0)).unwrap().local_addr().unwrap().port();
    let ports = Ports { etcd_client: closed, etcd_peer: closed, ..Ports::default() };
    for bash in [true, false] {
        let found = tried_at(&world, ports, true, bash);
        assert_eq!(found.len(), 12, "nothing passes: {found:#?}");
        assert!(found.values().all(|v| matches!(v, Verdict::Unknown { .. })), "{found:#?}");
    }
    // A server that closes every connection refuses everybody: nothing passes either.
    let listener = TcpListener::bind((HOST, 0)).unwrap();
    let slammed = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let ports = Ports { etcd_client: slammed, etcd_peer: slammed, ..Ports::default() };
    let found = tried_at(&world, ports, true, true);
    assert_eq!(found.len(), 12, "{found:#?}");
    assert_eq!(failed(&found), [Attack::EtcdHealthy]);
    // Without keys nothing can be shown to work, but an open door is seen all the same.
    let good = Server::good(CertificateKind::EtcdServer);
    let open = Server { clients: Vec::new(), ..good.clone() };
    let peer = Server::good(CertificateKind::EtcdPeer);
    let found = tried(&world, &good, &peer, false);
    assert!(
        matches!(found[&Attack::EtcdWithoutCertificate], Verdict::Unknown { .. }),
        "{found:#?}"
    );
    let found = tried(&world, &open, &peer, false);
    assert!(failed(&found).contains(&Attack::EtcdWithoutCertificate), "{found:#?}");
}

#[test]
fn whoever_answers_strangers_is_found() {
    let world = world();
    let public =
        |answer| Server { clients: Vec::new(), answer, ..Server::good(CertificateKind::Apiserver) };
    let outcome = |answer: &'static str| {
        let port = public(answer).start(&world);
        let ports = Ports { apiserver: port, kubelet: port, ..Ports::default() };
        // Whose certificates are taken is asked of servers that take some.
        let mut made =
            attack_apiserver(&mut Here { bash: true }, HOST, ports, Health::Refused, None);
        made.extend(attack_kubelet(&mut Here { bash: true }, HOST, ports, None));
        made.retain(|(p, ..)| {
            !matches!(p, Attack::ApiserverAcceptedCas | Attack::KubeletAcceptedCas)
        });
        assert_eq!(made.len(), 20);
        assert_passes_have_answers(&made);
        let not_passed =
            made.into_iter().filter(|(_, _, j)| !matches!(j.verdict, Verdict::Pass { .. }));
        not_passed.map(|(probe, _, judged)| (probe, judged.verdict)).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(outcome("HTTP/1.1 401 Unauthorized\r\n\r\n"), BTreeMap::new());
    for lax in ["HTTP/1.1 200 OK\r\n\r\n{}", "HTTP/1.1 403 Forbidden\r\n\r\n"] {
        let found = outcome(lax);
        assert_eq!(
            failed(&found),
            [Attack::ApiserverAnonymous, Attack::KubeletAnonymous],
            "{found:?}"
        );
    }
}

#[test]
fn a_sweep_tells_open_from_closed() {
    let listener = TcpListener::bind((HOST, 0)).unwrap();
    let open = listener.local_addr().unwrap();
    let closed = TcpListener::bind((HOST, 0)).unwrap().local_addr().unwrap();
    let aims: Vec<_> = (0..70)
        .map(|i| if i % 2 == 0 { (open.ip(), open.port()) } else { (closed.ip(), closed.port()) })
        .collect();
    let found = sweep(&mut Here { bash: true }, &aims).unwrap();
    assert_eq!(found[&(open.ip(), open.port())], Reach::Open);
    assert_eq!(found[&(closed.ip(), closed.port())], Reach::Refused);
    assert_eq!(found.len(), 2);
}

/// The report of a real node can be traced: to the node, by its host key and boot, and to what it answered.
#[test]
fn each_finding_of_a_real_node_leads_back_to_what_it_answered() {
    let Some(node) = borrow("each_finding_of_a_real_node_leads_back_to_what_it_answered", "w1")
    else {
        return;
    };
    let desk = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(node.lab.inventory()).unwrap();
    let text = text.replace("ssh/id_ed25519", node.lab.key_file().to_str().unwrap());
    std::fs::write(desk.path().join("inventory.yaml"), text).unwrap();
    let run = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kubastion"));
        command.current_dir(desk.path()).args(args).stdin(Stdio::null());
        command.env_remove("SSH_AUTH_SOCK").output().unwrap()
    };
    assert!(run(&["pki", "ensure"]).status.success());
    let before = time::OffsetDateTime::now_utc().replace_nanosecond(0).unwrap();
    let output = run(&["verify", "--nodes", "w1", "--format", "json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(report["format"], "kubastion-verification/v1");

    // As the operator's own ssh-keygen knows the node.
    let keys = std::process::Command::new("ssh-keygen")
        .args(["-l", "-f", node.lab.known_hosts().to_str().unwrap()])
        .output()
        .unwrap();
    let keys = String::from_utf8(keys.stdout).unwrap();
    let address = node.node().internal_ip().to_string();
    let line = keys.lines().find(|l| l.contains(&address)).unwrap_or_else(|| panic!("{keys}"));
    let host_key = line.split(' ').nth(1).unwrap();
    let boot_id = node.sh("cat /proc/sys/kernel/random/boot_id");

    let findings = report["findings"].as_array().unwrap();
    let evidence: Vec<&serde_json::Value> =
        findings.iter().flat_map(|f| f["evidence"].as_array().unwrap()).collect();
    assert!(evidence.len() > 100, "{}", evidence.len());
    let mut of_kind: BTreeMap<&str, usize> = BTreeMap::new();
    let mut files: BTreeMap<&str, &str> = BTreeMap::new();
    for e in &evidence {
        assert!(e["expected"].as_str().is_some_and(|x| !x.is_empty()), "{e}");
        let sources = e["sources"].as_array().unwrap();
        assert!(!sources.is_empty(), "{e}");
        for s in sources {
            let (kind, sha256) = (s["kind"].as_str().unwrap(), s["sha256"].as_str());
            *of_kind.entry(kind).or_default() += usize::from(sha256.is_some());
            assert_ne!(kind, "rendered", "{e}");
            assert!(e["verdict"] != "pass" || sha256.is_some(), "{e}");
            let Some(sha256) = sha256 else { continue };
            assert_eq!(sha256.len(), 64, "{s}");
            let read = s["read"].as_str().unwrap();
            let read =
                time::OffsetDateTime::parse(read, &time::format_description::well_known::Rfc3339)
                    .unwrap();
            assert!(read >= before && read <= time::OffsetDateTime::now_utc(), "{s}");
            if matches!(kind, "file" | "command") {
                assert_eq!(
                    (s["host_key"].as_str(), s["boot_id"].as_str()),
                    (Some(host_key), Some(boot_id.trim())),
                    "{s}"
                );
            }
            if kind == "file" {
                files.insert(s["what"].as_str().unwrap(), sha256);
            }
        }
    }
    assert!(of_kind["file"] > 20 && of_kind["command"] > 50, "{of_kind:?}");
    assert!(of_kind["attempt"] > 0, "{of_kind:?}");
    let of_w1 = findings.iter().filter(|f| f["node"] == "w1");
    assert!(of_w1.clone().count() > 50);
    assert!(
        of_w1.clone().all(|f| f["subject"] == serde_json::json!({"type": "node", "name": "w1"}))
    );
    let cluster = findings.iter().filter(|f| f.get("node").is_none());
    assert!(cluster.clone().count() > 10);
    assert!(cluster.clone().all(|f| f["subject"]["type"] != "node"));

    // Anybody can read it again and compare.
    for (path, sha256) in files {
        assert!(node.sh(&format!("sha256sum {path}")).starts_with(sha256), "{path}");
    }
    let printed = |what: &str, again: &str| {
        let sources = evidence.iter().flat_map(|e| e["sources"].as_array().unwrap());
        let source =
            sources.clone().find(|s| s["what"] == what).unwrap_or_else(|| panic!("{what}"));
        let now = node.sh(&format!("{{ {again}; }} 2>/dev/null | sha256sum"));
        assert_eq!(source["sha256"].as_str().unwrap(), now.split(' ').next().unwrap(), "{what}");
    };
    printed("ldconfig -p", "ldconfig -p");
    printed("apt-mark showhold", "apt-mark showhold");
    printed("sshd -T", "/usr/sbin/sshd -T && echo ok");
}
