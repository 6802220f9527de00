//! How a pool of connections is used.

use sqlx::{Database, Pool};

/// Connections of a pool, as of now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// Open, used or not.
    pub open: u32,
    /// Open and unused.
    pub idle: u32,
    /// Most that are opened.
    pub most: u32,
}

impl Connections {
    pub(crate) fn of<DB: Database>(pool: &Pool<DB>) -> Self {
        Self {
            open: pool.size(),
            idle: u32::try_from(pool.num_idle()).unwrap_or(u32::MAX),
            most: pool.options().get_max_connections(),
        }
    }
}
