//! The schemas of versions, weighed and compiled once, and documents checked against them wherever
//! that is safe.

use crate::schema::{Checked, Schema};
use crate::worker::Workers;
use horarium_model::descriptor::Descriptor;
use horarium_model::task_type::PluginVersion;
use horarium_model::{Invalid, Problem};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Most schemas kept compiled.
const MAX_KEPT: usize = 2000;

/// Which schema of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Which {
    Parameters,
    Result,
}

/// Compiled schemas, by version digest. Two registrations of the same bytes may have different ones,
/// since an operator's descriptor wins: the source is compared.
pub(crate) struct Schemas {
    workers: Workers,
    kept: RwLock<HashMap<String, Vec<Arc<Schema>>>>,
}

impl Schemas {
    pub(crate) fn new(workers: Workers) -> Self {
        Self {
            workers,
            kept: RwLock::default(),
        }
    }

    /// Checks a value of a version; parameters get their defaults first.
    ///
    /// # Errors
    /// The problems, with pointers into the value.
    pub(crate) async fn check(
        &self,
        version: &PluginVersion,
        which: Which,
        value: Value,
    ) -> Result<Value, Invalid> {
        let descriptor = &version.descriptor;
        let source = match which {
            Which::Parameters => &descriptor.parameters_schema,
            Which::Result => &descriptor.result_schema,
        };
        let Some(source) = source else {
            return Ok(value);
        };
        let schema = self.compiled(&version.digest, source)?;
        let value = match which {
            Which::Parameters => schema.with_defaults(value),
            Which::Result => value,
        };
        let problems = match schema.check(&value) {
            Checked::Here(problems) => problems,
            Checked::InChild => self.in_child(&schema, &value).await?,
        };
        if problems.is_empty() {
            Ok(value)
        } else {
            Err(Invalid(problems))
        }
    }

    async fn in_child(&self, schema: &Schema, value: &Value) -> Result<Vec<Problem>, Invalid> {
        let documents = vec![value.clone()];
        let verdict = self
            .workers
            .check_schema(schema.source(), documents)
            .await?;
        Ok(verdict.into_iter().flatten().collect())
    }

    fn compiled(&self, digest: &str, source: &Value) -> Result<Arc<Schema>, Invalid> {
        let same = |schemas: &Vec<Arc<Schema>>| {
            schemas
                .iter()
                .find(|schema| schema.source() == source)
                .cloned()
        };
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(schema) = kept.get(digest).and_then(same) {
            return Ok(schema);
        }
        drop(kept);
        let schema = Arc::new(Schema::new(source)?);
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        let of_version = kept.entry(digest.to_owned()).or_default();
        if of_version.len() >= 16 {
            of_version.clear();
        }
        of_version.push(schema.clone());
        Ok(schema)
    }

    /// Weighs and compiles the schemas of a descriptor, and checks its examples.
    ///
    /// # Errors
    /// The problems, with pointers into the descriptor.
    pub(crate) async fn check_descriptor(&self, descriptor: &Descriptor) -> Result<(), Invalid> {
        let mut problems = Vec::new();
        if let Some(source) = &descriptor.result_schema {
            problems.extend(self.documents("/result_schema", source, &[]).await);
        }
        if let Some(source) = &descriptor.parameters_schema {
            let examples = &descriptor.examples;
            problems.extend(self.documents("/parameters_schema", source, examples).await);
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Invalid(problems))
        }
    }

    /// Problems of a schema itself, else those of the examples.
    async fn documents(&self, at: &str, source: &Value, examples: &[Value]) -> Vec<Problem> {
        let in_schema = |problem: Problem| Problem {
            pointer: format!("{at}{}", problem.pointer),
            ..problem
        };
        let in_example = |index: usize, problem: Problem| Problem {
            pointer: format!("/examples/{index}/parameters{}", problem.pointer),
            ..problem
        };
        let schema = match Schema::new(source) {
            Ok(schema) => schema,
            Err(problem) => return vec![in_schema(problem)],
        };
        let mut problems = Vec::new();
        let mut left = Vec::new();
        for (index, example) in examples.iter().enumerate() {
            // An example without parameters shows the defaults.
            let parameters = example.get("parameters").cloned();
            let parameters = parameters.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
            let example = schema.with_defaults(parameters);
            match schema.check(&example) {
                Checked::Here(found) => {
                    problems.extend(found.into_iter().map(|problem| in_example(index, problem)));
                }
                Checked::InChild => left.push((index, example)),
            }
        }
        if left.is_empty() && schema.is_flat() {
            return problems;
        }
        let (indexes, documents): (Vec<usize>, Vec<Value>) = left.into_iter().unzip();
        match self.workers.check_schema(source, documents).await {
            Err(problem) => problems.push(in_schema(problem)),
            Ok(verdict) => {
                for (index, found) in indexes.into_iter().zip(verdict) {
                    problems.extend(found.into_iter().map(|problem| in_example(index, problem)));
                }
            }
        }
        problems
    }
}
