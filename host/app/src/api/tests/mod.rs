//! The API over the memory store and a small fake sandbox, driven through the router.

mod access;
mod apply;
mod contract;
mod enqueue;
mod errors;
mod events;
mod harness;
mod lists;
mod openapi;
mod plugins;
mod secrets;
mod sockets;
mod tasks;

use harness::{Answer, Harness, at};
