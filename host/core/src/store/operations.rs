//! The operations of a store as lists, for what wraps stores: each hands its list, behind what it was given, to a macro.
//! Operations that a wrapper changes are not in the lists; the wrapper names them itself.

macro_rules! queue_operations {
    ($then:ident; $($more:tt)*) => {
        $then! { $($more)*
            due_schedules(now: Timestamp, limit: u32) -> Vec<DueSchedule>;
            schedules_by_other_zone_data(zone_data: &str, after: ConfigId, limit: u32) -> Vec<DueSchedule>;
            next_due() -> Option<Timestamp>;
            sweep_due(now: Timestamp, limit: u32) -> Swept;
            release(now: Timestamp, items: Vec<Release>) -> u64;
            cancel(now: Timestamp, tenant: TenantId, task_id: TaskId) -> CancelReceipt;
            report_progress(items: Vec<ProgressReport>) -> ();
            start_host(now: Timestamp, name: &str) -> i64;
            describe_host(incarnation: i64, facts: HostFacts) -> ();
            hosts() -> Vec<HostRow>;
            stop_host(now: Timestamp, incarnation: i64) -> ();
            heartbeat(now: Timestamp, incarnation: i64) -> Heartbeat;
            state_snapshot(config_id: ConfigId) -> StateSnapshot;
            kept_answer(now: Timestamp, tenant: TenantId, key: &str) -> Option<KeptAnswer>;
            purge_answers(now: Timestamp, limit: u32) -> u64;
            waits(tenant: TenantId, task_id: TaskId) -> Option<Waits>;
            queue_counts() -> QueueCounts;
            waiting_heads(types: &[(TenantId, String)]) -> Vec<WaitingHead>;
        }
    };
}

macro_rules! catalog_operations {
    ($then:ident; $($more:tt)*) => {
        $then! { $($more)*
            tenant(name: &str) -> Option<TenantId>;
            catalog_epoch() -> i64;
            create_config_once(now: Timestamp, tenant: TenantId, spec: TaskSpec, request: Option<KeyedRequest<TaskConfig>>) -> Created;
            config(tenant: TenantId, id: ConfigId) -> Option<TaskConfig>;
            config_by_key(tenant: TenantId, key: &str) -> Option<TaskConfig>;
            configs_by_ids(ids: &[ConfigId]) -> Vec<TaskConfig>;
            configs(tenant: TenantId, filter: &ConfigFilter, page: &Page) -> Listing<TaskConfig>;
            changed_configs(tenant: TenantId, since: Timestamp, limit: u32) -> Vec<TaskConfig>;
            delete_config(now: Timestamp, tenant: TenantId, id: ConfigId, history: HistoryOnDelete) -> Deleted;
            declare(now: Timestamp, tenant: TenantId, declaration: Declaration) -> Declared;
            purge_deleted(limit: u32) -> bool;
            add_version(now: Timestamp, version: PluginVersion, bytes: Vec<u8>) -> PluginVersion;
            set_grants(tenant: TenantId, task_type: &str, digest: &str, grants: Vec<Grant>) -> PluginVersion;
            finish_version(now: Timestamp, tenant: TenantId, task_type: &str, digest: &str, finish: FinishVersion) -> PluginVersion;
            activate_version(now: Timestamp, tenant: TenantId, task_type: &str, digest: &str) -> TaskType;
            remove_type(tenant: TenantId, task_type: &str) -> ();
            set_disabled(now: Timestamp, tenant: TenantId, task_type: &str, disabled: bool) -> TaskType;
            reset_breaker(now: Timestamp, tenant: TenantId, task_type: &str) -> TaskType;
            task_type(tenant: TenantId, task_type: &str) -> Option<TaskType>;
            task_types(tenant: TenantId, page: &Page) -> Listing<TaskType>;
            all_task_types() -> Vec<TaskType>;
            versions(tenant: TenantId, task_type: &str) -> Vec<PluginVersion>;
            all_versions() -> Vec<PluginVersion>;
            component_bytes(digest: &str) -> Option<Vec<u8>>;
            task_state(tenant: TenantId, config: ConfigId) -> BTreeMap<String, StateEntry>;
            set_task_state(now: Timestamp, tenant: TenantId, config: ConfigId, key: &str, value: Option<Vec<u8>>) -> ();
            reset_task_state(tenant: TenantId, config: ConfigId) -> u64;
        }
    };
}

