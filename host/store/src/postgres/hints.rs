//! Hints between hosts by LISTEN and NOTIFY. NOTIFY takes a lock of the whole database at its commit, so
//! it is sent outside of the data's transactions, and what comes within some milliseconds goes together.
//! A lost hint costs latency, never correctness.

use super::PostgresOptions;
use super::connect::Target;
use super::sql;
use super::tx::Tidings;
use horarium_core::store::StoreResult;
use horarium_core::wake::Hint;
use horarium_model::TaskId;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions};
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;

/// What is told within this time goes out together.
const GATHER: Duration = Duration::from_millis(10);
/// Cancels in one notification (8000 bytes are allowed); for more, everybody is told to look for himself.
const MOST_CANCELS: usize = 150;
/// A connection that was silent for so long is asked whether it lives.
const QUIET: Duration = Duration::from_secs(10);
/// Between attempts to listen again: at first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

enum Message {
    Tell(Tidings),
    Flush(oneshot::Sender<()>),
}

/// The two tasks behind the hints; they end with it.
#[derive(Debug)]
pub(super) struct Notifier {
    sender: Option<mpsc::UnboundedSender<Message>>,
    heard: broadcast::Sender<Hint>,
    listener: Option<JoinHandle<()>>,
}

impl Drop for Notifier {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.abort();
        }
    }
}

impl Notifier {
    pub(super) fn start(
        target: &Target,
        options: &PostgresOptions,
        pool: PgPool,
        channel: String,
    ) -> StoreResult<Self> {
        let (heard, _) = broadcast::channel(1024);
        if !options.notify {
            return Ok(Self {
                sender: None,
                heard,
                listener: None,
            });
        }
        // Who speaks, so that nobody listens to himself.
        let own = uuid::Uuid::now_v7().simple().to_string();
        let (sender, receiver) = mpsc::unbounded_channel();
        let begin = options
            .pooler_transaction
            .then(|| super::connect::begin(options));
        tokio::spawn(speak(receiver, pool, begin, channel.clone(), own.clone()));
        let listener = target.listen.clone().map(|listen| {
            let heard = heard.clone();
            tokio::spawn(listen_for_ever(listen, channel, own, heard))
        });
        Ok(Self {
            sender: Some(sender),
            heard,
            listener,
        })
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Hint> {
        self.heard.subscribe()
    }

    /// Sends the tidings of a committed transaction soon.
    pub(super) fn tell(&self, tidings: Tidings) {
        if let Some(sender) = &self.sender
            && !tidings.is_empty()
        {
            let _ = sender.send(Message::Tell(tidings));
        }
    }

    /// Waits until what was told is sent.
    pub(super) async fn flush(&self) {
        let (reply, done) = oneshot::channel();
        if let Some(sender) = &self.sender
            && sender.send(Message::Flush(reply)).is_ok()
        {
            let _ = done.await;
        }
    }
}

/// Sends what is told, gathered.
async fn speak(
    mut receiver: mpsc::UnboundedReceiver<Message>,
    pool: PgPool,
    begin: Option<String>,
    channel: String,
    own: String,
) {
    while let Some(first) = receiver.recv().await {
        let (mut all, mut waiting) = (Tidings::default(), Vec::new());
        let mut take = |message, all: &mut Tidings| match message {
            Message::Tell(tidings) => merge(all, tidings),
            Message::Flush(reply) => waiting.push(reply),
        };
        let hurry = matches!(first, Message::Flush(_));
        take(first, &mut all);
        while let Ok(message) = receiver.try_recv() {
            take(message, &mut all);
        }
        if !all.is_empty() {
            let payload = write(&own, &all);
            if let Err(error) = notify(&pool, begin.as_deref(), &channel, &payload).await {
                tracing::debug!(%error, "a hint to other hosts was not sent");
            }
        }
        for reply in waiting {
            let _ = reply.send(());
        }
        if !hurry {
            // The first is sent at once; what follows in its wake goes together.
            tokio::time::sleep(GATHER).await;
        }
    }
}

fn merge(all: &mut Tidings, more: Tidings) {
    all.enqueued |= more.enqueued;
    all.schedule |= more.schedule;
    all.catalog |= more.catalog;
    all.access |= more.access;
    all.cancels.extend(more.cancels);
}

async fn notify(
    pool: &PgPool,
    begin: Option<&str>,
    channel: &str,
    payload: &str,
) -> Result<(), sqlx::Error> {
    let query = sqlx::query(sql::NOTIFY)
        .persistent(begin.is_none())
        .bind(channel)
        .bind(payload);
    match begin {
        None => query.execute(pool).await.map(drop),
        Some(begin) => {
            let mut tx = pool.begin_with(sqlx::AssertSqlSafe(begin)).await?;
            query.execute(&mut *tx).await?;
            tx.commit().await
        }
    }
}

/// `SENDER WORD…`, a word for each hint.
fn write(own: &str, tidings: &Tidings) -> String {
    let mut payload = own.to_owned();
    for (said, word) in [
        // First: what was enqueued may want it.
        (tidings.catalog, " catalog"),
        (tidings.access, " access"),
        (tidings.enqueued, " enqueued"),
        (tidings.schedule, " schedule"),
        (tidings.cancels.len() > MOST_CANCELS, " missed"),
    ] {
        if said {
            payload.push_str(word);
        }
    }
    if tidings.cancels.len() <= MOST_CANCELS {
        for task_id in &tidings.cancels {
            payload.push_str(&format!(" {task_id}"));
        }
    }
    payload
}

/// The hints in a payload; of this host's own none. What a later version says is not understood.
fn read<'a>(own: &str, payload: &'a str) -> impl Iterator<Item = Hint> + 'a {
    let mut words = payload.split(' ');
    let foreign = words.next().is_some_and(|sender| sender != own);
    words
        .filter(move |_| foreign)
        .filter_map(|word| match word {
            "enqueued" => Some(Hint::Enqueued),
            "schedule" => Some(Hint::Schedule),
            "catalog" => Some(Hint::Catalog),
            "access" => Some(Hint::Access),
            "missed" => Some(Hint::Missed),
            task_id => task_id.parse::<TaskId>().ok().map(Hint::Cancel),
        })
}

