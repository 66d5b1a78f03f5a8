//! Reaching real nodes: host keys, logins, sudo, jump hosts, and nodes that misbehave.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use kubastion::facts::{WatchList, collect};
use kubastion::inventory::{JumpHost, NodeName, SshTarget, Sudo};
use kubastion::runs::record::Outcome;
use kubastion::secret::Secret;
use kubastion::transport::reach::present_host_keys;
use kubastion::transport::ssh::{SshDialer, SshSession};
use kubastion::transport::{Credentials, DialFailure, Dialer, Request, Transport, TransportError};

use crate::apply::file;
use crate::support::fleet::{Lent, borrow, run};

fn target(node: &Lent) -> SshTarget {
    node.inventory.ssh.for_node(node.node())
}

fn connect(target: &SshTarget) -> Result<SshSession, TransportError> {
    SshSession::connect(target, &Credentials::default())
}

fn error(target: &SshTarget) -> TransportError {
    connect(target).expect_err("this login must not work")
}

const WRONG_PRINT: &str = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

#[test]
fn libssh2_is_recent_enough() {
    // The client's banner is the first thing it sends (RFC 4253 section 4.2).
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = std::thread::spawn(move || {
        let session = ssh2::Session::new().unwrap();
        let stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut session = session;
        session.set_tcp_stream(stream);
        session.handshake().is_err()
    });
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(b"SSH-2.0-test\r\n").unwrap();
    let mut banner = String::new();
    BufReader::new(&stream).read_line(&mut banner).unwrap();
    drop(stream);
    assert!(client.join().unwrap());
    let version = banner.trim().strip_prefix("SSH-2.0-libssh2_").unwrap().to_owned();
    let numbers: Vec<u32> = version.split(['.', '_']).map_while(|n| n.parse().ok()).collect();
    assert!(numbers >= vec![1, 11, 1], "{version}");
}

#[test]
fn a_man_in_the_middle_receives_no_payload_byte() {
    let Some(node) = borrow("a_man_in_the_middle", "w1") else { return };
    // Another sshd, with a key of its own, at the address that is asked for; it logs every message.
    node.sh(
        "rm -f /run/mitm*; ssh-keygen -q -t ed25519 -N '' -f /run/mitm_key; \
         /usr/sbin/sshd -p 2222 -h /run/mitm_key -o LogLevel=DEBUG3 -o PidFile=/run/mitm.pid -E /run/mitm.log; \
         until ss -Hlnt | grep -q ':2222 '; do sleep 0.1; done",
    );
    let mut wrong = target(&node);
    wrong.port = 2222;
    let e = error(&wrong);
    assert!(matches!(&e, TransportError::HostKey { .. }), "{e}");
    assert!(e.to_string().contains("it presented SHA256:"), "{e}");
    let log = node.sh("sleep 0.3; cat /run/mitm.log");
    assert!(log.contains("Connection from"), "{log}");
    for reached in ["userauth-request", "input_userauth_request", "Accepted", "session opened"] {
        assert!(!log.contains(reached), "the server got as far as {reached}:\n{log}");
    }
    // The search finds a login where there is one.
    let print = node.sh("ssh-keygen -lf /run/mitm_key.pub");
    wrong.host_keys = vec![print.split(' ').nth(1).unwrap().parse().unwrap()];
    run(&mut connect(&wrong).unwrap(), "true");
    let log = node.sh("cat /run/mitm.log; kill $(cat /run/mitm.pid)");
    assert!(log.contains("userauth-request") && log.contains("Accepted"), "{log}");
    // What is offered holds nothing weak, and still asks for strict key exchange (CVE-2023-48795).
    assert!(log.contains("strict KEX"), "{log}");
    for weak in ["group1-sha1", "group14-sha1", "exchange-sha1", "arcfour", "-cbc", "hmac-md5"] {
        assert!(!log.contains(weak), "{weak} is offered:\n{log}");
    }
}

