//! TLS to a real server, its certificate from a CA of the test's own: each `sslmode` does what libpq's
//! documentation says of it.

use horarium_core::store::StoreError;
use horarium_store::testing::Cluster;
use horarium_store::{PostgresOptions, PostgresStore};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use sqlx::Row;
use std::path::Path;

const BOTH: &str = "host all all 127.0.0.1/32 trust";

type Ca = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Ca {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("a CA")
}

/// A certificate and its key for a server of this name.
fn certificate(ca: &Ca, name: &str) -> (String, String) {
    let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, ca).expect("a certificate");
    (certificate.pem(), key.serialize_pem())
}

/// Whether the store's connections are encrypted.
async fn encrypted(cluster: &Cluster, database: &str, url: &str) -> Result<bool, StoreError> {
    let options = PostgresOptions {
        connections: 1,
        ..PostgresOptions::default()
    };
    let store = PostgresStore::connect(url, options).await?;
    store.database_now().await.expect("answers");
    let mut connection = cluster.connect(database).await;
    // The pool's connection and the one that listens.
    let query = "SELECT bool_and(s.ssl), bool_or(s.ssl) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) \
        WHERE a.application_name = 'horarium' AND a.datname = current_database()";
    let row = sqlx::query(query)
        .fetch_one(&mut connection)
        .await
        .expect("answers");
    let (all, any): (bool, bool) = (row.get(0), row.get(1));
    assert_eq!(all, any, "all connections alike");
    store.close().await;
    Ok(all)
}

async fn migrated(cluster: &Cluster) -> String {
    let name = cluster.database().await;
    let done = PostgresStore::migrate(&cluster.url(&name), &PostgresOptions::default()).await;
    done.expect("migrates");
    name
}

fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

/// `Ok(true)`: encrypted; the words of a refusal otherwise.
async fn expect(cluster: &Cluster, database: &str, cases: &[(&str, String, Result<bool, &str>)]) {
    for (host, more, wanted) in cases {
        let url = cluster.tcp_url(host, database, more);
        let found = encrypted(cluster, database, &url).await;
        match (&found, wanted) {
            (Ok(found), Ok(wanted)) => assert_eq!(found, wanted, "{host} {more}"),
            (Err(error), Err(words)) => {
                let told = error.to_string();
                assert!(told.contains(words), "{host} {more}: {told}");
                assert!(!told.contains('\n') && !told.contains("secret"), "{told}");
            }
            _ => panic!("{host} {more}: {found:?}, but wanted {wanted:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_mode_means_what_libpq_means() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (ca, stranger) = (authority("ours"), authority("a stranger"));
    let (certificate, key) = certificate(&ca, "localhost");
    let ours = file(folder.path(), "ours.crt", &ca.pem());
    let wrong = file(folder.path(), "wrong.crt", &stranger.pem());
    let junk = file(folder.path(), "junk.crt", "no certificate");
    let cluster = Cluster::start_on_tcp(Some((&certificate, &key)), BOTH);
    let database = migrated(&cluster).await;
    let with = |mode: &str, root: &str| format!("sslmode={mode}&sslrootcert={root}");
    expect(
        &cluster,
        &database,
        &[
            ("localhost", "sslmode=disable".into(), Ok(false)),
            ("localhost", "sslmode=allow".into(), Ok(false)),
            ("localhost", "sslmode=prefer".into(), Ok(true)),
            ("localhost", String::new(), Ok(true)),
            ("localhost", "sslmode=require".into(), Ok(true)),
            ("localhost", with("verify-ca", &ours), Ok(true)),
            ("localhost", with("verify-full", &ours), Ok(true)),
            // The name is checked by the strictest mode alone.
            ("127.0.0.1", with("verify-ca", &ours), Ok(true)),
            (
                "127.0.0.1",
                with("verify-full", &ours),
                Err("connect by a name that is in it"),
            ),
            // A CA that is given is checked, as by psql also with `require`.
            ("localhost", with("require", &ours), Ok(true)),
            (
                "localhost",
                with("require", &wrong),
                Err("give the CA that signed it as sslrootcert"),
            ),
            (
                "localhost",
                with("verify-ca", &wrong),
                Err("give the CA that signed it as sslrootcert"),
            ),
            (
                "localhost",
                with("verify-full", &wrong),
                Err("give the CA that signed it as sslrootcert"),
            ),
            // Without one, public CAs are trusted, and this is none of theirs.
            (
                "localhost",
                "sslmode=verify-full".into(),
                Err("UnknownIssuer"),
            ),
            (
                "localhost",
                "sslrootcert=system".into(),
                Err("UnknownIssuer"),
            ),
            (
                "localhost",
                with("require", "system"),
                Err("sslmode=verify-full"),
            ),
            (
                "localhost",
                with("verify-ca", "/nowhere.crt"),
                Err("sslrootcert /nowhere.crt"),
            ),
            (
                "localhost",
                with("verify-full", &junk),
                Err("is no PEM file"),
            ),
            (
                "localhost",
                "sslmode=sometimes".into(),
                Err("wrong: unknown value \"sometimes\" for `ssl_mode`"),
            ),
        ],
    )
    .await;
    // On the socket there is no TLS, whatever the mode.
    let url = format!(
        "{}&sslmode=verify-full&sslrootcert={ours}",
        cluster.url(&database)
    );
    assert!(
        !encrypted(&cluster, &database, &url)
            .await
            .expect("connects")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn allow_and_prefer_go_the_way_the_server_lets_in() {
    let ca = authority("ours");
    let (certificate, key) = certificate(&ca, "localhost");
    let encrypted_only = "hostssl all all 127.0.0.1/32 trust";
    let plain_only = "hostnossl all all 127.0.0.1/32 trust";
    let tls = Some((certificate.as_str(), key.as_str()));
    for (tls, rules, cases) in [
        (
            tls,
            encrypted_only,
            [
                ("disable", Err("does not let `postgres` in")),
                ("allow", Ok(true)),
                ("prefer", Ok(true)),
                ("require", Ok(true)),
            ],
        ),
        (
            tls,
            plain_only,
            [
                ("disable", Ok(false)),
                ("allow", Ok(false)),
                ("prefer", Ok(false)),
                ("require", Err("does not let `postgres` in")),
            ],
        ),
        (
            None,
            BOTH,
            [
                ("disable", Ok(false)),
                ("allow", Ok(false)),
                ("prefer", Ok(false)),
                ("require", Err("no TLS with PostgreSQL")),
            ],
        ),
    ] {
        let cluster = Cluster::start_on_tcp(tls, rules);
        let database = migrated(&cluster).await;
        let cases = cases.map(|(mode, wanted)| ("localhost", format!("sslmode={mode}"), wanted));
        expect(&cluster, &database, &cases).await;
    }
}
