//! What a declaration changes, field by field.

use crate::store::Deleted;
use horarium_model::ConfigId;
use horarium_model::json::escape;
use serde_json::{Map, Value, json};

/// What becomes of a plugin or task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is new.
    Create,
    /// It is there and becomes another.
    Update,
    /// It is there as declared.
    Unchanged,
    /// It was declared before and goes.
    Delete,
    /// It was declared before, and stays because nobody asked to prune.
    Undeclared,
}

impl Action {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Unchanged => "unchanged",
            Self::Delete => "delete",
            Self::Undeclared => "undeclared",
        }
    }
}

/// Whether something is a plugin or a task.
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    /// A plugin, by its registered name.
    Plugin {
        /// The name.
        task_type: String,
        /// The declared version.
        digest: String,
        /// Whether that is registered and ready.
        registered: bool,
    },
    /// A task.
    Task {
        /// Its key; one that lost it by hand has none.
        key: Option<String>,
        /// Its row id and version, if it is there.
        stands: Option<(ConfigId, i64)>,
    },
}

/// One plugin or task of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct ApplyItem {
    /// What it is.
    pub subject: Subject,
    /// What becomes of it.
    pub action: Action,
    /// Fields that change.
    pub changes: Vec<Change>,
    /// What a person should know of it.
    pub note: Option<String>,
}

/// A field that changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Which.
    pub pointer: String,
    /// Its value; null where there is none.
    pub old: Value,
    /// What it becomes.
    pub new: Value,
}

impl Change {
    /// `{"pointer", "old", "new"}`
    pub(in crate::service) fn to_json(&self) -> Value {
        json!({"pointer": self.pointer, "old": self.old, "new": self.new})
    }
}

impl ApplyItem {
    /// What was planned, without what may differ between two looks at the same plan.
    fn essence(&self) -> Value {
        let changes: Vec<Value> = self.changes.iter().map(Change::to_json).collect();
        let mut item = match &self.subject {
            Subject::Plugin {
                task_type, digest, ..
            } => json!({"kind": "plugin", "task_type": task_type, "digest": digest}),
            Subject::Task { key, stands } => {
                let (id, version) = stands.unzip();
                json!({"kind": "task", "key": key, "id": id, "version": version})
            }
        };
        item["action"] = self.action.as_str().into();
        item["changes"] = changes.into();
        item
    }

    /// As every surface shows it.
    pub fn to_json(&self) -> Value {
        let mut item = self.essence();
        if let Subject::Plugin { registered, .. } = &self.subject {
            item["registered"] = (*registered).into();
        }
        item["note"] = self.note.clone().into();
        item
    }
}

/// What a declaration changes, or changed.
#[derive(Debug, Clone, PartialEq)]
pub struct ApplyOutcome {
    /// The set.
    pub set: String,
    /// Nothing was done.
    pub dry_run: bool,
    /// Plugins first, tasks as they were declared, then what is declared no more.
    pub items: Vec<ApplyItem>,
    /// What deletions did.
    pub deleted: Deleted,
}

impl ApplyOutcome {
    /// The same for the same plan.
    pub fn fingerprint(&self) -> String {
        let essence: Vec<Value> = self.items.iter().map(ApplyItem::essence).collect();
        let hash = blake3::hash(Value::from(essence).to_string().as_bytes());
        hash.to_hex()[..32].to_owned()
    }

    /// How many items this becomes of.
    pub fn count(&self, action: Action) -> usize {
        self.items.iter().filter(|i| i.action == action).count()
    }

    /// Whether there is anything to do.
    pub fn changes_anything(&self) -> bool {
        self.items
            .iter()
            .any(|i| !matches!(i.action, Action::Unchanged | Action::Undeclared))
    }

    /// `{"set", "dry_run", "plan", "created", "updated", "unchanged", "deleted", "undeclared", "cancelled",
    /// "items"}`
    pub fn to_json(&self) -> Value {
        let items: Vec<Value> = self.items.iter().map(ApplyItem::to_json).collect();
        json!({
            "set": self.set,
            "dry_run": self.dry_run,
            "plan": self.fingerprint(),
            "created": self.count(Action::Create),
            "updated": self.count(Action::Update),
            "unchanged": self.count(Action::Unchanged),
            "deleted": self.count(Action::Delete),
            "undeclared": self.count(Action::Undeclared),
            "cancelled": self.deleted.cancelled,
            "items": items,
        })
    }
}

/// Where two documents differ: objects are walked into, everything else is a whole.
pub(in crate::service) fn differences(old: &Value, new: &Value) -> Vec<Change> {
    fn walk(old: &Value, new: &Value, pointer: &str, changes: &mut Vec<Change>) {
        if old == new {
            return;
        }
        if let (Value::Object(old), Value::Object(new)) = (old, new) {
            let keys = new
                .keys()
                .chain(old.keys().filter(|k| !new.contains_key(*k)));
            for key in keys {
                let value = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                let pointer = format!("{pointer}/{}", escape(key));
                walk(&value(old), &value(new), &pointer, changes);
            }
            return;
        }
        changes.push(Change {
            pointer: pointer.to_owned(),
            old: old.clone(),
            new: new.clone(),
        });
    }
    let mut changes = Vec::new();
    walk(old, new, "", &mut changes);
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_told_by_the_smallest_field() {
        let old = json!({"a": {"b": 1, "c": [1]}, "d/e": 2, "same": {"x": null}});
        let new = json!({"a": {"b": 1, "c": [1, 2]}, "same": {"x": null}, "f": {}});
        let told: Vec<String> = differences(&old, &new)
            .iter()
            .map(|c| format!("{} {} {}", c.pointer, c.old, c.new))
            .collect();
        assert_eq!(told, ["/a/c [1] [1,2]", "/f null {}", "/d~1e 2 null"]);
        assert_eq!(differences(&old, &old), []);
    }

    #[test]
    fn a_plan_is_the_same_when_only_what_was_uploaded_differs() {
        let outcome = |registered, action| ApplyOutcome {
            set: "s".into(),
            dry_run: true,
            items: vec![ApplyItem {
                subject: Subject::Plugin {
                    task_type: "t".into(),
                    digest: "d".into(),
                    registered,
                },
                action,
                changes: Vec::new(),
                note: registered.then(|| "a remark".to_owned()),
            }],
            deleted: Deleted::default(),
        };
        let before = outcome(false, Action::Create).fingerprint();
        assert_eq!(before, outcome(true, Action::Create).fingerprint());
        assert_ne!(before, outcome(true, Action::Update).fingerprint());
    }
}
