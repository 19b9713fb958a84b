//! The control socket, served by routes of the test's own: files, permissions, limits, broken requests.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hyper::Method;
use kumite::control::{Address, Body, Call, Client, Listening, Refusal, Route, ServerError, router};
use kumite::limits::{API_CONNECTIONS_MAX, API_HEADERS_MAX};
use serde_json::{Value, json};

/// A desk that counts how often it was asked.
#[derive(Default)]
struct Desk {
    asked: AtomicU32,
}

static ROUTES: &[Route<Desk>] = &[
    Route { path: "/echo/{word}", method: Method::POST, what: "Repeats.", body: Body::Json, answer: echo },
    Route { path: "/file", method: Method::POST, what: "Measures.", body: Body::File, answer: file_len },
    Route { path: "/panic", method: Method::GET, what: "Fails inside.", body: Body::Json, answer: fail },
    Route { path: "/refuse", method: Method::GET, what: "Refuses.", body: Body::Json, answer: refuse },
];

fn echo(desk: &Desk, call: &Call) -> Result<Value, Refusal> {
    desk.asked.fetch_add(1, Ordering::Relaxed);
    let body: Value = call.json()?;
    Ok(json!({ "word": call.param("word"), "query": call.query("q"), "body": body }))
}

fn file_len(_: &Desk, call: &Call) -> Result<Value, Refusal> {
    Ok(json!({ "len": call.body.len() }))
}

fn fail(_: &Desk, _: &Call) -> Result<Value, Refusal> {
    panic!("a route that fails inside, on purpose");
}

fn refuse(_: &Desk, _: &Call) -> Result<Value, Refusal> {
    Err(Refusal::Absent { kind: "map", name: "x".to_owned(), mend: "GET /v1/maps lists them" })
}

