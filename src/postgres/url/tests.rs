//! Connection strings by table: what psql takes is taken, and what is refused is named and not shown.
//!
//! Owns: the cases. Must not know: servers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;

use super::{PgUrl, PgVariables};

const SECRET: &str = "hunter2";

/// `user|password|servers|database|sslmode|timeout|target`, without the user of the system.
fn summary(url: &PgUrl) -> String {
    use secrecy::ExposeSecret as _;
    let settings = url.settings();
    let servers: Vec<String> = settings
        .endpoints
        .iter()
        .map(|endpoint| {
            let address = endpoint.address.map(|address| format!("={address}")).unwrap_or_default();
            format!("{}{address}:{}", endpoint.host, endpoint.port)
        })
        .collect();
    format!(
        "{}|{}|{}|{}|{:?}|{}|{:?}",
        settings.user,
        settings.password.as_ref().map_or("-", |password| password.expose_secret()),
        servers.join(","),
        settings.database(),
        settings.ssl_mode,
        settings.connect_timeout.as_secs(),
        settings.target
    )
}

fn variables(pairs: &[(&str, &str)]) -> PgVariables {
    pairs.iter().copied().collect()
}

/// What psql takes, from the examples and the rules of the manual, 34.1.1 and 34.1.2.
const TAKEN: &[(&str, &str)] = &[
    ("postgres://u@h/d", "u|-|h:5432|d|Prefer|10|Any"),
    ("postgresql://u@h/d", "u|-|h:5432|d|Prefer|10|Any"),
    ("POSTGRES://u@h/d", "u|-|h:5432|d|Prefer|10|Any"),
    ("postgres://u:p@h:6432/d", "u|p|h:6432|d|Prefer|10|Any"),
    ("postgres://u:@h/d", "u|-|h:5432|d|Prefer|10|Any"),
    ("postgres://u@h", "u|-|h:5432|u|Prefer|10|Any"),
    ("postgres://u@h/", "u|-|h:5432|u|Prefer|10|Any"),
    ("postgres://u@h:/d", "u|-|h:5432|d|Prefer|10|Any"),
    // Reserved characters, encoded or where libpq does not need it.
    ("postgres://u%40corp:p%40%3A%2F%3F%23%25@h/d", "u@corp|p@:/?#%|h:5432|d|Prefer|10|Any"),
    ("postgres://u:a?b@h/d", "u|a?b|h:5432|d|Prefer|10|Any"),
    ("postgres://u:a#b@h/d", "u|a#b|h:5432|d|Prefer|10|Any"),
    ("postgres://u:a+b&c=d;e!@h/d", "u|a+b&c=d;e!|h:5432|d|Prefer|10|Any"),
    ("postgres://u:a:b@h/d", "u|a:b|h:5432|d|Prefer|10|Any"),
    ("postgres://u:pä%C3%A4@h/d", "u|pää|h:5432|d|Prefer|10|Any"),
    ("postgres://u:p@h/a%20b%2Fc", "u|p|h:5432|a b/c|Prefer|10|Any"),
    ("postgres://u@h/D-b.1_x", "u|-|h:5432|D-b.1_x|Prefer|10|Any"),
    (
        "postgres://postgres.abcdef:p@pooler.example.com:5432/postgres",
        "postgres.abcdef|p|pooler.example.com:5432|postgres|Prefer|10|Any",
    ),
    // IPv6.
    ("postgres://u@[::1]/d", "u|-|::1:5432|d|Prefer|10|Any"),
    ("postgres://u:p@[2001:db8::1234]:6432/d", "u|p|2001:db8::1234:6432|d|Prefer|10|Any"),
    ("postgres://u@[fe80::1%25eth0]/d", "u|-|fe80::1%eth0:5432|d|Prefer|10|Any"),
    ("postgres://u@[::ffff:10.0.0.1]?dbname=d", "u|-|::ffff:10.0.0.1:5432|d|Prefer|10|Any"),
    ("postgres://u@/d?host=::1&port=5433", "u|-|::1:5433|d|Prefer|10|Any"),
    ("postgres://u@[::1]:5433,[::2]:5434/d", "u|-|::1:5433,::2:5434|d|Prefer|10|Any"),
    // Several hosts.
    ("postgres://u@a,b/d", "u|-|a:5432,b:5432|d|Prefer|10|Any"),
    ("postgres://u@a:1,b:2,c/d", "u|-|a:1,b:2,c:5432|d|Prefer|10|Any"),
    ("postgres://u@a,b/d?port=6432", "u|-|a:6432,b:6432|d|Prefer|10|Any"),
    ("postgres://u@/d?host=a,b&port=1,2", "u|-|a:1,b:2|d|Prefer|10|Any"),
    ("postgres://u@a,b/d?target_session_attrs=read-write", "u|-|a:5432,b:5432|d|Prefer|10|ReadWrite"),
    ("postgres://u@a/d?target_session_attrs=any", "u|-|a:5432|d|Prefer|10|Any"),
    ("postgres://u@a/d?target_session_attrs=read-only", "u|-|a:5432|d|Prefer|10|ReadOnly"),
    ("postgres://u@a/d?target_session_attrs=primary", "u|-|a:5432|d|Prefer|10|Primary"),
    ("postgres://u@a/d?target_session_attrs=standby", "u|-|a:5432|d|Prefer|10|Standby"),
    ("postgres://u@a/d?target_session_attrs=prefer-standby", "u|-|a:5432|d|Prefer|10|PreferStandby"),
    ("postgres://u@a,b/d?load_balance_hosts=disable", "u|-|a:5432,b:5432|d|Prefer|10|Any"),
    // Sockets and addresses.
    ("postgres://u@%2Fvar%2Flib%2Fsocket/d", "u|-|/var/lib/socket:5432|d|Prefer|10|Any"),
    ("postgres://%2Fa:6432/d?user=u", "u|-|/a:6432|d|Prefer|10|Any"),
    ("postgres://u@/d?host=/a", "u|-|/a:5432|d|Prefer|10|Any"),
    ("postgres://u@/d?host=/a,h", "u|-|/a:5432,h:5432|d|Prefer|10|Any"),
    ("postgres://u@h/d?hostaddr=10.0.0.1", "u|-|h=10.0.0.1:5432|d|Prefer|10|Any"),
    ("postgres://u@/d?hostaddr=::1", "u|-|::1=::1:5432|d|Prefer|10|Any"),
    // Parameters that apply.
    ("postgres:///d?host=h&user=u&password=p&port=1", "u|p|h:1|d|Prefer|10|Any"),
    ("postgres://u@h/d?dbname=e", "u|-|h:5432|e|Prefer|10|Any"),
    ("postgres://u@h/d?user=v&user=w", "w|-|h:5432|d|Prefer|10|Any"),
    ("postgres://u@h/d?sslmode=disable", "u|-|h:5432|d|Disable|10|Any"),
    ("postgres://u@h/d?sslmode=allow", "u|-|h:5432|d|Allow|10|Any"),
    ("postgres://u@h/d?sslmode=require", "u|-|h:5432|d|Require|10|Any"),
    ("postgres://u@h/d?sslmode=require&channel_binding=require", "u|-|h:5432|d|Require|10|Any"),
    ("postgres://u@h/d?sslmode=verify-ca", "u|-|h:5432|d|VerifyCa|10|Any"),
    ("postgres://u@h/d?sslmode=verify-full&sslrootcert=system", "u|-|h:5432|d|VerifyFull|10|Any"),
    ("postgres://u@h/d?sslrootcert=system", "u|-|h:5432|d|VerifyFull|10|Any"),
    ("postgres://u@h/d?ssl=true", "u|-|h:5432|d|Require|10|Any"),
    ("postgres://u@h/d?requiressl=1", "u|-|h:5432|d|Require|10|Any"),
    ("postgres://u@h/d?sslmode=require&sslnegotiation=direct", "u|-|h:5432|d|Require|10|Any"),
    ("postgres://u@h/d?connect_timeout=3", "u|-|h:5432|d|Prefer|3|Any"),
    ("postgres://u@h/d?connect_timeout=1", "u|-|h:5432|d|Prefer|2|Any"),
    ("postgres://u@h/d?connect_timeout=0", "u|-|h:5432|d|Prefer|10|Any"),
    ("postgres://u@h/d?options=-c%20search_path%3Dx%20-c%20geqo%3Doff", "u|-|h:5432|d|Prefer|10|Any"),
    // Parameters that hold anyway, or have no effect.
    ("postgres://u@h/d?channel_binding=prefer", "u|-|h:5432|d|Prefer|10|Any"),
    ("postgres://u@h/d?application_name=x&fallback_application_name=y", "u|-|h:5432|d|Prefer|10|Any"),
    (
        "postgres://u@h/d?keepalives=1&keepalives_idle=30&keepalives_interval=10&keepalives_count=3&tcp_user_timeout=0",
        "u|-|h:5432|d|Prefer|10|Any",
    ),
    ("postgres://u@h/d?gssencmode=disable&krbsrvname=postgres&gssdelegation=0", "u|-|h:5432|d|Prefer|10|Any"),
    ("postgres://u@h/d?client_encoding=LATIN1&replication=false", "u|-|h:5432|d|Prefer|10|Any"),
    (
        "postgres://u@h/d?ssl_min_protocol_version=TLSv1.2&ssl_max_protocol_version=TLSv1.3&sslsni=1&sslcompression=0",
        "u|-|h:5432|d|Prefer|10|Any",
    ),
    ("postgres://u@h/d?max_protocol_version=3.2&min_protocol_version=3.0", "u|-|h:5432|d|Prefer|10|Any"),
    ("postgres://u@h/d?require_auth=&sslcrl=&", "u|-|h:5432|d|Prefer|10|Any"),
    // Lists of keyword = value.
    ("host=h user=u dbname=d", "u|-|h:5432|d|Prefer|10|Any"),
    ("  host = h  user='u v' password = 'a\\'b\\\\c' dbname = d", "u v|a'b\\c|h:5432|d|Prefer|10|Any"),
    ("host=h,i port=1,2 user=u sslmode=require connect_timeout=5", "u|-|h:1,i:2|u|Require|5|Any"),
    ("host='' hostaddr=10.0.0.1 user=u password=''", "u|-|10.0.0.1=10.0.0.1:5432|u|Prefer|10|Any"),
    ("user=u host=/a password=a=b:@/", "u|a=b:@/|/a:5432|u|Prefer|10|Any"),
];

