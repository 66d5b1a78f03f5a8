//! Lists of objects, read as facts.

use serde_json::Value;

use super::client::{ANSWER, ApiError, Client, decode};
use crate::clock::Clock;
use crate::digest::{Digest, Digesting};
use crate::facts::cluster::{ClusterFacts, Kind, ListAnswer, text};
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
    pub fn facts(&mut self, kinds: &[Kind]) -> ClusterFacts {
        let mut facts = ClusterFacts::default();
        let mut left = kinds;
        while !left.is_empty() {
            left = self.read_while_open(left, &mut facts);
        }
        facts
    }

    /// Reads lists until the connection breaks. Hands back what is left to be read over another one.
    fn read_while_open<'k>(&mut self, kinds: &'k [Kind], facts: &mut ClusterFacts) -> &'k [Kind] {
        let within = ANSWER * u32::try_from(kinds.len()).unwrap_or(u32::MAX);
        let mut connection = match self.connect(within) {
            Ok(open) => open,
            Err(e) => {
                facts.unread.extend(kinds.iter().map(|kind| (*kind, e.to_string())));
                return &[];
            }
        };
        for (i, kind) in kinds.iter().enumerate() {
            let read = match read_list(&mut connection, kind.path()) {
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
    read_list(connection, path).map(|(list, _)| list)
}

/// The same, with the digest of what was answered.
fn read_list(connection: &mut Connection<'_>, path: &str) -> Result<(Value, Digest), ApiError> {
    let sign = if path.contains('?') { '&' } else { '?' };
    let first = HttpRequest::get(format!("{path}{sign}limit={PAGE}"));
    let malformed = |why: String| ApiError::Malformed { request: first.words(), why };
    let mut bytes = 0;
    let mut heard = Digesting::default();
    let mut get = |request: &HttpRequest| {
        let answer = connection.send(request)?;
        bytes += answer.body.len();
        if bytes > MAX_LIST {
            return Err(malformed(format!("the list has more than {} MiB", MAX_LIST >> 20)));
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
        let mut next = get(&HttpRequest::get(format!("{path}{sign}limit={PAGE}&continue={more}")))?;
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
    use super::*;
    use crate::transport::http::MAX_ANSWER;

    #[test]
    fn a_page_of_the_largest_objects_fits_into_an_answer() {
        // As many as a tenant has the right to make: the list must not become unreadable by them.
        let largest = 3 * (1 << 20) / 2;
        assert!(PAGE * largest <= MAX_ANSWER);
    }
}
