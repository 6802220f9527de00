;; Returns bytes that are no text.
(data (i32.const 3000) "\ff\fe\fd")
(func (export "run") (param i32 i32) (result i32)
  (i32.store8 (i32.const 1024) (i32.const 0))
  (i32.store (i32.const 1032) (i32.const 3000))
  (i32.store (i32.const 1036) (i32.const 3))
  (i32.const 1024))
