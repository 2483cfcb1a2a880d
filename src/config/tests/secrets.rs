//! Secrets: the ways to give one, and that no message shows one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use secrecy::ExposeSecret;

use super::super::environment::Environment;
use super::super::load::{LoadRequest, LoadedConfig, load, parse};
use super::super::problems::Problems;
use super::{MINIMAL, plus, problems, with};

const KEY: &str = "secret_key = \"0123456789abcdef\"";
const URL: &str = "url = \"postgres://imsync@localhost/app\"";

/// A directory with files, and an environment.
struct SecretFixture {
    dir: tempfile::TempDir,
    environment: Vec<(&'static str, String)>,
}

impl SecretFixture {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), environment: Vec::new() }
    }

    fn put(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn set(&mut self, variable: &'static str, value: &str) {
        self.environment.push((variable, value.to_owned()));
    }

    fn load(&self, text: &str, needs_secret_key: bool) -> Result<LoadedConfig, Problems> {
        self.put("imsync.toml", text);
        load(&LoadRequest {
            path: None,
            environment: self.environment.iter().cloned().collect(),
            working_dir: self.dir.path().to_owned(),
            needs_secret_key,
        })
    }

    fn key(&self, text: &str) -> String {
        self.load(text, true).unwrap().config.im.secret_key.unwrap().expose_secret().to_owned()
    }

    fn error(&self, text: &str) -> String {
        self.load(text, true).unwrap_err().to_string().replace(&self.dir.path().display().to_string(), "DIR")
    }
}

#[test]
fn a_secret_is_read_by_value_by_file_or_from_the_environment() {
    let mut fixture = SecretFixture::new();
    assert_eq!(fixture.key(MINIMAL), "0123456789abcdef");
    let by_file = with(KEY, "secret_key_file = \"key\"");
    fixture.put("key", "from-file\n");
    assert_eq!(fixture.key(&by_file), "from-file");
    fixture.put("key", "from-file\r\n");
    assert_eq!(fixture.key(&by_file), "from-file");
    fixture.put("key", "from-file");
    assert_eq!(fixture.key(&by_file), "from-file");
    // The environment takes precedence over both, and then the file is not opened.
    fixture.set("IMSYNC_SECRET_KEY", "from-environment");
    assert_eq!(fixture.key(MINIMAL), "from-environment");
    assert_eq!(fixture.key(&with(KEY, "secret_key_file = \"gone\"")), "from-environment");
    assert_eq!(fixture.key(&with(KEY, "")), "from-environment");
    let path = fixture.put("elsewhere", "from-named-file\n");
    fixture.environment = vec![("IMSYNC_SECRET_KEY_FILE", path.display().to_string())];
    assert_eq!(fixture.key(MINIMAL), "from-named-file");
    fixture.environment = vec![("IMSYNC_SECRET_KEY_FILE", "elsewhere".to_owned())];
    assert_eq!(fixture.key(MINIMAL), "from-named-file");
}

#[test]
fn urls_and_the_webhook_can_be_given_in_the_same_ways() {
    let mut fixture = SecretFixture::new();
    fixture.put("source", "postgres://u:p@h/file\n");
    fixture.put("state", "postgres://u:p@h/state\n");
    fixture.put("hook", "https://h/file\n");
    let text =
        with(URL, "url_file = \"source\"") + "[state]\nurl_file = \"state\"\n[alerts]\nwebhook_file = \"hook\"\n";
    let config = fixture.load(&text, true).unwrap().config;
    assert_eq!(config.source.url.redacted(), "u@h:5432/file");
    assert_eq!(config.state.url.redacted(), "u@h:5432/state");
    assert_eq!(config.alerts.webhook.unwrap().expose_secret(), "https://h/file");
    fixture.set("IMSYNC_SOURCE_URL", "postgres://u@h/environment");
    fixture.set("IMSYNC_STATE_URL_FILE", "source");
    fixture.set("IMSYNC_ALERTS_WEBHOOK", "https://h/environment");
    let config = fixture.load(&text, true).unwrap().config;
    assert_eq!(config.source.url.redacted(), "u@h:5432/environment");
    assert_eq!(config.state.url.redacted(), "u@h:5432/file");
    assert_eq!(config.alerts.webhook.unwrap().expose_secret(), "https://h/environment");
}

