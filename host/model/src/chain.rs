//! `chain`: what the end of an execution enqueues (rule E7).

use crate::execution::State;
use crate::input::{Fields, type_name};
use crate::json::{MAX_DEPTH as MAX_DEPTH_OF_JSON, escape, is_deeper_than};
use crate::problem::Problem;
use crate::text::one_line;
use crate::{ConfigId, Invalid};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Links of a chain: an execution of this depth enqueues nothing more. What a person or a schedule starts
/// has depth 0.
pub const MAX_DEPTH: u32 = 32;
/// Steps that one config may have.
pub const MAX_STEPS: usize = 32;
/// Values that one step may hand over.
const MAX_PARAMETERS: usize = 100;
/// Characters of a pointer.
const MAX_POINTER: usize = 200;
/// Levels of a pointer: each may make an object inside another.
const MAX_LEVELS: usize = 32;

/// One step: after an end of these kinds that task is enqueued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainStep {
    /// What to enqueue.
    pub task: ChainTask,
    /// After which ends: any of `succeeded`, `failed`, `cancelled`.
    pub on: Vec<State>,
    /// What of the result goes where: pointer into the target's parameters -> pointer into the result.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
}

/// How a step names its target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ChainTask {
    /// By row id.
    Id(ConfigId),
    /// By key, looked up when the step is taken.
    Key(String),
}

impl std::fmt::Display for ChainTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Id(id) => write!(f, "{id}"),
            Self::Key(key) => write!(f, "`{}`", one_line(key, 64)),
        }
    }
}

/// The ends a step can wait for.
const ENDS: [State; 3] = [State::Succeeded, State::Failed, State::Cancelled];

impl ChainStep {
    /// Reads the steps of a config from `chain`.
    pub fn read_all(fields: &mut Fields<'_>) -> Vec<Self> {
        let steps = fields.objects("chain", MAX_STEPS, Self::read);
        let steps = steps.unwrap_or_default();
        for (index, step) in steps.iter().enumerate() {
            let before = &steps[..index];
            let twice = |other: &&Self| {
                other.task == step.task && other.on.iter().any(|end| step.on.contains(end))
            };
            if before.iter().any(|other| twice(&other)) {
                let detail = format!(
                    "names task {} for an end that an earlier step names it for; one end enqueues a task once",
                    step.task
                );
                let pointer = format!("{}/{index}/task", fields.pointer_to("chain"));
                fields.merge(vec![Problem::at(pointer, detail)]);
            }
        }
        steps
    }

    fn read(fields: &mut Fields<'_>) -> Self {
        let task = read_task(fields);
        let on = fields.list("on", ENDS.len(), |item| {
            let words = "succeeded, failed, cancelled";
            let text = item
                .as_str()
                .ok_or_else(|| format!("must be one of {words}, not {}", type_name(item)))?;
            let known = ENDS
                .into_iter()
                .find(|end| end.as_str().eq_ignore_ascii_case(text));
            known.ok_or_else(|| format!("`{}` is not one of {words}", one_line(text, 40)))
        });
        fields.shape("on", || {
            let ends = ENDS.map(State::as_str);
            json!({ "items": { "type": "string", "enum": ends }, "minItems": 1 })
        });
        let mut on = on.unwrap_or_else(|| vec![State::Succeeded]);
        on.sort_unstable();
        on.dedup();
        if on.is_empty() && !fields.has_problems() {
            fields.problem(
                "on",
                "is empty; say after which ends, such as [\"succeeded\"]",
            );
        }
        Self {
            task,
            on,
            parameters: read_parameters(fields),
        }
    }

    /// Whether an execution that ended like this takes the step.
    pub fn follows(&self, end: State) -> bool {
        self.on.contains(&end)
    }

    /// The target's parameters with what the step hands over from the result (null without one), at most
    /// `max_bytes` as JSON.
    ///
    /// # Errors
    /// A sentence: the result has nothing there, it cannot be put where the step wants it, or all together is
    /// larger or deeper than parameters may be.
    pub fn hand_over(
        &self,
        own: &Map<String, Value>,
        result: &Value,
        max_bytes: u64,
    ) -> Result<Map<String, Value>, String> {
        let mut document = Value::Object(own.clone());
        // Counted before anything is copied: a step may name a large result a hundred times.
        let mut bytes = 0;
        for (to, from) in &self.parameters {
            let value = result.pointer(from).ok_or_else(|| {
                format!(
                    "the result of the execution before has nothing at `{}`, which the chain hands over to `{}`",
                    one_line(from, 100),
                    one_line(to, 100)
                )
            })?;
            bytes += value.to_string().len() as u64;
            if bytes > max_bytes {
                return Err(format!(
                    "the chain hands over more than the {max_bytes} bytes that parameters may have"
                ));
            }
            put(&mut document, to, value.clone())?;
        }
        if is_deeper_than(&document, MAX_DEPTH_OF_JSON) {
            return Err(format!(
                "what the chain hands over makes the parameters deeper than {MAX_DEPTH_OF_JSON} levels"
            ));
        }
        match document {
            Value::Object(map) => Ok(map),
            other => Err(format!(
                "the chain hands over {} as all parameters; they must be an object",
                type_name(&other)
            )),
        }
    }
}

