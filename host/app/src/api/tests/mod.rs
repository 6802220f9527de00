//! The API over the memory store and a small fake sandbox, driven through the router.

mod access;
mod apply;
mod bulk;
mod contract;
mod enqueue;
mod errors;
mod events;
mod executions;
mod harness;
mod lists;
mod once;
mod openapi;
mod plugins;
mod secrets;
mod shared;
mod sockets;
mod tasks;
mod tokens;

use harness::{Answer, Harness, at};