#[test]
fn host_keys_come_from_fingerprints_or_known_hosts_and_nothing_else() {
    let Some(node) = borrow("host_keys", "w1") else { return };
    let dir = tempfile::tempdir().unwrap();
    let known = dir.path().join("known_hosts");
    let key = node.sh("cat /etc/ssh/ssh_host_ed25519_key.pub");
    let key = key.trim();
    let host = target(&node).host.to_string();
    let with = |lines: String, fingerprints: bool| {
        std::fs::write(&known, lines).unwrap();
        let mut t = target(&node);
        if !fingerprints {
            t.host_keys.clear();
        }
        t.known_hosts = Some(known.clone());
        t
    };
    assert!(connect(&with(format!("{host} {key}\n"), false)).is_ok());
    // As `ssh-keygen -H` writes it.
    std::fs::write(&known, format!("{host} {key}\n")).unwrap();
    let hashed =
        std::process::Command::new("ssh-keygen").args(["-q", "-H", "-f"]).arg(&known).status();
    assert!(hashed.unwrap().success());
    let hashed = std::fs::read_to_string(&known).unwrap();
    assert!(!hashed.contains(&host));
    let by_file = with(hashed, false);
    assert!(connect(&by_file).is_ok());
    let shown = present_host_keys(&by_file, Duration::from_secs(10)).unwrap();
    let trusted: Vec<&str> =
        shown.iter().filter(|k| k.is_trusted).map(|k| k.kind.as_str()).collect();
    assert_eq!(trusted, ["Ed25519"], "{shown:?}");
    for (lines, why) in [
        (format!("other.example {key}\n"), "no line for it"),
        (format!("@cert-authority {host} {key}\n"), "@cert-authority"),
        (format!("@revoked {host} {key}\n{host} {key}\n"), "@revoked"),
        (format!("[{host}]:2222 {key}\n"), "no line for it"),
    ] {
        let e = error(&with(lines, false)).to_string();
        assert!(e.contains(why), "{e}");
    }
    // Revoked also where the inventory's fingerprint says otherwise.
    let e = error(&with(format!("@revoked * {key}\n"), true)).to_string();
    assert!(e.contains("@revoked"), "{e}");
    let mut nothing = target(&node);
    nothing.host_keys.clear();
    assert!(matches!(error(&nothing), TransportError::HostKey { .. }));
}

#[test]
fn sudo_with_and_without_a_password() {
    let Some(node) = borrow("sudo", "w1") else { return };
    let as_user = |user: &str, sudo, password: Option<&str>| {
        let mut t = target(&node);
        t.user = user.parse().unwrap();
        t.sudo = sudo;
        let credentials =
            Credentials { sudo_password: password.map(|p| Secret::new(p.to_owned())) };
        SshSession::connect(&t, &credentials).unwrap()
    };
    let whoami = |mut s: SshSession| {
        let request = Request {
            script: "id -un; cat",
            input: &mut "data after the program".as_bytes(),
            deadline: Duration::from_secs(20),
            max_output: 10_000,
            stays: false,
        };
        s.run(request, &mut |_| {}).map(|o| String::from_utf8(o.stdout).unwrap())
    };
    let root = "root\ndata after the program";
    assert_eq!(whoami(as_user("ops", Sudo::Passwordless, None)).unwrap(), root);
    let password = std::fs::read_to_string(node.lab.password_file()).unwrap();
    assert_eq!(whoami(as_user("opspw", Sudo::Password, Some(&password))).unwrap(), root);
    // A password where none is asked for is not taken for anything else.
    assert_eq!(whoami(as_user("ops", Sudo::Password, Some(&password))).unwrap(), root);
    let e = whoami(as_user("opspw", Sudo::Password, Some("wrong"))).unwrap_err();
    assert!(matches!(e, TransportError::Root { .. }), "{e}");
    let e = whoami(as_user("opspw", Sudo::Passwordless, None)).unwrap_err();
    assert!(matches!(e, TransportError::Root { .. }), "{e}");
    // Neither the password nor any part of the program is in sudo's log.
    let log = node.sh("journalctl -t sudo -o cat; cat /var/log/auth.log 2>/dev/null; true");
    assert!(log.contains("COMMAND"), "{log}");
    assert!(!log.contains(&password) && !log.contains("id -un"), "{log}");
}

