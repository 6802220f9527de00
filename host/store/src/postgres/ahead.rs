//! Locks that come before those of executions and are known only when executions are locked: what chains look
//! at. Then they are tried without waiting; if somebody has one, the transaction is run anew and takes them first.

use super::sql;
use super::tx::{Fault, PgResult, Tx, query, query_scalar};
use horarium_model::ConfigId;
use std::collections::{BTreeSet, HashSet};

/// Rows, by the tables in the order in which they are locked.
#[derive(Debug, Default, Clone)]
pub(super) struct Ahead {
    /// Whose schedules.
    pub(super) schedules: BTreeSet<ConfigId>,
    /// Configs that may not be deleted.
    pub(super) configs: BTreeSet<ConfigId>,
    pub(super) capped: Capped,
}

/// Tenants and types whose backlogs are capped.
#[derive(Debug, Default, Clone)]
pub(super) struct Capped {
    pub(super) tenants: BTreeSet<i64>,
    pub(super) types: BTreeSet<(i64, String)>,
}

fn numbers(set: &BTreeSet<i64>) -> Vec<i64> {
    set.iter().copied().collect()
}

impl Ahead {
    /// Adds others.
    pub(super) fn extend(&mut self, other: Self) {
        self.schedules.extend(other.schedules);
        self.configs.extend(other.configs);
        self.capped.tenants.extend(other.capped.tenants);
        self.capped.types.extend(other.capped.types);
    }
}

impl Capped {
    fn types(&self) -> (Vec<i64>, Vec<&str>) {
        let types = self.types.iter();
        types.map(|(tenant, name)| (*tenant, name.as_str())).unzip()
    }

    /// Waits for them; they stay locked until the transaction ends.
    pub(super) async fn lock(&self, tx: &mut Tx) -> PgResult<()> {
        if !self.tenants.is_empty() {
            query(sql::LOCK_TENANTS)
                .bind(numbers(&self.tenants))
                .execute(tx.connection())
                .await?;
        }
        if !self.types.is_empty() {
            let (tenants, names) = self.types();
            query(sql::LOCK_TYPES)
                .bind(tenants)
                .bind(names)
                .execute(tx.connection())
                .await?;
        }
        Ok(())
    }

    /// Locks those that are free. Whether that was all.
    async fn try_lock(&self, tx: &mut Tx) -> PgResult<bool> {
        let mut locked = 0;
        if !self.tenants.is_empty() {
            let tenants = query(sql::TRY_LOCK_TENANTS)
                .bind(numbers(&self.tenants))
                .execute(tx.connection())
                .await?;
            locked += tenants.rows_affected();
        }
        if !self.types.is_empty() {
            let (tenants, names) = self.types();
            let types = query(sql::TRY_LOCK_TYPES)
                .bind(tenants)
                .bind(names)
                .execute(tx.connection())
                .await?;
            locked += types.rows_affected();
        }
        Ok(locked == (self.tenants.len() + self.types.len()) as u64)
    }
}

/// The first locks of a transaction: the schedules it knows itself, and what its last try found locked. Which
/// schedules that are.
pub(super) async fn lock(tx: &mut Tx, schedules: &[ConfigId]) -> PgResult<HashSet<ConfigId>> {
    let ahead = tx.ahead.clone();
    let schedules: BTreeSet<ConfigId> = ahead.schedules.iter().chain(schedules).copied().collect();
    let mut locked = HashSet::new();
    if !schedules.is_empty() {
        let rows: Vec<i64> = query_scalar(sql::LOCK_SCHEDULES)
            .bind(numbers(&schedules))
            .fetch_all(tx.connection())
            .await?;
        locked.extend(rows);
    }
    rest(tx, &ahead).await?;
    Ok(locked)
}

/// What comes after the schedules.
pub(super) async fn rest(tx: &mut Tx, ahead: &Ahead) -> PgResult<()> {
    if !ahead.configs.is_empty() {
        query(sql::CONFIGS_ALIVE)
            .bind(numbers(&ahead.configs))
            .execute(tx.connection())
            .await?;
    }
    ahead.capped.lock(tx).await
}

/// Locks late, without waiting.
///
/// # Errors
/// `Again` when somebody else has one of them; the next try locks them first.
pub(super) async fn late(tx: &mut Tx, wanted: Ahead) -> PgResult<()> {
    let mut all = true;
    if !wanted.schedules.is_empty() {
        let got = query(sql::TRY_LOCK_SCHEDULES)
            .bind(numbers(&wanted.schedules))
            .execute(tx.connection())
            .await?;
        all = got.rows_affected() == wanted.schedules.len() as u64;
    }
    if all && !wanted.configs.is_empty() {
        let got = query(sql::TRY_CONFIGS_ALIVE)
            .bind(numbers(&wanted.configs))
            .execute(tx.connection())
            .await?;
        all = got.rows_affected() == wanted.configs.len() as u64;
    }
    if all && wanted.capped.try_lock(tx).await? {
        return Ok(());
    }
    tx.ahead.extend(wanted);
    Err(Fault::Again)
}
