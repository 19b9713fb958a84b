//! Words for requests that no route ever sees: hyper answers a head that it cannot read with a bare status line.
//!
//! Answers of ours always have a body, so an answer with a 4xx status and none is hyper's own; it is written anew, with the
//! JSON that every other refusal has.
//!
//! Invariant: what has a body passes unchanged.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};

use super::Refusal;

/// A connection whose bare refusals get words.
#[derive(Debug)]
pub(super) struct Worded<S> {
    stream: S,
    /// What is written in place of a bare refusal, and how much of it is written.
    instead: Option<(Vec<u8>, usize)>,
}

impl<S> Worded<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, instead: None }
    }
}

/// The answer in place of a bare refusal; `None` where it is none.
fn worded(answer: &[u8]) -> Option<Vec<u8>> {
    let head = std::str::from_utf8(answer.strip_suffix(b"\r\n\r\n")?).ok()?;
    let mut lines = head.split("\r\n");
    let status: u16 = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let is_bare = lines.any(|line| line.eq_ignore_ascii_case("content-length: 0"));
    let refusal = match status {
        414 | 431 => Refusal::Head,
        400..=499 => Refusal::Malformed,
        _ => return None,
    };
    let body = serde_json::json!({ "error": refusal.to_string() }).to_string();
    let head = format!(
        "HTTP/1.1 {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        refusal.status(),
        body.len()
    );
    is_bare.then(|| (head + &body).into_bytes())
}

impl<S: Read + Unpin> Read for Worded<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buf)
    }
}

impl<S: Write + Unpin> Write for Worded<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let own = &mut *self;
        if own.instead.is_none() {
            own.instead = worded(buf).map(|answer| (answer, 0));
        }
        let Some((answer, written)) = &mut own.instead else {
            return Pin::new(&mut own.stream).poll_write(context, buf);
        };
        while *written < answer.len() {
            let count = ready!(Pin::new(&mut own.stream).poll_write(context, &answer[*written..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *written += count;
        }
        own.instead = None;
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_refusal_gets_words_and_nothing_else_changes() {
        let text = |answer: &str| worded(answer.as_bytes()).map(|bytes| String::from_utf8(bytes).expect("text"));
        let bare = |status| text(&format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"));
        let malformed = bare("400 Bad Request").expect("words");
        assert!(malformed.starts_with("HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"), "{malformed}");
        let body = "{\"error\":\"request: its head is no HTTP/1.1; begin for example with GET /v1/host HTTP/1.1\"}";
        assert!(malformed.ends_with(&format!("\r\n\r\n{body}")), "{malformed}");
        let long = bare("431 Request Header Fields Too Large").expect("words");
        let body = "{\"error\":\"request: its head is longer than 16384 bytes or has more than 32 fields; send less\"}";
        assert!(long.starts_with("HTTP/1.1 431 ") && long.ends_with(body), "{long}");
        assert_eq!(bare("200 OK"), None);
        assert_eq!(text("HTTP/1.1 404 Not Found\r\ncontent-length: 9\r\n\r\n"), None);
        assert_eq!(text("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}"), None);
    }
}
