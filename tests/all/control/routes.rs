//! What the routes of a host answer to requests that no command of ours would send.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use hyper::Method;
use kumite::control::api::{self, Desk, ROUTES};
use kumite::control::{Client, ClientError, Listening};
use kumite::flow::{Host, HostConfig};
use kumite::port::udp::WireConfig;
use serde_json::{Value, json};

use super::socket::Folder;

const BALANCER: &[u8] = include_bytes!("../../../src/cli/demo/balancer.o");
const FIREWALL: &[u8] = include_bytes!("../../../src/cli/demo/firewall.o");

/// A host in this process, with its control socket.
pub(crate) struct Served {
    pub(crate) client: Client,
    pub(crate) host: Arc<Host>,
    listening: Listening,
    _folder: Folder,
}

impl Served {
    fn start() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let port = 9000 + NEXT.fetch_add(1, Ordering::Relaxed);
        let [_, high, middle, low] = std::process::id().to_be_bytes();
        let peer = SocketAddr::new(Ipv4Addr::new(127, 192 | high & 0x1f, middle, low).into(), port);
        let local = SocketAddr::new(peer.ip(), 0);
        let host = Host::start(HostConfig::new("A", WireConfig { local, peer })).expect("a host");
        let desk = Arc::new(Desk::new(Arc::clone(&host)));
        let folder = Folder::new();
        let listening = Listening::start(&folder.address("a"), api::service(&desk)).expect("it listens");
        let client = Client::new(listening.address()).expect("a client");
        Self { client, host, listening, _folder: folder }
    }

    pub(crate) fn with_objects() -> Self {
        let served = Self::start();
        for (name, bytes) in [("lb.o", BALANCER), ("fw.o", FIREWALL)] {
            served.client.call(&Method::POST, &format!("/v1/objects?name={name}"), bytes.into()).expect("an object");
        }
        served
    }

    /// Status and text of a refusal.
    pub(crate) fn refused(&self, method: Method, path: &str, body: &Value) -> (u16, String) {
        match self.client.send(&method, path, body) {
            Err(ClientError::Refused { status, text }) => (status, text),
            other => panic!("{method} {path}: {other:?}"),
        }
    }
}

#[test]
fn a_host_tells_who_it_is_and_what_it_can() {
    let served = Served::with_objects();
    let host = served.client.get("/v1/host").expect("an answer");
    assert_eq!((&host["name"], &host["workers"]), (&json!("A"), &json!(1)));
    let hook = |name| json!({ "port": "wire", "hook": name, "program": null, "programs": [] });
    assert_eq!(host["hooks"], json!([hook("xdp"), hook("tc-ingress"), hook("tc-egress")]));
    assert_eq!((&host["ports"][0]["port"], &host["ports"][0]["ifindex"]), (&json!("wire"), &json!(1)));
    let routes = served.client.get("/v1/routes").expect("an answer");
    assert_eq!(routes.as_array().expect("a list").len(), ROUTES.len());
    let maps = served.client.get("/v1/maps").expect("an answer");
    let names: Vec<&str> = maps.as_array().expect("a list").iter().filter_map(|map| map["name"].as_str()).collect();
    assert_eq!(names, ["backends", "counters", ".rodata", "blocklist", "rules", "counters", "drops", ".rodata"]);
}

#[test]
fn of_maps_with_one_name_the_object_must_be_said() {
    let served = Served::with_objects();
    let value_len = |path: &str| served.client.get(path).expect("a map")["value_len"].clone();
    let text = "counters: several objects have it: fw.o, lb.o; say for example fw.o/counters".to_owned();
    assert_eq!(served.refused(Method::GET, "/v1/maps/counters", &json!({})), (409, text));
    assert_eq!(value_len("/v1/maps/lb.o%2Fcounters"), 16);
    assert_eq!(value_len("/v1/maps/fw.o%2Fcounters"), 8);
}

