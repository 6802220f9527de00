//! The one binary of Horarium: settings, REST, telemetry and the command line around the crates that do
//! the work. [`app`] puts them together.

// What users, guests, disks and databases bring ends in an error, never in a panic.
#![warn(clippy::unwrap_used, clippy::expect_used)]

mod alerts;
pub mod api;
pub mod app;
pub mod settings;
pub mod telemetry;
