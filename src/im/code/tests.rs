//! The table is complete, in order, and equal to the documentation.

use super::code_table::{HTTP_STATUSES, VENDOR_CODES};
use super::*;

/// The classes as the vendor's documentation groups the codes. This is a second copy on purpose.
const EXPECTED: &[(CodeClass, &[i64])] = &[
    (CodeClass::Done, &[0]),
    (CodeClass::Retry, &[91000, 60008, 60013, 60014, 70169, 70202, 70500]),
    (CodeClass::SlowDown, &[60007, 60011, 60018, 60019]),
    (
        CodeClass::Credentials,
        &[
            60004, 60005, 60006, 60009, 60010, 90009, 60012, 60016, 60017, 60020, 60021, 60022, 70001, 70003, 70005,
            70009, 70013, 70014, 70016, 70020, 70050, 70051, 70052, 70346, 70347, 70348, 70398, 70403, 90045,
        ],
    ),
    (CodeClass::Request, &[60002, 60003, 90001, 90018]),
    (CodeClass::Row, &[90033, 90035, 60015, 70107, 70402]),
    (CodeClass::Unknown, &[90020, 90032, 90040, 90056]),
];

#[test]
fn the_table_holds_the_documented_codes_and_classes() {
    for (class, codes) in EXPECTED {
        for code in *codes {
            assert_eq!(Code::Vendor(*code).class(), *class, "code {code}");
            assert_eq!(Code::Vendor(*code).label(), code.to_string());
        }
    }
    assert_eq!(VENDOR_CODES.len(), EXPECTED.iter().map(|(_, codes)| codes.len()).sum::<usize>());
    assert!(VENDOR_CODES.is_sorted_by(|a, b| a.number < b.number), "the lookup is a binary search");
    for code in [141_000, 141_002, 141_999] {
        assert_eq!((Code::Vendor(code).class(), Code::Vendor(code).label()), (CodeClass::Credentials, "141xxx"));
    }
    assert_eq!(Code::Vendor(142_000).class(), CodeClass::Unknown);
    assert_eq!(Code::Vendor(12345).class(), CodeClass::Unknown);
    assert_eq!(Code::Vendor(-1).class(), CodeClass::Unknown);
}

#[test]
fn http_statuses_have_the_expected_classes() {
    let classes = |statuses: &[u16], class: CodeClass| {
        for status in statuses {
            assert_eq!(Code::Http(*status).class(), class, "HTTP {status}");
        }
    };
    classes(&[408, 425, 500, 502, 503, 504, 599, 201, 204], CodeClass::Retry);
    classes(&[429], CodeClass::SlowDown);
    classes(&[301, 302, 307, 401, 407], CodeClass::Credentials);
    classes(&[400, 402, 403, 404, 405, 406, 411, 413, 414, 422, 431, 451], CodeClass::Row);
    for code in [Code::Timeout, Code::Connect, Code::Malformed, Code::ForeignAnswer] {
        assert_eq!(code.class(), CodeClass::Retry);
    }
}

#[test]
fn the_number_of_labels_is_bounded() {
    let label = |code: Code| code.label();
    assert_eq!(label(Code::Http(404)), "http_4xx");
    assert_eq!(label(Code::Http(429)), "http_4xx");
    assert_eq!(label(Code::Http(502)), "http_5xx");
    assert_eq!(label(Code::Http(302)), "other");
    assert_eq!(label(Code::Vendor(777)), "other");
    assert_eq!(label(Code::Timeout), "timeout");
    assert_eq!(label(Code::Connect), "connect");
    assert_eq!(label(Code::Malformed), "malformed");
    assert_eq!(label(Code::ForeignAnswer), "malformed");
    for status in 0..=u16::MAX {
        let expected = match status {
            400..=499 => "http_4xx",
            500..=599 => "http_5xx",
            _ => "other",
        };
        assert_eq!(label(Code::Http(status)), expected, "HTTP {status}");
    }
}

#[test]
fn only_a_refusal_of_the_whole_call_was_not_applied() {
    for code in
        [Code::Vendor(91000), Code::Vendor(424_242), Code::Http(502), Code::Http(408), Code::Http(429), Code::Timeout]
    {
        assert!(code.maybe_applied(), "{code}");
    }
    for code in [Code::Vendor(90033), Code::Vendor(60007), Code::Vendor(70001), Code::Http(404)] {
        assert!(!code.maybe_applied(), "{code}");
    }
}

/// The vendor codes for which the question is answered with yes.
fn codes(question: fn(Code) -> bool) -> Vec<i64> {
    VENDOR_CODES.iter().map(|entry| entry.number).filter(|number| question(Code::Vendor(*number))).collect()
}

#[test]
fn the_documented_codes_concern_the_account_as_a_whole() {
    assert_eq!(codes(Code::concerns_account), [60015, 70107, 90035]);
    assert!(!Code::Vendor(424_242).concerns_account());
}

#[test]
fn special_handling_belongs_to_the_documented_codes() {
    assert_eq!(codes(Code::means_attribute_not_valid), [90033]);
    assert_eq!(codes(Code::counts_as_removed), [70107]);
    assert_eq!(codes(Code::limits_whole_app), [60011]);
    assert_eq!(codes(Code::means_usersig_expired), [70001, 70052]);
    assert!(codes(Code::is_network_failure).is_empty());
    assert!(Code::Connect.is_network_failure() && !Code::Timeout.is_network_failure());
    assert!(!Code::Http(429).limits_whole_app());
    assert!(codes(Code::comes_from_gateway).is_empty());
    for code in [400, 403, 404, 405, 413, 422].map(Code::Http).into_iter().chain([Code::ForeignAnswer]) {
        assert!(code.comes_from_gateway(), "{code}");
    }
    for code in [401, 407, 408, 429, 302, 502].map(Code::Http).into_iter().chain([Code::Malformed, Code::Timeout]) {
        assert!(!code.comes_from_gateway(), "{code}");
    }
}

