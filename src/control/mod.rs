//! Who commands: HTTP and JSON on a Unix socket, beside the data path.
//!
//! [`Address`] says where a host listens. [`Listening`] serves routes there, one [`Route`] value each; [`Client`] is the
//! other side. What the routes say about hosts is in `api`.
//!
//! Invariant: a worker never waits for anything here; what is slow runs on a thread of its own.

mod address;
pub mod api;
mod client;
mod elements;
mod journal;
mod refusal;
mod refused_head;
mod route;
mod server;
pub mod source;
pub mod view;

pub use address::{Address, AddressError};
pub use client::{Breach, Client, ClientError, escape};
pub use refusal::Refusal;
pub use route::{Body, Call, Route, router};
pub use server::{Listening, ServerError};