#[test]
fn a_credentials_directory_holds_all_relative_secret_files() {
    let mut fixture = SecretFixture::new();
    fixture.put("key", "beside");
    let credentials = fixture.put("credentials/key", "credential");
    let text = with(KEY, "secret_key_file = \"key\"");
    assert_eq!(fixture.key(&text), "beside");
    fixture.set("CREDENTIALS_DIRECTORY", &credentials.parent().unwrap().display().to_string());
    assert_eq!(fixture.key(&text), "credential");
    fs::remove_file(&credentials).unwrap();
    assert_eq!(
        fixture.error(&text),
        "imsync.toml:10: im.secret_key_file: cannot read DIR/credentials/key: no such file or directory; correct the path, or create the file"
    );
    let absolute = fixture.dir.path().join("key").display().to_string();
    assert_eq!(fixture.key(&with(KEY, &format!("secret_key_file = \"{absolute}\""))), "beside");
}

#[test]
fn an_invalid_secret_is_reported_with_its_key_and_line() {
    let mut fixture = SecretFixture::new();
    fixture.put("empty", "\n");
    fixture.put("mysql", "mysql://u:hunter2@h/app");
    fs::write(fixture.dir.path().join("bytes"), b"\xff").unwrap();
    for (text, expected) in [
        (
            with(KEY, "secret_key_file = \"gone\""),
            "imsync.toml:10: im.secret_key_file: cannot read DIR/gone: no such file or directory; correct the path, or create the file",
        ),
        (
            with(KEY, "secret_key_file = \"~/key\""),
            "imsync.toml:10: im.secret_key_file: cannot read DIR/~/key: no such file or directory; correct the path, or create the file; ~ is not expanded, write the full path",
        ),
        (
            with(KEY, "secret_key_file = \"empty\""),
            "imsync.toml:10: im.secret_key_file: DIR/empty is empty; write the secret into it",
        ),
        (with(KEY, "secret_key_file = \"bytes\""), "imsync.toml:10: im.secret_key_file: DIR/bytes is not UTF-8"),
        (with(KEY, "secret_key_file = \"\""), "imsync.toml:10: im.secret_key_file: the path is empty"),
        (
            with(KEY, "secret_key_file = \".\""),
            "imsync.toml:10: im.secret_key_file: cannot read DIR/.: it is a directory; name a file in it",
        ),
        (
            with(KEY, "secret_key = \"\""),
            "imsync.toml:10: im.secret_key: the value is empty; expected the app's secret key",
        ),
        (
            with(KEY, "secret_key = \"hunter2 \""),
            "imsync.toml:10: im.secret_key: the key contains white space or a control character; copy it again from the console; expected the app's secret key",
        ),
        (
            with(KEY, "secret_key = 12345"),
            "imsync.toml:10: im.secret_key: found a number, expected the app's secret key",
        ),
        (
            with(KEY, "secret_key = \"hunter2\"\nsecret_key_file = \"key\""),
            "imsync.toml:11: im.secret_key_file: secret_key is also set; remove one of the two",
        ),
        (
            with(URL, "url = \"postgres://h/app\"\nurl_file = \"key\""),
            "imsync.toml:4: source.url_file: url is also set; remove one of the two",
        ),
        (
            with(URL, "url_file = \"mysql\""),
            "imsync.toml:3: source.url_file: invalid file content: the URL does not start with postgres:// or postgresql://",
        ),
        (
            plus("alerts", "webhook = \"hunter2\""),
            "imsync.toml:14: alerts.webhook: the value is not an http or https URL with a host; expected a URL such as \"https://alerts.example.com/imsync\"",
        ),
    ] {
        assert_eq!(fixture.error(&text), expected);
    }
    fixture.set("IMSYNC_SECRET_KEY", "");
    fixture.set("IMSYNC_SOURCE_URL", "mysql://u:hunter2@h/app");
    fixture.set("IMSYNC_STATE_URL", "postgres://h/app");
    fixture.set("IMSYNC_STATE_URL_FILE", "state");
    assert_eq!(
        fixture.error(MINIMAL),
        "environment: IMSYNC_SOURCE_URL: the URL does not start with postgres:// or postgresql://\n\
         environment: IMSYNC_STATE_URL_FILE: IMSYNC_STATE_URL is also set; unset one of the two\n\
         environment: IMSYNC_SECRET_KEY: the variable is set but empty; give it a value or unset it"
    );
}

