//! Secrets of plugins: written and forgotten, never read back.

use super::{Context, ServiceError, ServiceResult};
use crate::secrets::{KeyError, SecretValue};
use crate::store::{Listing, Page, SealedSecret, SecretInfo};
use horarium_model::grant::secret_name;
use horarium_model::text::one_line;
use horarium_model::{Invalid, TenantId};
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;
use tokio::sync::RwLock;

/// Secrets sealed anew in one go.
const BATCH: u32 = 100;
/// A word that means something else in the place of a name.
const NOT_A_NAME: &str = "rekey";

/// Operations on secrets.
#[derive(Clone)]
pub struct Secrets {
    cx: Context,
    /// Held for reading between sealing and storing: a new key waits until nothing is on its way that the
    /// old one sealed.
    sealing: Arc<RwLock<()>>,
}

/// A secret and who was granted it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Secret")]
pub struct SecretView {
    /// The secret.
    #[serde(flatten)]
    pub info: SecretInfo,
    /// Task types whose active version was granted it.
    pub granted_to: Vec<String>,
}

/// What a rekeying did.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Rekeyed {
    /// The key that all secrets are sealed with now.
    pub key_id: String,
    /// Secrets that were sealed anew.
    pub rekeyed: u64,
    /// Whether the key was made just now.
    pub new_key: bool,
}

impl Secrets {
    pub(super) fn new(cx: Context) -> Self {
        Self {
            cx,
            sealing: Arc::default(),
        }
    }

