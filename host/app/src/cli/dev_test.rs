//! `dev test`: cases of a component, each one attempt with what it shall come to.

use super::dev::{Taken, take_in};
use super::dev_run::{Case, grants, run_secrets};
use super::failure::{Exit, Failure, Outcome};
use super::render::{Paint, Style, pretty};
use super::{Global, print, values};
use clap::Args;
use horarium_core::runner::{Fixed, Given};
use horarium_model::input::Fields;
use horarium_model::limits::{DEFAULT_TIMEOUT_SECONDS, LimitOverrides};
use horarium_model::program::ProgramInput;
use horarium_model::{Invalid, Problem, Timestamp, json as strict};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Where clocks begin when a case does not say: 2030-01-01T00:00:00Z, in seconds.
const AT: i64 = 1_893_456_000;
/// Most grants, settings and log lines of a case.
const MOST: usize = 10_000;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The component
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Cases, or directories of them [default: cases]
    #[arg(value_name = "CASE.json|DIR")]
    cases: Vec<PathBuf>,
    /// Write what came into each case that expects something else, or nothing yet
    #[arg(long)]
    bless: bool,
}

/// One file.
struct Test {
    path: PathBuf,
    document: Map<String, Value>,
    case: Case,
    expect: Option<Expect>,
}

/// What a case shall come to. What is not named is not looked at.
struct Expect {
    result: Option<Value>,
    error: Option<Value>,
    logs: Option<Value>,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let files = files(&arguments.cases)?;
    let tests: Vec<Test> = files
        .into_iter()
        .map(read)
        .collect::<Result<_, Failure>>()?;
    let networks = tests.iter().flat_map(|test| test.case.networks());
    let taken = take_in(&arguments.file, networks.collect())?;
    let style = Style::of_stdout();
    let (mut told, mut failed) = (Vec::new(), 0);
    for test in tests {
        let (mut wrong, came) = test.run(&taken);
        let blessed = arguments.bless && !wrong.is_empty() && came.is_some();
        if let Some(came) = came.filter(|_| blessed) {
            test.bless(&came)?;
            wrong.clear();
        }
        failed += usize::from(!wrong.is_empty());
        let name = test.path.display().to_string();
        if !global.json {
            print(&line(&name, &wrong, blessed, style))?;
        }
        told.push(json!({"case": name, "is_success": wrong.is_empty(), "blessed": blessed, "wrong": wrong}));
    }
    let passed = told.len() - failed;
    if global.json {
        let body = json!({"passed": passed, "failed": failed, "cases": told});
        print(&format!("{body}\n"))?;
    } else {
        print(&format!("{passed} passed, {failed} failed\n"))?;
        if failed > 0 && !arguments.bless {
            eprintln!("where the component is right, `--bless` writes what came into the cases");
        }
    }
    Ok(match failed {
        0 => Exit::Done,
        _ => Exit::Failed,
    })
}

fn line(name: &str, wrong: &[String], blessed: bool, style: Style) -> String {
    let word = match (wrong.is_empty(), blessed) {
        (false, _) => style.paint(Paint::Bad, "FAILED"),
        (true, true) => "written".to_owned(),
        (true, false) => style.paint(Paint::Good, "ok"),
    };
    let mut text = format!("{name}: {word}\n");
    for what in wrong {
        text.push_str(&format!("    {what}\n"));
    }
    text
}

