//! `kumite map`: maps of a running host.
//!
//! Invariant: a dump ends, however the map changes meanwhile, and shows no key twice.

use std::collections::HashSet;

use hyper::Method;
use serde_json::{Value, json};

use super::asking::{typed, write_json};
use super::prog::object_named;
use super::table::{Table, grouped};
use super::{Api, CliError, Exit, Form, Out, bytes};
use crate::control::view::{ElementsView, MapView};
use crate::control::{Client, escape};
use crate::maps::{MAP_TYPES, MapKind};
use crate::report::{Element, from_hex, sort, to_hex};

/// List, read and change maps of a running host
#[derive(Debug, clap::Args)]
#[command(after_help = FORMS)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

const FORMS: &str = "Keys and values: hex 0a 00 00 01 | 3 | 10 0 0 1 (bytes) | 10.0.0.1 | 10.0.0.0/8 (prefix length, \
                     address) | fd00::1 | 02:00:00:00:00:01 | 53u16 (little-endian) | 53be16 (big-endian)";

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List the maps; of ring buffers and perf event arrays, with the records lost because they were full
    List {
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        form: Form,
    },
    /// Show all elements of a map
    Dump {
        /// Name of the map, OBJECT/MAP where several have it, or id:NUMBER
        map: String,
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        form: Form,
    },
    /// Show an element: NAME [key] KEY
    #[command(after_help = FORMS)]
    Lookup {
        /// Name of the map, OBJECT/MAP, or id:NUMBER
        map: String,
        /// [key] KEY
        #[arg(value_name = "KEY", required = true, allow_negative_numbers = true)]
        words: Vec<String>,
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        form: Form,
    },
    /// Insert or replace an element: NAME key KEY value VALUE [any|noexist|exist], value prog PROGRAM, or value map MAP
    #[command(after_help = FORMS)]
    Update {
        /// Name of the map, OBJECT/MAP, or id:NUMBER
        map: String,
        /// key KEY value VALUE [any|noexist|exist]; the two marks may be left out where each is one word
        #[arg(value_name = "WORDS", required = true, allow_negative_numbers = true)]
        words: Vec<String>,
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        form: Form,
    },
    /// Remove an element: NAME [key] KEY
    #[command(after_help = FORMS)]
    Delete {
        /// Name of the map, OBJECT/MAP, or id:NUMBER
        map: String,
        /// [key] KEY
        #[arg(value_name = "KEY", required = true, allow_negative_numbers = true)]
        words: Vec<String>,
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        form: Form,
    },
}

pub(super) fn execute(args: &Args, out: Out<'_>) -> Result<Exit, CliError> {
    match &args.action {
        Action::List { api, form } => list(&api.client()?, form, out),
        Action::Dump { map, api, form } => dump(&api.client()?, map, form, out),
        Action::Lookup { map, words, api, form } => {
            let client = api.client()?;
            let path = element_path(&client, map, words)?;
            let element: Element = typed(&client, client.get(&path)?)?;
            write_elements(&[element], form, out)
        }
        Action::Update { map, words, api, form } => update(&api.client()?, map, words, form, out),
        Action::Delete { map, words, api, form } => {
            let client = api.client()?;
            let path = element_path(&client, map, words)?;
            let answer = client.call(&Method::DELETE, &path, Default::default())?;
            if form.json {
                write_json(out, &answer)?
            } else {
                writeln!(out, "{map}: element deleted")?
            }
            Ok(Exit::Done)
        }
    }
}

fn list(client: &Client, form: &Form, out: Out<'_>) -> Result<Exit, CliError> {
    let answer = client.get("/v1/maps")?;
    if form.json {
        write_json(out, &answer)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["id", "map", "object", "type", "key", "value", "entries", "flags", "lost"]);
    for map in typed::<Vec<MapView>>(client, answer)? {
        table.row([
            map.id.to_string(),
            map.name,
            object_named(&map.object, map.object_id),
            map.kind,
            map.key_len.to_string(),
            map.value_len.to_string(),
            grouped(map.max_entries.into()),
            format!("{:#x}", map.flags),
            map.lost.map(grouped).unwrap_or_default(),
        ]);
    }
    table.write(out)?;
    Ok(Exit::Done)
}

