//! The adapter for preview 1 knows success and failure alone. This one, beside it, takes over
//! `proc_exit` and hands on the code.

use wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER as PROGRAM_ADAPTER;
use wit_component::StringEncoding;

/// The module that programs import `proc_exit` from, once they are changed; as long as the name it
/// stands in for, so that no length changes.
pub(super) const NAME: &str = "horarium_exit_preview1";

/// `(module (import "wasi:cli/exit@0.2.12" "exit-with-code" (func (param i32))) (func (export
/// "proc_exit") (param i32) (call 0 (select (local.get 0) (i32.const 255) (i32.le_u (local.get 0)
/// (i32.const 255)))) (unreachable)))`: a code is a byte there, and 256 must not become success.
const MODULE: &[u8] = b"\0asm\x01\0\0\0\
    \x01\x05\x01\x60\x01\x7f\0\
    \x02\x27\x01\x14wasi:cli/exit@0.2.12\x0eexit-with-code\0\0\
    \x03\x02\x01\0\
    \x07\x0d\x01\x09proc_exit\0\x01\
    \x0a\x13\x01\x11\0\x20\0\x41\xff\x01\x20\0\x41\xff\x01\x4d\x1b\x10\0\0\x0b";

/// The adapter: that module and the world it is for.
pub(super) fn adapter() -> anyhow::Result<Vec<u8>> {
    let (_, known) = wit_component::metadata::decode(PROGRAM_ADAPTER)?;
    let mut resolve = known.resolve;
    let world = "package horarium:exit; world adapter { import wasi:cli/exit@0.2.12; }";
    let package = resolve.push_str("exit.wit", world)?;
    let world = resolve.select_world(&[package], Some("adapter"))?;
    let mut module = MODULE.to_vec();
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    Ok(module)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_is_what_its_text_says() {
        let text = r#"(module (import "wasi:cli/exit@0.2.12" "exit-with-code" (func (param i32)))
            (func (export "proc_exit") (param i32)
                (call 0 (select (local.get 0) (i32.const 255) (i32.le_u (local.get 0) (i32.const 255))))
                (unreachable)))"#;
        assert_eq!(wat::parse_str(text).expect("valid text"), MODULE);
        assert!(adapter().is_ok(), "{:?}", adapter().err());
    }
}
