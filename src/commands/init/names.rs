//! What the name of a table or a column suggests.
//!
//! Owns: how a name is compared with `name_lists`, and the scores. Must not know: types, statistics, how a proposal is made.

use super::name_lists::{
    ACCOUNT_COLUMNS, DELETED_COLUMNS, HARMLESS, SEGMENT_WORDS, SENSITIVE, USER_TABLES, WATERMARK_COLUMNS,
};

/// The words of a name in lower case: `userEmail_2` is `user` and `email`.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let chars: Vec<char> = name.chars().collect();
    for (index, c) in chars.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| chars[before]);
        let starts_word = c.is_uppercase()
            && (before.is_some_and(char::is_lowercase) || chars.get(index + 1).is_some_and(|next| next.is_lowercase()));
        if starts_word || !c.is_alphabetic() {
            words.push(String::new());
        }
        if c.is_alphabetic() {
            // `words` is never empty.
            if let Some(word) = words.last_mut() {
                word.extend(c.to_lowercase());
            }
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The name in lower case, without separators.
fn joined(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// What must not be sent by accident and the name suggests, as in "a password".
pub(super) fn sensitive(name: &str) -> Option<&'static str> {
    let mut words = words(name);
    let pairs: Vec<String> = words.windows(2).map(<[String]>::concat).collect();
    let joined = HARMLESS.iter().fold(joined(name), |name, harmless| name.replace(harmless, " "));
    words.extend(pairs);
    let is_named = |parts: &[&str], whole: &[&str]| {
        parts.iter().any(|part| joined.contains(part)) || words.iter().any(|word| whole.contains(&word.as_str()))
    };
    SENSITIVE.iter().find(|(_, parts, whole)| is_named(parts, whole)).map(|(what, ..)| *what)
}

/// How likely a table holds the users: 0 to 100.
pub(super) fn table_score(name: &str) -> u32 {
    let is_plural = |word: &str, singular: &str| {
        word.strip_prefix(singular).is_some_and(|rest| matches!(rest, "" | "s" | "es" | "表"))
    };
    let (words, joined) = (words(name), joined(name));
    let of = |word: &str| USER_TABLES.iter().position(|singular| is_plural(word, singular));
    let position = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
    match of(&joined) {
        Some(place) => 100 - position(place),
        // `app_users` rather than `user_sessions`.
        None if words.last().is_some_and(|word| of(word).is_some()) => 70,
        None if words.iter().any(|word| of(word).is_some()) => 20,
        None => 0,
    }
}

/// How likely a column is the account, by its name: 0 to 60.
pub(super) fn account_score(table: &str, column: &str) -> u32 {
    let name = joined(column);
    match name.as_str() {
        // Of a table whose rows are not users, `id` numbers something else.
        "id" if table_score(table) < 70 => 25,
        "id" => 28,
        "uuid" | "guid" | "useruuid" | "userguid" => 25,
        name => match ACCOUNT_COLUMNS.iter().position(|known| *known == name) {
            Some(0..=9) => 60,
            Some(_) => 30,
            None if name.strip_suffix("id").is_some_and(|owner| joined(table).trim_end_matches('s') == owner) => 30,
            None => 0,
        },
    }
}

/// How likely a column moves with every change, by its name: 0 to 100.
pub(super) fn watermark_score(column: &str) -> u32 {
    score_of(WATERMARK_COLUMNS, column)
}

/// How likely a column marks deleted rows, by its name: 0 to 100.
pub(super) fn deleted_score(column: &str) -> u32 {
    score_of(DELETED_COLUMNS, column)
}

fn score_of(known: &[&str], column: &str) -> u32 {
    let name = joined(column);
    let place = known.iter().position(|known| *known == name);
    place.map_or(0, |place| 100 - u32::try_from(place).unwrap_or_default())
}

/// Campaigns select their recipients by such columns.
pub(super) fn is_segment(column: &str) -> bool {
    words(column).iter().any(|word| SEGMENT_WORDS.contains(&word.as_str()))
}

/// The column identifies something else, such as `team_id`.
pub(super) fn is_reference(column: &str) -> bool {
    words(column).last().is_some_and(|word| matches!(word.as_str(), "id" | "ids" | "uuid" | "guid" | "uid"))
}

#[cfg(test)]
mod tests {
    use super::{account_score, deleted_score, is_reference, sensitive, table_score, watermark_score, words};

    #[test]
    fn names_are_split_into_words() {
        assert_eq!(words("userEmail_2"), ["user", "email"]);
        assert_eq!(words("HTTPUrl"), ["http", "url"]);
        assert_eq!(words("last-login at"), ["last", "login", "at"]);
        assert!(words("__1").is_empty());
    }

    #[test]
    fn names_of_secrets_and_contacts_are_recognized() {
        for (name, what) in [
            ("password", "password"),
            ("PasswordHash", "password"),
            ("pwd", "password"),
            ("encrypted_pin", "password"),
            ("pw", "password"),
            ("psw", "password"),
            ("userpass", "password"),
            ("user_pw2", "password"),
            ("passwort", "password"),
            ("Kennwort", "password"),
            ("senhaHash", "password"),
            ("api_key", "key"),
            ("apiKey2", "key"),
            ("refreshtoken", "token"),
            ("session_hash", "hash"),
            ("email", "e-mail"),
            ("work_mail", "e-mail"),
            ("EmailAddress", "e-mail"),
            ("phone_number", "phone"),
            ("telephone", "phone"),
            ("mobile", "phone"),
            ("mobilenumber", "phone"),
            ("contact_no", "phone"),
            ("contactNo", "phone"),
            ("contactno", "phone"),
            ("telno", "phone"),
            ("tel_nr", "phone"),
            ("telefonnummer", "phone"),
            ("手机号", "phone"),
            ("address_line_1", "address"),
            ("last_ip", "address"),
            ("birthday", "birth"),
            ("date_of_birth", "birth"),
            ("id_number", "identity"),
            ("ssn", "identity"),
            ("passport_no", "identity"),
            ("身份证号", "identity"),
        ] {
            assert!(sensitive(name).is_some_and(|found| found.contains(what)), "{name}: {:?}", sensitive(name));
        }
        for name in [
            "city",
            "plan",
            "tier",
            "language",
            "keyboard",
            "mailing",
            "compass",
            "bypass",
            "zipper",
            "shipping",
            "level",
            "telegram_plan",
            "hotel_no",
            "contact_note",
            "contact_preference",
            "automobile_brand",
            "headphones",
        ] {
            assert_eq!(sensitive(name), None, "{name}");
        }
    }

    #[test]
    fn the_likeliest_names_have_the_highest_scores() {
        assert!(table_score("users") > table_score("members"));
        assert!(table_score("members") > table_score("app_users"));
        assert!(table_score("app_users") > table_score("user_sessions"));
        assert_eq!(table_score("orders"), 0);
        assert!(account_score("users", "im_user_id") > account_score("users", "id"));
        assert!(account_score("profiles", "user_id") > account_score("orders", "id"));
        assert!(account_score("gamers", "gamer_id") > account_score("gamers", "slug"));
        assert!(watermark_score("updated_at") > watermark_score("lastModified"));
        assert_eq!(watermark_score("created_at"), 0);
        assert!(deleted_score("deleted_at") > deleted_score("is_deleted"));
        assert!(is_reference("team_id") && is_reference("teamId") && !is_reference("idle"));
    }
}
