;; A table that no host has room for.
(table 50000000 funcref)
(func (export "run") (param i32 i32) (result i32) (call $ok))
