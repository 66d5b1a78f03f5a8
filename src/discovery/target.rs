//! The machines on the command line, and how to log in to them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use crate::inventory::{
    Host, HostKeyFingerprint, JumpHost, SshDefaults, SshTarget, Sudo, UserName,
};

/// A machine: `ssh://[user@]host[:port]`, an IPv6 address in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Login user; root if none is named.
    pub user: Option<UserName>,
    /// Name or address.
    pub host: Host,
    /// TCP port of sshd; 22 if none is named.
    pub port: Option<u16>,
}

impl FromStr for Target {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let rest = s
            .strip_prefix("ssh://")
            .ok_or_else(|| format!("`{s}` is not `ssh://[USER@]HOST[:PORT]`"))?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => {
                let user = UserName::try_from(user.to_owned()).map_err(|e| e.to_string())?;
                (Some(user), place)
            }
            None => (None, rest),
        };
        let (host, port) = match place.strip_prefix('[') {
            Some(v6) => {
                let (host, port) = v6.split_once(']').ok_or("an IPv6 address ends with `]`")?;
                let port = match port {
                    "" => None,
                    port => Some(port.strip_prefix(':').ok_or("expected `:` before the port")?),
                };
                (host, port)
            }
            None => match place.split_once(':') {
                Some((_, port)) if port.contains(':') => {
                    return Err(format!("write the IPv6 address `{place}` in brackets"));
                }
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        let port = match port.map(str::parse::<u16>) {
            None => None,
            Some(Ok(port)) if port != 0 => Some(port),
            Some(_) => return Err(format!("the port of `{s}` is not between 1 and 65535")),
        };
        let host = host.parse().map_err(|e: crate::inventory::NameError| e.to_string())?;
        Ok(Self { user, host, port })
    }
}

/// A host key that the operator has verified: `HOST=SHA256:...`, with the host as in the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey {
    /// Name or address.
    pub host: Host,
    /// Its fingerprint.
    pub fingerprint: HostKeyFingerprint,
}

impl FromStr for HostKey {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let (host, print) = s.split_once('=').ok_or("expected HOST=SHA256:FINGERPRINT")?;
        let said = |e: crate::inventory::NameError| e.to_string();
        Ok(Self { host: host.parse().map_err(said)?, fingerprint: print.parse().map_err(said)? })
    }
}

/// How to log in to machines without an inventory.
#[derive(Debug, Clone, Default)]
pub struct SshAccess {
    /// Login user where none is named.
    pub user: Option<UserName>,
    /// Port of sshd where none is named.
    pub port: Option<u16>,
    /// Private key; the ssh-agent if there is none.
    pub key_file: Option<PathBuf>,
    /// How the login user becomes root. Default: root is root, and everybody else asks sudo without a password.
    pub sudo: Option<Sudo>,
    /// Jump hosts, in order.
    pub jump: Vec<Target>,
    /// OpenSSH's known_hosts file.
    pub known_hosts: Option<PathBuf>,
    /// Host keys that the operator has verified, by host in the spelling of [`SshAccess::accept`].
    pub host_keys: BTreeMap<Host, Vec<HostKeyFingerprint>>,
}

/// One spelling of an address, which IPv6 has many of.
fn canonical(host: &Host) -> Host {
    let address = host.as_str().parse::<std::net::IpAddr>().ok();
    address.and_then(|a| a.to_string().parse().ok()).unwrap_or_else(|| host.clone())
}

impl SshAccess {
    /// Trusts this key for its host.
    pub fn accept(&mut self, key: HostKey) {
        self.host_keys.entry(canonical(&key.host)).or_default().push(key.fingerprint);
    }

    /// The keys by which a host is known.
    pub fn keys(&self, host: &Host) -> Vec<HostKeyFingerprint> {
        self.host_keys.get(&canonical(host)).cloned().unwrap_or_default()
    }

    fn root() -> UserName {
        UserName::try_from("root".to_owned()).expect("`root` is a user name")
    }

    /// How a user becomes root.
    pub fn sudo(&self, user: &UserName) -> Sudo {
        self.sudo.unwrap_or(match user.as_str() {
            "root" => Sudo::None,
            _ => Sudo::Passwordless,
        })
    }

    /// The login user on a machine.
    pub fn user(&self, named: Option<&UserName>) -> UserName {
        named.or(self.user.as_ref()).cloned().unwrap_or_else(Self::root)
    }

