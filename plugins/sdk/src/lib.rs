//! Write Horarium task plugins in Rust.
//!
//! A plugin is a type that implements [`Task`]: parameters come in as a typed value, the result goes
//! out as one, and a failure is a [`TaskError`] that says whether trying again makes sense.
//! [`export!`] turns the type into the component the host runs.
//!
//! ```
//! use horarium_task::prelude::*;
//!
//! #[derive(Deserialize, JsonSchema)]
//! struct Parameters {
//!     name: String,
//! }
//!
//! #[derive(Serialize, JsonSchema)]
//! struct Greeting {
//!     greeting: String,
//! }
//!
//! struct Hello;
//!
//! impl Task for Hello {
//!     type Parameters = Parameters;
//!     type Output = Greeting;
//!     const SUMMARY: &str = "Greets somebody";
//!
//!     fn run(parameters: Parameters) -> Result<Greeting, TaskError> {
//!         Ok(Greeting { greeting: format!("Hello, {}!", parameters.name) })
//!     }
//! }
//!
//! horarium_task::export!(Hello);
//! ```
//!
//! A plugin's own crate also depends on `serde` and `schemars`, whose derive macros name them.
//! Off wasm the calls to the host are answered by a fake one, so that `run` can be tested with
//! `cargo test`: see the module `testing`.

#[cfg(target_family = "wasm")]
#[doc(hidden)]
#[allow(missing_docs, unsafe_code, unreachable_pub, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "task",
        pub_export_macro: true,
        export_macro_name: "export_component",
        default_bindings_module: "horarium_task::bindings",
    });
}

pub mod config;
mod descriptor;
mod error;
pub mod execution;
#[cfg(feature = "http")]
pub mod http;
pub mod log;
pub mod progress;
pub mod secrets;
pub mod state;
mod sys;
mod task;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub use descriptor::{Example, Limits};
pub use error::{Refusal, ResultExt, RetryAdvice, TaskError};
pub use task::Task;
#[doc(hidden)]
pub use task::{describe_json, run_json};

pub use schemars;
pub use serde;
pub use serde_json;

/// What nearly every plugin uses.
pub mod prelude {
    #[cfg(feature = "http")]
    pub use crate::http;
    pub use crate::{
        Example, Limits, ResultExt, Task, TaskError, config, execution, log, progress, secrets,
        state,
    };
    pub use schemars::JsonSchema;
    pub use serde::{Deserialize, Serialize};
    pub use serde_json::{Value, json};
}

/// Makes a [`Task`] the component's task: exports `run` and `describe` for it. Once per plugin.
#[macro_export]
macro_rules! export {
    ($task:ty) => {
        #[allow(unsafe_code)]
        const _: () = {
            /// Carries the exports; stateless.
            struct Component;

            #[cfg(target_family = "wasm")]
            impl $crate::bindings::exports::horarium::task::run::Guest for Component {
                fn run(
                    parameters: ::std::string::String,
                ) -> ::std::result::Result<
                    ::std::string::String,
                    $crate::bindings::horarium::task::types::TaskError,
                > {
                    $crate::run_json::<$task>(&parameters).map_err(::std::convert::Into::into)
                }
            }

            #[cfg(target_family = "wasm")]
            impl $crate::bindings::exports::horarium::task::describe::Guest for Component {
                fn describe() -> ::std::string::String {
                    Self::describe_json()
                }
            }

            impl Component {
                #[allow(dead_code)]
                fn describe_json() -> ::std::string::String {
                    $crate::describe_json::<$task>(::std::env!("CARGO_PKG_VERSION"))
                }
            }

            #[cfg(target_family = "wasm")]
    $crate::bindings::export_component!(Component with_types_in $crate::bindings);
        };
    };
}
