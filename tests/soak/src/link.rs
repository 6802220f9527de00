//! The way of one host to the database: a loopback proxy that can be cut without either side being told, as a
//! network does.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How a link stands.
#[derive(Debug, Clone, Copy)]
struct State {
    open: bool,
    /// Connections of an earlier age are broken off.
    age: u64,
}

/// A proxy in front of the database, for one host.
#[derive(Debug)]
pub(crate) struct Link {
    address: SocketAddr,
    state: watch::Sender<State>,
    serving: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Link {
    /// Forwards from a free port to the server behind `socket`.
    pub(crate) fn start(runtime: &Handle, socket: PathBuf) -> Result<Self> {
        let listener = runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .context("no free port")?;
        let address = listener.local_addr().context("a port without a number")?;
        let (state, heard) = watch::channel(State { open: true, age: 0 });
        let serving = runtime.spawn(serve(listener, socket, heard));
        Ok(Self {
            address,
            state,
            serving,
        })
    }

    /// Where a host connects to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops forwarding. Nobody is told, connections stay.
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| state.open = false);
    }

    /// Forwards again. What waits goes on its way, unless `reset` breaks off the connections there are.
    pub(crate) fn mend(&self, reset: bool) {
        self.state.send_modify(|state| {
            state.open = true;
            state.age += u64::from(reset);
        });
    }
}

async fn serve(listener: TcpListener, socket: PathBuf, state: watch::Receiver<State>) {
    while let Ok((client, _)) = listener.accept().await {
        let (socket, mut state) = (socket.clone(), state.clone());
        tokio::spawn(async move {
            let age = state.borrow().age;
            if !opened(&mut state, age).await {
                return;
            }
            // No server: the client's connection is closed, as a refused one is.
            let Ok(server) = UnixStream::connect(socket).await else {
                return;
            };
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            // Each way by itself: one may be closed while the other still speaks.
            tokio::join!(
                forward(from_client, to_server, state.clone(), age),
                forward(from_server, to_client, state, age)
            );
        });
    }
}

/// Waits until the link is open; false when what is of this age is broken off.
async fn opened(state: &mut watch::Receiver<State>, age: u64) -> bool {
    let found = state.wait_for(|state| state.open || state.age != age).await;
    found.is_ok_and(|state| state.age == age)
}

async fn forward(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut state: watch::Receiver<State>,
    age: u64,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let mut turn = state.clone();
        let read = tokio::select! {
            read = from.read(&mut buffer) => read.unwrap_or(0),
            _ = turn.wait_for(|state| state.age != age) => return,
        };
        // The end of a connection is a message too.
        if !opened(&mut state, age).await
            || read == 0
            || to.write_all(&buffer[..read]).await.is_err()
        {
            let _ = to.shutdown().await;
            return;
        }
    }
}
