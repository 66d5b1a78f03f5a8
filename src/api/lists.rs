//! Lists of objects, read as facts.

use serde_json::Value;

use super::client::{ANSWER, ApiError, Client, decode};
use crate::clock::Clock;
use crate::digest::{Digest, Digesting};
use crate::facts::cluster::{ClusterFacts, ListAnswer, ObjectKind, text};
use crate::transport::http::{Connection, HttpRequest};

/// Objects on one page of a list. etcd takes 1.5 MiB for one (`--max-request-bytes`): a page of the
/// largest that a tenant can make still fits into an answer.
const PAGE: usize = 40;
/// Pages of a list, before it is taken for endless.
const MAX_PAGES: usize = 2500;
/// Bytes of all pages of a list.
const MAX_LIST: usize = 512 << 20;

impl Client<'_> {
    /// Reads lists of objects, over one connection as long as it holds. What cannot be read is said so
    /// in the facts.
    pub fn facts(&mut self, kinds: &[ObjectKind]) -> ClusterFacts {
        let mut facts = ClusterFacts::default();
        let mut left = kinds;
        while !left.is_empty() {
            left = self.read_while_open(left, &mut facts);
        }
        facts
    }

    /// Reads lists until the connection breaks. Hands back what is left to be read over another one.
    fn read_while_open<'k>(
        &mut self,
        kinds: &'k [ObjectKind],
        facts: &mut ClusterFacts,
    ) -> &'k [ObjectKind] {
        let within = ANSWER * u32::try_from(kinds.len()).unwrap_or(u32::MAX);
        let mut connection = match self.connect(within) {
            Ok(open) => open,
            Err(e) => {
                facts.unread.extend(kinds.iter().map(|kind| (*kind, e.to_string())));
                return &[];
            }
        };
        for (i, kind) in kinds.iter().enumerate() {
            let read = match read_list(&mut connection, kind.path(), None) {
                Ok((mut list, sha256)) => facts.insert(*kind, &mut list).map(|()| {
                    let read = Clock::System.now();
                    facts.answers.insert(*kind, ListAnswer { sha256, read });
                }),
                // A server may hang up between two answers, as one does that stops. Not before the
                // first, or this would go on for ever.
                Err(e) if e.is_no_answer() && i > 0 => return &kinds[i..],
                Err(e) if e.is_no_answer() => {
                    facts.unread.insert(*kind, e.to_string());
                    return &kinds[i + 1..];
                }
                Err(e) => Err(e.to_string()),
            };
            if let Err(why) = read {
                facts.unread.insert(*kind, why);
            }
        }
        &[]
    }
}

/// A list, however many pages it has.
///
/// # Errors
/// See [`ApiError`].
pub fn whole_list(connection: &mut Connection<'_>, path: &str) -> Result<Value, ApiError> {
    read_list(connection, path, None).map(|(list, _)| list)
}

/// What objects are called, without what they hold (Kubernetes documentation, "Kubernetes API Concepts": metadata of objects). No
/// other form is named: a server that does not know this one answers 406, and sends nothing.
const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// How many objects a list has. What they hold stays where it is.
///
/// # Errors
/// See [`ApiError`].
pub fn count(client: &mut Client<'_>, path: &str) -> Result<usize, ApiError> {
    let mut connection = client.connect(ANSWER)?;
    let (list, _) = read_list(&mut connection, path, Some(METADATA))?;
    let malformed =
        |why: &str| ApiError::Malformed { request: format!("GET {path}"), why: why.into() };
    if text(&list, "/kind") != "PartialObjectMetadataList" {
        return Err(malformed("the answer is no list of metadata"));
    }
    let items = list.get("items").and_then(Value::as_array);
    let is_complete = text(&list, "/metadata/continue").is_empty();
    items.filter(|_| is_complete).map(Vec::len).ok_or_else(|| malformed("the list is incomplete"))
}

/// The same as [`whole_list`], with the digest of what was answered.
fn read_list(
    connection: &mut Connection<'_>,
    path: &str,
    accept: Option<&'static str>,
) -> Result<(Value, Digest), ApiError> {
    let sign = if path.contains('?') { '&' } else { '?' };
    let page = |path: String| {
        let request = HttpRequest::get(path);
        match accept {
            Some(media) => request.accepting(media),
            None => request,
        }
    };
    let first = page(format!("{path}{sign}limit={PAGE}"));
    let malformed = |why: String| ApiError::Malformed { request: first.words(), why };
    let mut bytes = 0;
    let mut heard = Digesting::default();
    let mut get = |request: &HttpRequest| {
        let answer = connection.send(request)?;
        bytes += answer.body.len();
        if bytes > MAX_LIST {
            return Err(malformed(format!("the list is larger than {} MiB", MAX_LIST >> 20)));
        }
        heard.update(&answer.body);
        decode(request, &answer)
    };
    let mut list = get(&first)?;
    for _ in 0..MAX_PAGES {
        let more = text(&list, "/metadata/continue");
        // Base64 for URLs (RFC 4648 section 5): nothing in it needs escaping. What is left unread makes the list half a
        // one, which facts do not take.
        if more.is_empty()
            || !more.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=".contains(&b))
        {
            break;
        }
        let mut next = get(&page(format!("{path}{sign}limit={PAGE}&continue={more}")))?;
        let rest = next.get_mut("items").map(Value::take);
        let (Some(Value::Array(items)), Some(Value::Array(rest))) = (list.get_mut("items"), rest)
        else {
            return Err(malformed("the answer has no items".into()));
        };
        items.extend(rest);
        list["metadata"] = next["metadata"].take();
    }
    Ok((list, heard.end()))
}

/// The objects of a list that was asked for by path, of one page.
///
/// # Errors
/// See [`ApiError`].
pub fn one_page(client: &mut Client<'_>, path: &str) -> Result<Vec<Value>, ApiError> {
    let request = HttpRequest::get(path);
    match client.json(&request)?.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => Ok(items),
        _ => Err(ApiError::Malformed {
            request: request.words(),
            why: "the answer has no items".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::played::Server;
    use crate::transport::http::MAX_ANSWER;

    #[test]
    fn objects_are_counted_by_their_metadata_and_by_nothing_else() {
        let page = |kind: &'static str, goes_on: bool| {
            move |_: &str, path: &str, _: &Value| {
                let more = if goes_on && !path.contains("continue=") { "abc" } else { "" };
                (200, json!({"kind": kind, "metadata": {"continue": more}, "items": [{}, {}]}))
            }
        };
        let mut counted = Server::new(page("PartialObjectMetadataList", true));
        assert_eq!(count(&mut counted.client(), "/api/v1/secrets"), Ok(4));
        // A server that sends whole objects was not asked for them.
        let mut whole = Server::new(page("SecretList", false));
        assert!(count(&mut whole.client(), "/api/v1/secrets").is_err());
        let mut refused = Server::new(|_, _, _| (406, json!({"kind": "Status"})));
        assert!(count(&mut refused.client(), "/api/v1/secrets").is_err());
    }

    #[test]
    fn a_page_of_the_largest_objects_fits_into_an_answer() {
        // As many as a tenant has the right to make: the list must not become unreadable by them.
        let largest = 3 * (1 << 20) / 2;
        assert!(PAGE * largest <= MAX_ANSWER);
    }
}