#[test]
fn commands_that_do_not_call_im_need_no_secret_key() {
    let fixture = SecretFixture::new();
    for text in [with(KEY, ""), with(KEY, "secret_key_file = \"gone\""), MINIMAL.to_owned()] {
        assert!(fixture.load(&text, false).unwrap().config.im.secret_key.is_none());
    }
    assert!(fixture.load(&with(KEY, "secret_key = 5"), false).is_err());
    assert!(fixture.load(&with(KEY, "secret_key = \"a\"\nsecret_key_file = \"b\""), false).is_err());
}

#[test]
fn a_world_readable_secret_causes_a_warning() {
    let fixture = SecretFixture::new();
    let key = fixture.put("key", "hunter2");
    let text = with(KEY, "secret_key_file = \"key\"");
    assert!(fixture.load(&text, true).unwrap().warnings.is_empty());
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let shown = key.display();
    assert_eq!(
        fixture.load(&text, true).unwrap().warnings,
        [format!("{shown} (im.secret_key_file) is readable by every user of this machine; run: chmod o= {shown}")]
    );
    // The same for the configuration file if it contains a secret.
    let path = fixture.put("own.toml", MINIMAL);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let load = |text: &str| {
        fs::write(&path, text).unwrap();
        load(&LoadRequest {
            path: Some(PathBuf::from("own.toml")),
            environment: Environment::default(),
            working_dir: fixture.dir.path().to_owned(),
            needs_secret_key: false,
        })
        .unwrap()
        .warnings
    };
    let warning = ["own.toml contains a secret and is readable by every user of this machine; run: chmod o= own.toml"];
    assert_eq!(load(MINIMAL), warning);
    assert_eq!(load(&with(KEY, "").replace("imsync@", "imsync:hunter2@")), warning);
    assert_eq!(load(&with(KEY, "")), Vec::<String>::new());
}

#[test]
fn a_misspelled_variable_causes_a_warning() {
    let environment = [("IMSYNC_SECRETKEY", "hunter2"), ("IMSYNC_SOMETHING", "x")].into_iter().collect();
    let loaded = parse(MINIMAL, "imsync.toml".as_ref(), &environment, true).unwrap();
    assert_eq!(
        loaded.warnings,
        ["environment: imsync does not read IMSYNC_SECRETKEY; did you mean IMSYNC_SECRET_KEY?"]
    );
}

#[test]
fn no_output_contains_a_secret() {
    let text = with(KEY, "secret_key = \"hunter2-key\"").replace("imsync@", "imsync:hunter2-url@")
        + "[state]\nurl = \"postgres://u:hunter2-state@h/app?password=hunter2-query\"\n[alerts]\nwebhook = \"https://h/hunter2-hook\"\n";
    let environment: Environment = [("IMSYNC_SECRET_KEY", "hunter2-environment")].into_iter().collect();
    let request = LoadRequest {
        path: None,
        environment: environment.clone(),
        working_dir: PathBuf::new(),
        needs_secret_key: true,
    };
    let loaded = parse(&text, "imsync.toml".as_ref(), &environment, true).unwrap();
    for printed in [
        format!("{loaded:#?}"),
        format!("{request:?}"),
        loaded.config.source.url.redacted(),
        loaded.config.state.url.redacted(),
        loaded.warnings.join("\n"),
        loaded.config.unimplemented_key_warnings().join("\n"),
    ] {
        assert!(!printed.contains("hunter2"), "{printed}");
    }
    assert!(format!("{loaded:?}").contains("imsync@localhost:5432/app"));
}

#[test]
fn a_secret_in_the_wrong_key_is_not_shown() {
    let key = "0123456789abcdef".repeat(4);
    for text in [
        with(KEY, &format!("secret_key_file = \"{key}\"")),
        with(KEY, &format!("secretkey = \"{key}\"")),
        with("\"administrator\"", &format!("\"{key}\"")),
        with(URL, "url_file = \"postgres://u:hunter2@h/app\""),
        with("\"public.users\"", "\"postgres://u:hunter2@h/app\""),
        with("region = \"singapore\"", "base_url = \"http://u:hunter2@h\""),
        with("region = \"singapore\"", "base_url = \"http://u:hunter2@h:x\""),
        with("\"singapore\"", "\"https://h/hunter2\""),
        plus("http", "listen = \"https://h/hunter2\""),
        plus("schedule", "interval = \"https://h/hunter2\""),
    ] {
        let reported = problems(&text);
        assert!(!reported.is_empty(), "\n{text}");
        assert!(!reported.contains("hunter2") && !reported.contains(&key), "{reported}");
    }
}