/// A folder of the test's own, removed at its end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("kumite-test-{}-{number}", std::process::id()));
        fs::create_dir(&path).expect("a folder of our own");
        Self(path)
    }

    pub(crate) fn address(&self, name: &str) -> Address {
        format!("unix:{}", self.0.join(name).display()).parse().expect("an address")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn start(folder: &Folder) -> Listening {
    Listening::start(&folder.address("a"), router(ROUTES, &Arc::new(Desk::default()))).expect("it listens")
}

/// Sends bytes as they are and returns the whole answer.
fn raw(address: &Address, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(address.path()).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket option");
    // The host may answer and close before it has read everything.
    let _ = stream.write_all(request);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_request_reaches_its_route_with_path_query_and_body() {
    let folder = Folder::new();
    let listening = start(&folder);
    let client = Client::new(listening.address()).expect("a client");
    let answer = client.send(&Method::POST, "/echo/a%2Fb?q=1%202", &json!({ "n": 3 })).expect("an answer");
    assert_eq!(answer, json!({ "word": "a/b", "query": "1 2", "body": { "n": 3 } }));
}

#[test]
fn the_socket_is_for_its_user_alone_and_goes_with_the_host() {
    let folder = Folder::new();
    let listening = start(&folder);
    let path = listening.address().path().to_owned();
    assert_eq!(fs::metadata(&path).expect("the socket").permissions().mode() & 0o777, 0o600);
    drop(listening);
    assert!(!path.exists());
}

#[test]
fn a_live_socket_is_refused_and_a_dead_one_replaced() {
    let folder = Folder::new();
    let address = folder.address("a");
    drop(std::os::unix::net::UnixListener::bind(address.path()).expect("a socket"));
    assert!(address.path().exists(), "the dead host left its file");
    let listening = start(&folder);
    let error = Listening::start(&address, router(ROUTES, &Arc::new(Desk::default()))).expect_err("it lives");
    assert_eq!(error.to_string(), format!("api {address}: another host listens there; name another path"));
    drop(listening);
    fs::write(address.path(), "a letter").expect("a file");
    let error = Listening::start(&address, router(ROUTES, &Arc::new(Desk::default()))).expect_err("a file");
    assert_eq!(error.to_string(), format!("api {address}: the file there is no socket; name another path"));
    assert_eq!(fs::read_to_string(address.path()).expect("untouched"), "a letter");
    let lost: Address = "unix:/proc/kumite/a".parse().expect("an address");
    let error = Listening::start(&lost, router(ROUTES, &Arc::new(Desk::default()))).expect_err("no such folder");
    assert!(matches!(error, ServerError::System { step: "make the folder", .. }), "{error}");
}

#[test]
fn a_folder_that_stays_locked_is_given_up() {
    let folder = Folder::new();
    let lock = fs::File::open(&folder.0).expect("the folder");
    lock.lock().expect("a lock");
    let address = folder.address("a");
    let error = Listening::start(&address, router(ROUTES, &Arc::new(Desk::default()))).expect_err("locked");
    assert_eq!(
        error.to_string(),
        format!("api {address}: the folder is locked by another process; name a path in a folder of your own")
    );
}

#[test]
fn of_many_hosts_that_want_one_address_one_gets_it() {
    let folder = Folder::new();
    let address = folder.address("a");
    drop(std::os::unix::net::UnixListener::bind(address.path()).expect("a dead host's file"));
    let starts: Vec<_> = (0..8)
        .map(|_| {
            let address = address.clone();
            std::thread::spawn(move || Listening::start(&address, router(ROUTES, &Arc::new(Desk::default()))).ok())
        })
        .collect();
    let got: Vec<_> = starts.into_iter().filter_map(|start| start.join().expect("no panic")).collect();
    assert_eq!(got.len(), 1);
    let client = Client::new(&address).expect("a client");
    assert_eq!(client.call(&Method::POST, "/file", "abc".into()).expect("an answer"), json!({ "len": 3 }));
}

#[test]
fn what_a_route_does_not_take_is_refused_with_its_reason() {
    let folder = Folder::new();
    let listening = start(&folder);
    let client = Client::new(listening.address()).expect("a client");
    let refused = |method: Method, path: &str, body: Vec<u8>| {
        client.call(&method, path, body.into()).expect_err("refused").to_string()
    };
    assert_eq!(refused(Method::GET, "/nowhere", vec![]), "GET /nowhere: no such route; GET /v1/routes lists them");
    assert_eq!(refused(Method::DELETE, "/file", vec![]), "DELETE /file: no such route; GET /v1/routes lists them");
    assert_eq!(
        refused(Method::GET, "/refuse", vec![]),
        "map x: the host has none of this name; GET /v1/maps lists them"
    );
    assert_eq!(
        refused(Method::POST, "/echo/x", b"{".to_vec()),
        "body: EOF while parsing an object at line 1 column 1; send the JSON object that the route takes"
    );
    assert_eq!(
        refused(Method::POST, "/echo/x", vec![b' '; 70_000]),
        "body: longer than 65536 bytes; send less at once"
    );
    assert_eq!(refused(Method::GET, "/panic", vec![]), "GET /panic: the answer failed inside; please report it");
    let file = client.call(&Method::POST, "/file", vec![0; 1 << 20].into()).expect("files may be long");
    assert_eq!(file, json!({ "len": 1 << 20 }));
}

#[test]
fn broken_requests_end_their_own_connection_only() {
    let folder = Folder::new();
    let listening = start(&folder);
    let address = listening.address();
    let many_headers = (0..=API_HEADERS_MAX).map(|n| format!("x-{n}: 1\r\n")).collect::<String>();
    let long_head = format!("GET /file HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    let broken: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"\r\n\r\n".to_vec(),
        b"GET".to_vec(),
        b"GET /refuse HTTP/9.9\r\n\r\n".to_vec(),
        b"POST /file HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n".to_vec(),
        b"POST /file HTTP/1.1\r\nhost: a\r\ncontent-length: 18446744073709551615\r\n\r\nabc".to_vec(),
        b"POST /file HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nabc".to_vec(),
        b"POST /file HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_vec(),
        b"POST /file HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n".to_vec(),
        b"POST /file HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc".to_vec(),
        b"POST /echo/%ff%fe HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        format!("GET /refuse HTTP/1.1\r\n{many_headers}\r\n").into_bytes(),
        long_head.into_bytes(),
    ];
    for request in &broken {
        let answer = raw(address, request);
        assert!(!answer.starts_with("HTTP/1.1 200"), "{}: {answer}", String::from_utf8_lossy(request));
        // What does not even look like a request is closed without a word.
        assert!(answer.is_empty() || answer.contains("\r\n\r\n{\"error\":\""), "{answer}");
        if request.starts_with(b"GET /refuse HTTP/1.1") || request.starts_with(b"GET /file") {
            assert!(
                answer.starts_with("HTTP/1.1 431 ") && answer.contains("more than 32 fields; send less"),
                "{answer}"
            );
        }
        if request.windows(19).any(|part| part == b"content-length: -1\r") {
            assert!(answer.contains("request: its head is no HTTP/1.1; begin for example with"), "{answer}");
        }
        if request.starts_with(b"POST /echo/%ff") {
            assert!(answer.contains("{\"error\":\"path: Invalid UTF-8 in `word`; write names in UTF-8"), "{answer}");
        }
    }
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..300 {
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let len = usize::try_from(next() % 200).expect("small");
        let mut request = if next() % 2 == 0 { b"POST /file HTTP/1.1\r\n".to_vec() } else { Vec::new() };
        request.extend((0..len).map(|_| next().to_le_bytes()[0]));
        raw(address, &request);
    }
    let client = Client::new(address).expect("a client");
    assert_eq!(client.call(&Method::POST, "/file", "abc".into()).expect("it still answers"), json!({ "len": 3 }));
}

#[test]
fn a_head_that_never_ends_is_cut_off_in_time() {
    let folder = Folder::new();
    let listening = start(&folder);
    let begin = Instant::now();
    let open = [&b"GET /refuse HTTP/1.1\r\nhost: a\r\n"[..], b""].map(|start| {
        let mut stream = UnixStream::connect(listening.address().path()).expect("it listens");
        stream.write_all(start).expect("room in the socket");
        stream
    });
    for mut stream in open {
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket option");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("the host closes");
    }
    assert!(begin.elapsed() < Duration::from_secs(25), "{:?}", begin.elapsed());
}

#[test]
fn connections_beyond_the_limit_are_told_so() {
    let folder = Folder::new();
    let listening = start(&folder);
    let open: Vec<_> = (0..API_CONNECTIONS_MAX)
        .map(|_| UnixStream::connect(listening.address().path()).expect("it listens"))
        .collect();
    let client = Client::new(listening.address()).expect("a client");
    let give_up = Instant::now() + Duration::from_secs(4);
    let error = loop {
        match client.call(&Method::POST, "/file", "abc".into()) {
            Err(error) => break error,
            Ok(_) => assert!(Instant::now() < give_up, "the host never counted the open connections"),
        }
    };
    assert_eq!(error.to_string(), "api: 32 connections are open already; close one and try again");
    drop(open);
    let give_up = Instant::now() + Duration::from_secs(10);
    while client.call(&Method::POST, "/file", "abc".into()).is_err() {
        assert!(Instant::now() < give_up, "closed connections are never given back");
    }
}

#[test]
fn another_user_gets_no_answer() {
    let folder = Folder::new();
    let listening = start(&folder);
    // The folder and the socket are opened wide, so that only the check of the peer is left.
    let wide = |mode| fs::Permissions::from_mode(mode);
    fs::set_permissions(&folder.0, wide(0o777)).expect("our folder");
    fs::set_permissions(listening.address().path(), wide(0o666)).expect("our socket");
    let script = "import os,socket,sys\nos.setuid(65534)\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n\
                  s.sendall(b'POST /file HTTP/1.1\\r\\nhost: a\\r\\ncontent-length: 0\\r\\n\\r\\n')\n\
                  print(s.makefile().read())";
    let output = Command::new("python3").args(["-c", script]).arg(listening.address().path()).output();
    match output {
        Ok(output) if output.status.success() => {
            let answer = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
            assert!(
                answer
                    .contains("api: user 65534 may not command this host; run as the user who started it, or as root")
            );
        }
        _ => {
            assert!(std::env::var_os("REQUIRE_ALL").is_none(), "needs root and python3");
            println!("skipped: needs root and python3 to become another user");
        }
    }
}
