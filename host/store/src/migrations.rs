//! Steps of a schema, the same idea for every database: within a minor line a step only adds, so that a
//! binary works with the schema it knows and with the one after it.

/// A step of the schema; its version is its place, counted from 1.
pub(crate) struct Migration {
    pub(crate) name: &'static str,
    pub(crate) sql: &'static str,
    /// The oldest binary, by the version it knows, that works with the schema after this step.
    pub(crate) runs_from: i64,
}

/// The schema version that a binary with these steps works with.
pub(crate) fn latest(steps: &[Migration]) -> i64 {
    i64::try_from(steps.len()).unwrap_or(i64::MAX)
}

/// Why a binary that knows `latest` cannot use a schema that a newer one made; nothing when it can. One step
/// further is the most that was ever tried.
pub(crate) fn refusal(latest: i64, version: i64, runs_from: Option<i64>) -> Option<String> {
    let next = version == latest + 1 && runs_from.is_some_and(|from| from <= latest);
    if version <= latest || next {
        return None;
    }
    Some(format!(
        "has schema version {version}, written by a newer Horarium; this binary knows version {latest} and works \
         with the one after it if that only adds. Start the newer one"
    ))
}

#[cfg(test)]
mod tests {
    use super::refusal;

    #[test]
    fn a_binary_works_with_its_schema_and_the_next_one() {
        for (version, runs_from, good) in [
            (1, Some(1), true),
            (2, None, true),
            (3, Some(2), true),
            (3, Some(3), false),
            (3, None, false),
            (4, Some(1), false),
        ] {
            assert_eq!(
                refusal(2, version, runs_from).is_none(),
                good,
                "{version} {runs_from:?}"
            );
        }
    }
}
