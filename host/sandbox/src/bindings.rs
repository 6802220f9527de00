//! What the WIT becomes in Rust. Nothing outside this crate names these types.

/// The imports a plugin may use, and `run`.
pub(crate) mod plugin {
    wasmtime::component::bindgen!({
        inline: "
            package horarium:host;
            world plugin {
                import horarium:task/execution@1.0.0;
                import horarium:task/log@1.0.0;
                import horarium:task/progress@1.0.0;
                import horarium:task/state@1.0.0;
                import horarium:task/config@1.0.0;
                import horarium:task/secrets@1.0.0;
                export horarium:task/run@1.0.0;
            }
        ",
        path: "../../wit",
        imports: { default: trappable },
        exports: { default: async },
    });
}

/// `wasi:config`, which wasmtime-wasi-config would answer in no particular order.
pub(crate) mod wasi_config {
    wasmtime::component::bindgen!({
        inline: "
            package horarium:settings;
            world settings {
                import wasi:config/store@0.2.0-rc.1;
            }
            package wasi:config@0.2.0-rc.1 {
                interface store {
                    variant error { upstream(string), io(string) }
                    get: func(key: string) -> result<option<string>, error>;
                    get-all: func() -> result<list<tuple<string, string>>, error>;
                }
            }
        ",
        imports: { default: trappable },
    });
}

/// The optional `describe`.
pub(crate) mod describer {
    wasmtime::component::bindgen!({
        inline: "
            package horarium:host;
            world describer {
                export horarium:task/describe@1.0.0;
            }
        ",
        path: "../../wit",
        exports: { default: async },
    });
}
