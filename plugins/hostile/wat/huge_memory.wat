;; A memory of 64 GiB.
(memory i64 1048576)
(func (export "run") (param i32 i32) (result i32) (call $ok))