async fn listen_for_ever(
    target: PgConnectOptions,
    channel: String,
    own: String,
    heard: broadcast::Sender<Hint>,
) {
    let mut wait = BACKOFF.0;
    loop {
        match listen(&target, &channel, &own, &heard, &mut wait).await {
            Ok(()) => tracing::debug!("the connection for hints was lost"),
            Err(error) => tracing::debug!(%error, "no hints from other hosts for now"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(BACKOFF.1);
    }
}

/// Listens until the connection is lost.
async fn listen(
    target: &PgConnectOptions,
    channel: &str,
    own: &str,
    heard: &broadcast::Sender<Hint>,
    wait: &mut Duration,
) -> Result<(), sqlx::Error> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(BACKOFF.1)
        .connect_lazy_with(target.clone());
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.eager_reconnect(false);
    listener.listen(channel).await?;
    *wait = BACKOFF.0;
    // What was said before is not told again.
    let _ = heard.send(Hint::Missed);
    loop {
        let Ok(received) = tokio::time::timeout(QUIET, listener.try_recv()).await else {
            ask(&mut listener).await?;
            continue;
        };
        let Some(notification) = received? else {
            return Ok(());
        };
        for hint in read(own, notification.payload()) {
            // Nobody listens: nobody misses it.
            let _ = heard.send(hint);
        }
    }
}

/// Finds out whether somebody is still there: who only listens would never know.
async fn ask(listener: &mut PgListener) -> Result<(), sqlx::Error> {
    let asking = sqlx::query(sql::STILL_THERE)
        .persistent(false)
        .execute(listener);
    match tokio::time::timeout(BACKOFF.1, asking).await {
        Ok(answered) => answered.map(drop),
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST_CANCELS, Tidings, read, write};
    use horarium_core::wake::Hint;
    use horarium_model::TaskId;

    #[test]
    fn hints_come_back_as_they_were_told() {
        let ids: Vec<TaskId> = (1..3).map(TaskId::from_u128).collect();
        let told = Tidings {
            enqueued: true,
            schedule: false,
            catalog: true,
            access: true,
            cancels: ids.clone(),
            came: 3,
        };
        let payload = write("me", &told);
        let heard: Vec<Hint> = read("you", &payload).collect();
        let wanted = [
            Hint::Catalog,
            Hint::Access,
            Hint::Enqueued,
            Hint::Cancel(ids[0]),
            Hint::Cancel(ids[1]),
        ];
        assert_eq!(heard, wanted);
        assert_eq!(read("me", &payload).count(), 0, "nobody hears himself");
    }

    #[test]
    fn a_payload_is_never_too_long() {
        for count in [MOST_CANCELS, MOST_CANCELS + 1] {
            let cancels = (0..count).map(|n| TaskId::from_u128(n as u128)).collect();
            let told = Tidings {
                enqueued: true,
                schedule: true,
                catalog: true,
                access: true,
                cancels,
                came: 1,
            };
            let payload = write(&"x".repeat(32), &told);
            assert!(payload.len() < 8000, "{}", payload.len());
            let missed = read("", &payload).any(|hint| hint == Hint::Missed);
            assert_eq!(missed, count > MOST_CANCELS);
        }
    }
}
