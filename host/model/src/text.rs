//! Text that comes from guests or strangers, made safe to store and to print on a terminal.

/// Replaces NUL and control characters (but line feed and tab when `multiline`) by U+FFFD, and bidi
/// overrides too, so that a guest cannot forge lines, move the cursor or hide text.
pub fn sanitize(text: &str, multiline: bool) -> String {
    let bad = |c: char| {
        (c.is_control() && !(multiline && (c == '\n' || c == '\t')))
            || matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
    };
    if !text.contains(bad) {
        return text.to_owned();
    }
    text.chars()
        .map(|c| if bad(c) { '\u{FFFD}' } else { c })
        .collect()
}

/// One line of at most `max` characters: the first non-empty line, sanitised, cut with `…`.
pub fn one_line(text: &str, max: usize) -> String {
    let line = text
        .lines()
        .map(str::trim)
        .find(|l| !l.is_empty())
        .unwrap_or("");
    let line = sanitize(line, false);
    if line.chars().count() <= max {
        return line;
    }
    let mut cut: String = line.chars().take(max.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// The name among `known` that `wrong` probably meant.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Names are short; a giant key must not make the distance computation expensive.
    if wrong.len() > 64 {
        return None;
    }
    let lower = wrong.to_lowercase();
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(&lower, &k.to_lowercase()), k))
        .filter(|(distance, k)| *distance <= 1 + k.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_forged_lines_are_replaced() {
        assert_eq!(sanitize("a\u{1b}[2Jb\nc", false), "a\u{FFFD}[2Jb\u{FFFD}c");
        assert_eq!(sanitize("a\n\tb\0", true), "a\n\tb\u{FFFD}");
        assert_eq!(sanitize("x\u{202E}y", true), "x\u{FFFD}y");
    }

    #[test]
    fn one_line_takes_the_first_line_and_cuts() {
        assert_eq!(one_line("\n  first \nsecond", 80), "first");
        assert_eq!(one_line("abcdef", 4), "abc…");
    }

    #[test]
    fn nearest_finds_typos_only() {
        assert_eq!(
            nearest("timeout_second", ["timeout_seconds", "priority"]),
            Some("timeout_seconds")
        );
        assert_eq!(nearest("zzz", ["timeout_seconds", "priority"]), None);
    }
}
