//! The paths that a source file names, however they are written, resolved from the crate's root.
//!
//! Owns: reading Rust far enough to see paths (comments, strings, groups, `super`). Must not know: what is allowed.

use std::collections::HashSet;
use std::path::Path;

/// A path that a file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Import {
    /// The names from the crate's root on (`*` for a star), or the name of another crate.
    pub(super) path: Vec<String>,
    /// The path belongs to another crate.
    pub(super) foreign: bool,
    pub(super) line: usize,
    /// The path stands inside `#[cfg(test)]`.
    pub(super) in_test: bool,
}

impl Import {
    /// The module below the crate's root, or the other crate.
    pub(super) fn module(&self) -> &str {
        self.path.first().map_or("", String::as_str)
    }

    pub(super) fn display(&self) -> String {
        if self.foreign { self.module().to_owned() } else { format!("crate::{}", self.module()) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    text: String,
    line: usize,
}

/// Every path in `file` (relative to `src/`) that starts at `crate`, `super`, `self` or a child module, and `sqlx`.
pub(super) fn imports(file: &Path, text: &str) -> Vec<Import> {
    let tokens = tokens(text);
    let children = child_modules(&tokens);
    let mut reader = Reader { tokens: &tokens, found: Vec::new() };
    let mut scope = Scope::new(module_of(file), file == Path::new("main.rs"));
    let mut at = 0;
    while at < tokens.len() {
        let word = |offset: usize| tokens.get(at + offset).map_or("", |token| token.text.as_str());
        if let Some(length) = scope.enter(word) {
            at += length;
            continue;
        }
        let before = |count: usize| at.checked_sub(count).map_or("", |at| tokens[at].text.as_str());
        // `pub(in crate::push)` limits who sees an item; it imports nothing.
        let limits_visibility = before(1) == "in" && before(2) == "(";
        let starts_path = word(1) == "::" && !matches!(before(1), "::" | ".") && !limits_visibility;
        let mark = Mark { line: tokens[at].line, in_test: scope.in_test() };
        at = match word(0) {
            "sqlx" if starts_path => {
                reader.push(vec!["sqlx".to_owned()], true, mark);
                at + 1
            }
            "imsync" if starts_path && scope.is_binary => reader.tree(at + 2, &[], mark),
            "crate" | "super" | "self" if starts_path => reader.tree(at, &scope.here(), mark),
            child if starts_path && children.contains(child) => reader.tree(at, &scope.here(), mark),
            _ => at + 1,
        };
    }
    reader.found
}

/// The names in `mod name;`.
fn child_modules(tokens: &[Token]) -> HashSet<&str> {
    let words: Vec<&str> = tokens.iter().map(|token| token.text.as_str()).collect();
    words.windows(3).filter(|window| window[0] == "mod" && window[2] == ";").map(|window| window[1]).collect()
}

/// The module and the test item in which a token stands.
struct Scope {
    home: Vec<String>,
    is_binary: bool,
    depth: usize,
    /// The inline modules that are open, each with the brace depth at which it began.
    modules: Vec<(usize, String)>,
    /// The brace depths at which the open test items began.
    tests: Vec<usize>,
    /// `#[cfg(test)]` was read and its item has not begun yet.
    test_attribute: bool,
}

impl Scope {
    fn new(home: Vec<String>, is_binary: bool) -> Self {
        Self { home, is_binary, depth: 0, modules: Vec::new(), tests: Vec::new(), test_attribute: false }
    }

    /// Takes tokens that open or close a scope; returns how many it took.
    fn enter<'a>(&mut self, word: impl Fn(usize) -> &'a str) -> Option<usize> {
        match word(0) {
            "#" if ["[", "cfg", "(", "test"].iter().enumerate().all(|(i, part)| word(i + 1) == *part) => {
                self.test_attribute = true;
                return Some(5);
            }
            "mod" if word(2) == "{" => {
                self.modules.push((self.depth, word(1).to_owned()));
                return Some(2);
            }
            "{" => {
                if std::mem::take(&mut self.test_attribute) {
                    self.tests.push(self.depth);
                }
                self.depth += 1;
            }
            "}" => {
                self.depth = self.depth.saturating_sub(1);
                let depth = self.depth;
                self.modules.retain(|(began, _)| *began < depth);
                self.tests.retain(|began| *began < depth);
            }
            ";" => self.test_attribute = false,
            _ => return None,
        }
        Some(1)
    }

    fn in_test(&self) -> bool {
        self.test_attribute || !self.tests.is_empty()
    }

    fn here(&self) -> Vec<String> {
        self.home.iter().chain(self.modules.iter().map(|(_, name)| name)).cloned().collect()
    }
}

/// Where a path was read.
#[derive(Clone, Copy)]
struct Mark {
    line: usize,
    in_test: bool,
}

struct Reader<'a> {
    tokens: &'a [Token],
    found: Vec<Import>,
}

