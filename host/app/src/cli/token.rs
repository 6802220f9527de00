//! `token`: who may ask.

use super::failure::{Failure, Outcome};
use super::render::{Cell, Facts, Paint, Style, Table, instant_of, text_of};
use super::values::instant;
use super::{PageArguments, Remote, now, words};
use clap::{Args, Subcommand};
use horarium_model::access::{Permission, Role};
use horarium_model::schedule::wire;
use serde_json::{Map, Value, json};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Create a token; its text is shown this once
    Create(Create),
    /// List the tokens of the tenant (and, for a host-admin, of the host)
    List(PageArguments),
    /// Show a token, without its text
    Show(Id),
    /// Give a token another secret; its text is shown this once
    Rotate(Rotate),
    /// Revoke a token
    Revoke(Id),
    /// Say whose token is in use here, and what it may
    Whoami,
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// What it is for, such as `ci`
    #[arg(value_name = "NAME")]
    name: String,
    /// What it may do at most: viewer, trigger, operator, admin, host-admin
    #[arg(long, value_name = "ROLE")]
    role: Role,
    /// Of its role only this, separated by commas, such as tasks:read,tasks:trigger
    #[arg(long, value_name = "PERMISSION,…", value_delimiter = ',')]
    scope: Vec<Permission>,
    /// Until when it is good: an instant with an offset, or +90d from now [default: until revoked]
    #[arg(long, value_name = "INSTANT|+SPAN")]
    expires: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Rotate {
    /// Its id
    #[arg(value_name = "ID")]
    id: String,
    /// How long the text before stays good, such as 1h [default: not at all]
    #[arg(long, value_name = "SPAN")]
    keep: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Id {
    /// Its id
    #[arg(value_name = "ID")]
    id: String,
}

impl Id {
    fn path(&self) -> String {
        path(&self.id)
    }
}

fn path(id: &str) -> String {
    format!("/v1/tokens/{}", crate::client::segment(id))
}

pub(crate) fn run(remote: &Remote, verb: Verb) -> Outcome {
    match verb {
        Verb::Create(arguments) => create(remote, &arguments),
        Verb::List(page) => {
            let answer = remote.client.get("/v1/tokens", &page.query())?;
            let empty =
                "There are no tokens; make one with `horarium token create NAME --role ROLE`.";
            remote.show_list(&answer, empty, table)
        }
        Verb::Show(id) => {
            let answer = remote.client.get(&id.path(), &Vec::new())?;
            remote.show(&answer, facts)
        }
        Verb::Rotate(arguments) => rotate(remote, &arguments),
        Verb::Revoke(id) => {
            let answer = remote.client.delete(&id.path(), &Vec::new())?;
            remote.show(&answer, |_| {
                format!(
                    "Token {} is revoked. `horarium token list` shows the others.\n",
                    id.id
                )
            })
        }
        Verb::Whoami => {
            let answer = remote.client.get("/v1/me", &Vec::new())?;
            remote.show(&answer, whoami)
        }
    }
}

fn create(remote: &Remote, arguments: &Create) -> Outcome {
    let mut body = Map::new();
    body.insert("name".into(), arguments.name.clone().into());
    body.insert("role".into(), json!(arguments.role));
    if !arguments.scope.is_empty() {
        body.insert("scope".into(), json!(arguments.scope));
    }
    if let Some(text) = &arguments.expires {
        let at = instant(text, now());
        let at = at.map_err(|detail| Failure::refused(format!("--expires: {detail}")))?;
        body.insert("expires_at".into(), wire(at).into());
    }
    let answer = remote.client.post("/v1/tokens", &Value::Object(body))?;
    remote.show(&answer, handed_out)
}

fn rotate(remote: &Remote, arguments: &Rotate) -> Outcome {
    let mut body = Map::new();
    if let Some(text) = &arguments.keep {
        let (from, span) = (now(), format!("+{}", text.trim_start_matches('+')));
        let until = instant(&span, from);
        let until = until.map_err(|detail| Failure::refused(format!("--keep: {detail}")))?;
        body.insert("keep_seconds".into(), (until - from).num_seconds().into());
    }
    let path = format!("{}/rotate", path(&arguments.id));
    let answer = remote.client.post(&path, &Value::Object(body))?;
    remote.show(&answer, handed_out)
}

/// A token whose text is seen now and never again.
fn handed_out(token: &Value) -> String {
    format!(
        "{}\n{}\n\nKeep it now: it is not shown again. Use it as HORARIUM_TOKEN; \
         `horarium token revoke {}` ends it.\n",
        facts(token),
        text_of(token, "token"),
        text_of(token, "id"),
    )
}

fn facts(token: &Value) -> String {
    let since = |key| {
        let at = instant_of(token, key);
        at.map(|at| format!("{} ({})", words::instant(at), words::from_now(at, now())))
    };
    let mut facts = Facts::default();
    facts
        .add("id", text_of(token, "id"))
        .add("name", text_of(token, "name"))
        .add("role", text_of(token, "role"))
        .add("scope", list(&token["scope"]))
        .add("tenant", text_of(token, "tenant"))
        .add("state", text_of(token, "state"))
        .add(
            "expires",
            since("expires_at").unwrap_or_else(|| "never".into()),
        )
        .add(
            "last used",
            since("last_used_at").unwrap_or_else(|| "never".into()),
        )
        .add("created", since("created_at").unwrap_or_default())
        .add("by", text_of(token, "created_by"))
        .add("rotated", since("rotated_at").unwrap_or_default())
        .add(
            "text before good until",
            since("previous_until").unwrap_or_default(),
        );
    facts.render(Style::of_stdout())
}

fn list(value: &Value) -> String {
    let words = value.as_array().into_iter().flatten();
    words
        .filter_map(Value::as_str)
        .collect::<Vec<_>>()
        .join(" ")
}

fn table(tokens: &[Value]) -> Table {
    let mut table = Table::new(&[
        "ID>",
        "NAME",
        "ROLE",
        "TENANT",
        "STATE",
        "EXPIRES",
        "LAST USED",
        "SCOPE+",
        "CREATED BY+",
    ]);
    for token in tokens {
        let when = |key| instant_of(token, key).map(|at| words::from_now(at, now()));
        let state = text_of(token, "state");
        let role = match token["scope"].is_null() {
            true => text_of(token, "role"),
            false => format!("{} (scoped)", text_of(token, "role")),
        };
        table.row(vec![
            text_of(token, "id").into(),
            text_of(token, "name").into(),
            role.into(),
            text_of(token, "tenant").into(),
            match state.as_str() {
                "active" => Cell::painted(Paint::Good, &state),
                _ => Cell::painted(Paint::Warning, &state),
            },
            when("expires_at").unwrap_or_else(|| "never".into()).into(),
            when("last_used_at")
                .unwrap_or_else(|| "never".into())
                .into(),
            list(&token["scope"]).into(),
            text_of(token, "created_by").into(),
        ]);
    }
    table
}

fn whoami(me: &Value) -> String {
    let mut facts = Facts::default();
    let token = &me["token"];
    let name = match token.is_null() {
        true => "the admin-token of the host's data directory".to_owned(),
        false => format!("{} ({})", text_of(token, "name"), text_of(token, "id")),
    };
    let tenant = match me["tenant"].is_null() {
        true => "none: names one with --tenant".to_owned(),
        false => text_of(me, "tenant"),
    };
    facts
        .add("token", name)
        .add("role", text_of(me, "role"))
        .add("tenant", tenant)
        .add("may", list(&me["permissions"]));
    facts.render(Style::of_stdout())
}
