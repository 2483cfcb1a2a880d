//! The vendor's error codes that the simulator uses, and their texts.
//!
//! Owns: the numbers and the texts. Must not know: when a code is returned.
//!
//! The numbers are documented on the vendor's page "Error Codes". The texts are not the vendor's: a caller must not
//! depend on them.

pub(super) const OK: i64 = 0;
/// Malformed HTTP request.
pub(super) const BAD_HTTP: i64 = 60002;
/// The account in the URL is missing.
pub(super) const IDENTIFIER_MISSING: i64 = 60004;
/// The signature in the URL is missing.
pub(super) const USERSIG_MISSING: i64 = 60005;
pub(super) const SDKAPPID_NOT_VALID: i64 = 60006;
/// The endpoint was called more often than its rate limit allows.
pub(super) const TOO_OFTEN: i64 = 60007;
pub(super) const WRONG_URL: i64 = 60009;
pub(super) const SDKAPPID_MISSING: i64 = 60012;
pub(super) const ACCOUNT_NOT_A_STRING: i64 = 60015;
pub(super) const USERSIG_EXPIRED: i64 = 70001;
pub(super) const USERSIG_WRONG: i64 = 70003;
pub(super) const USERSIG_UNREADABLE: i64 = 70005;
pub(super) const USERSIG_INCOMPLETE: i64 = 70009;
pub(super) const IDENTIFIER_DIFFERS: i64 = 70013;
pub(super) const SDKAPPID_DIFFERS: i64 = 70014;
pub(super) const NO_SUCH_APP: i64 = 70020;
pub(super) const NOT_IMPORTED: i64 = 70107;
pub(super) const BAD_PARAMETER: i64 = 70402;
/// The body is not JSON, or does not have the fields and types of this command.
pub(super) const BAD_BODY: i64 = 90001;
pub(super) const NOT_ADMIN: i64 = 90009;
pub(super) const TOO_MANY_ACCOUNTS: i64 = 90018;
/// The attribute's name is not set in the app, or its value is not valid.
pub(super) const BAD_ATTRIBUTE: i64 = 90033;
/// The attribute belongs to the other account type.
pub(super) const OTHER_ACCOUNT_TYPE: i64 = 90035;

/// The text for `ErrorInfo`; empty for success.
pub(super) fn error_info(code: i64) -> &'static str {
    match code {
        OK => "",
        BAD_HTTP => "the HTTP request is malformed",
        IDENTIFIER_MISSING => "identifier is missing",
        USERSIG_MISSING => "usersig is missing",
        SDKAPPID_NOT_VALID => "sdkappid is not valid",
        TOO_OFTEN => "the command is called too often",
        WRONG_URL => "the URL is wrong",
        NOT_ADMIN => "identifier is not an admin of the app",
        SDKAPPID_MISSING => "sdkappid is missing",
        ACCOUNT_NOT_A_STRING => "an account is not a string",
        USERSIG_EXPIRED => "usersig has expired",
        USERSIG_WRONG => "usersig is not valid",
        USERSIG_UNREADABLE => "usersig cannot be read",
        USERSIG_INCOMPLETE => "usersig lacks a field",
        IDENTIFIER_DIFFERS => "usersig was issued for another identifier",
        SDKAPPID_DIFFERS => "usersig was issued for another sdkappid",
        NO_SUCH_APP => "there is no app with this sdkappid",
        NOT_IMPORTED => "the account does not exist",
        BAD_PARAMETER => "a parameter is not valid",
        BAD_BODY => "the body is not valid for this command",
        TOO_MANY_ACCOUNTS => "too many accounts in one call",
        BAD_ATTRIBUTE => "an attribute is not valid",
        OTHER_ACCOUNT_TYPE => "the attribute belongs to the other account type",
        _ => "simulated error",
    }
}
