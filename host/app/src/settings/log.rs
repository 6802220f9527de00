//! `log.level`.

use super::read::Raw;
use horarium_model::text::{nearest, one_line};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// What a directive may be, or end with.
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// Reads a level, or directives as tracing takes them. tracing takes more: what is no level it takes for the name of a
/// target that it tells everything of, and of all others nothing, so that a slip of the pen would silence the log.
pub(super) fn level(raw: &Raw<'_>) -> Result<String, String> {
    let text = raw.text()?;
    // tracing takes no blank after a comma.
    let directives: Vec<&str> = text.split(',').map(str::trim).collect();
    directives
        .iter()
        .try_for_each(|directive| check(directive))?;
    let directives = directives.join(",");
    EnvFilter::try_new(&directives).map_err(|error| {
        let shown = one_line(&text, 60);
        format!("is `{shown}`, which tracing does not take: {error}")
    })?;
    Ok(directives)
}

/// `LEVEL` or `TARGET=LEVEL`.
fn check(directive: &str) -> Result<(), String> {
    let (target, level) = match directive.rsplit_once('=') {
        Some((target, level)) => (Some(target), level),
        None => (None, directive),
    };
    // tracing's own test of a level takes an empty text for `error`.
    if level.is_empty() || level.parse::<LevelFilter>().is_err() {
        let hint = nearest(level, LEVELS)
            .map(|near| format!("; did you mean `{near}`?"))
            .unwrap_or_default();
        return Err(format!(
            "holds `{}`, which is neither a level ({}) nor TARGET=LEVEL such as horarium_core=debug{hint}",
            one_line(directive, 60),
            LEVELS.join(", ")
        ));
    }
    // What follows a bracket are spans and fields, which tracing reads.
    let path = target.map(|target| target.split('[').next().unwrap_or_default());
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-');
    match path {
        Some(path) if !path.chars().all(fits) || target == Some("") => Err(format!(
            "holds `{}`, whose target is no path such as horarium_core",
            one_line(directive, 60)
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_taken() {
        for (text, read) in [
            ("info", "info"),
            ("WARN", "WARN"),
            ("off", "off"),
            (
                "info, horarium_core=debug , horarium::access=trace",
                "info,horarium_core=debug,horarium::access=trace",
            ),
            ("warn,[span{field}]=debug", "warn,[span{field}]=debug"),
        ] {
            assert_eq!(level(&Raw::Text(text)).as_deref(), Ok(read), "{text}");
        }
    }

    #[test]
    fn what_would_silence_the_log_is_refused() {
        for (text, part) in [
            (
                "loud and clear",
                "`loud and clear`, which is neither a level",
            ),
            ("inof", "did you mean `info`?"),
            ("info,horarium_core=debgu", "did you mean `debug`?"),
            ("horarium_core", "TARGET=LEVEL"),
            ("info,", "``, which is neither a level"),
            ("info,horarium_core=", "neither a level"),
            ("info,=debug", "is no path"),
            ("info,horarium core=debug", "is no path"),
            ("info;debug", "neither a level"),
        ] {
            let refused = level(&Raw::Text(text)).expect_err(text);
            assert!(refused.contains(part), "{text}: {refused}");
        }
    }
}
