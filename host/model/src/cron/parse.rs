//! From the text of an expression to its fields.

use super::CronError;
use super::fields::{DAY_OF_MONTH, DAY_OF_WEEK, Field, Fields, HOUR, MINUTE, MONTH, SECOND, YEAR};
use super::items::FieldParser;

/// Longest expression accepted, in characters; any real one is far shorter.
const MAX_CHARS: usize = 1024;

/// Names for common expressions, as Unix cron has them.
const NICKNAMES: &[(&str, &str)] = &[
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

const FIELD_COUNTS: &str = "use 5 (minute hour day-of-month month day-of-week), \
     6 (second first) or 7 (second first, year last)";

/// A word between blanks, with the index of its first character in the expression.
pub(super) struct Token {
    pub(super) position: usize,
    pub(super) chars: Vec<char>,
}

impl Token {
    /// As written.
    pub(super) fn text(&self) -> String {
        self.chars.iter().collect()
    }
}

/// Parses `expression`; `seed` decides what `H` stands for.
pub(super) fn parse(expression: &str, seed: u64) -> Result<Fields, CronError> {
    if expression.chars().nth(MAX_CHARS).is_some() {
        return Err(whole(format!(
            "cron expression is longer than {MAX_CHARS} characters"
        )));
    }
    let tokens = tokens(expression);
    let Some(first) = tokens.first() else {
        return Err(whole(format!("cron expression is empty; {FIELD_COUNTS}")));
    };
    if first.chars.first() == Some(&'@') {
        return nickname(&tokens, seed);
    }
    if let Some(equals) = first.chars.iter().position(|c| *c == '=') {
        return Err(CronError {
            field: None,
            position: Some(first.position + equals),
            message: format!(
                "cron expression cannot set `{}`; put the zone in `timezone`",
                quoted(&first.text())
            ),
        });
    }
    let parse = |token: &Token, spec| FieldParser::new(token, spec, seed).parse();
    let (second, five, year) = match tokens.as_slice() {
        five @ [_, _, _, _, _] => (None, five, None),
        [second, five @ ..] if five.len() == 5 => (Some(second), five, None),
        [second, five @ .., year] if five.len() == 5 => (Some(second), five, Some(year)),
        _ => return Err(wrong_count(expression, &tokens)),
    };
    Ok(Fields {
        second: second.map_or_else(|| Ok(Field::zero(&SECOND)), |token| parse(token, &SECOND))?,
        minute: parse(&five[0], &MINUTE)?,
        hour: parse(&five[1], &HOUR)?,
        day_of_month: parse(&five[2], &DAY_OF_MONTH)?,
        month: parse(&five[3], &MONTH)?,
        day_of_week: parse(&five[4], &DAY_OF_WEEK)?,
        year: year.map_or_else(|| Ok(Field::every(&YEAR)), |token| parse(token, &YEAR))?,
    })
}

/// An error about the expression as a whole.
fn whole(message: String) -> CronError {
    CronError {
        field: None,
        position: None,
        message,
    }
}

fn tokens(expression: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut inside = false;
    for (position, char) in expression.chars().enumerate() {
        if matches!(char, ' ' | '\t') {
            inside = false;
            continue;
        }
        if !inside {
            tokens.push(Token {
                position,
                chars: Vec::new(),
            });
        }
        inside = true;
        if let Some(token) = tokens.last_mut() {
            token.chars.push(char);
        }
    }
    tokens
}

fn wrong_count(expression: &str, tokens: &[Token]) -> CronError {
    let count = tokens.len();
    CronError {
        field: None,
        position: tokens.get(7).map(|surplus| surplus.position),
        message: format!(
            "cron expression `{}` has {count} field{}; {FIELD_COUNTS}",
            quoted(expression.trim()),
            if count == 1 { "" } else { "s" }
        ),
    }
}

/// Parses an expression whose first word begins with `@`.
fn nickname(tokens: &[Token], seed: u64) -> Result<Fields, CronError> {
    let token = &tokens[0];
    let text = token.text();
    let at = |position, message| CronError {
        field: None,
        position: Some(position),
        message,
    };
    let Some((_, meaning)) = NICKNAMES
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(&text))
    else {
        let known: Vec<&str> = NICKNAMES.iter().map(|(name, _)| *name).collect();
        return Err(at(
            token.position,
            format!(
                "`{}` at position {} is not supported; use {} or five fields",
                quoted(&text),
                token.position,
                known.join(", ")
            ),
        ));
    };
    if let Some(surplus) = tokens.get(1) {
        return Err(at(
            surplus.position,
            format!(
                "unexpected `{}` at position {} after `{text}`; nothing may follow it",
                quoted(&surplus.text()),
                surplus.position
            ),
        ));
    }
    parse(meaning, seed)
}

/// Text from a user made fit for one line of a message: short, without control characters.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN: usize = 40;
    let mut shown: String = text
        .chars()
        .take(SHOWN)
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect::<Vec<_>>()
            } else {
                vec![c]
            }
        })
        .collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}
