//! etcd's membership API, alarms and status, over the JSON gateway of its client port (etcd documentation, "gRPC
//! gateway"; under `/v3` since 3.4).

use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::gate::{ANSWER, ETCD_CLIENT_PORT, EtcdAccess};
use crate::error::chain;
use crate::facts::etcd::{self, Listed, Roster};
use crate::transport::http::{ConnectError, Connection, HttpAnswer, HttpRequest};
use crate::transport::{Transport, address, tail};

/// Deadline of a membership change: the member that is asked waits for the leader.
const CHANGE: Duration = Duration::from_secs(30);

/// Requests to one member over one connection.
struct Member<'t> {
    connection: Connection<'t>,
    at: String,
}

impl<'t> Member<'t> {
    fn connect(
        through: &'t mut dyn Transport,
        member: IpAddr,
        access: &EtcdAccess,
        within: Duration,
    ) -> Result<Self, String> {
        let at = address(&member.to_string(), ETCD_CLIENT_PORT);
        match access.connect(through, member, within) {
            Ok(connection) => Ok(Self { connection, at }),
            Err(e @ ConnectError::Dial(_)) => Err(chain(&e)),
            Err(e) => Err(format!("{at}: {}", chain(&e))),
        }
    }

    fn send(&mut self, path: &str, body: &Value) -> Result<HttpAnswer, String> {
        let answer = self.connection.send(&HttpRequest::post(path, body));
        answer.map_err(|e| format!("{}: {}", self.at, chain(&e)))
    }

    fn yes(&mut self, path: &str, body: &Value) -> Result<Vec<u8>, String> {
        let answer = self.send(path, body)?;
        if answer.status == 200 {
            return Ok(answer.body);
        }
        let said = tail(&answer.body[..answer.body.len().min(300)]);
        Err(format!("{}: {path} answers {}: {said}", self.at, answer.status))
    }

    /// By the leader's word: a member that was cut off may have an older one.
    fn list(&mut self) -> Result<Vec<Listed>, String> {
        const PATH: &str = "/v3/cluster/member/list";
        let answer = self.send(PATH, &json!({"linearizable": true}))?;
        // Before 3.5 the question has no such field.
        let body = match answer.status {
            200 => answer.body,
            400 => self.yes(PATH, &json!({}))?,
            status => {
                let said = tail(&answer.body[..answer.body.len().min(300)]);
                return Err(format!("{}: {PATH} answers {status}: {said}", self.at));
            }
        };
        etcd::members(&body).map_err(|e| format!("{}: {PATH}: {e}", self.at))
    }
}

/// Members, alarms and room, over one connection.
///
/// # Errors
/// What the member or the connection to it reported instead.
pub fn roster(
    through: &mut dyn Transport,
    member: IpAddr,
    access: &EtcdAccess,
) -> Result<Roster, String> {
    let mut member = Member::connect(through, member, access, ANSWER)?;
    let members = member.list()?;
    let alarms = member.yes("/v3/maintenance/alarm", &json!({"action": "GET"}))?;
    let status = member.yes("/v3/maintenance/status", &json!({}))?;
    let strange = |e: String| format!("{}: {e}", member.at);
    let alarms = etcd::alarms(&alarms).map_err(strange)?;
    let (db_bytes, quota_bytes) = etcd::room(&status).map_err(strange)?;
    Ok(Roster { members, alarms, db_bytes, quota_bytes })
}

/// The members alone.
///
/// # Errors
/// What the member or the connection to it reported instead.
pub fn list(
    through: &mut dyn Transport,
    member: IpAddr,
    access: &EtcdAccess,
) -> Result<Vec<Listed>, String> {
    Member::connect(through, member, access, ANSWER)?.list()
}

/// Adds a learner. Returns its id.
///
/// # Errors
/// What the member or the connection to it reported instead. etcd refuses a second one that has not caught up yet.
pub fn add_learner(
    through: &mut dyn Transport,
    member: IpAddr,
    access: &EtcdAccess,
    peer_url: &str,
) -> Result<u64, String> {
    let body = json!({ "peerURLs": [peer_url], "isLearner": true });
    let answer =
        Member::connect(through, member, access, CHANGE)?.yes("/v3/cluster/member/add", &body)?;
    etcd::added(&answer)
}

/// Promotes a learner to a voting member.
///
/// # Errors
/// What the member or the way to it said instead: among others, that it has not caught up yet.
pub fn promote(
    through: &mut dyn Transport,
    member: IpAddr,
    access: &EtcdAccess,
    id: u64,
) -> Result<(), String> {
    let body = json!({ "ID": id.to_string() });
    let said =
        Member::connect(through, member, access, CHANGE)?.yes("/v3/cluster/member/promote", &body);
    match said {
        // An answer that was lost on the way.
        Err(why) if why.contains("can only promote a learner member") && !why.contains("sync") => {
            Ok(())
        }
        other => other.map(|_| ()),
    }
}

/// Removes a member. Succeeds if it is already gone.
///
/// # Errors
/// What the member or the connection to it reported instead. etcd refuses what would cost the quorum.
pub fn remove(
    through: &mut dyn Transport,
    member: IpAddr,
    access: &EtcdAccess,
    id: u64,
) -> Result<(), String> {
    let body = json!({ "ID": id.to_string() });
    let said =
        Member::connect(through, member, access, CHANGE)?.yes("/v3/cluster/member/remove", &body);
    match said {
        Err(why) if why.contains("member not found") => Ok(()),
        other => other.map(|_| ()),
    }
}