/// The files that were named, those of directories by name.
fn files(named: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let usual = [PathBuf::from("cases")];
    let named = match named {
        [] if usual[0].is_dir() => &usual[..],
        named => named,
    };
    let mut files = Vec::new();
    for path in named {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let unreadable =
            |error: std::io::Error| Failure::refused(format!("{}: {error}", path.display()));
        let mut inside = Vec::new();
        for entry in std::fs::read_dir(path).map_err(unreadable)? {
            let file = entry.map_err(unreadable)?.path();
            if file.extension().is_some_and(|ending| ending == "json") {
                inside.push(file);
            }
        }
        inside.sort();
        files.extend(inside);
    }
    match files.is_empty() {
        false => Ok(files),
        true => Err(Failure::refused("there are no cases: no *.json in what was named, or in `cases` here")
            .hint(r#"a case is a file such as cases/ada.json with {"params": {"name": "Ada"}}; --bless adds what it comes to"#)),
    }
}

fn read(path: PathBuf) -> Result<Test, Failure> {
    let within =
        |detail: &dyn std::fmt::Display| Failure::refused(format!("{}: {detail}", path.display()));
    let bytes = values::read_file(&path)?;
    let document = match strict::parse(bytes.trim_ascii()) {
        Ok(Value::Object(map)) => map,
        Ok(_) => return Err(within(&"a case is a JSON object")),
        Err(problem) => return Err(within(&problem)),
    };
    let value = Value::Object(document.clone());
    let read = Fields::read(&value, "", |fields| (case(fields), expect(fields)));
    let (case, expect) = read.map_err(|Invalid(problems)| {
        let told: Vec<String> = problems
            .iter()
            .map(|p| format!("{} {}", p.pointer, p.detail))
            .collect();
        within(&told.join("; "))
    })?;
    // A result may be null, which a reader of fields takes for nothing said.
    let result = document.get("expect").and_then(|it| it.get("result"));
    let expect = expect.map(|expect| Expect {
        result: result.cloned(),
        ..expect
    });
    Ok(Test {
        case: case.map_err(|failure| within(&failure.render(false).trim_end()))?,
        path,
        document,
        expect,
    })
}

fn case(fields: &mut Fields<'_>) -> Result<Case, Failure> {
    let parameters = fields.map("params").unwrap_or_default();
    let named = fields.list("grants", MOST, |grant| {
        let text = grant.as_str().ok_or("must be a string")?;
        Ok(text.to_owned())
    });
    let config = texts(fields, "config");
    let secrets = texts(fields, "secrets");
    let at = fields
        .instant("at")
        .or_else(|| Timestamp::from_timestamp(AT, 0));
    let seed = fields.unsigned("seed", 0, u64::MAX).unwrap_or(0);
    let limits = fields.object("limits", LimitOverrides::read);
    let input = ProgramInput::read(fields);
    let timeout = fields.unsigned("timeout_seconds", 1, 86_400);
    let attempt = fields.unsigned("attempt", 1, 101);
    let grants = grants(&named.unwrap_or_default())?;
    let secrets = secrets
        .into_iter()
        .map(|(name, value)| (name, value.into_bytes()));
    Ok(Case {
        parameters,
        given: Given {
            config: Arc::new(config),
            secrets: run_secrets(secrets.collect(), &grants)?.into(),
            fixed: Fixed {
                at,
                seed: Some(seed),
            },
        },
        grants,
        limits: limits.unwrap_or_default(),
        input: input.unwrap_or_default(),
        timeout: small(timeout).unwrap_or(DEFAULT_TIMEOUT_SECONDS),
        attempt: small(attempt).unwrap_or(1),
    })
}

fn small(number: Option<u64>) -> Option<u32> {
    number.and_then(|number| u32::try_from(number).ok())
}

/// An object of strings.
fn texts(fields: &mut Fields<'_>, key: &'static str) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for (name, value) in fields.map(key).unwrap_or_default() {
        match value {
            Value::String(text) => {
                texts.insert(name, text);
            }
            _ => fields.merge(vec![Problem::at(
                format!("{}/{name}", fields.pointer_to(key)),
                "must be a string",
            )]),
        }
    }
    texts
}

fn expect(fields: &mut Fields<'_>) -> Option<Expect> {
    let expect = fields.object("expect", |expect| Expect {
        result: expect.value("result").cloned(),
        error: expect.object("error", error).map(Value::Object),
        logs: expect.value("logs").cloned(),
    })?;
    if expect.result.is_some() && expect.error.is_some() {
        fields.problem("expect", "is a result or an error, not both");
    }
    Some(expect)
}

/// What a failure shall say; the names of what is looked at.
fn error(fields: &mut Fields<'_>) -> Map<String, Value> {
    let mut said = Map::new();
    for key in ["kind", "message", "traceback"] {
        if let Some(value) = fields.value(key) {
            said.insert(key.to_owned(), value.clone());
        }
    }
    said
}

impl Test {
    /// What is not as it shall be, and what came if it could run.
    fn run(&self, taken: &Taken) -> (Vec<String>, Option<Value>) {
        let came = match self.case.run(taken) {
            Ok((came, _)) => came,
            Err(failure) => return (vec![failure.render(false).trim_end().to_owned()], None),
        };
        let wrong = match &self.expect {
            None => vec!["expects nothing yet".to_owned()],
            Some(expect) => expect.differences(&came),
        };
        (wrong, Some(came))
    }

    /// Writes what came into the file; everything else in it stays. A full disk leaves it as it was.
    fn bless(&self, came: &Value) -> Result<(), Failure> {
        let mut expect = match came["error"].is_null() {
            true => json!({"result": came["result"]}),
            false => {
                json!({"error": {"kind": came["error"]["kind"], "message": came["error"]["message"]}})
            }
        };
        let named = self.expect.as_ref().is_none_or(|old| old.logs.is_some());
        if named && came["logs"] != json!([]) {
            expect["logs"] = came["logs"].clone();
        }
        let mut document = self.document.clone();
        document.insert("expect".into(), expect);
        let aside = self.path.with_extension("json.part");
        std::fs::write(&aside, format!("{}\n", pretty(&document.into())))
            .and_then(|()| std::fs::rename(&aside, &self.path))
            .map_err(|error| {
                let _ = std::fs::remove_file(&aside);
                Failure::failed(format!("{}: {error}", self.path.display()))
            })
    }
}

impl Expect {
    fn differences(&self, came: &Value) -> Vec<String> {
        let mut wrong = Vec::new();
        match &self.error {
            // A result, or just a success.
            None if !came["error"].is_null() => {
                let error = &came["error"];
                let text = |key: &str| error[key].as_str().unwrap_or_default();
                wrong.push(format!("it failed: {}: {}", text("kind"), text("message")));
            }
            None => {
                if let Some(result) = &self.result {
                    wrong.extend(first_difference("/result", result, &came["result"]));
                }
            }
            Some(_) if came["error"].is_null() => {
                wrong.push(format!("it succeeded with {}", came["result"]));
            }
            Some(error) => {
                // The traceback, say, need not be named.
                let named = error.as_object().into_iter().flatten();
                wrong.extend(named.filter_map(|(key, wanted)| {
                    first_difference(&format!("/error/{key}"), wanted, &came["error"][key])
                }));
            }
        }
        if let Some(logs) = &self.logs {
            wrong.extend(first_difference("/logs", logs, &came["logs"]));
        }
        wrong
    }
}

/// Where two values first differ, and how.
fn first_difference(at: &str, wanted: &Value, came: &Value) -> Option<String> {
    if wanted == came {
        return None;
    }
    match (wanted, came) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            for key in keys {
                let under = format!("{at}/{}", strict::escape(key));
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => {
                        if let Some(found) = first_difference(&under, a, b) {
                            return Some(found);
                        }
                    }
                    (Some(_), None) => return Some(format!("{under} is missing")),
                    _ => return Some(format!("{under} is not expected")),
                }
            }
            None
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let mut pairs = a.iter().zip(b).enumerate();
            pairs.find_map(|(n, (a, b))| first_difference(&format!("{at}/{n}"), a, b))
        }
        _ => Some(format!("{at} is {came}, not {wanted}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_told_by_pointer() {
        let wanted = json!({"a": [1, {"b/c": 2}], "d": 1});
        for (came, told) in [
            (wanted.clone(), None),
            (
                json!({"a": [1, {"b/c": 3}], "d": 1}),
                Some("/result/a/1/b~1c is 3, not 2"),
            ),
            (
                json!({"a": [1], "d": 1}),
                Some(r#"/result/a is [1], not [1,{"b/c":2}]"#),
            ),
            (json!({"a": [1, {"b/c": 2}]}), Some("/result/d is missing")),
            (
                json!({"a": [1, {"b/c": 2}], "d": 1, "e": 0}),
                Some("/result/e is not expected"),
            ),
        ] {
            let found = first_difference("/result", &wanted, &came);
            assert_eq!(found.as_deref(), told, "{came}");
        }
    }
}
