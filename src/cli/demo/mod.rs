//! `kumite demo`: two hosts spar for some seconds in this process, without privilege, compiler or configuration.
//!
//! A balances with tail calls, B filters; both send to each other over UDP on loopback while modes, a slot of a program
//! array and an entry of a map change under load.

mod bout;
mod screen;
mod script;
mod summary;

use std::io::IsTerminal;
use std::time::Duration;

use serde_json::json;

use super::asking::write_json;
use super::{CliError, Exit, Form, Out};
use crate::control::source::Rate;
use crate::port::udp::IoPath;
use bout::Bout;
use screen::Screen;
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
    #[command(flatten)]
    form: Form,
}

pub(super) fn execute(args: &Args, out: Out<'_>) -> Result<Exit, CliError> {
    let bout = Bout::start(args.io, args.rate)?;
    let mut script = Script::new(Duration::from_secs(args.seconds.into()));
    let live = std::io::stdout().is_terminal();
    let mut screen = Screen::new(&bout, live);
    if !args.form.json {
        screen.begin(out)?;
    }
    let every = if live { DRAW_EVERY } else { LINE_EVERY };
    let mut draw_at = every;
    while let Some(until) = script.next_at() {
        if args.form.json {
            bout.sleep_until(until);
        } else {
            while draw_at < until {
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
