//! The one binary of Horarium: settings, REST, telemetry and the command line around the crates that do
//! the work. [`app`] puts them together.

mod alerts;
pub mod api;
pub mod app;
pub mod settings;
pub mod telemetry;