    /// Secrets by name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list(&self, tenant: TenantId, page: &Page) -> ServiceResult<Listing<SecretView>> {
        let listing = self.cx.store.secrets(tenant, page).await?;
        let view = |info| self.view(tenant, info);
        Ok(Listing {
            items: listing.items.into_iter().map(view).collect(),
            next: listing.next,
        })
    }

    /// One secret.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn show(&self, tenant: TenantId, name: &str) -> ServiceResult<SecretView> {
        let found = self.cx.store.secret(tenant, name).await?;
        let info = found.ok_or_else(|| no_secret(name))?;
        Ok(self.view(tenant, info))
    }

    fn view(&self, tenant: TenantId, info: SecretInfo) -> SecretView {
        SecretView {
            granted_to: self.cx.registry.granted_secret(tenant, &info.name),
            info,
        }
    }

    /// Keeps a value under a name, new or in place of another. The first secret of all makes the key.
    ///
    /// # Errors
    /// `Invalid` for the name; `Conflict` when this host lacks the key that the others use.
    pub async fn set(
        &self,
        tenant: TenantId,
        name: &str,
        value: &SecretValue,
    ) -> ServiceResult<SecretView> {
        let name = secret_name(name).map_err(|detail| Invalid::one("/name", detail))?;
        if name == NOT_A_NAME {
            let detail =
                format!("`{NOT_A_NAME}` is what gives secrets a new key; name it otherwise");
            return Err(Invalid::one("/name", detail).into());
        }
        let (store, keyring) = (&self.cx.store, &self.cx.keyring);
        let _sealing = self.sealing.read().await;
        let used = store.secret_keys().await?;
        if let Some(missing) = keyring.missing(&used) {
            return Err(ServiceError::Conflict(format!(
                "secrets are sealed with key {missing}, which this host does not have: every host needs the same secrets.key"
            )));
        }
        if keyring.current().is_none() {
            keyring.add_key().map_err(key_failed)?;
        }
        let (key_id, sealed) = keyring.seal(tenant, &name, value).map_err(key_failed)?;
        let secret = SealedSecret {
            tenant_id: tenant,
            name,
            version: 0,
            key_id,
            sealed,
        };
        let info = store.put_secret(self.cx.clock.now(), secret).await?;
        Ok(self.view(tenant, info))
    }

    /// Forgets a secret. Executions of types that were granted it end `secret_missing` until it is set again.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn delete(&self, tenant: TenantId, name: &str) -> ServiceResult<()> {
        match self.cx.store.delete_secret(tenant, name).await? {
            true => Ok(()),
            false => Err(no_secret(name)),
        }
    }

    /// Seals the secrets of all tenants with the current key, after making a new one if asked to. Everything
    /// goes on meanwhile: the old keys open what they sealed until it is done.
    ///
    /// # Errors
    /// `Conflict` when other hosts do not have the key, or this one lacks an old one.
    pub async fn rekey(&self, new_key: bool) -> ServiceResult<Rekeyed> {
        let (store, keyring) = (&self.cx.store, &self.cx.keyring);
        keyring.reload().map_err(key_failed)?;
        let hosts = store.hosts().await?;
        if new_key {
            if hosts.len() > 1 {
                return Err(ServiceError::Conflict(format!(
                    "{} hosts are alive and all need the new key: write it as the first line of secrets.key on each, the old one below, then rekey without a new key",
                    hosts.len()
                )));
            }
            let _nothing_on_its_way = self.sealing.write().await;
            keyring.add_key().map_err(key_failed)?;
        }
        let key_id = keyring.current().ok_or_else(|| {
            ServiceError::Conflict("there is no key yet; the first secret makes it".to_owned())
        })?;
        let lacks = |host: &&crate::store::HostRow| !host.facts.secret_keys.contains(&key_id);
        if hosts.len() > 1
            && let Some(host) = hosts.iter().find(lacks)
        {
            return Err(ServiceError::Conflict(format!(
                "host `{}` does not have key {key_id} yet: put it into secrets.key there; hosts look every few seconds",
                host.name
            )));
        }
        let rekeyed = self.reseal(&key_id).await?;
        if new_key && store.secret_keys().await?.iter().all(|id| *id == key_id) {
            keyring.drop_old_keys().map_err(key_failed)?;
        }
        Ok(Rekeyed {
            key_id,
            rekeyed,
            new_key,
        })
    }

    async fn reseal(&self, key_id: &str) -> ServiceResult<u64> {
        let (store, keyring) = (&self.cx.store, &self.cx.keyring);
        let (mut after, mut rekeyed, mut failed) = (None, 0, Vec::new());
        loop {
            let batch = store
                .secrets_under_other_keys(key_id, after.take(), BATCH)
                .await?;
            let Some(last) = batch.last() else { break };
            after = Some((last.tenant_id, last.name.clone()));
            for secret in batch {
                let value = match keyring.open(&secret) {
                    Ok(value) => value,
                    Err(error) => {
                        failed.push(error.to_string());
                        continue;
                    }
                };
                let (key_id, sealed) = keyring
                    .seal(secret.tenant_id, &secret.name, &value)
                    .map_err(key_failed)?;
                let resealed = SealedSecret {
                    key_id,
                    sealed,
                    ..secret
                };
                // One that was set meanwhile has the new key already.
                rekeyed += u64::from(store.reseal_secret(resealed).await?);
            }
        }
        match failed.first() {
            None => Ok(rekeyed),
            Some(first) => Err(ServiceError::Conflict(format!(
                "{rekeyed} secrets were sealed anew, {} could not be opened: {first}",
                failed.len()
            ))),
        }
    }

    /// Whether this host can open every secret there is.
    ///
    /// # Errors
    /// What is missing; the store's error when it cannot be read.
    pub async fn check(&self) -> ServiceResult<()> {
        let used = self.cx.store.secret_keys().await?;
        match self.cx.keyring.missing(&used) {
            None => Ok(()),
            Some(id) => Err(ServiceError::Unavailable(format!(
                "secrets are sealed with key {id}, which this host does not have: copy secrets.key from a host that has it"
            ))),
        }
    }
}

fn no_secret(name: &str) -> ServiceError {
    ServiceError::NotFound(format!("there is no secret `{}`", one_line(name, 64)))
}

fn key_failed(error: KeyError) -> ServiceError {
    match error {
        KeyError::NoKey | KeyError::UnknownKey { .. } | KeyError::Source(_) => {
            ServiceError::Conflict(error.to_string())
        }
        KeyError::Damaged(_) => ServiceError::Internal(error.to_string()),
    }
}
