//! What programs ask about the network: options of the commands that have a world, and the files behind them.
//!
//! Invariant: a file is taken whole or the command fails.

use std::path::{Path, PathBuf};

use super::{CliError, object_file};
use crate::run::World;
use crate::run::routes::Routes;
use crate::run::sockets::Socket;

/// Most bytes of a file that describes the network: some hundred thousand routes as `ip -j` prints them.
const NETWORK_LEN_MAX: u64 = 64 << 20;

/// What programs ask about the network.
#[derive(Debug, clap::Args)]
pub(super) struct Surroundings {
    /// Interfaces, routes and neighbours that programs ask for, as JSON: {"interfaces": [..], "routes": [..],
    /// "routes6": [..], "neighbours": [..]} with what ip -j address, ip -j route, ip -6 -j route and ip -j neigh print
    #[arg(long, value_name = "FILE")]
    routes: Option<PathBuf>,
    /// Sockets that programs look up, as JSON: [{"protocol": "tcp", "local": "10.0.0.1:80", "state": "LISTEN"}, ..], with
    /// remote, interface, mark, priority and v6only where they have them
    #[arg(long, value_name = "FILE")]
    sockets: Option<PathBuf>,
}

/// What the files of the options say.
pub(super) struct Known {
    pub(super) routes: Option<Routes>,
    pub(super) sockets: Option<Vec<Socket>>,
}

impl Surroundings {
    /// Reads the files.
    pub(super) fn read(&self) -> Result<Known, CliError> {
        let routes = self.routes.as_deref().map(|path| {
            let refused = |error| CliError::refused(format!("{}: {error}", path.display()));
            Routes::parse(&text(path)?).map_err(refused)
        });
        let sockets = self.sockets.as_deref().map(|path| {
            let refused = |error| CliError::refused(format!("{}: {error}", path.display()));
            Socket::parse_list(&text(path)?).map_err(refused)
        });
        Ok(Known { routes: routes.transpose()?, sockets: sockets.transpose()? })
    }

    /// Gives them to a world.
    pub(super) fn furnish(&self, world: &World) -> Result<(), CliError> {
        let Known { routes, sockets } = self.read()?;
        if let Some(routes) = routes {
            world.routes.replace(routes);
        }
        sockets.map_or(Ok(()), |sockets| world.sockets.replace(sockets).map_err(CliError::host_failed))
    }
}

fn text(path: &Path) -> Result<String, CliError> {
    let wrong = |_| CliError::refused(format!("{}: it is no text; write JSON", path.display()));
    String::from_utf8(object_file::bytes(path, NETWORK_LEN_MAX)?).map_err(wrong)
}
