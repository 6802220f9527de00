;; Loops in its start function: before `run` is called at all.
(func $spin (loop $l (br $l)))
(start $spin)
(func (export "run") (param i32 i32) (result i32) (call $ok))
