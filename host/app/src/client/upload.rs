//! The upload of a component, which tells how far it is.

use super::{Answer, Client};
use crate::cli::failure::Failure;
use serde_json::Value;
use std::io::Read;
use ureq::SendBody;
use ureq::http::Method;
use ureq::unversioned::multipart::{Form, Part};

impl Client {
    /// Registers a component: the file, and the options as JSON. `sent` is told the bytes sent so far
    /// and all there are.
    pub(crate) fn upload(
        &self,
        path: &str,
        component: &[u8],
        options: &Value,
        sent: &mut dyn FnMut(u64, u64),
    ) -> Result<Answer, Failure> {
        let options = options.to_string();
        let mut form = Form::new()
            .part("options", typed(Part::text(&options), "application/json")?)
            .part(
                "component",
                typed(Part::bytes(component), "application/wasm")?.file_name("component.wasm"),
            );
        // The builder would set it; a request sent as it is needs it said.
        let kind = format!("multipart/form-data; boundary={}", form.boundary());
        let mut body = Vec::new();
        form.read_to_end(&mut body)
            .map_err(|error| Failure::failed(format!("the request cannot be built: {error}")))?;
        let length = body.len().to_string();
        let headers = [
            ("content-type", kind.as_str()),
            ("content-length", length.as_str()),
        ];
        let mut body = Told {
            body: &body,
            at: 0,
            sent,
        };
        let body = SendBody::from_reader(&mut body);
        self.send(Method::POST, path, &Vec::new(), &headers, body)
    }
}

/// A body that tells how much of it was read.
struct Told<'b> {
    body: &'b [u8],
    at: usize,
    sent: &'b mut dyn FnMut(u64, u64),
}

impl Read for Told<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = (&self.body[self.at..]).read(buffer)?;
        self.at += read;
        (self.sent)(self.at as u64, self.body.len() as u64);
        Ok(read)
    }
}

fn typed<'a>(part: Part<'a>, media_type: &str) -> Result<Part<'a>, Failure> {
    part.mime_str(media_type)
        .map_err(|error| Failure::failed(format!("the request cannot be built: {error}")))
}
