//! Requests to an API server, or to another daemon of the cluster that speaks HTTPS, as somebody.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::error::chain;
use crate::facts::cluster::text;
use crate::inventory::NodeName;
use crate::pki::kubeconfig::API_PORT;
use crate::secret::Secret;
use crate::transport::http::{
    ConnectError, Connection, Endpoint, HttpAnswer, HttpError, HttpRequest,
};
use crate::transport::tls::ClientIdentity;
use crate::transport::{Transport, tail};

/// How long one request may take. Nothing but a machine without acceleration has needed more than five.
pub const ANSWER: Duration = Duration::from_secs(30);

/// How the API servers are asked.
pub struct ApiAccess {
    /// The control planes and their internal addresses.
    pub servers: Vec<(NodeName, IpAddr)>,
    /// Whom an API server's certificate is believed for: the cluster's CA, and those accepted beside it, PEM.
    pub ca_pem: String,
    /// The same of the front proxy, whose clients speak for others, PEM.
    pub front_proxy_ca_pem: String,
    /// The administrator's certificate, PEM.
    pub certificate_pem: String,
    /// Its key, PEM.
    pub key_pem: Secret<Vec<u8>>,
}

/// Why a request did not do what it was for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// There was no answer.
    #[error("{0}")]
    NoAnswer(String),
    /// The server says no.
    #[error("{request} answers {status}: {message}")]
    Refused {
        /// Method and path.
        request: String,
        /// HTTP status.
        status: u16,
        /// Machine-readable reason, as `Conflict`; empty if the server gave none (Kubernetes API conventions,
        /// "Response Status Kind").
        reason: String,
        /// What the server says, printable.
        message: String,
    },
    /// The answer is not what the API documents.
    #[error("{request}: {why}")]
    Malformed {
        /// Method and path.
        request: String,
        /// What is wrong with it.
        why: String,
    },
    /// A name that would lead to another object.
    #[error("{0:?} is not a valid object name")]
    BadName(String),
}

impl ApiError {
    fn refused(request: &HttpRequest, answer: &HttpAnswer) -> Self {
        let status = serde_json::from_slice::<Value>(&answer.body)
            .ok()
            .filter(|s| text(s, "/kind") == "Status")
            .unwrap_or_default();
        let message = match text(&status, "/message") {
            "" => tail(&answer.body[..answer.body.len().min(300)]),
            said => tail(said.as_bytes()),
        };
        ApiError::Refused {
            request: request.words(),
            status: answer.status,
            reason: tail(text(&status, "/reason").as_bytes()),
            message,
        }
    }

    /// The HTTP status, if the server said no.
    pub fn status(&self) -> Option<u16> {
        match self {
            ApiError::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether there is no such object.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// Whether the connection is of no use any more.
    pub fn is_no_answer(&self) -> bool {
        matches!(self, ApiError::NoAnswer(_))
    }
}

impl From<ConnectError> for ApiError {
    fn from(e: ConnectError) -> Self {
        ApiError::NoAnswer(chain(&e))
    }
}

impl From<HttpError> for ApiError {
    fn from(e: HttpError) -> Self {
        ApiError::NoAnswer(chain(&e))
    }
}

/// The JSON of an answer that is a success.
pub(super) fn decode(request: &HttpRequest, answer: &HttpAnswer) -> Result<Value, ApiError> {
    if !answer.is_success() {
        return Err(ApiError::refused(request, answer));
    }
    serde_json::from_slice(&answer.body)
        .map_err(|e| ApiError::Malformed { request: request.words(), why: e.to_string() })
}

/// A server, the connection of the node that reaches it, and whom it is asked as.
pub struct Client<'a> {
    /// The node's connection.
    pub through: &'a mut dyn Transport,
    /// Its address.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// CAs of its certificate; `None` where it signed itself.
    pub ca_pem: Option<&'a str>,
    /// The client's certificate; `None` to be nobody, or who the token of a request says.
    pub identity: Option<ClientIdentity<'a>>,
}

impl<'a> Client<'a> {
    /// The API server at an address, asked as the administrator.
    pub fn new(through: &'a mut dyn Transport, server: IpAddr, access: &'a ApiAccess) -> Self {
        Self {
            through,
            host: server.to_string(),
            port: API_PORT,
            ca_pem: Some(&access.ca_pem),
            identity: Some(ClientIdentity {
                certificate_pem: &access.certificate_pem,
                key_pem: &access.key_pem,
            }),
        }
    }

    /// A connection for one request after another, which all have to be answered `within`.
    ///
    /// # Errors
    /// [`ApiError::NoAnswer`].
    pub fn connect(&mut self, within: Duration) -> Result<Connection<'_>, ApiError> {
        let endpoint = Endpoint {
            through: &mut *self.through,
            host: self.host.clone(),
            port: self.port,
            ca_pem: self.ca_pem,
        };
        Ok(endpoint.connect(self.identity, within)?)
    }

    /// Sends one request. Any status is an answer.
    ///
    /// # Errors
    /// [`ApiError::NoAnswer`].
    pub fn send(&mut self, request: &HttpRequest) -> Result<HttpAnswer, ApiError> {
        Ok(self.connect(ANSWER)?.send(request)?)
    }

    /// Sends one request; the answer must be a success and JSON.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn json(&mut self, request: &HttpRequest) -> Result<Value, ApiError> {
        decode(request, &self.send(request)?)
    }

    /// Sends a request that may find nothing: `None` for 404.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn find(&mut self, request: &HttpRequest) -> Result<Option<Value>, ApiError> {
        match self.json(request) {
            Err(e) if e.is_not_found() => Ok(None),
            other => other.map(Some),
        }
    }

    /// Sends requests one after another, over one connection as long as it holds; all of them have to be answered
    /// `within`. Any status is an answer.
    pub fn batch(
        &mut self,
        requests: &[&HttpRequest],
        within: Duration,
    ) -> Vec<Result<HttpAnswer, ApiError>> {
        let mut answers = Vec::new();
        let deadline = Instant::now() + within;
        while answers.len() < requests.len() {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut connection = match self.connect(left) {
                Ok(connection) => connection,
                Err(e) => {
                    answers.resize(requests.len(), Err(e));
                    break;
                }
            };
            while let Some(request) = requests.get(answers.len()) {
                let answer = connection.send(request).map_err(ApiError::from);
                let broken = answer.is_err();
                answers.push(answer);
                if broken {
                    break;
                }
            }
        }
        answers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_a_status_a_reason_and_words() {
        let refused = |status, body: &str| {
            let answer = HttpAnswer { status, body: body.into() };
            decode(&HttpRequest::get("/api/v1/nodes?limit=1"), &answer).unwrap_err()
        };
        let conflict = refused(
            409,
            "{\"kind\":\"Status\",\"reason\":\"Conflict\",\"message\":\"it was \\u001b[31mchanged\"}",
        );
        assert!(
            matches!(&conflict, ApiError::Refused { status: 409, reason, .. } if reason == "Conflict")
        );
        let said = conflict.to_string();
        assert!(said.starts_with("GET /api/v1/nodes answers 409: it was "), "{said}");
        assert!(!said.contains('\u{1b}'), "{said:?}");
        assert!(refused(404, "").is_not_found() && !refused(500, "{}").is_not_found());
        assert!(refused(502, "<html>no").to_string().contains("<html>no"));
        let long = refused(500, &"x".repeat(100_000)).to_string();
        assert!(long.len() < 1000, "{}", long.len());
        assert!(matches!(refused(200, "x"), ApiError::Malformed { .. }));
    }
}
