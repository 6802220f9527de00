//! Where the keys of secrets come from: the setting, else a file that is made for the first secret.

use super::AppError;
use super::files::{Exists, file_error, read_private, write_private};
use crate::settings::Settings;
use horarium_core::secrets::{KeySource, Keyring, SecretKey};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Opens the keys of a host.
pub(super) fn keyring(settings: &Settings) -> Result<Keyring, AppError> {
    if !settings.secret_keys.is_empty() {
        let keys = FixedKeys(settings.secret_keys.clone());
        return Keyring::open_source(keys).map_err(AppError::System);
    }
    let default = || settings.data_dir.join("secrets.key");
    let path = settings.secret_key_file.clone().unwrap_or_else(default);
    // Read once by itself, so that what is wrong with the file is told as of other files.
    read(&path)?;
    Keyring::open_source(KeyFile(path)).map_err(AppError::System)
}

/// Keys of the setting `secrets.key`.
struct FixedKeys(Vec<SecretKey>);

impl KeySource for FixedKeys {
    fn read(&self) -> Result<Vec<SecretKey>, String> {
        Ok(self.0.clone())
    }

    fn write(&self, _keys: &[SecretKey]) -> Result<(), String> {
        Err("the keys come from the setting `secrets.key`: put a new one before the others there, restart every host, then rekey without a new key".to_owned())
    }
}

/// Keys of a file, a line each, the current one first.
struct KeyFile(PathBuf);

impl KeySource for KeyFile {
    fn read(&self) -> Result<Vec<SecretKey>, String> {
        read(&self.0).map_err(|error| error.to_string())
    }

    fn write(&self, keys: &[SecretKey]) -> Result<(), String> {
        let mut text = Zeroizing::new(String::new());
        for key in keys {
            text.push_str(&key.to_text());
            text.push('\n');
        }
        let first = keys.len() == 1 && !self.0.exists();
        let exists = if first { Exists::Keep } else { Exists::Replace };
        // One that was kept was made by another process just now: the keyring reads it.
        write_private(&self.0, &text, exists)
            .map(|_| ())
            .map_err(|error| error.to_string())
    }
}

fn read(path: &Path) -> Result<Vec<SecretKey>, AppError> {
    let Some(text) = read_private(path)? else {
        return Ok(Vec::new());
    };
    let lines = text.lines().enumerate().filter(|(_, line)| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#')
    });
    lines
        .map(|(number, line)| {
            SecretKey::parse(line)
                .map_err(|error| file_error(path, format!("line {}: {error}", number + 1)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn settings(dir: &Path) -> Settings {
        Settings {
            data_dir: dir.to_owned(),
            ..Settings::default()
        }
    }

    #[test]
    fn the_file_is_made_for_its_owner_when_a_key_is_needed() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let ring = keyring(&settings(dir.path())).expect("opened");
        let file = dir.path().join("secrets.key");
        assert!(ring.current().is_none() && !file.exists());
        ring.add_key().expect("made");
        assert_eq!(fs::metadata(&file).expect("there").mode() & 0o777, 0o600);
        let first = ring.current();
        ring.add_key().expect("added");
        assert_eq!(fs::metadata(&file).expect("there").mode() & 0o777, 0o600);
        let again = keyring(&settings(dir.path())).expect("opened");
        assert_eq!((again.ids().len(), again.ids().get(1)), (2, first.as_ref()));
        assert_eq!(fs::read_dir(dir.path()).expect("read").count(), 1);
        fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("changed");
        let refused = keyring(&settings(dir.path()))
            .expect_err("too open")
            .to_string();
        assert!(refused.contains("chmod 600"), "{refused}");
    }

    #[test]
    fn what_is_no_key_is_named_by_its_line_and_not_repeated() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let text = format!("# current\n{}\nnot-a-key\n", "ab".repeat(32));
        write_private(&dir.path().join("secrets.key"), &text, Exists::Keep).expect("written");
        let refused = keyring(&settings(dir.path()))
            .expect_err("refused")
            .to_string();
        assert!(
            refused.contains("line 3") && !refused.contains("not-a-key"),
            "{refused}"
        );
    }

    #[test]
    fn keys_of_the_setting_are_not_changed_from_here() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let env = [(
            "HORARIUM__SECRETS__KEY".to_owned(),
            format!("{},{}", "0a".repeat(32), "0b".repeat(32)),
        )];
        let mut settings = Settings::load(None, env, &[]).expect("accepted");
        settings.data_dir = dir.path().to_owned();
        let shown = format!("{settings:?}");
        assert!(!shown.contains("0a0a"), "{shown}");
        let ring = keyring(&settings).expect("opened");
        assert_eq!(ring.ids().len(), 2);
        let refused = ring.add_key().expect_err("refused").to_string();
        assert!(refused.contains("secrets.key"), "{refused}");
        assert_eq!(fs::read_dir(dir.path()).expect("read").count(), 0);
        let wrong = [("HORARIUM__SECRETS__KEY".to_owned(), "hunter2".to_owned())];
        let refused = Settings::load(None, wrong, &[])
            .expect_err("refused")
            .to_string();
        assert!(
            refused.contains("64 hexadecimal") && !refused.contains("hunter2"),
            "{refused}"
        );
    }
}
