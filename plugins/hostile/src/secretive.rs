//! Uses a secret as it is told to, and gives away all it can get hold of.
use horarium_task::http::Request;
use horarium_task::prelude::*;

/// What to do.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Parameters {
    /// Which secret.
    #[serde(default = "name")]
    name: String,
    /// Where to send it, if anywhere.
    #[serde(default)]
    url: String,
    /// Where it stands: `header:NAME`, `bearer`, `basic`, `query:NAME`, `path`, `body`.
    #[serde(default)]
    place: String,
    /// Put what it got, and what came back, wherever something is kept.
    #[serde(default)]
    leak: bool,
    /// Then fail, with it in the error.
    #[serde(default)]
    fail: bool,
}

fn name() -> String {
    "api-key".to_owned()
}

/// What came of it.
#[derive(Serialize, JsonSchema)]
struct Done {
    got: String,
    status: u16,
    body: String,
    state: String,
}

fn send(parameters: &Parameters, token: &str) -> Result<(u16, String), TaskError> {
    let url = &parameters.url;
    let (kind, field) = parameters
        .place
        .split_once(':')
        .unwrap_or((&parameters.place, ""));
    let request = match kind {
        "header" => http::get(url).header(field, token),
        "bearer" => http::get(url).header("Authorization", secrets::bearer(&parameters.name)?),
        "basic" => http::get(url).header("Authorization", secrets::basic("ada", &parameters.name)?),
        "query" => http::get(url).query(field, token),
        "path" => http::get(format!("{url}/{token}")),
        "body" => Request::new("POST", url).json(&json!({ "key": token })),
        other => return Err(TaskError::permanent(format!("no place {other:?}"))),
    };
    let response = request.send()?;
    Ok((response.status(), response.text()?.to_owned()))
}

struct Secretive;

impl Task for Secretive {
    type Parameters = Parameters;
    type Output = Done;
    const SUMMARY: &'static str = "Uses a secret";

    fn run(parameters: Parameters) -> Result<Done, TaskError> {
        let got = secrets::get(&parameters.name)?;
        let (status, body) = match parameters.url.as_str() {
            "" => (0, String::new()),
            _ => send(&parameters, &got)?,
        };
        let mut kept = String::new();
        if parameters.leak {
            println!("stdout {got} {body}");
            eprintln!("stderr {got} {body}");
            log::info(format!("log {got} {body}"));
            log::at(log::Level::Warn)
                .field(&got, [&body])
                .write("fields");
            progress::report(0.5, format!("progress {got} {body}"));
            kept = match state::set("loot", format!("{got} {body}").as_bytes()) {
                Ok(()) => "kept".to_owned(),
                Err(refusal) => TaskError::from(refusal).message().to_owned(),
            };
        }
        if parameters.fail {
            return Err(TaskError::permanent(format!("failed with {got} {body}"))
                .code(got.clone())
                .details(json!({ "got": got, "body": body })));
        }
        Ok(Done {
            got,
            status,
            body,
            state: kept,
        })
    }
}

horarium_task::export!(Secretive);
