//! Hoards things that lie in the host's memory, not in its own.
use horarium_task::prelude::*;
use wasip2::clocks::monotonic_clock::{Pollable, subscribe_duration};
use wasip2::http::types::{Fields, Method, OutgoingRequest};

/// Of what.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Thing {
    /// Timers, each a handle.
    Timers,
    /// Sets of headers, as large as one may be.
    Headers,
    /// Requests with methods as long as they may be.
    Methods,
    /// Requests whose bodies are written and never sent.
    Bodies,
    /// One set of headers, a thousand at a time.
    Fields,
    /// Keys of the state that are not there.
    Keys,
    /// Values of the state.
    State,
}

/// What to do.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Parameters {
    /// What is hoarded.
    thing: Thing,
    /// How many, if the host lets it.
    #[serde(default = "many")]
    count: u64,
}

fn many() -> u64 {
    1_000_000
}

/// What came of it.
#[derive(Serialize, JsonSchema)]
struct Done {
    taken: u64,
    refusal: Option<String>,
}

struct Hoard;

impl Task for Hoard {
    type Parameters = Parameters;
    type Output = Done;
    const SUMMARY: &'static str = "Hoards the host's memory";
    const CAPABILITIES: &'static [&'static str] = &["state"];

    fn run(parameters: Parameters) -> Result<Done, TaskError> {
        let mut hoard = Vec::new();
        for taken in 0..parameters.count {
            match take(&parameters.thing, taken) {
                Ok(thing) => hoard.push(thing),
                Err(refusal) => {
                    return Ok(Done {
                        taken,
                        refusal: Some(refusal),
                    });
                }
            }
        }
        Ok(Done {
            taken: parameters.count,
            refusal: None,
        })
    }
}

horarium_task::export!(Hoard);

/// Kept until the end.
#[allow(dead_code, reason = "hoarded, not used")]
enum Kept {
    Timer(Pollable),
    Headers(Fields),
    Request(OutgoingRequest),
    Nothing,
}

fn take(thing: &Thing, number: u64) -> Result<Kept, String> {
    match thing {
        Thing::Timers => Ok(Kept::Timer(subscribe_duration(3_600_000_000_000))),
        Thing::Headers => headers(60_000).map(Kept::Headers),
        Thing::Fields => {
            let fields = Fields::new();
            for n in 0..1_000_000 {
                let added = fields.append(&format!("x-{n}"), b"0123456789");
                added.map_err(|error| format!("after {n}: {error}"))?;
            }
            Ok(Kept::Headers(fields))
        }
        Thing::Methods => {
            let request = OutgoingRequest::new(Fields::new());
            let method = Method::Other("M".repeat(1 << 20));
            let set = request.set_method(&method);
            set.map_err(|()| "the method is refused".to_owned())?;
            Ok(Kept::Request(request))
        }
        Thing::Bodies => {
            let request = OutgoingRequest::new(Fields::new());
            let body = request.body().map_err(|()| "no body".to_owned())?;
            let stream = body.write().map_err(|()| "no stream".to_owned())?;
            let room = stream.check_write().map_err(|error| error.to_string())?;
            let room = usize::try_from(room).unwrap_or(usize::MAX).min(1 << 20);
            stream
                .write(&vec![0; room])
                .map_err(|error| error.to_string())?;
            // Both are forgotten, not dropped: the host keeps what they hold.
            std::mem::forget((stream, body));
            Ok(Kept::Request(request))
        }
        Thing::Keys => {
            let key = format!("{number:0>500}");
            let got = state::get(&key);
            got.map(|_| Kept::Nothing).map_err(|error| error.code)
        }
        Thing::State => {
            let set = state::set(&number.to_string(), &[0; 1000]);
            set.map(|()| Kept::Nothing).map_err(|error| error.code)
        }
    }
}

fn headers(bytes: usize) -> Result<Fields, String> {
    let value = vec![b'v'; bytes];
    Fields::from_list(&[("x-large".to_owned(), value)]).map_err(|error| error.to_string())
}
