//! The limits of the vendor, and those that imsync sets itself.
//!
//! Owns: the numbers and their sources. Must not know: who applies them.

/// The maximum length of an account (UserID) in bytes of UTF-8. Source: the vendor's limits, `To_Account`.
pub const MAX_ACCOUNT_BYTES: usize = 32;
/// The maximum length of an attribute's value in bytes of UTF-8. Source: the vendor's limits.
pub const MAX_VALUE_BYTES: usize = 50;
/// The number of characters of a column's text that the mapping uses: values have at most 50 bytes, and no text in
/// `values` has more bytes than this. The source reads one character more, so that a longer text is recognized.
pub const MAX_COLUMN_TEXT_CHARS: usize = 1000;
/// The maximum length in bytes of UTF-8 of an account that is stored as refused. An index entry of the state tables has
/// at most 2,700 bytes.
pub const MAX_STORED_ACCOUNT_BYTES: usize = 1000;
/// The maximum length of an attribute's name in bytes of UTF-8. Source: the vendor's limits.
pub const MAX_ATTRIBUTE_NAME_BYTES: usize = 50;
/// The maximum number of attribute names of an app. The vendor numbers them "0" to "9".
pub const MAX_ATTRIBUTES: usize = 10;
/// The maximum number of users in one set, get or remove call.
pub const MAX_USERS_PER_CALL: usize = 100;