#[test]
fn through_one_and_two_jump_hosts() {
    let Some(node) = borrow("jump_hosts", "w1") else { return };
    // Nobody may lock us out of the hosts on the way meanwhile.
    let _ways = ["cp1", "w2"].map(|name| borrow("jump_hosts", name));
    let hop = |name: &str| {
        let name: NodeName = name.parse().unwrap();
        let n = node.inventory.nodes.iter().find(|n| n.name == name).unwrap();
        JumpHost {
            host: n.internal_ip().to_string().parse().unwrap(),
            port: 22,
            user: None,
            key_file: None,
            host_keys: n.ssh.host_keys.clone(),
        }
    };
    for hops in [vec!["cp1"], vec!["cp1", "w2"]] {
        let mut t = target(&node);
        t.jump = hops.iter().map(|h| hop(h)).collect();
        let mut session = connect(&t).unwrap();
        assert_eq!(run(&mut session, "cat /proc/sys/kernel/hostname"), "w1\n");
        // More than a window's worth, both ways.
        let big = vec![b'x'; 8 << 20];
        let request = Request {
            script: "tee /dev/null | cat",
            input: &mut big.as_slice(),
            deadline: Duration::from_secs(60),
            max_output: 16 << 20,
            stays: false,
        };
        // The node cannot send before we read: sized below its pipe and window.
        let small = Request { input: &mut &big[..200_000], ..request };
        assert_eq!(session.run(small, &mut |_| {}).unwrap().stdout.len(), 200_000);
        // A first contact takes the same way.
        let mut first = t.clone();
        first.host_keys.clear();
        let keys = present_host_keys(&first, Duration::from_secs(10)).unwrap();
        let own = node.node().ssh.host_keys[0].as_str();
        assert!(keys.iter().any(|k| k.fingerprint == own && !k.is_trusted), "{keys:?}");
        // Every hop's key counts.
        t.jump[0].host_keys = vec![WRONG_PRINT.parse().unwrap()];
        assert!(matches!(error(&t), TransportError::HostKey { .. }));
        let refused = present_host_keys(&t, Duration::from_secs(10));
        assert!(matches!(refused, Err(TransportError::HostKey { .. })), "{refused:?}");
    }
}

#[test]
fn an_agent_is_used_when_the_inventory_says_so() {
    let Some(node) = borrow("an_agent", "w1") else { return };
    // The agent's socket is found through the environment, which belongs to a whole process: a child
    // of this test with one test to run.
    if std::env::var_os("KUBASTION_TEST_IN_AGENT").is_some() {
        let mut t = target(&node);
        t.key_file = None;
        t.agent = true;
        run(&mut connect(&t).unwrap(), "true");
        return;
    }
    let key = node.lab.key_file();
    let script = format!(
        "eval $(ssh-agent -s) >/dev/null; ssh-add -q {} && {} --exact transport::an_agent_is_used_when_the_inventory_says_so; status=$?; kill $SSH_AGENT_PID; exit $status",
        key.display(),
        std::env::current_exe().unwrap().display()
    );
    let child = std::process::Command::new("sh")
        .args(["-c", &script])
        .env("KUBASTION_TEST_IN_AGENT", "1")
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
}

#[test]
fn a_key_that_others_can_read_is_not_used() {
    let Some(node) = borrow("a_loose_key", "w1") else { return };
    let dir = tempfile::tempdir().unwrap();
    let loose = dir.path().join("key");
    std::fs::copy(node.lab.key_file(), &loose).unwrap();
    let mut permissions = std::fs::metadata(&loose).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    std::fs::set_permissions(&loose, permissions).unwrap();
    let mut t = target(&node);
    t.key_file = Some(loose);
    let e = error(&t);
    assert!(
        matches!(&e, TransportError::LocalFile { source, .. } if source.to_string().contains("chmod 600")),
        "{e:?}"
    );
}

