//! WASI 0.2 with nothing behind it: no files, no sockets, no names; clocks, randomness and stdio only.

use super::stdio::Stdio;
use crate::data::RunData;
use wasmtime::component::Linker;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

pub(super) fn link(linker: &mut Linker<RunData>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)
}

impl WasiView for RunData {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        // Many guests never ask, and making one seeds random generators.
        if self.wasi.is_none() {
            let ctx = context(self);
            self.wasi = Some(ctx);
        }
        // Always there by now; the borrow checker cannot see it.
        let ctx = self.wasi.get_or_insert_with(WasiCtx::default);
        WasiCtxView {
            ctx,
            table: &mut self.table,
        }
    }
}

fn context(data: &mut RunData) -> WasiCtx {
    let stdio = Stdio::get(data).clone();
    let mut builder = WasiCtx::builder();
    builder
        .max_random_size(data.attempt.limits.random_bytes)
        .stdout(stdio.stdout())
        .stderr(stdio.stderr());
    if let Some(program) = &data.program {
        program.start(&data.attempt, &mut builder);
    }
    builder.build()
}
