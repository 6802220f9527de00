//! Against a fake subreddit whose posts are numbered, the newest highest.

use std::time::Duration;

use horarium_task::RetryAdvice;
use horarium_task::http::{ErrorKind, Request};
use horarium_task::testing::{self, Host, Reply};

use super::*;

fn parameters(limit: u32) -> Parameters {
    let parameters = json!({"subreddit": "Rust", "limit": limit, "base_url": "http://fake:1/"});
    serde_json::from_value(parameters).unwrap()
}

fn query(request: &Request, name: &str) -> Option<String> {
    let (_, query) = request.url().split_once('?')?;
    query
        .split('&')
        .find_map(|pair| Some(pair.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
}

/// The listing of posts 1 to `newest`, as Reddit pages it.
fn subreddit(newest: u32) -> impl Fn(&Request) -> Result<Reply, (ErrorKind, String)> {
    move |request| {
        assert!(
            request.url().starts_with("http://fake:1/r/Rust/new.json?"),
            "{}",
            request.url()
        );
        assert!(
            request
                .headers()
                .iter()
                .any(|(name, _)| name == "User-Agent")
        );
        let limit: u32 = query(request, "limit").unwrap().parse().unwrap();
        assert!((1..=100).contains(&limit));
        let top = query(request, "after").map_or(newest, |after| {
            after.strip_prefix("t3_p").unwrap().parse::<u32>().unwrap() - 1
        });
        let last = top.saturating_sub(limit) + 1;
        let children: Vec<Value> = (last..=top).rev().map(child).collect();
        let after = (last > 1 && top > 0).then(|| format!("t3_p{last}"));
        Ok(Reply::new(200)
            .json(&json!({"kind": "Listing", "data": {"after": after, "children": children}})))
    }
}

fn child(n: u32) -> Value {
    json!({"kind": "t3", "data": {
        "name": format!("t3_p{n}"), "id": format!("p{n}"), "title": format!("Post {n}"), "author": "ada",
        "score": n, "num_comments": 2, "created_utc": 1.7e9 + f64::from(n), "permalink": format!("/r/Rust/p{n}"),
        "url": "https://example.com", "over_18": false,
    }})
}

#[test]
fn pages_up_to_the_limit() {
    Host::new().http(subreddit(1000)).install();
    let scraped = RedditScraper::run(parameters(250)).unwrap();
    assert_eq!(
        (scraped.fetched, scraped.new, scraped.posts.len()),
        (250, 250, 250)
    );
    assert_eq!(scraped.newest_id.as_deref(), Some("t3_p1000"));
    assert_eq!(scraped.posts[249].name, "t3_p751");
    let reports: Vec<_> = testing::progress()
        .into_iter()
        .map(|(fraction, _)| fraction)
        .collect();
    assert_eq!(reports, [Some(0.4), Some(0.8), Some(1.0)]);
    assert_eq!(testing::logs().len(), 1);
}

#[test]
fn ends_with_the_listing() {
    Host::new().http(subreddit(130)).install();
    assert_eq!(RedditScraper::run(parameters(1000)).unwrap().fetched, 130);
    Host::new().http(subreddit(0)).install();
    let empty = RedditScraper::run(parameters(10)).unwrap();
    assert_eq!((empty.fetched, empty.new, empty.newest_id), (0, 0, None));
}

#[test]
fn returns_each_post_once() {
    Host::new().http(subreddit(5)).install();
    assert_eq!(RedditScraper::run(parameters(100)).unwrap().new, 5);
    let mark = state::get("newest/rust").unwrap().unwrap();

    Host::new()
        .state("newest/rust", &mark)
        .http(subreddit(5))
        .install();
    let again = RedditScraper::run(parameters(100)).unwrap();
    assert_eq!(
        (again.fetched, again.new, again.newest_id.as_deref()),
        (1, 0, Some("t3_p5"))
    );

    Host::new()
        .state("newest/rust", &mark)
        .http(subreddit(8))
        .install();
    let later = RedditScraper::run(parameters(100)).unwrap();
    let names: Vec<_> = later.posts.iter().map(|post| post.name.as_str()).collect();
    assert_eq!(names, ["t3_p8", "t3_p7", "t3_p6"]);
}

#[test]
fn a_removed_newest_post_still_marks_the_place() {
    let mark = json!({"newest_id": "t3_gone", "created_utc": 1.7e9 + 3.5});
    Host::new()
        .state("newest/rust", mark.to_string().as_bytes())
        .http(subreddit(5))
        .install();
    assert_eq!(RedditScraper::run(parameters(100)).unwrap().new, 2);
}

#[test]
fn failures_are_classed() {
    let fail = |reply: Reply| {
        Host::new().http(move |_| Ok(reply.clone())).install();
        RedditScraper::run(parameters(10)).err().unwrap()
    };
    assert!(fail(Reply::new(404)).is_permanent());
    assert!(
        fail(Reply::new(403))
            .message()
            .starts_with("r/Rust is private")
    );
    assert!(!fail(Reply::new(503)).is_permanent());
    assert!(!fail(Reply::new(200).body("<html>")).is_permanent());
    let limited = fail(Reply::new(429).header("retry-after", "30"));
    assert_eq!(
        limited.retry(),
        RetryAdvice::NotBefore(Duration::from_secs(30))
    );
}

#[test]
fn bad_parameters_and_a_stop_are_told() {
    Host::new().http(subreddit(5)).install();
    let bad = Parameters {
        subreddit: "../etc".to_owned(),
        ..parameters(1)
    };
    assert!(RedditScraper::run(bad).err().unwrap().is_permanent());
    assert!(
        RedditScraper::run(parameters(1001))
            .err()
            .unwrap()
            .is_permanent()
    );
    Host::new().stop_requested().http(subreddit(5)).install();
    assert!(
        !RedditScraper::run(parameters(5))
            .err()
            .unwrap()
            .is_permanent()
    );
}