#[test]
fn the_twenty_words_of_a_failed_login() {
    let Some(node) = borrow("failed_logins", "w1") else { return };
    let mut closed = target(&node);
    closed.port = 1;
    assert!(matches!(error(&closed), TransportError::Connect { .. }));
    let mut stranger = target(&node);
    stranger.user = "nobody-here".parse().unwrap();
    let e = error(&stranger);
    assert!(matches!(&e, TransportError::Login { .. }), "{e}");
    assert!(e.to_string().contains("id_ed25519"), "the key that was tried is named: {e}");
    let mut missing = target(&node);
    missing.key_file = Some(PathBuf::from("/no/such/key"));
    assert!(matches!(error(&missing), TransportError::LocalFile { .. }));
    let mut silent = target(&node);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    silent.host = "127.0.0.1".parse().unwrap();
    silent.port = listener.local_addr().unwrap().port();
    silent.connect_timeout_s = 1;
    assert!(matches!(error(&silent), TransportError::Handshake { .. }));
}

#[test]
fn a_node_dials_and_says_how_it_ended() {
    let Some(node) = borrow("dial", "w1") else { return };
    let mut session = connect(&target(&node)).unwrap();
    let second = Duration::from_secs(1);
    let mut stream = session.dial("127.0.0.1", 22, second).unwrap();
    let mut banner = String::new();
    BufReader::new(&mut stream).read_line(&mut banner).unwrap();
    assert!(banner.starts_with("SSH-2.0-OpenSSH"), "{banner}");
    drop(stream);
    // Nothing of the node's shell gets into the stream: every one begins with the banner, and ends.
    for _ in 0..10 {
        let mut stream = session.dial("127.0.0.1", 22, second).unwrap();
        let mut first = [0u8; 8];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"SSH-2.0-");
        stream.write_all(b"SSH-2.0-test\r\n").unwrap();
        let mut rest = Vec::new();
        // Until the key exchange of a client that stays silent; what comes is the server's alone.
        stream.read_exact(&mut [0u8; 40]).unwrap();
        stream.write_all(b"junkjunkjunkjunk\r\n").unwrap();
        let _ = stream.read_to_end(&mut rest);
        let text = String::from_utf8_lossy(&rest);
        assert!(!text.contains("Terminated") && !text.contains("line 1"), "{text}");
    }
    let mut ended = |host, port| match session.dial(host, port, second).map(drop) {
        Err(TransportError::Dial { failure, .. }) => failure,
        other => panic!("{other:?}"),
    };
    assert_eq!(ended("127.0.0.1", 1), DialFailure::Refused);
    // TEST-NET-1 (RFC 5737) is nowhere.
    let nowhere = ended("192.0.2.1", 80);
    assert!(matches!(nowhere, DialFailure::TimedOut | DialFailure::Unreachable), "{nowhere:?}");
}

// --- Nodes that misbehave ------------------------------------------------------------------------

/// A login whose shell answers every command in its own way.
fn hostile(node: &Lent, body: &str) -> SshTarget {
    let quoted = body.replace('\'', "'\\''");
    node.sh(&format!(
        "printf '%s\\n' '#!/bin/bash' '{quoted}' > /usr/local/bin/hostile; chmod 755 /usr/local/bin/hostile; \
         id hostile >/dev/null 2>&1 || useradd -m -s /usr/local/bin/hostile hostile; \
         install -d -m 700 -o hostile -g hostile /home/hostile/.ssh; \
         install -m 600 -o hostile -g hostile /root/.ssh/authorized_keys /home/hostile/.ssh/authorized_keys"
    ));
    let mut t = target(node);
    t.user = "hostile".parse().unwrap();
    t
}

