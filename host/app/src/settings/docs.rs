//! `docs/settings.md`, made from the table.

use super::TABLE;
use std::fmt::Write;

/// The page that documents every setting.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Settings\n\n\
         `horarium serve --config FILE` reads TOML. An environment variable wins over the file, a flag over both.\n\
         An unknown key or a value that makes no sense stops the start with a message that names it.\n\n\
         This page is made from the table in `host/app/src/settings/table.rs`; a test holds them together\n\
         (`UPDATE_DOCS=1 cargo test -p horarium settings` writes it anew).\n\n\
         ```toml\n\
         listen = \"127.0.0.1:7411\"\n\n\
         [executor]\n\
         slots = 32\n\n\
         [limits]\n\
         memory_bytes = \"256 MiB\"\n\
         ```\n\n\
         | Setting | Default | Meaning | Variable |\n\
         |---|---|---|---|\n",
    );
    for setting in TABLE {
        // Writing to a String does not fail.
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | `{}` |",
            setting.key,
            setting.default,
            setting.doc.replace('|', "\\|"),
            setting.variable()
        );
    }
    page
}
