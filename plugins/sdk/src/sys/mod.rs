//! The calls to the host: the real ones in a component, a fake host's everywhere else.

#[cfg(all(target_family = "wasm", feature = "http"))]
mod wasi_http;
#[cfg(target_family = "wasm")]
mod wasm;
#[cfg(target_family = "wasm")]
pub(crate) use wasm::*;

#[cfg(not(target_family = "wasm"))]
pub(crate) use crate::testing::calls::*;

#[cfg(all(target_family = "wasm", feature = "http"))]
pub(crate) use wasi_http::send;