fn facts_error(target: &SshTarget) -> String {
    let mut session = connect(target).unwrap();
    let mut watch = WatchList::default();
    watch.files.insert("/etc/passwd".into());
    let e = collect(&mut session, &"w1".parse().unwrap(), &watch)
        .expect_err("hostile answers are errors");
    kubastion::error::chain(&e)
}

#[test]
fn hostile_answers_are_errors() {
    let Some(node) = borrow("hostile_answers", "w1") else { return };
    for (body, wanted) in [
        ("exec head -c 40000000 /dev/zero", "more than"),
        // A marker, and then no end of lines.
        (
            "printf '%s\\n' \"$2\" | grep -o 'kubastion-[0-9a-f]*' | head -n 1; exec yes @node",
            "more than",
        ),
        ("exit 0", "did not run the program"),
        ("echo go away >&2; exit 3", "go away"),
        (
            "printf '%s\\n' \"$2\" | grep -o 'kubastion-[0-9a-f]*' | head -n 1; head -c 3000 /dev/urandom",
            "cannot be parsed",
        ),
        (
            "printf '%s\\n' \"$2\" | grep -o 'kubastion-[0-9a-f]*' | head -n 1; printf '@node\\narch=x86_64\\n@end\\n'",
            "unexpected section",
        ),
        ("kill -9 $$", "did not run the program"),
        // It cannot know the word for the end.
        (
            "printf '%s\\n' \"$2\" | grep -o 'kubastion-[0-9a-f]*' | head -n 1; printf '@node\\n@end\\n\\nkubastion-00 0\\n'",
            "cannot be parsed",
        ),
    ] {
        let e = facts_error(&hostile(&node, body));
        assert!(e.contains(wanted), "{body}: {e}");
    }
}

/// A program after which the shell stays, with the status, output and errors that it answers.
fn stay(session: &mut SshSession, script: &str, input: &str) -> (i32, String, String) {
    let request = Request {
        script,
        input: &mut input.as_bytes(),
        deadline: Duration::from_secs(20),
        max_output: 100_000,
        stays: true,
    };
    let mut lines = Vec::new();
    let o = session.run(request, &mut |l| lines.push(l.to_owned())).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(o.stdout), text(o.stderr));
    assert_eq!(lines.join("\n"), stdout.trim_end_matches('\n'));
    (o.status, stdout, stderr)
}

#[test]
fn a_shell_stays_and_takes_up_one_program_after_another() {
    let Some(node) = borrow("a_shell_stays", "w1") else { return };
    let password = std::fs::read_to_string(node.lab.password_file()).unwrap();
    for user in ["root", "opspw"] {
        let mut t = target(&node);
        let mut credentials = Credentials::default();
        if user != "root" {
            t.user = user.parse().unwrap();
            t.sudo = Sudo::Password;
            credentials.sudo_password = Some(Secret::new(password.clone()));
        }
        let mut session = SshSession::connect(&t, &credentials).unwrap();
        let first = "a=$(dd bs=6 count=1 2>/dev/null); echo \"$a $$\"; printf oops >&2; exit 5";
        let (status, stdout, stderr) = stay(&mut session, first, "input\n");
        assert_eq!((status, stderr.as_str()), (5, "oops"), "{user}");
        let shell = stdout.strip_prefix("input ").unwrap().to_owned();
        // Without an end of line, and much of it.
        let (_, stdout, _) = stay(&mut session, "printf %60000d 7", "");
        assert_eq!((stdout.len(), stdout.trim_start()), (60_000, "7"), "{user}");
        // The last one is run by that shell itself, and takes its input to the end.
        let request = Request {
            script: "echo $$; cat; exit 3",
            input: &mut "to the end".as_bytes(),
            deadline: Duration::from_secs(20),
            max_output: 1000,
            stays: false,
        };
        let output = session.run(request, &mut |_| {}).unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert_eq!((output.status, stdout), (3, format!("{shell}to the end")), "{user}");
        assert_eq!(session.rounds().execs, 1, "{user}");
        assert_eq!(run(&mut session, "id -un"), "root\n", "{user}");
        assert_eq!(session.rounds().execs, 2, "{user}");
    }
}

