//! The table of codes: all that is known of each vendor code, HTTP status and connection fault.
//!
//! Owns: class, scope, special handling, meaning and remedy of a code. Must not know: how an answer is fetched, batches,
//! retries. `docs/im-error-codes.md` shows the same table; a test keeps the two equal.

use std::ops::RangeInclusive;

/// What a sender does about a code.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CodeClass {
    /// IM accepted the call.
    Done,
    /// The sender retries the same call. The outcome is unknown.
    Retry,
    /// The sender retries the call later and lowers its rate.
    SlowDown,
    /// Nothing can be pushed until a person corrects the credentials or the app.
    Credentials,
    /// The call itself is wrong: a defect of imsync, or a limit of the vendor has changed. The sender splits the batch
    /// and rejects a single account that still fails.
    Request,
    /// The data of an account is wrong. The sender splits the batch and rejects the account that fails alone.
    Row,
    /// A code that the table does not list. It counts as [`Row`](Self::Row) while only some accounts fail with it.
    Unknown,
}

/// What a code is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CodeScope {
    /// One account, with all of its attributes.
    Account,
    /// One attribute of an account, or the account. A call with one attribute alone shows which.
    Attribute,
    /// One call, or the calls of one command.
    Request,
    /// All calls of the app.
    App,
    /// Not known.
    Unknown,
}

/// What is done about a code besides what its class says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SpecialHandling {
    /// A fresh UserSig is made and the call is repeated once, because clocks differ.
    RenewUserSig,
    /// The app's attribute names show whether a name is missing or values are not valid.
    CheckAttributeNames,
    /// The account does not exist in Chat: a removal that fails with it has nothing left to remove, and `account_check`
    /// tells which other accounts of the call do not exist.
    UnknownAccount,
    /// The outcome of the call is unknown, although its class says that the call was refused.
    OutcomeUnknown,
    /// The app may be in another data centre, so messages name the one that was called.
    DataCentre,
    /// A gateway before IM has answered. A call with harmless content shows whether it refuses the content or every call.
    GatewayAnswer,
}

/// All that is known of one code.
#[derive(Debug)]
pub(super) struct CodeFacts {
    /// The value of the metrics' label `code`.
    pub(super) label: &'static str,
    pub(super) class: CodeClass,
    pub(super) scope: CodeScope,
    pub(super) special: Option<SpecialHandling>,
    /// What the code means, in one or two sentences.
    pub(super) meaning: &'static str,
    /// What the operator should do.
    pub(super) remedy: &'static str,
}

impl CodeFacts {
    const fn new(
        label: &'static str,
        class: CodeClass,
        scope: CodeScope,
        meaning: &'static str,
        remedy: &'static str,
    ) -> Self {
        Self { label, class, scope, special: None, meaning, remedy }
    }

    const fn with(mut self, special: SpecialHandling) -> Self {
        self.special = Some(special);
        self
    }
}

/// A code of the vendor.
#[derive(Debug)]
pub(super) struct VendorCode {
    pub(super) number: i64,
    pub(super) facts: CodeFacts,
}

macro_rules! vendor_codes {
    ($($number:literal $class:ident $scope:ident $($special:ident)?: $meaning:literal $remedy:literal)*) => {
        &[$(VendorCode {
            number: $number,
            facts: CodeFacts::new(stringify!($number), CodeClass::$class, CodeScope::$scope, $meaning, $remedy)
                $(.with(SpecialHandling::$special))?,
        }),*]
    };
}