#[test]
fn requests_that_make_no_sense_are_refused_with_status_and_reason() {
    let served = Served::with_objects();
    let put = |path: &str, body: Value| served.refused(Method::PUT, path, &body);
    let own = |status: u16, text: &str| (status, text.to_owned());
    assert_eq!(
        put("/v1/maps/rules/elements/00", json!({ "value": "00" })),
        own(400, "map rules: key \"00\": not 4 bytes in hexadecimal; write 8 digits")
    );
    assert_eq!(
        put("/v1/maps/rules/elements/00000000", json!({ "value": "zz" })),
        own(400, "map rules: value \"zz\": not 16 bytes in hexadecimal; write 32 digits")
    );
    assert_eq!(
        put("/v1/maps/fw.o%2Fcounters/elements/00000000", json!({ "value": "0000000000000000", "flags": "sometimes" })),
        own(400, "map counters: flags \"sometimes\": no such condition; use any, noexist or exist")
    );
    let forms = "send {\"value\": DIGITS}; {\"program\": NAME} for a program array; {\"map\": NAME} for a map of maps";
    assert_eq!(
        put("/v1/maps/backends/elements/00000000", json!({ "value": "00000000" })),
        own(400, &format!("map backends: a program array holds programs; {forms}"))
    );
    assert_eq!(
        put("/v1/maps/backends/elements/00000000", json!({})),
        own(400, &format!("map backends: neither value, program nor map is given; {forms}"))
    );
    assert_eq!(
        put("/v1/maps/backends/elements/09000000", json!({ "program": "balance" })),
        own(
            422,
            "map backends (prog_array): storing an element: E2BIG; the map is full or the index lies outside; delete elements or \
             raise max_entries"
        )
    );
    assert_eq!(
        put("/v1/maps/fw.o%2F.rodata/elements/00000000", json!({ "value": "00000000" })),
        own(422, "map .rodata (array): storing an element: EPERM; the map is read-only for commands")
    );
    let (status, text) = put("/v1/hooks/xdp", json!({ "programme": "balance" }));
    assert_eq!(status, 400);
    assert!(
        text.starts_with("body: unknown field `programme`, expected one of `program`, `programs`, `port` at line 1"),
        "{text}"
    );
    assert_eq!(
        put("/v1/hooks/tc", json!({ "program": "x" })),
        own(400, "hook \"tc\": no such hook; use xdp, tc-ingress or tc-egress")
    );
    assert_eq!(
        put("/v1/modes", json!({ "program": "all", "mode": "turbo" })),
        own(400, "mode \"turbo\": no such mode; use fast, instrumented or verify")
    );
    assert_eq!(
        served.refused(Method::DELETE, "/v1/hooks/xdp", &json!({})),
        own(422, "hook xdp: no program is attached; attach one first")
    );
    let (status, text) = served.refused(Method::POST, "/v1/source", &json!({ "flows": "udp" }));
    assert_eq!(status, 422);
    assert!(text.starts_with("flows \"udp\": it ends before the source; "), "{text}");
    let flows = json!({ "flows": "udp 10.0.0.1 -> 10.0.0.2", "mac": "zz" });
    assert_eq!(
        served.refused(Method::POST, "/v1/source", &flows),
        own(400, "mac \"zz\": no Ethernet address; write it as 02:00:00:00:00:01")
    );
}

#[test]
fn a_host_has_one_source_at_a_time() {
    let served = Served::start();
    let flows = json!({ "flows": "udp 10.0.0.1 -> 10.0.0.2", "rate": "10", "time_ms": 60_000 });
    let first = served.client.send(&Method::POST, "/v1/source", &flows).expect("a source");
    assert_eq!(first["state"], "sending");
    let refused = served.refused(Method::POST, "/v1/source", &flows);
    let text = "source: one sends already; wait for its end, or stop it with kumite send --stop".to_owned();
    assert_eq!(refused, (409, text));
    let stopped = served.client.call(&Method::DELETE, "/v1/source", Default::default()).expect("an answer");
    assert_eq!(stopped["state"], "stopped");
    let second = served.client.send(&Method::POST, "/v1/source", &flows).expect("a source");
    assert_eq!(second["state"], "sending");
}

#[test]
fn an_object_that_is_none_is_refused_and_nothing_stays() {
    let served = Served::start();
    let mut state = 7_u64;
    for len in (0..BALANCER.len()).step_by(97) {
        let mut bytes = BALANCER[..len].to_vec();
        if let Some(byte) = bytes.get_mut(len / 2) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = state.to_be_bytes()[0];
        }
        match served.client.call(&Method::POST, "/v1/objects?name=cut.o", bytes.into()) {
            Err(ClientError::Refused { status: 422, text }) => {
                assert!(text.starts_with("cut.o: ") && text.contains("; "), "{text}");
            }
            other => panic!("{len} bytes of an object: {other:?}"),
        }
    }
    assert_eq!(served.client.get("/v1/maps").expect("an answer"), json!([]));
}

