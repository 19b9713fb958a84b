//! The listening side: a Unix socket of mode 0600, its connections, their limits.
//!
//! One thread with a small runtime of its own. A connection carries one request, as a host's user asks rarely and a
//! connection costs microseconds.
//!
//! Invariant: a socket file that a live host listens on is never replaced; nobody but our user and root gets an answer.

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio::sync::{Semaphore, oneshot};

use super::refused_head::Worded;
use super::{Address, Refusal};
use crate::limits::{
    API_CLAIM_TIME_MAX_MS, API_CONNECTION_TIME_MAX_MS, API_CONNECTIONS_MAX, API_HEAD_LEN_MAX, API_HEAD_TIME_MAX_MS,
    API_HEADERS_MAX, API_REFUSALS_MAX,
};

/// The control socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A host listens there already.
    #[error("api {address}: another host listens there; name another path")]
    Live {
        /// The address.
        address: Address,
    },
    /// Something that is no socket is in the way.
    #[error("api {address}: the file there is no socket; name another path")]
    NoSocket {
        /// The address.
        address: Address,
    },
    /// Others keep the folder locked.
    #[error("api {address}: the folder is locked by another process; name a path in a folder of your own")]
    Locked {
        /// The address.
        address: Address,
    },
    /// The system refused.
    #[error("api {address}: cannot {step}: {source}; name a path in a folder that you may write")]
    System {
        /// The address.
        address: Address,
        /// What was tried.
        step: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// A control socket that is being served; dropping it ends the service and removes the file.
#[derive(Debug)]
pub struct Listening {
    address: Address,
    /// The file that we made: another's is never removed.
    file: SocketFile,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What tells a socket file from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SocketFile {
    device: u64,
    inode: u64,
    /// User id of its owner: ours, where we made it.
    owner: u32,
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<Self> {
        fs::symlink_metadata(path).map(|found| Self { device: found.dev(), inode: found.ino(), owner: found.uid() })
    }
}

impl Listening {
    /// Claims the address and serves `router` there on a thread of its own.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn start(address: &Address, router: Router) -> Result<Self, ServerError> {
        let system = |step| move |source| ServerError::System { address: address.clone(), step, source };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(API_CONNECTIONS_MAX)
            .thread_name("kumite-answer")
            .build()
            .map_err(system("start a runtime"))?;
        let (listener, file) = {
            let _runtime = runtime.enter();
            claim(address)?
        };
        let owner = file.owner;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("kumite-api".to_owned())
            .spawn(move || {
                runtime.block_on(accept(listener, owner, router, stopped));
                // An answer in progress is cut off after this: the host is ending.
                runtime.shutdown_timeout(Duration::from_millis(500));
            })
            .map_err(system("start a thread"))?;
        Ok(Self { address: address.clone(), file, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // Fails only where the thread has ended already.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if SocketFile::at(self.address.path()).is_ok_and(|file| file == self.file) {
            let _ = fs::remove_file(self.address.path());
        }
    }
}

/// Binds the address, mode 0600 from the first moment on, replacing a file that a dead host left.
///
/// The folder is locked meanwhile, so that two hosts that find the same dead file do not replace each other's.
fn claim(address: &Address) -> Result<(UnixListener, SocketFile), ServerError> {
    let path = address.path();
    let system = |step| move |source| ServerError::System { address: address.clone(), step, source };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if !folder.exists() {
        DirBuilder::new().mode(0o700).create(folder).map_err(system("make the folder"))?;
    }
    let folder = File::open(folder).map_err(system("open the folder"))?;
    let give_up = Instant::now() + Duration::from_millis(API_CLAIM_TIME_MAX_MS);
    loop {
        match folder.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if Instant::now() < give_up => std::thread::sleep(Duration::from_millis(5)),
            Err(TryLockError::WouldBlock) => return Err(ServerError::Locked { address: address.clone() }),
            Err(TryLockError::Error(source)) => return Err(system("lock the folder")(source)),
        }
    }
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(system("look at the file")(source)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ServerError::NoSocket { address: address.clone() });
        }
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(system("remove the file of a dead host"))?;
            }
            Ok(_) => return Err(ServerError::Live { address: address.clone() }),
            Err(source) => return Err(system("ask whether a host lives there")(source)),
        },
    }
    let socket = UnixSocket::new_stream().map_err(system("make a socket"))?;
    // Linux takes the mode of the file from the socket that is bound.
    let handle = socket.as_fd().try_clone_to_owned().map_err(system("copy the socket"))?;
    File::from(handle).set_permissions(Permissions::from_mode(0o600)).map_err(system("restrict the socket"))?;
    socket.bind(path).map_err(system("bind the socket"))?;
    let file = SocketFile::at(path).map_err(system("look at the socket"))?;
    let backlog = u32::try_from(API_CONNECTIONS_MAX).expect("a small limit");
    let listener = socket.listen(backlog).map_err(system("listen"))?;
    Ok((listener, file))
}

async fn accept(listener: UnixListener, owner: u32, router: Router, mut stopped: oneshot::Receiver<()>) {
    let places = Arc::new(Semaphore::new(API_CONNECTIONS_MAX));
    let refusals = Arc::new(Semaphore::new(API_REFUSALS_MAX));
    loop {
        let stream = tokio::select! {
            _ = &mut stopped => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // Out of descriptors or memory: others may give some back.
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
        };
        let refusal = match stream.peer_cred().map(|peer| peer.uid()) {
            Err(_) => continue,
            Ok(uid) if uid != owner && uid != 0 => Refusal::Stranger { uid },
            Ok(_) => match Arc::clone(&places).try_acquire_owned() {
                Ok(place) => {
                    let router = router.clone();
                    tokio::spawn(async move {
                        serve(stream, router).await;
                        drop(place);
                    });
                    continue;
                }
                Err(_) => Refusal::Crowded { max: API_CONNECTIONS_MAX },
            },
        };
        if let Ok(place) = Arc::clone(&refusals).try_acquire_owned() {
            let text = Arc::new(refusal);
            let refuse = Router::new().fallback(move |_: Request| {
                let text = Arc::clone(&text);
                async move {
                    let json = axum::Json(serde_json::json!({ "error": text.to_string() }));
                    (text.status(), json).into_response()
                }
            });
            tokio::spawn(async move {
                serve(stream, refuse).await;
                drop(place);
            });
        }
    }
}

/// One request and its answer. A peer that breaks off or breaks the protocol is no error of ours.
async fn serve(stream: UnixStream, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(API_HEAD_TIME_MAX_MS))
        .max_headers(API_HEADERS_MAX)
        .max_buf_size(API_HEAD_LEN_MAX)
        .keep_alive(false)
        .half_close(true)
        .serve_connection(Worded::new(TokioIo::new(stream)), TowerToHyperService::new(router));
    let _ = tokio::time::timeout(Duration::from_millis(API_CONNECTION_TIME_MAX_MS), connection).await;
}
