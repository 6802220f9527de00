//! Tells what the operator set for it, read in both ways there are.
use horarium_task::prelude::*;

/// What to read.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Parameters {
    /// Which key.
    #[serde(default = "url")]
    key: String,
}

fn url() -> String {
    "url".to_owned()
}

/// What was found.
#[derive(Serialize, JsonSchema)]
struct Found {
    config: Option<String>,
    store: Option<String>,
    all: Vec<(String, String)>,
}

#[cfg(target_family = "wasm")]
#[allow(missing_docs, unsafe_code, unreachable_pub, clippy::all)]
mod bindings {
    wit_bindgen::generate!({
        inline: "
            package hostile:configured;
            world settings {
                import wasi:config/store@0.2.0-rc.1;
            }
            package wasi:config@0.2.0-rc.1 {
                interface store {
                    variant error { upstream(string), io(string) }
                    get: func(key: string) -> result<option<string>, error>;
                    get-all: func() -> result<list<tuple<string, string>>, error>;
                }
            }
        ",
        generate_all,
    });
}

/// A setting, and all there are.
type Store = (Option<String>, Vec<(String, String)>);

#[cfg(target_family = "wasm")]
fn store(key: &str) -> Result<Store, TaskError> {
    use bindings::wasi::config::store;
    let failed = |error| TaskError::permanent(format!("wasi:config: {error:?}"));
    Ok((
        store::get(key).map_err(failed)?,
        store::get_all().map_err(failed)?,
    ))
}

#[cfg(not(target_family = "wasm"))]
fn store(key: &str) -> Result<Store, TaskError> {
    Ok((config::get(key), Vec::new()))
}

struct Configured;

impl Task for Configured {
    type Parameters = Parameters;
    type Output = Found;
    const SUMMARY: &'static str = "Tells its settings";

    fn run(parameters: Parameters) -> Result<Found, TaskError> {
        let (store, all) = store(&parameters.key)?;
        Ok(Found {
            config: config::get(&parameters.key),
            store,
            all,
        })
    }
}

horarium_task::export!(Configured);