#[test]
fn random_requests_never_break_the_host() {
    let served = Served::with_objects();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |end: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).expect("31 bits") % end
    };
    let words = [
        "",
        "xdp",
        "all",
        "fast",
        "verify",
        "balance",
        "backend_0",
        "backends",
        "rules",
        "counters",
        "lb.o",
        "fw.o/rules",
        "00000000",
        "0",
        "zz",
        "é",
        "%00",
        "-1",
        "99999999999999999999",
        "udp 10.0.0.1 -> 10.0.0.2",
    ];
    let keys = ["program", "mode", "value", "flags", "flows", "rate", "count", "time_ms", "mac", "x"];
    for _ in 0..600 {
        let route = &ROUTES[below(ROUTES.len())];
        if route.path == "/v1/stop" {
            continue;
        }
        let mut path = String::new();
        for (index, part) in route.path.split('/').enumerate() {
            path += if index == 0 { "" } else { "/" };
            path += &if part.starts_with('{') {
                kumite::control::escape(words[below(words.len())])
            } else {
                part.to_owned()
            };
        }
        path += &format!(
            "?{}={}",
            ["since", "after", "name", "rate"][below(4)],
            kumite::control::escape(words[below(words.len())])
        );
        let body = match below(4) {
            0 => Value::Null,
            1 => json!([words[below(words.len())]]),
            _ => (0..below(4))
                .map(|_| {
                    let value = match below(4) {
                        0 => json!(below(5)),
                        1 => json!(null),
                        _ => json!(words[below(words.len())]),
                    };
                    (keys[below(keys.len())].to_owned(), value)
                })
                .collect::<serde_json::Map<_, _>>()
                .into(),
        };
        match served.client.send(&route.method, &path, &body) {
            Ok(_) => {}
            Err(ClientError::Refused { status: 400..=499, text }) => assert!(text.contains("; "), "{path}: {text}"),
            Err(error) => panic!("{} {path} {body}: {error}", route.method),
        }
    }
    served.client.get("/v1/stats").expect("it still answers");
}

#[test]
fn commands_from_many_clients_at_once_leave_a_whole_host() {
    let served = Served::with_objects();
    let attach = json!({ "program": "balance" });
    served.client.send(&Method::PUT, "/v1/hooks/xdp", &attach).expect("attached");
    std::thread::scope(|scope| {
        for number in 0..6 {
            let address = served.listening.address();
            scope.spawn(move || {
                let client = Client::new(address).expect("a client");
                for turn in 0..20 {
                    let mode = ["fast", "instrumented", "verify"][(number + turn) % 3];
                    client.send(&Method::PUT, "/v1/modes", &json!({ "program": "all", "mode": mode })).expect("a mode");
                    let program = ["backend_0", "backend_1", "backend_local"][turn % 3];
                    let slot = json!({ "program": program });
                    client.send(&Method::PUT, "/v1/maps/backends/elements/01000000", &slot).expect("a slot");
                    client.get("/v1/stats").expect("the books");
                }
            });
        }
    });
    let programs = served.client.get("/v1/programs").expect("an answer");
    let modes: Vec<&Value> = programs.as_array().expect("a list").iter().map(|program| &program["mode"]).collect();
    assert!(modes.windows(2).all(|pair| pair[0] == pair[1]), "{modes:?}");
}

#[test]
fn a_stopped_host_says_so() {
    let served = Served::with_objects();
    served.host.stop();
    let (status, text) = served.refused(Method::PUT, "/v1/hooks/xdp", &json!({ "program": "balance" }));
    assert_eq!((status, text.as_str()), (500, "host A: stopped; start another"));
}

#[test]
fn what_was_unloaded_is_neither_attached_nor_put_into_a_slot() {
    let served = Served::with_objects();
    let host = &served.host;
    let (id, _) = host.instances().into_iter().find(|(_, object)| object.name() == "lb.o").expect("loaded");
    let (map, program) = (host.map("backends").expect("loaded"), host.program("backend_0").expect("loaded"));
    host.replace_slot(&map, 2, Some(&program)).expect("both are loaded");
    host.unload(id).expect("on no hook");
    let refused = [
        host.attach(&program, kumite::flow::Hook::Xdp).expect_err("unloaded").to_string(),
        host.replace_slot(&map, 1, Some(&program)).expect_err("unloaded").to_string(),
    ];
    assert_eq!(
        refused,
        [
            "program backend_0: not loaded; load an object that has it",
            "map backends: not loaded; load an object that has it"
        ]
    );
    let again = served.client.call(&Method::POST, "/v1/objects?name=lb.o", BALANCER.into()).expect("an object");
    assert_eq!(again["id"], id.0 + 2);
    let map = host.map("backends").expect("loaded");
    let error = host.replace_slot(&map, 1, Some(&program)).expect_err("of the object before");
    assert_eq!(error.to_string(), "program backend_0: not loaded; load an object that has it");
    assert_eq!(host.attached(kumite::flow::Hook::Xdp), None);
}

