//! Attempts on an API server by way of its API: as nobody, as somebody with few rights, and as an
//! administrator whom admission has to stop.
//!
//! What is written goes into a namespace with a random name and a label of its own, which is deleted at
//! the end whatever happens. A namespace that a killed run left behind is deleted by the next.

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::at_rest::{encrypted, event, raw_value, search};
use super::caller::{
    Answered, ApiKeys, Call, Caller, Expect, Identity, Who, heard, judge, only_if, said,
};
use super::workloads::{
    ACCOUNT, SECRET, Try, admission, as_account, as_kubelet, cached_pod, event_in, limited,
    pulled_anew, verdicts,
};
use super::{CONNECT_TIMEOUT, Field, Judged, Writes, effective};
use crate::checks::Observed;
use crate::checks::Verdict;
use crate::clock::random_bytes;
use crate::controls::{Attack, Config, Daemon};
use crate::digest::Digest;
use crate::error::chain;
use crate::facts::cluster::{list, name, text};
use crate::inventory::Node;
use crate::secret::Secret;
use crate::transport::Transport;
use crate::transport::http::{HttpAnswer, get_without_tls};

/// The label of everything that an attack makes.
pub use crate::facts::cluster::PROBE_LABEL as LABEL;
use crate::facts::cluster::{PROBE_PREFIX, is_of_a_probe};
/// How old a namespace of an attack has to be to be a leftover.
const LEFTOVER: Duration = Duration::minutes(10);

/// Attempts that only read.
const READING: &[Attack] = &[
    Attack::ApiserverHealthCertificate,
    Attack::ApiserverProfiling,
    Attack::ControllerManagerProfiling,
    Attack::SchedulerProfiling,
    Attack::AuditEvent,
    Attack::PodLogs,
];

/// Attempts that need a namespace to work in.
const WRITING: &[Attack] = &[
    Attack::PodExec,
    Attack::PodSecurity,
    Attack::MissingServiceAccount,
    Attack::MissingNamespace,
    Attack::ExternalIps,
    Attack::PullPolicy,
    Attack::EventRateLimit,
    Attack::NodeRestriction,
    Attack::NodeAuthorizer,
    Attack::ServiceAccountRights,
    Attack::ServiceAccountToken,
    Attack::SecretAtRest,
];

/// Every attack made by way of the API.
pub(super) fn all() -> impl Iterator<Item = Attack> {
    READING.iter().chain(WRITING).copied()
}

type Results = Vec<(Attack, String, Judged)>;

fn unknown(attacks: impl IntoIterator<Item = Attack>, why: &str) -> Results {
    let words = |p| crate::checks::attempt_words(p).to_owned();
    attacks.into_iter().map(|p| (p, words(p), Judged::unknown(why))).collect()
}

/// Tries the API server of a node over the node's own connection.
pub(super) fn attack(
    field: &Field<'_>,
    target: &Node,
    seen: &Observed,
    through: &mut dyn Transport,
) -> Results {
    let Some(keys) = field.api else {
        return unknown(all(), "there are no certificates for the attempt");
    };
    let mut on = Attacker { field, keys, target, seen, through };
    let mut made = on.health_certificate();
    made.extend(on.daemons());
    made.extend(on.audit());
    made.extend(on.logs());
    match field.writes {
        Writes::Allowed => {
            made.extend(on.exec());
            made.extend(on.writing());
        }
        Writes::Forbidden => {
            made.extend(unknown(
                WRITING.iter().copied(),
                "not attempted: it would write to the cluster",
            ));
        }
    }
    made
}

struct Attacker<'a> {
    field: &'a Field<'a>,
    keys: &'a ApiKeys,
    target: &'a Node,
    seen: &'a Observed,
    through: &'a mut dyn Transport,
}

/// A name that nobody has used.
fn random_name() -> String {
    let hex: String = random_bytes::<6>().iter().map(|b| format!("{b:02x}")).collect();
    format!("{PROBE_PREFIX}{hex}")
}

