//! The items of one field: values, ranges, steps, lists and `H`.

use super::CronError;
use super::fields::{Field, FieldSpec};
use super::parse::{Token, quoted};

/// A descent through one field.
pub(super) struct FieldParser<'a> {
    spec: &'static FieldSpec,
    token: &'a Token,
    /// Index into the token of the next character to read.
    at: usize,
    seed: u64,
    values: Vec<u32>,
}

impl<'a> FieldParser<'a> {
    /// A parser of `token` as the field of `spec`; `seed` decides what `H` stands for.
    pub(super) fn new(token: &'a Token, spec: &'static FieldSpec, seed: u64) -> Self {
        FieldParser {
            spec,
            token,
            at: 0,
            seed,
            values: Vec::new(),
        }
    }

    /// `item {"," item}`
    pub(super) fn parse(mut self) -> Result<Field, CronError> {
        loop {
            self.item()?;
            match self.peek() {
                None => break,
                Some(',') => self.at += 1,
                Some(_) => return Err(self.unexpected()),
            }
        }
        Ok(Field::new(
            self.spec,
            self.token.text(),
            self.token.position,
            self.values,
        ))
    }

    /// `"*" ["/" step]`, `"H" ["(" range ")"] ["/" step]` or `value ["-" value ["/" step]]`
    fn item(&mut self) -> Result<(), CronError> {
        match self.peek() {
            None | Some(',') => Err(self.error(format!(
                "list has an empty item at position {}; remove the extra comma",
                self.position()
            ))),
            Some('*') => {
                self.at += 1;
                let step = self.step()?.unwrap_or(1);
                self.push(self.spec.low, self.spec.high, step);
                Ok(())
            }
            Some('H' | 'h') if !self.peek_at(1).is_some_and(char::is_alphabetic) => self.hashed(),
            Some(_) => self.plain(),
        }
    }

    fn plain(&mut self) -> Result<(), CronError> {
        let start_at = self.position();
        let start = self.value()?;
        match self.peek() {
            Some('-') => {
                let end = self.range_end(start_at, start)?;
                let step = self.step()?.unwrap_or(1);
                self.push(start, end, step);
            }
            Some('/') => {
                let step: String = self.rest_of_item();
                return Err(self.error(format!(
                    "step at position {} follows a single value; write `{start}-{}{}`",
                    self.position(),
                    self.spec.last_distinct().max(start),
                    quoted(&step)
                )));
            }
            _ => self.values.push(start),
        }
        Ok(())
    }

    /// Reads `- value` after `start`.
    fn range_end(&mut self, start_at: usize, start: u32) -> Result<u32, CronError> {
        self.at += 1;
        let end = self.value()?;
        if start <= end {
            return Ok(end);
        }
        let span = |low: u32, high: u32| {
            if low == high {
                low.to_string()
            } else {
                format!("{low}-{high}")
            }
        };
        let text: String = self.token.chars[start_at - self.token.position..self.at]
            .iter()
            .collect();
        Err(self.spec.error(
            start_at,
            format!(
                "range `{}` at position {start_at} runs backwards; write `{},{}`",
                quoted(&text),
                span(start, self.spec.last_distinct().max(start)),
                span(self.spec.low, end)
            ),
        ))
    }

    /// A value spread by the seed, so that configs do not all fire at once.
    fn hashed(&mut self) -> Result<(), CronError> {
        let Some(hash_high) = self.spec.hash_high else {
            return Err(self.error(format!(
                "at position {} cannot be `H`; use {}",
                self.position(),
                self.spec.allowed()
            )));
        };
        self.at += 1;
        let (low, high) = if self.peek() == Some('(') {
            self.at += 1;
            let start_at = self.position();
            let start = self.value()?;
            if self.peek() != Some('-') {
                return Err(self.unexpected());
            }
            let end = self.range_end(start_at, start)?;
            if self.peek() != Some(')') {
                return Err(self.unexpected());
            }
            self.at += 1;
            (start, end)
        } else {
            (self.spec.low, hash_high)
        };
        let count = high - low + 1;
        let hash = spread(self.seed, self.spec.name);
        match self.step()? {
            Some(step) => {
                let offset = (hash % u64::from(step.min(count))) as u32;
                self.push(low + offset, high, step);
            }
            None => self.values.push(low + (hash % u64::from(count)) as u32),
        }
        Ok(())
    }