fn read_task(fields: &mut Fields<'_>) -> ChainTask {
    let refuse = |fields: &mut Fields<'_>, detail: String| {
        fields.problem("task", detail);
        ChainTask::Id(0)
    };
    let task = fields.value("task");
    fields.shape(
        "task",
        || json!({ "type": ["integer", "string"], "minimum": 1, "maximum": i64::MAX, "minLength": 1, "maxLength": 64 }),
    );
    match task {
        None => {
            fields.missing("task", "is missing; name a task by its id or key");
            ChainTask::Id(0)
        }
        Some(Value::Number(n)) => match n.as_i64().filter(|id| *id > 0) {
            Some(id) => ChainTask::Id(id),
            None => refuse(fields, format!("{n} is not the id of a task")),
        },
        Some(Value::String(text)) if text.is_empty() || text.len() > 64 => refuse(
            fields,
            format!("`{}` is neither an id nor a key", one_line(text, 70)),
        ),
        // Digits are an id, as everywhere where a task is named.
        Some(Value::String(text)) => match text.parse() {
            Ok(id) => ChainTask::Id(id),
            Err(_) => ChainTask::Key(text.clone()),
        },
        Some(other) => refuse(
            fields,
            format!("must be the id or key of a task, not {}", type_name(other)),
        ),
    }
}

fn read_parameters(fields: &mut Fields<'_>) -> BTreeMap<String, String> {
    let map = fields.map("parameters");
    fields.shape("parameters", || {
        let pointer = json!({ "type": "string", "pattern": "^(/.*)?$", "maxLength": MAX_POINTER });
        json!({ "maxProperties": MAX_PARAMETERS, "propertyNames": pointer, "additionalProperties": pointer })
    });
    let Some(map) = map else {
        return BTreeMap::new();
    };
    if map.len() > MAX_PARAMETERS {
        let detail = format!(
            "has {} entries; at most {MAX_PARAMETERS} are allowed",
            map.len()
        );
        fields.problem("parameters", detail);
        return BTreeMap::new();
    }
    let is_pointer = |text: &str| {
        text.is_empty()
            || (text.starts_with('/')
                && text.len() <= MAX_POINTER
                && text.matches('/').count() <= MAX_LEVELS)
    };
    let mut parameters = BTreeMap::new();
    let mut problems = Vec::new();
    for (to, from) in map {
        let detail = match &from {
            _ if !is_pointer(&to) => Some(format!(
                "`{}` is not a JSON pointer into the task's parameters; write it like /site, \
                 at most {MAX_POINTER} bytes and {MAX_LEVELS} levels",
                one_line(&to, 60)
            )),
            Value::String(from) if is_pointer(from) => None,
            Value::String(from) => Some(format!(
                "`{}` is not a JSON pointer into the result; write it like /count, \
                 at most {MAX_POINTER} bytes and {MAX_LEVELS} levels",
                one_line(from, 60)
            )),
            other => Some(format!(
                "must be a JSON pointer into the result, not {}",
                type_name(other)
            )),
        };
        match (detail, from) {
            (Some(detail), _) => problems.push((to, detail)),
            (None, Value::String(from)) => {
                parameters.insert(to, from);
            }
            (None, _) => {}
        }
    }
    for (to, detail) in problems {
        let pointer = fields.pointer_to("parameters");
        let pointer = format!("{pointer}/{}", escape(&one_line(&to, 60)));
        fields.merge(vec![Problem::at(pointer, detail)]);
    }
    parameters
}

/// Puts a value at a JSON pointer; objects on the way are made, places in arrays must exist (or be `-`).
fn put(document: &mut Value, pointer: &str, value: Value) -> Result<(), String> {
    let refused = |what: &str| {
        format!(
            "the chain cannot put a value at `{}` of the parameters: {what}",
            one_line(pointer, 100)
        )
    };
    let mut at = document;
    for token in pointer.split('/').skip(1) {
        let token = token.replace("~1", "/").replace("~0", "~");
        let inside = type_name(at);
        at = match at {
            Value::Object(map) => map.entry(token).or_insert_with(|| Map::new().into()),
            Value::Array(items) => {
                let index = if token == "-" {
                    items.push(Map::new().into());
                    Some(items.len() - 1)
                } else {
                    token.parse().ok()
                };
                let place = index.and_then(|index: usize| items.get_mut(index));
                place.ok_or_else(|| refused("its array has no such place"))?
            }
            _ => return Err(refused(&format!("it is inside {inside}"))),
        };
    }
    *at = value;
    Ok(())
}

/// Steps as they are kept; none for no steps.
pub fn to_text(steps: &[ChainStep]) -> Option<String> {
    if steps.is_empty() {
        return None;
    }
    serde_json::to_string(steps).ok()
}