#[test]
fn a_waiting_shell_that_is_gone_is_replaced() {
    let Some(node) = borrow("a_waiting_shell", "w1") else { return };
    let mut session = connect(&target(&node)).unwrap();
    let (_, shell, _) = stay(&mut session, "echo $$", "");
    node.sh(&format!("kill -9 {shell}"));
    std::thread::sleep(Duration::from_millis(500));
    assert_ne!(run(&mut session, "echo $$"), shell);
    // And one that stays is in nobody's way, nor does it outlive its connection.
    let (_, shell, _) = stay(&mut session, "echo $$", "");
    match session.dial("127.0.0.1", 22, Duration::from_secs(5)) {
        Ok(mut stream) => {
            let mut banner = [0u8; 4];
            stream.read_exact(&mut banner).unwrap();
            assert_eq!(&banner, b"SSH-");
        }
        Err(e) => panic!("{e}"),
    }
    let is_gone = |shell: &str| {
        let pid = shell.trim();
        let script = format!(
            "for i in $(seq 50); do [ -e /proc/{pid} ] || exit 0; sleep 0.1; done; echo there"
        );
        assert_eq!(node.sh(&script), "");
    };
    is_gone(&shell);
    let (_, shell, _) = stay(&mut session, "echo $$", "");
    let began = std::time::Instant::now();
    drop(session);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    is_gone(&shell);
}

#[test]
fn a_program_that_ends_early_is_believed_at_once() {
    let Some(node) = borrow("a_program_that_ends_early", "w1") else { return };
    let mut session = node.connect();
    let began = std::time::Instant::now();
    // Far more than the window of a channel takes.
    let request = Request {
        script: "head -c 3000000 >/dev/null; echo enough; exit 3",
        input: &mut std::io::repeat(b'x').take(256 << 20),
        deadline: Duration::from_secs(120),
        max_output: 1024,
        stays: false,
    };
    let output = session.run(request, &mut |_| {}).unwrap();
    assert_eq!((output.status, &output.stdout[..]), (3, &b"enough\n"[..]));
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!(run(session.as_mut(), "echo on"), "on\n", "the connection goes on");
    // And all of it arrives where it is wanted.
    let request = Request {
        script: "sha256sum",
        input: &mut std::io::repeat(b'x').take(64 << 20),
        deadline: Duration::from_secs(120),
        max_output: 1024,
        stays: false,
    };
    let sum = session.run(request, &mut |_| {}).unwrap();
    let wanted = node.sh("head -c 67108864 /dev/zero | tr '\\000' x | sha256sum");
    assert_eq!(String::from_utf8_lossy(&sum.stdout), wanted);
}

#[test]
fn an_answer_that_never_ends_meets_its_deadline() {
    let Some(node) = borrow("never_ending", "w1") else { return };
    // The third says that it began and, on the one stream, that it ended.
    let on_one_stream = "printf '%s\\n' \"$2\" | grep -o 'kubastion-[0-9a-f]*' | head -n 1; read -r line; \
        end=$(printf %s \"$line\" | grep -o 'kubastion-[0-9a-f]*' | tail -n 1); printf '\\n%s 0\\n' \"$end\"; \
        while :; do printf x >&2; sleep 0.05; done";
    for body in ["sleep 600", "while :; do echo; sleep 0.05; done", on_one_stream] {
        let mut session = connect(&hostile(&node, body)).unwrap();
        let began = std::time::Instant::now();
        let request = Request {
            script: "true",
            input: &mut std::io::empty(),
            deadline: Duration::from_secs(2),
            max_output: 1 << 20,
            stays: body == on_one_stream,
        };
        let e = session.run(request, &mut |_| {}).unwrap_err();
        assert!(matches!(e, TransportError::Deadline { .. }), "{body}: {e}");
        assert!(began.elapsed() < Duration::from_secs(10), "{body}: {:?}", began.elapsed());
    }
    node.sh("pkill -u hostile; true");
}

