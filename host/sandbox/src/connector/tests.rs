//! Grants, addresses and a resolver that lies.

use super::*;
use futures_util::future::BoxFuture;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;

/// Answers with the next list at each call, as a rebinding attacker would.
#[derive(Debug)]
struct Scripted {
    answers: Vec<Vec<IpAddr>>,
    calls: AtomicUsize,
}

impl Scripted {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |list: &&[&str]| {
            list.iter()
                .map(|a| a.parse().expect("an address"))
                .collect()
        };
        Arc::new(Self {
            answers: answers.iter().map(parse).collect(),
            calls: AtomicUsize::new(0),
        })
    }
}

impl Resolver for Scripted {
    fn resolve(&self, _host: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let answer = self.answers[call % self.answers.len()].clone();
        Box::pin(async move { Ok(answer) })
    }
}

fn connector(resolver: Arc<dyn Resolver>, allow_private: &[&str]) -> Connector {
    let nets = allow_private
        .iter()
        .map(|net| net.parse().expect("a network"))
        .collect();
    Connector::new(Some(resolver), nets, &[]).expect("a connector")
}

fn target(uri: &str) -> Result<Target, TargetError> {
    Target::from_uri(&uri.parse().expect("a URI"))
}

fn grants(texts: &[&str]) -> Vec<Grant> {
    texts
        .iter()
        .map(|text| text.parse().expect("a grant"))
        .collect()
}

async fn reach(connector: &Connector, grant: &str, uri: &str) -> Result<(), ConnectError> {
    let target = target(uri).expect("a target");
    let permission = connector.authorise(&grants(&[grant]), "GET", &target)?;
    let limit = Duration::from_secs(5);
    connector
        .connect("GET", &target, &permission, limit)
        .await
        .map(|_| ())
}

fn denied(result: Result<(), ConnectError>) -> String {
    match result {
        Err(ConnectError::Denied(sentence)) => sentence,
        other => panic!("not denied: {other:?}"),
    }
}

#[test]
fn targets_are_normalised_and_odd_ones_refused() {
    let plain = target("HTTP://Example.COM.:8080/a?q=secret").expect("a target");
    assert_eq!(
        (plain.scheme(), plain.host(), plain.port()),
        ("http", "example.com", 8080)
    );
    assert_eq!(plain.to_string(), "http://example.com:8080/a");
    assert_eq!(plain.authority(), "example.com:8080");
    let v6 = target("https://[2001:DB8::1]/").expect("a target");
    assert_eq!(
        (v6.host(), v6.port(), v6.authority().as_str()),
        ("2001:db8::1", 443, "[2001:db8::1]")
    );
    for uri in [
        "ftp://a.example/",
        "http://u:p@a.example/",
        "http://user@a.example/",
        "/only/a/path",
        "http://a.example:0/",
    ] {
        assert!(target(uri).is_err(), "{uri}");
    }
}

#[test]
fn without_a_grant_the_very_grant_is_named() {
    let connector = connector(Scripted::new(&[&[]]), &[]);
    let ask = |uri: &str| {
        let target = target(uri).expect("a target");
        match connector.authorise(
            &grants(&["http POST https://api.example.com/v1"]),
            "GET",
            &target,
        ) {
            Err(ConnectError::Denied(sentence)) => sentence,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        ask("https://api.example.com/v1/x?token=1"),
        "denied: GET https://api.example.com/v1/x is not granted; allow it with --grant 'http GET https://api.example.com'"
    );
    let private = ask("http://127.0.0.1:9/x");
    assert!(
        private.contains("--grant 'http GET http://127.0.0.1:9 via 127.0.0.1/32'"),
        "{private}"
    );
    assert!(
        private.contains("network.allow_private = [\"127.0.0.1/32\"]"),
        "{private}"
    );
}

#[tokio::test]
async fn private_addresses_need_both_the_settings_and_the_grant() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = listener.local_addr().expect("an address").port();
    let uri = format!("http://inside.example:{port}/");
    let plain = format!("http GET http://inside.example:{port}");
    let via = format!("{plain} via 127.0.0.0/8");
    let resolver = || Scripted::new(&[&["127.0.0.1"]]);
    for (allow, grant) in [
        (&[][..], &plain),
        (&["127.0.0.0/8"][..], &plain),
        (&[][..], &via),
        (&["10.0.0.0/8"][..], &via),
    ] {
        let sentence = denied(reach(&connector(resolver(), allow), grant, &uri).await);
        assert!(
            sentence.contains("both network.allow_private"),
            "{sentence}"
        );
    }
    let both = connector(resolver(), &["127.0.0.0/8"]);
    reach(&both, &via, &uri).await.expect("both are there");
}

