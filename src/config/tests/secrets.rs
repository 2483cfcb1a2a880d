//! Secrets: every form of them, and that none is ever shown.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use secrecy::ExposeSecret;

use super::super::{Environment, Loaded, Problems, Request, load, parse};
use super::{MINIMAL, plus, problems, with};

const KEY: &str = "secret_key = \"0123456789abcdef\"";
const URL: &str = "url = \"postgres://imsync@localhost/app\"";

struct Place {
    dir: tempfile::TempDir,
    environment: Vec<(&'static str, String)>,
}

impl Place {
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

    fn load(&self, text: &str, needs_secret_key: bool) -> Result<Loaded, Problems> {
        self.put("imsync.toml", text);
        load(&Request {
            path: None,
            environment: self.environment.iter().cloned().collect(),
            working_dir: self.dir.path().to_owned(),
            needs_secret_key,
        })
    }

    fn key(&self, text: &str) -> String {
        self.load(text, true).unwrap().config.im.secret_key.unwrap().expose_secret().to_owned()
    }

    fn told(&self, text: &str) -> String {
        self.load(text, true).unwrap_err().to_string().replace(&self.dir.path().display().to_string(), "DIR")
    }
}

#[test]
fn a_secret_comes_from_the_file_a_file_of_its_own_or_the_environment() {
    let mut place = Place::new();
    assert_eq!(place.key(MINIMAL), "0123456789abcdef");
    let by_file = with(KEY, "secret_key_file = \"key\"");
    place.put("key", "from-file\n");
    assert_eq!(place.key(&by_file), "from-file");
    place.put("key", "from-file\r\n");
    assert_eq!(place.key(&by_file), "from-file");
    place.put("key", "from-file");
    assert_eq!(place.key(&by_file), "from-file");
    // The environment wins over both, and then the file is not opened.
    place.set("IMSYNC_SECRET_KEY", "from-environment");
    assert_eq!(place.key(MINIMAL), "from-environment");
    assert_eq!(place.key(&with(KEY, "secret_key_file = \"gone\"")), "from-environment");
    assert_eq!(place.key(&with(KEY, "")), "from-environment");
    let path = place.put("elsewhere", "from-named-file\n");
    place.environment = vec![("IMSYNC_SECRET_KEY_FILE", path.display().to_string())];
    assert_eq!(place.key(MINIMAL), "from-named-file");
    place.environment = vec![("IMSYNC_SECRET_KEY_FILE", "elsewhere".to_owned())];
    assert_eq!(place.key(MINIMAL), "from-named-file");
}

#[test]
fn urls_and_the_webhook_come_the_same_ways() {
    let mut place = Place::new();
    place.put("source", "postgres://u:p@h/file\n");
    place.put("state", "postgres://u:p@h/state\n");
    place.put("hook", "https://h/file\n");
    let text =
        with(URL, "url_file = \"source\"") + "[state]\nurl_file = \"state\"\n[alerts]\nwebhook_file = \"hook\"\n";
    let config = place.load(&text, true).unwrap().config;
    assert_eq!(config.source.url.shown(), "u@h:5432/file");
    assert_eq!(config.state.url.shown(), "u@h:5432/state");
    assert_eq!(config.alerts.webhook.unwrap().expose_secret(), "https://h/file");
    place.set("IMSYNC_SOURCE_URL", "postgres://u@h/environment");
    place.set("IMSYNC_STATE_URL_FILE", "source");
    place.set("IMSYNC_ALERTS_WEBHOOK", "https://h/environment");
    let config = place.load(&text, true).unwrap().config;
    assert_eq!(config.source.url.shown(), "u@h:5432/environment");
    assert_eq!(config.state.url.shown(), "u@h:5432/file");
    assert_eq!(config.alerts.webhook.unwrap().expose_secret(), "https://h/environment");
}

#[test]
fn relative_names_are_looked_up_in_the_credentials_directory_alone_when_there_is_one() {
    let mut place = Place::new();
    place.put("key", "beside");
    let credentials = place.put("credentials/key", "credential");
    let text = with(KEY, "secret_key_file = \"key\"");
    assert_eq!(place.key(&text), "beside");
    place.set("CREDENTIALS_DIRECTORY", &credentials.parent().unwrap().display().to_string());
    assert_eq!(place.key(&text), "credential");
    fs::remove_file(&credentials).unwrap();
    assert_eq!(
        place.told(&text),
        "imsync.toml:10: im.secret_key_file: DIR/credentials/key cannot be read: there is no such file"
    );
    let absolute = place.dir.path().join("key").display().to_string();
    assert_eq!(place.key(&with(KEY, &format!("secret_key_file = \"{absolute}\""))), "beside");
}

#[test]
fn wrong_secrets_are_told_with_their_place() {
    let mut place = Place::new();
    place.put("empty", "\n");
    place.put("mysql", "mysql://u:hunter2@h/app");
    fs::write(place.dir.path().join("bytes"), b"\xff").unwrap();
    for (text, told) in [
        (
            with(KEY, "secret_key_file = \"gone\""),
            "imsync.toml:10: im.secret_key_file: DIR/gone cannot be read: there is no such file",
        ),
        (
            with(KEY, "secret_key_file = \"~/key\""),
            "imsync.toml:10: im.secret_key_file: DIR/~/key cannot be read: there is no such file; ~ is not expanded, write the whole path",
        ),
        (with(KEY, "secret_key_file = \"empty\""), "imsync.toml:10: im.secret_key_file: DIR/empty is empty"),
        (with(KEY, "secret_key_file = \"bytes\""), "imsync.toml:10: im.secret_key_file: DIR/bytes is not UTF-8"),
        (with(KEY, "secret_key_file = \"\""), "imsync.toml:10: im.secret_key_file: the name of the file is empty"),
        (
            with(KEY, "secret_key_file = \".\""),
            "imsync.toml:10: im.secret_key_file: DIR/. cannot be read: it is a directory",
        ),
        (
            with(KEY, "secret_key = \"\""),
            "imsync.toml:10: im.secret_key: it is empty; allowed is the app's secret key, in quotes",
        ),
        (
            with(KEY, "secret_key = \"hunter2 \""),
            "imsync.toml:10: im.secret_key: it contains white space or a control character; copy it again from the console; allowed is the app's secret key, in quotes",
        ),
        (
            with(KEY, "secret_key = 12345"),
            "imsync.toml:10: im.secret_key: found a number; allowed is the app's secret key, in quotes",
        ),
        (
            with(KEY, "secret_key = \"hunter2\"\nsecret_key_file = \"key\""),
            "imsync.toml:11: im.secret_key_file: secret_key is set too, and one secret has one place; remove one of the two",
        ),
        (
            with(URL, "url = \"postgres://h/app\"\nurl_file = \"key\""),
            "imsync.toml:4: source.url_file: url is set too, and one secret has one place; remove one of the two",
        ),
        (
            with(URL, "url_file = \"mysql\""),
            "imsync.toml:3: source.url_file: in that file: it does not begin with postgres:// or postgresql://",
        ),
        (
            plus("alerts", "webhook = \"hunter2\""),
            "imsync.toml:14: alerts.webhook: it is not an http or https URL with a host; allowed is an http or https URL with a host, in quotes",
        ),
    ] {
        assert_eq!(place.told(&text), told);
    }
    place.set("IMSYNC_SECRET_KEY", "");
    place.set("IMSYNC_SOURCE_URL", "mysql://u:hunter2@h/app");
    place.set("IMSYNC_STATE_URL", "postgres://h/app");
    place.set("IMSYNC_STATE_URL_FILE", "state");
    assert_eq!(
        place.told(MINIMAL),
        "environment: IMSYNC_SOURCE_URL: it does not begin with postgres:// or postgresql://\n\
         environment: IMSYNC_STATE_URL_FILE: IMSYNC_STATE_URL is set too, and one secret has one place; unset one of the two\n\
         environment: IMSYNC_SECRET_KEY: it is set but empty; give it a value or unset it"
    );
}

#[test]
fn commands_that_do_not_call_im_need_no_secret_key_and_open_no_file() {
    let place = Place::new();
    for text in [with(KEY, ""), with(KEY, "secret_key_file = \"gone\""), MINIMAL.to_owned()] {
        assert!(place.load(&text, false).unwrap().config.im.secret_key.is_none());
    }
    assert!(place.load(&with(KEY, "secret_key = 5"), false).is_err());
    assert!(place.load(&with(KEY, "secret_key = \"a\"\nsecret_key_file = \"b\""), false).is_err());
}

#[test]
fn files_that_everybody_can_read_are_remarked_upon() {
    let place = Place::new();
    let key = place.put("key", "hunter2");
    let text = with(KEY, "secret_key_file = \"key\"");
    assert!(place.load(&text, true).unwrap().notices.is_empty());
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let shown = key.display();
    assert_eq!(
        place.load(&text, true).unwrap().notices,
        [format!("{shown} (im.secret_key_file) can be read by everybody on this machine: chmod o= {shown}")]
    );
    // The configuration file itself, when a secret stands in it.
    let path = place.put("own.toml", MINIMAL);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let load = |text: &str| {
        fs::write(&path, text).unwrap();
        load(&Request {
            path: Some(PathBuf::from("own.toml")),
            environment: Environment::default(),
            working_dir: place.dir.path().to_owned(),
            needs_secret_key: false,
        })
        .unwrap()
        .notices
    };
    let remark = ["own.toml holds a secret and can be read by everybody on this machine: chmod o= own.toml"];
    assert_eq!(load(MINIMAL), remark);
    assert_eq!(load(&with(KEY, "").replace("imsync@", "imsync:hunter2@")), remark);
    assert_eq!(load(&with(KEY, "")), Vec::<String>::new());
}

#[test]
fn a_misspelt_variable_is_remarked_upon() {
    let environment = [("IMSYNC_SECRETKEY", "hunter2"), ("IMSYNC_SOMETHING", "x")].into_iter().collect();
    let loaded = parse(MINIMAL, "imsync.toml".as_ref(), &environment, true).unwrap();
    assert_eq!(loaded.notices, ["environment: IMSYNC_SECRETKEY is not read; did you mean IMSYNC_SECRET_KEY?"]);
}

#[test]
fn nothing_that_is_printed_shows_a_secret() {
    let text = with(KEY, "secret_key = \"hunter2-key\"").replace("imsync@", "imsync:hunter2-url@")
        + "[state]\nurl = \"postgres://u:hunter2-state@h/app?password=hunter2-query\"\n[alerts]\nwebhook = \"https://h/hunter2-hook\"\n";
    let environment: Environment = [("IMSYNC_SECRET_KEY", "hunter2-environment")].into_iter().collect();
    let request =
        Request { path: None, environment: environment.clone(), working_dir: PathBuf::new(), needs_secret_key: true };
    let loaded = parse(&text, "imsync.toml".as_ref(), &environment, true).unwrap();
    for printed in [
        format!("{loaded:#?}"),
        format!("{request:?}"),
        loaded.config.source.url.shown(),
        loaded.config.state.url.shown(),
        loaded.notices.join("\n"),
        loaded.config.not_yet_in_force().join("\n"),
    ] {
        assert!(!printed.contains("hunter2"), "{printed}");
    }
    assert!(format!("{loaded:?}").contains("imsync@localhost:5432/app"));
}

#[test]
fn a_secret_in_the_wrong_place_is_not_shown() {
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
        let told = problems(&text);
        assert!(!told.is_empty(), "\n{text}");
        assert!(!told.contains("hunter2") && !told.contains(&key), "{told}");
    }
}