fn dump(client: &Client, map: &str, form: &Form, out: Out<'_>) -> Result<Exit, CliError> {
    let view = view(client, map)?;
    // A host of another version may have types that are unknown here.
    let kind = MAP_TYPES.iter().map(|map_type| map_type.kind).find(|kind| kind.to_string() == view.kind);
    let path = format!("/v1/maps/{}/elements", escape(map));
    let all = gather(kind, view.max_entries, |after| {
        let after = after.map(|key| format!("?after={key}")).unwrap_or_default();
        typed(client, client.get(&format!("{path}{after}"))?)
    })?;
    write_elements(&all, form, out)
}

/// All elements, each key once, from parts that `ask` gives: those behind a key, or the first ones. Of a map that changes
/// meanwhile, what it held at some moment of the walk.
fn gather(
    kind: Option<MapKind>,
    max_entries: u32,
    mut ask: impl FnMut(Option<&str>) -> Result<ElementsView, CliError>,
) -> Result<Vec<Element>, CliError> {
    let mut seen = HashSet::new();
    let mut all: Vec<Element> = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let part = ask(after.as_deref())?;
        let before = all.len();
        all.extend(part.elements.into_iter().filter(|element| seen.insert(element.key.clone())));
        // A hash in which the last key was deleted begins anew; a part of a program array may be empty.
        let is_anew = all.len() == before && kind != Some(MapKind::PROGRAM_ARRAY);
        after = part.next.filter(|_| !is_anew && all.len() < max_entries as usize);
        if after.is_none() {
            break;
        }
    }
    if let Some(kind) = kind {
        sort(kind, &mut all);
    }
    Ok(all)
}

fn write_elements(elements: &[Element], form: &Form, out: Out<'_>) -> Result<Exit, CliError> {
    if form.json {
        write_json(out, &json!(elements))?;
        return Ok(Exit::Done);
    }
    for element in elements {
        let key = spread(&element.key);
        match (element.program.as_ref(), element.value.as_ref()) {
            _ if element.map.is_some() => writeln!(out, "key {key}  map {}", element.map.as_deref().unwrap_or(""))?,
            (Some(program), _) => writeln!(out, "key {key}  program {program}")?,
            (None, Some(value)) => writeln!(out, "key {key}  value {}{}", spread(value), as_number(value))?,
            (None, None) => {
                writeln!(out, "key {key}")?;
                for (worker, value) in element.values.iter().enumerate() {
                    writeln!(out, "    worker {worker}  value {}{}", spread(value), as_number(value))?;
                }
            }
        }
        if let Some(formatted) = element.formatted.as_ref().filter(|formatted| says_more(formatted)) {
            writeln!(out, "    {formatted}")?;
        }
    }
    Ok(Exit::Done)
}

/// Whether a key or value by its type is more than a number.
fn says_more(formatted: &Value) -> bool {
    let mut parts = formatted.as_object().into_iter().flatten();
    parts.any(|(part, value)| match value.as_array() {
        Some(values) if part == "values" => !values.iter().all(Value::is_number),
        _ => !value.is_number(),
    })
}

/// Digits two by two, as bpftool shows them.
fn spread(digits: &str) -> String {
    let pairs = digits.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair));
    pairs.collect::<Vec<_>>().join(" ")
}

/// What a value of 4 or 8 bytes is as a little-endian number.
fn as_number(digits: &str) -> String {
    let bytes = from_hex(digits).unwrap_or_default();
    let number = match *bytes.as_slice() {
        [a, b, c, d] => u64::from(u32::from_le_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => return String::new(),
    };
    format!("  ({number})")
}

fn view(client: &Client, map: &str) -> Result<MapView, CliError> {
    typed(client, client.get(&format!("/v1/maps/{}", escape(map)))?)
}

fn element_path(client: &Client, map: &str, words: &[String]) -> Result<String, CliError> {
    let words = if words.first().is_some_and(|word| word == "key") { &words[1..] } else { words };
    let key = bytes::parse("key", words, view(client, map)?.key_len as usize)?;
    Ok(format!("/v1/maps/{}/elements/{}", escape(map), to_hex(&key)))
}

fn update(client: &Client, map: &str, words: &[String], form: &Form, out: Out<'_>) -> Result<Exit, CliError> {
    let wanted = Wanted::read(words)?;
    let view = view(client, map)?;
    let key = bytes::parse("key", wanted.key, view.key_len as usize)?;
    let path = format!("/v1/maps/{}/elements/{}", escape(map), to_hex(&key));
    let body = match wanted.value {
        [prog, program] if prog == "prog" => json!({ "program": program, "flags": wanted.flags }),
        [map, inner] if map == "map" => json!({ "map": inner, "flags": wanted.flags }),
        words => {
            let value = bytes::parse("value", words, view.value_len as usize)?;
            json!({ "value": to_hex(&value), "flags": wanted.flags })
        }
    };
    let answer = client.send(&Method::PUT, &path, &body)?;
    if form.json {
        write_json(out, &answer)?
    } else {
        writeln!(out, "{map}: element updated")?
    }
    Ok(Exit::Done)
}

/// The words of an update, apart.
struct Wanted<'a> {
    key: &'a [String],
    value: &'a [String],
    flags: &'a str,
}

