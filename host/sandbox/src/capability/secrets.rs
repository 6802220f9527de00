//! `secrets`: a placeholder that requests carry, which the connector's side of `http` replaces where the
//! grant says; the value itself only under `reveal`.

use super::refusal;
use crate::bindings::plugin::horarium::task::secrets;
use crate::bindings::plugin::horarium::task::types::Refusal;
use crate::data::RunData;
use horarium_core::control::RunControl;
use horarium_core::runner::Attempt;
use horarium_core::secrets::{Redactor, SecretValue};
use horarium_model::grant::{Grant, SecretPlace};
use horarium_model::text::one_line;
use std::sync::Arc;
use wasmtime::component::{HasSelf, Linker};

pub(crate) const INTERFACE: &str = "secrets";
/// What every placeholder begins with. Lower-case letters and digits alone: it stands unchanged in headers,
/// queries, JSON and forms.
const PREFIX: &str = "horariumsecret";
/// Random bytes of a placeholder.
const RANDOM_BYTES: usize = 20;

pub(super) fn link(linker: &mut Linker<RunData>) -> wasmtime::Result<()> {
    secrets::add_to_linker::<_, HasSelf<_>>(linker, |data| data)
}

/// Prepares a run: what it tells from here on is kept without the values of its secrets. Returns what takes
/// them out of its end too; none when it has no secrets.
pub(crate) fn redact(attempt: &Attempt, control: &RunControl) -> Option<Arc<Redactor>> {
    let redactor = Arc::new(Redactor::new(&attempt.given.secrets)?);
    control.log.redact_with(redactor.clone());
    Some(redactor)
}

/// A secret as one run knows it.
pub(super) struct Placeholder {
    pub(super) name: String,
    /// Random, new for each run.
    pub(super) token: String,
    pub(super) value: SecretValue,
    allowed: Vec<(SecretPlace, Vec<String>)>,
}

impl Placeholder {
    /// Whether the value may stand there in a request to this origin.
    pub(super) fn is_allowed(&self, place: &SecretPlace, origin: &str) -> bool {
        let mut rules = self.allowed.iter();
        rules.any(|(granted, origins)| granted == place && origins.iter().any(|o| o == origin))
    }
}

/// The placeholders of one run.
#[derive(Default)]
pub(crate) struct Placeholders(pub(super) Vec<Placeholder>);

impl Placeholders {
    /// Prepares a run: a placeholder for each secret that may stand in a request.
    pub(crate) fn new(attempt: &Attempt) -> Arc<Self> {
        let secrets = attempt.given.secrets.iter();
        let placeholders = secrets.filter_map(|secret| {
            let allowed: Vec<_> = attempt
                .grants
                .iter()
                .filter_map(|grant| match grant {
                    Grant::SecretIn {
                        name,
                        place,
                        origins,
                    } if *name == secret.name => Some((place.clone(), origins.clone())),
                    _ => None,
                })
                .collect();
            (!allowed.is_empty()).then(|| Placeholder {
                token: token(attempt.given.fixed.seed, &secret.name),
                name: secret.name.clone(),
                value: secret.value.clone(),
                allowed,
            })
        });
        Arc::new(Self(placeholders.collect()))
    }
}

fn token(seed: Option<u64>, name: &str) -> String {
    let random: [u8; RANDOM_BYTES] = match seed {
        None => rand::random(),
        Some(seed) => {
            let material = [&seed.to_be_bytes()[..], name.as_bytes()].concat();
            let derived =
                blake3::derive_key("horarium 2026 placeholder of a seeded run", &material);
            std::array::from_fn(|index| derived[index])
        }
    };
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{PREFIX}{digits}")
}

impl secrets::Host for RunData {
    fn get(&mut self, name: String) -> wasmtime::Result<Result<String, Refusal>> {
        let granted = |grant: &Grant| grant.secret() == Some(name.as_str());
        if !self.attempt.grants.iter().any(granted) {
            let name = one_line(&name, 64);
            let sentence = format!(
                "the secret `{name}` is not granted; allow it with --grant 'secret {name} in header:NAME to ORIGIN' or --grant 'secret {name} reveal'"
            );
            self.denials.note(&format!("denied: {sentence}"));
            return Ok(Err(refusal("not-granted", sentence)));
        }
        let mut known = self.attempt.given.secrets.iter();
        let Some(secret) = known.find(|secret| secret.name == name) else {
            let sentence = format!("the secret `{name}` has no value");
            return Ok(Err(refusal("not-found", sentence)));
        };
        let reveals =
            |grant: &Grant| matches!(grant, Grant::SecretReveal { name: n } if *n == name);
        if self.attempt.grants.iter().any(reveals) {
            return Ok(Ok(secret.value.expose().to_owned()));
        }
        let mut placeholders = self.placeholders.0.iter();
        let token = placeholders
            .find(|p| p.name == name)
            .map(|p| p.token.clone());
        Ok(token.ok_or_else(|| refusal("not-found", "the secret has no placeholder")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_random_unless_the_run_is_seeded() {
        assert_ne!(token(None, "a"), token(None, "a"));
        assert_eq!(token(Some(7), "a"), token(Some(7), "a"));
        assert_ne!(token(Some(7), "a"), token(Some(7), "b"));
        let token = token(None, "a");
        assert!(
            token
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        );
        assert_eq!(token.len(), PREFIX.len() + 2 * RANDOM_BYTES);
    }
}
