//! The second half of a registration: compile, describe, judge, activate. It runs in the background and
//! always leaves the version `ready` or `failed`; a host that dies meanwhile continues at its next start.

use super::{Plugins, ServiceResult};
use crate::runner::PendingCompile;
use crate::store::{ConfigFilter, FinishVersion, Page};
use horarium_model::descriptor::Descriptor;
use horarium_model::grant::{Grant, HttpGrant};
use horarium_model::task_type::PluginVersion;
use horarium_model::text::one_line;
use horarium_model::{ConfigId, HOST_TENANT_ID, TenantId};
use serde_json::Value;
use std::collections::HashSet;

/// Configs read at once when a new version's schema is held against them.
const CONFIG_PAGE: u32 = 500;

/// A registration whose component was checked and kept.
pub(super) struct Finishing {
    /// The version as it was kept; its descriptor is the operator's.
    pub(super) version: PluginVersion,
    /// Remarks of the check.
    pub(super) warnings: Vec<String>,
}

impl Plugins {
    /// Finishes a registration in a task of its own, once per version at a time.
    pub(super) fn finish_in_background(&self, finishing: Finishing, pending: PendingCompile) {
        if !self.take_in_flight(&finishing.version) {
            return;
        }
        let plugins = self.clone();
        tokio::spawn(async move {
            let version = finishing.version.clone();
            let guard = InFlight(&plugins, &version);
            if let Err(error) = plugins.finish(finishing, pending).await {
                tracing::error!(task_type = version.task_type, digest = version.digest, %error,
                    "a registration could not be finished; it continues at the next start");
            }
            drop(guard);
        });
    }

    async fn finish(&self, finishing: Finishing, pending: PendingCompile) -> ServiceResult<()> {
        let Finishing {
            mut version,
            mut warnings,
        } = finishing;
        let described = match pending.await {
            Ok(described) => self.describe(&version, described).await,
            Err(error) => Err(error),
        };
        let descriptor = match described {
            Ok(descriptor) => descriptor,
            Err(error) => return self.fail(&version, error).await,
        };
        version.descriptor = descriptor;
        if version.grant_asked {
            version.grants = self.grant_what_it_asks(&version).await?;
        }
        warnings.extend(not_granted(&version).map(|asked| {
            format!("asks for `{asked}`, which is not granted; to allow it add --grant '{asked}'")
        }));
        let mut activate = version.activate;
        if activate && let Some(obstacle) = self.told_obstacle(&version).await? {
            activate = false;
            warnings.push(format!(
                "not made active: {obstacle}; `plugin activate {} {}` does it all the same",
                version.task_type, version.digest
            ));
        }
        let ready = FinishVersion::Ready {
            descriptor: Box::new(version.descriptor.clone()),
            warnings,
            activate,
        };
        self.write_end(&version, ready).await
    }

    /// The version's description, the operator's winning field by field.
    async fn describe(
        &self,
        version: &PluginVersion,
        described: Option<Value>,
    ) -> Result<Descriptor, String> {
        let own = match described {
            None => Descriptor::default(),
            Some(value) => Descriptor::from_json(&value)
                .map_err(|e| format!("what its `describe` returned is refused: {e}"))?,
        };
        let merged = own.overridden_by(version.descriptor.clone());
        match self.cx.intake.check_descriptor(&merged).await {
            Ok(()) => Ok(merged),
            Err(e) => Err(format!("its description is refused: {e}")),
        }
    }

    /// Ends a registration as `failed`.
    pub(super) async fn fail(&self, version: &PluginVersion, error: String) -> ServiceResult<()> {
        let error = one_line(&error, 2000);
        self.write_end(version, FinishVersion::Failed { error })
            .await
    }

    async fn write_end(&self, version: &PluginVersion, finish: FinishVersion) -> ServiceResult<()> {
        self.cx
            .store
            .finish_version(
                self.cx.clock.now(),
                version.tenant_id,
                &version.task_type,
                &version.digest,
                finish,
            )
            .await?;
        self.catalog_changed().await
    }

    /// Adds what a version asks for to its grants and returns them all.
    pub(super) async fn grant_what_it_asks(
        &self,
        version: &PluginVersion,
    ) -> ServiceResult<Vec<Grant>> {
        let mut grants = version.grants.clone();
        grants.extend(not_granted(version));
        if grants != version.grants {
            self.replace_grants(version, grants.clone()).await?;
        }
        Ok(grants)
    }

    /// Why a ready version is not made active by itself: it asks for more than the active one was
    /// granted, or a task of the type, of those of `whose`, would no longer fit. The first version has no obstacle.
    pub(super) async fn obstacle(
        &self,
        version: &PluginVersion,
        whose: TenantId,
    ) -> ServiceResult<Option<String>> {
        match self.asks_for_more_than_active(version) {
            Some(more) => Ok(Some(more)),
            None => self.broken_config(version, whose, &HashSet::new()).await,
        }
    }

    /// The obstacle in words that all who see the version may read: of a shared one they name nobody's task.
    async fn told_obstacle(&self, version: &PluginVersion) -> ServiceResult<Option<String>> {
        if version.tenant_id != HOST_TENANT_ID {
            return self.obstacle(version, version.tenant_id).await;
        }
        if let Some(more) = self.asks_for_more_than_active(version) {
            return Ok(Some(more));
        }
        let broken = self
            .broken_config(version, HOST_TENANT_ID, &HashSet::new())
            .await?;
        Ok(broken.map(|_| {
            let name = &version.task_type;
            format!("it would break a task (`plugin diff {name}` tells a host-admin which)")
        }))
    }