/// The codes that the vendor documents, in ascending order (the lookup is a binary search).
/// Source: the vendor's page of REST error codes; 70169, 70202 and 70500 come from older versions of it.
pub(super) const VENDOR_CODES: &[VendorCode] = vendor_codes! {
    0 Done Request: "IM accepted the call. With `timpush`, the accounts in `ErrorList` failed with their own codes." "No action is needed."
    60002 Request Request: "IM could not read the HTTP request." "Look for a proxy that rewrites requests; otherwise report it to the authors of imsync."
    60003 Request Request: "IM could not parse the JSON of the request." "Look for a proxy that rewrites requests; otherwise report it to the authors of imsync."
    60004 Credentials App: "IM rejects the admin account or the UserSig in the URL." "Check `im.identifier` and the secret key."
    60005 Credentials App: "IM rejects the admin account or the UserSig in the URL." "Check `im.identifier` and the secret key."
    60006 Credentials App: "IM does not accept this SDKAppID." "Compare `im.sdk_app_id` with the console."
    60007 SlowDown Request: "The calls of this command exceed the app's rate limit." "Lower `im.calls_per_second`; all syncs and scripts of one app share its limit of 100."
    60008 Retry Request: "IM had an internal timeout, or could not read the HTTP request." "The first is temporary. If it lasts for minutes while the connection works, look for a proxy that rewrites requests; otherwise send the RequestId from the log to the vendor's support."
    60009 Credentials App: "IM does not know this URL." "Check `im.base_url` and `im.service`."
    60010 Credentials App: "The account in `im.identifier` is not an administrator of the app." "Make it an administrator in the console, or configure another account."
    60011 SlowDown App: "All calls of the app together exceed its rate limit." "Lower `im.calls_per_second`, or find the other callers of this app."
    60012 Credentials App: "The call reached IM without an SDKAppID." "Check `im.sdk_app_id`, and that no proxy drops the query of the URL."
    60013 Retry Request: "IM had an internal error." "The fault is temporary. If it persists, send the RequestId from the log to the vendor's support."
    60014 Retry Request: "IM had an internal timeout." "The fault is temporary. If it persists, send the RequestId from the log to the vendor's support."
    60015 Row Account: "IM does not accept the account as a string." "Check the account in the table and `source.account_prefix`."
    60016 Credentials App: "The app is disabled." "Enable it in the console, or contact the vendor."
    60017 Credentials App: "The app may not make this call." "Check in the console which features its edition includes."
    60018 SlowDown Request: "The calls exceed a rate limit." "Lower `im.calls_per_second`."
    60019 SlowDown Request: "The calls exceed a rate limit." "Lower `im.calls_per_second`."
    60020 Credentials App: "The app's edition has expired." "Renew it in the console. A purchase takes effect after five minutes."
    60021 Credentials App: "The app does not accept calls from the IP address of this machine." "Add the address to the app's list in the console."
    60022 Credentials App: "IM refuses all calls of this app (the vendor documents the code as a fault of the app or its credentials)." "Check the app, its edition and its list of IP addresses in the console; the vendor's support asks for the RequestId."
    70001 Credentials App RenewUserSig: "IM reports that the UserSig has expired, also a fresh one." "Set the clock of this machine (NTP); check `im.usersig_lifetime`."
    70003 Credentials App: "The UserSig, which imsync signs with the secret key, is not valid." "Check that the secret key belongs to `im.sdk_app_id` and is complete."
    70005 Credentials App: "The UserSig, which imsync signs with the secret key, is not valid." "Check that the secret key belongs to `im.sdk_app_id` and is complete."
    70009 Credentials App DataCentre: "The UserSig, which imsync signs with the secret key, is not valid." "Check that the secret key belongs to `im.sdk_app_id` and is complete, and that `im.region` is the data centre of the app."
    70013 Credentials App: "The UserSig belongs to another account than the call." "Check `im.identifier`, and that no proxy rewrites the URL."
    70014 Credentials App: "The UserSig belongs to another app than the call." "Check `im.sdk_app_id` and the secret key."
    70016 Credentials App DataCentre: "The app has no secret key in this data centre." "Check that `im.region` is the data centre of the app; then create a key in the console and configure it for imsync."
    70020 Credentials App DataCentre: "The app does not exist in this data centre." "Check `im.sdk_app_id` and `im.region`."
    70050 Credentials App: "IM refused too many UserSigs of this app and does not check them for a while." "Correct the secret key, then wait a minute."
    70051 Credentials App: "The account in `im.identifier` is blocked." "Unblock it in the console, or configure another administrator."
    70052 Credentials App RenewUserSig: "IM reports that the UserSig has expired, also a fresh one." "Set the clock of this machine (NTP); check `im.usersig_lifetime`."
    70107 Row Account UnknownAccount: "The account does not exist in Chat." "Import it there (Chat also creates it when the user signs in for the first time)."
    70169 Retry Request: "IM had an internal timeout." "The fault is temporary. If it persists, send the RequestId from the log to the vendor's support."
    70202 Retry Request: "IM had an internal timeout." "The fault is temporary. If it persists, send the RequestId from the log to the vendor's support."
    70346 Credentials App: "IM refuses all calls of this app (the vendor documents the code as a fault of the app or its credentials)." "Check the app and its edition in the console; the vendor's support asks for the RequestId."
    70347 Credentials App: "IM refuses all calls of this app (the vendor documents the code as a fault of the app or its credentials)." "Check the app and its edition in the console; the vendor's support asks for the RequestId."
    70348 Credentials App: "IM refuses all calls of this app (the vendor documents the code as a fault of the app or its credentials)." "Check the app and its edition in the console; the vendor's support asks for the RequestId."
    70398 Credentials App: "The app is a trial app, which may have at most 100 accounts." "Upgrade its edition in the console, or delete accounts that are not needed."
    70402 Row Attribute: "IM does not accept a parameter of this account." "Check its id and values in the table for characters that IM may not accept."
    70403 Credentials App: "The account in `im.identifier` is not an administrator of the app." "Make it an administrator in the console, or configure another account."
    70500 Retry Request: "IM had an internal error." "The fault is temporary. If it persists, send the RequestId from the log to the vendor's support."
    90001 Request Request: "IM could not parse the JSON of the request." "Look for a proxy that rewrites requests; otherwise report it to the authors of imsync."
    90009 Credentials App: "The account in `im.identifier` is not an administrator of the app." "Make it an administrator in the console, or configure another account."
    90018 Request Request: "The call carries more accounts than IM accepts." "Lower `im.users_per_call`."
    90020 Unknown Request: "The code is about tags, which imsync does not send." "Check `im.base_url`: another service may have answered. The vendor's support asks for the RequestId."
    90032 Unknown Request: "The code is about tags, which imsync does not send." "Check `im.base_url`: another service may have answered. The vendor's support asks for the RequestId."
    90033 Row Attribute CheckAttributeNames: "IM does not accept an attribute: the app does not define its name, or its value is not valid." "Compare the app's attribute names (`imsync attributes`) with [attributes]. When names are set, the name exists under another number, or its type differs, which cannot be changed."
    90035 Row Account: "The attribute belongs to the other account type (UserIDs or devices)." "Check `AttrTypes` of the app's attribute names. The type cannot be changed, so use another name."
    90040 Unknown Request: "The code is about tags, which imsync does not send." "Check `im.base_url`: another service may have answered. The vendor's support asks for the RequestId."
    90045 Credentials App: "The push feature is not enabled for the app." "Enable it in the console, or choose the other `im.service`."
    90056 Unknown Request: "The code is about the body of a message, which imsync does not send." "Check `im.base_url`: another service may have answered. The vendor's support asks for the RequestId."
    91000 Retry Request: "IM had an internal error." "The fault is temporary. If it persists, send the RequestId from the log to the vendor's support."
};

