;; Returns a text that begins inside its memory and ends outside.
(func (export "run") (param i32 i32) (result i32)
  (i32.store8 (i32.const 1024) (i32.const 0))
  (i32.store (i32.const 1032) (i32.const 65000))
  (i32.store (i32.const 1036) (i32.const 1000))
  (i32.const 1024))