impl Attacker<'_> {
    fn api(&mut self) -> Caller<'_> {
        Caller {
            through: &mut *self.through,
            host: self.target.internal_ip().to_string(),
            port: self.field.ports.apiserver,
            ca: Some(&self.keys.ca),
        }
    }

    /// A daemon that listens on the node's loopback only, with a certificate it made itself.
    fn local(&mut self, port: u16) -> Caller<'_> {
        let host = "127.0.0.1".to_owned();
        Caller { through: &mut *self.through, host, port, ca: None }
    }

    /// The certificate of the API server's health probes opens health and nothing else.
    fn health_certificate(&mut self) -> Results {
        let attack = Attack::ApiserverHealthCertificate;
        let keys = self.keys;
        let Some(identity) = keys.probes.get(&self.target.name) else {
            return unknown([attack], "there is no certificate for the health probes");
        };
        let row = |what, path: &str, status| Try {
            attack,
            what,
            call: Call::get(path),
            expect: Expect::Status(status),
        };
        let tries = [
            row("GET /livez with the certificate of the health probes", "/livez", 200),
            row("GET /readyz with the certificate of the health probes", "/readyz", 200),
            row(
                "list Secrets with the certificate of the health probes",
                "/api/v1/secrets?limit=1",
                403,
            ),
            row("GET /metrics with the certificate of the health probes", "/metrics", 403),
        ];
        self.make(Who::Known(identity), &tries)
    }

    fn make(&mut self, who: Who<'_>, tries: &[Try]) -> Results {
        let calls: Vec<&Call> = tries.iter().map(|t| &t.call).collect();
        let answers = self.api().batch(who, &calls);
        verdicts(tries, &answers)
    }

    /// Profiling is off, and the flags in effect are those that are wanted.
    fn daemons(&mut self) -> Results {
        const DAEMONS: &[(Daemon, Attack, Option<u16>)] = &[
            (Daemon::Apiserver, Attack::ApiserverProfiling, None),
            (Daemon::ControllerManager, Attack::ControllerManagerProfiling, Some(10257)),
            (Daemon::Scheduler, Attack::SchedulerProfiling, Some(10259)),
        ];
        let keys = self.keys;
        let mut made = Results::new();
        for &(daemon, attack, port) in DAEMONS {
            let calls = [Call::get("/flagz"), Call::get("/debug/pprof/")];
            let calls: Vec<&Call> = calls.iter().collect();
            let who = Who::Known(&keys.admin);
            let mut answers = match port {
                None => self.api().batch(who, &calls),
                Some(port) => self.local(port).batch(who, &calls),
            };
            let (profiling, flagz) = (answers.pop(), answers.pop());
            let (Some(profiling), Some(flagz)) = (profiling, flagz) else { continue };
            let what = format!("GET /debug/pprof/ of {} as administrator", daemon.program());
            let verdict = judge(Expect::Status(404), &profiling);
            made.push((attack, what, Judged::by(heard(&profiling), verdict)));
            let running = self.seen.running(daemon).unwrap_or_default();
            let running = running.first().map(|p| p.argv.as_slice());
            let Some(argv) = self.seen.staged.argv(daemon).or(running) else { continue };
            // Releases without the page: what the process was started with is what holds.
            let started: Option<String> =
                running.map(|argv| argv.iter().map(|a| a.replacen("--", "", 1) + "\n").collect());
            let heard_flagz = heard(&flagz);
            let page = match (&flagz, &started) {
                (Ok(a), _) if a.status == 200 => Ok(String::from_utf8_lossy(&a.body).into_owned()),
                (Ok(a), Some(started)) if a.status == 404 => Ok(started.clone()),
                (Ok(a), _) => Err(said(a)),
                (Err(why), _) => Err(why.clone()),
            };
            let flags = effective::flags(daemon, argv, page.as_deref().map_err(String::as_str));
            made.extend(in_effect(flags, heard_flagz));
        }
        made
    }

    /// A request that nobody else makes is in the audit log, once.
    fn audit(&mut self) -> Results {
        let (keys, marker) = (self.keys, random_name());
        let path = format!("/api/v1/namespaces/default/configmaps/{marker}");
        let asked = self.api().one(Who::Known(&keys.admin), Call::get(path));
        let verdict = match judge(Expect::Status(404), &asked) {
            Verdict::Pass { .. } => {
                let logged = search(self.through, &marker, &Secret::new(String::new()));
                let heard = logged.as_ref().ok().map(|l| l.heard);
                Judged::by(heard, event(self.field.inventory, "get", logged))
            }
            Verdict::Fail { actual: why, .. } | Verdict::Unknown { why } => {
                Judged::by(heard(&asked), Verdict::unknown(why))
            }
            other => other.into(),
        };
        vec![(Attack::AuditEvent, "ask for a ConfigMap with a random name".into(), verdict)]
    }

    /// The API server reads logs from every kubelet, whose certificate it verifies.
    fn logs(&mut self) -> Results {
        let keys = self.keys;
        let who = Who::Known(&keys.admin);
        let pods = match self.api().json(who, Call::get("/api/v1/namespaces/kube-system/pods")) {
            Ok(pods) => pods,
            Err(why) => return unknown([Attack::PodLogs], &why),
        };
        let mut made = Results::new();
        let mut calls = Vec::new();
        for node in &self.field.inventory.nodes {
            if !self.field.seen.get(&node.name).is_some_and(|s| s.runs(Daemon::Kubelet)) {
                continue;
            }
            let on_node = list(&pods, "/items").iter().find(|p| {
                text(p, "/spec/nodeName") == node.name.as_str()
                    && text(p, "/status/phase") == "Running"
            });
            let what = format!("read the log of a pod on {} through the API", node.name);
            match on_node {
                Some(pod) => {
                    let (pod, container) = (name(pod), text(pod, "/spec/containers/0/name"));
                    calls.push((what, Call::get(format!(
                        "/api/v1/namespaces/kube-system/pods/{pod}/log?container={container}&tailLines=1"
                    ))));
                }
                None => made.push((
                    Attack::PodLogs,
                    what,
                    Judged::unknown("no pod of kube-system runs there"),
                )),
            }
        }
        let answers = self.api().batch(who, &calls.iter().map(|(_, c)| c).collect::<Vec<_>>());
        for ((what, _), answer) in calls.into_iter().zip(&answers) {
            let verdict = match answer {
                // What the API server says when it does not trust the kubelet, or is not trusted.
                Ok(a) if matches!(a.status, 401 | 403 | 500..) => {
                    Verdict::fail("HTTP status 200", said(a))
                }
                other => judge(Expect::Status(200), other),
            };
            made.push((Attack::PodLogs, what, Judged::by(heard(answer), verdict)));
        }
        made
    }

    /// kube-proxy, asked for its version in its own pods: an image without a shell has no other program.
    fn exec(&mut self) -> Results {
        let keys = self.keys;
        let who = Who::Known(&keys.admin);
        let path = "/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3Dkube-proxy";
        let pods = match self.api().json(who, Call::get(path)) {
            Ok(pods) => pods,
            Err(why) => return unknown([Attack::PodExec], &why),
        };
        let nodes = match self.api().json(who, Call::get("/api/v1/nodes")) {
            Ok(nodes) => nodes,
            Err(why) => return unknown([Attack::PodExec], &why),
        };
        let all = of_members(list(&pods, "/items"), list(&nodes, "/items"));
        // Starting a program is dear: the API servers share the pods out among themselves.
        let servers: Vec<&Node> = self
            .field
            .nodes()
            .filter(|(_, seen)| seen.runs(Daemon::Apiserver))
            .map(|(node, _)| node)
            .collect();
        let own = servers.iter().position(|n| n.name == self.target.name).unwrap_or_default();
        let mut running: Vec<&Value> =
            all.iter().copied().filter(|p| text(p, "/status/phase") == "Running").collect();
        running.sort_by_key(|p| text(p, "/spec/nodeName"));
        let mut made = unable_to_run(&all);
        for pod in running.iter().skip(own).step_by(servers.len().max(1)) {
            let path = format!(
                "/api/v1/namespaces/kube-system/pods/{}/exec?container=kube-proxy&stdout=true&stderr=true\
                 &command=kube-proxy&command=--version",
                name(pod)
            );
            let answer = self.api().listen(who, &path, VERSION);
            let what = format!("run a program in a pod on {}", text(pod, "/spec/nodeName"));
            made.push((Attack::PodExec, what, Judged::by(heard(&answer), ran(&answer))));
        }
        if made.is_empty() {
            let why = "no kube-proxy pod runs, and no other pod is known";
            made.push((
                Attack::PodExec,
                crate::checks::attempt_words(Attack::PodExec).to_owned(),
                Verdict::not_applicable(why).into(),
            ));
        }
        made
    }

    /// Everything that needs a namespace. It is deleted whatever happens in between.
    fn writing(&mut self) -> Results {
        let keys = self.keys;
        let who = Who::Known(&keys.admin);
        let swept = self.sweep();
        let space = random_name();
        let body = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": space, "labels": {LABEL: "true"}},
        });
        let mut made = match self.api().json(who, Call::post("/api/v1/namespaces", body)) {
            Ok(_) => self.inside(&space),
            Err(why) => unknown(
                WRITING.iter().copied(),
                &format!("no namespace could be created for the attempts: {why}"),
            ),
        };
        // Also where creating it seemed to fail: the answer alone may have been lost.
        let gone = self.api().one(who, Call::delete(format!("/api/v1/namespaces/{space}")));
        let left = match gone {
            Ok(a) if (200..300).contains(&a.status) || a.status == 404 => None,
            Ok(a) => Some(said(&a)),
            Err(why) => Some(why),
        };
        let problem = left.map(|why| format!("namespace {space} could not be deleted: {why}"));
        for why in problem.into_iter().chain(swept.err()) {
            made.push((Attack::PodSecurity, "clean up".into(), Judged::unknown(why)));
        }
        made
    }

    /// Deletes what killed runs left behind.
    fn sweep(&mut self) -> Result<(), String> {
        let keys = self.keys;
        let who = Who::Known(&keys.admin);
        let path = format!("/api/v1/namespaces?labelSelector={}%3Dtrue", LABEL.replace('/', "%2F"));
        let spaces = self.api().json(who, Call::get(path))?;
        for space in leftovers(list(&spaces, "/items"), self.field.now) {
            let gone = self.api().one(who, Call::delete(format!("/api/v1/namespaces/{space}")))?;
            if !matches!(gone.status, 200..300 | 404 | 409) {
                return Err(format!(
                    "namespace {space} of an earlier run could not be deleted: {}",
                    said(&gone)
                ));
            }
        }
        Ok(())
    }

    fn inside(&mut self, space: &str) -> Results {
        let keys = self.keys;
        let who = Who::Known(&keys.admin);
        let within = |path: &str| format!("/api/v1/namespaces/{space}/{path}");
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT},
            "automountServiceAccountToken": false,
        });
        let plain: String = random_bytes::<16>().iter().map(|b| format!("{b:02x}")).collect();
        let plain = Secret::new(plain);
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET},
            "data": {"value": BASE64_STANDARD.encode(plain.expose())},
        });
        let wish = || {
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
                   "spec": {"expirationSeconds": 600}})
        };
        let token = within(&format!("serviceaccounts/{ACCOUNT}/token"));
        let calls = [
            Call::post(within("serviceaccounts"), account),
            Call::post(within("secrets"), secret),
            Call::post(&token, wish()),
            Call::post(&token, wish()),
            Call::get(within(&format!("secrets/{SECRET}"))),
        ];
        let answers = self.api().batch(who, &calls.iter().collect::<Vec<_>>());
        let tokens: Vec<Secret<String>> =
            [2, 3].iter().filter_map(|i| token_of(answers.get(*i)?.as_ref().ok()?)).collect();
        let read_back = match answers.get(4) {
            Some(Ok(a)) if a.status == 200 => serde_json::from_slice::<Value>(&a.body)
                .ok()
                .filter(|s| text(s, "/data/value") == BASE64_STANDARD.encode(plain.expose()))
                .map(|_| ())
                .ok_or_else(|| "another value".to_owned()),
            Some(Ok(a)) => Err(said(a)),
            Some(Err(why)) => Err(why.clone()),
            None => Err("no request was made".into()),
        };

        let mut made = self.make(who, &admission(space));
        if !self.field.inventory.runtime.registry_mirrors.is_empty() {
            let pod = Call::post(within("pods?dryRun=All"), cached_pod());
            let answer = self.api().one(who, pod);
            let what = "create a pod that pulls its image only if it is missing (dry run)";
            made.push((
                Attack::PullPolicy,
                what.into(),
                Judged::by(heard(&answer), pulled_anew(&answer)),
            ));
        }
        let calls =
            [Call::post(within("events?dryRun=All"), event_in(space)), Call::get("/metrics")];
        let answers = self.api().batch(who, &calls.iter().collect::<Vec<_>>());
        let what = "create an event (dry run), and read which admission plugins handled it";
        // What it was judged from is both answers.
        let both: Option<Vec<String>> =
            answers.iter().map(|a| heard(a).map(|d| d.to_string())).collect();
        let both = both.map(|digests| Digest::of(digests.join("\n")));
        made.push((Attack::EventRateLimit, what.into(), Judged::by(both, limited(&answers))));
        match keys.kubelets.get(&self.target.name) {
            Some(kubelet) => {
                let tries = as_kubelet(self.target.name.as_str(), space);
                made.extend(self.make(Who::Known(kubelet), &tries));
            }
            None => made.extend(unknown(
                [Attack::NodeRestriction, Attack::NodeAuthorizer],
                "there is no certificate of the kubelet",
            )),
        }
        match tokens.as_slice() {
            [first, second] => {
                let mine = self.make(Who::Nobody, &as_account(space, first));
                let positive = mine.first().map(|(_, _, v)| v.verdict.clone());
                made.extend(mine);
                made.extend(self.dead_tokens(space, second, positive));
            }
            _ => made.extend(unknown(
                [Attack::ServiceAccountRights, Attack::ServiceAccountToken],
                "the API server issued no token",
            )),
        }
        made.extend(self.at_rest(space, &plain, read_back));
        made
    }

    /// A token that nobody issued, and one whose service account is gone.
    fn dead_tokens(
        &mut self,
        space: &str,
        unused: &Secret<String>,
        positive: Option<Verdict>,
    ) -> Results {
        let keys = self.keys;
        let account = format!("/api/v1/namespaces/{space}/serviceaccounts/{ACCOUNT}");
        let gone = self.api().one(Who::Known(&keys.admin), Call::delete(account));
        let gone = judge(Expect::Status(200), &gone);
        // Its header and claims stay as they are; the signature is another's.
        let forged = Secret::new(forge(unused.expose()));
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        let review = |token: &Secret<String>| {
            let body =
                json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
            Call::post("/apis/authentication.k8s.io/v1/selfsubjectreviews", body).with_token(token)
        };
        let positive = positive.unwrap_or_else(|| Verdict::unknown("no token worked"));
        let mut verdict = |token: &Secret<String>| loop {
            let answer = self.api().one(Who::Nobody, review(token));
            let verdict = judge(Expect::Status(401), &answer);
            // Caches of the API server learn of the deletion a moment later, and keep what they saw
            // for ten seconds: the token was never shown before.
            if verdict.outcome() != crate::checks::Outcome::Fail
                || std::time::Instant::now() >= deadline
            {
                break Judged::by(heard(&answer), only_if(&positive, verdict));
            }
            std::thread::sleep(std::time::Duration::from_millis(250));
        };
        let first = verdict(&forged);
        let mut second = verdict(unused);
        second.verdict = only_if(&gone, second.verdict);
        let attack = Attack::ServiceAccountToken;
        vec![
            (attack, "send a request with a token of a foreign signature".into(), first),
            (attack, "send a request with the token of a deleted service account".into(), second),
        ]
    }

    /// The Secret as etcd holds it, and what the audit log says of its making.
    fn at_rest(
        &mut self,
        space: &str,
        plain: &Secret<String>,
        read_back: Result<(), String>,
    ) -> Results {
        let inventory = self.field.inventory;
        let what = "read a newly written Secret directly from etcd";
        let own = inventory.is_etcd_member(self.target);
        let member = if own { Some(self.target) } else { inventory.etcd_members().next() };
        let raw = match (self.field.keys, member) {
            (Some(keys), Some(member)) => {
                let mut etcd = Caller {
                    through: &mut *self.through,
                    host: member.internal_ip().to_string(),
                    port: self.field.ports.etcd_client,
                    ca: Some(&keys.etcd_ca),
                };
                raw_value(&mut etcd, &keys.health, space, SECRET)
            }
            _ => Err("there is no client certificate for etcd".into()),
        };
        let provider = inventory.encryption.provider;
        let stored = raw.as_ref().ok().map(Digest::of);
        let at_rest = Judged::by(stored, encrypted(raw, plain.expose(), provider, read_back));
        let secrets = format!("/namespaces/{space}/secrets");
        let logged = search(self.through, &secrets, plain);
        let heard = logged.as_ref().ok().map(|l| l.heard);
        // The event of its making names the collection; those of others name it.
        let logged = logged.map(|mut l| {
            l.events.retain(|e| text(e, "/objectRef/name") == SECRET);
            l
        });
        vec![
            (Attack::SecretAtRest, what.into(), at_rest),
            (
                Attack::AuditEvent,
                "write a Secret with a random value".into(),
                Judged::by(heard, event(inventory, "create", logged)),
            ),
        ]
    }
}

