;; Spins inside bulk operations: almost no instructions, all the time in the engine's own code.
(memory $big 512)
(table $t 10000 funcref)
(func (export "run") (param i32 i32) (result i32)
  (loop $l
    (memory.fill $big (i32.const 0) (i32.const 7) (i32.const 33554432))
    (memory.copy $big $big (i32.const 0) (i32.const 16777216) (i32.const 16777216))
    (table.fill $t (i32.const 0) (ref.null func) (i32.const 10000))
    (br $l))
  (call $ok))
