//! The last step before the socket: placeholders become values where a grant says so, and a request that
//! carries one anywhere else is refused. What is refused leaves with no value, if it leaves at all.

use super::denial::Denials;
use super::secrets::{Placeholder, Placeholders};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use horarium_core::secrets::{mask, percent_encode};
use horarium_model::grant::SecretPlace;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use percent_encoding::percent_decode_str;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use wasmtime_wasi_http::{Error, WasiBody};

/// A body that is no longer than this goes out with its length; a longer one in chunks.
const KNOWN_LENGTH_BYTES: usize = 256 << 10;

/// What replaces parts of a request's head.
#[derive(Default)]
pub(super) struct Filled {
    query: Option<String>,
    headers: Vec<(HeaderName, Vec<HeaderValue>)>,
}

impl Filled {
    /// Puts the values in.
    ///
    /// # Errors
    /// When the address does not take them.
    pub(super) fn apply(self, parts: &mut Parts) -> Result<(), Error> {
        if let Some(query) = self.query {
            let path_and_query = format!("{}?{query}", parts.uri.path());
            parts.uri = path_and_query
                .parse()
                .map_err(|_| Error::HttpRequestUriInvalid)?;
        }
        for (name, values) in self.headers {
            parts.headers.remove(&name);
            for value in values {
                parts.headers.append(&name, value);
            }
        }
        Ok(())
    }
}

impl Placeholders {
    fn find(&self, bytes: &[u8]) -> Option<&Placeholder> {
        let found = |p: &&Placeholder| position(bytes, p.token.as_bytes()).is_some();
        self.0.iter().find(found)
    }

    /// The text with `[secret NAME]` in the place of each placeholder.
    pub(super) fn masked(&self, text: &str) -> String {
        let mut masked = text.to_owned();
        for placeholder in &self.0 {
            masked = masked.replace(&placeholder.token, &mask(&placeholder.name));
        }
        masked
    }

    /// What the head of a request becomes.
    ///
    /// # Errors
    /// Why it is refused: a placeholder stands where no grant allows it.
    pub(super) fn head(&self, parts: &Parts, origin: &str) -> Result<Filled, String> {
        let mut filled = Filled::default();
        if self.0.is_empty() {
            return Ok(filled);
        }
        let elsewhere = [
            (parts.method.as_str(), "the method"),
            (parts.uri.authority().map_or("", |a| a.as_str()), "the host"),
            (parts.uri.path(), "the path"),
        ];
        for (text, place) in elsewhere {
            if let Some(found) = self.find(text.as_bytes()) {
                return Err(nowhere(found, place, origin));
            }
        }
        if let Some(query) = parts.uri.query()
            && self.find(query.as_bytes()).is_some()
        {
            filled.query = Some(self.query(query, origin)?);
        }
        for name in parts.headers.keys() {
            if let Some(found) = self.find(name.as_str().as_bytes()) {
                return Err(nowhere(found, "the name of a header", origin));
            }
            if let Some(values) = self.header(name, &parts.headers, origin)? {
                filled.headers.push((name.clone(), values));
            }
        }
        Ok(filled)
    }

    fn query(&self, query: &str, origin: &str) -> Result<String, String> {
        let mut pairs = Vec::new();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if let Some(found) = self.find(name.as_bytes()) {
                return Err(nowhere(found, "the name of a query parameter", origin));
            }
            if self.find(value.as_bytes()).is_none() {
                pairs.push(pair.to_owned());
                continue;
            }
            let decoded = percent_decode_str(&name.replace('+', " "))
                .decode_utf8_lossy()
                .into_owned();
            let place = SecretPlace::Query(decoded);
            let value = self.replaced(value, &place, origin, percent_encode)?;
            pairs.push(format!("{name}={value}"));
        }
        Ok(pairs.join("&"))
    }

    /// The values of a header with secrets in them, also inside of Basic credentials; none when there are no
    /// secrets.
    fn header(
        &self,
        name: &HeaderName,
        headers: &HeaderMap,
        origin: &str,
    ) -> Result<Option<Vec<HeaderValue>>, String> {
        let place = SecretPlace::Header(name.as_str().to_owned());
        let (mut values, mut changed) = (Vec::new(), false);
        for value in headers.get_all(name) {
            let basic = value.to_str().ok().and_then(basic_credentials);
            let text = if self.find(value.as_bytes()).is_some() {
                let text = value.to_str().map_err(|_| {
                    format!(
                        "denied: the header `{name}` carries a secret beside bytes that are no text"
                    )
                })?;
                self.replaced(text, &place, origin, str::to_owned)?
            } else if let Some(credentials) = basic.filter(|c| self.find(c.as_bytes()).is_some()) {
                let credentials = self.replaced(&credentials, &place, origin, str::to_owned)?;
                format!("Basic {}", STANDARD.encode(credentials))
            } else {
                values.push(value.clone());
                continue;
            };
            let mut value = HeaderValue::try_from(text).map_err(|_| {
                format!("denied: the value of the secret in the header `{name}` holds characters that a header cannot, such as a line break")
            })?;
            value.set_sensitive(true);
            values.push(value);
            changed = true;
        }
        Ok(changed.then_some(values))
    }

    fn replaced(
        &self,
        text: &str,
        place: &SecretPlace,
        origin: &str,
        encode: impl Fn(&str) -> String,
    ) -> Result<String, String> {
        let mut text = text.to_owned();
        for placeholder in &self.0 {
            if !text.contains(&placeholder.token) {
                continue;
            }
            if !placeholder.is_allowed(place, origin) {
                return Err(misplaced(placeholder, place, origin));
            }
            text = text.replace(&placeholder.token, &encode(placeholder.value.expose()));
        }
        Ok(text)
    }
}

