//! What is no component of our world is refused at registration, and leaves no plugin behind.

use crate::harness::{Server, guest};
use serde_json::Value;

#[test]
fn what_is_no_task_component_is_refused() {
    let server = Server::start(2);
    let hello = std::fs::read(guest("hello")).expect("the guest");
    let half = hello[..hello.len() / 2].to_vec();
    let files: [(&str, Vec<u8>, &str); 8] = [
        ("text", b"print('hello')\n".to_vec(), "component"),
        ("gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec(), "gzip"),
        (
            "elf",
            b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec(),
            "ELF",
        ),
        ("empty", Vec::new(), "empty"),
        ("bare", b"\0asm\x0d\0\x01\0".to_vec(), "export"),
        ("half", half, ""),
        ("core", b"\0asm\x01\0\0\0".to_vec(), "module"),
        ("wat", b"(component)".to_vec(), ""),
    ];
    for (name, bytes, part) in files {
        let file = server.dir().join(name);
        std::fs::write(&file, bytes).expect("written");
        let file = file.to_str().expect("a path");
        let outcome = server.cli(&["plugin", "register", name, file, "--json"]);
        outcome.refused(part);
        let problem: Value = serde_json::from_str(&outcome.stderr).expect("a problem document");
        assert!(problem["detail"].is_string(), "{name}: {problem}");
        let inspect = server.cli(&["dev", "inspect", file]);
        assert_eq!(inspect.code, Some(2), "{name}: {inspect:?}");
    }
    let usable: Vec<_> = server
        .items("/v1/task-types")
        .into_iter()
        .filter(|item| !item["active_digest"].is_null())
        .collect();
    assert_eq!(usable, Vec::<Value>::new());
}