/// The codes 141000 to 141999. The vendor documents them as a group.
pub(super) static CODES_141XXX: CodeFacts = CodeFacts::new(
    "141xxx",
    CodeClass::Credentials,
    CodeScope::App,
    "IM refuses all calls of this app (the vendor documents the group of codes as faults of the app or its credentials).",
    "Check the app and its edition in the console; the vendor's support asks for the RequestId.",
);

/// Any code that [`VENDOR_CODES`] does not list.
pub(super) static UNKNOWN: CodeFacts = CodeFacts::new(
    "other",
    CodeClass::Unknown,
    CodeScope::Unknown,
    "imsync does not know this code.",
    "Look it up in the vendor's list of REST error codes; the vendor's support asks for the RequestId.",
);

/// No answer within the timeout.
pub(super) static TIMEOUT: CodeFacts = CodeFacts::new(
    "timeout",
    CodeClass::Retry,
    CodeScope::Request,
    "IM did not answer within `im.timeout`.",
    "Check the network and the vendor's status page; raise `im.timeout` if the network path is long.",
);

/// No connection, or it broke.
pub(super) static CONNECT: CodeFacts = CodeFacts::new(
    "connect",
    CodeClass::Retry,
    CodeScope::App,
    "IM cannot be reached, or the connection broke.",
    "Check DNS, the network, the firewall and this machine's clock and CA certificates (TLS); check `im.region` or `im.base_url`, and the proxy that `HTTPS_PROXY` of the environment names, if it is set.",
);

/// A complete answer with status 200 that is not IM's JSON.
pub(super) static FOREIGN_ANSWER: CodeFacts = CodeFacts::new(
    "malformed",
    CodeClass::Retry,
    CodeScope::Request,
    "A gateway between imsync and IM answered in IM's place.",
    "Check `im.base_url`; look for a captive portal, or for a rule of a gateway that the content of the call meets.",
)
.with(SpecialHandling::GatewayAnswer);

/// An accepted call whose list of failed accounts cannot be matched with the accounts of the call. Smaller calls show which
/// accounts failed.
pub(super) static UNMATCHED_ERROR_LIST: CodeFacts = CodeFacts::new(
    "malformed",
    CodeClass::Row,
    CodeScope::Request,
    "IM lists failed accounts that the call did not carry.",
    "imsync sends smaller calls to find out which accounts failed. If it persists, send the RequestId from the log to the vendor's support.",
)
.with(SpecialHandling::OutcomeUnknown);