/// `user:password` of `Basic …`, if it is that and text.
fn basic_credentials(value: &str) -> Option<String> {
    let (scheme, credentials) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(credentials.trim()).ok()?;
    String::from_utf8(decoded).ok()
}

fn misplaced(placeholder: &Placeholder, place: &SecretPlace, origin: &str) -> String {
    let name = &placeholder.name;
    let shown = match place {
        SecretPlace::Header(header) => format!("the header `{header}`"),
        SecretPlace::Query(parameter) => format!("the query parameter `{parameter}`"),
        SecretPlace::Body => "the body".to_owned(),
    };
    format!(
        "denied: the secret `{name}` stands in {shown} of a request to {origin}; allow it with --grant 'secret {name} in {place} to {origin}'"
    )
}

fn nowhere(placeholder: &Placeholder, place: &str, origin: &str) -> String {
    format!(
        "denied: the secret `{}` stands in {place} of a request to {origin}; a secret goes into the value of a header, a query parameter, or the body",
        placeholder.name
    )
}

fn position(bytes: &[u8], token: &[u8]) -> Option<usize> {
    let first = *token.first()?;
    bytes
        .windows(token.len())
        .position(|window| window[0] == first && window == token)
}

/// How a value is written inside of a body.
#[derive(Clone, Copy)]
enum Encoding {
    Plain,
    /// Inside of a JSON text.
    Json,
    /// Inside of a form.
    Form,
}

impl Encoding {
    fn of(headers: &HeaderMap) -> Self {
        let kind = headers
            .get(header::CONTENT_TYPE)
            .and_then(|v| v.to_str().ok());
        let kind = kind.unwrap_or("").split(';').next().unwrap_or("").trim();
        let kind = kind.to_ascii_lowercase();
        if kind == "application/json" || kind.ends_with("+json") {
            Self::Json
        } else if kind == "application/x-www-form-urlencoded" {
            Self::Form
        } else {
            Self::Plain
        }
    }

    fn write(self, value: &str, out: &mut BytesMut) {
        match self {
            Self::Plain => out.extend_from_slice(value.as_bytes()),
            Self::Form => out.extend_from_slice(percent_encode(value).as_bytes()),
            Self::Json => {
                let quoted = serde_json::Value::from(value).to_string();
                out.extend_from_slice(&quoted.as_bytes()[1..quoted.len() - 1]);
            }
        }
    }
}

/// The body of a request with what placeholders become. Without any it is the body as it was.
pub(super) async fn fill_body(
    placeholders: &Arc<Placeholders>,
    denials: &Arc<Denials>,
    origin: &str,
    headers: &mut HeaderMap,
    body: WasiBody,
) -> Result<WasiBody, Error> {
    if placeholders.0.is_empty() {
        return Ok(body);
    }
    let grows = placeholders
        .0
        .iter()
        .any(|placeholder| placeholder.is_allowed(&SecretPlace::Body, origin));
    let mut filled = FilledBody {
        encoding: Encoding::of(headers),
        placeholders: placeholders.clone(),
        denials: denials.clone(),
        origin: origin.to_owned(),
        same_size: !grows,
        body,
        held: BytesMut::new(),
        after: None,
        is_over: false,
    };
    if !grows {
        return Ok(filled.boxed_unsync());
    }
    // Its length changes, and is known only at its end.
    headers.remove(header::CONTENT_LENGTH);
    let (mut frames, mut bytes) = (VecDeque::new(), 0);
    while bytes <= KNOWN_LENGTH_BYTES {
        let Some(frame) = filled.frame().await.transpose()? else {
            break;
        };
        bytes += frame.data_ref().map_or(0, Bytes::len);
        frames.push_back(frame);
    }
    let begun = BegunBody {
        known: filled.is_over && frames.iter().all(Frame::is_data),
        frames,
        rest: filled,
    };
    Ok(begun.boxed_unsync())
}

