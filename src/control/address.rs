//! Where a host listens for commands: `unix:PATH`, or the path alone where it has a slash.
//!
//! Invariant: an address is always a path that the kernel can bind.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::limits::API_PATH_LEN_MAX;

/// Where a host listens for commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    path: PathBuf,
}

/// A text that is no control address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It begins neither with `unix:` nor is it a path with a slash.
    #[error("api {text:?}: neither unix:PATH nor a path with a slash; write for example unix:/tmp/a.sock")]
    Scheme {
        /// The text.
        text: String,
    },
    /// The path is empty or holds a zero byte.
    #[error("api {text:?}: no path that a file can have; write for example unix:/tmp/a.sock")]
    Path {
        /// The text.
        text: String,
    },
    /// The kernel does not bind so long a path.
    #[error("api {text:?}: the path is longer than {API_PATH_LEN_MAX} bytes; choose a shorter one")]
    Long {
        /// The text.
        text: String,
    },
}

impl Address {
    /// The file of the socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let own = || text.to_owned();
        let path = match text.strip_prefix("unix:") {
            Some(path) => path,
            // As with bpftool and its like, a path says enough.
            None if text.contains('/') && !text.contains("://") => text,
            None => return Err(AddressError::Scheme { text: own() }),
        };
        if path.is_empty() || path.contains('\0') || path.ends_with('/') {
            return Err(AddressError::Path { text: own() });
        }
        if path.len() > API_PATH_LEN_MAX {
            return Err(AddressError::Long { text: own() });
        }
        Ok(Self { path: PathBuf::from(path) })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix:{}", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_printed_alike() {
        let address: Address = "unix:/tmp/a.sock".parse().expect("an address");
        assert_eq!(address.to_string(), "unix:/tmp/a.sock");
        assert_eq!(address.path(), Path::new("/tmp/a.sock"));
        assert_eq!("/tmp/a.sock".parse(), Ok(address));
        assert_eq!("./a.sock".parse::<Address>().expect("a path").to_string(), "unix:./a.sock");
    }

    #[test]
    fn other_texts_are_refused_with_the_form() {
        let refused = |text: &str| text.parse::<Address>().expect_err("no address").to_string();
        for text in ["a", "", "http://a/b", "tcp:1"] {
            let what = "neither unix:PATH nor a path with a slash; write for example unix:/tmp/a.sock";
            assert_eq!(refused(text), format!("api {text:?}: {what}"));
        }
        assert_eq!(refused("unix:"), "api \"unix:\": no path that a file can have; write for example unix:/tmp/a.sock");
        let long = format!("unix:/{}", "x".repeat(107));
        assert_eq!(refused(&long), format!("api {long:?}: the path is longer than 107 bytes; choose a shorter one"));
        assert!(format!("unix:/{}", "x".repeat(106)).parse::<Address>().is_ok());
    }
}
