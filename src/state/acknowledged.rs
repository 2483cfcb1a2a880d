//! The stored form of what IM acknowledged: a JSON array by slot (a text, null for none, 0 for unknown,
//! [text] or [null] for provisional).
//!
//! Owns: encoding and decoding. Must not know: statements.

use serde_json::Value;

use crate::model::Known;

/// The stored text; trailing absences are left out. `None` when nothing is held: such an account needs no row.
pub fn encode(acknowledged: &[Known]) -> Option<String> {
    let length = acknowledged.iter().rposition(|known| *known != Known::Absent)? + 1;
    let array: Vec<Value> = acknowledged[..length]
        .iter()
        .map(|known| match known {
            Known::Absent => Value::Null,
            Known::Value(value) => Value::String(value.to_string()),
            Known::Unknown => Value::from(0),
            Known::Provisional(value) => Value::Array(vec![value.as_deref().map_or(Value::Null, Value::from)]),
        })
        .collect();
    Some(Value::Array(array).to_string())
}

/// From the stored text. What is neither text nor null counts as unknown: a doubt costs a call, a false claim a lost update.
pub fn decode(text: &str) -> Vec<Known> {
    match serde_json::from_str(text) {
        Ok(Value::Array(array)) => array
            .into_iter()
            .map(|value| match value {
                Value::Null => Known::Absent,
                Value::String(value) => Known::Value(value.into()),
                Value::Array(provisional) => match <[Value; 1]>::try_from(provisional) {
                    Ok([Value::String(value)]) => Known::Provisional(Some(value.into())),
                    Ok([Value::Null]) => Known::Provisional(None),
                    _ => Known::Unknown,
                },
                _ => Known::Unknown,
            })
            .collect(),
        _ => vec![Known::Unknown; 1],
    }
}

/// What was provisional becomes unknown: no ghost can land any more, so it is time to send it once more.
pub fn doubt_provisional(acknowledged: &mut [Known]) {
    for known in acknowledged {
        if matches!(known, Known::Provisional(_)) {
            *known = Known::Unknown;
        }
    }
}

/// Everything held becomes unknown: the form of a row whose generation is over.
pub fn distrust(acknowledged: &mut [Known]) {
    for known in acknowledged {
        if *known != Known::Absent {
            *known = Known::Unknown;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_the_round_trip() {
        let mut acknowledged =
            vec![Known::Value("Zoë \"x\" \\ 你".into()), Known::Absent, Known::Unknown, Known::Value("0".into())];
        acknowledged.extend([Known::Provisional(Some("a".into())), Known::Provisional(None)]);
        let text = encode(&acknowledged).expect("something is held");
        assert_eq!(text, r#"["Zoë \"x\" \\ 你",null,0,"0",["a"],[null]]"#);
        assert_eq!(decode(&text), acknowledged);
    }

    #[test]
    fn nothing_held_needs_no_row() {
        assert_eq!(encode(&[]), None);
        assert_eq!(encode(&[Known::Absent, Known::Absent]), None);
        assert_eq!(encode(&[Known::Absent, Known::Unknown, Known::Absent]).as_deref(), Some("[null,0]"));
    }
}
