//! Between serde's JSON and jaq's, which has bytes, big numbers and odd keys besides.

use horarium_task::serde_json::{Map, Number, Value, from_str};
use jaq_json::{Num, Val};

pub(crate) fn from_json(value: Value) -> Val {
    match value {
        Value::Null => Val::Null,
        Value::Bool(value) => Val::Bool(value),
        Value::Number(number) => Val::Num(match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => Num::from_integral(integer),
            (None, Some(integer)) => Num::from_integral(integer),
            (None, None) => Num::Float(number.as_f64().unwrap_or(f64::NAN)),
        }),
        Value::String(text) => Val::utf8_str(text.into_bytes()),
        Value::Array(items) => items.into_iter().map(from_json).collect(),
        Value::Object(members) => Val::obj(
            members
                .into_iter()
                .map(|(key, value)| (Val::utf8_str(key.into_bytes()), from_json(value)))
                .collect(),
        ),
    }
}

/// As jq prints it: what is not a number becomes null, too large a one the largest.
pub(crate) fn to_json(value: &Val) -> Result<Value, String> {
    Ok(match value {
        Val::Null => Value::Null,
        Val::Bool(value) => Value::Bool(*value),
        Val::Num(Num::Float(value)) => float(*value),
        Val::Num(_) => integer_or_decimal(&value.to_string()),
        Val::BStr(bytes) | Val::TStr(bytes) => {
            Value::String(String::from_utf8_lossy(bytes).into_owned())
        }
        Val::Arr(items) => Value::Array(items.iter().map(to_json).collect::<Result<_, _>>()?),
        Val::Obj(members) => {
            let mut object = Map::new();
            for (key, value) in members.iter() {
                let Val::TStr(name) = key else {
                    return Err(format!("an object key must be a string, not {key}"));
                };
                object.insert(String::from_utf8_lossy(name).into_owned(), to_json(value)?);
            }
            Value::Object(object)
        }
    })
}

/// Reads a number as written; beyond 64 bits it is rounded.
fn integer_or_decimal(text: &str) -> Value {
    match from_str::<Number>(text) {
        Ok(number) => Value::Number(number),
        Err(_) => float(text.parse().unwrap_or(f64::NAN)),
    }
}

fn float(value: f64) -> Value {
    // Only NaN is left without a number.
    Number::from_f64(value.clamp(f64::MIN, f64::MAX)).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use horarium_task::serde_json::json;

    #[test]
    fn json_comes_back_as_it_was() {
        let value = json!({"a": [1, -2, 0.5, u64::MAX, i64::MIN, "ü\n", null, true, {}], "": []});
        assert_eq!(to_json(&from_json(value.clone())).unwrap(), value);
    }

    #[test]
    fn numbers_beyond_json_are_tamed() {
        assert_eq!(float(f64::NAN), Value::Null);
        assert_eq!(float(f64::INFINITY), json!(f64::MAX));
        assert_eq!(integer_or_decimal("100000000000000000000"), json!(1e20));
    }
}