/// Without the pods of nodes that have left the cluster (a reset deletes the Node): those stay for minutes, until
/// they are collected, and that nobody answers there is not the API server's fault.
fn of_members<'p>(pods: &'p [Value], nodes: &[Value]) -> Vec<&'p Value> {
    let is_member = |pod: &&Value| nodes.iter().any(|n| name(n) == text(pod, "/spec/nodeName"));
    // What no node was found for yet is no node's that has left.
    pods.iter().filter(|p| text(p, "/spec/nodeName").is_empty() || is_member(p)).collect()
}

/// Pods in which no program can be run now, though they are there for every node: not tried is not
/// known. Each API server says so, since the one whose share they are cannot be told.
fn unable_to_run(pods: &[&Value]) -> Results {
    let down = pods.iter().copied().filter(|p| text(p, "/status/phase") != "Running");
    let row = |pod: &Value| {
        let what = format!("run a program in a pod on {}", text(pod, "/spec/nodeName"));
        let phase = match text(pod, "/status/phase") {
            "" => "unknown",
            phase => phase,
        };
        let why =
            format!("its kube-proxy does not run: {}", crate::transport::tail(phase.as_bytes()));
        (Attack::PodExec, what, Judged::unknown(why))
    };
    down.map(row).collect()
}

/// How kube-proxy begins to tell its version.
const VERSION: &[u8] = b"Kubernetes v";