/// A body in which placeholders are looked for, wherever its pieces are cut.
struct FilledBody {
    placeholders: Arc<Placeholders>,
    denials: Arc<Denials>,
    origin: String,
    encoding: Encoding,
    /// Whether nothing is replaced, so that the length stays what was said.
    same_size: bool,
    body: WasiBody,
    /// Bytes that may be the beginning of a placeholder.
    held: BytesMut,
    /// Trailers that wait until the held bytes are out.
    after: Option<Frame<Bytes>>,
    is_over: bool,
}

impl FilledBody {
    /// What may go out of the held bytes: everything, or all but what may begin a placeholder.
    fn release(&mut self, all: bool) -> Result<Bytes, Error> {
        let mut out = BytesMut::new();
        loop {
            let found = self.placeholders.0.iter().filter_map(|placeholder| {
                let at = position(&self.held, placeholder.token.as_bytes())?;
                Some((at, placeholder))
            });
            let Some((at, placeholder)) = found.min_by_key(|(at, _)| *at) else {
                break;
            };
            if !placeholder.is_allowed(&SecretPlace::Body, &self.origin) {
                let sentence = misplaced(placeholder, &SecretPlace::Body, &self.origin);
                self.denials.note(&sentence);
                return Err(Error::HttpRequestDenied);
            }
            let before = self.held.split_to(at);
            out.extend_from_slice(&before);
            self.encoding.write(placeholder.value.expose(), &mut out);
            let _token = self.held.split_to(placeholder.token.len());
        }
        let longest = self.placeholders.0.iter().map(|p| p.token.len() - 1);
        let kept = if all { 0 } else { longest.max().unwrap_or(0) };
        let free = self.held.len().saturating_sub(kept);
        let free = self.held.split_to(free);
        out.extend_from_slice(&free);
        Ok(out.freeze())
    }
}

impl Body for FilledBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        loop {
            if let Some(trailers) = this.after.take() {
                return Poll::Ready(Some(Ok(trailers)));
            }
            if this.is_over {
                return Poll::Ready(None);
            }
            let ready = match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(ready) => ready,
            };
            let all = match ready {
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        this.held.extend_from_slice(&data);
                        false
                    }
                    Err(trailers) => {
                        if let Err(error) = this.check_trailers(&trailers) {
                            return Poll::Ready(Some(Err(error)));
                        }
                        this.after = Some(trailers);
                        true
                    }
                },
                None => {
                    this.is_over = true;
                    true
                }
            };
            match this.release(all) {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let nothing_held = self.held.is_empty() && self.after.is_none();
        self.is_over || (nothing_held && self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::new();
        if self.same_size
            && let Some(rest) = self.body.size_hint().exact()
        {
            hint.set_exact(rest + self.held.len() as u64);
        }
        hint
    }
}

impl FilledBody {
    fn check_trailers(&self, frame: &Frame<Bytes>) -> Result<(), Error> {
        let Some(trailers) = frame.trailers_ref() else {
            return Ok(());
        };
        let found = trailers.iter().find_map(|(name, value)| {
            let name = self.placeholders.find(name.as_str().as_bytes());
            name.or_else(|| self.placeholders.find(value.as_bytes()))
        });
        match found {
            None => Ok(()),
            Some(placeholder) => {
                let sentence = nowhere(placeholder, "a trailer", &self.origin);
                self.denials.note(&sentence);
                Err(Error::HttpRequestDenied)
            }
        }
    }
}

/// A body whose beginning was read already.
struct BegunBody {
    frames: VecDeque<Frame<Bytes>>,
    /// Whether that was all of it.
    known: bool,
    rest: FilledBody,
}

impl Body for BegunBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.frames.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if !self.known {
            return SizeHint::new();
        }
        let bytes = self
            .frames
            .iter()
            .filter_map(Frame::data_ref)
            .map(Bytes::len);
        SizeHint::with_exact(bytes.sum::<usize>() as u64)
    }
}

#[cfg(test)]
#[path = "http_secrets_tests.rs"]
mod tests;
