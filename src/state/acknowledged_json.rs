//! The JSON of the column `account.acknowledged`: an array in the order of the sync's attribute names.
//!
//! Owns: encoding and decoding. Must not know: statements.
//!
//! | JSON | [`AcknowledgedValue`] |
//! |---|---|
//! | a string | `Value` |
//! | `null` | `Absent` |
//! | `0` | `Unknown` |
//! | `[string]`, `[null]` | `Provisional` |

use serde_json::Value;

use crate::model::AcknowledgedValue;

/// The stored text, without absent values at the end. `None` when no value is present: such an account needs no row.
pub fn encode(acknowledged: &[AcknowledgedValue]) -> Option<String> {
    let length = acknowledged.iter().rposition(|known| *known != AcknowledgedValue::Absent)? + 1;
    let mut json = Vec::with_capacity(16 * length);
    for (index, known) in acknowledged[..length].iter().enumerate() {
        json.push(if index == 0 { b'[' } else { b',' });
        match known {
            AcknowledgedValue::Absent => json.extend(b"null"),
            AcknowledgedValue::Value(value) => push_string(&mut json, value),
            AcknowledgedValue::Unknown => json.push(b'0'),
            AcknowledgedValue::Provisional(None) => json.extend(b"[null]"),
            AcknowledgedValue::Provisional(Some(value)) => {
                json.push(b'[');
                push_string(&mut json, value);
                json.push(b']');
            }
        }
    }
    json.push(b']');
    Some(String::from_utf8(json).expect("JSON of texts is UTF-8"))
}

fn push_string(json: &mut Vec<u8>, value: &str) {
    serde_json::to_writer(json, value).expect("a text can be written as JSON");
}

/// The values of a stored text. Anything unexpected counts as unknown: an unnecessary unknown costs one call, a wrong
/// acknowledged value would lose an update.
pub fn decode(text: &str) -> Vec<AcknowledgedValue> {
    match serde_json::from_str(text) {
        Ok(Value::Array(array)) => array.into_iter().map(decode_value).collect(),
        _ => vec![AcknowledgedValue::Unknown],
    }
}

fn decode_value(value: Value) -> AcknowledgedValue {
    match value {
        Value::Null => AcknowledgedValue::Absent,
        Value::String(value) => AcknowledgedValue::Value(value.into()),
        Value::Array(provisional) => match <[Value; 1]>::try_from(provisional) {
            Ok([Value::String(value)]) => AcknowledgedValue::Provisional(Some(value.into())),
            Ok([Value::Null]) => AcknowledgedValue::Provisional(None),
            _ => AcknowledgedValue::Unknown,
        },
        _ => AcknowledgedValue::Unknown,
    }
}

/// Makes provisional values unknown. To be used when no late write is possible any more: the value is then sent once
/// more.
pub fn mark_provisional_unknown(acknowledged: &mut [AcknowledgedValue]) {
    for known in acknowledged {
        if matches!(known, AcknowledgedValue::Provisional(_)) {
            *known = AcknowledgedValue::Unknown;
        }
    }
}

/// Makes every value that is not absent unknown: how a row of an older generation is read.
pub fn mark_all_unknown(acknowledged: &mut [AcknowledgedValue]) {
    for known in acknowledged {
        if *known != AcknowledgedValue::Absent {
            *known = AcknowledgedValue::Unknown;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_encoding_and_decoding() {
        let mut acknowledged = vec![
            AcknowledgedValue::Value("Zoë \"x\" \\ 你".into()),
            AcknowledgedValue::Absent,
            AcknowledgedValue::Unknown,
            AcknowledgedValue::Value("0".into()),
        ];
        acknowledged.extend([AcknowledgedValue::Provisional(Some("a".into())), AcknowledgedValue::Provisional(None)]);
        let text = encode(&acknowledged).expect("a value is present");
        assert_eq!(text, r#"["Zoë \"x\" \\ 你",null,0,"0",["a"],[null]]"#);
        assert_eq!(decode(&text), acknowledged);
    }

    #[test]
    fn an_account_without_values_needs_no_row() {
        assert_eq!(encode(&[]), None);
        assert_eq!(encode(&[AcknowledgedValue::Absent, AcknowledgedValue::Absent]), None);
        assert_eq!(
            encode(&[AcknowledgedValue::Absent, AcknowledgedValue::Unknown, AcknowledgedValue::Absent]).as_deref(),
            Some("[null,0]")
        );
    }
}