/// Whether a program ran and its output came back.
fn ran(answer: &Answered) -> Verdict {
    let expected = "its output";
    match answer {
        Err(why) => Verdict::unknown(why.clone()),
        // Whoever had no time or is off has decided nothing; what is wrong with a certificate is said at once.
        Ok(a) if matches!(a.status, 429 | 503 | 504) || nobody_there(&a.body) => {
            Verdict::unknown(said(a))
        }
        Ok(a) if a.status != 101 => Verdict::fail(expected, said(a)),
        Ok(a) if a.body.windows(VERSION.len()).any(|w| w == VERSION) => {
            Verdict::pass("its output came back")
        }
        Ok(a) => Verdict::fail(expected, crate::transport::tail(&a.body)),
    }
}

/// Whether an answer is about a wait that ended, or about a node that is not there, in the words of Go's
/// libraries and containerd.
fn nobody_there(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body);
    let gone = ["connection refused", "no route to host", "network is unreachable"];
    ["deadline exceeded", "i/o timeout", "timed out", "handshake timeout"]
        .iter()
        .chain(&gone)
        .any(|words| text.contains(words))
}

/// Namespaces that a killed run left behind. One without a date that can be read is left alone.
fn leftovers(spaces: &[Value], now: OffsetDateTime) -> Vec<&str> {
    let is_old = |space: &&Value| {
        let made = OffsetDateTime::parse(text(space, "/metadata/creationTimestamp"), &Rfc3339);
        made.is_ok_and(|made| now - made > LEFTOVER)
    };
    let is_ours =
        |space: &&Value| text(space, "/status/phase") != "Terminating" && is_of_a_probe(space);
    spaces.iter().filter(is_ours).filter(is_old).map(name).collect()
}

