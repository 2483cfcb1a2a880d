//! Which rooms a source file names: every path that begins at the crate's root, however it is written.
//!
//! Owns: reading Rust far enough to see paths (comments, strings, groups, `super`). Must not know: what is allowed.

use std::path::Path;

/// A path out of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Import {
    /// The first name below the crate's root (`*` for a star), or another crate's name.
    pub(super) room: String,
    /// Of another crate.
    pub(super) foreign: bool,
    pub(super) line: usize,
    /// Inside `#[cfg(test)]`.
    pub(super) in_test: bool,
}

impl Import {
    pub(super) fn shown(&self) -> String {
        if self.foreign { self.room.clone() } else { format!("crate::{}", self.room) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    text: String,
    line: usize,
}

/// Everything that `file` (relative to `src/`) imports or names from the crate's root, and `sqlx`.
pub(super) fn imports(file: &Path, text: &str) -> Vec<Import> {
    let tokens = tokens(text);
    let home = module_of(file);
    let main = file == Path::new("main.rs");
    let mut reader = Reader { tokens: &tokens, found: Vec::new() };
    // The inline modules and test items that are open here: the brace depth at which each began.
    let mut modules: Vec<(usize, String)> = Vec::new();
    let mut tests: Vec<usize> = Vec::new();
    let mut depth = 0;
    let mut test_ahead = false;
    let mut at = 0;
    while at < tokens.len() {
        let word = |offset: usize| tokens.get(at + offset).map_or("", |token| token.text.as_str());
        match word(0) {
            "#" if ["[", "cfg", "(", "test"].iter().enumerate().all(|(i, part)| word(i + 1) == *part) => {
                test_ahead = true;
                at += 5;
            }
            "mod" if word(2) == "{" => {
                modules.push((depth, word(1).to_owned()));
                at += 2;
            }
            "{" => {
                if std::mem::take(&mut test_ahead) {
                    tests.push(depth);
                }
                depth += 1;
                at += 1;
            }
            "}" => {
                depth = depth.saturating_sub(1);
                modules.retain(|(began, _)| *began < depth);
                tests.retain(|began| *began < depth);
                at += 1;
            }
            ";" => {
                test_ahead = false;
                at += 1;
            }
            start @ ("crate" | "super" | "self" | "sqlx" | "imsync")
                if word(1) == "::" && (at == 0 || tokens[at - 1].text != "::") =>
            {
                let mut here = home.clone();
                here.extend(modules.iter().map(|(_, name)| name.clone()));
                let in_test = test_ahead || !tests.is_empty();
                let mark = Import { room: start.to_owned(), foreign: true, line: tokens[at].line, in_test };
                match start {
                    "sqlx" => {
                        reader.found.push(mark);
                        at += 1;
                    }
                    "imsync" if !main => at += 1,
                    "imsync" => at = reader.tree(at + 2, &[], &mark),
                    _ => at = reader.tree(at, &here, &mark),
                }
            }
            _ => at += 1,
        }
    }
    reader.found
}

struct Reader<'a> {
    tokens: &'a [Token],
    found: Vec<Import>,
}

impl Reader<'_> {
    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text.as_str())
    }

    /// Follows a path or a use tree from `at`, standing in the module `here`; gives the place behind it.
    fn tree(&mut self, at: usize, here: &[String], mark: &Import) -> usize {
        let line = self.tokens.get(at).map_or(mark.line, |token| token.line);
        match self.text(at) {
            "{" => {
                let mut at = at + 1;
                while !matches!(self.text(at), "}" | "") {
                    at = self.tree(at, here, mark);
                    while !matches!(self.text(at), "," | "}" | "") {
                        at += 1;
                    }
                    if self.text(at) == "," {
                        at += 1;
                    }
                }
                at + 1
            }
            "crate" if self.text(at + 1) == "::" => self.tree(at + 2, &[], mark),
            "self" if self.text(at + 1) == "::" => self.tree(at + 2, here, mark),
            "super" if self.text(at + 1) == "::" => self.tree(at + 2, &here[..here.len().saturating_sub(1)], mark),
            "self" | "crate" | "super" | "" => at + 1,
            name if here.is_empty() => {
                let room = name.to_owned();
                self.found.push(Import { room, foreign: false, line, in_test: mark.in_test });
                self.skip(at + 1)
            }
            // Below our own room: nothing leaves it from here.
            _ => self.skip(at + 1),
        }
    }

    /// Behind the rest of a path, its groups included.
    fn skip(&self, mut at: usize) -> usize {
        while self.text(at) == "::" {
            at += 1;
            if self.text(at) == "{" {
                let mut depth = 0;
                loop {
                    match self.text(at) {
                        "{" => depth += 1,
                        "}" => depth -= 1,
                        _ => {}
                    }
                    at += 1;
                    if depth == 0 || self.text(at).is_empty() {
                        break;
                    }
                }
            } else {
                at += 1;
            }
        }
        at
    }
}

/// `a/mod.rs` and `a.rs` are the module `a`, `a/b.rs` is `a::b`; `lib.rs` and `main.rs` are the root.
fn module_of(file: &Path) -> Vec<String> {
    let mut parts: Vec<String> =
        file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        parts.pop();
    }
    parts
}

/// Words and signs with their lines; comments, strings, characters and lifetimes left out.
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

/// Behind the closing quotation mark of the string that opens at `from`.
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

/// Behind a character, or behind the mark of a lifetime.
fn quote_end(chars: &[char], from: usize) -> usize {
    match (chars.get(from + 1), chars.get(from + 2)) {
        (Some('\\'), _) => (find(chars, from + 3, |c| c == '\'') + 1).min(chars.len()),
        (Some(_), Some('\'')) => from + 3,
        _ => from + 1,
    }
}

/// The number of `#` of a raw string that opens at `at`.
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
