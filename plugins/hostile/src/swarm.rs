//! Hundreds of requests at once, and bodies without an end.
use horarium_task::prelude::*;
use std::collections::BTreeMap;
use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    Fields, FutureIncomingResponse, IncomingBody, IncomingResponse, OutgoingRequest, Scheme,
};

/// What to do.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Parameters {
    /// `host:port` of a plain HTTP server.
    authority: String,
    /// Where to.
    path: String,
    /// How many at once.
    #[serde(default = "one")]
    count: u32,
}

fn one() -> u32 {
    1
}

/// What came of it.
#[derive(Serialize, JsonSchema)]
struct Done {
    /// How often each answer came.
    answers: BTreeMap<String, u32>,
    /// Bytes of all bodies together.
    bytes: u64,
}

struct Swarm;

impl Task for Swarm {
    type Parameters = Parameters;
    type Output = Done;
    const SUMMARY: &'static str = "Sends a swarm of requests";

    fn run(parameters: Parameters) -> Result<Done, TaskError> {
        let mut done = Done {
            answers: BTreeMap::new(),
            bytes: 0,
        };
        let mut sent = Vec::new();
        for _ in 0..parameters.count {
            match start(&parameters) {
                Ok(future) => sent.push(future),
                Err(refusal) => *done.answers.entry(refusal).or_default() += 1,
            }
        }
        for future in sent {
            let answer = match wait(&future) {
                Err(refusal) => refusal,
                Ok(response) => match read(&response, &mut done.bytes) {
                    Ok(()) => response.status().to_string(),
                    Err(refusal) => refusal,
                },
            };
            *done.answers.entry(answer).or_default() += 1;
        }
        Ok(done)
    }
}

horarium_task::export!(Swarm);

fn start(parameters: &Parameters) -> Result<FutureIncomingResponse, String> {
    let request = OutgoingRequest::new(Fields::new());
    let set = request
        .set_scheme(Some(&Scheme::Http))
        .and_then(|()| request.set_authority(Some(&parameters.authority)))
        .and_then(|()| request.set_path_with_query(Some(&parameters.path)));
    set.map_err(|()| "not a URL".to_owned())?;
    handle(request, None).map_err(|error| error.to_string())
}

fn wait(future: &FutureIncomingResponse) -> Result<IncomingResponse, String> {
    loop {
        match future.get() {
            Some(Ok(answer)) => return answer.map_err(|error| error.to_string()),
            Some(Err(())) => return Err("taken".to_owned()),
            None => future.subscribe().block(),
        }
    }
}

fn read(response: &IncomingResponse, bytes: &mut u64) -> Result<(), String> {
    let body: IncomingBody = response.consume().map_err(|()| "consumed".to_owned())?;
    let stream = body.stream().map_err(|()| "no stream".to_owned())?;
    loop {
        match stream.blocking_read(64 << 10) {
            Ok(part) => *bytes += part.len() as u64,
            Err(wasip2::io::streams::StreamError::Closed) => return Ok(()),
            Err(_) => return Err("cut off".to_owned()),
        }
    }
}
