//! A registration: checks, wishes, and what these bytes were told before.

use super::finish::Finishing;
use super::registration::Registration;
use super::validate::refuse;
use super::{Plugins, ServiceError, ServiceResult, below};
use crate::runner::COMMAND;
use horarium_model::program::ProgramInput;
use horarium_model::task_type::{PluginVersion, VersionState, check_name};
use horarium_model::{Invalid, Problem, TenantId};
use std::collections::HashSet;

impl Plugins {
    /// Checks a component and keeps it; what is left (compiling, describing, activating) goes on in the
    /// background. Bytes that are known stay as they are, with the wishes of now: the answer is then the version
    /// as it stands.
    ///
    /// # Errors
    /// `Invalid` when the component or the wishes are refused, `Conflict` when tasks would not fit a version that runs
    /// already any more; nothing was written then.
    pub async fn register(
        &self,
        tenant: TenantId,
        name: &str,
        bytes: Vec<u8>,
        wish: Registration,
    ) -> ServiceResult<PluginVersion> {
        let cx = &self.cx;
        if let Err(detail) = check_name(name) {
            return Err(Invalid::one("/task_type", detail).into());
        }
        let limits = wish.limits.unwrap_or_default();
        refuse(cx.limit_problems(&limits, None, "/limits"))?;
        cx.intake
            .check_descriptor(&wish.descriptor)
            .await
            .map_err(|e| below("/descriptor", e))?;
        let (inspection, pending) = cx
            .intake
            .inspect(bytes.clone())
            .await
            .map_err(|e| below("/component", e))?;
        let input = self.program_input(tenant, name, wish.input, inspection.kind == COMMAND)?;
        let grants = match wish.grants {
            Some(grants) => grants,
            None => cx
                .registry
                .active(tenant, name)
                .map(|active| active.grants.clone())
                .unwrap_or_default(),
        };
        let now = cx.clock.now();
        let mut version = PluginVersion {
            tenant_id: tenant,
            task_type: name.to_owned(),
            digest: inspection.digest.clone(),
            state: VersionState::Compiling,
            error: None,
            size_bytes: inspection.size_bytes,
            descriptor: wish.descriptor,
            grants,
            limits,
            input,
            activate: wish.activate,
            grant_asked: wish.grant_asked,
            warnings: inspection.warnings.clone(),
            created_at: now,
        };
        let known = cx.store.versions(tenant, name).await?;
        let known = known
            .into_iter()
            .find(|known| known.digest == version.digest);
        if let Some(known) = known.filter(|known| known.state == VersionState::Ready) {
            version.limits = wish.limits.unwrap_or(known.limits);
            self.describe_again(known, &mut version).await?;
        }
        let kept = cx.store.add_version(now, version, bytes).await?;
        match kept.state {
            VersionState::Compiling => {
                let finishing = Finishing {
                    version: kept.clone(),
                    warnings: inspection.warnings,
                };
                self.finish_in_background(finishing, pending);
            }
            VersionState::Ready => {
                self.known_again(&kept, wish.activate, wish.grant_asked)
                    .await?
            }
            VersionState::Failed => {}
        }
        Ok(kept)
    }

    /// The description of known bytes, the operator's wishes of now winning field by field over what it was.
    async fn describe_again(
        &self,
        known: PluginVersion,
        version: &mut PluginVersion,
    ) -> ServiceResult<()> {
        let before = known.descriptor.clone();
        let wish = std::mem::take(&mut version.descriptor);
        version.descriptor = known.descriptor.overridden_by(wish);
        if version.descriptor == before {
            return Ok(());
        }
        let checked = self.cx.intake.check_descriptor(&version.descriptor).await;
        checked.map_err(|e| below("/descriptor", e))?;
        let active = self
            .cx
            .registry
            .active(version.tenant_id, &version.task_type);
        if active.is_some_and(|active| active.digest == version.digest)
            && let Some(obstacle) = self
                .broken_config(version, version.tenant_id, &HashSet::new())
                .await?
        {
            return Err(ServiceError::Conflict(format!(
                "these bytes run already, and described so {obstacle}; nothing was changed"
            )));
        }
        Ok(())
    }

    /// What a program is started with: as wished, else as the active version is.
    fn program_input(
        &self,
        tenant: TenantId,
        name: &str,
        wish: Option<ProgramInput>,
        is_program: bool,
    ) -> Result<ProgramInput, Invalid> {
        match wish {
            Some(input) if is_program => Ok(input),
            Some(input) => {
                let keys = [
                    ("/args_from", &input.args_from),
                    ("/env_from", &input.env_from),
                    ("/stdin_from", &input.stdin_from),
                ];
                let said = keys.into_iter().filter(|(_, pointer)| pointer.is_some());
                let detail = "is for WASI programs (world wasi:cli/command); this is a task, which gets its parameters as they are";
                Err(Invalid(
                    said.map(|(key, _)| Problem::at(key, detail)).collect(),
                ))
            }
            None if is_program => {
                let active = self.cx.registry.active(tenant, name);
                Ok(active
                    .map(|active| active.input.clone())
                    .unwrap_or_default())
            }
            None => Ok(ProgramInput::default()),
        }
    }

    /// The same bytes were registered again: grants were replaced, what is left is to activate.
    async fn known_again(
        &self,
        version: &PluginVersion,
        activate: bool,
        grant_asked: bool,
    ) -> ServiceResult<()> {
        if grant_asked {
            self.grant_what_it_asks(version).await?;
        }
        if activate && self.obstacle(version, version.tenant_id).await?.is_none() {
            self.cx
                .store
                .activate_version(
                    self.cx.clock.now(),
                    version.tenant_id,
                    &version.task_type,
                    &version.digest,
                )
                .await?;
        }
        self.catalog_changed().await
    }

    /// Continues the registrations that a stopped host left `compiling`. Call once at start.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn resume_registrations(&self) -> ServiceResult<()> {
        let cx = &self.cx;
        let versions = cx.store.all_versions().await?;
        for version in versions
            .into_iter()
            .filter(|v| v.state == VersionState::Compiling)
        {
            let bytes = cx.store.component_bytes(&version.digest).await?;
            let outcome = match bytes {
                Some(bytes) => cx.intake.inspect(bytes).await.map_err(|e| e.to_string()),
                None => Err("its bytes are gone; register it again".to_owned()),
            };
            match outcome {
                Ok((inspection, pending)) => self.finish_in_background(
                    Finishing {
                        version,
                        warnings: inspection.warnings,
                    },
                    pending,
                ),
                Err(error) => self.fail(&version, error).await?,
            }
        }
        Ok(())
    }
}
