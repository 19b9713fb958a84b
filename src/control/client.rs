//! The asking side: one request over the Unix socket of a host.
//!
//! Invariant: every call ends, within its time limit, with the host's JSON or one line that says what to mend.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::Method;
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use super::Address;
use crate::limits::{API_ANSWER_LEN_MAX, API_CONNECT_TIME_MAX_MS, API_CONNECTION_TIME_MAX_MS};

/// A request that brought no answer, or a refusal.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No host listens at the address.
    #[error("api {address}: no host listens there; start one with kumite host")]
    NoHost {
        /// The address.
        address: Address,
    },
    /// The socket may not be opened.
    #[error("api {address}: permission denied; run as the user who started the host, or as root")]
    Permission {
        /// The address.
        address: Address,
    },
    /// The host did not answer in time.
    #[error("api {address}: no answer to {request} within {ms} ms; see whether the host still runs")]
    Time {
        /// The address.
        address: Address,
        /// Method and path.
        request: String,
        /// The limit.
        ms: u64,
    },
    /// The connection broke, or what listens there is no kumite host.
    #[error("api {address}: {breach}; see whether a kumite host of this version runs there")]
    Broken {
        /// The address.
        address: Address,
        /// What happened.
        breach: Breach,
    },
    /// The host refused; the text is its own.
    #[error("{text}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Where, what, how to mend.
        text: String,
    },
}

/// What broke a connection.
#[derive(Debug, thiserror::Error)]
pub enum Breach {
    /// The system did not connect, or gave no event queue.
    #[error("{0}")]
    System(io::Error),
    /// Nobody takes the connection.
    #[error("it does not accept connections")]
    NotAccepted,
    /// What came is no HTTP, or none came.
    #[error("{0}")]
    Protocol(hyper::Error),
    /// The request cannot be written.
    #[error("the request cannot be written: {0}")]
    Request(hyper::http::Error),
    /// The answer is longer than [`API_ANSWER_LEN_MAX`].
    #[error("the answer is longer than {API_ANSWER_LEN_MAX} bytes")]
    Long,
    /// The answer ends too early.
    #[error("the answer breaks off")]
    BreaksOff,
    /// The answer is no JSON.
    #[error("the answer is no JSON ({0})")]
    NoJson(serde_json::Error),
    /// A refusal that does not say why.
    #[error("status {status} without a reason")]
    NoReason {
        /// HTTP status.
        status: hyper::StatusCode,
    },
}

/// The asking side of a host's control socket.
#[derive(Debug)]
pub struct Client {
    address: Address,
    runtime: tokio::runtime::Runtime,
}

impl Client {
    /// A client for the host at this address; nothing is connected yet.
    ///
    /// # Errors
    /// [`ClientError::Broken`] where the system gives no event queue.
    pub fn new(address: &Address) -> Result<Self, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        let broken = |error| ClientError::Broken { address: address.clone(), breach: Breach::System(error) };
        Ok(Self { address: address.clone(), runtime: runtime.map_err(broken)? })
    }

    /// Where it asks.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Reads something of the host.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.call(&Method::GET, path, Bytes::new())
    }

    /// Sends a JSON object.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn send(&self, method: &Method, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.call(method, path, body.to_string().into())
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn call(&self, method: &Method, path: &str, body: Bytes) -> Result<Value, ClientError> {
        let asked = async {
            let limit = Duration::from_millis(API_CONNECTION_TIME_MAX_MS);
            let answered = tokio::time::timeout(limit, self.ask(method, path, body)).await;
            answered.unwrap_or_else(|_| {
                Err(ClientError::Time {
                    address: self.address.clone(),
                    request: format!("{method} {path}"),
                    ms: API_CONNECTION_TIME_MAX_MS,
                })
            })
        };
        self.runtime.block_on(asked)
    }

    async fn ask(&self, method: &Method, path: &str, body: Bytes) -> Result<Value, ClientError> {
        let broken = |breach| ClientError::Broken { address: self.address.clone(), breach };
        let stream = tokio::time::timeout(
            Duration::from_millis(API_CONNECT_TIME_MAX_MS),
            UnixStream::connect(self.address.path()),
        )
        .await;
        let stream = stream.map_err(|_| broken(Breach::NotAccepted))?;
        let stream = stream.map_err(|error| self.no_connection(error))?;
        let handshake = http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| broken(Breach::Protocol(error)))?;
        let request = Request::builder().method(method).uri(path).header(HOST, "kumite");
        let request = request.body(Full::new(body)).map_err(|error| broken(Breach::Request(error)))?;
        // The connection runs beside the request and ends with the answer.
        let connection = tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(|error| broken(Breach::Protocol(error)))?;
        let status = answer.status();
        let whole = Limited::new(answer.into_body(), API_ANSWER_LEN_MAX)
            .collect()
            .await
            .map_err(|error| broken(if error.is::<LengthLimitError>() { Breach::Long } else { Breach::BreaksOff }))?;
        connection.abort();
        let value: Value = serde_json::from_slice(&whole.to_bytes()).map_err(|error| broken(Breach::NoJson(error)))?;
        if status.is_success() {
            return Ok(value);
        }
        match value.get("error").and_then(Value::as_str) {
            Some(text) => Err(ClientError::Refused { status: status.as_u16(), text: one_line(text) }),
            None => Err(broken(Breach::NoReason { status })),
        }
    }

    fn no_connection(&self, error: io::Error) -> ClientError {
        let address = self.address.clone();
        let kind = error.kind();
        if matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
            ClientError::NoHost { address }
        } else if kind == io::ErrorKind::PermissionDenied {
            ClientError::Permission { address }
        } else {
            ClientError::Broken { address, breach: Breach::System(error) }
        }
    }
}

/// A name as one segment of a path.
#[must_use]
pub fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            write!(escaped, "%{byte:02X}").expect("writing to a string");
        }
    }
    escaped
}

/// A text as one line that a terminal takes literally.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_becomes_one_segment_of_a_path() {
        assert_eq!(escape("flow_map"), "flow_map");
        assert_eq!(escape(".rodata/../é"), "%2Erodata%2F%2E%2E%2F%C3%A9");
    }

    #[test]
    fn a_client_without_a_host_says_how_to_start_one() {
        let address: Address = "unix:/nonexistent/kumite.sock".parse().expect("an address");
        let client = Client::new(&address).expect("a runtime");
        let error = client.get("/v1/host").expect_err("no host");
        assert_eq!(
            error.to_string(),
            "api unix:/nonexistent/kumite.sock: no host listens there; start one with kumite host"
        );
    }
}
