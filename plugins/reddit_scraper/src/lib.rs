//! Fetches the newest posts of a subreddit and remembers how far it came.

mod listing;

use horarium_task::prelude::*;

use listing::{Page, Post};

/// Reddit gives no more at once.
const PAGE_SIZE: u32 = 100;
const USER_AGENT: &str = concat!("horarium-reddit-scraper/", env!("CARGO_PKG_VERSION"));

/// What to fetch.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Parameters {
    /// The subreddit's name, without `r/`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_]{1,21}$"))]
    subreddit: String,
    /// How many of the newest posts to look at.
    #[serde(default = "default_limit")]
    #[schemars(range(min = 1, max = 1000))]
    limit: u32,
    /// Where the listings are. The grant must name the same origin.
    #[serde(default = "default_base_url")]
    #[schemars(regex(pattern = r"^https?://"))]
    base_url: String,
}

fn default_limit() -> u32 {
    100
}

fn default_base_url() -> String {
    "https://www.reddit.com".to_owned()
}

/// What was found.
#[derive(Serialize, JsonSchema)]
struct Scraped {
    /// The subreddit.
    subreddit: String,
    /// How many posts were looked at.
    fetched: usize,
    /// How many of them are new since the last success of this task config.
    new: usize,
    /// The newest post's full name, such as `t3_abc`; absent while the subreddit is empty.
    newest_id: Option<String>,
    /// The new posts, newest first.
    posts: Vec<Post>,
}

/// What the state keeps of a subreddit.
#[derive(Serialize, Deserialize)]
struct Mark {
    newest_id: String,
    /// When the newest post was made: still a mark when the post itself has been removed.
    created_utc: f64,
}

struct RedditScraper;

impl Task for RedditScraper {
    type Parameters = Parameters;
    type Output = Scraped;
    const SUMMARY: &'static str = "Fetches a subreddit's newest posts, each once";
    const CAPABILITIES: &'static [&'static str] = &["http GET https://www.reddit.com", "state"];

    fn run(parameters: Parameters) -> Result<Scraped, TaskError> {
        check(&parameters)?;
        // Names differ in case only for people.
        let key = format!("newest/{}", parameters.subreddit.to_ascii_lowercase());
        let mark: Option<Mark> = state::get_json(&key)?;
        let (fetched, posts) = fetch(&parameters, mark.as_ref())?;
        if let Some(newest) = posts.first() {
            let mark = Mark {
                newest_id: newest.name.clone(),
                created_utc: newest.created_utc,
            };
            state::set_json(&key, &mark)?;
        }
        let newest_id = posts
            .first()
            .map(|post| post.name.clone())
            .or(mark.map(|mark| mark.newest_id));
        log::at(log::Level::Info)
            .field("subreddit", &parameters.subreddit)
            .field("fetched", fetched)
            .field("new", posts.len())
            .write("scraped");
        Ok(Scraped {
            subreddit: parameters.subreddit,
            fetched,
            new: posts.len(),
            newest_id,
            posts,
        })
    }

    fn examples() -> Vec<Example> {
        vec![
            Example::new(json!({"subreddit": "python", "limit": 100}))
                .summary("The newest hundred"),
        ]
    }
}

horarium_task::export!(RedditScraper);

/// The schema says the same, but a host may be told to skip it.
fn check(parameters: &Parameters) -> Result<(), TaskError> {
    let name = &parameters.subreddit;
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !plain || !(1..=21).contains(&name.len()) {
        return Err(TaskError::permanent(format!(
            "invalid parameters: /subreddit: {name:?} is not 1 to 21 letters, digits or underscores"
        )));
    }
    if !(1..=1000).contains(&parameters.limit) {
        return Err(TaskError::permanent(
            "invalid parameters: /limit: must be from 1 to 1000",
        ));
    }
    Ok(())
}

/// Pages until the limit, the end of the listing or the first post known already. Returns how many
/// posts were looked at, and the new ones.
fn fetch(parameters: &Parameters, mark: Option<&Mark>) -> Result<(usize, Vec<Post>), TaskError> {
    let limit = parameters.limit as usize;
    let mut fetched = 0;
    let mut posts: Vec<Post> = Vec::new();
    let mut after: Option<String> = None;
    loop {
        if execution::stop_requested() {
            return Err(
                TaskError::retryable("stopped by the host between two pages").code("stopped"),
            );
        }
        let wanted = PAGE_SIZE.min(u32::try_from(limit - fetched).unwrap_or(PAGE_SIZE));
        let page = get_page(parameters, wanted, after.as_deref())?;
        let arrived = page.posts.len();
        let mut reached_known = false;
        for post in page.posts.into_iter().take(limit - fetched) {
            fetched += 1;
            let is_known =
                |mark: &Mark| post.name == mark.newest_id || post.created_utc < mark.created_utc;
            if mark.is_some_and(is_known) {
                reached_known = true;
                break;
            }
            // A listing that moves while it is read shows a post on two pages.
            if !posts.iter().any(|seen| seen.name == post.name) {
                posts.push(post);
            }
        }
        progress::report(
            fetched as f64 / limit as f64,
            format!("{fetched} posts read"),
        );
        // An endless listing that repeats itself must not keep us.
        let moved = page.after.is_some() && page.after != after;
        if reached_known || arrived == 0 || fetched >= limit || !moved {
            return Ok((fetched, posts));
        }
        after = page.after;
    }
}

fn get_page(parameters: &Parameters, limit: u32, after: Option<&str>) -> Result<Page, TaskError> {
    let base = parameters.base_url.trim_end_matches('/');
    let mut request = http::get(format!("{base}/r/{}/new.json", parameters.subreddit))
        .query("limit", limit)
        .query("raw_json", 1)
        .header("User-Agent", USER_AGENT)
        .header("Accept", "application/json");
    if let Some(after) = after {
        request = request.query("after", after);
    }
    let response = request.send()?;
    let about = format!("r/{}", parameters.subreddit);
    match response.status() {
        200 => listing::parse(response.bytes()).retryable(&about),
        404 => Err(response
            .status_error()
            .context(format!("{about} does not exist"))),
        403 => Err(response
            .status_error()
            .context(format!("{about} is private or closed to us"))),
        302 => Err(response
            .status_error()
            .context(format!("{about} does not exist (redirected to a search)"))),
        _ => Err(response.status_error().context(about)),
    }
}

#[cfg(test)]
mod tests;
