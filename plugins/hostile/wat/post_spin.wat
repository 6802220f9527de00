;; Returns, then loops in its post-return function.
(func (export "run") (param i32 i32) (result i32) (call $ok))
(func (export "post") (param i32) (loop $l (br $l)))
