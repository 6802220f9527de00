//! Plugins that the host shares with every tenant.

use crate::access::with;
use crate::many_hosts::{database, loads, member};
use crate::support::{Host, HostBuilder, World, items, plugin, text, until};
use serde_json::{Value, json};

/// Makes a tenant; the token of its admin.
fn tenant(host: &Host, name: &str) -> String {
    host.run(&format!("tenant create {name}"));
    let made = host.run(&format!("token create boss --role admin --tenant {name}"));
    text(&made, "token").to_owned()
}

/// An execution of the token's tenant, once it ended.
fn ended(host: &Host, token: &str, task_id: &str) -> Value {
    until("the end", || {
        let shown = with(host, token, &format!("execution show {task_id}"));
        let shown = shown.exits(0).json();
        shown["completed_at"].is_string().then_some(shown)
    })
}

/// Creates a task and runs it once.
fn run(host: &Host, token: &str, flags: &str) -> Value {
    let task = with(host, token, &format!("task create --name One {flags}"));
    let task = task.exits(0).json()["id"].clone();
    let triggered = with(host, token, &format!("task trigger {task}"));
    let triggered = triggered.exits(0).json();
    ended(host, token, text(&triggered, "task_id"))
}

#[test]
fn what_the_host_shares_runs_for_each_tenant_with_its_own() {
    let world = World::start();
    let host = HostBuilder::default()
        .setting("network.allow_private", "127.0.0.0/8")
        .start();
    let url = world.url();
    let file = plugin("hostile/secretive");
    let shared = host.run(&format!(
        "plugin register calls '{}' --shared --grant 'http * {url} via 127.0.0.0/8' --grant state \
         --grant 'secret api-key in header:x-key to {url}'",
        file.display()
    ));
    assert_eq!(shared["tenant_id"], Value::Null);
    let file = plugin("hostile/configured");
    let register = format!("plugin register settings '{}'", file.display());
    let told = host.cli(&format!("{register} --shared")).exits(0).stdout;
    assert!(told.contains("for every tenant"), "{told}");
    host.run("plugin config set settings url https://host.example");
    let tokens = ["acme", "globex"].map(|name| (name, tenant(&host, name)));
    for (name, token) in &tokens {
        let listed = with(&host, token, "plugin list").exits(0).json();
        let listed = items(&listed);
        let names: Vec<&str> = listed.iter().map(|one| text(one, "task_type")).collect();
        assert_eq!(names, ["calls", "settings"]);
        // Settings are the host's, secrets the tenant's: one that has none is told so.
        let ran = run(&host, token, "--type settings");
        assert_eq!(ran["result"]["config"], "https://host.example", "{ran:#}");
        let params = json!({"url": format!("{url}/{name}"), "place": "header:x-key"});
        let flags = format!("--type calls --max-retries 0 --params '{params}'");
        let ran = run(&host, token, &flags);
        assert_eq!(ran["error_kind"], "secret_missing", "{ran:#}");
        let value = format!("value-of-{name}-7f3b9e21");
        let set = json!({"value": value}).to_string();
        let bearer = format!("Bearer {token}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let set = host.send_bare("PUT", "/v1/secrets/api-key", &headers, set.as_bytes());
        assert_eq!(set.status, 201);
        let ran = run(&host, token, &flags);
        assert_ne!(ran["error_kind"], "secret_missing", "{ran:#}");
        let came = world.received(&format!("/{name}"));
        assert_eq!(came.len(), 1);
        assert_eq!(came[0].header("x-key").as_deref(), Some(value.as_str()));
        let own = with(&host, token, "execution list").exits(0).json();
        assert_eq!(items(&own).len(), 3, "its own alone");
    }
    // Who may not change it is told why, and what is a tenant's cannot be shared.
    let (_, acme) = &tokens[0];
    for line in [
        "plugin disable calls",
        "plugin grant calls --add state",
        "plugin limit calls --max 1",
        "plugin config set settings url x",
        "plugin remove settings",
    ] {
        let refused = with(&host, acme, line).exits(3);
        assert!(
            refused.stderr.contains("only a host-admin changes it"),
            "{refused:?}"
        );
    }
    with(&host, acme, &register)
        .exits(2)
        .complains(&["host shares with every tenant"]);
    let hello = plugin("hello");
    let own = format!("plugin register mine '{}'", hello.display());
    with(&host, acme, &own).exits(0);
    host.cli(&format!("{own} --shared"))
        .exits(2)
        .complains(&["`acme`", "never both"]);
    let shown = host.cli("plugin list").exits(0).stdout;
    assert!(shown.contains("SHARED") && shown.contains("yes"), "{shown}");
    host.cli("plugin remove settings")
        .exits(2)
        .complains(&["2 tasks name it"]);
}

#[test]
fn what_is_shared_on_one_host_is_shared_on_all() {
    let (_cluster, url) = database();
    let one = member("one", &url, "2").start();
    let two = member("two", &url, "2").start();
    let sleep = plugin("hostile/sleep");
    one.run(&format!(
        "plugin register sleep '{}' --shared",
        sleep.display()
    ));
    one.run("plugin limit sleep --max 2");
    loads(&two, "sleep");
    // Tenants that are made on either host run on both, each with as many at once as the type allows.
    let tokens = [("acme", &one), ("globex", &two)].map(|(name, host)| tenant(host, name));
    let mut started = Vec::new();
    for token in &tokens {
        let line = "task create --name Many --type sleep --overlap allow --set milliseconds=400";
        let task = with(&two, token, line).exits(0).json()["id"].clone();
        for _ in 0..6 {
            let triggered = with(&one, token, &format!("task trigger {task}"));
            let triggered = triggered.exits(0).json();
            started.push((token, text(&triggered, "task_id").to_owned()));
        }
    }
    let mut hosts = std::collections::BTreeSet::new();
    for (token, task_id) in started {
        let ended = ended(&one, token, &task_id);
        assert_eq!(ended["state"], "succeeded", "{ended:#}");
        hosts.insert(text(&ended, "host").to_owned());
    }
    assert_eq!(hosts.len(), 2, "{hosts:?}");
    two.run("plugin disable sleep");
    until("the other host knows", || {
        let shown = with(&one, &tokens[0], "plugin show sleep").exits(0).json();
        (shown["disabled"] == true).then_some(())
    });
}
