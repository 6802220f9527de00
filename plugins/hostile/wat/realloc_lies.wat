;; Says that the parameters go where there is no memory.
(func (export "realloc_mine") (param i32 i32 i32 i32) (result i32) (i32.const -16))
(func (export "run") (param i32 i32) (result i32) (call $ok))
