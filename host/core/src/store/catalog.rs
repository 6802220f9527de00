//! Task configs, plugins, and the state of tasks.

use super::{KeptAnswer, KeyedRequest, Listing, Page, StoreError, StoreResult};
use crate::runner::StateEntry;
use horarium_model::config::SkipStreak;
use horarium_model::descriptor::Descriptor;
use horarium_model::grant::Grant;
use horarium_model::limits::LimitOverrides;
use horarium_model::program::ProgramInput;
use horarium_model::schedule::SchedulerType;
use horarium_model::task_type::{PluginVersion, TaskType, TypeConcurrencyChange};
use horarium_model::{ConfigId, TaskConfig, TaskSpec, TenantId, Timestamp};
use std::collections::BTreeMap;

/// What operators write.
///
/// Task types have an owner: a tenant, or the host ([`horarium_model::HOST_TENANT_ID`]), which shares them with every
/// tenant; one name, never both. Reading for a tenant finds its own and the shared ones; what changes a type takes its
/// owner as `tenant`, and for a tenant does not find a shared one.
#[async_trait::async_trait]
pub trait Catalog: Send + Sync + 'static {
    /// The row id of a tenant, by name.
    async fn tenant(&self, name: &str) -> StoreResult<Option<TenantId>>;

    /// Counts every change of configs, plugins and grants; caches compare it.
    async fn catalog_epoch(&self) -> StoreResult<i64>;

    /// Stores a new config, its schedule anchored at `now` with its next fire instant. A config created
    /// paused has no next fire.
    ///
    /// # Errors
    /// `Conflict` when the key is taken.
    async fn create_config(
        &self,
        now: Timestamp,
        tenant: TenantId,
        spec: TaskSpec,
    ) -> StoreResult<TaskConfig> {
        match self.create_config_once(now, tenant, spec, None).await? {
            Created::Done(config) => Ok(*config),
            Created::Repeated(_) => Err(StoreError::Internal("an answer without a key".into())),
        }
    }

    /// [`Self::create_config`] for a request that may be repeated: with a key that was used within the last
    /// day nothing is done and the kept answer returned (rule E8).
    ///
    /// # Errors
    /// `Conflict` when the config's key is taken.
    async fn create_config_once(
        &self,
        now: Timestamp,
        tenant: TenantId,
        spec: TaskSpec,
        request: Option<KeyedRequest<TaskConfig>>,
    ) -> StoreResult<Created>;

    /// A config that is not deleted.
    async fn config(&self, tenant: TenantId, id: ConfigId) -> StoreResult<Option<TaskConfig>>;

    /// A config by its key.
    async fn config_by_key(&self, tenant: TenantId, key: &str) -> StoreResult<Option<TaskConfig>>;

    /// Configs by id, whatever the tenant, deleted ones left out; for the host's own cache.
    async fn configs_by_ids(&self, ids: &[ConfigId]) -> StoreResult<Vec<TaskConfig>>;

    /// Configs of a tenant, newest first.
    async fn configs(
        &self,
        tenant: TenantId,
        filter: &ConfigFilter,
        page: &Page,
    ) -> StoreResult<Listing<TaskConfig>>;

    /// Configs of a tenant that were created or changed at `since` or later, in the order of their changes, at most `limit`.
    async fn changed_configs(
        &self,
        tenant: TenantId,
        since: Timestamp,
        limit: u32,
    ) -> StoreResult<Vec<TaskConfig>>;

    /// Replaces a config's spec if its version is still `expected_version`, which rises by one.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when the version differs or the key is taken.
    async fn update_config(
        &self,
        now: Timestamp,
        tenant: TenantId,
        id: ConfigId,
        update: ConfigUpdate,
    ) -> StoreResult<TaskConfig>;

    /// Deletes a config: a tombstone at once, under which every read shows `config_id` null; its waiting
    /// executions end `cancelled` with a message beginning `config_deleted`; its state dies. With
    /// [`HistoryOnDelete::Delete`] its history goes too (what runs is removed when it ends).
    ///
    /// # Errors
    /// `NotFound`.
    async fn delete_config(
        &self,
        now: Timestamp,
        tenant: TenantId,
        id: ConfigId,
        history: HistoryOnDelete,
    ) -> StoreResult<Deleted>;

    /// Carries out a whole declaration, or nothing of it when anything stands in the way.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when a version differs, a key is taken, or a plugin's version is not ready or another
    /// than expected is active.
    async fn declare(
        &self,
        now: Timestamp,
        tenant: TenantId,
        declaration: Declaration,
    ) -> StoreResult<Declared>;

    /// One batch of the work that deletions left behind (rewriting or removing history). Returns whether
    /// there is more.
    async fn purge_deleted(&self, limit: u32) -> StoreResult<bool>;

    /// Registers a version: creates the name if it is new, keeps the bytes, state `compiling`. A version
    /// that exists and is not `failed` is returned as it is (its grants and its program's input replaced by these).
    ///
    /// # Errors
    /// `Conflict` when a tenant's version has a name that the host shares, or the host's one that a tenant uses.
    async fn add_version(
        &self,
        now: Timestamp,
        version: PluginVersion,
        bytes: Vec<u8>,
    ) -> StoreResult<PluginVersion>;

    /// Replaces what a version may do.
    ///
    /// # Errors
    /// `NotFound`.
    async fn set_grants(
        &self,
        tenant: TenantId,
        task_type: &str,
        digest: &str,
        grants: Vec<Grant>,
    ) -> StoreResult<PluginVersion>;

    /// Ends `compiling`: ready (active if asked) or failed (the bytes are dropped, the error kept).
    async fn finish_version(
        &self,
        now: Timestamp,
        tenant: TenantId,
        task_type: &str,
        digest: &str,
        finish: FinishVersion,
    ) -> StoreResult<PluginVersion>;

    /// Makes a ready version the one that runs.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it is not ready.
    async fn activate_version(
        &self,
        now: Timestamp,
        tenant: TenantId,
        task_type: &str,
        digest: &str,
    ) -> StoreResult<TaskType>;

    /// Forgets a type with its versions, settings and breaker (rule E1). Its history stays.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` while tasks name it or executions of it have not ended, of any tenant if it is shared.
    async fn remove_type(&self, tenant: TenantId, task_type: &str) -> StoreResult<()>;

    /// Holds or frees a type.
    ///
    /// # Errors
    /// `NotFound`.
    async fn set_disabled(
        &self,
        now: Timestamp,
        tenant: TenantId,
        task_type: &str,
        disabled: bool,
    ) -> StoreResult<TaskType>;

    /// Changes the bounds on all executions of a type together, of a shared one in each tenant (rule E3), each by itself:
    /// of two changes at once none is lost. They hold for the claims and enqueues that begin later; what runs or waits
    /// already stays.
    ///
    /// # Errors
    /// `NotFound`.
    async fn set_type_concurrency(
        &self,
        now: Timestamp,
        tenant: TenantId,
        task_type: &str,
        change: TypeConcurrencyChange,
    ) -> StoreResult<TaskType>;

    /// Closes the breaker of a type, the tenant's own or a shared one, for this tenant and forgets its failures.
    ///
    /// # Errors
    /// `NotFound`.
    async fn reset_breaker(
        &self,
        now: Timestamp,
        tenant: TenantId,
        task_type: &str,
    ) -> StoreResult<TaskType>;

    /// Replaces what a tenant may use.
    ///
    /// # Errors
    /// `NotFound`.
    async fn set_tenant_bounds(&self, tenant: TenantId, bounds: TenantBounds) -> StoreResult<()>;

    /// One type, the tenant's own or a shared one. Its breaker is the tenant's.
    async fn task_type(&self, tenant: TenantId, task_type: &str) -> StoreResult<Option<TaskType>>;

    /// Types of a tenant and shared ones in the order of their names; `page.after` counts names already seen.
    async fn task_types(&self, tenant: TenantId, page: &Page) -> StoreResult<Listing<TaskType>>;

    /// Every type of every tenant, for the registry.
    async fn all_task_types(&self) -> StoreResult<Vec<TaskType>>;

    /// Versions of a type, newest first.
    async fn versions(&self, tenant: TenantId, task_type: &str) -> StoreResult<Vec<PluginVersion>>;

    /// Every version in state `compiling` or `ready`, for the registry.
    async fn all_versions(&self) -> StoreResult<Vec<PluginVersion>>;

    /// The bytes of a component, as registered.
    async fn component_bytes(&self, digest: &str) -> StoreResult<Option<Vec<u8>>>;

    /// The state of a config with the versions of its keys.
    async fn task_state(
        &self,
        tenant: TenantId,
        config: ConfigId,
    ) -> StoreResult<BTreeMap<String, StateEntry>>;

    /// An operator's own write: sets a key, or deletes it with none. Its version rises.
    async fn set_task_state(
        &self,
        now: Timestamp,
        tenant: TenantId,
        config: ConfigId,
        key: &str,
        value: Option<Vec<u8>>,
    ) -> StoreResult<()>;

    /// Forgets all state of a config; returns how many keys there were.
    async fn reset_task_state(&self, tenant: TenantId, config: ConfigId) -> StoreResult<u64>;
}

