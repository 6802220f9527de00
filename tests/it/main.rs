//! Horarium from outside: every test starts the real binary and speaks to it through its command line
//! and REST, as an operator would. `cargo xtask plugins` must have built the plugins.

mod support;

mod access;
mod alerts;
mod apply;
mod architecture;
mod backup;
mod bad_configs;
mod bad_documents;
mod bad_plugins;
mod bench;
mod capabilities;
mod care;
mod crash;
mod db_copy;
mod deletion;
mod dev;
mod embedded;
mod enqueue;
mod events;
mod guests;
mod hostile;
mod import;
mod isolation;
mod limits;
mod logs_and_errors;
mod main_path;
mod many_hosts;
mod missed;
mod network;
mod next_steps;
mod parameters;
mod plugin_versions;
mod retries;
mod secrets;
mod shared;
mod soak;
mod start_stop;
mod steering;
mod surfaces;
mod threats;
mod traces;
