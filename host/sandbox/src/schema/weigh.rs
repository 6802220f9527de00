//! How much work a schema can make, found out without doing it.

use horarium_model::Problem;
use horarium_model::descriptor::MAX_SCHEMA_BYTES;
use horarium_model::json::escape;
use serde_json::Value;
use std::collections::HashMap;

/// Most nodes of a flat schema, references unfolded.
const MAX_NODES: usize = 10_000;
/// Most patterns of a flat schema: each is compiled into a machine of its own.
const MAX_PATTERNS: usize = 100;

/// Keywords whose value is a schema.
const ONE: &[&str] = &[
    "additionalItems",
    "additionalProperties",
    "contains",
    "contentSchema",
    "else",
    "if",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];
/// Keywords whose value is a list of schemas.
const LIST: &[&str] = &["allOf", "anyOf", "oneOf", "prefixItems"];
/// Keywords whose value maps names to schemas.
const MAP: &[&str] = &[
    "dependentSchemas",
    "patternProperties",
    "properties",
    "dependencies",
];
/// Keywords that only hold schemas for others to refer to.
const DEFINITIONS: &[&str] = &["$defs", "definitions"];

/// What a schema is like.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Checking a value is bounded by the number of nodes.
    Flat {
        /// Nodes with references unfolded.
        nodes: usize,
    },
    /// It refers to itself, or unfolds beyond the bound, or uses what cannot be weighed.
    Deep,
}

/// Weighs a schema.
///
/// # Errors
/// When it is too long, or refers to something outside itself.
pub(crate) fn weigh(schema: &Value) -> Result<Shape, Problem> {
    let size = schema.to_string().len();
    if size > MAX_SCHEMA_BYTES {
        let detail = format!("has {size} bytes; a schema has at most {MAX_SCHEMA_BYTES}");
        return Err(Problem::at("", detail));
    }
    let mut scan = Scan::default();
    scan.walk(schema, String::new(), true)?;
    if scan.dynamic || scan.patterns > MAX_PATTERNS {
        return Ok(Shape::Deep);
    }
    let mut weigher = Weigher {
        root: schema,
        anchors: scan.anchors,
        known: HashMap::new(),
    };
    Ok(match weigher.weigh(schema) {
        Some(nodes) if nodes <= MAX_NODES => Shape::Flat { nodes },
        _ => Shape::Deep,
    })
}

/// First pass: what is in the text, references not followed.
#[derive(Default)]
struct Scan<'s> {
    anchors: HashMap<&'s str, &'s Value>,
    patterns: usize,
    dynamic: bool,
}

impl<'s> Scan<'s> {
    fn walk(&mut self, schema: &'s Value, at: String, root: bool) -> Result<(), Problem> {
        let Value::Object(map) = schema else {
            return Ok(());
        };
        for keyword in ["$ref", "$dynamicRef", "$recursiveRef"] {
            let Some(target) = map.get(keyword).and_then(Value::as_str) else {
                continue;
            };
            if !target.starts_with('#') {
                let detail = format!(
                    "`{}` refers to something outside the schema; only references that begin with # are followed",
                    horarium_model::text::one_line(target, 100)
                );
                return Err(Problem::at(format!("{at}/{keyword}"), detail));
            }
            self.dynamic |= keyword != "$ref";
        }
        // A schema of its own inside: references under it have another base.
        self.dynamic |=
            !root && (map.contains_key("$id") || map.contains_key("id") && map["id"].is_string());
        if let Some(anchor) = map.get("$anchor").and_then(Value::as_str) {
            self.anchors.insert(anchor, schema);
        }
        self.dynamic |= map.contains_key("$dynamicAnchor");
        self.patterns += usize::from(map.contains_key("pattern"));
        self.patterns += map
            .get("patternProperties")
            .and_then(Value::as_object)
            .map_or(0, |m| m.len());
        for (place, child) in children(map, true) {
            self.walk(child, format!("{at}{place}"), false)?;
        }
        Ok(())
    }
}

/// Second pass: nodes with references unfolded; none for a cycle.
struct Weigher<'s> {
    root: &'s Value,
    anchors: HashMap<&'s str, &'s Value>,
    /// By node; none while it is being weighed.
    known: HashMap<*const Value, Option<usize>>,
}