#[test]
fn an_object_loaded_twice_is_reached_by_its_numbers() {
    let served = Served::start();
    let load = || served.client.call(&Method::POST, "/v1/objects?name=fw.o", FIREWALL.into()).expect("an object");
    let [old, new] = [load(), load()].map(|object| object["id"].clone());
    assert_ne!(old, new);
    let programs = served.client.get("/v1/programs").expect("an answer");
    let id_of = |object: &Value| {
        let own = programs.as_array().expect("a list").iter().find(|program| program["object_id"] == *object);
        own.expect("listed")["id"].clone()
    };
    let old_program = id_of(&old);
    let put = |path: &str, body: Value| served.client.send(&Method::PUT, path, &body).expect("done");
    put("/v1/hooks/xdp", json!({ "program": format!("id:{old_program}") }));
    let stats = served.client.get("/v1/stats").expect("the books");
    let on_hook: Vec<&Value> =
        stats["programs"].as_array().expect("a list").iter().filter(|p| !p["hook"].is_null()).collect();
    assert_eq!((on_hook.len(), &on_hook[0]["id"]), (1, &old_program));
    put("/v1/modes", json!({ "program": old_program.to_string(), "mode": "verify" }));
    let programs = served.client.get("/v1/programs").expect("an answer");
    let modes = programs.as_array().expect("a list").iter().map(|program| program["mode"].clone());
    assert_eq!(modes.collect::<Vec<_>>(), [json!("verify"), json!("fast")]);

    // Maps by their own number, and by that of their object.
    let element = "/elements/070000000a000000";
    let maps = served.client.get("/v1/maps").expect("an answer");
    let blocklist = maps.as_array().expect("a list").iter().find(|map| map["name"] == "blocklist").expect("listed");
    assert_eq!(blocklist["object_id"], old);
    put(&format!("/v1/maps/id%3A{}{element}", blocklist["id"]), json!({ "value": "0000000000000001" }));
    let value = |map: &str| served.client.get(&format!("/v1/maps/{map}{element}"));
    assert_eq!(value(&format!("id%3A{old}%2Fblocklist")).expect("there")["value"], "0000000000000001");
    assert!(value("blocklist").is_err(), "the newest object has another");

    let served_path = format!("/v1/objects/id%3A{old}");
    let in_use = served.refused(Method::DELETE, &served_path, &json!({})).1;
    assert_eq!(in_use, "object fw.o: its program firewall sits on hook xdp; detach it first");
    served.client.call(&Method::DELETE, &format!("/v1/objects/{new}"), Default::default()).expect("unloaded");
    let absent = served.refused(Method::DELETE, "/v1/objects/id:99", &json!({}));
    assert_eq!(absent, (404, "object id:99: the host has none of this name; see kumite prog list".to_owned()));
    let absent = served.refused(Method::PUT, "/v1/hooks/xdp", &json!({ "program": "id:999999" }));
    assert_eq!(absent.1, "program id:999999: the host has none of this name; see kumite prog list");
}

#[test]
fn what_is_said_of_an_object_in_the_query_reaches_it() {
    let served = Served::start();
    let load =
        |query: &str| served.client.call(&Method::POST, &format!("/v1/objects?name=fw.o{query}"), FIREWALL.into());
    load("&map-size=blocklist%3D77&type=firewall%3Dtc").expect("an object");
    let maps = served.client.get("/v1/maps").expect("a list");
    let blocklist = maps.as_array().expect("a list").iter().find(|map| map["name"] == "blocklist").expect("the map");
    assert_eq!(blocklist["max_entries"], 77);
    assert_eq!(served.client.get("/v1/programs").expect("a list")[0]["kind"], "tc");
    for (query, expected) in [
        ("&type=x", "type \"x\": no such kind of program; write [NAME=]xdp, tc, socket or flow_dissector"),
        ("&const=x%3D1", "fw.o: x=1: the object has no such variable; see `kumite inspect` for the object's variables"),
    ] {
        match load(query) {
            Err(ClientError::Refused { status, text }) => assert_eq!((status, text.as_str()), (422, expected)),
            other => panic!("{query}: {other:?}"),
        }
    }
    served.host.stop();
}
