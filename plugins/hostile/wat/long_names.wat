;; Traps under functions whose names are as long as names may be: they come up in the backtrace.
(func $a (@name "@LONG@") unreachable)
(func $b (@name "@LONG@") (call $a))
(func $c (@name "_Z@LONG@") (call $b))
(func (export "run") (param i32 i32) (result i32) (call $c) (call $ok))
