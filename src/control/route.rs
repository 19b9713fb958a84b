//! A route as one value, and the table of them as an HTTP service.
//!
//! Invariant: knows nothing of hosts; answers run on threads where waiting harms nobody, and a panic in one ends only
//! its own request.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, RawQuery, Request};
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::Refusal;
use crate::limits::{API_BODY_LEN_MAX, API_BODY_TIME_MAX_MS, API_LARGE_BODIES_MAX, OBJECT_LEN_MAX};

/// What a route takes as its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing or a JSON object, up to [`API_BODY_LEN_MAX`].
    Json,
    /// A file (object, capture) as it is, up to [`OBJECT_LEN_MAX`].
    File,
}

impl Body {
    /// Bytes that it may have.
    #[must_use]
    pub const fn len_max(self) -> u64 {
        match self {
            Self::Json => API_BODY_LEN_MAX,
            Self::File => OBJECT_LEN_MAX,
        }
    }
}

/// A route of an API on some desk `D`: the thing that answers.
#[derive(Debug)]
pub struct Route<D> {
    /// Path, with `{name}` for what the request fills in.
    pub path: &'static str,
    /// HTTP method.
    pub method: Method,
    /// What it does, in a line.
    pub what: &'static str,
    /// What it takes.
    pub body: Body,
    /// Its answer.
    pub answer: fn(&D, &Call) -> Result<Value, Refusal>,
}

/// A request, as a route's answer sees it.
#[derive(Debug, Default)]
pub struct Call {
    /// What the request filled into the path.
    pub params: Vec<(String, String)>,
    /// What stood behind `?`, decoded.
    pub query: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

impl Call {
    /// What the request filled into the path under this name.
    #[must_use]
    pub fn param(&self, name: &str) -> &str {
        let found = self.params.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).expect("the route's path names it")
    }

    /// The value behind `?name=`.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All texts behind `?name=`, in order.
    pub fn queries(&self, name: &str) -> impl Iterator<Item = &str> {
        self.query.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The number behind `?name=`, `default` where there is none.
    ///
    /// # Errors
    /// [`Refusal::Request`] where it is no number.
    pub fn query_number(&self, name: &str, default: u64) -> Result<u64, Refusal> {
        let Some(text) = self.query(name) else { return Ok(default) };
        text.parse().map_err(|_| Refusal::Request {
            place: format!("?{name}={text}"),
            what: "not a number".to_owned(),
            mend: "write decimal digits".to_owned(),
        })
    }

    /// The body as JSON of this type.
    ///
    /// # Errors
    /// [`Refusal::Request`] with the place where it fails.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        serde_json::from_slice(&self.body).map_err(|error| Refusal::Request {
            place: "body".to_owned(),
            what: error.to_string(),
            mend: "send the JSON object that the route takes".to_owned(),
        })
    }
}

/// The routes as an HTTP service that answers for `desk`.
pub fn router<D: Send + Sync + 'static>(routes: &'static [Route<D>], desk: &Arc<D>) -> Router {
    let large = Arc::new(Semaphore::new(API_LARGE_BODIES_MAX));
    let mut router = Router::new();
    for route in routes {
        let filter = MethodFilter::try_from(route.method.clone()).expect("the table has usual methods only");
        let (desk, large) = (Arc::clone(desk), Arc::clone(&large));
        router = router.route(
            route.path,
            on(
                filter,
                move |params: Result<RawPathParams, RawPathParamsRejection>, query: RawQuery, request: Request| {
                    let (desk, large) = (Arc::clone(&desk), Arc::clone(&large));
                    async move {
                        match params {
                            Ok(params) => respond(route, desk, large, &params, query, request).await,
                            Err(rejection) => Refusal::Request {
                                place: "path".to_owned(),
                                what: rejection.to_string(),
                                mend: "write names in UTF-8, percent-encoded".to_owned(),
                            }
                            .into_response(),
                        }
                    }
                },
            ),
        );
    }
    router.fallback(absent).method_not_allowed_fallback(absent)
}

async fn absent(method: Method, uri: Uri) -> Response {
    Refusal::Route { method: method.to_string(), path: uri.path().to_owned() }.into_response()
}

async fn respond<D: Send + Sync + 'static>(
    route: &'static Route<D>,
    desk: Arc<D>,
    large: Arc<Semaphore>,
    params: &RawPathParams,
    RawQuery(query): RawQuery,
    request: Request,
) -> Response {
    let place = match route.body {
        Body::File => Some(large.acquire_owned().await.expect("nobody closes it")),
        Body::Json => None,
    };
    let call = match collect(route.body, params, query.as_deref(), request).await {
        Ok(call) => call,
        Err(refusal) => return refusal.into_response(),
    };
    let answer = tokio::task::spawn_blocking(move || {
        let answered = (route.answer)(&desk, &call);
        // The body and its place go when the work is done, even where the peer that asked has gone before.
        drop((call, place));
        answered
    })
    .await;
    match answer {
        Ok(Ok(value)) => Json(value).into_response(),
        Ok(Err(refusal)) => refusal.into_response(),
        Err(_) => {
            let text = format!("{} {}: the answer failed inside; please report it", route.method, route.path);
            Refusal::Host { text }.into_response()
        }
    }
}

