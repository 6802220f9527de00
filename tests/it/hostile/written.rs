//! Guests written by hand, where no compiler would write them: `plugins/hostile/wat/`.

use crate::support::{Host, Output, root};

const AROUND: &str = r#"(component
  (import "horarium:task/types@1.0.0" (instance $types
    (type $advice' (variant (case "by-policy") (case "never") (case "not-before" u64)))
    (export "retry-advice" (type $advice (eq $advice')))
    (type $error' (record (field "message" string) (field "retry" $advice)
      (field "code" (option string)) (field "details" (option string))))
    (export "task-error" (type $error (eq $error')))))
  (alias export $types "task-error" (type $error))
  @MORE@
  (core module $m
    (memory $memory (export "memory") 1)
    (global $heap (mut i32) (i32.const 8192))
    (data (i32.const 2048) "null")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
      (global.set $heap (i32.add (local.get $at) (local.get 3)))
      (local.get $at))
    (func $ok (result i32)
      (i32.store8 $memory (i32.const 1024) (i32.const 0))
      (i32.store $memory (i32.const 1032) (i32.const 2048))
      (i32.store $memory (i32.const 1036) (i32.const 4))
      (i32.const 1024))
    @FIELDS@)
  (core instance $i (instantiate $m))
  (func $run (param "parameters" string) (result (result string (error $error)))
    (canon lift (core func $i "run") (memory (core memory $i "memory"))
      (realloc (core func $i "@REALLOC@")) @POST@))
  (instance $exported (export "run" (func $run)))
  (export "horarium:task/run@1.0.0" (instance $exported))
  @DESCRIBE@)"#;

/// The name of a function that is as long as names may be.
fn long() -> String {
    "long_name_".repeat(9_000)
}

/// A guest of this name.
pub(super) fn guest(name: &str) -> Vec<u8> {
    let path = root().join(format!("plugins/hostile/wat/{name}.wat"));
    let fields =
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    of_fields(&fields.replace("@LONG@", &long()), "")
}

/// A guest of these fields of a core module, and these of the component.
pub(super) fn of_fields(fields: &str, describe: &str) -> Vec<u8> {
    let more: Vec<&str> = fields
        .lines()
        .filter_map(|line| line.strip_prefix(";; more:"))
        .collect();
    let has = |word: &str| fields.contains(word);
    let realloc = if has("realloc_mine") {
        "realloc_mine"
    } else {
        "realloc"
    };
    let post = if has("(export \"post\")") {
        r#"(post-return (core func $i "post"))"#
    } else {
        ""
    };
    let text = AROUND
        .replace("@MORE@", &more.join("\n"))
        .replace("@FIELDS@", fields)
        .replace("@REALLOC@", realloc)
        .replace("@POST@", post)
        .replace("@DESCRIBE@", describe);
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}

/// A guest that describes itself by this function body, which answers a pointer to (pointer, length).
pub(super) fn describing(body: &str) -> Vec<u8> {
    let fields = format!(
        r#"(func (export "run") (param i32 i32) (result i32) (call $ok))
           (func (export "describe") (result i32) {body})"#
    );
    let describe = r#"
      (func $describe (result string)
        (canon lift (core func $i "describe") (memory (core memory $i "memory"))))
      (instance $described (export "describe" (func $describe)))
      (export "horarium:task/describe@1.0.0" (instance $described))"#;
    of_fields(&fields, describe)
}

/// Registers bytes under a name, from a file as an operator would.
pub(super) fn register(host: &Host, name: &str, bytes: &[u8], flags: &str) -> Output {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), bytes).expect("written");
    host.cli(&format!(
        "plugin register {name} '{}' {flags}",
        file.path().display()
    ))
}
