//! What a file is, by its first bytes.

/// What WebAssembly binaries there are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A component.
    Component,
    /// A core module.
    CoreModule,
}

/// Tells a component from everything else.
///
/// # Errors
/// A sentence naming what it is instead.
pub(super) fn kind(bytes: &[u8]) -> Result<Kind, String> {
    const COMPONENT: [u8; 4] = [0x0d, 0, 1, 0];
    const MODULE: [u8; 4] = [1, 0, 0, 0];
    let Some(rest) = bytes.strip_prefix(b"\0asm") else {
        return Err(not_wasm(bytes));
    };
    let Some(version) = rest.get(..4) else {
        return Err("the file is truncated: it ends inside the WebAssembly header".to_owned());
    };
    if version == COMPONENT {
        Ok(Kind::Component)
    } else if version == MODULE {
        Ok(Kind::CoreModule)
    } else {
        Err(format!(
            "WebAssembly of an unknown version ({version:02x?}); a component has 0d 00 01 00 here"
        ))
    }
}

fn not_wasm(bytes: &[u8]) -> String {
    if wasmtime::Engine::detect_precompiled(bytes).is_some() {
        return "a precompiled artifact (.cwasm) is machine code and is not taken from anybody; register the .wasm component it was made from".to_owned();
    }
    let known: &[(&[u8], &str)] = &[
        (
            b"\x1f\x8b",
            "gzip data; unpack it and register the .wasm inside",
        ),
        (
            b"\x28\xb5\x2f\xfd",
            "zstd data; unpack it and register the .wasm inside",
        ),
        (
            b"PK\x03\x04",
            "a zip archive; unpack it and register the .wasm inside",
        ),
        (
            b"\x7fELF",
            "an ELF executable; build for wasm32-wasip2 instead",
        ),
        (
            b"MZ",
            "a Windows executable; build for wasm32-wasip2 instead",
        ),
        (
            b"\xcf\xfa\xed\xfe",
            "a macOS executable; build for wasm32-wasip2 instead",
        ),
        (
            b"\xca\xfe\xba\xbe",
            "a Java class or macOS executable; build for wasm32-wasip2 instead",
        ),
        (b"#!", "a script; a component (.wasm) was expected"),
        (b"\0as", "truncated: it ends inside the WebAssembly header"),
    ];
    if let Some((_, what)) = known.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return format!("not a component but {what}");
    }
    let start = &bytes[..bytes.len().min(64)];
    match std::str::from_utf8(start).map(str::trim_start) {
        Ok(text) if text.starts_with("(module") || text.starts_with("(component") => {
            "not a component but WebAssembly text; encode it first (wasm-tools parse)".to_owned()
        }
        Ok(_) => "not a component but text; a .wasm file was expected".to_owned(),
        Err(_) => {
            let first = &bytes[..bytes.len().min(4)];
            format!("not WebAssembly: it begins with {first:02x?}, a component with 00 61 73 6d")
        }
    }
}
