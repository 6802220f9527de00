//! Nothing is reached that was not granted, and nothing private without the host's own word.

use crate::support::{Host, HostBuilder, World, text};
use serde_json::{Value, json};

/// Asks for `url` once with these grants.
fn ask(host: &Host, grants: &[String], url: &str) -> Value {
    let flags: String = grants
        .iter()
        .map(|grant| format!("--grant '{grant}' "))
        .collect();
    host.register("http_request", &flags);
    host.run_once(&format!(
        "--type http_request --max-retries 0 --set url={url} --set expected_status='[200, 302]'"
    ))
}

fn open_host() -> Host {
    HostBuilder::default()
        .setting("network.allow_private", "127.0.0.0/8")
        .start()
}

/// Fails unless a run was denied and a line of its log holds the very grant that would allow it.
fn denied(host: &Host, ran: &Value, wanted: &[&str]) {
    assert_eq!(
        (text(ran, "state"), text(ran, "error_kind")),
        ("failed", "permanent"),
        "{ran:#}"
    );
    let log = host.logs(text(ran, "task_id"));
    let told: String = log
        .iter()
        .map(|line| text(line, "message").to_owned() + "\n")
        .collect();
    let message = text(ran, "error_message");
    for word in wanted {
        assert!(
            message.contains(word),
            "no `{word}` in {message}\nlog: {told}"
        );
    }
    assert!(
        log.iter().any(|line| line["source"] == "host"),
        "the host says nothing: {told}"
    );
    assert_eq!(ran["usage"]["http_calls"], 0, "{ran:#}");
}

#[test]
fn without_a_grant_nothing_is_reached() {
    let (world, host) = (World::start(), open_host());
    let url = world.url();
    let grant = format!("http GET {url}");
    denied(
        &host,
        &ask(&host, &[], &format!("{url}/page")),
        &["grant", &grant],
    );
    // Another path, another method, another scheme, another port.
    for other in [
        format!("http GET {url}/other via 127.0.0.0/8"),
        format!("http POST {url} via 127.0.0.0/8"),
        format!(
            "http GET {} via 127.0.0.0/8",
            url.replace("http:", "https:")
        ),
        "http GET http://127.0.0.1:1 via 127.0.0.0/8".to_owned(),
    ] {
        denied(
            &host,
            &ask(&host, &[other], &format!("{url}/page")),
            &["grant"],
        );
    }
    assert_eq!(world.visits("/page"), 0);
}

#[test]
fn a_private_address_needs_the_grant_and_the_setting() {
    let world = World::start();
    let url = world.url();
    let page = format!("{url}/page");
    let with_via = format!("http GET {url} via 127.0.0.0/8");
    let closed = Host::start();
    denied(
        &closed,
        &ask(&closed, std::slice::from_ref(&with_via), &page),
        &["network.allow_private"],
    );
    let open = open_host();
    denied(
        &open,
        &ask(&open, &[format!("http GET {url}")], &page),
        &["grant", "via"],
    );
    assert_eq!(world.visits("/page"), 0);

    let reached = ask(&open, &[with_via], &page);
    assert_eq!(
        (text(&reached, "state"), world.visits("/page")),
        ("succeeded", 1),
        "{reached:#}"
    );
    assert_eq!(reached["usage"]["http_calls"], 1);
    // The same address by other names.
    for name in [
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "2130706433",
        "0",
    ] {
        let other = url.replace("127.0.0.1", name);
        let grants = [format!("http GET {url} via 127.0.0.0/8")];
        let ran = ask(&open, &grants, &format!("{other}/page"));
        denied(&open, &ran, &["grant", name]);
    }
    assert_eq!(world.visits("/page"), 1);
}

#[test]
fn a_redirect_is_not_followed_past_the_grant() {
    let (world, elsewhere, host) = (World::start(), World::start(), open_host());
    let grant = format!("http GET {} via 127.0.0.0/8", world.url());
    let start = format!("{}/redirect?{}/secret", world.url(), elsewhere.url());
    let ran = ask(&host, std::slice::from_ref(&grant), &start);
    assert_eq!(
        ran["result"]["status"], 302,
        "the plugin sees the redirect: {ran:#}"
    );
    // The hop is a request like any other.
    denied(
        &host,
        &ask(&host, &[grant], &format!("{}/secret", elsewhere.url())),
        &["grant"],
    );
    assert_eq!(
        (world.visits("/redirect"), elsewhere.visits("/secret")),
        (1, 0)
    );
}

#[test]
fn calls_are_counted_and_limited() {
    let (world, host) = (World::start(), open_host());
    let grant = format!(
        "--grant 'http GET {} via 127.0.0.0/8' --grant state",
        world.url()
    );
    host.register("reddit_scraper", &grant);
    let scrape = format!(
        "--type reddit_scraper --max-retries 0 --set subreddit=rust --set base_url={}",
        world.url()
    );
    // 130 posts are two pages.
    let ran = host.run_once(&format!("{scrape} --set limit=1000"));
    assert_eq!(
        (&ran["result"]["fetched"], &ran["usage"]["http_calls"]),
        (&json!(130), &json!(2)),
        "{ran:#}"
    );
    assert!(
        ran["usage"]["http_response_bytes"].as_u64() > Some(10_000),
        "{ran:#}"
    );
    let limited = host.run_once(&format!("{scrape} --set limit=1000 --limit http_calls=1"));
    assert_eq!(limited["state"], "failed", "{limited:#}");
    assert!(
        text(&limited, "error_message").contains("http_calls"),
        "{limited:#}"
    );
    let small = host.run_once(&format!("{scrape} --limit http_response_bytes=5000"));
    assert_eq!(small["state"], "failed", "{small:#}");
}
