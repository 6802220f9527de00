//! The throwaway database all hosts share, and a way to ask it.

use std::sync::Mutex;

use anyhow::{Context, Result, anyhow};
use horarium_store::testing::{Cluster, Looker};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

/// A PostgreSQL of our own with one empty database.
pub(crate) struct Database {
    runtime: Runtime,
    cluster: Cluster,
    name: String,
    looker: Mutex<Option<Looker>>,
}

impl Database {
    /// Starts the server with these options.
    pub(crate) fn start(options: &str) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("no runtime")?;
        let cluster = Cluster::start_with("trust", options);
        let name = runtime.block_on(cluster.database());
        Ok(Self {
            runtime,
            cluster,
            name,
            looker: Mutex::default(),
        })
    }

    pub(crate) fn runtime(&self) -> &tokio::runtime::Handle {
        self.runtime.handle()
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The URL of the database, past all links.
    pub(crate) fn url(&self) -> String {
        self.cluster.url(&self.name)
    }

    /// The rows of a query. After a failure the next call connects anew.
    pub(crate) fn rows(&self, sql: &str) -> Result<Vec<Value>> {
        let mut kept = self.looker.lock().map_err(|_| anyhow!("a look panicked"))?;
        let found = self.runtime.block_on(async {
            let mut looker = match kept.take() {
                Some(looker) => looker,
                None => self.cluster.look(&self.name).await?,
            };
            let rows = looker.rows(sql).await?;
            *kept = Some(looker);
            Ok::<_, String>(rows)
        });
        found.map_err(|error| anyhow!("{error}: {sql}"))
    }

    /// The row of a query that has one.
    pub(crate) fn row(&self, sql: &str) -> Result<Value> {
        let mut rows = self.rows(sql)?;
        rows.pop().with_context(|| format!("no row: {sql}"))
    }

    /// The columns of a table but for these, as a list in SQL.
    pub(crate) fn columns(&self, table: &str, but: &str) -> Result<String> {
        let row = self.row(&format!(
            "SELECT string_agg(quote_ident(column_name), ', ') AS names FROM information_schema.columns \
             WHERE table_schema = 'public' AND table_name = '{table}' \
             AND column_name <> ALL (string_to_array('{but}', ' '))"
        ))?;
        Ok(row["names"].as_str().context("no columns")?.to_owned())
    }

    /// Makes `count` copies of a config with its schedule, which would take long one by one. Hosts are not told.
    pub(crate) fn copy_config(&self, config: i64, count: u32) -> Result<()> {
        let configs = self.columns("task_configs", "id")?;
        let schedules = self.columns("task_schedules", "config_id")?;
        self.run(&format!(
            "WITH made AS (INSERT INTO task_configs ({configs}) \
                SELECT {configs} FROM task_configs, generate_series(1, {count}) WHERE id = {config} RETURNING id) \
             INSERT INTO task_schedules (config_id, {schedules}) \
                SELECT made.id, {schedules} FROM made, task_schedules WHERE config_id = {config}; \
             ANALYZE task_configs, task_schedules"
        ));
        Ok(())
    }

    /// Runs statements that answer nothing.
    pub(crate) fn run(&self, sql: &str) {
        self.runtime.block_on(self.cluster.run(&self.name, sql));
    }
}
