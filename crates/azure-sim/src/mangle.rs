//! What fault rules do to a finished answer: trickle its body, break it off, cut its JSON, mislabel it. Which answers is the
//! rules' business.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderValue, Method, Response};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::faults::Action;
use crate::http::Call;

/// How an answer is spoilt.
#[derive(Clone, Debug)]
pub(crate) enum Mangle {
    Slow(Duration),
    Truncated,
    Malformed,
    ContentType(String),
}

/// Pieces in which a slow body is sent, at most.
const PIECES: usize = 20;

impl Mangle {
    /// `None` for actions that leave answers alone.
    pub fn of(action: Action) -> Option<Self> {
        match action {
            Action::SlowBody { millis } => Some(Self::Slow(Duration::from_millis(millis.min(600_000)))),
            Action::TruncatedBody => Some(Self::Truncated),
            Action::MalformedJson => Some(Self::Malformed),
            Action::WrongContentType { content_type } => Some(Self::ContentType(content_type)),
            _ => None,
        }
    }

    /// An answer without a body stays as it is, except for its content type.
    pub async fn apply(self, response: Response<Body>, call: &Call) -> Response<Body> {
        let (mut parts, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap_or_default();
        if let Self::ContentType(name) = &self {
            if let Ok(value) = HeaderValue::from_str(name) {
                parts.headers.insert("content-type", value);
            }
            return Response::from_parts(parts, Body::from(bytes));
        }
        if bytes.is_empty() || call.method == Method::HEAD {
            return Response::from_parts(parts, Body::from(bytes));
        }
        let half = bytes.slice(..bytes.len() / 2);
        let body = match self {
            Self::Malformed => Body::from(half),
            Self::Truncated => Body::new(Trickle::new([half], Duration::ZERO, bytes.len(), true)),
            Self::Slow(over) => {
                let size = bytes.len().div_ceil(PIECES);
                let pieces: Vec<Bytes> =
                    (0..bytes.len()).step_by(size).map(|at| bytes.slice(at..bytes.len().min(at + size))).collect();
                let pause = over / u32::try_from(pieces.len()).unwrap_or(1);
                Body::new(Trickle::new(pieces, pause, bytes.len(), false))
            }
            Self::ContentType(_) => Body::from(bytes),
        };
        Response::from_parts(parts, body)
    }
}

/// A body sent in pieces with a pause before each, which may break off after the last.
struct Trickle {
    pieces: VecDeque<Bytes>,
    pause: Duration,
    sleep: Pin<Box<Sleep>>,
    announced: usize,
    breaks_off: bool,
}

impl Trickle {
    fn new(pieces: impl IntoIterator<Item = Bytes>, pause: Duration, announced: usize, breaks_off: bool) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a fault rule asked for this delay, in real time")]
        let sleep = Box::pin(tokio::time::sleep(pause));
        Self { pieces: pieces.into_iter().collect(), pause, sleep, announced, breaks_off }
    }
}

impl hyper::body::Body for Trickle {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        if this.sleep.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        match this.pieces.pop_front() {
            Some(piece) => {
                // The break waits a little too, so that the first half is on its way before it.
                let pause = if this.breaks_off { Duration::from_millis(20) } else { this.pause };
                this.sleep.as_mut().reset(Instant::now() + pause);
                this.announced = this.announced.saturating_sub(piece.len());
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            None if this.breaks_off => {
                Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "a fault rule cut the body"))))
            }
            None => Poll::Ready(None),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.announced as u64)
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty() && !self.breaks_off
    }
}