    /// The first `n` jump hosts with the keys by which they are known.
    fn jumps(&self, n: usize) -> Vec<JumpHost> {
        let of = |t: &Target| JumpHost {
            host: t.host.clone(),
            port: t.port.unwrap_or(22),
            user: t.user.clone(),
            key_file: None,
            host_keys: self.keys(&t.host),
        };
        self.jump.iter().take(n).map(of).collect()
    }

    /// The same as the `ssh` section of an inventory.
    pub fn defaults(&self) -> SshDefaults {
        let user = self.user(None);
        SshDefaults {
            sudo: self.sudo(&user),
            user,
            port: self.port.unwrap_or(22),
            key_file: self.key_file.clone(),
            agent: self.key_file.is_none(),
            jump: self.jumps(usize::MAX),
            known_hosts: self.known_hosts.clone(),
            ..SshDefaults::default()
        }
    }

    /// A machine behind all jump hosts.
    pub fn to(&self, target: &Target) -> SshTarget {
        self.through(target, self.jump.len())
    }

    /// The jump hosts themselves, each behind those before it.
    pub fn on_the_way(&self) -> impl Iterator<Item = SshTarget> {
        self.jump.iter().enumerate().map(|(n, jump)| self.through(jump, n))
    }

    fn through(&self, target: &Target, jumps: usize) -> SshTarget {
        let user = self.user(target.user.as_ref());
        let defaults = self.defaults();
        SshTarget {
            sudo: self.sudo(&user),
            host_keys: self.keys(&target.host),
            host: target.host.clone(),
            user,
            port: target.port.unwrap_or(defaults.port),
            key_file: defaults.key_file,
            agent: defaults.agent,
            jump: self.jumps(jumps),
            known_hosts: defaults.known_hosts,
            connect_timeout_s: defaults.connect_timeout_s,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_named_as_a_url() {
        let parts = |s: &str| {
            let t: Target = s.parse().unwrap();
            (t.user.map(|u| u.to_string()), t.host.to_string(), t.port)
        };
        let ops = Some("ops".to_owned());
        assert_eq!(parts("ssh://ops@cp1:2222"), (ops.clone(), "cp1".into(), Some(2222)));
        assert_eq!(parts("ssh://192.0.2.1"), (None, "192.0.2.1".into(), None));
        assert_eq!(parts("ssh://ops@[2001:db8::1]:22/"), (ops, "2001:db8::1".into(), Some(22)));
        assert_eq!(parts("ssh://[2001:db8::1]"), (None, "2001:db8::1".into(), None));
        for bad in [
            "cp1",
            "ssh://",
            "ssh://cp1:0",
            "ssh://cp1:x",
            "ssh://2001:db8::1",
            "ssh://[2001:db8::1",
            "ssh://[2001:db8::1]22",
            "ssh://cp1/etc",
            "ssh://o ps@cp1",
            "ssh://ops:secret@cp1",
            "http://cp1",
        ] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_key_belongs_to_its_host_alone() {
        let print = format!("SHA256:{}", "A".repeat(43));
        let key: HostKey = format!("192.0.2.1={print}").parse().unwrap();
        assert!(print.parse::<HostKey>().is_err() && "a=SHA256:x".parse::<HostKey>().is_err());
        let mut access = SshAccess {
            jump: vec!["ssh://b@bastion".parse().unwrap(), "ssh://192.0.2.1".parse().unwrap()],
            ..SshAccess::default()
        };
        access.accept(key);
        access.accept(format!("2001:DB8:0::1={print}").parse().unwrap());
        assert_eq!(access.keys(&"2001:db8::1".parse().unwrap()).len(), 1);
        let to = |s: &str| access.to(&s.parse().unwrap());
        assert_eq!(to("ssh://192.0.2.1").host_keys.len(), 1);
        let other = to("ssh://ops@192.0.2.2");
        assert!(other.host_keys.is_empty() && other.sudo == Sudo::Passwordless && other.agent);
        assert_eq!(to("ssh://192.0.2.1").sudo, Sudo::None);
        // Each jump host is behind those before it, with its own keys.
        let jumps: Vec<SshTarget> = access.on_the_way().collect();
        assert_eq!(jumps.iter().map(|j| j.jump.len()).collect::<Vec<_>>(), [0, 1]);
        assert_eq!((jumps[0].host_keys.len(), jumps[1].host_keys.len()), (0, 1));
        assert_eq!(other.jump[1].host_keys.len(), 1);
    }
}