impl<'a> Wanted<'a> {
    fn read(words: &'a [String]) -> Result<Self, CliError> {
        let (words, flags) = match words {
            [first @ .., last] if ["any", "noexist", "exist"].contains(&last.as_str()) => (first, last.as_str()),
            all => (all, "any"),
        };
        if let Some(("key", rest)) = words.split_first().map(|(first, rest)| (first.as_str(), rest)) {
            let mark = rest.iter().position(|word| word == "value");
            if let Some(mark) = mark {
                return Ok(Self { key: &rest[..mark], value: &rest[mark + 1..], flags });
            }
            // As in `map update SLOTS key 3 prog NAME`.
            if let Some(mark) = rest.iter().position(|word| word == "prog") {
                return Ok(Self { key: &rest[..mark], value: &rest[mark..], flags });
            }
        } else if let [key, value] = words {
            return Ok(Self { key: std::slice::from_ref(key), value: std::slice::from_ref(value), flags });
        }
        Err(CliError::usage(format!(
            "map update {:?}: no key and value; write NAME key KEY value VALUE",
            words.join(" ")
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_words_of_an_update_come_apart() {
        for (text, key, value, flags) in [
            ("key hex 0a 00 value 1 2 noexist", "hex 0a 00", "1 2", "noexist"),
            ("key 3 value prog backend", "3", "prog backend", "any"),
            ("key 3 prog backend", "3", "prog backend", "any"),
            ("10.0.0.1 7", "10.0.0.1", "7", "any"),
        ] {
            let words = words(text);
            let wanted = Wanted::read(&words).expect("an update");
            assert_eq!((wanted.key.join(" "), wanted.value.join(" "), wanted.flags), (key.into(), value.into(), flags));
        }
        for text in ["1", "1 2 3", "key 1", "value 1 key 2"] {
            let error = Wanted::read(&words(text)).err().expect("no update");
            assert_eq!(error.text, format!("map update {text:?}: no key and value; write NAME key KEY value VALUE"));
            assert_eq!(error.exit, Exit::Usage);
        }
    }

    #[test]
    fn short_values_are_shown_as_numbers_too() {
        assert_eq!(as_number("01020000"), "  (513)");
        assert_eq!(as_number("0100000000000000"), "  (1)");
        assert_eq!(as_number("010203"), "");
        assert_eq!(spread("0a0b"), "0a 0b");
    }

    fn part(keys: impl IntoIterator<Item = u32>, next: Option<u32>) -> ElementsView {
        let digits = |key: u32| to_hex(&key.to_be_bytes());
        let element = |key| Element {
            key: digits(key),
            value: Some("00".to_owned()),
            values: Vec::new(),
            program: None,
            map: None,
            formatted: None,
        };
        ElementsView { elements: keys.into_iter().map(element).collect(), next: next.map(digits) }
    }

    #[test]
    fn a_dump_of_a_map_that_never_stands_still_ends() {
        // Every walk begins anew: the same keys again and again.
        let mut asked = 0;
        let again = gather(Some(MapKind::HASH), 1000, |_| {
            asked += 1;
            Ok(part([3, 1, 2], Some(2)))
        });
        let keys: Vec<String> = again.expect("parts").into_iter().map(|element| element.key).collect();
        assert_eq!((asked, keys), (2, ["00000001", "00000002", "00000003"].map(str::to_owned).to_vec()));
        // Every part brings keys that were not there before.
        let mut first = 0;
        let fresh = gather(Some(MapKind::HASH), 100, |_| {
            first += 10;
            Ok(part(first..first + 10, Some(first)))
        });
        assert_eq!(fresh.expect("parts").len(), 100);
        // A program array has gaps of any length.
        let mut parts = vec![part([9], None), part([], Some(8)), part([1], Some(4))];
        let slots = gather(Some(MapKind::PROGRAM_ARRAY), 10, |_| Ok(parts.pop().expect("asked for as many")));
        assert_eq!(slots.expect("parts").len(), 2);
    }
}