    fn asks_for_more_than_active(&self, version: &PluginVersion) -> Option<String> {
        let active = self
            .cx
            .registry
            .active(version.tenant_id, &version.task_type)
            .filter(|active| active.digest != version.digest)?;
        let more = asked(version).find(|asked| !covered(asked, &active.grants))?;
        Some(format!(
            "it asks for `{more}`, which the active version was not granted"
        ))
    }

    /// The first config of the type, not pinned elsewhere and none of `except`, whose parameters the version refuses;
    /// of the tenant, or of all if `whose` is the host.
    pub(super) async fn broken_config(
        &self,
        version: &PluginVersion,
        whose: TenantId,
        except: &HashSet<ConfigId>,
    ) -> ServiceResult<Option<String>> {
        for (tenant, name) in self.users(whose).await? {
            if let Some(broken) = self.broken_config_of(version, tenant, except).await? {
                return Ok(Some(match name {
                    Some(name) => format!("it would break tenant `{name}`'s {broken}"),
                    None => format!("it would break {broken}"),
                }));
            }
        }
        Ok(None)
    }

    async fn broken_config_of(
        &self,
        version: &PluginVersion,
        tenant: TenantId,
        except: &HashSet<ConfigId>,
    ) -> ServiceResult<Option<String>> {
        let filter = ConfigFilter {
            task_type: Some(version.task_type.clone()),
            ..ConfigFilter::default()
        };
        let mut page = Page::first(CONFIG_PAGE);
        loop {
            let listing = self.cx.store.configs(tenant, &filter, &page).await?;
            for config in listing.items {
                if config.spec.plugin_version.is_some() || except.contains(&config.id) {
                    continue;
                }
                let checked = self
                    .cx
                    .check_parameters(Some(version), &config.spec.parameters, u64::MAX)
                    .await;
                if let Err(invalid) = checked {
                    return Ok(Some(format!(
                        "task {} (`{}`): {invalid}",
                        config.id,
                        one_line(&config.spec.name, 60)
                    )));
                }
            }
            match listing.next {
                Some(next) => page.after = Some(next),
                None => return Ok(None),
            }
        }
    }
}

/// Gives the version free again however the task ends.
struct InFlight<'a>(&'a Plugins, &'a PluginVersion);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.leave_in_flight(self.1);
    }
}

/// What a version asks for.
fn asked(version: &PluginVersion) -> impl Iterator<Item = Grant> + '_ {
    // The descriptor was read by `Descriptor::from_json`, which keeps only grants that parse.
    let asked = version.descriptor.capabilities.iter();
    asked.filter_map(|text| text.parse().ok())
}

/// What a version asks for beyond what it was granted.
fn not_granted(version: &PluginVersion) -> impl Iterator<Item = Grant> + '_ {
    asked(version).filter(|asked| !covered(asked, &version.grants))
}

/// What a person should know of a version that asks for more than it is granted.
pub(super) fn asks_for_more(version: &PluginVersion) -> Option<String> {
    let missing: Vec<String> = not_granted(version)
        .map(|asked| format!("`{asked}`"))
        .collect();
    match missing.is_empty() {
        true => None,
        false => Some(format!(
            "asks for {}, which is not granted",
            missing.join(", ")
        )),
    }
}

/// Whether grants allow all that `asked` would.
fn covered(asked: &Grant, grants: &[Grant]) -> bool {
    grants.iter().any(|granted| match (asked, granted) {
        (Grant::Http(asked), Grant::Http(granted)) => http_covered(asked, granted),
        _ => asked == granted,
    })
}

fn http_covered(asked: &HttpGrant, granted: &HttpGrant) -> bool {
    let methods = granted.methods.is_empty()
        || (!asked.methods.is_empty() && asked.methods.iter().all(|m| granted.methods.contains(m)));
    let host = asked.host == granted.host
        || granted
            .host
            .strip_prefix('*')
            .is_some_and(|suffix| asked.host.trim_start_matches('*').ends_with(suffix));
    let prefix = granted.path.trim_end_matches('/');
    let path = asked
        .path
        .strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let via = asked.via.is_none() || asked.via == granted.via;
    methods && host && path && via && (&asked.scheme, asked.port) == (&granted.scheme, granted.port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(text: &str) -> Grant {
        text.parse().expect(text)
    }

    #[test]
    fn a_wider_grant_covers_a_narrower_wish() {
        for (asked, granted, covers) in [
            ("state", "state", true),
            ("state", "http GET https://a.example", false),
            (
                "http GET https://a.example",
                "http * https://a.example",
                true,
            ),
            (
                "http * https://a.example",
                "http GET https://a.example",
                false,
            ),
            (
                "http GET https://x.a.example",
                "http GET https://*.a.example",
                true,
            ),
            (
                "http GET https://a.example",
                "http GET https://*.a.example",
                false,
            ),
            (
                "http GET https://a.example/v1/x",
                "http GET https://a.example/v1",
                true,
            ),
            (
                "http GET https://a.example/v10",
                "http GET https://a.example/v1",
                false,
            ),
            (
                "http GET https://a.example",
                "http GET http://a.example",
                false,
            ),
        ] {
            assert_eq!(
                covered(&grant(asked), &[grant(granted)]),
                covers,
                "{asked} by {granted}"
            );
        }
    }
}