/// Reads steps as they were kept.
///
/// # Errors
/// When the text was not written by [`to_text`].
pub fn from_text(text: &str) -> Result<Vec<ChainStep>, Invalid> {
    serde_json::from_str(text).map_err(|e| Invalid::one("/chain", format!("is damaged: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(chain: Value) -> Result<Vec<ChainStep>, Invalid> {
        Fields::read(&json!({ "chain": chain }), "", ChainStep::read_all)
    }

    #[test]
    fn steps_are_read_with_their_defaults_and_kept() {
        let steps = read(json!([
            {"task": 7}, {"task": "report", "on": ["FAILED", "cancelled"], "parameters": {"/n": "/count", "": ""}},
            {"task": "12"},
        ]))
        .expect("read");
        assert_eq!(
            (&steps[0].task, &steps[0].on),
            (&ChainTask::Id(7), &vec![State::Succeeded])
        );
        assert_eq!(steps[1].on, [State::Failed, State::Cancelled]);
        assert_eq!(steps[2].task, ChainTask::Id(12));
        assert_eq!(
            from_text(&to_text(&steps).expect("some")).expect("read back"),
            steps
        );
        assert_eq!(to_text(&[]), None);
    }

    #[test]
    fn refusals_name_the_step() {
        for (chain, pointer) in [
            (json!({}), "/chain"),
            (json!([1]), "/chain/0"),
            (json!([{}]), "/chain/0/task"),
            (json!([{"task": -1}]), "/chain/0/task"),
            (json!([{"task": "a", "on": ["skipped"]}]), "/chain/0/on/0"),
            (json!([{"task": "a", "on": []}]), "/chain/0/on"),
            (json!([{"task": "a", "when": 1}]), "/chain/0/when"),
            (
                json!([{"task": "a", "parameters": {"/x": "y"}}]),
                "/chain/0/parameters/~1x",
            ),
            (
                json!([{"task": "a", "parameters": {"x": "/y"}}]),
                "/chain/0/parameters/x",
            ),
            (
                json!([{"task": "a"}, {"task": "a", "on": ["failed", "succeeded"]}]),
                "/chain/1/task",
            ),
        ] {
            let Invalid(problems) = read(chain.clone()).expect_err("refused");
            assert_eq!(problems[0].pointer, pointer, "{chain}: {problems:?}");
        }
        assert!(read(json!([{"task": "a"}, {"task": "a", "on": ["failed"]}])).is_ok());
    }

    #[test]
    fn values_are_handed_over_by_pointer() {
        let step = |parameters: Value| {
            let chain = json!([{"task": 1, "parameters": parameters}]);
            read(chain).expect("read").remove(0)
        };
        let own = json!({"a": {"b": [1, 2]}, "keep": true});
        let own = own.as_object().expect("an object");
        let result = json!({"n": 5, "list": [{"x": "y"}]});
        let handed = step(json!({"/a/b/1": "/n", "/new/deep": "/list/0", "/a/b/-": "/n"}))
            .hand_over(own, &result, 1000)
            .expect("handed over");
        assert_eq!(
            Value::Object(handed),
            json!({"a": {"b": [1, 5, 5]}, "keep": true, "new": {"deep": {"x": "y"}}})
        );
        let whole = step(json!({"": ""}))
            .hand_over(own, &result, 1000)
            .expect("all of it");
        assert_eq!(Value::Object(whole), result);
        let missing = step(json!({"/a": "/gone"}))
            .hand_over(own, &result, 1000)
            .expect_err("missing");
        assert!(missing.contains("nothing at `/gone`"), "{missing}");
        for bad in [
            json!({"/keep/x": "/n"}),
            json!({"/a/b/9": "/n"}),
            json!({"": "/n"}),
        ] {
            assert!(
                step(bad.clone()).hand_over(own, &result, 1000).is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn pointers_and_what_they_hand_over_are_bounded() {
        let read_one = |to: String| read(json!([{"task": 1, "parameters": {to: ""}}]));
        assert!(read_one("/a".repeat(MAX_LEVELS)).is_ok());
        for to in [
            "/a".repeat(MAX_LEVELS + 1),
            "/a".repeat(500_000),
            format!("/{}", "x".repeat(200)),
        ] {
            let refused = read_one(to).expect_err("refused").to_string();
            assert!(
                refused.contains("at most 200 bytes and 32 levels"),
                "{refused}"
            );
        }
        let deep = (0..80).fold(json!(1), |inner, _| json!([inner]));
        let step = read_one("/a".repeat(MAX_LEVELS)).expect("read").remove(0);
        let refused = step
            .hand_over(&Map::new(), &deep, 1000)
            .expect_err("too deep");
        assert!(refused.contains("deeper than 100 levels"), "{refused}");
        let twice = json!([{"task": 1, "parameters": {"/a": "", "/b": ""}}]);
        let step = read(twice).expect("read").remove(0);
        let result = json!("x".repeat(60));
        assert!(step.hand_over(&Map::new(), &result, 124).is_ok());
        let refused = step
            .hand_over(&Map::new(), &result, 123)
            .expect_err("too large");
        assert!(refused.contains("more than the 123 bytes"), "{refused}");
    }
}
