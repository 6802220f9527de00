//! `config`: settings the operator gave the task type, also as `wasi:config/store`.

use crate::bindings::plugin::horarium::task::config;
use crate::bindings::wasi_config::wasi::config::store;
use crate::data::RunData;
use wasmtime::component::{HasSelf, Linker};

pub(crate) const INTERFACE: &str = "config";
/// The same for components that know only WASI, in the one version there is.
pub(crate) const WASI_INTERFACE: &str = "wasi:config/store@0.2.0-rc.1";

pub(super) fn link(linker: &mut Linker<RunData>) -> wasmtime::Result<()> {
    store::add_to_linker::<_, HasSelf<_>>(linker, |data| data)?;
    config::add_to_linker::<_, HasSelf<_>>(linker, |data| data)
}

impl config::Host for RunData {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        Ok(self.attempt.given.config.get(&key).cloned())
    }
}

impl store::Host for RunData {
    fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<String>, store::Error>> {
        Ok(Ok(self.attempt.given.config.get(&key).cloned()))
    }

    fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, store::Error>> {
        let all = self.attempt.given.config.iter();
        Ok(Ok(all.map(|(k, v)| (k.clone(), v.clone())).collect()))
    }
}
