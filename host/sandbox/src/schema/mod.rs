//! JSON Schemas from strangers: weighed before they are compiled, since a small one can take for ever.
//! Flat ones are checked here, others in a limited child. The only place that knows `jsonschema`.

mod defaults;
mod weigh;

pub(crate) use weigh::{Shape, weigh};

use defaults::fill_defaults;
use horarium_model::{Problem, text};
use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

/// Most problems told of one document.
const MAX_PROBLEMS: usize = 20;
/// Largest compiled form of one pattern, in bytes.
const PATTERN_BYTES: usize = 256 << 10;
/// Schema nodes times instance nodes that are checked in this process.
const MAX_WORK: usize = 20_000_000;

/// A schema that was weighed, and compiled if it is flat.
pub(crate) struct Schema {
    source: Value,
    nodes: usize,
    validator: Option<Validator>,
}

/// What checking in this process comes to.
pub(crate) enum Checked {
    /// Checked: the problems, none if it fits.
    Here(Vec<Problem>),
    /// Must be checked in a limited child.
    InChild,
}

impl Schema {
    /// Weighs and compiles.
    ///
    /// # Errors
    /// Why it cannot be used at all.
    pub(crate) fn new(source: &Value) -> Result<Self, Problem> {
        let (nodes, validator) = match weigh(source)? {
            Shape::Flat { nodes } => (nodes, Some(compile(source)?)),
            Shape::Deep => (usize::MAX, None),
        };
        Ok(Self {
            source: source.clone(),
            nodes,
            validator,
        })
    }

    /// The schema as it was given.
    pub(crate) fn source(&self) -> &Value {
        &self.source
    }

    /// Whether it was compiled here.
    pub(crate) fn is_flat(&self) -> bool {
        self.validator.is_some()
    }

    /// Checks a document, if that is certain to end soon.
    pub(crate) fn check(&self, document: &Value) -> Checked {
        match &self.validator {
            Some(validator) if self.nodes.saturating_mul(count(document)) <= MAX_WORK => {
                Checked::Here(problems(validator, document))
            }
            _ => Checked::InChild,
        }
    }

    /// The document with defaults of absent properties.
    pub(crate) fn with_defaults(&self, mut document: Value) -> Value {
        fill_defaults(&self.source, &mut document);
        document
    }
}

/// Compiles and checks without weighing: for the limited child.
pub(crate) fn check_unweighed(
    schema: &Value,
    documents: &[Value],
) -> Result<Vec<Vec<Problem>>, Problem> {
    let validator = compile(schema)?;
    Ok(documents
        .iter()
        .map(|document| problems(&validator, document))
        .collect())
}

fn compile(schema: &Value) -> Result<Validator, Problem> {
    let patterns = PatternOptions::regex()
        .size_limit(PATTERN_BYTES)
        .dfa_size_limit(PATTERN_BYTES);
    jsonschema::options()
        .with_pattern_options(patterns)
        .build(schema)
        .map_err(|error| {
            let detail = text::one_line(&error.to_string(), 300);
            Problem::at(
                error.instance_path().to_string(),
                format!("not a usable JSON Schema: {detail}"),
            )
        })
}

fn problems(validator: &Validator, document: &Value) -> Vec<Problem> {
    validator
        .iter_errors(document)
        .take(MAX_PROBLEMS)
        .map(|error| {
            let detail = text::one_line(&error.to_string(), 300);
            Problem::at(error.instance_path().to_string(), detail)
        })
        .collect()
}

/// Nodes of a document; long texts count more, because patterns walk them.
fn count(document: &Value) -> usize {
    match document {
        Value::Array(items) => items.iter().map(count).sum::<usize>() + 1,
        Value::Object(map) => map.values().map(count).sum::<usize>() + map.len() + 1,
        Value::String(text) => 1 + text.len() / 1024,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(schema: &Value, document: &Value) -> Vec<String> {
        match Schema::new(schema).expect("usable").check(document) {
            Checked::Here(problems) => problems.into_iter().map(|p| p.to_string()).collect(),
            Checked::InChild => panic!("not flat"),
        }
    }

    #[test]
    fn violations_name_the_place_in_the_document() {
        let schema =
            json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["m"]});
        let found = check(&schema, &json!({"n": "x"}));
        assert_eq!(found.len(), 2);
        assert!(found.iter().any(|p| p.starts_with("/n: ")), "{found:?}");
        assert!(check(&schema, &json!({"n": 1, "m": 2})).is_empty());
    }

    #[test]
    fn patterns_are_linear_or_refused() {
        let evil = json!({"pattern": "^(a+)+$"});
        assert_eq!(
            check(&evil, &json!(format!("{}!", "a".repeat(50_000)))).len(),
            1
        );
        for refused in ["(?=a)b", "(a)\\1", "((a{500}){500}){500}"] {
            assert!(
                Schema::new(&json!({"pattern": refused})).is_err(),
                "{refused}"
            );
        }
    }

    #[test]
    fn faults_of_a_schema_name_their_place() {
        let problem = Schema::new(&json!({"properties": {"a": {"type": 5}}}))
            .err()
            .expect("refused");
        assert!(problem.pointer.starts_with("/properties/a"), "{problem}");
    }

    #[test]
    fn a_heavy_document_goes_to_the_child() {
        let alternatives: Vec<Value> = (0..3000).map(|n| json!({"const": n})).collect();
        let schema = Schema::new(&json!({"items": {"anyOf": alternatives}})).expect("flat");
        let few = Value::Array(vec![json!(1); 10]);
        let many = Value::Array(vec![json!(1); 10_000]);
        assert!(matches!(schema.check(&few), Checked::Here(_)));
        assert!(matches!(schema.check(&many), Checked::InChild));
    }

    #[test]
    fn defaults_fill_plain_properties_only() {
        let schema = json!({"properties": {
            "limit": {"default": 100},
            "nested": {"default": {}, "properties": {"deep": {"default": "x"}}},
            "absent": {"properties": {"never": {"default": 1}}},
        }});
        let schema = Schema::new(&schema).expect("usable");
        let filled = schema.with_defaults(json!({"limit": 5}));
        assert_eq!(filled, json!({"limit": 5, "nested": {"deep": "x"}}));
        assert_eq!(schema.with_defaults(json!([1])), json!([1]));
    }
}