impl<'s> Weigher<'s> {
    fn weigh(&mut self, schema: &'s Value) -> Option<usize> {
        let Value::Object(map) = schema else {
            return Some(1);
        };
        let key = std::ptr::from_ref(schema);
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        self.known.insert(key, None);
        let mut nodes = 1_usize;
        for list in ["enum", "required"] {
            nodes += map.get(list).and_then(Value::as_array).map_or(0, Vec::len);
        }
        for (_, child) in children(map, false) {
            nodes = nodes.saturating_add(self.weigh(child)?);
        }
        if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
            // A reference to nothing is the compiler's to refuse.
            if let Some(target) = self.target(reference) {
                nodes = nodes.saturating_add(self.weigh(target)?);
            }
        }
        self.known.insert(key, Some(nodes));
        Some(nodes)
    }

    fn target(&self, reference: &str) -> Option<&'s Value> {
        let fragment = percent_decoded(reference.strip_prefix('#')?);
        if fragment.is_empty() || fragment.starts_with('/') {
            self.root.pointer(&fragment)
        } else {
            self.anchors.get(fragment.as_str()).copied()
        }
    }
}

fn children(map: &serde_json::Map<String, Value>, definitions: bool) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    for (keyword, value) in map {
        let name = keyword.as_str();
        let place = || format!("/{}", escape(name));
        match value {
            _ if ONE.contains(&name) => found.push((place(), value)),
            Value::Array(items) if LIST.contains(&name) || name == "items" => {
                let items = items.iter().enumerate();
                found.extend(items.map(|(i, item)| (format!("{}/{i}", place()), item)));
            }
            _ if name == "items" => found.push((place(), value)),
            Value::Object(inner)
                if MAP.contains(&name) || definitions && DEFINITIONS.contains(&name) =>
            {
                let inner = inner.iter();
                found.extend(
                    inner.map(|(key, item)| (format!("{}/{}", place(), escape(key)), item)),
                );
            }
            _ => {}
        }
    }
    found
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ordinary_schemas_are_flat() {
        let schema = json!({
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/n"}, "b": {"items": {"$ref": "#here"}}},
            "$defs": {"n": {"type": "integer"}, "h": {"$anchor": "here", "enum": [1, 2]}},
        });
        assert_eq!(weigh(&schema).unwrap(), Shape::Flat { nodes: 8 });
        assert_eq!(weigh(&json!(true)).unwrap(), Shape::Flat { nodes: 1 });
    }

    #[test]
    fn the_recursive_bomb_is_not_flat() {
        let item = json!({"type": "array", "items": {"$ref": "#"}});
        let mut items = vec![item; 4];
        items.push(json!({"const": 0}));
        let bomb = json!({"anyOf": items});
        assert!(bomb.to_string().len() < 260);
        assert_eq!(weigh(&bomb).unwrap(), Shape::Deep);
        let tree = json!({"properties": {"child": {"$ref": "#"}}});
        assert_eq!(weigh(&tree).unwrap(), Shape::Deep);
    }

    #[test]
    fn a_schema_that_doubles_is_not_flat_and_weighing_it_is_quick() {
        let mut definitions = serde_json::Map::new();
        for n in 0..60 {
            let next = json!({"$ref": format!("#/$defs/d{}", n + 1)});
            definitions.insert(format!("d{n}"), json!({"allOf": [next, next]}));
        }
        definitions.insert("d60".into(), json!(true));
        let bomb = json!({"$ref": "#/$defs/d0", "$defs": definitions});
        assert_eq!(weigh(&bomb).unwrap(), Shape::Deep);
    }

    #[test]
    fn what_lies_outside_is_refused_with_its_place() {
        for target in [
            "https://example.com/s.json",
            "other.json",
            "file:///etc/passwd",
        ] {
            let problem = weigh(&json!({"properties": {"a/b": {"$ref": target}}})).unwrap_err();
            assert_eq!(problem.pointer, "/properties/a~1b/$ref");
        }
        let long = json!({"description": "x".repeat(MAX_SCHEMA_BYTES)});
        assert!(weigh(&long).unwrap_err().detail.contains("65536"));
    }

    #[test]
    fn what_cannot_be_weighed_is_not_flat() {
        for schema in [
            json!({"$dynamicRef": "#x"}),
            json!({"properties": {"a": {"$id": "urn:x", "type": "string"}}}),
            json!({"allOf": vec![json!({"pattern": "a"}); 101]}),
        ] {
            assert_eq!(weigh(&schema).unwrap(), Shape::Deep, "{schema}");
        }
    }
}
