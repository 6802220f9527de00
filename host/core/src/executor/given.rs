//! What an operator gave a task type, read at the claim (rule E1): settings and secrets.

use super::Parts;
use crate::runner::{AttemptEnd, Failure, Given};
use crate::secrets::RunSecret;
use crate::store::{Claimed, StoreError};
use horarium_model::ErrorKind;
use horarium_model::task_type::PluginVersion;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Reads what a run of the version finds.
///
/// # Errors
/// How the attempt ends without running: `secret_missing`, or handed back when the store cannot be read.
pub(super) async fn read(
    parts: &Parts,
    claimed: &Claimed,
    version: &PluginVersion,
) -> Result<Given, AttemptEnd> {
    let (tenant, task_type) = (claimed.tenant_id, claimed.task_type.as_str());
    let handed_back = |error: StoreError| AttemptEnd::HandedBack(error.to_string());
    let mut given = Given::default();
    // Most types have neither, and pay nothing.
    if parts.registry.is_configured(tenant, task_type) {
        let config = parts.store.plugin_config(tenant, task_type).await;
        given.config = Arc::new(config.map_err(handed_back)?);
    }
    let names: BTreeSet<&str> = version.grants.iter().filter_map(|g| g.secret()).collect();
    if names.is_empty() {
        return Ok(given);
    }
    let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    let sealed = parts.store.sealed_secrets(tenant, &names).await;
    let sealed = sealed.map_err(handed_back)?;
    if let Some(missing) = names.iter().find(|n| sealed.iter().all(|s| s.name != **n)) {
        let message = format!(
            "secret_missing: `{task_type}` is granted the secret `{missing}`, which has no value; set it with: horarium secret set {missing}"
        );
        return Err(failed(ErrorKind::SecretMissing, message));
    }
    let mut secrets = Vec::with_capacity(sealed.len());
    for secret in &sealed {
        let value = parts.keyring.open(secret).map_err(|error| {
            // An operator has to mend this; until then other hosts may have the key.
            failed(ErrorKind::HostError, format!("host_error: {error}"))
        })?;
        secrets.push(RunSecret {
            name: secret.name.clone(),
            value,
        });
    }
    given.secrets = secrets.into();
    Ok(given)
}

fn failed(kind: ErrorKind, message: String) -> AttemptEnd {
    AttemptEnd::Failed(Failure::new(kind, message))
}
