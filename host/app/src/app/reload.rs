//! What a running server takes over from settings that changed, and what a service manager is told.

use super::Built;
use crate::settings::{Settings, SettingsError};
use crate::telemetry;
use horarium_core::caretaker::Kept;
use sd_notify::NotifyState;

/// Keys, or what they begin with, that need no restart.
const AT_ONCE: &[&str] = &["log.level", "retention.", "audit.keep_days"];

/// What the settings want kept.
pub(super) fn kept(settings: &Settings) -> Kept {
    Kept {
        retention: settings.retention,
        audit: settings.audit_keep,
    }
}

/// Tells systemd, where that started the server.
pub(super) fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

/// Brings settings that were read again into force as far as that goes without a restart, and says in the log what
/// changed. Those that cannot be read change nothing.
pub(super) fn reload(built: &mut Built, read: Result<Settings, SettingsError>) {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
    match read {
        Ok(new) => adopt(built, new),
        Err(error) => tracing::error!(%error, "the settings cannot be read; those in force stay"),
    }
    tell(&[NotifyState::Ready]);
}

fn adopt(built: &mut Built, new: Settings) {
    let (now, later) = sorted(&built.settings.differing(&new));
    if now.contains(&"log.level")
        && let Err(error) = telemetry::set_level(&new.log_level)
    {
        tracing::warn!(error, "the log keeps its level");
    }
    let wanted = kept(&new);
    let adopted = |kept: &mut Kept| std::mem::replace(kept, wanted) != wanted;
    built.kept.send_if_modified(adopted);
    let words = |keys: &[&str]| match keys.is_empty() {
        true => "nothing".to_owned(),
        false => keys.join(", "),
    };
    let (in_force, after_restart) = (words(&now), words(&later));
    tracing::info!(in_force, after_restart, "the settings were read again");
    // What waits for a restart is told again by the next reload.
    built.settings = built.settings.with(&new, &now);
}

/// What changed: in force at once, and after a restart.
fn sorted(changed: &[&'static str]) -> (Vec<&'static str>, Vec<&'static str>) {
    let at_once = |key: &&str| AT_ONCE.iter().any(|known| key.starts_with(known));
    changed.iter().copied().partition(at_once)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_told_apart() {
        let load = |pairs: &[(&'static str, &str)]| {
            let flags: Vec<_> = pairs
                .iter()
                .map(|(key, text)| (*key, (*text).to_owned()))
                .collect();
            Settings::load(None, [], &flags).expect("good settings")
        };
        let old = load(&[
            ("executor.slots", "2"),
            ("log.level", "info"),
            ("audit.keep_days", "9"),
        ]);
        let new = load(&[
            ("executor.slots", "3"),
            ("log.level", "info"),
            ("retention.keep", "5"),
        ]);
        let (now, later) = sorted(&old.differing(&new));
        assert_eq!(now, ["audit.keep_days", "retention.keep"]);
        assert_eq!(later, ["executor.slots"]);
        let adopted = old.with(&new, &now);
        assert_eq!((adopted.retention.keep, adopted.slots), (Some(5), 2));
        assert_eq!(adopted.differing(&new), ["executor.slots"]);
        assert_eq!(kept(&adopted).audit, chrono::Duration::days(365));
    }
}
