//! `execution`: facts about the attempt in progress.

use crate::bindings::plugin::horarium::task::execution;
use crate::data::RunData;
use horarium_model::Timestamp;
use wasmtime::component::{HasSelf, Linker};

pub(crate) const INTERFACE: &str = "execution";

pub(super) fn link(linker: &mut Linker<RunData>) -> wasmtime::Result<()> {
    execution::add_to_linker::<_, HasSelf<_>>(linker, |data| data)
}

impl execution::Host for RunData {
    fn task_id(&mut self) -> wasmtime::Result<String> {
        Ok(self.attempt.task_id.to_string())
    }

    fn attempt(&mut self) -> wasmtime::Result<u32> {
        Ok(self.attempt.attempt)
    }

    fn max_attempts(&mut self) -> wasmtime::Result<u32> {
        Ok(self.attempt.max_attempts)
    }

    fn task_name(&mut self) -> wasmtime::Result<String> {
        Ok(self.attempt.task_name.clone())
    }

    fn config_id(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.attempt.config_id.map(|id| id.to_string()))
    }

    fn scheduled_for(&mut self) -> wasmtime::Result<Option<u64>> {
        Ok(self.attempt.slot.as_ref().map(millis))
    }

    fn remaining(&mut self) -> wasmtime::Result<u64> {
        let left = match self.attempt.given.fixed.at {
            // A run that is to be repeated does not see how fast the machine is.
            Some(_) => self.attempt.timeout,
            None => self.remaining_time(),
        };
        Ok(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
    }

    fn stop_requested(&mut self) -> wasmtime::Result<bool> {
        Ok(self.control.stop_requested())
    }

    fn attribute(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        let attempt = &self.attempt;
        Ok(match name.as_str() {
            "trigger" => Some(attempt.trigger.as_str().to_owned()),
            "parent-task-id" => attempt.parent_task_id.map(|id| id.to_string()),
            "retry-of" => attempt.retry_of.map(|id| id.to_string()),
            "task-type" => Some(attempt.version.task_type.clone()),
            "plugin-digest" => Some(attempt.version.digest.clone()),
            "host-version" => Some(self.host_version.to_string()),
            _ => None,
        })
    }
}

fn millis(instant: &Timestamp) -> u64 {
    u64::try_from(instant.timestamp_millis()).unwrap_or(0)
}
