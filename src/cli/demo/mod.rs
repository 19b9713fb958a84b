//! `kumite demo`: two hosts spar for some seconds in this process, without privilege, compiler or configuration.
//!
//! A balances with tail calls, B filters; both send to each other over UDP on loopback while modes, a slot of a program
//! array and an entry of a map change under load.
//!
//! Invariant: needs no file but the binary itself.

mod bout;
mod screen;
mod script;
mod summary;

use std::io::{ErrorKind, IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use serde_json::json;

use super::asking::write_json;
use super::{CliError, Exit, Form, Out};
use crate::control::source::Rate;
use crate::port::udp::IoPath;
use bout::Bout;
use screen::{Medium, Screen};
use script::Script;

/// How often the live table is drawn, and how often a line is written where there is no terminal.
const DRAW_EVERY: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Let two hosts spar for some seconds
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Seconds, 1 to 3600
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Frames a second that each host offers, or max
    #[arg(long, value_name = "PPS", default_value = "max")]
    rate: Rate,
    /// How datagrams are moved: auto, ring or plain
    #[arg(long, default_value = "auto")]
    io: IoPath,
    /// Write the objects of the demonstration and their sources into a folder instead, for commands of your own
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    #[command(flatten)]
    form: Form,
}

pub(super) fn execute(args: &Args, out: Out<'_>) -> Result<Exit, CliError> {
    if let Some(folder) = &args.save {
        return save(folder, args, out);
    }
    let bout = Bout::start(args.io, args.rate)?;
    let mut script = Script::new(Duration::from_secs(args.seconds.into()));
    let medium = if io::stdout().is_terminal() { Medium::Terminal } else { Medium::Lines };
    let mut screen = Screen::new(&bout, medium);
    if !args.form.json {
        screen.begin(out)?;
    }
    let every = match medium {
        Medium::Terminal => DRAW_EVERY,
        Medium::Lines => LINE_EVERY,
    };
    let mut draw_at = every;
    while let Some(until) = script.next_at() {
        if args.form.json {
            bout.sleep_until(until);
        } else {
            // What ends with a step is shown before it: the last second too.
            while draw_at <= until {
                bout.sleep_until(draw_at);
                screen.draw(&bout, &script, out)?;
                draw_at += every;
            }
            bout.sleep_until(until);
        }
        if let Some(told) = script.step(&bout)?
            && !args.form.json
        {
            screen.tell(&bout, &script, &told, out)?;
        }
    }
    let result = bout.end();
    if args.form.json {
        write_json(out, &json!(summary::Summary::new(&result, &script)))?;
    } else {
        summary::write(&summary::Summary::new(&result, &script), out)?;
    }
    result.check()?;
    Ok(Exit::Done)
}

/// What `--save` writes.
const FILES: [(&str, &[u8]); 4] = [
    ("balancer.c", include_bytes!("balancer.c")),
    bout::BALANCER,
    ("firewall.c", include_bytes!("firewall.c")),
    bout::FIREWALL,
];

/// Writes the objects and their sources. A file that is there already is left alone.
fn save(folder: &Path, args: &Args, out: Out<'_>) -> Result<Exit, CliError> {
    let failed = |path: &Path, error: io::Error| {
        CliError::host_failed(format!("{}: cannot write it: {error}; name another folder", path.display()))
    };
    fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    let mut paths = Vec::new();
    for (name, bytes) in FILES {
        let path = folder.join(name);
        match fs::File::create_new(&path).and_then(|mut file| file.write_all(bytes)) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && fs::read(&path).is_ok_and(|own| own == bytes) => {
            }
            done => done.map_err(|error| failed(&path, error))?,
        }
        paths.push(path.display().to_string());
    }
    if args.form.json {
        write_json(out, &json!(paths))?;
    } else {
        writeln!(out, "{}", paths.join("\n"))?;
    }
    Ok(Exit::Done)
}