fn refused(node: &Lent, within: &str) -> String {
    let before = node.tree("/etc");
    let (plan, desired) = node.plan(vec![
        file("/etc/kubastion-test/a", &"a".repeat(300_000), 0o600),
        file("/etc/motd", "ours\n", 0o644),
    ]);
    node.sh(within);
    let outcome = node.apply(&plan, &desired).remove(0).1;
    node.sh("umount /var/lib/kubastion /etc 2>/dev/null; true");
    assert_eq!(node.tree("/etc"), before);
    match outcome {
        Outcome::Refused { why } | Outcome::Reverted { why } => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_full_disk_leaves_nothing_half_done() {
    let Some(node) = borrow("a_full_disk", "w1") else { return };
    let why = refused(
        &node,
        "mkdir -p /var/lib/kubastion; mount -t tmpfs -o size=200k tmpfs /var/lib/kubastion",
    );
    assert!(why.contains("disk full") || why.contains("arrived incomplete"), "{why}");
}

#[test]
fn a_read_only_etc_leaves_nothing_half_done() {
    let Some(node) = borrow("a_read_only_etc", "w1") else { return };
    let why = refused(&node, "mount --bind /etc /etc && mount -o remount,ro,bind /etc");
    assert!(why.to_lowercase().contains("read-only"), "{why}");
}

#[test]
fn noise_one_session_and_busybox_do_not_matter() {
    let Some(node) = borrow("noise", "w1") else { return };
    let busybox = std::fs::read("/bin/busybox").or_else(|_| std::fs::read("/usr/bin/busybox"));
    let Ok(busybox) = busybox else {
        eprintln!(
            "SKIPPED noise_one_session_and_busybox_do_not_matter: no static busybox on this machine"
        );
        assert!(std::env::var_os("KUBASTION_REQUIRE_LAB").is_none());
        return;
    };
    let root = node.lab.root(node.name.as_str()).unwrap();
    std::fs::write(root.join("usr/local/sbin/busybox"), busybox).unwrap();
    node.sh(
        "chmod 755 /usr/local/sbin/busybox; echo 'echo Welcome; printf \"\\033[31mnoise\\033[0m\"; echo err >&2' > /root/.bashrc; \
         echo 'MaxSessions 1' > /etc/ssh/sshd_config.d/test.conf; systemctl restart ssh; \
         for c in tar sha256sum stat; do mv /usr/bin/$c /usr/bin/$c.gnu 2>/dev/null; ln -s /usr/local/sbin/busybox /usr/bin/$c; done",
    );
    let restore = "for c in tar sha256sum stat; do [ -e /usr/bin/$c.gnu ] && mv -f /usr/bin/$c.gnu /usr/bin/$c; done; \
                   rm -f /root/.bashrc /etc/ssh/sshd_config.d/test.conf; systemctl restart ssh";
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let items = || {
            vec![
                file("/etc/kubastion-test/a", "a\n", 0o640),
                file("/etc/kubastion-test/b", "b\n", 0o600),
            ]
        };
        let (plan, desired) = node.plan(items());
        assert_eq!(node.apply(&plan, &desired)[0].1, Outcome::Committed);
        let (again, _) = node.plan(items());
        assert!(again.is_empty());
        assert_eq!(
            node.sh("ls -l /etc/kubastion-test | cut -c1-10"),
            "total 8\n-rw-r-----\n-rw-------\n"
        );
    }));
    node.sh(restore);
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn a_dialer_gives_the_same_as_a_session() {
    let Some(node) = borrow("a_dialer", "w1") else { return };
    let mut session = SshDialer::default().connect(&target(&node)).unwrap();
    assert_eq!(run(session.as_mut(), "id -u"), "0\n");
    assert_eq!(session.host_key(), node.node().ssh.host_keys[0].as_str());
    assert_eq!(session.rounds().execs, 1);
}
