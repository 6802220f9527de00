#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| horarium_model::fuzz::grant(bytes));