macro_rules! history_operations {
    ($then:ident; $($more:tt)*) => {
        $then! { $($more)*
            execution(tenant: TenantId, task_id: TaskId) -> Option<Execution>;
            executions(tenant: TenantId, filter: &ExecutionFilter, page: &Page) -> Listing<Execution>;
            news(tenant: TenantId, after: NewsMark, limit: u32, running: u32) -> News;
            attempts(tenant: TenantId, task_id: TaskId) -> Vec<AttemptRecord>;
            logs(tenant: TenantId, task_id: TaskId, page: &Page) -> Listing<LogLine>;
            http_calls(tenant: TenantId, task_id: TaskId, page: &Page) -> Listing<HttpCall>;
            take_in(tenant: TenantId, items: Vec<EndedElsewhere>) -> Vec<bool>;
        }
    };
}

macro_rules! vault_operations {
    ($then:ident; $($more:tt)*) => {
        $then! { $($more)*
            plugin_config(tenant: TenantId, task_type: &str) -> BTreeMap<String, String>;
            set_plugin_config(now: Timestamp, tenant: TenantId, task_type: &str, key: &str, value: Option<String>) -> ();
            configured_types() -> Vec<(TenantId, String)>;
            secrets(tenant: TenantId, page: &Page) -> Listing<SecretInfo>;
            secret(tenant: TenantId, name: &str) -> Option<SecretInfo>;
            sealed_secrets(tenant: TenantId, names: &[String]) -> Vec<SealedSecret>;
            put_secret(now: Timestamp, secret: SealedSecret) -> SecretInfo;
            delete_secret(tenant: TenantId, name: &str) -> bool;
            secret_keys() -> Vec<String>;
            secrets_under_other_keys(key_id: &str, after: Option<(TenantId, String)>, limit: u32) -> Vec<SealedSecret>;
            reseal_secret(secret: SealedSecret) -> bool;
        }
    };
}

macro_rules! access_operations {
    ($then:ident; $($more:tt)*) => {
        $then! { $($more)*
            create_tenant(now: Timestamp, name: &str, weight: u32) -> Tenant;
            tenant_named(name: &str) -> Option<Tenant>;
            tenants(page: &Page) -> Listing<Tenant>;
            delete_tenant(now: Timestamp, tenant: TenantId) -> ();
            create_token(now: Timestamp, token: NewToken) -> Token;
            token(id: TokenId) -> Option<Token>;
            tokens(tenant: TenantId, with_host: bool, page: &Page) -> Listing<Token>;
            rotate_token(now: Timestamp, id: TokenId, hash: &str, previous_until: Option<Timestamp>) -> Token;
            delete_token(id: TokenId) -> ();
            touch_token(id: TokenId, at: Timestamp) -> ();
            record_audit(entries: Arc<[AuditEntry]>) -> ();
            audit(filter: &AuditFilter, page: &Page) -> Listing<AuditRow>;
            purge_audit(before: Timestamp, limit: u32) -> u64;
        }
    };
}

macro_rules! outbox_operations {
    ($then:ident; $($more:tt)*) => {
        $then! { $($more)*
            post_alerts(now: Timestamp, alerts: Vec<NewAlert>) -> u64;
            take_alerts(now: Timestamp, until: Timestamp, limit: u32) -> Vec<Alert>;
            settle_alert(alert_id: &str, tries: u32, again: Option<Timestamp>) -> ();
            purge_alerts(before: Timestamp, limit: u32) -> u64;
        }
    };
}

macro_rules! care_operations {
    ($then:ident; $($more:tt)*) => {
        $then! { $($more)*
            begin_care(now: Timestamp, every: std::time::Duration) -> bool;
            prune(step: &PruneStep) -> Pruned;
            history_count(tenant: TenantId) -> u64;
            beyond_newest(tenant: TenantId, after: ConfigId, limit: u32, keep: u64) -> Vec<(ConfigId, Option<horarium_model::ExecutionId>)>;
            retention(tenant: TenantId, config: Option<ConfigId>) -> Option<horarium_model::retention::Retention>;
            set_retention(tenant: TenantId, config: Option<ConfigId>, retention: horarium_model::retention::Retention) -> ();
            config_retentions(tenant: TenantId, after: ConfigId, limit: u32) -> Vec<(ConfigId, horarium_model::retention::Retention)>;
            quotas(tenant: TenantId) -> Option<TenantQuotas>;
            set_quotas(tenant: TenantId, quotas: horarium_model::quota::Quotas) -> ();
            quota_use(now: Timestamp, tenant: TenantId) -> horarium_model::quota::QuotaUse;
            usage(tenant: Option<TenantId>, days: std::ops::Range<i64>) -> Vec<UsageRow>;
            fold_usage(day: i64) -> bool;
        }
    };
}

pub(crate) use access_operations;
pub(crate) use care_operations;
pub(crate) use catalog_operations;
pub(crate) use history_operations;
pub(crate) use outbox_operations;
pub(crate) use queue_operations;
pub(crate) use vault_operations;
