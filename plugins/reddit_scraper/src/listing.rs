//! The shape of a Reddit listing, as far as it matters here.

use horarium_task::TaskError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The facts of a post.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Post {
    /// The full name, such as `t3_abc`.
    pub(crate) name: String,
    /// The id within posts, such as `abc`.
    pub(crate) id: String,
    /// The title.
    pub(crate) title: String,
    /// Who posted it, or `[deleted]`.
    #[serde(default = "deleted")]
    pub(crate) author: String,
    /// Votes for less votes against.
    #[serde(default)]
    pub(crate) score: i64,
    /// How many comments it has.
    #[serde(default)]
    pub(crate) num_comments: u64,
    /// When it was posted, in seconds since 1970.
    pub(crate) created_utc: f64,
    /// Its path on the site.
    #[serde(default)]
    pub(crate) permalink: String,
    /// What it links to.
    #[serde(default)]
    pub(crate) url: String,
}

fn deleted() -> String {
    "[deleted]".to_owned()
}

/// One page of posts.
#[derive(Debug)]
pub(crate) struct Page {
    /// Where the next page starts; none on the last.
    pub(crate) after: Option<String>,
    pub(crate) posts: Vec<Post>,
}

#[derive(Deserialize)]
struct Listing {
    kind: String,
    data: ListingData,
}

#[derive(Deserialize)]
struct ListingData {
    after: Option<String>,
    children: Vec<Child>,
}

#[derive(Deserialize)]
#[serde(tag = "kind", content = "data")]
enum Child {
    #[serde(rename = "t3")]
    Post(Box<Post>),
    /// Advertisements and whatever else a listing may hold.
    #[serde(other)]
    Other,
}

/// Reads a page.
pub(crate) fn parse(body: &[u8]) -> Result<Page, TaskError> {
    let listing: Listing = serde_json::from_slice(body).map_err(|error| {
        TaskError::retryable(format!("the answer is no listing: {error}")).code("invalid-response")
    })?;
    if listing.kind != "Listing" {
        let message = format!("the answer is a {:?}, not a Listing", listing.kind);
        return Err(TaskError::retryable(message).code("invalid-response"));
    }
    let posts = listing
        .data
        .children
        .into_iter()
        .filter_map(|child| match child {
            Child::Post(post) => Some(*post),
            Child::Other => None,
        });
    Ok(Page {
        after: listing.data.after,
        posts: posts.collect(),
    })
}
