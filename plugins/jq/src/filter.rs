//! Compiling and running a filter.

use horarium_task::TaskError;
use horarium_task::serde_json::{Value, json};
use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Vars, data, unwrap_valr};
use jaq_json::Val;

use crate::convert;

type Filter = jaq_core::Filter<data::JustLut<Val>>;

/// All outputs of the filter, in order.
pub(crate) fn run(code: &str, input: Value) -> Result<Vec<Value>, TaskError> {
    let filter = compile(code)?;
    let context = Ctx::<data::JustLut<Val>>::new(&filter.lut, Vars::new([]));
    let input = convert::from_json(input);
    filter
        .id
        .run((context, input))
        .map(unwrap_valr)
        .map(|output| match output {
            Ok(value) => convert::to_json(&value).map_err(|text| failed(&text)),
            Err(error) => Err(failed(&error.to_string())),
        })
        .collect()
}

fn failed(text: &str) -> TaskError {
    TaskError::permanent(format!("the filter failed: {text}")).code("filter-failed")
}

fn compile(code: &str) -> Result<Filter, TaskError> {
    let definitions = jaq_core::defs()
        .chain(jaq_std::defs())
        .chain(jaq_json::defs());
    let functions = jaq_core::funs()
        .chain(jaq_std::funs())
        .chain(jaq_json::funs());
    let arena = Arena::default();
    let modules = Loader::new(definitions)
        .load(&arena, File { code, path: () })
        .map_err(|errors| invalid(code, load_problem(errors)))?;
    Compiler::default()
        .with_funs(functions)
        .compile(modules)
        .map_err(|errors| invalid(code, compile_problem(errors)))
}

/// What is wrong, and the piece of code it is about.
type Problem<'a> = Option<(String, &'a str)>;

fn load_problem<'a>(errors: load::Errors<&'a str, ()>) -> Problem<'a> {
    match errors.into_iter().next()?.1 {
        load::Error::Io(problems) => problems
            .into_iter()
            .next()
            .map(|(part, _)| ("a plugin has no modules to load".to_owned(), part)),
        load::Error::Lex(problems) => problems
            .into_iter()
            .next()
            .map(|(expected, part)| (format!("expected {}", expected.as_str()), part)),
        load::Error::Parse(problems) => problems
            .into_iter()
            .next()
            .map(|(expected, part)| (format!("expected {}", expected.as_str()), part)),
    }
}

fn compile_problem<'a>(errors: jaq_core::compile::Errors<&'a str, ()>) -> Problem<'a> {
    let (part, undefined) = errors.into_iter().next()?.1.into_iter().next()?;
    Some((format!("undefined {} {part}", undefined.as_str()), part))
}

fn invalid(code: &str, problem: Problem<'_>) -> TaskError {
    let (what, place) = problem.unwrap_or_else(|| ("cannot be read".to_owned(), code));
    let offset = offset(code, place);
    let before = &code[..offset];
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .unwrap_or_default()
        .chars()
        .count()
        + 1;
    TaskError::permanent(format!(
        "invalid filter: line {line}, column {column}: {what}"
    ))
    .code("invalid-filter")
    .details(json!({ "pointer": "/filter", "line": line, "column": column }))
}

/// Where `part` begins in `code`. A part that is no slice of it (an error in jq's own definitions)
/// counts as the beginning.
fn offset(code: &str, part: &str) -> usize {
    let offset = (part.as_ptr() as usize).wrapping_sub(code.as_ptr() as usize);
    if offset <= code.len() && code.is_char_boundary(offset) {
        offset
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(code: &str, input: Value) -> Vec<Value> {
        run(code, input).unwrap()
    }

    #[test]
    fn filters_give_any_number_of_outputs() {
        assert_eq!(
            ok(".a", json!({"a": {"b": [1, null]}})),
            [json!({"b": [1, null]})]
        );
        assert_eq!(ok("empty", json!(1)), [] as [Value; 0]);
        assert_eq!(ok(".[] | . * 2", json!([1, 2.5])), [json!(2), json!(5.0)]);
        assert_eq!(
            ok("map(ascii_upcase) | join(\"-\")", json!(["a", "b"])),
            [json!("A-B")]
        );
        assert_eq!(ok("test(\"^a.c$\")", json!("abc")), [json!(true)]);
        assert_eq!(
            ok("0 | todate", json!(null)),
            [json!("1970-01-01T00:00:00Z")]
        );
    }

    #[test]
    fn a_bad_filter_is_placed() {
        let message = |code| run(code, json!(null)).unwrap_err().message().to_owned();
        assert!(
            message(".a |\n nonsense(1)")
                .starts_with("invalid filter: line 2, column 2: undefined filter"),
            "{}",
            message(".a |\n nonsense(1)")
        );
        assert!(
            message("[1, ").starts_with("invalid filter: line 1, column"),
            "{}",
            message("[1, ")
        );
        assert!(
            message("1 + )").starts_with("invalid filter: line 1, column 5"),
            "{}",
            message("1 + )")
        );
        assert!(message("$x").contains("undefined variable $x"));
        assert!(message("include \"a\"; .").contains("no modules"));
        assert!(message("").starts_with("invalid filter") || ok("", json!(3)) == [json!(3)]);
    }

    #[test]
    fn a_failing_filter_is_permanent() {
        let error = run(".a.b", json!({"a": 1})).unwrap_err();
        assert!(error.is_permanent());
        assert!(
            error.message().starts_with("the filter failed: "),
            "{}",
            error.message()
        );
        assert!(run("error(\"no\")", json!(null)).is_err());
        assert!(run("{(1): 2}", json!(null)).is_err());
    }
}
