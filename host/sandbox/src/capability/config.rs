//! `config`: settings the operator gave the task type. No setting can be stored yet, so every key is
//! absent.

use crate::bindings::plugin::horarium::task::config;
use crate::data::RunData;
use wasmtime::component::{HasSelf, Linker};

pub(crate) const INTERFACE: &str = "config";

pub(super) fn link(linker: &mut Linker<RunData>) -> wasmtime::Result<()> {
    config::add_to_linker::<_, HasSelf<_>>(linker, |data| data)
}

impl config::Host for RunData {
    fn get(&mut self, _key: String) -> wasmtime::Result<Option<String>> {
        Ok(None)
    }
}