#[test]
fn a_number_is_the_vendors_or_the_http_status() {
    assert_eq!(Code::Vendor(90033).number(), 90033);
    assert_eq!(Code::Http(502).number(), 502);
    assert_eq!(Code::ForeignAnswer.number(), 200);
    for code in [Code::Timeout, Code::Connect, Code::Malformed] {
        assert_eq!(code.number(), 0);
    }
}

const DOCUMENTATION: &str = include_str!("../../../docs/im-error-codes.md");

/// The name of a class in the documentation, and what imsync does about it.
fn described(class: CodeClass) -> (&'static str, &'static str) {
    match class {
        CodeClass::Done => ("done", "continues"),
        CodeClass::Retry => (
            "try again",
            "retries the call, with growing delays, for up to `im.retry_for`; the outcome counts as unknown",
        ),
        CodeClass::SlowDown => ("slow down", "waits, lowers its call rate for a while, retries the call"),
        CodeClass::Credentials => {
            ("credentials or app", "stops the pass, rejects no account, tries again in the next pass")
        }
        CodeClass::Request => ("request", "splits the batch; an account that still fails alone is rejected"),
        CodeClass::Row => {
            ("row", "splits the batch until the account stands alone, rejects that account, pushes the others")
        }
        CodeClass::Unknown => ("unknown", "the same as for \"row\", while only some accounts fail with the code"),
    }
}

fn scope_name(scope: CodeScope) -> &'static str {
    match scope {
        CodeScope::Account => "account",
        CodeScope::Attribute => "attribute",
        CodeScope::Request => "request",
        CodeScope::App => "app",
        CodeScope::Unknown => "unknown",
    }
}

/// The lines of the documentation that begin with a code, made from the table.
fn expected_lines() -> Vec<String> {
    let groups = [
        ("timeout", Code::Timeout),
        ("connect", Code::Connect),
        ("malformed", Code::Malformed),
        ("malformed, a complete answer", Code::ForeignAnswer),
        ("malformed, an unclear list", Code::UnmatchedErrorList),
        ("141000 to 141999", Code::Vendor(141_002)),
        ("HTTP 300 to 399", Code::Http(302)),
        ("HTTP 401, 407", Code::Http(401)),
        ("HTTP 408, 425", Code::Http(408)),
        ("HTTP 413", Code::Http(413)),
        ("HTTP 429", Code::Http(429)),
        ("HTTP 400 to 499, the others", Code::Http(404)),
        ("HTTP 500 to 599", Code::Http(502)),
        ("HTTP, any other than 200", Code::Http(204)),
        ("any other code", Code::Vendor(1)),
    ];
    assert_eq!(groups.iter().filter(|(name, _)| name.starts_with("HTTP")).count(), HTTP_STATUSES.len());
    let numbers = VENDOR_CODES.iter().map(|entry| (entry.number.to_string(), Code::Vendor(entry.number)));
    numbers
        .chain(groups.map(|(name, code)| (name.to_owned(), code)))
        .map(|(name, code)| {
            let CodeFacts { class, scope, meaning, remedy, .. } = code.facts();
            format!("| {name} | {} | {} | {meaning} | {remedy} |", described(*class).0, scope_name(*scope))
        })
        .collect()
}

/// A changed entry of the table without its changed line in the documentation fails here, and the reverse.
#[test]
fn the_documentation_shows_the_table() {
    let classes = [
        CodeClass::Done,
        CodeClass::Retry,
        CodeClass::SlowDown,
        CodeClass::Credentials,
        CodeClass::Request,
        CodeClass::Row,
        CodeClass::Unknown,
    ];
    let mut expected = expected_lines();
    expected.extend(classes.map(described).map(|(name, action)| format!("| {name} | {action} |")));
    let list = |question: fn(Code) -> bool| codes(question).iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
    for (question, action) in [
        (Code::means_usersig_expired as fn(Code) -> bool, "makes a fresh UserSig and repeats the call once"),
        (Code::means_attribute_not_valid, "reads the app's attribute names to tell a missing name from a wrong value"),
        (
            Code::means_unknown_account,
            "counts a removal that fails with it as done; asks `account_check` which accounts of a refused batch it concerns, or creates them (`im.unknown_accounts`)",
        ),
        (Code::limits_whole_app, "lowers the rate of all commands, not only of the one that was called"),
    ] {
        expected.push(format!("| {} | {action} |", list(question)));
    }
    let shown: Vec<&str> = DOCUMENTATION.lines().collect();
    let missing: Vec<&String> = expected.iter().filter(|line| !shown.contains(&line.as_str())).collect();
    assert!(missing.is_empty(), "docs/im-error-codes.md lacks these lines:\n{missing:#?}");
    let is_code = |line: &&&str| line.starts_with("| ") && line.matches(" | ").count() == 4;
    let surplus: Vec<&&str> = shown
        .iter()
        .filter(is_code)
        .filter(|line| !line.contains("| scope |") && !expected.iter().any(|expected| expected == **line))
        .collect();
    assert!(surplus.is_empty(), "docs/im-error-codes.md shows codes that are not in the table:\n{surplus:#?}");
}