/// An answer that is not the documented JSON.
pub(super) static MALFORMED: CodeFacts = CodeFacts::new(
    "malformed",
    CodeClass::Retry,
    CodeScope::Request,
    "The answer does not come from IM.",
    "Check `im.base_url`; look for a proxy or a captive portal in the network path.",
);

/// HTTP statuses with the same facts.
#[derive(Debug)]
pub(super) struct HttpStatuses {
    pub(super) ranges: &'static [RangeInclusive<u16>],
    pub(super) facts: CodeFacts,
}

/// All HTTP statuses but 200. The first entry that contains a status applies.
///
/// IM itself answers with 200, so another status comes from a gateway or proxy before it. A redirect, 401 and 407 are of the
/// class Credentials: every call gets the same answer, so retries would only delay the message that says what to correct.
/// The others of 400 to 499 (408, 425 and 429 aside) can depend on the content of the call, so they are of the class Row.
pub(super) static HTTP_STATUSES: &[HttpStatuses] = &[
    HttpStatuses {
        ranges: &[300..=399],
        facts: CodeFacts::new(
            "other",
            CodeClass::Credentials,
            CodeScope::App,
            "The address redirects. imsync does not follow redirects.",
            "Set `im.base_url` to the address that it redirects to.",
        ),
    },
    HttpStatuses {
        ranges: &[401..=401, 407..=407],
        facts: CodeFacts::new(
            "http_4xx",
            CodeClass::Credentials,
            CodeScope::App,
            "A proxy or firewall before IM refuses the call.",
            "Permit this machine there; check `im.base_url`.",
        ),
    },
    HttpStatuses {
        ranges: &[408..=408, 425..=425],
        facts: CodeFacts::new(
            "http_4xx",
            CodeClass::Retry,
            CodeScope::Request,
            "The server before IM stopped waiting for the request.",
            "The fault is temporary. Check the network if it persists.",
        ),
    },
    HttpStatuses {
        ranges: &[413..=413],
        facts: CodeFacts::new(
            "http_4xx",
            CodeClass::Row,
            CodeScope::Attribute,
            "A gateway between imsync and IM refused a request of this size.",
            "Raise its limit (200 KiB is enough), or lower `im.users_per_call`.",
        )
        .with(SpecialHandling::GatewayAnswer),
    },
    HttpStatuses {
        ranges: &[429..=429],
        facts: CodeFacts::new(
            "http_4xx",
            CodeClass::SlowDown,
            CodeScope::Request,
            "The calls exceed a rate limit.",
            "Lower `im.calls_per_second`; all syncs and scripts of one app share its limit of 100.",
        )
        .with(SpecialHandling::OutcomeUnknown),
    },
    HttpStatuses {
        ranges: &[400..=499],
        facts: CodeFacts::new(
            "http_4xx",
            CodeClass::Row,
            CodeScope::Attribute,
            "A gateway between imsync and IM refused the content of the call.",
            "Look in the gateway's log for the rule that the account or the value meets.",
        )
        .with(SpecialHandling::GatewayAnswer),
    },
    HttpStatuses {
        ranges: &[500..=599],
        facts: CodeFacts::new(
            "http_5xx",
            CodeClass::Retry,
            CodeScope::Request,
            "IM, or a gateway before it, has a fault.",
            "The fault is temporary. If it persists, check the vendor's status page, and the proxy if there is one.",
        ),
    },
    HttpStatuses {
        ranges: &[0..=u16::MAX],
        facts: CodeFacts::new(
            "other",
            CodeClass::Retry,
            CodeScope::Request,
            "The answer does not come from IM, which answers with 200.",
            "Check `im.base_url`.",
        ),
    },
];

/// The facts of a vendor code.
pub(super) fn vendor(number: i64) -> &'static CodeFacts {
    VENDOR_CODES.binary_search_by_key(&number, |entry| entry.number).map_or_else(
        |_| if (141_000..142_000).contains(&number) { &CODES_141XXX } else { &UNKNOWN },
        |index| &VENDOR_CODES[index].facts,
    )
}

/// The facts of an HTTP status.
pub(super) fn http(status: u16) -> &'static CodeFacts {
    HTTP_STATUSES
        .iter()
        .find(|group| group.ranges.iter().any(|range| range.contains(&status)))
        .map_or(&MALFORMED, |group| &group.facts)
}
