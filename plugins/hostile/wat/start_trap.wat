;; Traps in its start function.
(func $trap unreachable)
(start $trap)
(func (export "run") (param i32 i32) (result i32) (call $ok))
