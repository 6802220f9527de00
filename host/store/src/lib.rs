//! Durable stores. [`SqliteStore`] keeps everything in one file beside the host.
//!
//! What a database of any kind shares (how instants, states and JSON become columns and back) is in
//! `columns`; each database has its own statements and its own way to write.

mod columns;
mod sqlite;

pub use sqlite::{DbStatus, Durability, SqliteOptions, SqliteStore, migrate, quick_check, status};
