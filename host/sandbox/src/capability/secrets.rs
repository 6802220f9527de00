//! `secrets`: refused unless granted; no secret can be stored yet, so a granted one is not found.

use super::refusal;
use crate::bindings::plugin::horarium::task::secrets;
use crate::bindings::plugin::horarium::task::types::Refusal;
use crate::data::RunData;
use horarium_model::grant::Grant;
use horarium_model::text::one_line;
use wasmtime::component::{HasSelf, Linker};

pub(crate) const INTERFACE: &str = "secrets";

pub(super) fn link(linker: &mut Linker<RunData>) -> wasmtime::Result<()> {
    secrets::add_to_linker::<_, HasSelf<_>>(linker, |data| data)
}

impl secrets::Host for RunData {
    fn get(&mut self, name: String) -> wasmtime::Result<Result<String, Refusal>> {
        let granted = self.attempt.grants.iter().any(|grant| match grant {
            Grant::SecretIn { name: granted, .. } | Grant::SecretReveal { name: granted } => {
                *granted == name
            }
            Grant::Http(_) | Grant::State => false,
        });
        let name = one_line(&name, 64);
        Ok(Err(if granted {
            refusal("not-found", format!("the secret `{name}` has no value"))
        } else {
            refusal(
                "not-granted",
                format!(
                    "the secret `{name}` is not granted; allow it with --grant 'secret {name} in header:NAME to ORIGIN' or --grant 'secret {name} reveal'"
                ),
            )
        }))
    }
}
