//! `progress`: only the latest report is kept.

use crate::bindings::plugin::horarium::task::progress;
use crate::data::RunData;
use wasmtime::component::{HasSelf, Linker};

pub(crate) const INTERFACE: &str = "progress";

pub(super) fn link(linker: &mut Linker<RunData>) -> wasmtime::Result<()> {
    progress::add_to_linker::<_, HasSelf<_>>(linker, |data| data)
}

impl progress::Host for RunData {
    fn report(&mut self, fraction: Option<f64>, message: String) -> wasmtime::Result<()> {
        self.control.report_progress(fraction, &message);
        Ok(())
    }
}
