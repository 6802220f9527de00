//! Durable stores. [`SqliteStore`] keeps everything in one file beside the host; [`PostgresStore`] in a
//! database that many hosts share.
//!
//! What a database of any kind shares (how instants, states and JSON become columns and back) is in
//! `columns`; each database has its own statements and its own way to write.

// What users, guests, disks and databases bring ends in an error, never in a panic.
#![warn(clippy::unwrap_used, clippy::expect_used)]

#[macro_use]
mod sql;

mod care;
mod chain;
mod choose;
mod columns;
mod connections;
mod copy;
mod firing;
mod give_back;
mod import;
mod migrations;
mod postgres;
mod rows;
mod settle;
mod sqlite;
#[cfg(any(test, feature = "testing"))]
#[allow(clippy::expect_used, reason = "a test, for other crates")]
pub mod testing;

pub use connections::Connections;
pub use copy::{CopiedTable, CopyPlace, CopyProgress, CopyReport, copy};
pub use postgres::{Checkup, PartitionSpan, PostgresOptions, PostgresStatus, PostgresStore};
pub use postgres::{ForeignColumn, ForeignDatabase, ForeignRow, ForeignTable, without_driver};
pub use sqlite::{
    DbStatus, Durability, Restored, SqliteOptions, SqliteStore, backup, migrate, quick_check,
    restore, status,
};