#[test]
fn what_psql_takes_is_taken() {
    for (url, expected) in TAKEN {
        let parsed = PgUrl::parse(url, &PgVariables::default()).unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!(summary(&parsed), *expected, "{url}");
    }
    assert!(TAKEN.len() >= 60);
}

/// What psql refuses too, or what imsync does not support.
const REFUSED: &[(&str, &str)] = &[
    ("localhost:5432/hunter2", "the URL does not start with postgres:// or postgresql://"),
    ("mysql://u:hunter2@h/app", "the URL does not start with postgres:// or postgresql://"),
    ("hunter2", "the URL does not start with postgres:// or postgresql://"),
    ("postgres://u:hun/ter2@h/app", "the URL has more than a database name after the host; percent-encode"),
    ("postgres://u:12/hunter2@h/app", "the URL has more than a database name after the host; percent-encode"),
    ("postgres://u:hunter2/x@h/app", "the URL has more than a database name after the host; percent-encode"),
    ("postgres://u:p@hunter2@h/app", "the URL has an @ in its host; percent-encode"),
    ("postgres://u:hunter2@h:port/app", "port must be a number from 1 to 65535"),
    ("postgres://u:hunter2@h:0/app", "port must be a number from 1 to 65535"),
    ("postgres://u:hunter2@h:65536/app", "port must be a number from 1 to 65535"),
    ("postgres://u:hunter2@a:1,b:2/app?port=1,2,3", "port must be one number, or as many as there are hosts"),
    ("postgres://u:hunter2@a,b/app?hostaddr=10.0.0.1", "host and hostaddr must list the same number of servers"),
    ("postgres://u:hunter2@h/app?hostaddr=example.com", "hostaddr must be an IP address"),
    ("postgres://u:hunter2@[::1/app", "the URL has a [ without a ]"),
    ("postgres://u:hunter2@[]/app", "the URL has an empty IPv6 address"),
    ("postgres://u:hunter2@[::1]x/app", "the URL has an unexpected character after the ]"),
    ("postgres://u:hunter2%@h/app", "the URL contains a % without two hexadecimal digits"),
    ("postgres://u:hunter2%zz@h/app", "the URL contains a % without two hexadecimal digits"),
    ("postgres://u:hunter2%00@h/app", "the URL contains a % without two hexadecimal digits, or %00"),
    ("postgres://u:hunter2%ff@h/app", "the URL contains percent-encoded bytes that are not UTF-8"),
    ("postgres://u:hunter2@h/app extra", "the URL contains white space"),
    ("postgres://h/app?hunter2", "parameter 1 after the question mark does not have exactly one ="),
    ("postgres://h/app?user=u&password=a=hunter2", "parameter 2 after the question mark does not have exactly one ="),
    (
        "postgres://h/app?passwrod=hunter2",
        "parameter 1 after the question mark has a name that PostgreSQL does not know; correct it or leave it out; did you mean password?",
    ),
    ("postgres://h/app?hunter2=x", "parameter 1 after the question mark has a name that PostgreSQL does not know"),
    ("postgres://h/app?pgbouncer=true", "parameter 1 after the question mark has a name that PostgreSQL does not know"),
    ("postgres://h/app?ssl=false", "parameter 1 after the question mark has a name that PostgreSQL does not know"),
    ("postgres://h/app?sslmode=hunter2", "sslmode must be disable, allow, prefer, require, verify-ca or verify-full"),
    ("postgres://h/app?target_session_attrs=hunter2", "target_session_attrs must be any, read-write,"),
    ("postgres://h/app?load_balance_hosts=hunter2", "load_balance_hosts must be disable or random"),
    ("postgres://h/app?channel_binding=hunter2", "channel_binding must be disable, prefer or require"),
    ("postgres://h/app?connect_timeout=hunter2", "connect_timeout must be a number of seconds"),
    ("postgres://h/app?sslmode=require&sslrootcert=system", "sslrootcert=system needs sslmode=verify-full"),
    ("postgres://h/app?sslnegotiation=direct", "sslnegotiation=direct needs sslmode=require or stronger"),
    (
        "postgres://h/app?hostaddr=10.0.0.1&sslmode=verify-full",
        "hostaddr together with sslmode=verify-full is not supported",
    ),
    ("postgres://%40abstract/app", "an abstract socket (a host that starts with @) is not supported by imsync"),
    ("postgres://h/app?require_auth=scram-sha-256", "require_auth is not supported by imsync, leave it out"),
    ("postgres://h/app?sslpassword=hunter2", "sslpassword is not supported by imsync, leave it out"),
    ("postgres://h/app?sslcrl=/x", "sslcrl is not supported by imsync, leave it out"),
    ("postgres://h/app?sslcrldir=/x", "sslcrldir is not supported by imsync, leave it out"),
    ("postgres://h/app?sslkeylogfile=/x", "sslkeylogfile is not supported by imsync, leave it out"),
    ("postgres://h/app?requirepeer=postgres", "requirepeer is not supported by imsync, leave it out"),
    ("postgres://h/app?service=hunter2", "service is not supported by imsync, leave it out (write the settings"),
    ("postgres://h/app?scram_client_key=hunter2", "scram_client_key is not supported by imsync, leave it out"),
    ("postgres://h/app?oauth_client_secret=hunter2", "oauth_client_secret is not supported by imsync, leave it out"),
    (
        "postgres://h/app?gssencmode=require",
        "another value of gssencmode than disable or prefer is not supported by imsync",
    ),
    ("postgres://h/app?replication=database", "another value of replication than false, off, no or 0 is not supported"),
    ("postgres://h/app?sslsni=0", "another value of sslsni than 1 is not supported by imsync, leave it out"),
    ("postgres://h/app?sslcertmode=require", "another value of sslcertmode than allow is not supported by imsync"),
    ("postgres://h/app?ssl_min_protocol_version=TLSv1.3", "another value of ssl_min_protocol_version than"),
    ("postgres://h/app?ssl_max_protocol_version=TLSv1.2", "another value of ssl_max_protocol_version than"),
    ("host=h password='hunter2", "the connection string has a single quote without its closing one"),
    ("host=h password=a hunter2", "the connection string is not a list of keyword=value"),
    ("host=h passwrod=hunter2", "keyword 2 of the connection string has a name that PostgreSQL does not know"),
];

