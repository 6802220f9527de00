//! Defaults of a schema, filled into a document.

use serde_json::Value;

/// Adds the `default` of each absent property, then goes on into the properties that are there. Only
/// plain `properties` are followed: the walk is bounded by the schema's own size.
pub(super) fn fill_defaults(schema: &Value, document: &mut Value) {
    let (Some(properties), Value::Object(object)) = (schema.get("properties"), document) else {
        return;
    };
    for (name, property) in properties.as_object().into_iter().flatten() {
        if !object.contains_key(name)
            && let Some(default) = property.get("default")
        {
            object.insert(name.clone(), default.clone());
        }
        if let Some(value) = object.get_mut(name) {
            fill_defaults(property, value);
        }
    }
}
