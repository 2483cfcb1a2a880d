//! The table is whole, in order, and what the documentation shows.

use super::*;

/// The classes as the vendor's documentation groups the codes, written out a second time on purpose.
const EXPECTED: &[(Class, &[i64])] = &[
    (Class::Done, &[0]),
    (Class::Retry, &[91000, 60008, 60013, 60014, 70169, 70202, 70500]),
    (Class::SlowDown, &[60007, 60011, 60018, 60019]),
    (
        Class::Credentials,
        &[
            60004, 60005, 60006, 60009, 60010, 90009, 60012, 60016, 60017, 60020, 60021, 70001, 70003, 70005, 70009,
            70013, 70014, 70016, 70020, 70050, 70051, 70052, 90045,
        ],
    ),
    (Class::Request, &[60002, 60003, 90001, 90018]),
    (Class::Row, &[90033, 90035, 60015, 70107, 70402]),
];

#[test]
fn every_documented_code_has_its_class_and_no_other_is_in_the_table() {
    for (class, codes) in EXPECTED {
        for code in *codes {
            assert_eq!(Code::Vendor(*code).class(), *class, "code {code}");
            assert_eq!(Code::Vendor(*code).label(), code.to_string());
        }
    }
    assert_eq!(TABLE.len(), EXPECTED.iter().map(|(_, codes)| codes.len()).sum::<usize>());
    assert!(TABLE.is_sorted_by(|a, b| a.code < b.code), "looked up by bisection");
    assert_eq!(Code::Vendor(12345).class(), Class::Unknown);
    assert_eq!(Code::Vendor(-1).class(), Class::Unknown);
}

#[test]
fn http_statuses_have_the_class_that_helps() {
    let classes = |statuses: &[u16], class: Class| {
        for status in statuses {
            assert_eq!(Code::Http(*status).class(), class, "HTTP {status}");
        }
    };
    classes(&[408, 425, 500, 502, 503, 504, 599, 201, 204], Class::Retry);
    classes(&[429], Class::SlowDown);
    classes(&[301, 302, 307, 400, 401, 403, 404, 405, 407, 413], Class::Credentials);
    for code in [Code::Timeout, Code::Connect, Code::Malformed] {
        assert_eq!(code.class(), Class::Retry);
    }
}

#[test]
fn labels_are_few_whatever_im_answers() {
    let label = |code: Code| code.label();
    assert_eq!(label(Code::Http(404)), "http_4xx");
    assert_eq!(label(Code::Http(429)), "http_4xx");
    assert_eq!(label(Code::Http(502)), "http_5xx");
    assert_eq!(label(Code::Http(302)), "other");
    assert_eq!(label(Code::Vendor(777)), "other");
    assert_eq!(label(Code::Timeout), "timeout");
    assert_eq!(label(Code::Connect), "connect");
    assert_eq!(label(Code::Malformed), "malformed");
}

#[test]
fn only_a_refusal_as_a_whole_was_certainly_not_applied() {
    for code in
        [Code::Vendor(91000), Code::Vendor(424_242), Code::Http(502), Code::Http(408), Code::Http(429), Code::Timeout]
    {
        assert!(code.maybe_applied(), "{code}");
    }
    for code in [Code::Vendor(90033), Code::Vendor(60007), Code::Vendor(70001), Code::Http(404)] {
        assert!(!code.maybe_applied(), "{code}");
    }
}

#[test]
fn codes_of_the_account_are_the_three_documented() {
    let of_account: Vec<i64> =
        TABLE.iter().map(|entry| entry.code).filter(|code| Code::Vendor(*code).of_account()).collect();
    assert_eq!(of_account, [60015, 70107, 90035]);
}

/// The documentation's table, made from the code's: a changed advice without its changed line fails here.
#[test]
fn the_documentation_shows_every_code_with_its_class_action_and_advice() {
    let documentation = include_str!("../../../docs/im-error-codes.md");
    let mut codes: Vec<(String, Code)> =
        TABLE.iter().map(|entry| (entry.code.to_string(), Code::Vendor(entry.code))).collect();
    for (name, code) in [
        ("timeout", Code::Timeout),
        ("connect", Code::Connect),
        ("malformed", Code::Malformed),
        ("HTTP 300 to 399", Code::Http(302)),
        ("HTTP 401, 403, 407", Code::Http(401)),
        ("HTTP 408, 425", Code::Http(408)),
        ("HTTP 413", Code::Http(413)),
        ("HTTP 429", Code::Http(429)),
        ("HTTP 400 to 499, the others", Code::Http(404)),
        ("HTTP 500 to 599", Code::Http(502)),
        ("HTTP, any other than 200", Code::Http(204)),
        ("any other code", Code::Vendor(1)),
    ] {
        codes.push((name.to_owned(), code));
    }
    let missing: Vec<String> = codes
        .iter()
        .map(|(name, code)| format!("| {name} | {} | {} |", code.class().label(), code.advice()))
        .chain(
            [
                Class::Done,
                Class::Retry,
                Class::SlowDown,
                Class::Credentials,
                Class::Request,
                Class::Row,
                Class::Unknown,
            ]
            .map(|class| format!("| {} | {} |", class.label(), class.action())),
        )
        .filter(|line| !documentation.lines().any(|shown| shown == line))
        .collect();
    assert!(missing.is_empty(), "docs/im-error-codes.md lacks these lines:\n{}", missing.join("\n"));
}
