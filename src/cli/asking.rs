//! What commands that ask a running host have in common.
//!
//! Invariant: an answer of another form than this version knows is an error and never half shown.

use clap::Args;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{CliError, Out};
use crate::control::{Address, Client};

/// Which host to ask.
#[derive(Clone, Debug, Args)]
pub struct Api {
    /// Control socket of the host.
    #[arg(long, value_name = "unix:PATH", default_value = DEFAULT)]
    pub api: Address,
}

/// Where a host listens unless it is told otherwise.
pub(super) const DEFAULT: &str = "unix:/tmp/kumite.sock";

impl Api {
    /// A client for the host.
    ///
    /// # Errors
    /// Where the machine gives no event queue.
    pub fn client(&self) -> Result<Client, CliError> {
        Ok(Client::new(&self.api)?)
    }
}

/// For whom to write.
#[derive(Clone, Debug, Args)]
pub struct Form {
    /// Write JSON.
    #[arg(long)]
    pub json: bool,
}

/// Writes one JSON document.
pub(super) fn write_json(out: Out<'_>, value: &Value) -> Result<(), CliError> {
    serde_json::to_writer_pretty(&mut *out, value).map_err(std::io::Error::from)?;
    writeln!(out)?;
    Ok(())
}

/// The host's answer as the type that it should be.
pub(super) fn typed<T: DeserializeOwned>(client: &Client, value: Value) -> Result<T, CliError> {
    serde_json::from_value(value).map_err(|error| {
        let address = client.address();
        CliError::host_failed(format!("api {address}: an answer of another form ({error}); use kumite of one version"))
    })
}

/// What this process itself counted, as clients read it.
pub(super) fn typed_local<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("both forms are ours")
}
