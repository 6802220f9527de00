//! `quota`: what a tenant may use, and uses.

use super::failure::{Exit, Failure, Outcome};
use super::render::{Cell, Paint, Style, Table, instant_of, text_of};
use super::{Remote, now, print, words};
use clap::{Args, Subcommand};
use horarium_model::quota::Quotas;
use horarium_model::text::nearest;
use serde_json::{Map, Value};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Show every quota of the tenant in force, what is used of it, and when it begins anew
    Show,
    /// Change quotas; what is not named stays
    Set(Set),
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    /// Such as concurrency=8, memory_bytes=512MiB, fuel_per_day=10_000_000_000_000; =none takes the bound away
    #[arg(value_name = "QUOTA=NUMBER", required = true)]
    quotas: Vec<String>,
}

pub(crate) fn run(remote: &Remote, verb: &Verb) -> Outcome {
    let answer = match verb {
        Verb::Show => remote.client.get("/v1/quotas", &Vec::new())?,
        Verb::Set(set) => {
            let body = body(&set.quotas).map_err(Failure::refused)?;
            let json = "application/json";
            remote.client.patch("/v1/quotas", json, None, &body)?
        }
    };
    match (verb, remote.json) {
        (Verb::Set(_), false) => {
            let body = answer.json()?;
            let quotas = body["items"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            let table = table(quotas).render(Style::of_stdout());
            print(&format!(
                "{table}See what is used, day by day: horarium usage\n"
            ))?;
            Ok(Exit::Done)
        }
        _ => remote.show_list(&answer, "There are no quotas.", table),
    }
}

fn body(words: &[String]) -> Result<Value, String> {
    let mut body = Map::new();
    for word in words {
        let name = word.split('=').next().unwrap_or_default();
        if !Quotas::NAMES.contains(&name) {
            let near = nearest(name, Quotas::NAMES.iter().copied());
            let hint = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are {}", Quotas::NAMES.join(", ")),
            };
            return Err(format!("`{name}` is no quota; {hint}"));
        }
        let value = match word.split_once('=') {
            Some((_, "none")) => Value::Null,
            _ => super::values::limit(word)?.1.into(),
        };
        if body.insert(name.to_owned(), value).is_some() {
            return Err(format!("`{name}` is given more than once"));
        }
    }
    Ok(Value::Object(body))
}

fn table(quotas: &[Value]) -> Table {
    let mut table = Table::new(&["QUOTA", "USED>", "LIMIT>", "ANEW"]);
    for quota in quotas {
        let name = text_of(quota, "quota");
        let shown = |key: &str| match quota[key].as_u64() {
            Some(bytes) if name.contains("bytes") => words::bytes(bytes),
            Some(number) => words::count(number),
            None => "none".to_owned(),
        };
        let (used, limit) = (quota["used"].as_u64(), quota["limit"].as_u64());
        let is_full = used.zip(limit).is_some_and(|(used, limit)| used >= limit);
        let anew = instant_of(quota, "resets_at").map(|at| words::from_now(at, now()));
        table.row(vec![
            name.as_str().into(),
            match is_full {
                true => Cell::painted(Paint::Bad, shown("used")),
                false => shown("used").into(),
            },
            shown("limit").into(),
            anew.unwrap_or_default().into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn quotas_are_numbers_sizes_or_none() {
        let body = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            super::body(&words)
        };
        assert_eq!(
            body(&["memory_bytes=64MiB", "configs=1_000", "backlog=none"]),
            Ok(json!({"memory_bytes": 64 << 20, "configs": 1000, "backlog": null}))
        );
        let wrong = body(&["config=1"]).expect_err("no quota");
        assert_eq!(wrong, "`config` is no quota; did you mean `configs`?");
        let twice = body(&["configs=1", "configs=none"]).expect_err("one of them");
        assert_eq!(twice, "`configs` is given more than once");
        assert!(body(&["configs=many"]).is_err() && body(&["configs"]).is_err());
    }
}
