//! What differs from run to run: addresses, names of databases and roles, paths, process ids, times.
//!
//! Owns: the placeholder of each. Must not know: mistakes, imsync's messages.

/// The password of every role.
pub(super) const PASSWORD: &str = "correct-horse";

/// Placeholders and what they stand for, in both directions.
#[derive(Clone, Debug, Default)]
pub(super) struct Placeholders(Vec<(&'static str, String)>);

impl Placeholders {
    pub(super) fn add(&mut self, placeholder: &'static str, stands_for: impl Into<String>) {
        self.0.push((placeholder, stands_for.into()));
    }

    /// A text of a mistake, as imsync gets it.
    pub(super) fn fill(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (placeholder, stands_for)| text.replace(placeholder, stands_for))
    }

    /// A text of imsync, as it is pinned.
    pub(super) fn name(&self, text: &str) -> String {
        let mut longest_first: Vec<_> = self.0.iter().collect();
        longest_first.sort_by_key(|(_, stands_for)| std::cmp::Reverse(stands_for.len()));
        let text = longest_first
            .into_iter()
            .fold(text.to_owned(), |text, (placeholder, stands_for)| text.replace(stands_for, placeholder));
        let named: Vec<String> = text.lines().map(|line| words(&process(line))).collect();
        named.join("\n")
    }
}

/// Replaces process id and host of the holder of a lease: `(pid 7 on host)`.
fn process(line: &str) -> String {
    let Some((before, rest)) = line.split_once("(pid ") else { return line.to_owned() };
    let Some((_, after)) = rest.split_once(')') else { return line.to_owned() };
    format!("{before}(pid <pid> on <host>){after}")
}

/// Replaces times, durations of passes, and the fields of the log that differ in each run.
fn words(line: &str) -> String {
    let mut previous = "";
    let words = line.split(' ').map(|word| {
        let (plain, end) = word.split_at(word.trim_end_matches([',', ';', ')']).len());
        let named = match plain.split_once('=') {
            Some((name @ ("duration_ms" | "request_id"), _)) => format!("{name}=<{name}>"),
            _ if previous == "RequestId:" => "<request_id>".to_owned(),
            _ if previous == "in" && plain.parse::<f64>().is_ok() => "<seconds>".to_owned(),
            _ if chrono::DateTime::parse_from_rfc3339(plain).is_ok() => "<time>".to_owned(),
            _ => plain.to_owned(),
        };
        previous = word;
        named + end
    });
    words.collect::<Vec<_>>().join(" ")
}
