;; Returns a text of 40 MB, which the host would have to copy.
(func (export "run") (param i32 i32) (result i32)
  (drop (memory.grow (i32.const 700)))
  (i32.store8 (i32.const 1024) (i32.const 0))
  (i32.store (i32.const 1032) (i32.const 4096))
  (i32.store (i32.const 1036) (i32.const 40000000))
  (i32.const 1024))