/// What a tenant may use (rules E2 and E3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantBounds {
    /// Its share when tenants take turns; at least 1.
    pub weight: u32,
    /// How many of its executions run at once.
    pub max: Option<u32>,
    /// How many of them may wait.
    pub backlog: Option<u32>,
}

impl Default for TenantBounds {
    fn default() -> Self {
        Self {
            weight: 1,
            max: None,
            backlog: None,
        }
    }
}

/// What became of a creation.
#[derive(Debug, Clone, PartialEq)]
pub enum Created {
    /// The new config.
    Done(Box<TaskConfig>),
    /// The request was answered before; nothing was done.
    Repeated(KeptAnswer),
}

/// What `task apply` changes, all together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Declaration {
    /// Its name, which the configs it writes carry.
    pub set: String,
    /// Versions that are to be active, with what they may.
    pub plugins: Vec<DeclaredVersion>,
    /// New configs.
    pub creates: Vec<TaskSpec>,
    /// Configs that are there.
    pub updates: Vec<(ConfigId, ConfigUpdate)>,
    /// Configs to delete, each with the version it must still have. Their history stays.
    pub deletes: Vec<(ConfigId, i64)>,
}

/// A version as it is declared.
#[derive(Debug, Clone, PartialEq)]
pub struct DeclaredVersion {
    /// The registered name.
    pub task_type: String,
    /// The version, which is ready.
    pub digest: String,
    /// The version that must still be the active one.
    pub expected_active: Option<String>,
    /// What it may do.
    pub grants: Vec<Grant>,
    /// Its limits.
    pub limits: LimitOverrides,
    /// What of the parameters it is started with.
    pub input: ProgramInput,
}