fn token_of(answer: &HttpAnswer) -> Option<Secret<String>> {
    if answer.status != 201 {
        return None;
    }
    let answer: Value = serde_json::from_slice(&answer.body).ok()?;
    let token = text(&answer, "/status/token");
    (!token.is_empty()).then(|| Secret::new(token.to_owned()))
}

/// A token with another signature of the same length (RFC 7515, compact serialization).
fn forge(token: &str) -> String {
    let (claims, signature) = token.rsplit_once('.').unwrap_or((token, ""));
    let signature: String = signature.chars().map(|c| if c == 'A' { 'B' } else { 'A' }).collect();
    format!("{claims}.{signature}")
}

/// Attempts on what is in effect, all by one answer.
fn in_effect(judged: Vec<(String, Verdict)>, heard: Option<Digest>) -> Results {
    let made = judged.into_iter();
    made.map(|(what, v)| (Attack::EffectiveSetting, what, Judged::by(heard, v))).collect()
}

/// The settings of a kubelet that are in effect, through an API server.
pub(super) fn kubelet_settings(
    field: &Field<'_>,
    kubelet: &Node,
    server: &Node,
    through: &mut dyn Transport,
) -> Results {
    let config = field.api.ok_or_else(|| "there are no certificates".to_owned());
    let config = config.and_then(|keys| {
        let host = server.internal_ip().to_string();
        let mut api = Caller { through, host, port: field.ports.apiserver, ca: Some(&keys.ca) };
        let path = format!("/api/v1/nodes/{}/proxy/configz", kubelet.name);
        let (answer, heard) = api.json_heard(Who::Known(&keys.admin), Call::get(path))?;
        let config = answer.get("kubeletconfig").cloned();
        Ok((config.ok_or_else(|| "/configz has no settings".to_owned())?, heard))
    });
    let settings = effective::settings(
        Config::Kubelet,
        field.inventory,
        kubelet,
        config.as_ref().map(|(config, _)| config).map_err(String::as_str),
    );
    in_effect(settings, config.as_ref().ok().map(|(_, heard)| *heard))
}

