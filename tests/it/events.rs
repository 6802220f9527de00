//! `GET /v1/events` over a real connection.

use crate::many_hosts::{database, member};
use crate::support::{Host, HostBuilder, binary, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

/// One event: kind, id, data.
type Told = (String, String, Value);

/// A client that reads a stream in a thread of its own, until the stream ends.
struct Client {
    told: Arc<Mutex<Vec<Told>>>,
    connection: TcpStream,
}

impl Client {
    /// Follows from the event with this id on, else from now; returns once the server tells.
    fn follow(host: &Host, after: Option<&str>) -> Self {
        Self::open(host, host.token(), after)
    }

    /// Follows from now, as somebody else.
    fn with_token(host: &Host, token: &str) -> Self {
        Self::open(host, token, None)
    }

    fn open(host: &Host, token: &str, after: Option<&str>) -> Self {
        let address = host.url().trim_start_matches("http://");
        let mut connection = TcpStream::connect(address).expect("connects");
        let mut request = format!(
            "GET /v1/events HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n"
        );
        if let Some(id) = after {
            request.push_str(&format!("Last-Event-ID: {id}\r\n"));
        }
        request.push_str("\r\n");
        connection.write_all(request.as_bytes()).expect("writes");
        let told: Arc<Mutex<Vec<Told>>> = Arc::default();
        let mut lines = BufReader::new(connection.try_clone().expect("a handle")).lines();
        let mut next = move || lines.next().and_then(Result::ok);
        let status = next().expect("an answer");
        assert!(status.contains("200"), "{status}");
        while next().expect("a head and a first chunk") != "retry: 1000" {}
        let seen = told.clone();
        std::thread::spawn(move || {
            let (mut kind, mut id) = (String::new(), String::new());
            while let Some(line) = next() {
                if let Some(text) = line.strip_prefix("event: ") {
                    text.clone_into(&mut kind);
                } else if let Some(text) = line.strip_prefix("id: ") {
                    text.clone_into(&mut id);
                } else if let Some(text) = line.strip_prefix("data: ") {
                    let data = serde_json::from_str(text).expect("JSON");
                    let event = (std::mem::take(&mut kind), id.clone(), data);
                    seen.lock().expect("whole").push(event);
                }
            }
        });
        Self { told, connection }
    }

    /// The kinds told of one execution so far.
    fn of(&self, task_id: &str) -> Vec<String> {
        let told = self.told.lock().expect("whole");
        let of = told
            .iter()
            .filter(|(_, _, data)| data["task_id"] == task_id);
        of.map(|(kind, _, _)| kind.clone()).collect()
    }

    fn hears(&self, what: &str, wanted: impl Fn(&Told) -> bool) -> Told {
        until(what, || {
            let told = self.told.lock().expect("whole");
            told.iter().find(|told| wanted(told)).cloned()
        })
    }

    fn hears_the_end_of(&self, task_id: &str) -> Told {
        self.hears("its end is told", |(kind, _, data)| {
            kind == "execution.finished" && data["task_id"] == task_id
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.connection.shutdown(std::net::Shutdown::Both);
    }
}

/// In this order, whatever else was told.
fn are_in_order(told: &[String]) {
    let wanted = [
        "execution.created",
        "execution.started",
        "execution.finished",
    ];
    assert_eq!(told, wanted);
}

#[test]
fn events_are_told_and_a_stream_goes_on_after_a_restart() {
    let mut host = Host::start();
    host.register("hello", "");
    let task = host.create("--name Greeter --type hello");
    let client = Client::follow(&host, None);
    let first = host.trigger(task);
    let (_, id, data) = client.hears_the_end_of(&first);
    are_in_order(&client.of(&first));
    assert_eq!(
        (&data["is_success"], &data["config_id"]),
        (&json!(true), &json!(task))
    );
    // What happens while nobody listens is told afterwards, also by a host that started meanwhile.
    drop(client);
    let second = host.trigger(task);
    host.ended(&second);
    host.run(&format!("task pause {task}"));
    let listening = Client::follow(&host, None);
    host.stop();
    let stopping = |(kind, _, data): &Told| kind == "end" && data["reason"] == "stopping";
    listening.hears("the stream says why it ends", stopping);
    host.start_again();
    let client = Client::follow(&host, Some(&id));
    client.hears_the_end_of(&second);
    are_in_order(&client.of(&second));
    client.hears("the pause is told", |(kind, _, data)| {
        kind == "task.paused" && data["id"] == task
    });
    // A token that is revoked hears nothing more.
    let made = host.run("token create listener --role viewer");
    let listener = Client::with_token(&host, made["token"].as_str().expect("a text"));
    host.cli(&format!("token revoke {}", made["id"])).exits(0);
    let revoked = |(kind, _, data): &Told| kind == "end" && data["reason"] == "token";
    listener.hears("the stream says why it ends", revoked);
}

#[test]
fn a_host_tells_what_happens_on_another() {
    let (_cluster, url) = database();
    let one = member("one", &url, "2").start();
    let two = member("two", &url, "2").start();
    one.register("hello", "");
    let task = one.create("--name Greeter --type hello");
    let client = Client::follow(&two, None);
    let ids: Vec<String> = (0..5).map(|_| one.trigger(task)).collect();
    for id in &ids {
        client.hears_the_end_of(id);
        are_in_order(&client.of(id));
    }
    // And goes on there where the other stopped.
    let (_, id, _) = client.hears_the_end_of(&ids[0]);
    let client = Client::follow(&one, Some(&id));
    client.hears_the_end_of(&ids[4]);
}

/// `execution list --follow`, and the lines it prints.
struct Follower {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Follower {
    fn start(host: &Host, flags: &[&str]) -> Self {
        let mut child = binary()
            .args(["execution", "list", "--follow", "--data-dir"])
            .arg(host.data_dir())
            .args(flags)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = lines.clone();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                seen.lock().expect("whole").push(line);
            }
        });
        Self { child, lines }
    }

    fn printed(&self, part: &str) -> Vec<String> {
        let lines = self.lines.lock().expect("whole");
        let found = lines.iter().filter(|line| line.contains(part));
        found.cloned().collect()
    }

    /// As Ctrl-C does; the exit code.
    fn interrupt(mut self) -> Option<i32> {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        kill(Pid::from_raw(pid), Signal::SIGINT).expect("it runs");
        let ended = until("the follower ends", || {
            self.child.try_wait().expect("asked")
        });
        ended.code()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_command_line_follows_executions_over_a_restart_until_it_is_interrupted() {
    // It comes back where it was.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address").to_string();
    drop(free);
    let mut host = HostBuilder::default().listen(&address).start();
    host.register("hello", "");
    let (task, other) = (
        host.create("--name Greeter --type hello --key greeter"),
        host.create("--name Other --type hello"),
    );
    let follower = Follower::start(&host, &["--json", "--task", "greeter"]);
    // It tells of what comes after it has begun, which nobody here is told.
    until("it listens", || {
        host.trigger(task);
        (!follower.printed("succeeded").is_empty()).then_some(())
    });
    let (ours, theirs) = (host.trigger(task), host.trigger(other));
    let end = |id: &str| {
        until("its end is printed", || {
            follower
                .printed(id)
                .into_iter()
                .find(|line| line.contains("\"succeeded\""))
        })
    };
    let told: Value = serde_json::from_str(&end(&ours)).expect("an object a line");
    assert_eq!(
        (&told["config_id"], &told["is_success"]),
        (&json!(task), &json!(true))
    );
    host.ended(&theirs);
    // Lost and found again: what ended just before is not printed again, what ends afterwards is.
    let plain = Follower::start(&host, &["--state", "failed,cancelled"]);
    let cancel = |host: &Host| {
        let late = host.run(&format!("task trigger {task} --delay 3600"));
        let id = crate::support::text(&late, "task_id").to_string();
        host.run(&format!("execution cancel {id}"));
        id
    };
    // A server that was never there is an error, so the stop waits for the one that begins.
    until("it listens", || {
        cancel(&host);
        (!plain.printed("cancelled").is_empty()).then_some(())
    });
    host.stop();
    host.start_again();
    let after = host.trigger(task);
    end(&after);
    assert_eq!(follower.printed(&theirs), [""; 0], "of another task");
    let ends = follower.printed(&ours);
    let ends = ends.iter().filter(|line| line.contains("\"succeeded\""));
    assert_eq!(ends.count(), 1, "once");
    // People get a line, and the filter says which.
    let late = cancel(&host);
    let cancelled = until("its end is printed", || plain.printed(&late).pop());
    assert!(
        cancelled.contains("  hello  task ") && !cancelled.contains('\u{1b}'),
        "{cancelled}"
    );
    assert_eq!(plain.printed("succeeded"), [""; 0]);
    assert_eq!(follower.interrupt(), Some(0));
    assert_eq!(plain.interrupt(), Some(0));
    // What the filter cannot mean is refused, as a list refuses it.
    host.cli("execution list --follow --state done")
        .exits(2)
        .complains(&["state", "done"]);
}
