;; Returns, then traps in its post-return function.
(func (export "run") (param i32 i32) (result i32) (call $ok))
(func (export "post") (param i32) unreachable)
