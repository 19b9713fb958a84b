//! Ports and hooks by the API, and by the commands that speak it.

use std::ffi::OsString;

use hyper::Method;
use kumite::cli::{self, Exit};
use serde_json::{Value, json};

use super::routes::Served;

/// What a command said, or what it complained of.
fn kumite(served: &Served, line: &str) -> (Exit, String) {
    let words = line.split(' ').map(OsString::from);
    let api = ["--api", &served.client.address().to_string()].map(OsString::from);
    let (mut out, mut complaints) = (Vec::new(), Vec::new());
    let args = std::iter::once(OsString::from("kumite")).chain(words).chain(api);
    let exit = cli::main(args, &mut out, &mut complaints);
    out.extend(complaints);
    (exit, String::from_utf8(out).expect("text"))
}

#[test]
fn ports_come_and_go_by_the_api_and_hooks_of_theirs_take_programs_in_order() {
    let served = Served::with_objects();
    let send = |method: Method, path: &str, body: Value| served.client.send(&method, path, &body).expect("taken");
    let added = send(Method::POST, "/v1/ports", json!({ "name": "lan", "port": "link:api-card" }));
    assert_eq!(added, json!({ "port": "lan", "ifindex": 2, "spec": "link:api-card" }));
    let first = json!({ "program": "balance", "port": "lan", "priority": 60 });
    send(Method::POST, "/v1/hooks/xdp", first);
    send(Method::POST, "/v1/hooks/xdp", json!({ "program": "firewall", "port": "lan", "actions": "pass,drop" }));
    let hooks = served.client.get("/v1/hooks").expect("an answer");
    let lan = hooks.as_array().expect("a list").iter().find(|hook| hook["port"] == "lan").expect("three of them");
    let ids = |index: usize| lan["programs"][index]["id"].clone();
    assert_eq!(
        lan["programs"],
        json!([
            { "program": "firewall", "id": ids(0), "priority": 50, "actions": "drop,pass" },
            { "program": "balance", "id": ids(1), "priority": 60, "actions": "pass" },
        ])
    );
    let refused = |method, path: &str, body: Value| served.refused(method, path, &body);
    assert_eq!(
        refused(Method::DELETE, "/v1/objects/fw.o", json!({})),
        (422, "object fw.o: its program firewall sits on hook lan/xdp; detach it first".to_owned())
    );
    assert_eq!(
        refused(Method::POST, "/v1/hooks/xdp", json!({ "program": "balance", "port": "wan" })),
        (422, "port wan: no such port; list the ports for their names".to_owned())
    );
    assert_eq!(
        refused(Method::POST, "/v1/hooks/tc-egress", json!({ "program": "balance" })).1,
        "program balance: a xdp program cannot sit on hook tc-egress; attach a program of the hook's kind"
    );
    assert_eq!(
        refused(Method::PUT, "/v1/hooks/xdp", json!({})),
        (400, "body: names no program; send {\"program\": NAME}; DELETE empties a hook".to_owned())
    );
    assert_eq!(
        refused(Method::POST, "/v1/ports", json!({ "name": "wan", "port": "dpdk:0" })).1,
        "port \"dpdk:0\": no such kind; use af_xdp, link, packet, pcap, shm, tap or udp, and an address behind a colon"
    );
    send(Method::DELETE, "/v1/hooks/xdp?port=lan&program=firewall", json!({}));
    let both = json!([{ "program": "firewall", "priority": 1 }, { "program": "balance", "priority": 2 }]);
    send(Method::PUT, "/v1/hooks/xdp", json!({ "programs": both }));
    assert_eq!(served.host.attached(kumite::flow::Hook::Xdp).as_deref(), Some("firewall"));
    send(Method::DELETE, "/v1/ports/lan", json!({}));
    assert_eq!(
        refused(Method::DELETE, "/v1/ports/wire", json!({})),
        (422, "port wire: a host keeps its wire; stop the host instead".to_owned())
    );
    let stats = served.client.get("/v1/stats").expect("an answer");
    assert_eq!((stats["ports"].as_array().expect("a list").len(), &stats["removed"]["rx"]), (1, &json!(0)));
}

#[test]
fn commands_show_and_change_ports_and_hooks() {
    let served = Served::with_objects();
    let said = |line: &str| {
        let (exit, text) = kumite(&served, line);
        assert_eq!(exit, Exit::Done, "{line}: {text}");
        text
    };
    assert_eq!(said("port add lan link:cli-card"), "lan: link:cli-card, interface index 2\n");
    assert_eq!(said("hook attach balance xdp --port lan --priority 7"), "lan/xdp: balance, priority 7\n");
    said("hook attach firewall xdp --actions pass,drop");
    let hooks = said("hook list");
    assert_eq!(hooks.lines().count(), 7, "{hooks}");
    assert!(hooks.contains("drop,pass") && hooks.contains("balance (id:"), "{hooks}");
    let ports = said("port list");
    assert!(ports.contains("link:cli-card") && ports.lines().count() == 3, "{ports}");
    let stat = said("stat");
    assert!(stat.contains("lan: xdp (balance): pass 0"), "{stat}");
    let stat: Value = serde_json::from_str(&said("stat --json")).expect("JSON");
    assert_eq!(stat["ports"][1]["hooks"][0]["programs"][0]["priority"], json!(7));
    assert_eq!(said("hook detach xdp balance --port lan"), "lan/xdp: without balance\n");
    assert_eq!(said("hook detach xdp"), "xdp: empty\n");
    assert_eq!(said("port remove lan"), "lan: removed\n");
    let (exit, text) = kumite(&served, "port add lan nonsense");
    assert!(exit == Exit::Usage && text.starts_with("kumite: port \"nonsense\": no such kind"), "{text}");
    let (exit, text) = kumite(&served, "port remove lan");
    assert!(exit == Exit::Refused && text.contains("port lan: no such port"), "{text}");
}