impl Reader<'_> {
    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text.as_str())
    }

    fn push(&mut self, path: Vec<String>, foreign: bool, mark: Mark) {
        self.found.push(Import { path, foreign, line: mark.line, in_test: mark.in_test });
    }

    /// Follows a path or a use tree from `at` with `prefix` already read; returns the position behind it.
    fn tree(&mut self, at: usize, prefix: &[String], mark: Mark) -> usize {
        let mark = Mark { line: self.tokens.get(at).map_or(mark.line, |token| token.line), ..mark };
        let more = self.text(at + 1) == "::";
        match self.text(at) {
            "{" => self.group(at + 1, prefix, mark),
            "crate" if more => self.tree(at + 2, &[], mark),
            "self" if more => self.tree(at + 2, prefix, mark),
            "super" if more => self.tree(at + 2, &prefix[..prefix.len().saturating_sub(1)], mark),
            name if name == "*" || name.chars().all(|c| c.is_alphanumeric() || c == '_') => {
                let mut path = prefix.to_vec();
                if !matches!(name, "self" | "crate" | "super" | "") {
                    path.push(name.to_owned());
                }
                if more && name != "*" {
                    return self.tree(at + 2, &path, mark);
                }
                if !path.is_empty() {
                    self.push(path, false, mark);
                }
                at + 1
            }
            // A turbofish or another sign ends the path.
            _ => {
                if !prefix.is_empty() {
                    self.push(prefix.to_vec(), false, mark);
                }
                at + 1
            }
        }
    }

    fn group(&mut self, mut at: usize, prefix: &[String], mark: Mark) -> usize {
        while !matches!(self.text(at), "}" | "") {
            at = self.tree(at, prefix, mark);
            while !matches!(self.text(at), "," | "}" | "") {
                at += 1;
            }
            if self.text(at) == "," {
                at += 1;
            }
        }
        at + 1
    }
}

/// The module that a file is: `a/mod.rs` and `a.rs` are `a`, `a/b.rs` is `a::b`; `lib.rs` and `main.rs` are the root.
pub(super) fn module_of(file: &Path) -> Vec<String> {
    let mut parts: Vec<String> =
        file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        parts.pop();
    }
    parts
}

/// The words and signs with their lines, without comments, strings, characters and lifetimes.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let (first, next) = (chars[at], chars.get(at + 1).copied().unwrap_or('\0'));
        let end = match first {
            '/' if next == '/' => find(&chars, at, |c| c == '\n'),
            '/' if next == '*' => comment_end(&chars, at),
            '"' => string_end(&chars, at),
            '\'' => quote_end(&chars, at),
            'r' | 'b' | 'c' if raw_start(&chars, at).is_some() => raw_end(&chars, at),
            'b' | 'c' if next == '"' => string_end(&chars, at + 1),
            'b' if next == '\'' => quote_end(&chars, at + 1),
            c if c.is_whitespace() => at + 1,
            c if c.is_alphanumeric() || c == '_' => {
                let end = find(&chars, at, |c| !c.is_alphanumeric() && c != '_');
                tokens.push(Token { text: chars[at..end].iter().collect(), line });
                end
            }
            ':' if next == ':' => {
                tokens.push(Token { text: "::".to_owned(), line });
                at + 2
            }
            c => {
                tokens.push(Token { text: c.to_string(), line });
                at + 1
            }
        };
        line += chars[at..end].iter().filter(|c| **c == '\n').count();
        at = end;
    }
    tokens
}

fn find(chars: &[char], from: usize, found: impl Fn(char) -> bool) -> usize {
    (from..chars.len()).find(|at| found(chars[*at])).unwrap_or(chars.len())
}

fn comment_end(chars: &[char], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0);
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => {
                depth += 1;
                at += 2;
            }
            ('*', '/') => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    chars.len()
}

/// The position behind the string that opens at `from`.
fn string_end(chars: &[char], from: usize) -> usize {
    let mut at = from + 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// The position behind a character literal, or behind the apostrophe of a lifetime.
fn quote_end(chars: &[char], from: usize) -> usize {
    match (chars.get(from + 1), chars.get(from + 2)) {
        (Some('\\'), _) => (find(chars, from + 3, |c| c == '\'') + 1).min(chars.len()),
        (Some(_), Some('\'')) => from + 3,
        _ => from + 1,
    }
}

/// The number of `#` of the raw string that opens at `at`; `None` when none opens there.
fn raw_start(chars: &[char], at: usize) -> Option<usize> {
    let at = if matches!(chars[at], 'b' | 'c') { at + 1 } else { at };
    if chars.get(at) != Some(&'r') {
        return None;
    }
    let end = find(chars, at + 1, |c| c != '#');
    (chars.get(end) == Some(&'"')).then_some(end - at - 1)
}

fn raw_end(chars: &[char], from: usize) -> usize {
    let hashes = raw_start(chars, from).unwrap_or(0);
    let open = find(chars, from, |c| c == '"');
    let closing =
        |at: &usize| chars[*at] == '"' && chars[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
    (open + 1..chars.len()).find(closing).map_or(chars.len(), |at| at + 1 + hashes)
}
