//! `tenant`: who shares the hosts.

use super::failure::Outcome;
use super::render::{Facts, Style, Table, instant_of, text_of};
use super::retention::Bounds;
use super::{PageArguments, Remote, now, words};
use clap::{Args, Subcommand};
use serde_json::{Map, Value};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Create a tenant
    Create(Write),
    /// List the tenants
    List(PageArguments),
    /// Show a tenant
    Show(Name),
    /// Change a tenant's share of the turns
    Update(Write),
    /// See and set how long the ended executions of the tenant in force are kept
    Retention(Bounds),
    /// Delete a tenant that has no tasks any more
    Delete(Name),
}

#[derive(Debug, Args)]
pub(crate) struct Write {
    /// Its name: lower-case letters, digits, - and _
    #[arg(value_name = "NAME")]
    name: String,
    /// Its share when tenants take turns, 1 to 1000 [default: 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    weight: Option<i64>,
}

#[derive(Debug, Args)]
pub(crate) struct Name {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
}

fn path(name: &str) -> String {
    format!("/v1/tenants/{}", crate::client::segment(name))
}

pub(crate) fn run(remote: &Remote, verb: Verb) -> Outcome {
    match verb {
        Verb::Create(arguments) => {
            let mut body = weight(&arguments);
            body.insert("name".into(), arguments.name.clone().into());
            let answer = remote.client.post("/v1/tenants", &Value::Object(body))?;
            remote.show(&answer, |tenant| {
                format!(
                    "{}\nNext: horarium token create NAME --role admin --tenant {}\n",
                    facts(tenant),
                    text_of(tenant, "name"),
                )
            })
        }
        Verb::List(page) => {
            let answer = remote.client.get("/v1/tenants", &page.query())?;
            remote.show_list(&answer, "There are no tenants.", table)
        }
        Verb::Show(Name { name }) => {
            let answer = remote.client.get(&path(&name), &Vec::new())?;
            remote.show(&answer, facts)
        }
        Verb::Update(arguments) => {
            let body = Value::Object(weight(&arguments));
            let json = "application/json";
            let answer = remote
                .client
                .patch(&path(&arguments.name), json, None, &body)?;
            remote.show(&answer, |tenant| {
                format!("{}\nSee all: horarium tenant list\n", facts(tenant))
            })
        }
        Verb::Retention(bounds) => bounds.run(remote, "/v1/retention"),
        Verb::Delete(Name { name }) => {
            let answer = remote.client.delete(&path(&name), &Vec::new())?;
            remote.show(&answer, |_| {
                format!(
                    "Tenant {name} is deleted: its tokens are good no more, its history goes in the background.\n\
                     See the others: horarium tenant list\n"
                )
            })
        }
    }
}

fn weight(arguments: &Write) -> Map<String, Value> {
    let weight = arguments
        .weight
        .map(|weight| ("weight".to_owned(), weight.into()));
    weight.into_iter().collect()
}

fn facts(tenant: &Value) -> String {
    let created = instant_of(tenant, "created_at").map(words::instant);
    let mut facts = Facts::default();
    facts
        .add("name", text_of(tenant, "name"))
        .add("id", text_of(tenant, "id"))
        .add("weight", text_of(tenant, "weight"))
        .add("created", created.unwrap_or_default());
    facts.render(Style::of_stdout())
}

fn table(tenants: &[Value]) -> Table {
    let mut table = Table::new(&["ID>", "NAME", "WEIGHT>", "CREATED"]);
    for tenant in tenants {
        let created = instant_of(tenant, "created_at");
        let created = created.map(|at| words::from_now(at, now()));
        table.row(vec![
            text_of(tenant, "id").into(),
            text_of(tenant, "name").into(),
            text_of(tenant, "weight").into(),
            created.unwrap_or_default().into(),
        ]);
    }
    table
}
