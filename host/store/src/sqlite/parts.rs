//! Many rows, a part at a time: while SQLite works at one, on a thread of its own, the next is encoded.

use super::bound::{self, Values};
use super::db;
use super::tx::Tx;
use futures_util::future::join;
use horarium_core::store::StoreResult;

/// Most rows of a part that is JSON.
const ROWS: usize = 512;

/// Statements in order, their rows not encoded yet.
#[derive(Default)]
pub(super) struct Parts<'a>(Vec<Part<'a>>);

struct Part<'a> {
    statement: &'static str,
    encode: Box<dyn FnOnce() -> StoreResult<Encoded> + Send + 'a>,
}

enum Encoded {
    Json(String),
    /// Values of so many rows.
    Bound(Values, usize),
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
            encode: Box::new(move || encode(rows).map(Encoded::Json)),
        }));
    }

    /// Rows for a statement whose values are bound, which `encode` adds.
    pub(super) fn add_bound<T: Sync>(
        &mut self,
        statement: &'static str,
        rows: &'a [T],
        encode: fn(&'a T, &mut Values) -> StoreResult<()>,
    ) {
        self.0.extend(rows.chunks(bound::ROWS).map(|rows| Part {
            statement,
            encode: Box::new(move || {
                let mut values = Values::default();
                for row in rows {
                    encode(row, &mut values)?;
                }
                Ok(Encoded::Bound(values, rows.len()))
            }),
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
            let query = match rows {
                Encoded::Json(text) => sqlx::query(statement).bind(text),
                Encoded::Bound(values, count) => {
                    let form = bound::for_rows(statement, count);
                    sqlx::query_with(form, values.into_arguments())
                }
            };
            let writing = query.execute(tx.write());
            // In this order: what is polled first is on its way to SQLite when the next is encoded.
            let (written, encoded) = join(writing, async { encode() }).await;
            written.map_err(db)?;
            next = encoded?;
        }
        Ok(())
    }
}