/// The settings of kube-proxy that are in effect, from its own node: it answers on loopback alone.
pub(super) fn kube_proxy_settings(
    field: &Field<'_>,
    node: &Node,
    through: &mut dyn Transport,
) -> Results {
    const HOST: &str = "127.0.0.1";
    let config = through
        .dial(HOST, field.ports.kube_proxy, CONNECT_TIMEOUT)
        .map_err(|e| chain(&e))
        .and_then(|stream| get_without_tls(stream, HOST, "/configz").map_err(|e| chain(&e)))
        .and_then(|answer| match answer.status {
            200 => serde_json::from_slice::<Value>(&answer.body)
                .map(|all| (all, answer.digest()))
                .map_err(|_| "/configz is not JSON".to_owned()),
            other => Err(format!("/configz: status {other}")),
        })
        .and_then(|(all, heard)| {
            let config = all.get("kubeproxy.config.k8s.io").cloned();
            Ok((config.ok_or_else(|| "/configz has no settings".to_owned())?, heard))
        });
    let heard = config.as_ref().ok().map(|(_, heard)| *heard);
    let config = config.as_ref().map(|(config, _)| config).map_err(String::as_str);
    in_effect(effective::settings(Config::KubeProxy, field.inventory, node, config), heard)
}

/// A kubelet refuses somebody whom it knows and who has no rights.
pub(super) fn kubelet_without_rights(
    field: &Field<'_>,
    from: &Node,
    kubelet: &Node,
    through: &mut dyn Transport,
) -> Results {
    let attack = Attack::KubeletWithoutRights;
    let identity: Option<&Identity> = field.api.and_then(|k| k.probes.get(&from.name));
    let (Some(keys), Some(identity)) = (field.api, identity) else {
        return unknown([attack], "there is no certificate without rights");
    };
    let host = kubelet.internal_ip().to_string();
    let mut caller = Caller { through, host, port: field.ports.kubelet, ca: Some(&keys.ca) };
    let paths = ["/pods", "/metrics", "/exec/kube-system/probe/probe?command=id"];
    let calls = paths.map(Call::get);
    let answers = caller.batch(Who::Known(identity), &calls.iter().collect::<Vec<_>>());
    paths
        .iter()
        .zip(&answers)
        .map(|(path, answer)| {
            let what = format!("GET {path} with a certificate that has no rights");
            (attack, what, Judged::by(heard(answer), judge(Expect::Status(403), answer)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn only_old_namespaces_of_probes_are_leftovers() {
        let space = |name: &str, label: &str, made: &str| json!({"metadata": {"name": name, "labels": {label: "true"}, "creationTimestamp": made}});
        let old = "2026-01-01T11:49:00Z";
        let mut ending = space("kubastion-probe-e", LABEL, old);
        ending["status"] = json!({"phase": "Terminating"});
        let spaces = [
            space("kubastion-probe-a", LABEL, old),
            space("kubastion-probe-b", LABEL, "2026-01-01T11:51:00Z"),
            space("kubastion-probe-c", "other", old),
            space("shop", LABEL, old),
            space("kubastion-probe-d", LABEL, "yesterday"),
            ending,
        ];
        let now = datetime!(2026-01-01 12:00 UTC);
        assert_eq!(leftovers(&spaces, now), ["kubastion-probe-a"]);
    }

    #[test]
    fn a_forged_token_says_the_same_and_is_signed_by_nobody() {
        assert_eq!(forge("h.c.xAz"), "h.c.ABA");
        assert_ne!(forge("h.c.AAA"), "h.c.AAA");
    }

    #[test]
    fn a_program_ran_only_if_its_output_came_back() {
        let answer = |status, body: &[u8]| ran(&Ok(HttpAnswer { status, body: body.to_vec() }));
        use crate::checks::Outcome;
        assert_eq!(answer(101, b"\x82\x13\x01Kubernetes v1.36.2").outcome(), Outcome::Pass);
        assert_eq!(answer(101, b"\x82\x13\x03{\"status\":\"Failure\"}").outcome(), Outcome::Fail);
        assert_eq!(answer(101, b"").outcome(), Outcome::Fail);
        assert_eq!(answer(403, b"").outcome(), Outcome::Fail);
        let dialing = |how: &str| format!("error dialing backend: {how}").into_bytes();
        assert_eq!(answer(500, &dialing("tls: bad certificate")).outcome(), Outcome::Fail);
        for slow in [
            "dial tcp 10.0.0.2:10250: i/o timeout",
            "dial tcp 10.0.0.2:10250: connect: connection refused",
            "net/http: TLS handshake timeout",
        ] {
            assert_eq!(answer(500, &dialing(slow)).outcome(), Outcome::Unknown, "{slow}");
        }
        assert_eq!(answer(504, b"").outcome(), Outcome::Unknown);
        assert_eq!(ran(&Err("no way".into())).outcome(), Outcome::Unknown);
    }

    #[test]
    fn a_pod_that_does_not_run_leaves_its_node_unknown() {
        let pod = |node: &str, phase: &str| json!({"spec": {"nodeName": node}, "status": {"phase": phase}});
        let pods = [pod("a", "Running"), pod("b", "Pending"), pod("c", "Failed")];
        let made = unable_to_run(&pods.each_ref());
        let said: Vec<&str> = made.iter().map(|(_, what, _)| what.as_str()).collect();
        assert_eq!(said, ["run a program in a pod on b", "run a program in a pod on c"]);
        assert!(made.iter().all(|(_, _, v)| v.outcome() == crate::checks::Outcome::Unknown));
    }

    #[test]
    fn pods_of_a_node_that_has_left_are_nobodys_failure() {
        let pod = |node: &str| json!({"spec": {"nodeName": node}, "status": {"phase": "Running"}});
        let node = |name: &str| json!({"metadata": {"name": name}});
        let pods = [pod("w1"), pod("w2"), json!({"status": {"phase": "Pending"}})];
        let asked = of_members(&pods, &[node("cp1"), node("w1")]);
        let asked: Vec<&str> = asked.into_iter().map(|p| text(p, "/spec/nodeName")).collect();
        assert_eq!(asked, ["w1", ""]);
    }

    #[test]
    fn no_attack_both_reads_and_writes_or_stands_twice() {
        let attacks: std::collections::BTreeSet<Attack> = all().collect();
        assert_eq!(attacks.len(), READING.len() + WRITING.len());
    }
}
