#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| horarium_sandbox::fuzz::component(bytes));
