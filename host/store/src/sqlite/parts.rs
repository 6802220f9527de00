//! Many rows, a part at a time: while SQLite works at one, on a thread of its own, the next is encoded.

use super::db;
use super::writer::Tx;
use futures_util::future::join;
use horarium_core::store::StoreResult;

/// Most rows of a part.
const ROWS: usize = 512;

/// Statements in order, their rows not encoded yet.
#[derive(Default)]
pub(super) struct Parts<'a>(Vec<Part<'a>>);

struct Part<'a> {
    statement: &'static str,
    /// The statement's second parameter.
    now: Option<i64>,
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
        self.push(statement, None, rows, encode);
    }

    /// The same for a statement that also takes an instant.
    pub(super) fn add_at<T: Sync>(
        &mut self,
        statement: &'static str,
        now: i64,
        rows: &'a [T],
        encode: impl Fn(&'a [T]) -> StoreResult<String> + Send + Copy + 'a,
    ) {
        self.push(statement, Some(now), rows, encode);
    }

    fn push<T: Sync>(
        &mut self,
        statement: &'static str,
        now: Option<i64>,
        rows: &'a [T],
        encode: impl Fn(&'a [T]) -> StoreResult<String> + Send + Copy + 'a,
    ) {
        self.0.extend(rows.chunks(ROWS).map(|rows| Part {
            statement,
            now,
            encode: Box::new(move || encode(rows)),
        }));
    }

    /// Writes all of them.
    pub(super) async fn write(self, tx: &mut Tx) -> StoreResult<()> {
        let mut parts = self.0.into_iter();
        let mut encode = move || match parts.next() {
            Some(part) => (part.encode)().map(|rows| Some((part.statement, part.now, rows))),
            None => Ok(None),
        };
        let mut next = encode()?;
        while let Some((statement, now, rows)) = next {
            let mut query = sqlx::query(statement).bind(rows);
            if let Some(now) = now {
                query = query.bind(now);
            }
            // In this order: what is polled first is on its way to SQLite when the next is encoded.
            let (written, encoded) = join(query.execute(tx.write()), async { encode() }).await;
            written.map_err(db)?;
            next = encoded?;
        }
        Ok(())
    }
}
