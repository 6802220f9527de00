//! The list of what is copied is held to both schemas, and every statement made from it is prepared.

use super::tables::{Kind, LEFT_OUT, TABLES};
use crate::testing::Cluster;
use crate::{PostgresOptions, PostgresStore, SqliteOptions, SqliteStore, postgres, sqlite};
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, SqlStr};
use std::collections::BTreeSet;

async fn file() -> (SqliteConnection, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("horarium.db");
    let store = SqliteStore::open(&path, SqliteOptions::default()).await;
    store.expect("opens").close().await.expect("closes");
    let connection = SqliteConnectOptions::new().filename(&path).connect().await;
    (connection.expect("connects"), folder)
}

async fn database(cluster: &Cluster) -> PgConnection {
    let name = cluster.database().await;
    let migrated = PostgresStore::migrate(&cluster.url(&name), &PostgresOptions::default()).await;
    migrated.expect("migrates");
    cluster.connect(&name).await
}

/// `table.column type` of every column that is copied, with the types of one database.
fn listed(word: impl Fn(Kind) -> &'static str, postgres: bool) -> BTreeSet<String> {
    let mut listed = BTreeSet::new();
    for table in TABLES {
        for (column, kind) in table.columns() {
            if postgres || !(table.beside_execution && column == "tenant_id") {
                listed.insert(format!("{}.{column} {}", table.name, word(kind)));
            }
        }
    }
    listed
}

/// What a database has, without what is left out on purpose.
fn found(columns: Vec<(String, String, String)>) -> BTreeSet<String> {
    let left_out = |table: &str, column: &str| {
        let whole = format!("{table}.{column}");
        LEFT_OUT
            .iter()
            .any(|(name, _)| *name == table || *name == whole)
    };
    columns
        .into_iter()
        .filter(|(table, column, _)| !left_out(table, column))
        .map(|(table, column, kind)| format!("{table}.{column} {kind}"))
        .collect()
}

fn same(listed: &BTreeSet<String>, found: &BTreeSet<String>) {
    let forgotten: Vec<_> = found.difference(listed).collect();
    let unknown: Vec<_> = listed.difference(found).collect();
    assert!(
        forgotten.is_empty() && unknown.is_empty(),
        "`db copy` forgets {forgotten:?} and knows of {unknown:?}, which are not there: see copy/tables.rs"
    );
}

#[tokio::test]
async fn every_column_of_sqlite_is_copied() {
    let (mut connection, _folder) = file().await;
    let columns: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT t.name, c.name, c.type FROM sqlite_schema t, pragma_table_info(t.name) c \
         WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%'",
    )
    .fetch_all(&mut connection)
    .await
    .expect("columns");
    let word = |kind| match kind {
        Kind::Int | Kind::Flag => "INTEGER",
        Kind::Real => "REAL",
        Kind::Text => "TEXT",
        Kind::Json | Kind::Blob => "BLOB",
    };
    same(&listed(word, false), &found(columns));
}

#[tokio::test]
async fn every_column_of_postgres_is_copied_and_every_statement_prepares() {
    let cluster = Cluster::start();
    let mut connection = database(&cluster).await;
    let columns: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT c.relname::text, a.attname::text, replace(format_type(a.atttypid, NULL), 'integer', 'bigint') \
         FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition",
    )
    .fetch_all(&mut connection)
    .await
    .expect("columns");
    let word = |kind| match kind {
        Kind::Int => "bigint",
        Kind::Flag => "boolean",
        Kind::Real => "double precision",
        Kind::Text => "text",
        Kind::Json => "jsonb",
        Kind::Blob => "bytea",
    };
    same(&listed(word, true), &found(columns));

    connection
        .execute(postgres::copy::CREATE)
        .await
        .expect("creates");
    let fixed = postgres::copy::ALL.iter().map(|sql| (*sql).to_owned());
    let made = TABLES.iter().flat_map(|table| {
        [
            postgres::copy::count_statement(table),
            postgres::copy::page_statement(table, true),
            postgres::copy::page_statement(table, false),
            postgres::copy::insert_statement(table),
        ]
    });
    for statement in fixed.chain(made) {
        let sql = AssertSqlSafe(statement.clone());
        let prepared = (&mut connection)
            .prepare(sqlx::SqlSafeStr::into_sql_str(sql))
            .await;
        if let Err(error) = prepared {
            panic!("{error}\n{statement}");
        }
    }
}

#[tokio::test]
async fn every_statement_of_sqlite_prepares() {
    let (mut connection, _folder) = file().await;
    connection
        .execute(sqlite::copy::CREATE)
        .await
        .expect("creates");
    let fixed = sqlite::copy::ALL.iter().map(|sql| (*sql).to_owned());
    let made = TABLES.iter().flat_map(|table| {
        [
            sqlite::copy::count_statement(table),
            sqlite::copy::page_statement(table, true),
            sqlite::copy::page_statement(table, false),
            sqlite::copy::insert_statement(table),
        ]
    });
    for statement in fixed.chain(made) {
        let sql: SqlStr = sqlx::SqlSafeStr::into_sql_str(AssertSqlSafe(statement.clone()));
        if let Err(error) = (&mut connection).prepare(sql).await {
            panic!("{error}\n{statement}");
        }
    }
}