/// What a declaration wrote.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Declared {
    /// The new configs, in their order.
    pub created: Vec<TaskConfig>,
    /// The changed ones, in their order.
    pub updated: Vec<TaskConfig>,
    /// What the deletions did.
    pub deleted: Deleted,
}

/// Which configs to list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConfigFilter {
    /// Only of this type.
    pub task_type: Option<String>,
    /// Only fired this way.
    pub scheduler_type: Option<SchedulerType>,
    /// Only paused or only not paused ones.
    pub paused: Option<bool>,
    /// Only with this text in the name, any case.
    pub name: Option<String>,
    /// Only those of this set of declarations.
    pub declared_by: Option<String>,
}

/// A change of a config.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigUpdate {
    /// The version the change was made from.
    pub expected_version: i64,
    /// What it shall be.
    pub spec: TaskSpec,
    /// New schedule position; none keeps it.
    pub reanchor: Option<Reanchor>,
}

/// A schedule starts anew (rule S2), or stops.
#[derive(Debug, Clone, PartialEq)]
pub struct Reanchor {
    /// Only later slots count.
    pub anchor_at: Timestamp,
    /// When the next slot fires; none for paused and manual configs.
    pub next_fire_at: Option<Timestamp>,
    /// Slots that passed without running (a pause), written as one `skipped` row. An open streak is
    /// written first.
    pub skipped: Option<SkipStreak>,
}

/// What becomes of the history of a deleted config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HistoryOnDelete {
    /// Kept with `config_id` null: audit.
    #[default]
    Keep,
    /// Removed: the cascade.
    Delete,
}

/// What a deletion did at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Waiting executions that ended `cancelled`.
    pub cancelled: u64,
    /// Executions that still run.
    pub running: u64,
}

impl std::ops::AddAssign for Deleted {
    fn add_assign(&mut self, other: Self) {
        self.cancelled += other.cancelled;
        self.running += other.running;
    }
}

/// How a version's registration ended.
#[derive(Debug, Clone, PartialEq)]
pub enum FinishVersion {
    /// It may run.
    Ready {
        /// What it says of itself.
        descriptor: Box<Descriptor>,
        /// Remarks for the operator.
        warnings: Vec<String>,
        /// Make it the one that runs.
        activate: bool,
    },
    /// It may not.
    Failed {
        /// Why.
        error: String,
    },
}