async fn collect(body: Body, params: &RawPathParams, query: Option<&str>, request: Request) -> Result<Call, Refusal> {
    let max = body.len_max();
    let limit = usize::try_from(max).expect("a 64-bit machine");
    let whole = Limited::new(request.into_body(), limit).collect();
    let whole = tokio::time::timeout(Duration::from_millis(API_BODY_TIME_MAX_MS), whole).await;
    let whole = whole.map_err(|_| Refusal::Slow { ms: API_BODY_TIME_MAX_MS })?;
    let whole = whole.map_err(|error| {
        if error.is::<LengthLimitError>() {
            return Refusal::Long { max };
        }
        Refusal::Request {
            place: "body".to_owned(),
            what: "it breaks off or is badly framed".to_owned(),
            mend: "send it whole".to_owned(),
        }
    })?;
    Ok(Call {
        params: params.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        query: query.map(pairs).unwrap_or_default(),
        body: whole.to_bytes(),
    })
}

/// The pairs of `a=b&c=d`, percent signs decoded; bytes that are no UTF-8 become the replacement character.
fn pairs(query: &str) -> Vec<(String, String)> {
    let pair = |part: &str| {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        (unescape(key), unescape(value))
    };
    query.split('&').filter(|part| !part.is_empty()).map(pair).collect()
}

fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        let escaped = escaped.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let escaped = escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        plain.push(escaped.unwrap_or(if bytes[at] == b'+' { b' ' } else { bytes[at] }));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_cut_into_decoded_pairs() {
        let own = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(
            pairs("name=a%2fb.o&x=1+2&y&&z=%"),
            [own("name", "a/b.o"), own("x", "1 2"), own("y", ""), own("z", "%")]
        );
        assert_eq!(pairs("a=%+1&b=%é1"), [own("a", "% 1"), own("b", "%é1")]);
    }

    #[test]
    fn a_number_in_the_query_is_read_or_refused() {
        let call = Call { query: pairs("since=7&wait_ms=soon"), ..Call::default() };
        assert_eq!(call.query_number("since", 0).expect("a number"), 7);
        assert_eq!(call.query_number("more", 3).expect("the default"), 3);
        let refusal = call.query_number("wait_ms", 0).expect_err("no number");
        assert_eq!(refusal.to_string(), "?wait_ms=soon: not a number; write decimal digits");
    }

    /// A desk whose answers wait until they are let go.
    #[derive(Default)]
    struct Slow {
        running: std::sync::Mutex<usize>,
        let_go: std::sync::Condvar,
        may_end: std::sync::atomic::AtomicBool,
    }

    fn slow(desk: &Slow, _: &Call) -> Result<Value, Refusal> {
        let mut running = desk.running.lock().expect("a count");
        *running += 1;
        while !desk.may_end.load(std::sync::atomic::Ordering::Relaxed) {
            running = desk.let_go.wait(running).expect("a count");
        }
        *running -= 1;
        Ok(Value::Null)
    }

    static SLOW: &[Route<Slow>] =
        &[Route { path: "/file", method: Method::POST, what: "Takes its time.", body: Body::File, answer: slow }];

    /// An empty body that says when somebody begins to receive it.
    struct Told(Arc<std::sync::atomic::AtomicBool>);

    impl hyper::body::Body for Told {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
            self.0.store(true, std::sync::atomic::Ordering::Relaxed);
            std::task::Poll::Ready(None)
        }
    }

    #[tokio::test]
    async fn a_large_body_keeps_its_place_until_its_work_is_done_though_its_peer_went() {
        use hyper::service::Service;
        let desk = Arc::new(Slow::default());
        let service = Arc::new(hyper_util::service::TowerToHyperService::new(router(SLOW, &desk)));
        let ask = |begun: &Arc<std::sync::atomic::AtomicBool>| {
            let request = hyper::Request::post("/file").body(axum::body::Body::new(Told(Arc::clone(begun))));
            tokio::spawn(service.call(request.expect("a request")))
        };
        let asked: Vec<_> = (0..API_LARGE_BODIES_MAX).map(|_| ask(&Arc::default())).collect();
        while *desk.running.lock().expect("a count") < API_LARGE_BODIES_MAX {
            tokio::task::yield_now().await;
        }
        for gone in asked {
            gone.abort();
            assert!(gone.await.expect_err("it was cut off").is_cancelled());
        }
        let begun = Arc::default();
        let late = ask(&begun);
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(!begun.load(std::sync::atomic::Ordering::Relaxed), "no place is free while the others work");
        desk.may_end.store(true, std::sync::atomic::Ordering::Relaxed);
        desk.let_go.notify_all();
        let answer = late.await.expect("no panic").expect("infallible");
        assert_eq!(answer.status(), axum::http::StatusCode::OK);
        assert!(begun.load(std::sync::atomic::Ordering::Relaxed));
    }
}