#[test]
fn what_is_refused_is_named_and_not_shown() {
    for (url, why) in REFUSED {
        let error = PgUrl::parse(url, &PgVariables::default()).unwrap_err();
        assert!(error.starts_with(why), "{url}: {error}");
        assert!(!error.contains(SECRET) && !error.contains("ter2"), "{url}: {error}");
    }
}

/// A parameter of the manual that is missing in the table would be refused without its name.
#[test]
fn every_parameter_of_the_manual_is_known() {
    let manual = "host hostaddr port dbname user password passfile require_auth channel_binding connect_timeout \
        client_encoding options application_name fallback_application_name keepalives keepalives_idle \
        keepalives_interval keepalives_count tcp_user_timeout replication gssencmode sslmode requiressl sslnegotiation \
        sslcompression sslcert sslkey sslkeylogfile sslpassword sslcertmode sslrootcert sslcrl sslcrldir sslsni \
        requirepeer ssl_min_protocol_version ssl_max_protocol_version min_protocol_version max_protocol_version \
        krbsrvname gsslib gssdelegation scram_client_key scram_server_key service servicefile target_session_attrs \
        load_balance_hosts oauth_issuer oauth_client_id oauth_client_secret oauth_scope";
    for name in manual.split_whitespace() {
        let url = format!("postgres://u@h/d?{name}=");
        PgUrl::parse(&url, &PgVariables::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn variables_are_defaults_and_the_url_wins() {
    let all = variables(&[
        ("PGHOST", "env.example.com"),
        ("PGPORT", "6000"),
        ("PGUSER", "env"),
        ("PGPASSWORD", SECRET),
        ("PGDATABASE", "envdb"),
        ("PGSSLMODE", "require"),
        ("PGCONNECT_TIMEOUT", "4"),
        ("PGTARGETSESSIONATTRS", "primary"),
        ("PGAPPNAME", "x"),
        ("PGOPTIONS", ""),
    ]);
    let url = PgUrl::parse("postgres://", &all).unwrap();
    assert_eq!(summary(&url), "env|hunter2|env.example.com:6000|envdb|Require|4|Primary");
    assert!(!url.has_password(), "the URL itself has none");
    let shown: Vec<String> = url.variables().iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        shown.join(" "),
        "PGHOST=env.example.com PGPORT=6000 PGDATABASE=envdb PGUSER=env PGPASSWORD=(not shown) PGCONNECT_TIMEOUT=4 \
         PGSSLMODE=require PGTARGETSESSIONATTRS=primary"
    );
    let url = PgUrl::parse("postgres://u:p@h:1/d?sslmode=disable&connect_timeout=2&target_session_attrs=any", &all);
    let url = url.unwrap();
    assert_eq!(summary(&url), "u|p|h:1|d|Disable|2|Any");
    assert_eq!(url.variables(), []);
}

#[test]
fn a_variable_that_imsync_cannot_honour_is_named() {
    for (name, value) in [
        ("PGREQUIREAUTH", "scram-sha-256"),
        ("PGSERVICE", "prod"),
        ("PGSSLCRL", "/x"),
        ("PGREQUIREPEER", "postgres"),
        ("PGGSSENCMODE", "require"),
        ("PGSSLMINPROTOCOLVERSION", "TLSv1.3"),
    ] {
        let error = PgUrl::parse("postgres://h/d", &variables(&[(name, value)])).unwrap_err();
        assert!(error.contains(name) && error.contains("not supported by imsync, unset the variable"), "{error}");
    }
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "no certificate").unwrap();
    let empty = empty.to_str().unwrap();
    for (parameters, why) in [
        ("sslmode=verify-full&sslrootcert=/no/ca.pem".to_owned(), "sslrootcert: cannot read /no/ca.pem: no such file"),
        ("sslmode=require&sslrootcert=ca.pem".to_owned(), "sslrootcert: cannot read ca.pem: no such file; a relative"),
        ("sslmode=require&sslcert=/no/c.pem".to_owned(), "sslcert: cannot read /no/c.pem: no such file"),
        (format!("sslmode=require&sslrootcert={empty}"), "sslrootcert: "),
        (format!("sslmode=prefer&sslcert={empty}&sslkey=/no/k"), "sslcert: "),
        ("sslrootcert=/".to_owned(), "sslrootcert: cannot read /: is a directory"),
    ] {
        let error = PgUrl::parse(&format!("postgres://u:hunter2@h/d?{parameters}"), &PgVariables::default());
        let error = error.unwrap_err();
        assert!(error.starts_with(why), "{error}");
    }
    // Without TLS, psql does not look at the file either.
    PgUrl::parse("postgres://h/d?sslmode=disable&sslrootcert=/no/ca.pem", &PgVariables::default()).unwrap();
}

#[test]
fn a_redacted_url_has_no_password() {
    for (url, redacted) in [
        ("postgres://imsync:hunter2@db.example.com:6432/app?sslmode=require", "imsync@db.example.com:6432/app"),
        ("postgres://u:hunter2@%2Fvar%2Frun%2Fpostgresql/app", "u@/var/run/postgresql/app"),
        ("postgres:///?host=/run/pg&user=me&dbname=app&password=hunter2", "me@/run/pg/app"),
        ("postgres://u:hunter2@[::1]:5433/app", "u@[::1]:5433/app"),
        ("postgres://user%40corp:hunter2@h/db%20x", "user@corp@h:5432/db x"),
        ("postgres://u:hunter2@a:1,b/app", "u@a:1,b:5432/app"),
        ("host=h user=u password=hunter2", "u@h:5432"),
    ] {
        let url = PgUrl::parse(url, &PgVariables::default()).unwrap();
        assert_eq!(url.redacted(), redacted);
        assert!(url.has_password() && !format!("{url:?}").contains(SECRET));
    }
}

#[test]
fn a_rotated_password_is_the_same_server() {
    let parse = |url: &str| PgUrl::parse(url, &PgVariables::default()).unwrap();
    let url = parse("postgres://imsync:old@db.example.com/app");
    for same in [
        "postgresql://imsync:new@db.example.com/app",
        "postgres://imsync2@DB.example.com:5432/app?sslmode=require",
        "postgres:///?host=db.example.com&dbname=app&user=me",
        "host=db.example.com dbname=app",
    ] {
        assert!(url.names_same_server(&parse(same)), "{same}");
    }
    for other in [
        "postgres://imsync:old@db2.example.com/app",
        "postgres://imsync:old@db.example.com:5433/app",
        "postgres://imsync:old@db.example.com/app2",
        "postgres://imsync:old@db.example.com",
        "postgres://imsync:old@db.example.com,db2.example.com/app",
    ] {
        assert!(!url.names_same_server(&parse(other)), "{other}");
    }
    assert!(!parse("postgres://a@h").names_same_server(&parse("postgres://b@h")), "the database has the user's name");
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "(postgres://|host=)?\\PC{0,40}") {
        if let Ok(url) = PgUrl::parse(&text, &PgVariables::default()) {
            let _ = url.redacted();
        }
    }
}
