//! Many rows, a part at a time: while SQLite works at one, on a thread of its own, the next is encoded.

use super::db;
use super::tx::Tx;
use futures_util::future::join;
use horarium_core::store::StoreResult;

/// Most rows of a part.
const ROWS: usize = 512;

/// Statements in order, their rows not encoded yet.
#[derive(Default)]
pub(super) struct Parts<'a>(Vec<Part<'a>>);

struct Part<'a> {
    statement: &'static str,
    encode: Box<dyn FnOnce() -> StoreResult<String> + Send + 'a>,
}

impl<'a> Parts<'a> {
    /// Rows for a statement that takes them as JSON, which `encode` makes.
    pub(super) fn add<T: Sync>(
        &mut self,
        statement: &'static str,
        rows: &'a [T],
        encode: fn(&'a [T]) -> StoreResult<String>,
    ) {
        self.0.extend(rows.chunks(ROWS).map(|rows| Part {
            statement,
            encode: Box::new(move || encode(rows)),
        }));
    }

    /// Writes all of them.
    pub(super) async fn write(self, tx: &mut Tx) -> StoreResult<()> {
        let mut parts = self.0.into_iter();
        let mut encode = move || match parts.next() {
            Some(part) => (part.encode)().map(|rows| Some((part.statement, rows))),
            None => Ok(None),
        };
        let mut next = encode()?;
        while let Some((statement, rows)) = next {
            let writing = sqlx::query(statement).bind(rows).execute(tx.write());
            // In this order: what is polled first is on its way to SQLite when the next is encoded.
            let (written, encoded) = join(writing, async { encode() }).await;
            written.map_err(db)?;
            next = encoded?;
        }
        Ok(())
    }
}