#[tokio::test]
async fn the_address_that_was_checked_is_the_one_connected_to() {
    // The second answer would be private; it must never be asked for.
    let resolver = Scripted::new(&[&["127.0.0.1"], &["169.254.169.254"]]);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = listener.local_addr().expect("an address").port();
    let connector = connector(resolver.clone(), &["127.0.0.1/32"]);
    let grant = format!("http GET http://rebind.example:{port} via 127.0.0.1/32");
    let uri = format!("http://rebind.example:{port}/");
    reach(&connector, &grant, &uri)
        .await
        .expect("the first answer is allowed");
    assert_eq!(resolver.calls.load(Ordering::SeqCst), 1);
    let (_, peer) = listener.accept().await.expect("connected here");
    assert_eq!(peer.ip().to_string(), "127.0.0.1");
    denied(reach(&connector, &grant, &uri).await);
}

#[tokio::test]
async fn every_way_to_write_a_private_address_is_denied() {
    for host in [
        "127.0.0.1",
        "127.1.2.3",
        "10.0.0.1",
        "172.16.5.5",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::1]",
        "[fc00::1]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "[ff02::1]",
        "[2001:db8::1]",
    ] {
        let connector = connector(Scripted::new(&[&[]]), &[]);
        let sentence = denied(
            reach(
                &connector,
                &format!("http GET http://{host}"),
                &format!("http://{host}/"),
            )
            .await,
        );
        assert!(
            sentence.contains("both network.allow_private"),
            "{host}: {sentence}"
        );
    }
    // Names that the system's resolver reads as addresses.
    for host in [
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "localhost",
    ] {
        let connector = Connector::new(None, Vec::new(), &[]).expect("a connector");
        match reach(
            &connector,
            &format!("http GET http://{host}"),
            &format!("http://{host}/"),
        )
        .await
        {
            Err(ConnectError::Denied(_) | ConnectError::Resolve(..)) => {}
            other => panic!("{host}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn of_several_addresses_only_public_ones_are_used() {
    let connector = connector(Scripted::new(&[&["10.0.0.1", "::1"]]), &[]);
    denied(reach(&connector, "http GET http://a.example", "http://a.example/").await);
    let permission = Permission { via: Vec::new() };
    let mixed = ["10.0.0.1", "8.8.8.8", "::ffff:1.1.1.1"].map(|a| a.parse().expect("an address"));
    assert_eq!(connector.checked(&mixed, &permission), [mixed[1]]);
}

#[tokio::test]
async fn nobody_listening_and_unknown_names_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let open = connector(Scripted::new(&[&["127.0.0.1"]]), &["127.0.0.0/8"]);
    let grant = format!("http GET http://a.example:{port} via 127.0.0.0/8");
    let refused = reach(&open, &grant, &format!("http://a.example:{port}/")).await;
    assert!(
        matches!(refused, Err(ConnectError::Connect(..))),
        "{refused:?}"
    );
    let nowhere = connector(Scripted::new(&[&[]]), &[]);
    let unknown = reach(&nowhere, "http GET http://a.example", "http://a.example/").await;
    assert!(
        matches!(unknown, Err(ConnectError::Resolve(..))),
        "{unknown:?}"
    );
}

/// Where an attacker would like to go, spelled in every way that some parser once took for something else.
const INSIDE: &[&str] = &[
    "http://127.0.0.1/",
    "http://127.0.0.1:80/",
    "http://127.1/",
    "http://127.0.1/",
    "http://127.255.255.254/",
    "http://2130706433/",
    "http://017700000001/",
    "http://0x7f000001/",
    "http://0x7f.0x0.0x0.0x1/",
    "http://0177.0.0.1/",
    "http://0177.0x0.0.1/",
    "http://127.0.0.1./",
    "http://127.0.0.1.nip.example/",
    "http://0/",
    "http://0.0.0.0/",
    "http://0.0.0.0:22/",
    "http://localhost/",
    "http://LOCALHOST/",
    "http://localhost./",
    "http://localhost.localdomain/",
    "http://ip6-localhost/",
    "http://[::1]/",
    "http://[::]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[0000::0001]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::FFFF:169.254.169.254]/",
    "http://[::ffff:0:127.0.0.1]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::127.0.0.1]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[64:ff9b:1::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[2002:a9fe:a9fe::1]/",
    "http://[2001:0:7f00:1::]/",
    "http://[fe80::1]/",
    "http://[fe80::1%25eth0]/",
    "http://[fc00::1]/",
    "http://[fd00:ec2::254]/latest/meta-data",
    "http://[fec0::1]/",
    "http://[ff02::1]/",
    "http://10.0.0.1/",
    "http://10.255.255.255/",
    "http://172.16.0.1/",
    "http://172.31.255.255/",
    "http://192.168.0.1/",
    "http://100.64.0.1/",
    "http://100.127.255.254/",
    "http://169.254.169.254/latest/meta-data/",
    "http://169.254.170.2/v2/credentials",
    "http://2852039166/latest/meta-data/",
    "http://0xa9fea9fe/",
    "http://0251.0376.0251.0376/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "http://198.18.0.1/",
    "http://192.0.0.192/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://user@127.0.0.1/",
    "http://example.com@127.0.0.1/",
    "http://127.0.0.1#@example.com/",
    "http://127.0.0.1?@example.com/",
    "http://example.com%2f@127.0.0.1/",
    "http://example.com\\@127.0.0.1/",
    "http://127.0.0.1%00.example.com/",
    "http://127.0.0.1%2eexample.com/",
    "http://①②⑦.⓪.⓪.①/",
    "http://127。0。0。1/",
    "http://rebind.example/",
];

#[tokio::test]
async fn sixty_spellings_of_inside_reach_nothing() {
    assert!(INSIDE.len() >= 60);
    let (mut refused, mut denied) = (0, 0);
    for url in INSIDE {
        // Every name is answered with another private address each time it is asked for.
        let resolver = Scripted::new(&[
            &["127.0.0.1"],
            &["169.254.169.254", "10.0.0.1"],
            &["::1"],
            &["::ffff:192.168.0.1"],
        ]);
        let connector = connector(resolver, &[]);
        for _ in 0..4 {
            let Some(target) = url.parse().ok().and_then(|uri| Target::from_uri(&uri).ok()) else {
                refused += 1;
                continue;
            };
            // Granted as far as a grant can say it.
            let place = origin(target.scheme(), target.host(), target.port());
            let grant = format!("http * {place}").parse::<Grant>();
            let grants: Vec<Grant> = grant.into_iter().collect();
            let permission = match connector.authorise(&grants, "GET", &target) {
                Ok(permission) => permission,
                Err(ConnectError::Denied(_)) => {
                    refused += 1;
                    continue;
                }
                Err(other) => panic!("{url}: {other:?}"),
            };
            let limit = Duration::from_secs(5);
            match connector.connect("GET", &target, &permission, limit).await {
                Err(ConnectError::Denied(_)) => denied += 1,
                Err(other) => panic!("{url}: {other:?}"),
                Ok(_) => panic!("{url} was reached"),
            }
        }
    }
    assert!(
        denied >= 160 && refused >= 20,
        "{denied} denied, {refused} refused"
    );
}
