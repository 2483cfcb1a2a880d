//! The stored form of what IM acknowledged: a JSON array by attribute (a text, null for none, 0 for unknown,
//! [text] or [null] for provisional).
//!
//! Owns: encoding and decoding. Must not know: statements.

use serde_json::Value;

use crate::model::AcknowledgedValue;

/// The stored text; trailing absences are left out. `None` when nothing is held: such an account needs no row.
pub fn encode(acknowledged: &[AcknowledgedValue]) -> Option<String> {
    let length = acknowledged.iter().rposition(|known| *known != AcknowledgedValue::Absent)? + 1;
    let array: Vec<Value> = acknowledged[..length]
        .iter()
        .map(|known| match known {
            AcknowledgedValue::Absent => Value::Null,
            AcknowledgedValue::Value(value) => Value::String(value.to_string()),
            AcknowledgedValue::Unknown => Value::from(0),
            AcknowledgedValue::Provisional(value) => {
                Value::Array(vec![value.as_deref().map_or(Value::Null, Value::from)])
            }
        })
        .collect();
    Some(Value::Array(array).to_string())
}

/// From the stored text. What is neither text nor null counts as unknown: a doubt costs a call, a false claim a lost update.
pub fn decode(text: &str) -> Vec<AcknowledgedValue> {
    match serde_json::from_str(text) {
        Ok(Value::Array(array)) => array
            .into_iter()
            .map(|value| match value {
                Value::Null => AcknowledgedValue::Absent,
                Value::String(value) => AcknowledgedValue::Value(value.into()),
                Value::Array(provisional) => match <[Value; 1]>::try_from(provisional) {
                    Ok([Value::String(value)]) => AcknowledgedValue::Provisional(Some(value.into())),
                    Ok([Value::Null]) => AcknowledgedValue::Provisional(None),
                    _ => AcknowledgedValue::Unknown,
                },
                _ => AcknowledgedValue::Unknown,
            })
            .collect(),
        _ => vec![AcknowledgedValue::Unknown; 1],
    }
}

/// What was provisional becomes unknown: no late write can arrive any more, so it is time to send it once more.
pub fn doubt_provisional(acknowledged: &mut [AcknowledgedValue]) {
    for known in acknowledged {
        if matches!(known, AcknowledgedValue::Provisional(_)) {
            *known = AcknowledgedValue::Unknown;
        }
    }
}

/// Everything held becomes unknown: the form of a row whose generation is over.
pub fn distrust(acknowledged: &mut [AcknowledgedValue]) {
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
    fn survives_the_round_trip() {
        let mut acknowledged = vec![
            AcknowledgedValue::Value("Zoë \"x\" \\ 你".into()),
            AcknowledgedValue::Absent,
            AcknowledgedValue::Unknown,
            AcknowledgedValue::Value("0".into()),
        ];
        acknowledged.extend([AcknowledgedValue::Provisional(Some("a".into())), AcknowledgedValue::Provisional(None)]);
        let text = encode(&acknowledged).expect("something is held");
        assert_eq!(text, r#"["Zoë \"x\" \\ 你",null,0,"0",["a"],[null]]"#);
        assert_eq!(decode(&text), acknowledged);
    }

    #[test]
    fn nothing_held_needs_no_row() {
        assert_eq!(encode(&[]), None);
        assert_eq!(encode(&[AcknowledgedValue::Absent, AcknowledgedValue::Absent]), None);
        assert_eq!(
            encode(&[AcknowledgedValue::Absent, AcknowledgedValue::Unknown, AcknowledgedValue::Absent]).as_deref(),
            Some("[null,0]")
        );
    }
}