    /// Reads `/ step` if there is one.
    fn step(&mut self) -> Result<Option<u32>, CronError> {
        if self.peek() != Some('/') {
            return Ok(None);
        }
        self.at += 1;
        let position = self.position();
        let Some(step) = self.number() else {
            return Err(self.error(format!(
                "step at position {position} is not a number; use 1 or more"
            )));
        };
        if step == 0 {
            return Err(self.spec.error(
                position,
                format!("step `0` at position {position} never moves; use 1 or more"),
            ));
        }
        Ok(Some(step))
    }

    /// Reads a number or a name.
    fn value(&mut self) -> Result<u32, CronError> {
        let position = self.position();
        let start = self.at;
        if let Some(number) = self.number() {
            if (self.spec.low..=self.spec.high).contains(&number) {
                return Ok(number);
            }
            let text: String = self.token.chars[start..self.at].iter().collect();
            return Err(self.spec.error(
                position,
                format!(
                    "`{}` at position {position} is out of range; use {}",
                    quoted(&text),
                    self.spec.allowed()
                ),
            ));
        }
        let word: String = self.token.chars[start..]
            .iter()
            .take_while(|c| c.is_alphabetic())
            .collect();
        if word.is_empty() || is_extension(&word) {
            return Err(self.unexpected());
        }
        self.at += word.chars().count();
        self.spec.named(&word).ok_or_else(|| {
            let right = self
                .spec
                .abbreviation(&word)
                .map_or_else(|| self.spec.allowed(), str::to_owned);
            self.spec.error(
                position,
                format!(
                    "`{}` at position {position} is not a value; use {right}",
                    quoted(&word)
                ),
            )
        })
    }

    /// Reads decimal digits; a number too large to matter saturates.
    fn number(&mut self) -> Option<u32> {
        let start = self.at;
        let mut number = 0u32;
        while let Some(digit) = self.peek().and_then(|c| c.to_digit(10)) {
            number = number.saturating_mul(10).saturating_add(digit);
            self.at += 1;
        }
        (self.at > start).then_some(number)
    }

    fn push(&mut self, low: u32, high: u32, step: u32) {
        self.values.extend((low..=high).step_by(step as usize));
    }

    fn peek(&self) -> Option<char> {
        self.peek_at(0)
    }

    fn peek_at(&self, ahead: usize) -> Option<char> {
        self.token.chars.get(self.at + ahead).copied()
    }

    /// Index in the expression of the next character.
    fn position(&self) -> usize {
        self.token.position + self.at
    }

    fn rest_of_item(&self) -> String {
        self.token.chars[self.at..]
            .iter()
            .take_while(|c| **c != ',')
            .collect()
    }

    fn error(&self, problem: String) -> CronError {
        self.spec.error(self.position(), problem)
    }

    /// The error for a character that cannot stand here.
    fn unexpected(&self) -> CronError {
        let position = self.position();
        let Some(char) = self.peek() else {
            return self.error(format!(
                "ends too early at position {position}; use {}",
                self.spec.allowed()
            ));
        };
        let hint = match char.to_ascii_uppercase() {
            '?' => "is not supported; use `*`".to_owned(),
            '~' => "is not supported; use `H` or `H(a-b)` to spread values".to_owned(),
            'L' | 'W' | '#' => format!(
                "is not supported (no last, nearest or nth days); use {}",
                self.spec.allowed()
            ),
            _ => "is unexpected; use values, ranges `a-b` and steps `*/n` or `a-b/n`, \
                  separated by commas"
                .to_owned(),
        };
        self.error(format!(
            "`{}` at position {position} {hint}",
            quoted(&char.to_string())
        ))
    }
}

/// Whether a word is one of Quartz's day marks.
fn is_extension(word: &str) -> bool {
    ["L", "W", "LW", "WL"]
        .iter()
        .any(|mark| mark.eq_ignore_ascii_case(word))
}

/// What `H` hashes: the same for a seed and field for ever, on every machine.
fn spread(seed: u64, field: &str) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"horarium cron H ");
    hasher.update(&seed.to_le_bytes());
    hasher.update(field.as_bytes());
    let mut head = [0; 8];
    hasher.finalize_xof().fill(&mut head);
    u64::from_le_bytes(head)
}
