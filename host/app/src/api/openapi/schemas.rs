//! Schemas of what is answered: those of the types that are sent, with what is added to them, and those by hand.

use super::by_hand;
use super::operations::schema;
use super::pieces::{Field, add, boolean, field, id, instant, or_null, text};
use horarium_core::service::events::{ExecutionEvent, TaskEvent};
use horarium_core::service::{NextSlots, Rekeyed, SecretView, Why, WhyTask};
use horarium_model::access::{Permission, Role};
use horarium_model::config::ScheduleState;
use horarium_model::execution::{AttemptRecord, HttpCall, LogLine};
use horarium_model::task_type::{PluginVersion, TaskType};
use horarium_model::{Execution, Problem, TaskSpec};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

/// Every schema of an answer, by name.
pub(super) fn answers() -> Map<String, Value> {
    let mut all = derived();
    if let Some(Value::Object(state)) = all.remove("ScheduleState") {
        all.insert("Task".into(), task(&state));
    }
    extend(
        &mut all,
        "PluginVersion",
        vec![field("is_active", boolean())],
    );
    if let Some(mut with_active) = all.get("TaskType").cloned() {
        add(
            &mut with_active,
            vec![field("active", or_null(schema("PluginVersion")))],
        );
        all.insert("TaskTypeWithActive".into(), with_active);
    }
    for (name, schema) in by_hand::all() {
        all.insert(name.to_owned(), schema);
    }
    let mut fresh = all.get("Token").cloned().unwrap_or_default();
    add(&mut fresh, vec![field("token", text())]);
    all.insert("FreshToken".into(), fresh);
    all
}

/// Of the types that are sent.
fn derived() -> Map<String, Value> {
    let settings = SchemaSettings::draft2020_12()
        .for_serialize()
        .with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
    let mut generator = settings.into_generator();
    generator.subschema_for::<Execution>();
    generator.subschema_for::<AttemptRecord>();
    generator.subschema_for::<LogLine>();
    generator.subschema_for::<HttpCall>();
    generator.subschema_for::<TaskType>();
    generator.subschema_for::<PluginVersion>();
    generator.subschema_for::<SecretView>();
    generator.subschema_for::<Rekeyed>();
    generator.subschema_for::<NextSlots>();
    generator.subschema_for::<WhyTask>();
    generator.subschema_for::<Why>();
    generator.subschema_for::<ScheduleState>();
    generator.subschema_for::<ExecutionEvent>();
    generator.subschema_for::<TaskEvent>();
    generator.subschema_for::<Permission>();
    generator.subschema_for::<Role>();
    generator.subschema_for::<Problem>();
    let mut all: Map<String, Value> = generator.take_definitions(true).into_iter().collect();
    all.values_mut().for_each(tidy);
    all
}

/// Takes out formats that say how wide a number is in Rust.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            let width = |format: &Value| !matches!(format.as_str(), Some("date-time" | "uuid"));
            if map.get("format").is_some_and(width) && !map.contains_key("properties") {
                map.remove("format");
            }
            map.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// A task: what may be written of it, all of it there, and what the host adds.
fn task(state: &Map<String, Value>) -> Value {
    let mut task = TaskSpec::describe();
    add(
        &mut task,
        vec![
            field("id", id()),
            field("tenant_id", id()),
            field("is_scheduled", boolean()),
            field("declared_by", or_null(text())),
            field("version", id()),
            field("created_at", instant()),
            field("updated_at", instant()),
            field("deleted_at", or_null(instant())),
        ],
    );
    if let (Some(known), Some(more)) = (
        task["properties"].as_object_mut(),
        state.get("properties").and_then(Value::as_object),
    ) {
        known.extend(more.clone());
        let all: Vec<Value> = known.keys().map(|key| key.as_str().into()).collect();
        task["required"] = all.into();
    }
    open(task)
}

/// Takes back that no other key may come: what is answered may grow.
fn open(mut schema: Value) -> Value {
    if let Some(map) = schema.as_object_mut() {
        map.remove("additionalProperties");
    }
    schema
}

fn extend(all: &mut Map<String, Value>, name: &str, fields: Vec<Field>) {
    if let Some(known) = all.get_mut(name) {
        add(known, fields);
    }
}
