//! Names: which plugin stands for what, and keys of imported tasks.

use horarium_model::task_type::check_name;
use horarium_model::text::one_line;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// Which plugin stands for what another system ran.
#[derive(Debug, Default)]
pub(crate) struct TypeMap {
    said: BTreeMap<String, String>,
    used: RefCell<BTreeSet<String>>,
}

impl TypeMap {
    pub(super) fn new(pairs: &[(String, String)]) -> Self {
        Self {
            said: pairs.iter().cloned().collect(),
            used: RefCell::default(),
        }
    }

    /// The name here: as said with `--map` (any case), else the same in the letters that names have.
    pub(super) fn of(&self, old: &str) -> String {
        let mut said = self.said.iter();
        match said.find(|(known, _)| known.eq_ignore_ascii_case(old)) {
            Some((known, new)) => {
                self.used.borrow_mut().insert(known.clone());
                new.clone()
            }
            None => slug(old, 64, "task"),
        }
    }

    /// What was said and met nothing.
    pub(super) fn unused(&self) -> Vec<&str> {
        let used = self.used.borrow();
        let unused = self.said.keys().filter(|known| !used.contains(*known));
        unused.map(String::as_str).collect()
    }
}

/// `OLD=NEW`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    let Some((old, new)) = text.split_once('=') else {
        return Err("write it as OLD=NEW, such as send_mail=mailer".to_owned());
    };
    let (old, new) = (old.trim(), new.trim());
    if old.is_empty() {
        return Err("the name before = is empty".to_owned());
    }
    check_name(new)?;
    Ok((old.to_owned(), new.to_owned()))
}

/// A set's name, which begins keys.
pub(super) fn set_name(text: &str) -> Result<String, String> {
    match text == slug(text, 30, "") && !text.is_empty() {
        true => Ok(text.to_owned()),
        false => Err("begins with a-z and has at most 30 of a-z, 0-9, _ . -".to_owned()),
    }
}

/// Text in the letters that keys and types have: lower case, what does not fit is `_`. What does not begin with a
/// letter gets `first` in front.
pub(super) fn slug(text: &str, max: usize, first: &str) -> String {
    let fits = |c: char| match c.to_ascii_lowercase() {
        c @ ('a'..='z' | '0'..='9' | '_' | '.' | '-') => c,
        _ => '_',
    };
    let mut slug: String = text.trim().chars().map(fits).collect();
    if !slug.starts_with(|c: char| c.is_ascii_lowercase()) && !first.is_empty() {
        slug = format!("{first}_{slug}");
    }
    slug.truncate(max);
    slug
}

/// A key of at most 64: the set, something to recognise it by, and what tells it from others.
pub(super) fn key(set: &str, name: &str, id: &str) -> String {
    let room = 64usize.saturating_sub(set.len() + id.len() + 2);
    let name = slug(name, room, "");
    let name = name.trim_matches(['_', '.', '-']);
    match name.is_empty() {
        true => format!("{set}-{id}"),
        false => format!("{set}-{name}-{id}"),
    }
}

/// Tells texts apart, also where they are cut otherwise.
pub(super) fn hash(parts: &[&str]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize()
}

/// Eight hexadecimal digits of it.
pub(super) fn short_hash(parts: &[&str]) -> String {
    hash(parts).to_hex()[..8].to_owned()
}

/// A task's name: at most 200 characters in one line.
pub(super) fn name(text: &str, otherwise: &str) -> String {
    let name = one_line(text, 200);
    match name.trim().is_empty() {
        true => otherwise.to_owned(),
        false => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_names_here() {
        let types = TypeMap::new(&[
            ("Send Mail".into(), "mailer".into()),
            ("none".into(), "x".into()),
        ]);
        for (old, new) in [
            ("REDDIT_SCRAPER", "reddit_scraper"),
            ("app.tasks.add", "app.tasks.add"),
            ("send mail", "mailer"),
            ("7zip", "task_7zip"),
            ("Größe", "gr__e"),
            ("", "task_"),
        ] {
            assert_eq!(types.of(old), new);
            assert!(check_name(new).is_ok(), "{new}");
        }
        assert_eq!(types.unused(), ["none"]);
        assert!(pair("a=B").is_err() && pair("a").is_err() && pair("=b").is_err());
        assert!(set_name("py-1").is_ok() && set_name("Py").is_err() && set_name("").is_err());
    }

    #[test]
    fn keys_are_keys() {
        for (name, id, wanted) in [
            (
                "/usr/bin/Backup.sh",
                "0a1b2c3d",
                "cron-usr_bin_backup.sh-0a1b2c3d",
            ),
            ("???", "7", "cron-7"),
        ] {
            assert_eq!(key("cron", name, id), wanted);
        }
        assert_eq!(key("cron", &"x".repeat(300), "12345678").len(), 64);
        assert_ne!(short_hash(&["a", "bc"]), short_hash(&["ab", "c"]));
    }
}
